"""Where notebooks, their outputs and the records lie, and how their files are read."""

import json
from pathlib import Path
from typing import Any

from effml.machine import ROOT

NOTEBOOKS, LOCAL, SMOKE = ROOT / "notebooks", ROOT / "results" / "local", ROOT / "tests" / "smoke"
REFERENCE = ROOT / "results" / "reference"


def load(path: Path) -> dict[str, Any]:
    """A JSON file; empty where it was not written or was cut short."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def tags(cell: dict[str, Any]) -> set[str]:
    return set(cell["metadata"].get("tags", []))
