"""Means of NWP members over squares of boxes, against a slow version and around the globe."""

import numpy as np
import polars as pl
import pytest

from views_dagster.errors import QuerysetError
from views_dagster.precipitation.boxes import BoxGrid
from views_dagster.precipitation.column_rows import compute
from views_dagster.precipitation.column_sets import ColumnSet
from views_dagster.precipitation.member_means import member_means
from views_dagster_tests.precipitation.raw_worlds import JANUARY, raw_columns, raw_members, raw_rain, times

GRID = BoxGrid(latitude=0, longitude=0, step=1, rows=4, columns=5)


def said(grid: BoxGrid, keep: float = 1.0) -> pl.DataFrame:
    random = np.random.default_rng(2)
    when = times(2)
    rows = pl.DataFrame(
        {
            "valid_time": pl.Series([time for time in when for _ in range(grid.count)], dtype=pl.Datetime("us")),
            "box_id": np.tile(np.arange(grid.count), 2),
            "members": pl.Series(random.gamma(1.0, 2.0, (2 * grid.count, 3)).astype(np.float32)).arr.to_list(),
        }
    )
    return rows.filter(pl.Series(random.uniform(size=rows.height) < keep)).sample(fraction=1, shuffle=True, seed=1)


def slow(rows: pl.DataFrame, grid: BoxGrid, width: int, *, around: bool) -> list[float]:
    held = {(time, *divmod(box, grid.columns)): float(np.mean(rain)) for time, box, rain in rows.iter_rows()}
    out = []
    for time, box, _ in rows.iter_rows():
        row, column = divmod(box, grid.columns)
        near = []
        for other in range(row - width // 2, row + width // 2 + 1):
            for beside in range(column - width // 2, column + width // 2 + 1):
                found = held.get((time, other, beside % grid.columns if around else beside))
                near += [] if found is None else [found]
        out.append(np.cbrt(np.mean(near)))
    return out


@pytest.mark.parametrize("keep", [1.0, 0.6])
@pytest.mark.parametrize("width", [1, 3, 7])
def test_equal_to_a_slow_version(width: int, keep: float) -> None:
    rows = said(GRID, keep)
    found = member_means(rows, GRID, [width])
    assert found.select("valid_time", "box_id").equals(rows.select("valid_time", "box_id"))
    np.testing.assert_allclose(found[f"nwp_rain_{width}"], slow(rows, GRID, width, around=False), rtol=1e-6)


def test_a_lattice_around_the_globe_has_no_ends() -> None:
    globe = BoxGrid(latitude=0, longitude=0, step=(1, 60), rows=3, columns=6)
    rows = said(globe)
    np.testing.assert_allclose(
        member_means(rows, globe, [3])["nwp_rain_3"], slow(rows, globe, 3, around=True), rtol=1e-6
    )


def test_they_are_variables_of_a_column_set_and_rows_without_members_leave() -> None:
    columns = raw_columns(times(3))
    rain, members = raw_rain(columns), raw_members(columns).filter(pl.col("box_id") != 2)
    settings = ColumnSet.model_validate(
        {
            **{"columns": "air", "rain": "gauges", "members": "ensemble", "levels": {"unit": "hPa"}},
            **{"profiles": ["t"], "static": ["oro"], "member_means": [1, 3]},
        }
    )
    grid = BoxGrid(latitude=45, longitude=5, step=1, rows=2, columns=2)
    frame, report = compute(settings, columns.lazy(), rain.lazy(), members.lazy(), JANUARY, JANUARY, grid)
    assert settings.surface_names == ("oro", "nwp_rain_1", "nwp_rain_3")
    assert (frame.height, report.rows, report.dropped_incomplete, report.incomplete) == (9, 9, 3, {"ensemble": 3})
    own = frame["members"].list.mean().to_numpy()
    np.testing.assert_allclose(frame["nwp_rain_1"], np.cbrt(own), rtol=1e-6)
    np.testing.assert_allclose(frame["nwp_rain_3"], np.cbrt(np.repeat(own.reshape(3, 3).mean(1), 3)), rtol=1e-6)
    with pytest.raises(QuerysetError, match="the lattice of the boxes is not given"):
        compute(settings, columns.lazy(), rain.lazy(), members.lazy(), JANUARY, JANUARY)


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"member_means": [2]}, "odd numbers"), ({"members": None, "member_means": [3]}, "name one")],
)
def test_what_cannot_be_meant_is_refused(changed: dict[str, object], message: str) -> None:
    sound = {"columns": "air", "rain": "gauges", "members": "ensemble", "levels": {"unit": "hPa"}, "profiles": ["t"]}
    with pytest.raises(ValueError, match=message):
        ColumnSet.model_validate({**sound, **changed})
