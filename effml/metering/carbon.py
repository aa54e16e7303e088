"""Grams of CO2 for joules, from a table of countries."""

import csv
from functools import lru_cache
from pathlib import Path

RANGE = 1.4
"""Low and high are the intensity ÷ and × this: the tables of Ember (what a country generates) and
Electricity Maps (what it uses) differ by less in 90 of 100 countries, by 11 % in the median."""


@lru_cache
def intensities() -> list[dict[str, str]]:
    """Life-cycle g CO2e per kWh generated, yearly means of Ember (co2.js 6628f83f), without what
    differs by over 30 % from Our World in Data (carbontracker 664ee2a6) or Electricity Maps."""
    with Path(__file__).with_name("grid_intensity.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def co2e_g(energy_j: float, *, country: str, pue: float = 1.0) -> tuple[float, float, float, str]:
    """Grams of CO2 equivalent that the electricity for some joules caused, with a range.

    Args:
        energy_j: joules, such as `Cost.energy_j`; NaN joules give NaN grams.
        country: a three-letter ISO code, an English name, or "world".
        pue: what a data centre draws for each joule of its computers (power usage effectiveness);
            1.0 is a laptop, carbontracker takes 1.58.

    Returns:
        The grams, their low and high end (of the intensity alone), and their source in words.

    Raises:
        ValueError: if the country is not in the table, or `pue` is below 1.

    Example:
        >>> effml.co2e_g(3.6e6, country="Kenya")
        (89.0, 63.57..., 124.6, '89 g CO2e/kWh (Kenya 2024, Ember ... (CC BY 4.0)), PUE 1')
    """
    wanted, rows = country.strip().casefold(), intensities()
    own = [r for r in rows if wanted in (r["iso"].casefold(), r["country"].casefold())]
    if not own:
        menu = ", ".join(f"{row['iso']} {row['country']}" for row in rows)
        raise ValueError(f"No carbon intensity for country={country!r}. Choose from: {menu}")
    if not pue >= 1:
        raise ValueError(f"pue={pue} is not allowed: give 1 (no cooling or other overhead) or more")
    row, intensity = own[0], float(own[0]["g_per_kwh"])
    grams = energy_j / 3.6e6 * pue * intensity
    told = f"{intensity:g} g CO2e/kWh ({row['country']} {row['year']}, {row['source']})"
    return grams, grams / RANGE, grams * RANGE, f"{told}, PUE {pue:g}"
