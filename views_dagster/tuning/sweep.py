"""Sweeps: run a study's trials, here or in several processes, tell of each that finishes, and say what was found."""

import hashlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import IO, Final

from pydantic import JsonValue

from views_dagster.errors import PlatformError
from views_dagster.tuning.records import SweepResult, TrialRecord
from views_dagster.tuning.space import StartingPoint, SweepSettings
from views_dagster.tuning.study import MOST_CRASHES, SharedStudy, identity_of
from views_dagster.tuning.worker import REFUSED, Sweep, work

_POLL_SECONDS: Final = 0.5
_TAIL_LINES: Final = 40


def study_name(
    model: str, month: str, settings: SweepSettings, start: StartingPoint, *, about: Mapping[str, JsonValue]
) -> str:
    """Name of a model's study in a month; another one where scores would not compare.

    Args:
        about: whatever else the scores depend on: the digest of the data, draws, seeds, versions of libraries.
    """
    text = json.dumps([identity_of(settings, start), dict(about)], sort_keys=True)
    return f"{model} {month} {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def run_sweep(
    sweep: Sweep,
    *,
    log: Callable[[str], None],
    on_trial: Callable[[TrialRecord], None] = lambda record: None,
) -> SweepResult:
    """Run what is left of a study's trials and return all that have finished.

    A sweep that was killed goes on where it stopped. Any number of processes, also on other machines, may work on the
    same study; this one returns when all trials have finished or `timeout_hours` are over.

    The first `STARTUP_TRIALS` proposals depend on the seed and the trial's number alone. Later ones also depend on what
    has finished when they are made: one process repeats a sweep exactly, also one that was killed on this machine and
    taken up again; several at once do not. The score of given settings never depends on the sweep.

    Args:
        log: told of each trial in words.
        on_trial: told of each finished trial, here and in this thread, also of those that an earlier run did not come
            to tell of; once for each, but again for one whose telling was cut off.

    Raises:
        PlatformError: the study's database cannot be opened, the study was begun with other settings, or what a trial
            needs is missing.
    """
    study = sweep.open()
    hours = sweep.settings.timeout_hours
    if hours is not None:
        sweep = sweep.model_copy(update={"stop_at": time.time() + 3600 * hours})
    tell = partial(_tell, study, log, on_trial)
    try:
        _work_off(sweep, study, tell=tell, log=log)
        return _result(study)
    finally:
        study.close()


def share_sweep(sweep: Sweep, *, run: str, log: Callable[[str], None]) -> None:
    """Work on a study as one of several workers, until no trial of it is left.

    A trial whose process has died too often fails, whichever worker it was: else settings that use up the memory would
    end one worker after the other.

    Args:
        run: what the workers have in common; `timeout_hours` count from when the first of them began.
        log: told of each trial that finishes meanwhile, also those of other workers.

    Raises:
        PlatformError: as `run_sweep`.
    """
    study = sweep.open()
    known = {record.number for record in study.records()}

    def tell() -> None:
        for record in study.records():
            if record.number not in known:
                known.add(record.number)
                log(_in_words(record, sweep.settings.trials))

    try:
        sweep = sweep.model_copy(update={"stop_at": study.deadline(run)})
        _work_off(sweep, study, tell=tell, log=log, counts=True)
    finally:
        study.close()


def collect_sweep(sweep: Sweep, *, log: Callable[[str], None], on_trial: Callable[[TrialRecord], None]) -> SweepResult:
    """Tell of the trials that workers have finished, as `run_sweep` does, and return all of them.

    Raises:
        PlatformError: the study's database cannot be opened, or trials are left although there was time for them.
    """
    study = sweep.open()
    try:
        _tell(study, log, on_trial)
        result = _result(study)
    finally:
        study.close()
    if not result.is_complete and sweep.settings.timeout_hours is None:
        raise PlatformError(
            f"{len(result.trials)} of {result.wanted} trials of {sweep.study} have finished, but no worker is left: "
            "its features were made again meanwhile, or its workers do not share one database of studies; see to that "
            "and start the sweep again"
        )
    return result


def _work_off(
    sweep: Sweep, study: SharedStudy, *, tell: Callable[[], None], log: Callable[[str], None], counts: bool = False
) -> None:
    """Run what is left of the trials, here or in child processes."""
    study.reclaim(counts=counts)
    tell()
    left = study.unfinished()
    if left and sweep.settings.parallel == 1:
        work(study, sweep.build_objective(), stop_at=sweep.stop_at, after_each=tell, counts=counts)
    elif left:
        _run_workers(sweep, study, count=min(sweep.settings.parallel, left), tell=tell, log=log, counts=counts)
    tell()


def _tell(study: SharedStudy, log: Callable[[str], None], on_trial: Callable[[TrialRecord], None]) -> None:
    """Tell of the finished trials that nobody was told of."""
    told = study.told()
    for record in study.records():
        if record.number not in told:
            log(_in_words(record, study.settings.trials))
            on_trial(record)
            study.mark_told(record.number)


def _result(study: SharedStudy) -> SweepResult:
    records = study.records()
    current = next((record for record in records if record.number == 0 and record.values == study.current), None)
    return SweepResult(study.name, records, study.settings.trials, current)


class _Worker:
    """A child process at work on the sweep; it ends when this process does."""

    def __init__(self, sweep: Sweep, lines: "queue.SimpleQueue[str]") -> None:
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "views_dagster.tuning.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            # It must find every module that this process finds, also one that was never installed.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout, lines), daemon=True)
        self._reader.start()
        # One that has already ended says by its exit status what was wrong.
        with suppress(BrokenPipeError):
            self.process.stdin.write(sweep.model_dump_json(by_alias=True) + "\n")
            self.process.stdin.flush()

    def ended(self) -> int | None:
        """Exit status, with all that it wrote read; None while it works."""
        status = self.process.poll()
        if status is not None:
            self._reader.join()
        return status

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _read(self, stream: IO[str], lines: "queue.SimpleQueue[str]") -> None:
        for line in stream:
            self.tail.append(line.rstrip())
            lines.put(line.rstrip())


def _run_workers(
    sweep: Sweep,
    study: SharedStudy,
    *,
    count: int,
    tell: Callable[[], None],
    log: Callable[[str], None],
    counts: bool,
) -> None:
    """Keep `count` processes at work until they end by themselves; replace those that die."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    workers: list[_Worker] = []
    idle_crashes = 0
    try:
        workers.extend(_Worker(sweep, lines) for _ in range(count))
        while workers:
            _relay(lines, log)
            tell()
            for worker in list(workers):
                status = worker.ended()
                if status is None:
                    continue
                workers.remove(worker)
                if status == REFUSED:
                    raise PlatformError("\n".join(worker.tail))
                if status > 0:
                    raise RuntimeError("a process of the sweep stopped with an error:\n" + "\n".join(worker.tail))
                if status < 0:
                    log(f"a process of the sweep died by signal {-status}; another takes its place")
                    had_trial = study.count_crash(worker.process.pid, cause=f"signal {-status}")
                    idle_crashes += not had_trial
                    if idle_crashes >= MOST_CRASHES:
                        raise RuntimeError(
                            f"{idle_crashes} processes of the sweep died by signal {-status}, none in a trial:\n"
                            + "\n".join(worker.tail)
                        )
                    workers.append(_Worker(sweep, lines))
            study.reclaim(spared=[worker.process.pid for worker in workers], counts=counts)
    finally:
        for worker in workers:
            worker.kill()
        study.reclaim()


def _relay(lines: "queue.SimpleQueue[str]", log: Callable[[str], None]) -> None:
    """Log what workers wrote, for as long as it takes until something is to be looked at again."""
    until = time.monotonic() + _POLL_SECONDS
    while (left := until - time.monotonic()) > 0:
        try:
            log(lines.get(timeout=left))
        except queue.Empty:
            return


def _in_words(record: TrialRecord, trials: int) -> str:
    tried = ", ".join(f"{path} {value}" for path, value in record.values.items())
    if record.score is not None:
        how = f"{record.score:.6g}"
    elif record.state == "pruned":
        how = f"stopped early at {list(record.reports.values())[-1]:.6g} after {len(record.reports)} points"
    else:
        how = f"failed: {record.error}"
    return f"trial {record.number} of {trials} ({record.seconds:.1f} s): {how}: {tried}"
