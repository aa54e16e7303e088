"""What there is to do: the notebooks of a profile, their parameters and what they cost."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from effml.machine import BF16, choose, cpu
from effml.reproduce import places
from effml.reproduce.places import load, tags

PASSPORT = ("smoke", "laptop", "paper")
"""Profiles that compute, in the order of a passport's columns."""

PROFILES = (*PASSPORT, "reference")
"""`reference` takes the parameters of `laptop` and reads the committed records and tables."""

READING = {"minutes": 0.15, "runs": 0.0, "fetch": 0.0}
"""What a notebook costs that only reads."""

COSTS = ("minutes", "memory", "runs", "fetch")  # of the passport: memory and fetch in MB
MINUTES = ("minutes", "minutes, AVX2")
"""Rows of the passport: on a CPU with bfloat16 arithmetic, as servers have, and on any other."""


@dataclass
class Plan:
    """One notebook under one profile."""

    path: Path
    parameters: dict[str, Any]  # those the profile overrides
    cost: dict[str, float]  # by COSTS, as the passport tells them
    predicted: float = 0.0  # minutes: those it took here before, else the passport's
    fingerprint: str = ""
    status: str = "to run"
    minutes: float = 0.0
    claims: list[dict[str, Any]] = field(default_factory=list)
    reads: bool = False  # the reference instead of computing

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def values(self) -> dict[str, Any]:
        """Every parameter under this profile."""
        return {**declared_parameters(self.path), **self.parameters}

    @property
    def code(self) -> str:
        """The code cells but that of the parameters, one behind the other."""
        cells = [cell for cell in load(self.path)["cells"] if cell["cell_type"] == "code"]
        return "\n".join("".join(c["source"]) for c in cells if "parameters" not in tags(c))


def make_plan(profile: str, only: Sequence[str] = ()) -> list[Plan]:
    """The notebooks of a profile in their order, all or those whose number `only` names."""
    choose("profile", profile, PROFILES)
    paths = {path.name[:2]: path for path in sorted(places.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}
    if not paths:
        advice = "Install a checkout with: pip install -e ."
        raise ValueError(f"{places.NOTEBOOKS} has no notebooks. {advice}")
    for number in only:
        choose("notebook", number, paths)
    overrides = _overrides(profile, {n: declared_parameters(path) for n, path in paths.items()})
    costs = {n: passport(path, profile) for n, path in paths.items() if not only or n in only}
    return [
        Plan(paths[n], overrides[n], cost, cost["minutes"], reads=profile == "reference")
        for n, cost in costs.items()
    ]


def declared_parameters(path: Path) -> dict[str, Any]:
    """Names and values in a notebook's `parameters` cell. ValueError if it has none."""
    for cell in load(path)["cells"]:
        if "parameters" in tags(cell):
            names: dict[str, Any] = {}
            exec("".join(cell["source"]), {}, names)  # our own notebook's assignments
            return {name: value for name, value in names.items() if not name.startswith("_")}
    raise ValueError(f"{path.name} has no cell tagged `parameters`: add one, typed and commented.")


def _overrides(profile: str, declared: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each notebook what the profile's `common` part and its own part say."""
    import yaml

    path = places.NOTEBOOKS / "profiles" / f"{profile}.yml"
    given = (yaml.safe_load(path.read_text()) if path.is_file() else None) or {}
    allowed = {"common": sorted({name for names in declared.values() for name in names})}
    allowed |= {number: sorted(names) for number, names in declared.items()}
    for part, values in given.items():
        choose(f"part of {path.name}:", part, allowed)
        for name in values or {}:  # papermill would only warn
            choose(f"parameter in part {part!r} of {path.name}:", name, allowed[part])
    common, own = given.get("common") or {}, {n: given.get(n) or {} for n in declared}
    return {
        number: {name: common[name] for name in names if name in common} | own[number]
        for number, names in declared.items()
    }


def passport(path: Path, profile: str) -> dict[str, float]:
    """What a notebook costs under a profile on a CPU like this one, from the table that opens it.

    Raises:
        ValueError: A row of that table is missing or has no number for each profile.
    """
    text = "".join(load(path)["cells"][0]["source"])
    found = re.finditer(r"^\|([^|]+)\|(.*)\|$", text, re.M)
    rows = {row[1].strip(): row[2].split("|") for row in found}
    asked = (*MINUTES, "memory, MB", "runs", "fetch, MB")
    try:
        every = {name: [float(cell) for cell in rows[name]] for name in asked}
        place = PASSPORT.index("laptop" if profile == "reference" else profile)
        told = {name: values[place] for name, values in every.items()}
    except (KeyError, IndexError, ValueError):
        raise ValueError(
            f"{path.name} must open with a passport: a table with a number for smoke, laptop and "
            f"paper in the rows {', '.join(f'`{name}`' for name in asked)}."
        ) from None
    here = told[MINUTES[not BF16 & {*cpu()[1].split()}]]
    cost = dict(zip(COSTS, (here, told["memory, MB"], told["runs"], told["fetch, MB"])))
    return cost | READING if profile == "reference" else cost
