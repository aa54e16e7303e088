"""The translations: whole, none older than its English, with the same numbers, links and code."""

import json
import re
from pathlib import Path

import pytest

import translate
from effml.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = sorted(path.stem for path in translate.CATALOGUES.glob("*.yml"))
SAME = {
    "numbers": r"(?<![\w.])\d+(?:\.\d+)?",
    "links": r"\]\(([^)]+)\)",
    "code": r"`([^`]+)`",
    "formulas": r"\$([^$]+)\$",
    "bold": r"\*\*",
    "lines of a list": r"(?m)^- ",
    "cells of a table": r"\|",
    "heading": r"(?m)^#+ ",
}


def plain(text):
    """Thousands are parted by a comma, a space or a narrow space."""
    return re.sub(r"(?<=\d)[,\u202f ](?=\d{3}\b)", "", text)


def test_french_and_spanish_are_there():
    assert LANGUAGES == ["es", "fr"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_paragraph_is_translated_and_none_is_older_than_its_english(language):
    told = [line for line in translate.report(language) if not line.endswith("no longer used")]
    assert not told, f"python -m effml translate --to {language}"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("what", SAME)
def test_a_translation_has_what_needs_none(language, what):
    """The order of numbers may differ."""
    have = translate.catalogue(language)
    for name, (place, english) in translate.english().items():
        text, was = plain(have[name]["text"]), plain(english)
        found, wanted = (sorted(re.findall(SAME[what], said)) for said in (text, was))
        assert found == wanted, f"{place}: {text}"
        assert text != was or not re.search(r"\w{3}.*\w{3}", re.sub(r"\W+", " ", was)), place


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_quick_start_is_its_rendering(language):
    path = translate.CATALOGUES / f"{language}.md"
    page = f"# effml\n\n{translate.translated(translate.quick_start(), translate.catalogue(language))}\n"
    assert path.read_text(encoding="utf-8") == page, "run: python -m effml readme"
    for target in re.findall(r"\]\(([^):]+)\)", page):
        assert (path.parent / target).exists(), target


def test_the_command_writes_notebooks_whose_code_and_outputs_are_the_english_ones(tmp_path, capsys):
    folder = tmp_path / "notebooks-fr"
    told = translate.report("fr")
    assert main(["translate", str(folder), "--to", "fr"]) == bool(told)
    said = capsys.readouterr().out
    assert all(line in said for line in told or ["every paragraph"]) and f"{folder} holds" in said
    assert main(["translate", "--to", "fr"]) == bool(told)
    assert "Nothing was written" in capsys.readouterr().out
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        ours, theirs = (json.loads(p.read_text())["cells"] for p in (path, folder / path.name))
        kind = "markdown" if path.name in translate.BOOKS else None
        assert [c for c in ours if c["cell_type"] != kind] == [
            c for c in theirs if c["cell_type"] != kind
        ]
        assert (ours != theirs) == (kind == "markdown")
    assert (folder / "diagrams").is_dir() and (folder / "findings.py").is_file()
    assert main(["translate", str(folder), "--to", "fr"]) == 2
    assert "there already" in capsys.readouterr().err
    assert main(["translate", "--to", "xx"]) == 2 and "es, fr" in capsys.readouterr().err


def test_what_was_changed_since_is_told_and_stays_english(tmp_path, monkeypatch, capsys):
    """A paragraph changed, one added, one taken away."""
    book = json.loads((ROOT / "notebooks" / translate.BOOKS[0]).read_text())
    cells = {cell["id"]: cell for cell in book["cells"]}
    cells["cell-14"]["source"] = "So 9 seeds.\n\n## Measure\n\nThis is new.\n\nAnd so is this."
    book["cells"].remove(cells["profile-told"])
    for name in translate.BOOKS[1:]:
        (tmp_path / name).write_text((ROOT / "notebooks" / name).read_text())
    (tmp_path / translate.BOOKS[0]).write_text(json.dumps(book))
    monkeypatch.setattr(translate, "OURS", tmp_path)
    monkeypatch.setattr(translate, "quick_start", lambda: "")
    told = [line.partition(" ")[2] for line in translate.report("es")]
    assert [line for line in told if not line.startswith("README")] == [
        "00 cell-14, 1: older than its English: So 9 seeds.",
        "00 cell-14, 3: older than its English: This is new.",
        "00 cell-14, 4: missing: And so is this.",
        "00 profile-told, 1: no longer used",
    ]
    said = translate.translated("".join(cells["cell-14"]["source"]), translate.catalogue("es"))
    assert said == "So 9 seeds.\n\n## Medir\n\nThis is new.\n\nAnd so is this."


def test_where_lines_are_broken_does_not_count_and_code_stays_whole():
    assert translate.key("a b\nc") == translate.key("a\nb c") != translate.key("a b d")
    text = "One.\n\n```bash\na\n\nb\n```\nTwo\nlines.\n\n\n- x\n- y\n"
    assert translate.paragraphs(text) == ["One.", "```bash\na\n\nb\n```", "Two\nlines.", "- x\n- y"]
