"""Fig 1: publications per million inhabitants by region, and the countries which stand there with
another's population."""

from collections.abc import Mapping

import numpy as np
import pandas

HOLDERS: Mapping[str, str | None] = {
    "Eritrea": "Estonia",
    "Estonia": "Eswatini",
    "Eswatini": "Ethiopia",
    "Ethiopia": "Falkland Islands",
    "Falkland Islands": None,
    "Congo": "Congo, Democratic Republic of the",
    "Congo, Democratic Republic of the": "Congo",
    "Mexico": "Micronesia",
    "Micronesia": "Mexico",
    "Martinique": None,
    "Montserrat": None,
    "Morocco": "Montserrat",
    "Mozambique": "Morocco",
    "Myanmar": "Mozambique",
    "Namibia": "Myanmar",
    "Norway": "Oman",
    "Oman": "Pakistan",
    "Pakistan": "Palestine, State of",
    "Palestine, State of": "Virgin Islands, U.S.",
    "Virgin Islands, U.S.": "Virgin Islands, British",
    "Virgin Islands, British": None,
}
"""In whose row a country's population stands (None: in no row).

The same in both years, nearly always one place further in the alphabet. Recognised by size, Norway
has no 49 551 inhabitants; what each should be is general knowledge, not in the tables.
"""


def per_million(table: pandas.DataFrame) -> pandas.DataFrame:
    """For each region, in alphabetical order: countries, papers and population of those whose
    population is known, and `rate`, the papers per million inhabitants."""
    known = table[table["pop"].notna()]
    sums = known.groupby("Region_updated").agg(
        countries=("name", "size"), papers=("num_papers", "sum"), population=("pop", "sum")
    )
    return sums.assign(rate=sums.papers / sums.population * 1e6).rename_axis("region")


def repair_regions(table: pandas.DataFrame) -> pandas.DataFrame:
    """The table with each population in its own row; NaN where it stands in no row.

    The table given is not changed.
    """
    population = table.set_index("name")["pop"].astype(float)
    right = [
        population.get(HOLDERS[name], np.nan) if name in HOLDERS else population[name]
        for name in table.name
    ]
    return table.assign(pop=right)
