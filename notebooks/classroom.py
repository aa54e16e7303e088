"""The ✓ of a class: how many solved each exercise, from a folder of their saved notebooks.

Nothing is run, written or sent. Only counts come out, and no words that are not in ours."""

import json
import re
from collections import Counter
from pathlib import Path

from effml.printing import table

OURS = Path(__file__).parent
LARGEST = 20_000_000  # bytes; ours have at most 0.3 MB, and with pictures of a class a few
BROKEN = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


def _marks(cell: dict) -> list[str]:
    """The lines of an executed cell that begin with ✓ or ○."""
    printed = "".join("".join(output.get("text", "")) for output in cell.get("outputs", []))
    return [line for line in printed.splitlines() if line[:2] in ("✓ ", "○ ")]


def _read(path: Path) -> tuple[str, list[dict]]:
    """The number of a notebook, by its title ("" if it has none of ours), and its cells."""
    cells = json.loads(path.read_bytes())["cells"]
    titles = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    found = [title[1] for said in titles if (title := re.match(r"# (\d\d) · ", said))]
    return found[0] if found else "", cells


def asked() -> dict[tuple[str, str], str]:
    """What each exercise asks first, by the number of the notebook and the id of the cell."""
    found = {}
    for path in sorted(OURS.glob("*.ipynb")):
        number, cells = _read(path)
        start = next(i for i, c in enumerate(cells) if "## Exercises" in "".join(c["source"]))
        for cell in (cell for cell in cells[start:] if cell["cell_type"] == "code"):
            if lines := _marks(cell):
                found[number, cell["id"]] = lines[0][2:].partition("  (")[0]
    return found


def tally(folder: Path) -> tuple[dict[tuple[str, str], Counter], Counter]:
    """For each exercise how often it is solved, open or not run; and how many files were read, or
    skipped and why. An exercise is solved where all of its checks show ✓."""
    folder, told = Path(folder), Counter()
    if folder.is_file():
        raise NotADirectoryError(f"{folder} is a file. Give the folder that it lies in.")
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}. Give one with notebooks in it.")
    counts = {exercise: Counter() for exercise in asked()}
    for path in folder.rglob("*.ipynb"):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue  # what Jupyter keeps for itself
        try:
            if not path.is_file() or path.stat().st_size > LARGEST:
                told[f"larger than {LARGEST // 10**6} MB" if path.is_file() else "no file"] += 1
                continue
            number, cells = _read(path)
            marks = {cell.get("id"): _marks(cell) for cell in cells}
        except BROKEN:
            told["broken"] += 1
            continue
        mine = [one for one in counts if one[0] == number and one[1] in marks]
        told["read" if mine else "not a notebook of effml"] += 1
        for one in mine:
            lines = marks[one[1]]
            solved = lines and all(line[0] == "✓" for line in lines)
            counts[one]["solved" if solved else "open" if lines else "not run"] += 1
    return counts, told


def show(folder: Path) -> int:
    """Print the table of a folder. Returns 0; 1 where no notebook of ours was read."""
    (counts, told), questions = tally(folder), asked()
    seen = {one: count for one, count in counts.items() if count}
    columns = {"notebook": [one[0] for one in seen], "asks for": [questions[one] for one in seen]}
    columns |= {name: [c[name] for c in seen.values()] for name in ("solved", "open", "not run")}
    print(table(columns) if seen else "No notebook of effml was found.")
    skipped = [f"{n} {why}" for why, n in sorted(told.items()) if why != "read"]
    print(f"{told['read']} notebooks read; skipped: {', '.join(skipped) or 'none'}")
    return 0 if seen else 1
