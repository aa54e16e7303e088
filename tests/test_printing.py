"""Tables and entries fit 100 columns and lose nothing."""

import re

import pytest

from effml.__main__ import main
from effml.machine import ROOT
from effml.printing import entry, table
from effml.results import load_runs


def test_a_table_fits_and_loses_no_word():
    texts = ["the quick brown fox jumps over the lazy dog " * 3, "short", None]
    names = ["pneumoniamnist_reordered", "a", "b"]
    made = table(
        {
            "a_long_heading_of": names,
            "text": texts,
            "words": texts,
            "train_energy_j": [1.5, None, 2],
        }
    )
    lines = made.splitlines()
    assert max(map(len, lines)) <= 100
    flat = re.sub(r"\s", "", made)
    assert flat.count("fox") == 6 and flat.count("dog") == 6
    assert "pneumoniamnist_" in made and "reordered" in made
    assert lines[-1].startswith("b ") and lines[-1].endswith(" 2")


def test_numbers_are_never_broken_and_stand_right():
    made = table({"n": [11_171_266, 3], "x": [float("nan"), 0.0003], "auroc": [0.87, 1.0]})
    assert made.splitlines() == [
        "       n       x  auroc",
        "11171266     NaN  0.870",
        "       3  0.0003      1",
    ]


def test_a_line_stands_above_the_first_row_of_its_kind():
    assert table({"x": [1, 2, 3]}, under=["A", "A", "B"]).splitlines() == list("xA12B3")


def test_an_entry_keeps_the_lines_of_its_text():
    assert entry("name", "one\n  two", 8) == "name    one\n          two"
    assert entry("a name that is longer", 1, 8) == "a name that is longer 1"
    assert entry("empty", "") == "empty"
    lines = entry("name", "word " * 60, 30).splitlines()
    assert len(lines) > 3 and all(line[30] == "w" and len(line) <= 100 for line in lines)


def columns_of(text, heads):
    """The cells of a printed table, by heading, put together again; rows begin where the last column
    has a cell."""
    first, *lines = text.splitlines()
    starts = [first.index(head) for head in heads]
    return [[line[a:b].strip() for a, b in zip(starts, [*starts[1:], None])] for line in lines]


def test_a_report_fits_and_loses_no_claim(capsys):
    from effml.claims import reported

    assert main(["report"]) == 0
    said, claims = capsys.readouterr().out, reported()
    assert max(map(len, said.splitlines())) <= 100
    cells = columns_of(said, ["claim", "statement", "theirs"])
    names, statements = ("".join(row[i] for row in cells) for i in (0, 1))
    names, statements = (re.sub(r"\s", "", text) for text in (names, statements))
    for row in claims.itertuples():
        assert row.claim in names and re.sub(r"\s", "", row.statement) in statements
        assert said.count(f"{row.paper}\n") == 1
    for verdict, count in claims.verdict.value_counts().items():
        assert said.count(verdict.split()[0]) >= count


LONG = "pneumoniamnist_reordered"


@pytest.mark.parametrize(
    "words",
    [
        ["show", "--store", str(ROOT / "results" / "reference")],
        ["data", "list"],
        ["data", "verify", "--dry-run"],
        ["energy"],
    ],
    ids=" ".join,
)
def test_other_commands_fit_too(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EFFML_DATA", str(tmp_path))
    for name in (LONG, "malaria_28"):
        (tmp_path / f"{name}.npz").write_bytes(b"")
    assert main(words) == 0
    said = capsys.readouterr().out
    assert said and max(map(len, said.splitlines())) <= 100


def test_a_sweep_says_the_whole_reason_of_each_run_that_failed(monkeypatch, capsys):
    runs = load_runs(ROOT / "results" / "reference").head(3)
    runs = runs.assign(reason=["because " * 60, "of this", None], precision_emulated=1)
    monkeypatch.setattr("effml.__main__._swept", lambda *_, **__: runs)
    monkeypatch.setattr("argparse.Namespace.failed", 1, raising=False)
    assert main(["sweep", "seed=0,1"]) == 1
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 100 and "(emulated)" in said
    assert said.split().count("because") == 60
    assert f"\n{runs.recipe_id[1]} of this\n" in said


def test_an_interrupted_command_says_what_stays(monkeypatch, capsys):
    from effml import __main__ as commands

    def interrupted(given):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "_show", interrupted)
    assert commands.main(["show"]) == 130
    assert "the same command goes on" in capsys.readouterr().err
