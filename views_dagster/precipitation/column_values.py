"""The values that the files of one variable have for boxes and times."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from views_dagster.precipitation.box_matching import BoxPoints
from views_dagster.precipitation.box_means import BoxMeans
from views_dagster.precipitation.box_sums import Floats
from views_dagster.precipitation.column_times import Targets
from views_dagster.precipitation.units import FIELDS
from views_dagster.precipitation.weather_files import WeatherField


@dataclass(frozen=True)
class Domain:
    """A variable's files of one grid, the boxes in it, and, but for static fields, the times they are of.

    `levels` are the positions in each file, since files may differ in the order of their levels; None for a variable
    without.
    """

    fields: Sequence[WeatherField]
    boxes: BoxPoints | BoxMeans
    levels: list[list[int]] | None
    targets: Targets | None


def times_of(domains: Sequence[Domain]) -> NDArray[np.datetime64]:
    """The valid times that some of the files have."""
    return np.unique(np.concatenate([domain.targets.time for domain in domains if domain.targets is not None]))


def values_of(domains: Sequence[Domain], box_id: NDArray[np.int64], times: NDArray[np.datetime64] | None) -> Floats:
    """(times, boxes, levels) float32 of a variable in its table unit; the first domain that has a value gives it."""
    result: Floats | None = None
    for domain in domains:
        inside = np.isin(domain.boxes.box_id, box_id)
        columns = np.searchsorted(box_id, domain.boxes.box_id[inside])
        found = _read(domain, inside, times)
        if result is None:
            result = np.full((found.shape[0], len(box_id), found.shape[2]), np.nan, np.float32)
        held = result[:, columns]
        result[:, columns] = np.where(np.isnan(held), found, held)
    assert result is not None
    return result


def _read(domain: Domain, inside: NDArray[np.bool_], times: NDArray[np.datetime64] | None) -> Floats:
    """(times, the domain's boxes, levels) float32, NaN at times that the domain's files do not have."""
    depth = 1 if domain.levels is None else len(domain.levels[0])
    result = np.zeros((1 if times is None else len(times), int(inside.sum()), depth), np.float32)
    count, per_time = np.zeros(len(result), dtype=int), np.ones(len(result), dtype=int)
    for number, field in enumerate(domain.fields):
        if times is None or domain.targets is None:
            record, place = np.zeros(1, dtype=np.intp), np.zeros(1, dtype=np.intp)
            if number:
                break
        else:
            mine = (domain.targets.records.file == number) & np.isin(domain.targets.time, times)
            record, place = domain.targets.records.record[mine], np.searchsorted(times, domain.targets.time[mine])
            per_time[place] = domain.targets.per_time[mine]
        levels = None if domain.levels is None else domain.levels[number]
        order = np.argsort(record)
        conversion = field.conversion(FIELDS)
        for part, values in domain.boxes.read(field, record[order], levels):
            at = place[order[part]]
            boxed = values[:, :, inside].transpose(0, 2, 1)
            boxed = boxed * np.float32(conversion.factor) + np.float32(conversion.offset)
            if (per_time[at] == 1).all():
                result[at] = boxed
            else:
                np.add.at(result, at, boxed)
            np.add.at(count, at, 1)
    result /= per_time.astype(np.float32)[:, None, None]
    result[count != per_time] = np.nan
    return result
