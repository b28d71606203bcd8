"""Spaces: what they refuse, what their values become, and that every one of them is a setting that loads."""

import math
from decimal import Decimal
from typing import Any, Literal

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from views_dagster.learners.registry import AnyLearner
from views_dagster.tuning.dimensions import Choices, Range
from views_dagster.tuning.space import StartingPoint, SweepSettings, current_values, problems

LEARNERS: TypeAdapter[Any] = TypeAdapter(AnyLearner)
RATE, LEAVES = "regressor.lightgbm.learning_rate", "regressor.lightgbm.num_leaves"


def start_of(**settings: Any) -> StartingPoint:
    written = {"kind": "step_shift", "regressor": {"lightgbm": {"num_leaves": 8}}, **settings}
    return StartingPoint.of(LEARNERS.validate_python(written))


def space_of(space: dict[str, Any]) -> dict[str, Range | Choices]:
    return SweepSettings.model_validate({"space": space}).space


def said_of(space: dict[str, Any], start: StartingPoint | None = None) -> list[tuple[str, str]]:
    return problems(space_of(space), start or start_of(), LEARNERS)


def suggested(dimension: Range | Choices, value: Any) -> Any:
    """What becomes of a value that the sampler proposes."""
    study = optuna.create_study()
    study.enqueue_trial({"x": value})
    return dimension.suggest(study.ask(), "x")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"low": 1, "high": 1}, "low 1 is not below high 1"),
        ({"low": 2, "high": 1}, "low 2 is not below high 1"),
        ({"low": 0, "high": 1, "log": True}, "log needs low > 0 and no step"),
        ({"low": 1, "high": 3, "log": True, "step": 1}, "log needs low > 0 and no step"),
        ({"low": 1, "high": 2.5, "int": True}, "int needs whole numbers"),
        ({"low": 1, "high": 3, "int": True, "step": 0.5}, "int needs whole numbers"),
        ({"low": 0, "high": 1, "step": 0.3}, "high 1 is not low 0 plus a number of steps of 0.3"),
        ({"low": 0, "high": math.inf}, "finite number"),
        ({"low": 0, "hihg": 1}, "Extra inputs"),
        ({"choices": [1]}, "at least 2 items"),
        ({"choices": [1, 2, 1]}, "1 is written twice"),
        ({"choices": [[1, 2], [1, 2]]}, r"\[1, 2\] is written twice"),
    ],
)
def test_what_is_no_dimension(written: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        space_of({"x": written})


def test_values_that_only_look_equal_are_different_choices() -> None:
    choices = space_of({"x": {"choices": [1, True, "1", None, "null"]}})["x"]
    assert [choices.parameter(choice) for choice in choices.probes()] == ["1", "true", '"1"', "null", '"null"']
    assert choices.parameter(2) is None


def test_defaults_of_a_sweep() -> None:
    settings = SweepSettings.model_validate({"space": {"x": {"low": 0, "high": 1}}})
    assert (settings.trials, settings.seed, settings.parallel, settings.pruner.kind) == (40, 0, 1, "median")
    again = SweepSettings.model_validate_json(settings.model_dump_json(by_alias=True))
    assert again == settings


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.floats(0, 1))
def test_a_rounded_number_is_in_the_range_and_near(low: float, width: float, share: float) -> None:
    high = low + width
    number = min(low + share * width, high)
    rounded = Range(low=low, high=high)._rounded(number)
    assert low <= rounded <= high
    assert abs(rounded - number) <= width * 1e-3


@given(st.integers(-50, 50), st.integers(1, 400), st.integers(1, 40), st.data())
def test_a_number_of_steps_is_exact(low: int, step: int, count: int, data: st.DataObject) -> None:
    # Tenths, hundredths and thousandths, which floats hold only nearly.
    bottom, width = Decimal(low) / 10, Decimal(step) / 1000
    dimension = Range(low=float(bottom), high=float(bottom + count * width), step=float(width))
    steps = data.draw(st.integers(0, count))
    rounded = dimension._rounded(dimension.low + steps * float(width))
    assert Decimal(str(rounded)) == bottom + steps * width
    assert dimension.parameter(rounded) == rounded


@pytest.mark.parametrize(
    ("dimension", "proposed", "value"),
    [
        ({"low": 0.001, "high": 1, "log": True}, 0.0123456789, 0.01235),
        ({"low": 0.05, "high": 0.25}, 0.123456789, 0.1235),
        ({"low": 0, "high": 1, "step": 0.1}, 0.30000000000000004, 0.3),
        ({"low": 3, "high": 300, "int": True, "log": True}, 17, 17),
        ({"choices": [[1, 2], None, "a"]}, "[1, 2]", [1, 2]),
        ({"choices": [[1, 2], None, "a"]}, "null", None),
    ],
)
def test_what_is_proposed_becomes_a_value_that_a_person_can_read(
    dimension: dict[str, Any], proposed: Any, value: Any
) -> None:
    made = suggested(space_of({"x": dimension})["x"], proposed)
    assert (made, type(made)) == (value, type(value))


def test_a_good_space_has_no_problems() -> None:
    space = {
        RATE: {"low": 0.01, "high": 0.3, "log": True},
        LEAVES: {"low": 4, "high": 32, "int": True},
        "trained_steps": {"choices": [None, [1, 6, 12], [1, 2, 3]]},
        "own_history.share": {"low": 0.1, "high": 0.9},
        "draws_from": {"choices": [{"kind": "residuals"}, {"kind": "counts"}]},
        "sampling.share": {"low": 0.25, "high": 1, "step": 0.25},
    }
    assert said_of(space) == []


def test_an_unknown_path_is_named_with_the_nearest() -> None:
    ((path, said),) = said_of({"regressor.lightgbm.learning_rat": {"low": 0.01, "high": 0.3}})
    assert path == "regressor.lightgbm.learning_rat"
    assert said.startswith(f"the learner has no such setting; did you mean {RATE}? There are: anchor, balance,")
    ((_, said),) = said_of({"draws_form.holdout": {"low": 0.1, "high": 0.3}})
    assert "did you mean draws_from.holdout?" in said
    ((_, said),) = said_of({"transform.scale": {"low": 0.1, "high": 0.3}})
    assert said.startswith('transform is "log1p", which has nothing below it; did you mean transform?')


def test_each_bound_and_choice_must_be_allowed() -> None:
    space = {
        RATE: {"low": 0.01, "high": 3},
        LEAVES: {"low": 1, "high": 32, "int": True},
        "transform": {"choices": ["log1p", "log"]},
    }
    assert said_of(space) == [
        (RATE, f"{RATE} 3.0 is refused: Input should be less than or equal to 1"),
        (LEAVES, f"{LEAVES} 1 is refused: Input should be greater than or equal to 2"),
        ("transform", "transform \"log\" is refused: Input should be 'log1p' or 'identity'"),
    ]


def test_whole_numbers_must_be_said_to_be_whole() -> None:
    said = said_of({LEAVES: {"low": 4, "high": 32}})
    assert said[0] == (LEAVES, f"{LEAVES} 4.0 is refused: Input should be a valid integer; add int: true")


def test_a_path_within_another_is_refused() -> None:
    ((path, said),) = said_of(
        {
            LEAVES: {"low": 4, "high": 32, "int": True},
            "regressor": {"choices": [{"lightgbm": {}}, {"sklearn": {"estimator": "Ridge"}}]},
        }
    )
    assert (path, said) == (LEAVES, f"regressor is in the space too, and it contains {LEAVES}; leave one of them out")


class Fussy(BaseModel):
    """Settings of which two may not both be high."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["fussy"] = "fussy"
    a: int = Field(default=0, ge=0)
    b: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _not_both(self) -> "Fussy":
        if self.a + self.b > 10:
            raise ValueError("a and b together may be 10")
        return self


def test_values_that_are_good_alone_and_not_together_are_refused() -> None:
    space = space_of({"a": {"low": 0, "high": 8, "int": True}, "b": {"low": 0, "high": 7, "int": True}})
    assert problems(space, StartingPoint.of(Fussy()), TypeAdapter(Fussy)) == [
        ("b", "a 8 with b 7 is refused: a and b together may be 10")
    ]


def test_values_become_settings_and_nothing_else_changes() -> None:
    start = start_of()
    written = {"kind": "step_shift", "regressor": {"lightgbm": {"num_leaves": 8}}}
    assert start.written == written
    changed = start.changed({RATE: 0.1, LEAVES: 4, "trained_steps": [1, 2]})
    assert changed == {
        "kind": "step_shift",
        "regressor": {"lightgbm": {"num_leaves": 4, "learning_rate": 0.1}},
        "trained_steps": [1, 2],
    }
    assert start.written == written


def test_blocks_that_nobody_wrote_are_made_of_their_kind() -> None:
    changed = start_of().changed({"draws_from.holdout": 0.3, "own_history.share": 0.2, "own_history.months": 6})
    assert changed["draws_from"] == {"kind": "residuals", "holdout": 0.3}
    assert changed["own_history"] == {"share": 0.2, "months": 6}
    made = LEARNERS.validate_python(changed)
    assert (made.draws_from.holdout, made.own_history.months) == (0.3, 6)


@pytest.mark.parametrize(
    ("space", "values"),
    [
        ({LEAVES: {"low": 4, "high": 32, "int": True}}, {LEAVES: 8}),
        ({RATE: {"low": 0.01, "high": 0.3}}, {RATE: 0.05}),
        ({"trained_steps": {"choices": [None, [1, 2]]}}, {"trained_steps": None}),
        ({LEAVES: {"low": 10, "high": 32, "int": True}}, None),
        ({LEAVES: {"low": 2, "high": 14, "int": True, "step": 4}}, None),
        ({RATE: {"low": 0, "high": 0.3, "step": 0.1}}, None),
        ({RATE: {"low": 0, "high": 0.3, "step": 0.05}}, {RATE: 0.05}),
        ({"transform": {"choices": ["identity", "other"]}}, None),
        ({"own_history.share": {"low": 0.1, "high": 0.9}}, None),
    ],
)
def test_present_values_within_the_space(space: dict[str, Any], values: dict[str, Any] | None) -> None:
    assert current_values(space_of(space), start_of()) == values


def test_a_block_without_its_defaults_is_the_present_one() -> None:
    space = space_of({"own_history": {"choices": [None, {"share": 0.4}, {"months": 6}]}})
    assert current_values(space, start_of(own_history={"share": 0.4})) == {"own_history": {"share": 0.4}}
    assert current_values(space, start_of()) == {"own_history": None}
    assert current_values(space, start_of(own_history={"share": 0.3})) is None
    assert current_values(space, start_of(own_history={"share": 0.4, "months": 6})) is None
