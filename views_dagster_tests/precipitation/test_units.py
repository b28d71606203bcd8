import pytest

from views_dagster.errors import SourceError
from views_dagster.precipitation.units import FIELDS, RAIN, conversion


@pytest.mark.parametrize(
    ("units", "value", "unit", "converted"),
    [
        ("degC", 20.0, "K", 293.15),
        ("degK", 280.0, "K", 280.0),
        ("Celsius", 0.0, "K", 273.15),
        ("Pa", 101325.0, "hPa", 1013.25),
        ("millibar", 850.0, "hPa", 850.0),
        ("mb", 850.0, "hPa", 850.0),
        ("Pa s**-1", 0.5, "Pa s-1", 0.5),
        ("Pascal/s", 0.5, "Pa s-1", 0.5),
        ("%", 75.0, "1", 0.75),
        ("(0 - 1)", 0.75, "1", 0.75),
        ("1", 0.75, "1", 0.75),
        ("g/kg", 5.0, "1", 0.005),
        ("kg kg**-1", 0.005, "1", 0.005),
        ("m/s", 3.0, "m s-1", 3.0),
        ("m**2 s**-2", 9806.65, "m", 1000.0),
        ("m2/s2", 9806.65, "m", 1000.0),
        ("gpm", 1500.0, "m", 1500.0),
        ("Degree true", 270.0, "degree", 270.0),
    ],
)
def test_fields(units: str, value: float, unit: str, converted: float) -> None:
    found = conversion(units, FIELDS, where="here")
    assert found.unit == unit
    assert value * found.factor + found.offset == pytest.approx(converted)


@pytest.mark.parametrize(
    ("units", "value", "unit", "converted"),
    [
        ("mm/day", 24.0, "mm h-1", 1.0),
        ("mm d-1", 24.0, "mm h-1", 1.0),
        ("mm/hr", 2.0, "mm h-1", 2.0),
        ("kg m-2 s-1", 1 / 3600, "mm h-1", 1.0),
        ("Kg/m^2/s", 1 / 3600, "mm h-1", 1.0),
        ("m s**-1", 1 / 3.6e6, "mm h-1", 1.0),
        ("kg m**-2", 5.0, "mm", 5.0),
        ("mm", 5.0, "mm", 5.0),
        ("m", 0.005, "mm", 5.0),
        ("m of water equivalent", 0.005, "mm", 5.0),
    ],
)
def test_rain(units: str, value: float, unit: str, converted: float) -> None:
    found = conversion(units, RAIN, where="here")
    assert found.unit == unit
    assert value * found.factor + found.offset == pytest.approx(converted)


@pytest.mark.parametrize("units", ["furlong", "unknown", "mm2", "kg m-2 s-2", "K m", "%/s", "-", "???"])
def test_other_units_are_refused_and_named(units: str) -> None:
    with pytest.raises(SourceError, match=r"rain\.nc: units"):
        conversion(units, RAIN, where="rain.nc")
