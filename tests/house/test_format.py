"""The layout is ruff's: package, tests, notebooks' code cells and what lies beside them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("effml", "tests", "notebooks")
BESIDE = sorted((ROOT / "notebooks").rglob("*.py"))


def ruff(*words):
    command = [sys.executable, "-m", "ruff", *words, "--no-cache", *FOLDERS]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("words", [("format", "--check"), ("check",)], ids=" ".join)
def test_ruff_has_nothing_to_say(words):
    done = ruff(*words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


def test_ruff_reads_the_notebooks_too():
    seen, books = ruff("check", "--show-files").stdout, list(ROOT.glob("notebooks/*.ipynb"))
    assert books and all(str(path) in seen for path in books)


@pytest.mark.parametrize("path", BESIDE, ids=lambda path: path.name)
def test_what_lies_beside_the_notebooks_is_read_in_one_sitting(path):
    text = path.read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= 100
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name
