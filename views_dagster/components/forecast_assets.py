"""What models and ensembles share once there are draws: the guard before storing, checks, and what the UI shows."""

from collections.abc import Iterable
from typing import Any

import dagster as dg
import polars as pl

from views_dagster import calendar
from views_dagster.calendar import STEPS
from views_dagster.components.checks import suite_checks
from views_dagster.components.metadata import frame_head, picture
from views_dagster.drift.outputs import OUTPUT_DRIFT_CHECKS, VALIDITY_CHECKS, check_output_drift, check_validity, refuse
from views_dagster.drift.results import CheckResult
from views_dagster.drift.settings import OutputDriftSettings, OutputValiditySettings
from views_dagster.forecasts import Forecast
from views_dagster.reports.figures import fan_chart
from views_dagster.storage.tables import TableStore

FORECAST_KEYS = ("month_id", "model", "target", "unit_id", "step")
