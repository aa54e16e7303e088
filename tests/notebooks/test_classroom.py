"""The sum of a class: every file is told, and no name comes out."""

import json
import re
import shutil
from collections import Counter

import pytest
from exercise_answers import ROOT, exercises

import classroom
from effml.__main__ import main

BOOK = ROOT / "notebooks" / "50_operating_points.ipynb"
FIVE, TWENTY = ("50", "exercise-5"), ("50", "exercise-20")


def hand_in(path, marks):
    """A copy of notebook 50 whose exercises show these marks; None: the cell was not run."""
    book = json.loads(BOOK.read_text(encoding="utf-8"))
    for cell in book["cells"]:
        if cell["id"] in marks:
            text = marks[cell["id"]]
            output = {"output_type": "stream", "name": "stdout", "text": text}
            cell["outputs"] = [output] if text is not None else []
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(book), encoding="utf-8")
    return path


def test_every_exercise_of_the_notebooks_is_asked_for():
    found = {(path.name[:2], id) for path in BOOK.parent.glob("*.ipynb") for id in exercises(path)}
    assert {*classroom.asked()} <= found
    each = Counter(number for number, _ in classroom.asked())
    assert each == {path.name[:2]: 2 for path in BOOK.parent.glob("*.ipynb")}


@pytest.fixture
def folder(tmp_path):
    """What a class hands in: three notebooks of persons, one as it was given out, and rubbish."""
    hand_in(tmp_path / "Ana Ruiz" / "fifty.ipynb", {FIVE[1]: "✓ the fewest ill people\n"})
    hand_in(tmp_path / "Ana Ruiz" / ".ipynb_checkpoints" / "fifty.ipynb", {FIVE[1]: "✓ a\n"})
    hand_in(tmp_path / "Bo" / "b.ipynb", {FIVE[1]: None, TWENTY[1]: ["✓ one\n", "○ Bo, a name\n"]})
    hand_in(tmp_path / "é è.ipynb", {FIVE[1]: ["✓ fine\n", "Bo\n"], TWENTY[1]: "Traceback"})
    shutil.copy(BOOK, tmp_path / "as given.ipynb")
    (tmp_path / "cut.ipynb").write_bytes(BOOK.read_bytes()[:5000])
    (tmp_path / "list.ipynb").write_text("[1, 2]")
    (tmp_path / "deep.ipynb").write_text("[" * 200_000)
    (tmp_path / "odd.ipynb").write_text('{"cells": [{"cell_type": "markdown", "source": 3}]}')
    (tmp_path / "foreign.ipynb").write_text('{"cells": []}')
    (tmp_path / "folder.ipynb").mkdir()
    with open(tmp_path / "huge.ipynb", "wb") as file:
        file.truncate(classroom.LARGEST + 1)
    return tmp_path


def test_marks_are_summed_and_each_file_is_told(folder):
    counts, told = classroom.tally(folder)
    assert counts[FIVE] == {"solved": 2, "open": 1, "not run": 1}
    assert counts[TWENTY] == {"open": 3, "not run": 1}
    assert not any(count for one, count in counts.items() if one[0] != "50")
    assert told == {
        "read": 4, "broken": 4, "not a notebook of effml": 1, "no file": 1, "larger than 20 MB": 1,
    }  # fmt: skip


def test_the_command_prints_counts_and_no_names_and_writes_nothing(folder, capsys):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert main(["class", str(folder)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"50 +the fewest ill people +2 +1 +1\n", said)
    assert not re.search("Ana|Bo|fifty|given|huge|name", said)
    assert max(map(len, said.splitlines())) <= 100
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_nothing_to_count_is_told(tmp_path, capsys):
    assert main(["class", str(tmp_path)]) == 1 and "No notebook" in capsys.readouterr().out
    assert main(["class", str(tmp_path / "none")]) == 2
    assert "There is no folder" in capsys.readouterr().err
