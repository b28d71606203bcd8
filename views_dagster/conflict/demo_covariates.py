"""Slow covariates of the demo world, by region and year: development, democracy, and the indicators that follow them.

They drive the risk of violence and are published by country under the names of the World Bank and V-Dem, with gaps.
Violence does not act back on them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.calendar import month_id_of, year_month
from views_dagster.conflict.demo_geography import REGIONS, WORLD_FIRST, WORLD_LAST, demo_map
from views_dagster.seeds import seed_for

CovariateTable = Literal["world_bank", "vdem"]
FIRST_YEAR: Final = 1985
LAST_YEAR: Final = year_month(WORLD_LAST)[0]
YEARS: Final = LAST_YEAR - FIRST_YEAR + 1

# Share of country-years without a value; half of it are countries that never report, half single years.
MISSING: Final[Mapping[CovariateTable, Mapping[str, float]]] = {
    "world_bank": {
        "sp_pop_totl": 0.0,
        "sp_dyn_imrt_in": 0.02,
        "ny_gdp_pcap_cd": 0.03,
        "sp_urb_totl_in_zs": 0.0,
        "sp_dyn_tfrt_in": 0.02,
        "se_sec_enrr_fe": 0.35,
        "nv_agr_totl_zs": 0.08,
        "ms_mil_xpnd_gd_zs": 0.15,
    },
    "vdem": dict.fromkeys(
        ("v2x_polyarchy", "v2x_libdem", "v2x_partipdem", "v2x_civlib", "v2x_clphy", "v2xpe_exlsocgr"), 0.04
    ),
}
COLUMNS: Final[Mapping[CovariateTable, tuple[str, ...]]] = {table: tuple(share) for table, share in MISSING.items()}
_NOISES: Final = 10


@dataclass(frozen=True)
class RegionYears:
    """Covariates of regions: each array is (Y, R) float64, years from `FIRST_YEAR` on.

    Attributes:
        values: indicator name to its values, in the unit of the World Bank or V-Dem.
        risk: structural risk of violence that the indicators imply, standardised over the regions in each year.
    """

    values: Mapping[str, NDArray[np.float64]]
    risk: NDArray[np.float64]


@lru_cache(maxsize=4)
def region_years(seed: int) -> RegionYears:
    """Covariates of every region and year of the world with this seed; a year depends on no later one."""
    world = demo_map(seed)
    rng = np.random.Generator(np.random.PCG64(seed_for("demo_covariates", seed)))
    start = rng.standard_normal((REGIONS, _NOISES))
    steps = rng.standard_normal((YEARS, REGIONS, _NOISES))
    noise = np.empty_like(steps)
    noise[0] = start
    for index in range(1, YEARS):
        noise[index] = 0.97 * noise[index - 1] + 0.243 * steps[index]

    year = np.arange(YEARS)[:, None]
    level = 3.2 * (world.development - 0.5)
    wealth = level + 0.025 * (year - 4) + 0.25 * noise[:, :, 0]
    openness = 0.75 * level + 0.012 * (year - 10) + 0.9 * noise[:, :, 1]
    settled = np.bincount(world.region, weights=world.people, minlength=REGIONS)
    growth = np.clip(0.014 - 0.008 * level, 0.0, 0.035)
    values = {
        "sp_pop_totl": np.rint(36 * settled * np.exp(growth * year + 0.5 * noise[0, :, 2])),
        "sp_dyn_imrt_in": np.exp(3.25 - 1.0 * wealth + 0.25 * noise[:, :, 3]),
        "ny_gdp_pcap_cd": np.exp(7.7 + 1.35 * wealth + 0.25 * noise[:, :, 4]),
        "sp_urb_totl_in_zs": 100 * _logistic(0.1 + 0.7 * wealth + 0.5 * noise[:, :, 5]),
        "sp_dyn_tfrt_in": np.exp(1.1 - 0.42 * wealth + 0.15 * noise[:, :, 3]),
        "se_sec_enrr_fe": 108 * _logistic(0.6 + 1.15 * wealth + 0.4 * noise[:, :, 6]),
        "nv_agr_totl_zs": 70 * _logistic(-1.6 - 0.9 * wealth + 0.4 * noise[:, :, 7]),
        "ms_mil_xpnd_gd_zs": np.exp(0.5 + 0.6 * noise[:, :, 8]),
        "v2x_polyarchy": 0.95 * _logistic(1.1 * openness),
        "v2x_libdem": 0.92 * _logistic(1.25 * openness - 0.6),
        "v2x_partipdem": 0.85 * _logistic(1.05 * openness - 0.6),
        "v2x_civlib": 0.98 * _logistic(1.1 * openness + 0.9),
        "v2x_clphy": 0.98 * _logistic(1.0 * openness + 0.5 * wealth + 0.8),
        "v2xpe_exlsocgr": _logistic(-0.5 - 0.6 * openness - 0.5 * wealth + 0.7 * noise[:, :, 9]),
    }
    values = {name: np.round(array, 4) for name, array in values.items()}
    anocracy = 1 - 4 * (values["v2x_polyarchy"] - 0.45) ** 2
    risk = (
        0.55 * (np.log(values["sp_dyn_imrt_in"]) - 3.2)
        - 0.2 * (np.log(values["ny_gdp_pcap_cd"]) - 8.0)
        + 1.0 * (anocracy - 0.7)
        + 0.9 * (values["v2xpe_exlsocgr"] - 0.4)
        + 0.28 * (np.log(values["sp_pop_totl"]) - 16.0)
    )
    standardised = (risk - risk.mean(axis=1, keepdims=True)) / risk.std(axis=1, keepdims=True)
    return RegionYears(values, np.round(standardised, 6))


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 1 / (1 + np.exp(-x))
    return result


@lru_cache(maxsize=8)
def country_years(seed: int, table: CovariateTable) -> pl.DataFrame:
    """Published covariates: `year` Int32, `unit_id` Int64 and the table's columns, Float64, null where not reported.

    One row for each year and country that exists at the year's end. Population is the sum over the country's regions,
    the others are means weighted by population.
    """
    world = demo_map(seed)
    covariates = region_years(seed)
    months = np.maximum([month_id_of(FIRST_YEAR + year, 12) for year in range(YEARS)], WORLD_FIRST)
    holder = world.holder[months - WORLD_FIRST]
    countries = len(world.names)
    cell = np.arange(YEARS)[:, None] * (countries + 1) + holder
    population = covariates.values["sp_pop_totl"]

    def total(array: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.bincount(cell.ravel(), weights=array.ravel(), minlength=YEARS * (countries + 1))
        return sums.astype(np.float64)

    people = total(population)
    exists = np.flatnonzero(people > 0)
    years, units = np.divmod(exists, countries + 1)
    columns = {}
    for name, share in MISSING[table].items():
        rng = np.random.Generator(np.random.PCG64(seed_for("demo_covariates", seed, name)))
        never = rng.random(countries + 1) < share / 2
        gap = rng.random((YEARS, countries + 1)) < share / 2
        values = (
            people if name == "sp_pop_totl" else total(covariates.values[name] * population) / np.maximum(people, 1)
        )
        reported = ~(never[units] | gap[years, units])
        columns[name] = pl.Series(np.round(values[exists], 4)).set(pl.Series(~reported), None)
    return pl.DataFrame({"year": (FIRST_YEAR + years).astype(np.int32), "unit_id": units.astype(np.int64), **columns})
