"""Records of trials: the best one, the table, what matters, and the pictures."""

import io
import math
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from PIL import Image

from views_dagster.errors import ForecastError
from views_dagster.tuning.dimensions import Choices
from views_dagster.tuning.importance import FEWEST_TRIALS, importances
from views_dagster.tuning.pictures import choice_labels, history, importance, slices
from views_dagster.tuning.records import TRIAL_SCHEMA, SweepResult, TrialRecord
from views_dagster.tuning.space import SweepSettings

SPACE = SweepSettings.model_validate(
    {
        "space": {
            "block.rate": {"low": 0.01, "high": 1, "log": True},
            "leaves": {"low": 1, "high": 9, "int": True},
            "steps": {"choices": [None, [1, 2]]},
        }
    }
).space
BEGAN = datetime(2024, 2, 1, 12)


def trial(number: int, score: float | None, **changes: object) -> TrialRecord:
    values: dict[str, object] = {
        "number": number,
        "state": "complete" if score is not None else "pruned",
        "values": {"block.rate": 0.1, "leaves": 3, "steps": None},
        "score": score,
        "reports": {1: 2.0, 0: 3.0},
        "began": BEGAN,
        "ended": BEGAN + timedelta(seconds=90),
        "error": None,
    }
    return TrialRecord(**{**values, **changes})  # type: ignore[arg-type]


def result_of(*trials: TrialRecord) -> SweepResult:
    return SweepResult("a study", trials, 40, trials[0] if trials else None)


def scattered(count: int) -> SweepResult:
    """Scores that the rate decides, the steps a little, and the leaves not at all."""
    rng = np.random.default_rng(0)
    trials = []
    for number in range(count):
        rate, steps = float(10 ** rng.uniform(-2, 0)), [None, [1, 2]][int(rng.integers(2))]
        score = math.log10(rate) ** 2 + (0.3 if steps else 0.0)
        trials.append(
            trial(number, score, values={"block.rate": rate, "leaves": int(rng.integers(1, 10)), "steps": steps})
        )
    return result_of(*trials)


def test_the_best_is_the_lowest_and_of_equal_ones_the_first() -> None:
    result = result_of(trial(0, 2.0), trial(1, None), trial(2, 1.0), trial(3, 1.0))
    assert result.best.number == 2
    assert [found.number for found in result.scored] == [0, 2, 3]
    assert (result.count("complete"), result.count("pruned"), result.count("failed")) == (3, 1, 0)
    assert not result.is_complete


def test_without_a_score_there_is_no_best() -> None:
    failed = trial(0, None, state="failed", error="PanelError: too short")
    with pytest.raises(
        ForecastError, match=r"none of the 1 finished trials .* the first failed because PanelError: too"
    ):
        _ = result_of(failed).best


def test_the_table() -> None:
    frame = result_of(trial(0, 2.0), trial(1, None)).to_frame()
    assert frame.schema == pl.Schema(TRIAL_SCHEMA)
    assert frame.row(0) == (
        0,
        "complete",
        2.0,
        '{"block.rate": 0.1, "leaves": 3, "steps": null}',
        [3.0, 2.0],
        BEGAN,
        90.0,
        None,
    )
    assert frame["score"].to_list() == [2.0, None]
    assert result_of().to_frame().schema == pl.Schema(TRIAL_SCHEMA)


def test_what_decides_the_score_matters_most() -> None:
    shares = importances(scattered(40), SPACE)
    assert list(shares) == ["block.rate", "steps", "leaves"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["block.rate"] > 0.7


def test_one_very_bad_trial_does_not_decide_what_matters() -> None:
    few = scattered(40)
    worst = trial(40, 1e9, values={"block.rate": 0.9, "leaves": 9, "steps": None})
    shares = importances(result_of(*few.trials, worst), SPACE)
    assert shares["leaves"] < 0.2


def test_of_too_few_or_equal_scores_nothing_is_said() -> None:
    assert importances(scattered(FEWEST_TRIALS - 1), SPACE) == {}
    assert importances(result_of(*(trial(number, 1.0) for number in range(20))), SPACE) == {}


def size(png: bytes) -> tuple[int, int]:
    image = Image.open(io.BytesIO(png))
    image.verify()
    return image.size


@pytest.mark.parametrize(
    "result",
    [
        scattered(30),
        result_of(*scattered(12).trials, trial(12, 1e9), trial(13, None), trial(14, None, state="failed", reports={})),
        result_of(trial(0, 1.0)),
        result_of(trial(0, 0.0), trial(1, 0.0)),
        result_of(trial(0, None, state="failed", reports={})),
        result_of(),
    ],
    ids=["many", "all kinds", "one", "equal", "failed", "none"],
)
def test_pictures_of_any_result(result: SweepResult) -> None:
    assert size(history(result, measure="CRPS", title="a title")) == (720, 351)
    assert size(slices(result, SPACE, measure="CRPS", title="a title")) == (918, 324)


def test_pictures_are_the_same_each_time() -> None:
    result = scattered(20)
    assert history(result, measure="CRPS", title="a") == history(result, measure="CRPS", title="a")
    assert history(result, measure="CRPS", title="a") != history(scattered(19), measure="CRPS", title="a")


def test_a_bar_for_each_setting() -> None:
    two, four = ({f"setting_{number}": 0.25 for number in range(count)} for count in (2, 4))
    assert size(importance(four, title="a"))[1] - size(importance(two, title="a"))[1] == pytest.approx(
        2 * 0.34 * 90, abs=1
    )
    assert size(importance({}, title="a")) == size(importance({"x": 1.0}, title="a"))


def test_choices_that_are_blocks_are_told_apart() -> None:
    blocks = [{"kind": "none"}, {"kind": "weights", "power": "sqrt", "cap": 5}, {"kind": "resample", "cap": 5}]
    assert choice_labels(Choices(choices=tuple(blocks))) == [
        ["none"],
        ["weights", "sqrt", "cap 5"],
        ["resample", "cap 5"],
    ]
    same_kind = [{"kind": "lag", "months": 3}, {"kind": "lag", "months": 6}]
    assert choice_labels(Choices(choices=tuple(same_kind))) == [["months 3"], ["months 6"]]
    assert choice_labels(Choices(choices=(None, "ridge", 3))) == [["null"], ["ridge"], ["3"]]
