"""The checklists: every item has an answer, and what it links to is there."""

import ast
import json
import re

import pytest
from exercise_answers import ROOT

import checklists

ITEMS = checklists.items()
SHOWN = sorted({target for shown in ITEMS.shown for target in shown.split()})
NUMBERS = {
    "CLAIM": [str(number) for number in range(1, 45)],
    "REFORMS": [
        f"{module}{item}"
        for module, last in enumerate("cegcfccb", 1)
        for item in "abcdefg"
        if item <= last
    ],
    "ML code completeness": list("12345"),
}


def test_the_page_is_its_rendering():
    shown = (ROOT / "CHECKLIST.md").read_text(encoding="utf-8")
    assert shown == checklists.page(), "run: python -m effml readme"


@pytest.mark.parametrize("name", checklists.LISTS)
def test_every_item_has_one_answer_and_a_reason(name):
    mine = ITEMS[ITEMS.list == name]
    assert mine.item.tolist() == NUMBERS[name]
    assert set(mine.answer) <= {*checklists.ANSWERS}
    assert (mine[["asks", "says", "shown"]] != "").all(axis=None)


def headings(path):
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        said = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    else:
        said = path.read_text(encoding="utf-8")
    return [title.replace(" ", "-") for title in re.findall(r"^#+ (.+)$", said, re.M)]


@pytest.mark.parametrize("target", SHOWN)
def test_what_an_answer_links_to_is_there(target):
    file, _, name = target.partition("::")
    path, _, heading = file.partition("#")
    assert (ROOT / path).is_file()
    assert not heading or heading in headings(ROOT / path), headings(ROOT / path)
    if name:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def test_a_link_that_leads_nowhere_is_found():
    for target in ("README.md#Nowhere", "README.me", "tests/test_seeds.py::test_no_such"):
        with pytest.raises(AssertionError):
            test_what_an_answer_links_to_is_there(target)


def test_the_citation_has_what_its_schema_asks_for_and_the_version_of_the_package():
    """`cffconvert --validate` looks at the whole schema; it is no package that tests may ask for."""
    import tomllib
    from datetime import date

    import yaml

    told = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= told.keys()  # the schema's, 1.2.0
    assert told["cff-version"] == "1.2.0" and isinstance(told["date-released"], date)
    assert told["version"] == package["version"]
    for entry in [told, *told["references"]]:
        assert entry["title"] and all(
            {"name", "family-names"} & author.keys() for author in entry["authors"]
        )
