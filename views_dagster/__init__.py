"""views_dagster: a monthly forecasting platform on Dagster."""
