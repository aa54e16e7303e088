"""What a reader meets: how long a core takes, how wide tables are, where links lead, what the answer says."""

import html
import json
import re
import struct
from base64 import b64decode
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WORDS_A_MINUTE, SECONDS_A_LINE, MINUTES = 200, 3, 15
each = pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)


def text(value):
    return "".join(value)


def cells_of(path):
    return json.loads(path.read_text())["cells"]


def core(path):
    """The cells above the line: before `Going further`, else before the exercises."""
    cells, marks = cells_of(path), ("## Going further", "## Exercises")
    titles = {i: text(c["source"]) for i, c in enumerate(cells) if c["cell_type"] == "markdown"}
    ends = [i for mark in marks for i, said in titles.items() if mark in said]
    return cells[: ends[0]]


def outputs(cell):
    for output in cell.get("outputs", []):
        yield {
            kind: text(part) for kind, part in output.get("data", {}).items() if "json" not in kind
        } | ({"text/plain": text(output["text"])} if "text" in output else {})


def seconds(cell):
    """To read a cell and what it shows: words, lines of code, rows of tables."""
    if cell["cell_type"] == "markdown":
        return len(text(cell["source"]).split()) / WORDS_A_MINUTE * 60
    lines = [line for line in text(cell["source"]).splitlines() if line.strip()]
    total = SECONDS_A_LINE * len(lines)
    for shown in outputs(cell):
        if "text/html" in shown:
            total += SECONDS_A_LINE * shown["text/html"].count("<tr")
        elif "text/markdown" in shown:  # source code
            total += SECONDS_A_LINE * len(shown["text/markdown"].splitlines())
        elif "image/png" not in shown:
            total += len(shown.get("text/plain", "").split()) / WORDS_A_MINUTE * 60
    return total


@each
def test_a_core_is_read_in_a_quarter_of_an_hour(path):
    minutes = sum(map(seconds, core(path))) / 60
    assert minutes <= MINUTES, f"{minutes:.1f} minutes"


def test_a_minute_is_two_hundred_words_or_twenty_lines():
    assert seconds({"cell_type": "markdown", "source": "word " * 200}) == pytest.approx(60)
    table = {"data": {"text/html": "<tr>" * 10, "text/plain": "word " * 999}}
    code = {"cell_type": "code", "source": "a = 1\n\nb = 2", "outputs": [table]}
    assert seconds(code) == pytest.approx(3 * 2 + 3 * 10)
    printed = {"name": "stdout", "text": "word " * 100}
    assert seconds({"cell_type": "code", "source": "", "outputs": [printed]}) == pytest.approx(30)


@each
def test_the_answer_has_thirty_words_at_most(path):
    first = text(cells_of(path)[0]["source"])
    answer = re.search(r"\*\*The answer in one sentence:\*\*(.+?)\n\n", first, re.S)[1]
    words = answer.split()
    assert len(words) <= 30, f"{len(words)} words"


@each
def test_the_head_leads_to_the_paper_the_neighbours_and_the_source(path):
    first = text(cells_of(path)[0]["source"])
    links = re.findall(r"\]\(([^)]+)\)", first)
    assert any("doi.org/" in link or "arxiv.org/" in link for link in links), links
    places = [link.partition("#")[0] for link in links if "://" not in link]
    assert any(place.startswith("../") for place in places), "no link to the source"
    assert any(place.endswith(".ipynb") for place in places), "no link to another notebook"
    for place in places:
        assert (path.parent / place).exists(), place


@each
def test_tables_have_eight_columns_at_most(path):
    for cell in cells_of(path):
        for shown in outputs(cell):
            for table in shown.get("text/html", "").split("<table")[1:]:
                head = table.partition("</thead>")[0].split("<tr")[1]  # names of the columns
                names = [html.unescape(name) for name in re.findall(r"<th[^>]*>(.*?)</th>", head)]
                assert sum(map(bool, names)) <= 8, names


@each
def test_pictures_are_shown_with_110_pixels_an_inch(path):
    """The house's figures are 5 inches wide or more."""
    for cell in cells_of(path):
        for shown in outputs(cell):
            if "image/png" in shown:
                width = struct.unpack(">I", b64decode(shown["image/png"])[16:20])[0]
                assert width >= 500, (cell["id"], width)


@each
def test_a_method_has_a_diagram_and_a_core_a_figure(path):
    pictures = [c for c in core(path) if any("image/png" in shown for shown in outputs(c))]
    assert pictures, "no figure in the core"
    if path.name[0] in "1235":
        drawn = [c for c in core(path) if "diagrams" in text(c["source"])]
        assert drawn, "no drawn diagram in the core"


@each
def test_formulas_render(path):
    """Dollars and braces in pairs; no doubled backslash before a letter."""
    for cell in cells_of(path):
        if cell["cell_type"] == "markdown":
            said = re.sub(r"```.*?```|`[^`]*`", "", text(cell["source"]), flags=re.S)
            formulas = re.findall(r"\$\$(.+?)\$\$|\$([^$]+?)\$", said, re.S)
            assert said.replace(r"\$", "").count("$") % 2 == 0, said
            for formula in ("".join(pair) for pair in formulas):
                plain = formula.replace(r"\{", "").replace(r"\}", "")
                assert plain.count("{") == plain.count("}"), formula
                assert not re.search(r"(?<!\\)\\\\[A-Za-z]", formula), formula


@each
def test_no_path_of_a_machine_stands_in_a_notebook(path):
    found = re.findall(r"/(?:home|work|tmp|Users|root)/[\w./-]+", path.read_text())
    assert not found, found
