"""The layout is ruff's, and nothing is imported or assigned in vain: package, tests and notebooks'
code cells."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("effml", "tests", "notebooks")


@pytest.mark.parametrize("words", [("format", "--check"), ("check",)], ids=" ".join)
def test_ruff_has_nothing_to_say(words):
    command = [sys.executable, "-m", "ruff", *words, "--no-cache", *FOLDERS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


def test_ruff_reads_the_notebooks_too():
    command = [sys.executable, "-m", "ruff", "check", "--show-files", "--no-cache", *FOLDERS]
    seen = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    books = [path for path in ROOT.glob("notebooks/*.ipynb")]
    assert books and all(str(path) in seen for path in books)
