"""Where tables live: Delta Lake tables partitioned by month, their content digests and their vintages."""
