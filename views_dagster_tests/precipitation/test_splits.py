"""Splits: no neighbour on two sides, whole events, test untouched, every row accounted for."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from views_dagster.errors import PanelError
from views_dagster.precipitation.bands import exceedance
from views_dagster.precipitation.events import Storms
from views_dagster.precipitation.split_settings import SplitRecord, SplitSettings
from views_dagster.precipitation.splits import folds, split
from views_dagster_tests.precipitation.event_worlds import rainy_columns, showers

WEST_AND_EAST = {
    "west": {"west": 0, "east": 10, "south": 40, "north": 50},
    "east": {"west": 10, "east": 20, "south": 40, "north": 50},
}
LONGITUDES = (1.0, 8.5, 9.5, 10.5, 11.5, 18.0)
SHORT = {"events": {"kind": "storms", "dry_hours": 4, "dry_block_hours": 30}, "buffer_hours": 5}


def world(seed=0, hours=24 * 90, longitudes=(5.0, 6.0), unobserved=0.0, **more):
    """Three months of showers from 2020-01, heavy in one hour of eight."""
    random = np.random.default_rng(seed)
    rain = np.stack([showers(hours, seed + 100 * at) for at, _ in enumerate(longitudes)], axis=1)
    rain = np.maximum(rain, rain[:, ::-1]) if len(longitudes) == 2 else rain
    return rainy_columns(
        rain,
        longitudes=longitudes,
        heavy=random.random(rain.shape) < 1 / 8,
        unobserved=random.random(rain.shape) < unobserved if unobserved else None,
        **more,
    )


def sides(found):
    """The three sides with their names."""
    return {"train": found.train, "validation": found.validation, "test": found.test}


def hours_apart(columns, one, other):
    """(len(one), len(other)) hours between rows of whole hours."""
    hour = columns.valid_time.astype("datetime64[h]").astype(np.int32)
    return np.abs(hour[one][:, None] - hour[other][None, :])


def degrees_apart(columns, one, other):
    """(len(one), len(other)) degrees between the centres of boxes."""
    return np.abs(columns.longitude[one][:, None] - columns.longitude[other][None, :])


def require_honest(columns, found, chosen, *, regions):
    """What holds of every split."""
    kept = np.concatenate(list(sides(found).values()))
    assert len(np.unique(kept)) == len(kept)
    assert columns.observed[kept].all()
    assert len(kept) + sum(found.record.left_out.values()) == len(columns)
    assert {name: len(rows) for name, rows in sides(found).items()} == found.record.rows
    for name, rows in sides(found).items():
        assert {found.record.events[event].side for event in np.unique(found.event_of_row[rows])} <= {name}
    assert sum(event.rows for event in found.record.events) == len(kept)
    names = list(sides(found))
    for one, other in ((names[0], names[1]), (names[0], names[2]), (names[1], names[2])):
        a, b = sides(found)[one], sides(found)[other]
        near = hours_apart(columns, a, b) <= chosen.buffer_hours
        if regions:
            near &= degrees_apart(columns, a, b) <= chosen.buffer_degrees
        assert not near.any(), f"{one} and {other} have neighbours"


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    by=st.sampled_from(["event", "month"]),
    buffer=st.sampled_from([0, 5, 24]),
    share=st.sampled_from([0.1, 0.3, 0.5]),
    unobserved=st.sampled_from([0.0, 0.2]),
)
def test_no_neighbour_on_two_sides(seed, by, buffer, share, unobserved):
    columns = world(seed, hours=24 * 70, unobserved=unobserved)
    chosen = SplitSettings.model_validate(
        {**SHORT, "by": by, "buffer_hours": buffer, "validation_share": share, "seed": seed}
    )
    found = split(columns, chosen)
    require_honest(columns, found, chosen, regions=False)
    newest = columns.month_id == columns.month_id.max()
    np.testing.assert_array_equal(found.test, np.flatnonzero(newest & columns.observed))
    assert len(found.train)
    assert len(found.validation)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    buffer=st.sampled_from([0, 5, 24]),
    degrees=st.sampled_from([0.0, 0.6, 1.0, 2.0, 30.0]),
    on_region=st.booleans(),
)
def test_no_neighbour_in_space_on_two_sides(seed, buffer, degrees, on_region):
    columns = world(seed, hours=24 * 38, longitudes=LONGITUDES)
    chosen = SplitSettings.model_validate(
        {
            **SHORT,
            "regions": WEST_AND_EAST,
            "buffer_hours": buffer,
            "buffer_degrees": degrees,
            "seed": seed,
            **({"test_regions": ["east"]} if on_region else {}),
        }
    )
    if on_region and degrees == 30:
        with pytest.raises(PanelError, match="0 events"):
            split(columns, chosen)
        return
    found = split(columns, chosen)
    require_honest(columns, found, chosen, regions=True)
    test = columns.longitude >= 10 if on_region else columns.month_id == columns.month_id.max()
    np.testing.assert_array_equal(found.test, np.flatnonzero(test))


def test_only_neighbours_leave():
    columns = world(3)
    chosen = SplitSettings.model_validate(SHORT)
    found = split(columns, chosen)
    kept = np.concatenate([found.train, found.validation, found.test])
    gone = np.setdiff1d(np.arange(len(columns)), kept)
    of_test_event = np.isin(found.event_of_row[gone], found.event_of_row[found.test])
    near = [(hours_apart(columns, gone, rows) <= 5).any(axis=1) for rows in (found.validation, found.test)]
    assert (of_test_event | near[0] | near[1]).all()
    assert found.record.left_out["event_of_test"] == int(of_test_event.sum())
    assert found.record.left_out["near_another_side"] == int((~of_test_event).sum())


def test_a_storm_over_the_end_of_a_month_is_whole_on_the_test_side():
    rain = np.zeros(24 * 60)
    rain[::100] = 1
    rain[24 * 31 - 30 : 24 * 31 + 3] = 1
    columns = rainy_columns(rain)
    found = split(columns, SplitSettings.model_validate({**SHORT, "buffer_hours": 1}))
    assert found.record.left_out["event_of_test"] == 2 * 30
    storm = next(event for event in found.record.events if event.name == "2020-01-30T19:00")
    assert (storm.side, storm.rows, storm.left_out) == ("test", 2 * 6, 2 * 30)
    assert not np.isin(found.event_of_row[np.r_[found.train, found.validation]], found.event_of_row[found.test]).any()


def test_same_seed_same_split_whatever_the_order_of_rows():
    columns = world(1)
    chosen = SplitSettings.model_validate(SHORT)
    first, again = split(columns, chosen), split(columns, chosen)
    assert first.record == again.record
    order = np.random.default_rng(0).permutation(len(columns))
    shuffled = split(columns.take(order), chosen)
    for name, rows in sides(first).items():
        np.testing.assert_array_equal(np.sort(order[sides(shuffled)[name]]), rows)
    others = {split(columns, chosen.model_copy(update={"seed": seed})).validation.tobytes() for seed in range(5)}
    assert len(others) == 5


@pytest.mark.parametrize("seed", range(8))
def test_both_sides_have_heavy_rain_where_two_events_do(seed):
    columns = world(4)
    reach = np.zeros(len(columns), dtype=bool)
    events = split(columns, SplitSettings.model_validate(SHORT)).event_of_row
    for event in np.unique(events[exceedance(columns.fractions)[:, -1] > 0])[1:3]:
        reach |= events == event
    dried = columns.fractions.copy()
    dried[~reach] = [1, 0, 0, 0, 0]
    few = replace(columns, fractions=dried)
    found = split(few, SplitSettings.model_validate({**SHORT, "seed": seed, "buffer_hours": 0}))
    for rows in (found.train, found.validation):
        assert (exceedance(few.fractions[rows])[:, -1] > 0).any()


def test_share_of_events_and_of_months():
    columns = world(5)
    found = split(columns, SplitSettings.model_validate({**SHORT, "buffer_hours": 0, "validation_share": 0.25}))
    count = {side: sum(event.side == side for event in found.record.events) for side in ("train", "validation")}
    assert count["validation"] == round(0.25 * (count["train"] + count["validation"]))
    by_month = split(columns, SplitSettings.model_validate({**SHORT, "by": "month", "validation_share": 0.5}))
    starts = {event.start.month for event in by_month.record.events if event.side == "validation"}
    assert len(starts) == 1


@pytest.mark.parametrize("seed", range(4))
def test_an_event_goes_with_the_month_it_began_in(seed):
    rain = np.zeros(24 * 85)
    rain[24 * 31 - 10 : 24 * 31 + 10] = 1
    chosen = SplitSettings.model_validate(
        {**SHORT, "by": "month", "validation_share": 0.5, "buffer_hours": 0, "seed": seed}
    )
    found = split(rainy_columns(rain), chosen)
    side = {event.name: event.side for event in found.record.events}
    assert side["2020-01-31T15:00"] == side["2020-01-01T01:00"] != side["2020-02-01T14:00"]


def test_one_day_over_two_domains_trains_on_the_one_and_tests_on_the_other():
    columns = rainy_columns(showers(24, 1, every=4, lasting=4), longitudes=(2.0, 18.0))
    found = split(
        columns,
        SplitSettings.model_validate(
            {
                "events": {"kind": "blocks", "hours": 6},
                "regions": WEST_AND_EAST,
                "test_regions": ["east"],
                "buffer_hours": 1,
            }
        ),
    )
    assert (len(found.validation), len(found.test)) == (6, 24)
    assert len(found.train) in (16, 17)
    assert (columns.longitude[found.test] == 18).all()


def test_the_record_is_read_back_as_it_was():
    columns = world(2, longitudes=LONGITUDES)
    for more in ({}, {"test_regions": ["west"]}):
        found = split(columns, SplitSettings.model_validate({**SHORT, "regions": WEST_AND_EAST, **more}))
        assert SplitRecord.model_validate_json(found.record.model_dump_json()) == found.record


def test_rain_of_the_test_month_may_not_be_known_yet():
    columns = rainy_columns(showers(24 * 60), unobserved=np.arange(24 * 60) >= 24 * 31)
    found = split(columns, SplitSettings.model_validate(SHORT))
    assert len(found.test) == 0
    assert found.record.left_out["unobserved"] == 2 * 24 * 29
    assert hours_apart(columns, found.train, np.array([2 * 24 * 31])).min() > 5


@pytest.mark.parametrize("count", [2, 5])
def test_every_event_validates_in_one_fold(count):
    columns = world(6)
    chosen = SplitSettings.model_validate({**SHORT, "buffer_hours": 2})
    found = folds(columns, chosen, count)
    test = split(columns, chosen).test
    validated = np.concatenate([fold.validation for fold in found])
    assert len(np.unique(validated)) == len(validated)
    sizes = []
    for fold in found:
        require_honest(columns, fold, chosen, regions=False)
        assert len(fold.test) == 0
        assert (hours_apart(columns, np.r_[fold.train, fold.validation], test) > 2).all()
        sizes.append(len(np.unique(fold.event_of_row[fold.validation])))
        assert (exceedance(columns.fractions[fold.validation])[:, -1] > 0).any()
    assert max(sizes) - min(sizes) <= 1
    expected = np.union1d(split(columns, chosen).validation, split(columns, chosen).train)
    assert np.isin(expected, validated).all()
    assert [fold.record for fold in folds(columns, chosen, count)] == [fold.record for fold in found]


def test_too_few_events_say_what_to_do():
    one_month = rainy_columns(showers(24 * 20))
    with pytest.raises(PanelError, match=r"columns of 2020-01 are all in the newest months.*test_regions"):
        split(one_month, SplitSettings())
    dry_start = rainy_columns(np.r_[np.zeros(24), np.ones(24 * 40)], start="2020-01-30T01")
    with pytest.raises(PanelError, match=r"1 event with observed rain in 2020-01 can train .* 2 are needed"):
        split(dry_start, SplitSettings(events=Storms(storm_block_hours=2400), buffer_hours=0))
    assert len(split(dry_start, SplitSettings(buffer_hours=0)).record.events) == 5
    columns = world(1)
    with pytest.raises(PanelError, match=r"2 months with .* 2020-01..2020-02 .* and 3 are needed"):
        folds(columns, SplitSettings(by="month", buffer_hours=0), 3)
    with pytest.raises(PanelError, match="fold 1 of 2: no row is left to train on"):
        folds(world(1, hours=24 * 40), SplitSettings(buffer_hours=24 * 8), 2)
    with pytest.raises(PanelError, match="1 folds are no cross-validation"):
        folds(columns, SplitSettings(), 1)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"regions": WEST_AND_EAST, "test_regions": ["eats"]}, "no region eats; did you mean east"),
        ({"regions": WEST_AND_EAST, "test_regions": ["west", "east"]}, "leave one to train on"),
        ({"regions": WEST_AND_EAST, "test_regions": ["west"], "test_months": 2}, "not both"),
        (
            {"regions": {**WEST_AND_EAST, "mid": {"west": 5, "east": 12, "south": 45, "north": 46}}},
            "west and mid overlap",
        ),
        (
            {"regions": {**WEST_AND_EAST, "all": {"west": -1, "east": 30, "south": 0, "north": 90}}},
            "west and all overlap",
        ),
        ({"validation_share": 0.6}, "less than or equal to 0.5"),
        ({"events": {"kind": "storm"}}, "storms"),
        ({"buffer_hour": 3}, "buffer_hour"),
    ],
)
def test_what_cannot_be_meant(changes, problem):
    with pytest.raises(ValidationError, match=problem):
        SplitSettings.model_validate(changes)
