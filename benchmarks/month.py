"""How long the platform takes: from command to first step, the history of raw data and features, and a whole month.

Run `python -m benchmarks.month [--sources FILE]` in the environment of `resources/local.env`. It works in a temporary
folder, on the demo world or on the sources that FILE names. Bars on 2 idle cores: 5 s, 60 s and 180 s.
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

import dagster as dg

ROOT = Path(__file__).resolve().parents[1]


def materialize(home: Path, *arguments: str, sources: str | None) -> tuple[float, float]:
    """Run the command line in `home`; returns seconds from its start to its first step, and to its end."""
    environment = {
        **os.environ,
        "VIEWS_HOME": str(home),
        "DAGSTER_HOME": str(home / "dagster"),
        "VIEWS_EVENT_LOG": str(home / "dagster" / "history" / "runs"),
        **({"VIEWS_SOURCES": sources} if sources else {}),
    }
    began = time.time()
    subprocess.run(["dagster", "asset", "materialize", *arguments], cwd=ROOT, env=environment, check=True)
    ended = time.time()
    os.environ.update(environment)
    with dg.DagsterInstance.get() as instance:
        run = instance.get_runs(limit=1)[0]
        steps = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)
    return min(step.timestamp for step in steps) - began, ended - began


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", help="a deployment's sources file, as VIEWS_SOURCES names it")
    parser.add_argument("--first", default="1990-01")
    parser.add_argument("--last", default="2023-12", help="the month that is made; the history ends with it")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "dagster").mkdir()
        (home / "dagster" / "dagster.yaml").write_text((ROOT / "resources" / "dagster.yaml").read_text())
        for what in ("in a new home", "in a home in use"):
            start, _ = materialize(home, "--select", "raw/countries", "--partition", given.first, sources=given.sources)
            print(f"command to first step, {what:16}: {start:6.1f} s   (bar 5 s)", flush=True)
        both = "group:raw_data or group:processed_features"
        months = f"{given.first}...{given.last}"
        _, history = materialize(home, "--select", both, "--partition-range", months, sources=given.sources)
        print(f"raw and features, {months}: {history:7.1f} s   (bar 60 s)", flush=True)
        _, month = materialize(home, "--select", "*forecasts", "--partition", given.last, sources=given.sources)
        print(f"*forecasts of {given.last}:          {month:7.1f} s   (bar 180 s)", flush=True)


if __name__ == "__main__":
    main()
