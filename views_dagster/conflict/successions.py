"""Which state held the land of today's states in earlier months.

A state that is younger than the data is dated as in Gleditsch & Ward's list of independent states, by which UCDP GED
numbers the states that events happen in; before, its land was its predecessor's. States that ended in a union with
another (East Germany in 1990-10, South Yemen in 1990-05) hold no land here: the union has it from the first month on.
"""

from collections.abc import Mapping
from typing import Final

import polars as pl

from views_dagster.calendar import from_key

_PREDECESSORS: Final[Mapping[int, Mapping[int, str]]] = {
    2: {986: "1994-10"},
    315: {316: "1993-01", 317: "1993-01"},
    345: {
        341: "2006-06",
        343: "1991-11",
        344: "1992-04",
        346: "1992-04",
        347: "2008-02",
        349: "1992-04",
    },
    365: {
        359: "1991-08",
        366: "1991-09",
        367: "1991-09",
        368: "1991-09",
        369: "1991-12",
        370: "1991-08",
        371: "1991-12",
        372: "1991-12",
        373: "1991-12",
        701: "1991-10",
        702: "1991-09",
        703: "1991-08",
        704: "1991-08",
        705: "1991-12",
    },
    530: {531: "1993-05"},
    560: {565: "1990-03"},
    625: {626: "2011-07"},
    850: {860: "2002-05"},
}
"""`{predecessor: {state: month of its independence}}`, Gleditsch-Ward numbers; Palau was administered by the USA."""

SUCCESSIONS: Final = pl.DataFrame(
    [
        (state, predecessor, from_key(month))
        for predecessor, states in _PREDECESSORS.items()
        for state, month in states.items()
    ],
    schema={"state": pl.Int64, "predecessor": pl.Int64, "since": pl.Int32},
    orient="row",
)
"""`state` holds its land from month id `since` on, and `predecessor` before."""
