"""Which files of ours a notebook is said to import, beside what Python then really loads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from effml.reproduce import places
from effml.reproduce.sources import sources

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A small package beside a folder of notebooks; its rooms are named as some of the real ones,
    because the names that effml exports are looked up in its own table."""
    for name, text in {
        "effml/__init__.py": "",
        "effml/results.py": "from effml.machine import ROOT\nTABLE = 'claims.csv'",
        "effml/claims.csv": "id",
        "effml/machine.py": "def f():\n    from effml import recipe",
        "effml/recipe.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import effml.pepr",
        "effml/pepr.py": "",
        "effml/sweeping/__init__.py": "from effml.sweeping.server import x",
        "effml/sweeping/server.py": '"""See effml.pepr."""\nONE = "effml.claims"',
        "effml/claims.py": "",
        "notebooks/own/__init__.py": "from own.part import y",
        "notebooks/own/part.py": "NAME = 'table1.csv'",
        "notebooks/own/table1.csv": "",
        "notebooks/own/other.py": "",
        "notebooks/lone.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(places, "ROOT", tmp_path)
    monkeypatch.setattr(places, "NOTEBOOKS", tmp_path / "notebooks")
    return tmp_path


RECORDS = "claims.csv machine.py recipe.py results.py"


@pytest.mark.parametrize(
    "code, found",
    [
        ("import numpy\nx = 1", ""),
        ("import effml", ""),
        ("import effml\neffml.load_runs('x')", RECORDS),
        ("import effml as e\ne.load_runs('x')", RECORDS),
        ("from effml import load_runs", RECORDS),
        ("def f():\n    from effml.results import interval", RECORDS),
        ("import effml\neffml.results.interval", RECORDS),
        ("import effml.recipe as r\nr.load_runs", "recipe.py"),
        ("from effml import grid", "sweeping/__init__.py sweeping/server.py claims.py"),
        ('program = "import effml\\neffml.pepr_score(1, 2)"', "pepr.py"),
        ('program = f"{x}\\n  from effml.machine import a, b"', "machine.py recipe.py"),
        ("import own", "own/__init__.py own/part.py own/table1.csv"),
        ("from own import other", "own/__init__.py own/other.py own/part.py own/table1.csv"),
        ("import lone, numpy", "lone.py"),
    ],
)
def test_what_is_imported_and_no_more(house, code, found):
    names = [path.relative_to(house).as_posix().partition("/")[2] for path in sources(code)]
    assert sorted(names) == sorted(found.split())


@pytest.mark.parametrize(
    "code",
    [
        "%matplotlib inline",
        "from effml import *",
        "from . import x",
        "import effml\nprint(dir(effml))",
        "import effml\ngetattr(effml, name)",
        "import importlib\nimportlib.import_module(name)",
    ],
)
def test_all_there_is_where_reading_cannot_tell(house, code):
    every = [path for path in house.rglob("*") if path.suffix in (".py", ".csv")]
    assert sources(code) == sorted(path for path in every if path != house / "effml/__init__.py")


@pytest.mark.parametrize("number", ["60", "62", "70", "77", "93"])
def test_a_notebook_loads_nothing_else(number):
    """An oracle: Python says which modules the imports of a notebook load."""
    path = next((ROOT / "notebooks").glob(f"{number}_*.ipynb"))
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    code = "\n".join("".join(cell["source"]) for cell in cells)
    lines = [line for line in code.splitlines() if line.startswith(("import ", "from "))]
    names = "[m.__file__ for m in [*sys.modules.values()] if getattr(m, '__file__', None)]"
    program = "\n".join([*lines, "import sys, json", f"print(json.dumps({names}))"])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    loaded = [Path(name) for name in json.loads(done.stdout) if name.endswith(".py")]
    near = {ROOT / "notebooks", ROOT / "notebooks" / "pepr", ROOT / "notebooks" / "selvan"}
    loaded = {p for p in loaded if p.parent in near or p.is_relative_to(ROOT / "effml")}
    assert loaded - {ROOT / "effml" / "__init__.py"} <= {*sources(code)} and len(loaded) > 4
