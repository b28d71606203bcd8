"""Events: where storms begin and end, and that months that are appended do not move them."""

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from views_dagster.errors import PanelError
from views_dagster.precipitation.events import Blocks, Region, Storms, find_events
from views_dagster_tests.precipitation.event_worlds import rainy_columns, showers


def events_of_times(columns, events):
    """(times,) event of each time of a lattice that is one region."""
    by_time = events.of_row.reshape(-1, 2)
    assert (by_time[:, 0] == by_time[:, 1]).all()
    return by_time[:, 0].tolist()


def test_a_storm_ends_after_dry_hours():
    rain = [0, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1]
    events = find_events(rainy_columns(rain), Storms(dry_hours=3))
    # Two dry hours do not end it; the third after the last rain does, and is dry already.
    assert events_of_times(None, events) == [0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3]
    assert events.wet.tolist() == [False, True, False, True]
    assert events.names == ("2020-01-01T01:00", "2020-01-01T03:00", "2020-01-01T10:00", "2020-01-01T12:00")
    assert events.end[1] == np.datetime64("2020-01-01T09:00:00")


def test_a_time_is_wet_when_enough_observed_boxes_are():
    rain = [[0.1, 0, 0, 0], [0.1, 0.1, 0, 0], [0.09, 0.09, 0.09, 0.09], [0.1, 0, 0, 0]]
    columns = rainy_columns(rain, longitudes=(1, 2, 3, 4), unobserved=[[False] * 4] * 3 + [[False] * 2 + [True] * 2])
    events = find_events(columns, Storms(wet_share=0.5, dry_hours=1))
    assert events.of_row[::4].tolist() == [0, 1, 2, 3]
    assert events.wet.tolist() == [False, True, False, True]
    unknown = rainy_columns([1, 1, 1], unobserved=[False, True, True])
    assert find_events(unknown, Storms(dry_hours=2)).of_row[::2].tolist() == [0, 0, 1]


def test_long_dry_stretches_are_cut_and_gaps_end_events():
    events = find_events(rainy_columns(np.zeros(10)), Storms(dry_block_hours=4))
    assert events_of_times(None, events) == [0] * 4 + [1] * 4 + [2] * 2
    columns = rainy_columns(np.ones(30))
    gap = columns.take(np.flatnonzero((np.arange(60) < 10) | (np.arange(60) >= 40)))
    assert find_events(gap, Storms(dry_hours=6)).names == ("2020-01-01T01:00", "2020-01-01T21:00")


def test_long_storms_are_cut():
    events = find_events(rainy_columns(np.ones(10)), Storms(storm_block_hours=4))
    assert events_of_times(None, events) == [0] * 4 + [1] * 4 + [2] * 2
    assert events.wet.all()


def test_a_dry_day_ends_a_storm_where_there_is_one_time_a_day():
    columns = rainy_columns([1, 1, 0, 1, 0, 0, 0, 0, 1], step=24)
    events = find_events(columns, Storms())
    assert events_of_times(None, events) == [0, 0, 1, 2, 3, 3, 3, 4, 5]
    assert events.wet.tolist() == [True, False, True, False, False, True]


def test_blocks_hold_the_intervals_that_end_in_them():
    events = find_events(rainy_columns(np.zeros(14)), Blocks(kind="blocks", hours=6))
    assert events_of_times(None, events) == [0] * 6 + [1] * 6 + [2] * 2
    assert not events.wet.any()
    later = find_events(rainy_columns(np.zeros(10), start="2020-01-01T05"), Blocks(kind="blocks", hours=6))
    assert events_of_times(None, later) == [0] * 2 + [1] * 6 + [2] * 2


def test_regions_have_events_of_their_own():
    rain = np.array([[1, 0, 1], [0, 1, 1]])
    columns = rainy_columns(rain, longitudes=(5, 356, 40))
    regions = {
        "west": Region(west=-10, east=0, south=40, north=50),
        "east": Region(west=0, east=10, south=40, north=50),
    }
    events = find_events(columns, Storms(dry_hours=1), regions)
    assert events.names == (
        "west 2020-01-01T01:00",
        "west 2020-01-01T02:00",
        "east 2020-01-01T01:00",
        "east 2020-01-01T02:00",
    )
    assert events.of_row.tolist() == [2, 0, -1, 3, 1, -1]
    assert events.wet.tolist() == [False, True, True, False]
    assert events.region_of_row.tolist() == [1, 0, -1, 1, 0, -1]


def test_distance_to_a_region_around_the_date_line():
    region = Region(west=170, east=-170, south=-10, north=10)
    longitude = np.array([175, 185, -175, 169, -169, 192, 0])
    assert region.distance(np.zeros(7), longitude).tolist() == [0, 0, 0, 1, 1, 2, 170]
    assert region.distance(np.array([12.0, -13]), np.array([180, 193])).tolist() == [2, 3]
    assert region.holds(np.zeros(3), np.array([170, -170, 180])).tolist() == [True, False, True]
    corner = Region(west=5.1, east=5.3, south=45.1, north=45.3)
    on_borders = np.array([5.1, 5.2, 5.3], dtype=np.float32)
    assert corner.holds(on_borders + 40, on_borders).tolist() == [True, True, False]
    around = Region(west=-180, east=180, south=-90, north=90)
    assert around.holds(np.zeros(3), np.array([-180, 359, 180])).all()


def test_what_cannot_be_meant():
    with pytest.raises(PanelError, match=r"valid times are 12 hours apart.* set dry_hours to 12 or more"):
        find_events(rainy_columns(np.zeros(4), step=12), Storms(dry_hours=6))
    with pytest.raises(PanelError, match="no column lies in the region sea"):
        find_events(rainy_columns([1]), Storms(), {"sea": Region(west=20, east=30, south=0, north=10)})
    with pytest.raises(PanelError, match="no columns"):
        find_events(rainy_columns([1]).take(np.array([], dtype=int)), Storms())
    with pytest.raises(ValidationError, match="north lies above"):
        Region(west=0, east=1, south=5, north=5)


def one_by_one(rain, times, dry_hours, block_hours):
    """Events of hourly times, by walking through them."""
    labels, last_wet, began, previous = [], -1e9, 0.0, None
    label = -1
    for hour, wet in zip(times, rain > 0, strict=True):
        last_wet = hour if wet else last_wet
        storm = hour - last_wet < dry_hours
        gap = previous is not None and hour - previous[0] > dry_hours
        if previous is None or storm != previous[1] or gap:
            label, began = label + 1, hour
        elif not storm and (hour - began) // block_hours != (previous[0] - began) // block_hours:
            label += 1
        labels.append(label)
        previous = (hour, storm)
    return labels


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    hours=st.integers(1, 400),
    dry_hours=st.integers(1, 12),
    block_hours=st.integers(1, 60),
    lost=st.sampled_from([0.0, 0.05, 0.5]),
)
def test_agrees_with_walking_through_time(seed, hours, dry_hours, block_hours, lost):
    random = np.random.default_rng(seed)
    rain = showers(hours, seed, every=20, lasting=5)
    held = np.flatnonzero(random.random(hours) >= lost)
    held = held if len(held) else np.array([0])
    steps = np.diff(held)
    if len(steps) and steps.min() > dry_hours:
        return
    columns = rainy_columns(rain).take(np.repeat(np.isin(np.arange(hours), held), 2))
    events = find_events(columns, Storms(dry_hours=dry_hours, dry_block_hours=block_hours))
    assert events_of_times(columns, events) == one_by_one(rain[held], held, dry_hours, block_hours)
    rows = [(label, len(list(group))) for label, group in groupby(events.of_row)]
    assert [label for label, _ in rows] == list(range(len(events)))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    known=st.integers(1, 500),
    kind=st.sampled_from([Storms(), Storms(dry_hours=2, dry_block_hours=9), Blocks(kind="blocks", hours=7)]),
)
def test_later_rows_change_no_event_of_earlier_ones(seed, known, kind):
    rain = showers(600, seed)
    before = find_events(rainy_columns(rain[:known]), kind)
    after = find_events(rainy_columns(rain), kind)
    np.testing.assert_array_equal(after.of_row[: 2 * known], before.of_row)
    assert after.names[: len(before)] == before.names
    assert (after.wet[: len(before)] == before.wet).all()
    # Only the newest can have grown.
    np.testing.assert_array_equal(after.end[: len(before) - 1], before.end[:-1])
