"""How querysets are written, and what is said about one that is written wrongly."""

from typing import Any

import pytest
from pydantic import ValidationError

from views_dagster.errors import QuerysetError
from views_dagster.features.querysets import ColumnSpec, Queryset, check, parse_step
from views_dagster_tests.features.worlds import Ready


def written(**changes: Any) -> dict[str, Any]:
    return {
        "level": "cm",
        "targets": {"deaths": {"from": "events.best", "transforms": ["replace_na(0)"]}},
        "columns": {"ln_deaths": {"from": "events.best", "transforms": ["replace_na(0)", "ln", "tlag(1)"]}},
    } | changes


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("ln", "ln()"),
        ("ln()", "ln()"),
        (" tlag( 12 ) ", "tlag(12)"),
        ("replace_na(-1)", "replace_na(-1.0)"),
        ("replace_na", "replace_na(0.0)"),
        ("gte(2.5e1)", "gte(25.0)"),
        ("entropy(12, .5)", "entropy(12, 0.5)"),
    ],
)
def test_steps_are_read_into_one_form(text: str, canonical: str) -> None:
    assert str(parse_step(text)) == canonical


@pytest.mark.parametrize(
    "text", ["", "ln(", "entropy(12", "1)", "tlag((1))", "ln ln", "tlag(1,)", "gte(1 2)", "tlag(k=1)"]
)
def test_what_is_not_a_transform_is_refused(text: str) -> None:
    with pytest.raises(QuerysetError, match=r"not a transform|neither a number nor a name"):
        parse_step(text)


def test_an_unknown_transform_names_the_nearest_and_all() -> None:
    with pytest.raises(QuerysetError, match=r"is called tlg; did you mean tlag\?.*There are: countrylag, dec"):
        parse_step("tlg(1)")


def test_an_error_in_a_chain_says_where_in_the_yaml() -> None:
    columns = {"good": {"from": "a.b"}, "bad": {"from": "a.b", "transforms": ["ln", "decoy(24)"]}}
    with pytest.raises(ValidationError, match="decay") as raised:
        Queryset.model_validate(written(columns=columns))
    assert [error["loc"] for error in raised.value.errors()] == [("columns", "bad", "transforms", 1)]


@pytest.mark.parametrize(
    "changes",
    [
        {"colunms": {}},
        {"columns": {}},
        {"targets": {}},
        {"columns": {"x": {"from": "events.best", "transform": ["ln"]}}},
        {"columns": {"x": {"transforms": ["ln"]}}},
        {"columns": {"x": {"from": "best"}}},
        {"columns": {"Not A Name": {"from": "events.best"}}},
        {"columns": {"deaths": {"from": "events.best"}}},
        {"columns": {"month_id": {"from": "events.best"}}},
        {"targets": {"unit_id": {"from": "events.best"}}},
    ],
)
def test_a_queryset_of_another_shape_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Queryset.model_validate(written(**changes))


def test_a_spec_knows_its_source_column_and_steps() -> None:
    spec = ColumnSpec.model_validate({"from": "world_bank.sp_pop_totl", "transforms": ["fill", "ln"]})
    assert (spec.source, spec.column) == ("world_bank", "sp_pop_totl")
    assert [step.transform.name for step in spec.steps] == ["fill", "ln"]


def test_the_schema_offers_what_a_person_writes() -> None:
    schema = Queryset.model_json_schema()
    assert set(schema["properties"]) == {"description", "level", "units", "targets", "columns"}
    assert set(schema["$defs"]["ColumnSpec"]["properties"]) == {"from", "transforms"}


def test_check_accepts_what_exists() -> None:
    queryset = Queryset.model_validate(written())
    check(queryset, {"countries": Ready(names=()), "events": Ready(names=("best", "low"))})
    assert queryset.sources == {"countries", "events"}


def test_check_names_every_mistake_at_once_with_the_nearest_names() -> None:
    columns = {"a": {"from": "event.best"}, "b": {"from": "events.bset"}, "c": {"from": "events.best"}}
    queryset = Queryset.model_validate(written(columns=columns, units="country"))
    with pytest.raises(QuerysetError) as raised:
        check(queryset, {"countries": Ready(names=()), "events": Ready(names=("best", "low"))})
    assert str(raised.value).splitlines() == [
        "units: no source is called country; did you mean countries? There are: countries, events",
        "columns.a.from: no source is called event; did you mean events? There are: countries, events",
        "columns.b.from: events has no column bset at level cm; did you mean best? There are: best, low",
    ]


def test_check_knows_the_level() -> None:
    class AtOneLevel(Ready):
        def columns(self, level: str) -> frozenset[str]:
            raise QuerysetError(f"events are offered at level cm, not {level}")

    sources = {"countries": Ready(names=()), "events": AtOneLevel()}
    with pytest.raises(QuerysetError) as raised:
        check(Queryset.model_validate(written(level="pgm")), sources)
    assert str(raised.value).splitlines() == [
        "targets.deaths.from: events are offered at level cm, not pgm",
        "columns.ln_deaths.from: events are offered at level cm, not pgm",
    ]
