"""A sweep whose workers are pods: they share a study on PostgreSQL, wait for their pool, and lose no trial to a killed pod."""

import itertools
import json
import os
import signal
from pathlib import Path

import dagster as dg
import mlflow
import pytest
from sqlalchemy import create_engine, text

from resources.pods import pod_executor
from resources.tracking import Tracking
from views_dagster.components.compute import GPU_POOL, GPU_RESOURCE, Compute
from views_dagster_tests.components.bowl_sweep import (
    FIRST,
    FOLDER,
    TRIALS,
    assert_each_trial_once_but_the_third_attempt,
    bowl_job,
    ended_in_its_third_attempt,
    furnish,
)
from views_dagster_tests.deployment import postgres
from views_dagster_tests.deployment.cluster import Cluster
from views_dagster_tests.deployment.release import install
from views_dagster_tests.deployment.rendering import IMAGE

WORKERS, GPUS = 3, 2
CHANGES = {
    dg.DagsterEventType.STEP_WORKER_STARTING: 1,
    dg.DagsterEventType.STEP_UP_FOR_RETRY: -1,
    dg.DagsterEventType.STEP_SUCCESS: -1,
}
"""In how many steps there are at work."""
WORKER_STEPS = [f"sweeps__quiet_bowl.worker_{number + 1}" for number in range(WORKERS)]


def job_in_pods() -> dg.JobDefinition:
    """A sweep by workers that each want a GPU."""
    folder = Path(os.environ[FOLDER])
    tracking = Tracking(
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", study_storage=os.environ["VIEWS_STUDIES"], one_machine=False
    )
    return bowl_job(pod_executor, workers=WORKERS, compute=Compute(gpu=1), tracking=tracking)


@pytest.mark.slow
def test_a_killed_worker_starts_again_and_no_trial_is_lost_or_repeated(
    tmp_path: Path, postgres_server: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.pods.HEALTH_SECONDS", 1)
    furnish(tmp_path)
    (tmp_path / "cluster").mkdir()
    studies = postgres.add_database(postgres_server, "pod_studies")
    monkeypatch.setenv("VIEWS_POSTGRES_URL", postgres_url)
    monkeypatch.setenv("VIEWS_STUDIES", studies)
    monkeypatch.setenv(FOLDER, str(tmp_path))
    with Cluster(tmp_path / "cluster") as cluster:
        release = install(
            tmp_path,
            cluster,
            {"runs": {"maxGpuSteps": GPUS}, "studies": {"secretName": "studies"}},
            {"dagster-database": {"url": postgres_url}, "studies": {"url": studies}},
            **{FOLDER: str(tmp_path)},
        )
        killer = ended_in_its_third_attempt(tmp_path, signal.SIGKILL)
        with dg.DagsterInstance.from_config(release.environment["DAGSTER_HOME"]) as instance:
            done = dg.execute_job(
                dg.reconstructable(job_in_pods),
                instance,
                run_config={"execution": {"config": {"job_image": IMAGE}}},
                tags={"dagster/partition": FIRST},
            )
            events = [entry.get_dagster_event() for entry in instance.all_logs(done.run_id, of_type=set(CHANGES))]
            (pool,) = instance.event_log_storage.get_pool_limits()
        killer.join()
        assert done.success
        assert_each_trial_once_but_the_third_attempt(tmp_path)

        pods = {step: len(cluster.of_step(step)) for step in WORKER_STEPS}
        assert sorted(pods.values()) == [1] * (WORKERS - 1) + [2]
        asking = {
            job["metadata"]["labels"]["dagster/op"] for job in cluster.jobs.values() if GPU_RESOURCE in json.dumps(job)
        }
        assert asking == set(WORKER_STEPS)
        at_work = itertools.accumulate(CHANGES[event.event_type] for event in events if event.step_key in WORKER_STEPS)
        assert max(at_work) == GPUS
        assert (pool.name, pool.limit) == (GPU_POOL, GPUS)
    engine = create_engine(studies)
    with engine.connect() as connection:
        deaths = connection.execute(text("SELECT value_json FROM trial_user_attributes WHERE key = 'crashes'"))
        assert deaths.scalars().all() == ["1"]
    engine.dispose()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    told = mlflow.search_runs(experiment_names=["views_dagster"], output_format="list")
    assert sorted(int(run.data.tags["trial"]) for run in told if "trial" in run.data.tags) == list(range(TRIALS))
