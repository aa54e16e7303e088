"""TEACHING.md: its minutes are those of the passports, its clock fits, its exercises and commands exist."""

import csv
import re
import shlex

import pytest
from exercise_answers import ROOT
from test_reading import core, seconds

import classroom
from effml import reproduce
from effml.__main__ import COMMANDS

PAGE = (ROOT / "TEACHING.md").read_text(encoding="utf-8")
TAKES = re.findall(r"^\| \[(\d\d) · [^|]+\]\((.+?)\) \| (.+) \|$", PAGE, re.M)
SLOTS = re.findall(r"^\| (\d\d):(\d\d)–(\d\d):(\d\d) \| (.+) \|$", PAGE, re.M)


@pytest.mark.parametrize("number, link, told", TAKES, ids=[row[0] for row in TAKES])
def test_minutes_are_those_of_the_passport_and_of_the_measurement(number, link, told):
    path = ROOT / link
    rows = {line.split(" | ")[0][2:]: line.split(" | ") for line in first(path).splitlines()}
    with open(ROOT / "notebooks" / "class_seconds.csv") as file:
        measured = {(r["notebook"], r["profile"]): r["seconds"] for r in csv.DictReader(file)}
    passport = [rows[name][2] for name in ("minutes", "minutes, AVX2", "memory, MB")]
    ours = [*passport, measured[number, "smoke"], measured[number, "reference"]]
    *told, read = told.split(" | ")
    assert told == ours, f"write: {' | '.join(ours)}"
    assert float(read) == pytest.approx(sum(map(seconds, core(path))) / 60, abs=1)


def first(path):
    return "".join(core(path)[0]["source"])


def test_the_clock_has_no_gap_and_leaves_the_minutes_to_read_and_to_solve():
    assert len(SLOTS) > 25
    reading = {link: float(told.split(" | ")[-1]) for _, link, told in TAKES}
    ends = None
    for *clock, what in SLOTS:
        begins, now = (60 * int(clock[i]) + int(clock[i + 1]) for i in (0, 2))
        assert begins in (ends, 540) and now > begins, clock  # a day begins at nine
        books = re.findall(r"\]\((notebooks/.+?)\)", what)
        if "read" in what:
            asked = 5 + 20 * ("Exercises" in what or "Both" in what or "then" in what)
            assert now - begins >= max(reading[book] for book in books) + asked, what
        ends = now


def test_exercises_are_called_by_their_names():
    names = {(number, name) for (number, _), name in classroom.asked().items()}
    for *_, what in SLOTS:
        numbers = re.findall(r"notebooks/(\d\d)_", what)
        for name in re.findall(r"\*([^*]+)\*", what.partition("Exercise")[2]):
            assert {(number, name) for number in numbers} & names, name


def test_commands_and_links_exist():
    said = re.findall(r"python -m effml ([^`\n]+)", PAGE)
    for words in map(shlex.split, said):
        assert words[0] in COMMANDS, words
    numbers = {
        part for line in re.findall(r"(?:ONLY=|--only )([\d,]+)", PAGE) for part in line.split(",")
    }
    assert len(reproduce.make_plan("smoke", sorted(numbers))) == len(numbers) == 4
    for target in re.findall(r"\]\(([^):]+)\)", PAGE):
        assert (ROOT / target.partition("#")[0]).exists() or target.startswith("#"), target
    heads = {
        re.sub(r"[^a-z0-9-]", "", h.lower().replace(" ", "-"))
        for h in re.findall(r"^## (.+)$", PAGE, re.M)
    }
    assert {target[1:] for target in re.findall(r"\]\((#[^)]+)\)", PAGE)} <= heads
