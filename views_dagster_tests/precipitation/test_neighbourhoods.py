"""Windows of boxes: a slow reference with gaps, and the `scores` package where there are none."""

import numpy as np
import pytest
from numpy.typing import NDArray

from views_dagster.errors import PanelError
from views_dagster.precipitation import neighbourhoods
from views_dagster.precipitation.neighbourhoods import window_sums

Array = NDArray[np.float64]
START = np.datetime64("2020-01-01T00", "s")


def world(
    times: int, shape: tuple[int, int], keep: float = 1.0, seed: int = 0
) -> tuple[Array, Array, NDArray[np.int64], NDArray[np.int64]]:
    """Predicted and observed (N, 2), time number and box id of N rows in random order."""
    rng = np.random.default_rng(seed)
    boxes = shape[0] * shape[1]
    rows = rng.permutation(times * boxes)
    rows = rows[rng.random(len(rows)) < keep]
    said, seen = rng.random((2, len(rows), 2)) * (rng.random((2, len(rows), 2)) < 0.4)
    return said, seen, rows // boxes, rows % boxes


def fss(sums: Array) -> Array:
    return np.asarray(1 - sums[..., 0] / sums[..., 1])


def slow(
    said: Array,
    seen: Array,
    time: NDArray[np.int64],
    box: NDArray[np.int64],
    shape: tuple[int, int],
    size: int,
    least: float,
) -> list[float]:
    """(p - o)^2 and p^2 + o^2 of the first threshold, one window and box after the other."""
    at = {(int(t), int(b)): (p[0], o[0]) for t, b, p, o in zip(time, box, said, seen, strict=True)}
    sums = [0.0, 0.0]
    for t in np.unique(time):
        for row in range(shape[0] - size + 1):
            for column in range(shape[1] - size + 1):
                inside = [
                    at[int(t), r * shape[1] + c]
                    for r in range(row, row + size)
                    for c in range(column, column + size)
                    if (int(t), r * shape[1] + c) in at
                ]
                if len(inside) >= max(least * size**2, 1):
                    p, o = (sum(values) / len(inside) for values in zip(*inside, strict=True))
                    sums[0] += (p - o) ** 2
                    sums[1] += p**2 + o**2
    return sums


@pytest.mark.parametrize("least", [0.5, 1.0])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_windows_are_those_of_the_slow_reference_gaps_or_not(size: int, least: float) -> None:
    said, seen, time, box = world(3, (7, 6), keep=0.6)
    found = window_sums(
        [said], seen, box, START + time, np.zeros(len(box), dtype=np.intp), 1, (7, 6), sizes=[size], least_present=least
    )
    np.testing.assert_allclose(found[0, 0, 0, 0], slow(said, seen, time, box, (7, 6), size, least), atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(9, 12), (20, 15)])
def test_without_gaps_it_is_the_scores_package(shape: tuple[int, int]) -> None:
    import xarray as xr
    from scores.spatial import fss_2d_binary

    said, seen, time, box = world(4, shape, seed=5)
    sizes = (1, 3, 5, 7, 9)
    found = fss(window_sums([said], seen, box, START + time, np.zeros(len(box), dtype=np.intp), 1, shape, sizes=sizes))
    fields = np.empty((2, 4, 2, *shape))
    for which, values in enumerate((said, seen)):
        fields[which, time, :, box // shape[1], box % shape[1]] = values
    for place, size in enumerate(sizes):
        for threshold in range(2):
            forecast, observed = (xr.DataArray(each[:, threshold], dims=["time", "y", "x"]) for each in fields)
            theirs = fss_2d_binary(
                forecast,
                observed,
                window_size=(size, size),
                spatial_dims=("y", "x"),
                reduce_dims=["time"],
                check_boolean=False,
            )
            np.testing.assert_allclose(found[0, 0, place, threshold], float(theirs), atol=1e-9, rtol=0)


def test_events_never_share_a_window_and_models_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    said, seen, time, box = world(2, (6, 6), seed=7)
    event = (box % 6 >= 3).astype(np.intp)
    other = said[::-1].copy()
    found = window_sums([said, other], seen, box, START + time, event, 2, (6, 6), sizes=[3])
    for number in (0, 1):
        mine = event == number
        for model, values in enumerate((said, other)):
            expected = slow(values[mine], seen[mine], time[mine], box[mine], (6, 6), 3, 0.5)
            np.testing.assert_allclose(found[model, number, 0, 0], expected, atol=1e-9)
    monkeypatch.setattr(neighbourhoods, "_VALUES_AT_ONCE", 1)
    np.testing.assert_allclose(
        window_sums([said, other], seen, box, START + time, event, 2, (6, 6), sizes=[3]), found, rtol=1e-12
    )


def test_a_window_wider_than_the_lattice_has_no_sums() -> None:
    said, seen, time, box = world(1, (4, 9))
    assert not window_sums([said], seen, box, START + time, np.zeros(36, dtype=np.intp), 1, (4, 9), sizes=[5]).any()


def test_boxes_off_the_lattice_and_repeated_boxes_are_refused() -> None:
    said, seen, time, box = world(1, (4, 4))
    one = np.zeros(16, dtype=np.intp)
    with pytest.raises(PanelError, match=r"boxes 0\.\.15 are not all on the lattice of 3 x 4"):
        window_sums([said], seen, box, START + time, one, 1, (3, 4))
    with pytest.raises(PanelError, match="1 rows repeat the box and valid time"):
        window_sums([said], seen, np.where(box == 3, 2, box), START + time, one, 1, (4, 4))
