"""The chart's dagster.yaml and workspace are what Dagster takes."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._config import process_config
from dagster._core.instance import InstanceRef
from dagster._core.instance.config import dagster_instance_config
from dagster._core.storage.compute_log_manager import ComputeLogManager
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dagster._serdes import ConfigurableClassData
from dagster_k8s import K8sRunLauncher

from views_dagster_tests.deployment.api_server import ApiServer
from views_dagster_tests.deployment.launching import open_instance
from views_dagster_tests.deployment.rendering import NAME, NAMESPACE, VALUE_SETS, dagster_yaml, of_kind, rendered

every_value_set = pytest.mark.parametrize("values", VALUE_SETS)


def config_of(values: str) -> dict[str, Any]:
    return dagster_yaml(rendered(values))


@every_value_set
def test_dagster_loads_it(tmp_path: Path, values: str) -> None:
    (tmp_path / "dagster.yaml").write_text(of_kind(rendered(values), "ConfigMap")["instance"]["data"]["dagster.yaml"])
    config, _ = dagster_instance_config(str(tmp_path))
    reference = InstanceRef.from_dir(str(tmp_path))
    assert config["run_monitoring"]["enabled"] is True
    assert reference.storage_data
    assert reference.storage_data.class_name == "PostgresStorage"
    assert yaml.safe_load(reference.storage_data.config_yaml) == {"postgres_url": {"env": "VIEWS_POSTGRES_URL"}}


@every_value_set
def test_the_run_launcher_takes_its_block(values: str) -> None:
    checked = process_config(K8sRunLauncher.config_type(), config_of(values)["run_launcher"]["config"])
    assert checked.success, checked.errors
    assert checked.value
    assert checked.value["job_namespace"] == NAMESPACE
    assert checked.value["service_account_name"] == f"{NAME}-run"


@pytest.mark.parametrize(("values", "retries", "pool"), [("minimal", 3, 2), ("bare", 0, 1)])
def test_limits_and_retries_reach_the_instance(tmp_path: Path, values: str, retries: int, pool: int) -> None:
    with ApiServer().running(tmp_path) as kubeconfig, open_instance(tmp_path, kubeconfig, values) as instance:
        assert isinstance(instance.run_launcher, K8sRunLauncher)
        limits = instance.get_concurrency_config()
        assert limits.run_queue_config
        assert limits.run_queue_config.max_concurrent_runs == 4
        assert limits.pool_config.default_pool_limit == pool
        assert instance.event_log_storage.supports_global_concurrency_limits
        assert instance.run_monitoring_max_resume_run_attempts == 0
        assert instance.run_retries_max_retries == retries
        assert instance.run_retries_enabled
        assert instance.get_settings("run_retries")["retry_on_asset_or_op_failure"] is False


@every_value_set
def test_the_workspace_leads_to_the_code_location(tmp_path: Path, values: str) -> None:
    path = tmp_path / "workspace.yaml"
    path.write_text(of_kind(rendered(values), "ConfigMap")["workspace"]["data"]["workspace.yaml"])
    (origin,) = location_origins_from_yaml_paths([str(path)])
    service = of_kind(rendered(values), "Service")["code-location"]
    assert (origin.host, origin.port, origin.location_name) == (
        service["metadata"]["name"],
        service["spec"]["ports"][0]["port"],
        "views_dagster",
    )


@pytest.mark.parametrize(
    ("values", "manager"), [("minimal", "NoOpComputeLogManager"), ("everything", "LocalComputeLogManager")]
)
def test_output_of_steps_goes_to_the_shared_volume_where_there_is_one(values: str, manager: str) -> None:
    block = config_of(values)["compute_logs"]
    data = ConfigurableClassData(block["module"], block["class"], yaml.safe_dump(block.get("config", {})))
    made = data.rehydrate(as_type=ComputeLogManager)
    assert type(made).__name__ == manager
    assert block.get("config") == ({"base_dir": "/var/log/views"} if manager.startswith("Local") else None)
