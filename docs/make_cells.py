"""Make `views_dagster/conflict/cells.parquet`: land share and present-day country of each PRIO-GRID cell.

Input is `countries-10m.json` of the npm package world-atlas 2.0.2 (`npm pack world-atlas@2.0.2`): the countries of
Natural Earth 4.1.0 at 1:10 million, public domain, as TopoJSON. Each cell is sampled at 10 x 10 points; its country is
the one that holds most of them.

    python docs/make_cells.py countries-10m.json views_dagster/conflict/cells.parquet
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.geography import CELL_DEGREES, COLUMNS, ROWS

SAMPLES: Final = 10
STEP: Final = CELL_DEGREES / SAMPLES

# ISO 3166 numbers to Gleditsch-Ward numbers in UCDP's variant. Dependencies go to the state that administers them,
# Western Sahara to Morocco and Palestine to Israel, where UCDP locates their events.
STATES: Final = {
    840: 2, 630: 2, 850: 2, 580: 2, 316: 2, 16: 2, 581: 2, 124: 20, 44: 31, 192: 40, 332: 41, 214: 42, 388: 51,
    780: 52, 52: 53, 212: 54, 308: 55, 662: 56, 670: 57, 28: 58, 659: 60, 484: 70, 84: 80, 320: 90, 340: 91, 222: 92,
    558: 93, 188: 94, 591: 95, 170: 100, 862: 101, 328: 110, 740: 115, 218: 130, 604: 135, 76: 140, 68: 145, 600: 150,
    152: 155, 32: 160, 858: 165, 826: 200, 60: 200, 136: 200, 92: 200, 660: 200, 500: 200, 796: 200, 238: 200,
    239: 200, 654: 200, 86: 200, 831: 200, 832: 200, 833: 200, 612: 200, 292: 200, 372: 205, 528: 210, 531: 210,
    533: 210, 534: 210, 56: 211, 442: 212, 250: 220, 258: 220, 260: 220, 540: 220, 876: 220, 652: 220, 663: 220,
    666: 220, 492: 221, 438: 223, 756: 225, 724: 230, 20: 232, 620: 235, 276: 260, 616: 290, 40: 305, 348: 310,
    203: 316, 703: 317, 380: 325, 336: 327, 674: 331, 470: 338, 8: 339, 499: 341, 807: 343, 191: 344, 688: 345,
    70: 346, 705: 349, 300: 350, 196: 352, 100: 355, 498: 359, 642: 360, 643: 365, 233: 366, 428: 367, 440: 368,
    804: 369, 112: 370, 51: 371, 268: 372, 31: 373, 246: 375, 248: 375, 752: 380, 578: 385, 208: 390, 304: 390,
    234: 390, 352: 395, 132: 402, 678: 403, 624: 404, 226: 411, 270: 420, 466: 432, 686: 433, 204: 434, 478: 435,
    562: 436, 384: 437, 324: 438, 854: 439, 430: 450, 694: 451, 288: 452, 768: 461, 120: 471, 566: 475, 266: 481,
    140: 482, 148: 483, 178: 484, 180: 490, 800: 500, 404: 501, 834: 510, 108: 516, 646: 517, 706: 520, 262: 522,
    231: 530, 232: 531, 24: 540, 508: 541, 894: 551, 716: 552, 454: 553, 710: 560, 516: 565, 426: 570, 72: 571,
    748: 572, 450: 580, 174: 581, 480: 590, 690: 591, 504: 600, 732: 600, 12: 615, 788: 616, 434: 620, 729: 625,
    728: 626, 364: 630, 792: 640, 368: 645, 818: 651, 760: 652, 422: 660, 400: 663, 376: 666, 275: 666, 682: 670,
    887: 678, 414: 690, 48: 692, 634: 694, 784: 696, 512: 698, 4: 700, 795: 701, 762: 702, 417: 703, 860: 704,
    398: 705, 156: 710, 344: 710, 446: 710, 496: 712, 158: 713, 408: 731, 410: 732, 392: 740, 356: 750, 64: 760,
    586: 770, 50: 771, 104: 775, 144: 780, 462: 781, 524: 790, 764: 800, 116: 811, 418: 812, 704: 816, 458: 820,
    702: 830, 96: 835, 608: 840, 360: 850, 626: 860, 36: 900, 334: 900, 574: 900, 598: 910, 554: 920, 184: 920,
    570: 920, 548: 935, 90: 940, 296: 970, 242: 950, 776: 972, 520: 971, 584: 983, 585: 986, 583: 987, 882: 990,
    798: 973,
}  # fmt: skip
# Shapes without an ISO number, by name; those named in neither table are uninhabited reefs, or Antarctica.
UNNUMBERED: Final = {
    "Kosovo": 347, "Somaliland": 520, "N. Cyprus": 352, "Cyprus U.N. Buffer Zone": 352, "Dhekelia": 352,
    "Akrotiri": 352, "Siachen Glacier": 750, "Baikonur": 705, "USNB Guantanamo Bay": 40, "Indian Ocean Ter.": 900,
}  # fmt: skip
LEFT_OUT: Final = {
    "Antarctica", "Coral Sea Is.", "Spratly Is.", "Clipperton I.", "Bajo Nuevo Bank", "Serranilla Bank",
    "Scarborough Reef",
}  # fmt: skip
# 44 to 46.5 N, 32 to 36.5 E, as 0-based rows and columns.
CRIMEA_ROWS: Final = (268, 273)
CRIMEA_COLUMNS: Final = (424, 433)


def arcs_of(topology: dict[str, Any]) -> list[NDArray[np.float64]]:
    """Arcs as (points, 2) longitudes and latitudes; TopoJSON stores them as quantised differences."""
    scale, origin = (np.asarray(topology["transform"][name]) for name in ("scale", "translate"))
    return [np.cumsum(np.asarray(arc), axis=0) * scale + origin for arc in topology["arcs"]]


def edges_of(shape: dict[str, Any], arcs: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Edges (E, 2, 2) of all rings of a polygon or several; an arc numbered ~i is arc i backwards.

    Rings run on across the 180th meridian in the file. They are cut there: each edge that crosses it becomes two, and
    the west side, from -180 on, is closed between one crossing and the next.
    """
    polygons = shape["arcs"] if shape["type"] == "MultiPolygon" else [shape["arcs"]]
    numbers = [number for polygon in polygons for ring in polygon for number in ring]
    lines = [arcs[number] if number >= 0 else arcs[~number][::-1] for number in numbers]
    edges = np.concatenate([np.stack([line[:-1], line[1:]], axis=1) for line in lines])
    jumps = np.abs(edges[:, 1, 0] - edges[:, 0, 0]) > 180
    if not jumps.any():
        return edges
    start, end = edges[jumps, 0], edges[jumps, 1]
    side = np.sign(start[:, 0]) * 180
    across = end[:, 0] + 2 * side - start[:, 0]
    share = np.divide(side - start[:, 0], across, out=np.zeros_like(across), where=across != 0)
    latitude = start[:, 1] + share * (end[:, 1] - start[:, 1])
    leaves, enters = np.column_stack([side, latitude]), np.column_stack([-side, latitude])
    west = np.column_stack([np.full(len(latitude), -180.0), np.sort(latitude)]).reshape(-1, 2, 2)
    return np.concatenate([edges[~jumps], np.stack([start, leaves], axis=1), np.stack([enters, end], axis=1), west])


def covered(edges: NDArray[np.float64]) -> tuple[slice, NDArray[np.int64]]:
    """Grid rows (a slice, 0-based) and the number of sample points of each of their cells (rows, 720) in the shape.

    A sample is inside where a line from the west crosses an odd number of edges before it. A shape that lies between
    the samples covers none.
    """
    lowest, highest = edges[:, :, 1].min(axis=1), edges[:, :, 1].max(axis=1)
    first = np.ceil((lowest + 90) / STEP - 0.5).astype(np.int64)
    count = np.ceil((highest + 90) / STEP - 0.5).astype(np.int64) - first
    if not count.any():
        return slice(0, 0), np.zeros((0, COLUMNS), dtype=np.int64)
    edge = np.repeat(np.arange(len(edges)), count)
    line = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    (x0, y0), (x1, y1) = edges[edge, 0].T, edges[edge, 1].T
    crossing = x0 + ((line + 0.5) * STEP - 90 - y0) / (y1 - y0) * (x1 - x0)
    column = np.clip(np.ceil((crossing + 180) / STEP - 0.5).astype(np.int64), 0, COLUMNS * SAMPLES)
    south, north = int(line.min()) // SAMPLES, int(line.max()) // SAMPLES + 1
    flips = np.zeros(((north - south) * SAMPLES, COLUMNS * SAMPLES + 1), dtype=np.int64)
    np.add.at(flips, (line - south * SAMPLES, column), 1)
    inside = flips.cumsum(axis=1)[:, :-1] % 2
    return slice(south, north), inside.reshape(north - south, SAMPLES, COLUMNS, SAMPLES).sum(axis=(1, 3))


def main(source: Path, target: Path) -> None:
    """Read the shapes, sample the cells, write the table."""
    topology = json.loads(source.read_text())
    arcs = arcs_of(topology)
    held: dict[int, NDArray[np.int64]] = {}
    for shape in topology["objects"]["countries"]["geometries"]:
        name = shape["properties"]["name"]
        if name in LEFT_OUT:
            continue
        state = UNNUMBERED[name] if name in UNNUMBERED else STATES[int(shape["id"])]
        rows, points = covered(edges_of(shape, arcs))
        held.setdefault(state, np.zeros((ROWS, COLUMNS), dtype=np.int64))[rows] += points
    states = np.array(sorted(held))
    points = np.stack([held[state].ravel() for state in states])
    # Natural Earth shows who rules Crimea; UCDP and Gleditsch & Ward leave it with Ukraine.
    crimea = np.zeros((ROWS, COLUMNS), dtype=bool)
    crimea[slice(*CRIMEA_ROWS), slice(*CRIMEA_COLUMNS)] = True
    russia, ukraine = np.searchsorted(states, [365, 369])
    points[ukraine, crimea.ravel()] += points[russia, crimea.ravel()]
    points[russia, crimea.ravel()] = 0
    land = points.sum(axis=0)
    cells = np.flatnonzero(land)
    table = pl.DataFrame(
        {
            "gid": pl.Series(cells + 1, dtype=pl.Int32),
            "gwno": pl.Series(states[points[:, cells].argmax(axis=0)], dtype=pl.Int16),
            "land_share": pl.Series(np.minimum(land[cells], SAMPLES**2) / SAMPLES**2, dtype=pl.Float32),
        }
    )
    table.write_parquet(target, compression="zstd", compression_level=22)
    print(f"{table.height} cells of {len(states)} states, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
