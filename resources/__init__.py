"""The Dagster resources: storage, tracking, notifications; one file each."""
