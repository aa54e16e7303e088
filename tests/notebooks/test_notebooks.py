"""The notebooks' form, and their smoke outputs under nbval as a fresh machine would make them."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from exercise_answers import as_test, checks, exercises, in_quotes, solutions, source

from effml import reproduce
from nbval_tolerance import Text

ROOT = Path(__file__).resolve().parents[2]
BOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code_cells(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def is_parameters(cell):
    return "parameters" in cell["metadata"].get("tags", [])


def assert_typed_and_commented(source):
    """Every parameter has a type, and its comment behind it or on lines of its own above it; only a
    list may go on, with `+=`, in a second line."""
    lines, known = source.splitlines(), set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.AugAssign):
            assert node.target.id in known
            continue
        assert isinstance(node, ast.AnnAssign) and node.lineno == node.end_lineno
        known.add(node.target.id)
        above = lines[node.lineno - 2] if node.lineno > 1 else ""
        assert "  # " in lines[node.lineno - 1] or above.startswith("# "), node.target.id


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_the_form_of_a_notebook(path):
    cells, code = json.loads(path.read_text())["cells"], code_cells(path)
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert "".join(cells[0]["source"]).startswith(f"# {path.name[:2]} · ")
    assert "**The answer in one sentence:**" in "".join(cells[0]["source"])
    assert "After this notebook you can" in text
    for heading in (
        "## Takeaways",
        "## Limits",
        "## Exercises",
        "**5 minutes.**",
        "**20 minutes.**",
        "**Your data.**",
    ):
        assert heading in text, heading
    for cell in code:
        lines = "".join(cell["source"]).splitlines()
        assert max(map(len, lines)) <= 100, max(lines, key=len)
        assert len(lines) <= 15, lines[0]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert path.stat().st_size <= 300_000
    assert not [
        o
        for cell in code
        for o in cell["outputs"]
        if o["output_type"] == "error" or o.get("name") == "stderr"
    ]
    assert_typed_and_commented(next("".join(c["source"]) for c in code if is_parameters(c)))
    for profile in reproduce.PROFILES:
        assert reproduce.passport(path, profile)["minutes"] > 0
    assert f"({path.name})" in (ROOT / "notebooks" / "README.md").read_text()


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_pictures_have_alt_text(path):
    for cell in code_cells(path):
        for output in cell["outputs"]:
            if "image/png" in output.get("data", {}):
                assert len(output["metadata"]["image/png"]["alt"]) > 20


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_every_exercise_has_a_right_and_a_wrong_answer_to_the_same_question(path):
    """They run behind the smoke outputs, below."""
    asked = {id: cell for id, cell in exercises(path).items() if checks(source(cell))}
    found = {(exercise, tag) for exercise, tag, _ in solutions(path)}
    assert len(asked) >= 2 and found == {(id, tag) for id in asked for tag in ("right", "wrong")}
    for exercise, _, text in solutions(path):
        assert checks(text) == checks(source(asked[exercise]))
        assert text != source(asked[exercise])


def current(plan, store):
    """The current cells of a notebook with the parameters of the smoke profile and the stored smoke
    outputs, and behind them the answers to its exercises, right, wrong and in quotes."""
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    stored = {cell["id"]: cell for cell in code_cells(ROOT / "tests" / "smoke" / plan.path.name)}
    book = load_notebook_node(str(plan.path))
    for cell in (cell for cell in book.cells if cell.cell_type == "code"):
        assert cell.id in stored, f"Cell {cell.id} has no stored output: make smoke-reference"
        cell.outputs = [nbformat.from_dict(output) for output in stored[cell.id]["outputs"]]
    for number, answer in enumerate([*solutions(plan.path), *in_quotes(plan.path)]):
        book.cells.append(nbformat.from_dict(as_test(answer, number)))
    return parameterize_notebook(book, {**plan.parameters, "store": str(store)})


@pytest.mark.parametrize("name", [path.stem for path in BOOKS])
def test_smoke_outputs_are_what_the_current_cells_give(name, tmp_path):
    """Against an empty store."""
    (plan,) = reproduce.make_plan("smoke", [name[:2]])
    nbformat.write(current(plan, tmp_path / "store"), tmp_path / plan.path.name)
    figures = name[0] in "678" and name[:2] != "76"  # from tables and records; 76 makes runs
    without = [tmp_path / "no torch"] * figures
    for folder in without:
        folder.mkdir()
        (folder / "torch.py").write_text("raise ModuleNotFoundError('no torch', name='torch')")
    path = os.pathsep.join(map(str, [*without, ROOT / "tests", os.environ["PYTHONPATH"]]))
    environment = {**os.environ, "EFFML_FIGURES": str(tmp_path / "figures"), "PYTHONPATH": path}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # half a second for each notebook
    plugins = "-p nbval_tolerance -p nbval.plugin --nbval --nbval-current-env"
    words = f"-m pytest -q -c {os.devnull} {plugins}"
    books = [str(book) for book in sorted(tmp_path.glob("*.ipynb"))]
    command = [sys.executable, *words.split(), "--rootdir", str(tmp_path), *books]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    if without:
        drawn = [path.suffix for path in (tmp_path / "figures").iterdir()]
        cells = [
            "".join(cell["source"]) for cell in code_cells(ROOT / "notebooks" / f"{name}.ipynb")
        ]
        diagrams = sum("from diagrams." in source for source in cells)  # these have no numbers
        assert drawn.count(".png") - diagrams == drawn.count(".csv") > 0


def test_the_tolerance_lets_noise_pass_and_nothing_else():
    assert Text("auroc 0.90001 in 3 runs") == "auroc  0.90002 in 3 runs"
    for other in (
        "auroc 0.91 in 3 runs",
        "auroc 0.9 in 4 runs",
        "AUROC 0.90001 in 3 runs",
        "auroc 0.90001 in 3",
        "auroc nan in 3 runs",
    ):
        assert Text("auroc 0.90001 in 3 runs") != other
    wide = Text("0.90 [0.80, 0.95]")
    wide.rtol = 0.1
    assert wide == "0.88 [0.79, 0.96]" and wide != "0.70 [0.80, 0.95]"
