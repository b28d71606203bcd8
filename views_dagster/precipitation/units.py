"""Units of weather variables: how they are spelt, and what each is converted to. The whole table stands here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from views_dagster.errors import SourceError


@dataclass(frozen=True)
class Conversion:
    """`value * factor + offset` is in `unit`."""

    unit: str
    factor: float = 1.0
    offset: float = 0.0


STANDARD_GRAVITY: Final = 9.80665
"""m s-2, by which geopotential is divided for geopotential height (WMO)."""

FIELDS: Final[Mapping[str, Conversion]] = {
    "k": Conversion("K"),
    "degc": Conversion("K", offset=273.15),
    "pa": Conversion("hPa", 0.01),
    "hpa": Conversion("hPa"),
    "pa s-1": Conversion("Pa s-1"),
    "hpa s-1": Conversion("Pa s-1", 100.0),
    "%": Conversion("1", 0.01),
    "1": Conversion("1"),
    "kg kg-1": Conversion("1"),
    "g kg-1": Conversion("1", 0.001),
    "m s-1": Conversion("m s-1"),
    "m": Conversion("m"),
    "km": Conversion("m", 1000.0),
    "gpm": Conversion("m"),
    "dam": Conversion("m", 10.0),
    "m2 s-2": Conversion("m", 1 / STANDARD_GRAVITY),
    "j kg-1": Conversion("J kg-1"),
    "j m-2": Conversion("J m-2"),
    "w m-2": Conversion("W m-2"),
    "kg m-2": Conversion("kg m-2"),
    "kg m-2 s-1": Conversion("kg m-2 s-1"),
    "mm": Conversion("kg m-2"),
    "s-1": Conversion("s-1"),
    "degree": Conversion("degree"),
}
"""Units of profile, single-level and static variables. `m` is a length: for depths of water see `RAIN`."""

RAIN: Final[Mapping[str, Conversion]] = {
    "mm h-1": Conversion("mm h-1"),
    "kg m-2 h-1": Conversion("mm h-1"),
    "mm s-1": Conversion("mm h-1", 3600.0),
    "kg m-2 s-1": Conversion("mm h-1", 3600.0),
    "m s-1": Conversion("mm h-1", 3_600_000.0),
    "mm d-1": Conversion("mm h-1", 1 / 24),
    "kg m-2 d-1": Conversion("mm h-1", 1 / 24),
    "cm d-1": Conversion("mm h-1", 10 / 24),
    "mm": Conversion("mm"),
    "kg m-2": Conversion("mm"),
    "cm": Conversion("mm", 10.0),
    "m": Conversion("mm", 1000.0),
}
"""Units of rain: rates become mm/h, amounts become mm of the interval. A kilogram a square metre is 1 mm of water."""

_WHOLE: Final = {
    "": "",
    "0-1": "1",
    "(0-1)": "1",
    "(0 - 1)": "1",
    "fraction": "1",
    "dimensionless": "1",
    "unitless": "1",
    "non-dim": "1",
    "proportion": "1",
    "percent": "%",
    "percentage": "%",
    "degree true": "degree",
    "m of water equivalent": "m",
    "deg c": "degc",
    "degrees c": "degc",
    "degree c": "degc",
    "degrees celsius": "degc",
    "degree celsius": "degc",
    "degrees k": "k",
}
_TOKENS: Final = {
    **dict.fromkeys(("kelvin", "degk", "deg_k", "degrees_kelvin", "degree_kelvin"), "k"),
    **dict.fromkeys(("c", "celsius", "°c", "deg_c", "degrees_celsius", "degree_celsius", "degreesc"), "degc"),
    **dict.fromkeys(("pascal", "pascals"), "pa"),
    **dict.fromkeys(("mb", "mbar", "mbars", "millibar", "millibars", "hectopascal", "hectopascals"), "hpa"),
    **dict.fromkeys(("meter", "meters", "metre", "metres"), "m"),
    **dict.fromkeys(("millimeter", "millimeters", "millimetre", "millimetres"), "mm"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
    **dict.fromkeys(("sec", "second", "seconds"), "s"),
    **dict.fromkeys(("degrees", "deg"), "degree"),
}
_TOKEN: Final = re.compile(r"([^\d\s]+?)([+-]?\d+)?")


def spelt(units: str) -> str:
    """The one spelling under which a unit stands in the tables: `Kg/m^2/s` and `kg m**-2 s**-1` are `kg m-2 s-1`."""
    text = " ".join(units.casefold().replace("**", "").replace("^", "").split())
    if text in _WHOLE:
        return _WHOLE[text]
    parts: list[tuple[str, int]] = []
    for position, product in enumerate(text.split("/")):
        for order, token in enumerate(re.split(r"[\s*.·]+", product.strip())):
            match = _TOKEN.fullmatch(token)
            if match is None:
                if token in ("1", ""):
                    continue
                return text
            sign = -1 if position and order == 0 else 1
            parts.append((_TOKENS.get(match[1], match[1]), sign * int(match[2] or 1)))
    if not parts:
        return text
    return " ".join(name if power == 1 else f"{name}{power}" for name, power in parts)


def conversion(units: str, table: Mapping[str, Conversion], *, where: str) -> Conversion:
    """What the units are converted to.

    Args:
        table: `FIELDS` or `RAIN`.
        where: the variable and file, for the message.

    Raises:
        SourceError: the table does not have them.
    """
    found = table.get(spelt(units))
    if found is None:
        raise SourceError(
            f"{where}: units {units!r} are not known; known are {', '.join(sorted(table))}. If the variable is in one "
            f"of those, say so with `units:`"
        )
    return found
