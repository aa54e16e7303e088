"""The glossary: linked from every notebook, in order, and each term stands where it sends to."""

import json
import re
from pathlib import Path

import pytest

BOOKS = Path(__file__).resolve().parents[2] / "notebooks"
PAGE = (BOOKS / "GLOSSARY.md").read_text(encoding="utf-8")
ENTRIES = re.findall(r"^### (.+)\n(.+) → \[(\d\d)\]\((.+?)(?:#(.+))?\)$", PAGE, re.M)


def sections(path):
    """What a reader sees under each heading, pictures aside, by the heading's anchor."""
    found, here = {"": ""}, ""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        lines = "".join(cell["source"]).splitlines()
        for output in cell.get("outputs", []):
            shown = output.get("text") or output.get("data", {}).get("text/plain", [])
            lines += "".join(shown).splitlines()
        for line in lines:
            if cell["cell_type"] == "markdown" and (title := re.match("#+ (.+)", line)):
                here = title[1].strip().replace(" ", "-")
            found[here] = f"{found.get(here, '')}{line}\n"
    return found


@pytest.mark.parametrize("path", sorted(BOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_links_the_glossary_in_its_head(path):
    first = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]
    assert "](GLOSSARY.md)" in "".join(first)


def test_the_terms_are_in_alphabetical_order_and_each_stands_once():
    assert len(ENTRIES) == PAGE.count("\n### ") >= 60
    order = [entry[0].casefold().replace("α", "alpha") for entry in ENTRIES]
    assert order == sorted(set(order))


@pytest.mark.parametrize("term, text, number, name, heading", ENTRIES, ids=lambda _: "")
def test_a_term_stands_in_the_section_that_explains_it(term, text, number, name, heading):
    found = sections(BOOKS / name)
    assert name[:2] == number and (not heading or heading in found), [*found]
    shown = found[heading] if heading else "".join(found.values())
    assert re.search(rf"\b{re.escape(term)}", shown, re.IGNORECASE), f"{term}: not in #{heading}"
    assert len(text.split()) <= 45, f"{term}: one or two short sentences"
