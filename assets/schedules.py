"""The jobs, what starts the month by itself, and who hears how it went."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

from resources.notifications import Notifier
from views_dagster import calendar
from views_dagster.components.catalogue import MONTHS
from views_dagster.components.diagnosis import diagnosis_entries
from views_dagster.components.diagnosis_model import DiagnosisModel
from views_dagster.components.forecasting import MODELS, forecast_entries
from views_dagster.components.source import readers_in_force
from views_dagster.errors import PlatformError

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

TRAINED = ("trained_artifacts", "forecasts", "ensembles", "evaluation")
DAY_OF_MONTH = 25
"""UCDP's Candidate release for a month is out within about three weeks after it ends."""


@dg.definitions
def automation(context: dg.ComponentLoadContext) -> dg.Definitions:
    """Jobs, the monthly schedule, and the sensors."""
    month = dg.define_asset_job(
        "month",
        selection=dg.AssetSelection.assets("forecasts").upstream() | dg.AssetSelection.groups(*TRAINED),
        partitions_def=MONTHS,
        description="The month from raw data to release, the candidates, which the release leaves out, and scores.",
    )
    history = dg.define_asset_job(
        "history",
        selection=dg.AssetSelection.groups("raw_data", "processed_features"),
        partitions_def=MONTHS,
        description="Raw data and features of any range of months: a backfill of it is one run.",
    )
    systems = sorted(path.parent for path in context.path.parent.glob("*/sources"))
    offers = {name: reader for system in systems for name, reader in readers_in_force(context, system).items()}

    @dg.sensor(
        name="new_release",
        job=month,
        minimum_interval_seconds=6 * 3600,
        description="Asks each source that can be asked for its newest month, and runs a month once when all have it.",
    )
    def new_release(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            newest = {name: latest for name, reader in offers.items() if (latest := reader.latest_month()) is not None}
        except PlatformError as error:
            return dg.SkipReason(f"a source could not be asked, and is asked again next time: {error}")
        if not newest:
            return dg.SkipReason("no source tells what its newest month is")
        month_id = min(newest.values())
        if context.cursor is not None:
            if month_id <= calendar.from_key(context.cursor):
                return dg.SkipReason(f"{context.cursor} is still the newest month that every source has")
            # One month a tick, so that none between is left out and each finds the one before it.
            month_id = calendar.from_key(context.cursor) + 1
        key = calendar.to_key(month_id)
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"month {key}", partition_key=key)], cursor=key)

    monthly = dg.build_schedule_from_partitioned_job(
        month,
        name="monthly",
        day_of_month=DAY_OF_MONTH,
        description=f"Materialises the month before on day {DAY_OF_MONTH}, when its data should be out.",
    )
    return dg.Definitions(
        jobs=[month, history, *jobs_by_hand(context)],
        schedules=[monthly],
        sensors=[new_release, *notification_sensors()],
    )


def jobs_by_hand(context: dg.ComponentLoadContext) -> "Iterator[UnresolvedAssetJobDefinition]":
    """One job for the explanations of a month, where there are any, and one for each sweep: people start them."""
    conflict, precipitation = (context.path.parent / system for system in ("conflict", "precipitation"))
    diagnosed = {
        name: entry
        for name, entry in diagnosis_entries(context, precipitation, MODELS).items()
        if entry.is_present(context, precipitation)
    }
    forecasting = {
        name: entry
        for name, entry in forecast_entries(context, conflict, MODELS).items()
        if entry.is_present(context, conflict)
    }
    if any(
        isinstance(entry, DiagnosisModel) and entry.attributes.learner.looks_at_columns for entry in diagnosed.values()
    ):
        yield dg.define_asset_job(
            "explanations",
            selection=dg.AssetSelection.groups("explanations"),
            partitions_def=MONTHS,
            description="What each model of a month looks at: importance, filters, attributions. The job `month` "
            "comes first: it trains them.",
        )
    for name, entry in sorted({**forecasting, **diagnosed}.items()):
        if getattr(entry.attributes, "sweep", None) is not None:
            yield dg.define_asset_job(
                f"sweep_{name}",
                selection=dg.AssetSelection.assets(dg.AssetKey(["sweeps", name])),
                partitions_def=MONTHS,
                description=f"The search for better hyperparameters of {name} on data up to a month, before those on "
                "which models are compared. Its trials take hours; started again, it goes on where it stopped.",
            )


def failed_checks(context: dg.RunStatusSensorContext) -> list[str]:
    """Checks of the run that did not pass, as lines of text."""
    events = context.instance.all_logs(context.dagster_run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    found = [event.dagster_event.asset_check_evaluation_data for event in events if event.dagster_event is not None]
    return [
        f"{check.severity.value} {check.asset_key.to_user_string()}: {check.check_name}: {check.description or ''}"
        for check in found
        if not check.passed
    ]


def notification_sensors() -> Iterator[dg.SensorDefinition]:
    """One message for a run that failed, and one for a run that succeeded with checks that did not pass."""

    @dg.run_failure_sensor(
        name="tell_of_failures",
        default_status=dg.DefaultSensorStatus.RUNNING,
        monitor_all_code_locations=False,
        description="Sends what failed in a run to the notifier.",
    )
    def tell_of_failures(context: dg.RunFailureSensorContext, notifier: Notifier) -> None:
        steps = [
            f"{event.step_key}: {_last_cause(event.step_failure_data.error)}"
            for event in context.get_step_failure_events()
        ]
        notifier.notify(
            "failure", _title(context, "failed"), [*steps, *failed_checks(context)], run_id=context.dagster_run.run_id
        )

    @dg.run_status_sensor(
        name="tell_of_warnings",
        run_status=dg.DagsterRunStatus.SUCCESS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        monitor_all_code_locations=False,
        description="Sends the checks that did not pass in a run that succeeded to the notifier.",
    )
    def tell_of_warnings(context: dg.RunStatusSensorContext, notifier: Notifier) -> dg.SkipReason | None:
        checks = failed_checks(context)
        if not checks:
            return dg.SkipReason("every check passed")
        notifier.notify("warning", _title(context, "has checks to look at"), checks, run_id=context.dagster_run.run_id)
        return None

    yield tell_of_failures
    yield tell_of_warnings


def _last_cause(error: SerializableErrorInfo | None) -> str:
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error is not None else "no error was recorded"


def _title(context: dg.RunStatusSensorContext, what: str) -> str:
    run = context.dagster_run
    return f"{run.tags.get('dagster/partition', run.job_name)} {what} (run {run.run_id[:8]})"
