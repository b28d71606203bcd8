"""Which rows train, which validate and which test: whole events, with a buffer in time and space between sides.

Two rows are neighbours when their valid times are at most `buffer_hours` apart and their regions are the same, or the
one row's box lies within `buffer_degrees` of the other's region. Neighbours are never on two sides: what is near test
leaves validation and training, what is near validation leaves training, and test rows always stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from views_dagster.calendar import describe_months
from views_dagster.errors import PanelError
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.events import Events, find_events
from views_dagster.precipitation.split_settings import SIDES, EventRecord, SplitRecord, SplitSettings
from views_dagster.seeds import seed_for

LEFT_OUT: Final = ("near_another_side", "event_of_test", "unobserved", "outside_regions")
_TRAIN, _VALIDATION, _TEST, _NEAR, _EVENT_OF_TEST, _UNOBSERVED, _OUTSIDE = range(len(SIDES) + len(LEFT_OUT))


@dataclass(frozen=True)
class Split:
    """Positions of rows by side, ascending, each row on at most one; and the record of it.

    Attributes:
        train, validation, test: positions of rows with observed rain.
        event_of_row: (N,) position in `record.events` of each row's event, -1 for rows in no region.
        record: what is saved.
    """

    train: NDArray[np.intp]
    validation: NDArray[np.intp]
    test: NDArray[np.intp]
    event_of_row: NDArray[np.intp]
    record: SplitRecord


def split(columns: Columns, settings: SplitSettings) -> Split:
    """Divide the rows; `test` is empty where the rain of the test months is not known yet.

    Validation events are drawn by seed from strata of events of like wetness: ordered by how much of the boxes the
    heaviest band covered in them, then the next. The wettest stratum gives an event that reaches the heaviest band
    where two of its events do, so that both sides have heavy rain.

    Raises:
        PanelError: too few months or events, or a side would be empty.
    """
    return _Period.of(columns, settings).divided()


def folds(columns: Columns, settings: SplitSettings, count: int) -> tuple[Split, ...]:
    """Cross-validation over the events that are not test: each validates in one fold; `test` is empty in all.

    Each stratum of `count` events of like wetness gives one to every fold, by seed. Buffers are those of `split`, to
    test too; test rows count as left out.

    Raises:
        PanelError: fewer events (or months) than folds, or a fold would have an empty side.
    """
    if count < 2:
        raise PanelError(f"{count} folds are no cross-validation; ask for 2 or more")
    return _Period.of(columns, settings).folded(count)


@dataclass(frozen=True)
class _Period:
    """The rows with test set aside, and the groups of events that are still to be divided."""

    columns: Columns
    settings: SplitSettings
    events: Events
    side: NDArray[np.int8]
    group_of_row: NDArray[np.intp]
    order: NDArray[np.intp]
    heaviest: NDArray[np.bool_]

    @classmethod
    def of(cls, columns: Columns, settings: SplitSettings) -> "_Period":
        events = find_events(columns, settings.events, settings.regions)
        test = _test_rows(columns, settings, events)
        with_test = np.zeros(len(events) + 1, dtype=bool)
        with_test[events.of_row[test]] = True
        with_test[-1] = False
        side = np.full(len(columns), _TRAIN, dtype=np.int8)
        side[with_test[events.of_row]] = _EVENT_OF_TEST
        side[test] = _TEST
        side[~columns.observed] = _UNOBSERVED
        side[events.of_row < 0] = _OUTSIDE
        side[(side == _TRAIN) & _near(columns, events, settings, side == _TRAIN, test)] = _NEAR
        group_of_event = np.arange(len(events))
        if settings.by == "month":
            group_of_event = np.full(len(events) + 1, np.iinfo(np.intp).max)
            # An event that crosses into a month belongs to the one it began in.
            np.minimum.at(group_of_event, events.of_row, columns.month_id)
        group_of_row = np.full(len(columns), -1, dtype=np.intp)
        free = side == _TRAIN
        labels, group_of_row[free] = np.unique(group_of_event[events.of_row[free]], return_inverse=True)
        area = np.stack(
            [
                np.bincount(group_of_row[free], weights=band, minlength=len(labels)).round(6)
                for band in columns.fractions[free].T
            ],
            axis=1,
        )
        # The last key counts most: the heaviest band. Groups are in order of time where bands do not tell them apart.
        order = np.lexsort((np.arange(len(labels)), *-area[:, 1:].T))
        occurring = np.flatnonzero(area.any(axis=0))
        return cls(columns, settings, events, side, group_of_row, order, area[:, occurring.max(initial=0)] > 0)

    def divided(self) -> Split:
        groups = len(self.order)
        if groups < 2:
            raise PanelError(self._too_few(groups, 2))
        random = np.random.default_rng(seed_for("split", self.settings.seed))
        strata = np.array_split(self.order, max(1, round(self.settings.validation_share * groups)))
        heaviest = strata[0][self.heaviest[strata[0]]]
        if len(heaviest) >= 2:
            strata[0] = heaviest
        chosen = [int(random.choice(stratum)) for stratum in strata]
        return self._with_validation(chosen, "split")

    def folded(self, count: int) -> tuple[Split, ...]:
        groups = len(self.order)
        if groups < count:
            raise PanelError(self._too_few(groups, count))
        random = np.random.default_rng(seed_for("folds", self.settings.seed, count))
        fold_of = np.empty(groups, dtype=np.intp)
        for start in range(0, groups, count):
            stratum = self.order[start : start + count]
            fold_of[stratum] = random.permutation(count)[: len(stratum)]
        return tuple(
            self._with_validation(np.flatnonzero(fold_of == fold).tolist(), f"fold {fold + 1} of {count}", test=False)
            for fold in range(count)
        )

    def _with_validation(self, chosen: Sequence[int], what: str, *, test: bool = True) -> Split:
        side = self.side.copy()
        side[np.isin(self.group_of_row, chosen)] = _VALIDATION
        train = side == _TRAIN
        side[train & _near(self.columns, self.events, self.settings, train, side == _VALIDATION)] = _NEAR
        if not (side == _TRAIN).any():
            raise PanelError(
                f"{what}: no row is left to train on once {len(chosen)} of {len(self.order)} {self.settings.by}s "
                f"validate and rows within {self.settings.buffer_hours:g} hours of them leave; lower buffer_hours, "
                "take more months, or set by: month"
            )
        if not test:
            side[side == _TEST] = _EVENT_OF_TEST
        return _as_split(self.events, self.settings, side)

    def _too_few(self, found: int, needed: int) -> str:
        months = describe_months(self.columns.month_id[self.side == _TRAIN].tolist()) or "no month"
        return (
            f"{found} {self.settings.by}{'' if found == 1 else 's'} with observed rain in {months} can train or "
            f"validate, and {needed} are needed (test and what is within {self.settings.buffer_hours:g} hours of it "
            "set aside): take more months, lower buffer_hours or test_months, or make events shorter: raise wet_share, "
            "lower dry_hours, dry_block_hours and storm_block_hours, or use events: {kind: blocks, hours: ...}"
        )


def _test_rows(columns: Columns, settings: SplitSettings, events: Events) -> NDArray[np.bool_]:
    if settings.test_regions:
        wanted = [events.regions.index(name) for name in settings.test_regions]
        return np.isin(events.region_of_row, wanted)
    months = np.unique(columns.month_id)
    newest = int(months[-1]) - settings.months_of_test
    if months[0] > newest:
        raise PanelError(
            f"columns of {describe_months(months.tolist())} are all in the newest months, which are the test, and none "
            "are left to train on; materialise earlier months, lower test_months, or test on regions with test_regions"
        )
    rows: NDArray[np.bool_] = (columns.month_id > newest) & (events.of_row >= 0)
    return rows


def _near(
    columns: Columns,
    events: Events,
    settings: SplitSettings,
    rows: NDArray[np.bool_],
    others: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """(N,) which of `rows` are neighbours of any of `others`."""
    found = np.zeros(len(columns), dtype=bool)
    seconds = columns.valid_time.astype("datetime64[s]").astype(np.int64)
    regions = list(settings.regions.values())
    for there in range(len(events.regions)):
        times = np.unique(seconds[others & (events.region_of_row == there)])
        if not len(times):
            continue
        candidates = np.flatnonzero(rows)
        if regions:
            close = regions[there].distance(columns.latitude[candidates], columns.longitude[candidates])
            same = events.region_of_row[candidates] == there
            candidates = candidates[same | (close <= settings.buffer_degrees)]
        at = seconds[candidates]
        after = np.searchsorted(times, at)
        gap = np.minimum(
            np.abs(times[np.minimum(after, len(times) - 1)] - at), np.abs(at - times[np.maximum(after - 1, 0)])
        )
        found[candidates[gap <= settings.buffer_hours * 3600]] = True
    return found


def _as_split(events: Events, settings: SplitSettings, side: NDArray[np.int8]) -> Split:
    counted = np.zeros((len(events) + 1, len(SIDES) + len(LEFT_OUT)), dtype=np.int64)
    np.add.at(counted, (events.of_row, side), 1)
    counted = counted[:-1] if len(events) else counted
    kept = counted[:, : len(SIDES)]
    starts, ends = (times.astype("datetime64[s]").tolist() for times in (events.start, events.end))
    records = tuple(
        EventRecord(
            name=name,
            region=events.regions[events.region[position]],
            start=starts[position],
            end=ends[position],
            storm=bool(events.wet[position]),
            side=SIDES[int(kept[position].argmax())] if kept[position].any() else None,
            rows=int(kept[position].sum()),
            left_out=int(counted[position, len(SIDES) :].sum()),
        )
        for position, name in enumerate(events.names)
    )
    totals = np.bincount(side, minlength=len(SIDES) + len(LEFT_OUT)).tolist()
    record = SplitRecord(
        settings=settings,
        rows=dict(zip(SIDES, totals, strict=False)),
        left_out=dict(zip(LEFT_OUT, totals[len(SIDES) :], strict=True)),
        events=records,
    )
    train, validation, test = (np.flatnonzero(side == code) for code in (_TRAIN, _VALIDATION, _TEST))
    return Split(train, validation, test, events.of_row, record)
