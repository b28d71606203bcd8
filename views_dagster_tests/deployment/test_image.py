"""What the Dockerfile installs and copies is what the project needs; no engine is at hand to build it."""

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import views_dagster.definitions
from views_dagster_tests.deployment.rendering import ROOT, of_kind, rendered

DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKED = dict(
    line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")
)
OF_CUDA = re.compile(r"^(nvidia-|cuda-|triton)")


def needed() -> set[str]:
    """Every package that the project's own dependencies bring, without its tools of development."""
    seen: set[tuple[str, str]] = set()
    wanted = [Requirement(line) for line in PROJECT["dependencies"]]
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        # Which build of torch is installed decides about these.
        if OF_CUDA.match(name):
            continue
        for extra in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            parts = [Requirement(part) for part in distribution(name).requires or []]
            wanted += [part for part in parts if not part.marker or part.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


def test_what_the_image_installs_is_pinned_and_holds_no_tool_of_development() -> None:
    installed = needed()
    assert installed <= set(LOCKED)
    assert {"dagster-k8s", "dagster-postgres", "torch"} <= installed
    assert (
        not {canonicalize_name(Requirement(tool).name) for tool in PROJECT["optional-dependencies"]["dev"]} & installed
    )


@pytest.mark.parametrize("variable", ["HOME=/tmp", "PYTHONPATH=/opt/views", "VIEWS_HOME=/var/lib/views"])
def test_the_image_writes_only_where_the_chart_lets_it(variable: str) -> None:
    assert re.search(rf"\b{re.escape(variable)}\b", DOCKERFILE)


def test_the_user_of_the_image_is_the_chart_s() -> None:
    template = of_kind(rendered("minimal"), "Deployment")["daemon"]["spec"]["template"]
    user = template["spec"]["securityContext"]["runAsUser"]
    assert f"USER {user}:{user}" in DOCKERFILE


def test_the_base_is_pinned_and_no_stage_is_root_at_the_end() -> None:
    assert re.search(r"^ARG BASE=python:3\.11\.\d+-slim-\w+$", DOCKERFILE, re.M)
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)) == {"${BASE}"}
    assert re.findall(r"^USER (\S+)", DOCKERFILE, re.M)[-1] != "root"


def test_the_image_holds_all_of_the_project_that_runs() -> None:
    copied = {path for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M) for path in line.split()[:-1]}
    let_through = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.M))
    packages = {Path(path).name for path in ("views_dagster", "assets", "resources")}
    assert copied == let_through
    assert packages | {"pyproject.toml", "requirements.lock"} <= copied
    assert Path(views_dagster.definitions.__file__).parent.name in copied


def test_the_command_is_the_chart_s() -> None:
    (container,) = of_kind(rendered("minimal"), "Deployment")["code-location"]["spec"]["template"]["spec"]["containers"]
    assert re.findall(r'"([^"]+)"', DOCKERFILE[DOCKERFILE.index("CMD [") :]) == container["command"]
