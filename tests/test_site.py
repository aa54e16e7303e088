"""The pages of the collection: links, words for pictures, formulas, the search, no address outside."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from contextlib import redirect_stderr
from html import unescape
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest

from effml.machine import ROOT
from effml.site import lite, make_site, sections
from effml.site.links import Links, notebook_head
from effml.site.markdown import renderer


class Seen(HTMLParser):
    """What a page links to, loads and names, and its pictures."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded, self.names, self.pictures = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.names += [found[name] for name in ("id",) if name in found]
        self.links += [found.get("href")] * (tag == "a")
        self.pictures += [found.get("alt")] * (tag == "img")
        source = found.get("href" if tag == "link" else "src")
        if tag != "a" and source and not source.startswith("data:"):
            self.loaded.append(source)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder, told = tmp_path_factory.mktemp("site"), StringIO()
    with redirect_stderr(told):
        made = make_site(folder, ["62"])
    assert told.getvalue() == ""  # no link leads nowhere, and formulas are drawn
    return folder, {page: Seen((folder / page).read_text()) for page in made}


def test_every_link_leads_to_a_page_and_a_place_on_it(site):
    folder, pages = site
    seen = {(folder / page).resolve(): one for page, one in pages.items()}
    assert Path("index.html") in pages and Path("notebooks/62_selvan_radar.html") in pages
    for page, one in pages.items():
        for to in [*one.loaded, *(to for to in one.links if not re.match("https?:|mailto:", to))]:
            path, _, name = to.partition("#")
            target = (folder / page.parent / path).resolve() if path else (folder / page).resolve()
            assert target.is_file(), f"{page}: {to}"
            assert not name or name in seen[target].names, f"{page}: {to}"


def test_nothing_is_loaded_from_elsewhere(site):
    folder, pages = site
    loaded = [to for one in pages.values() for to in one.loaded]
    assert len(loaded) > len(pages) and not [to for to in loaded if ":" in to or to[:2] == "//"]
    for name in ("style.css", "site.js"):
        assert not re.search(r"https?:|@import|url\(|fetch\(", (folder / name).read_text())


def test_every_picture_has_words_every_name_is_one_and_a_drawn_figure_has_its_numbers(site):
    folder, pages = site
    for page, one in pages.items():
        assert all(alt and len(alt) > 10 for alt in one.pictures), page
        assert len(set(one.names)) == len(one.names), page
    drawn = [to for to in pages[Path("notebooks/62_selvan_radar.html")].links if "/figures/" in to]
    names = {path.name for path in (ROOT / "results/reference/figures").glob("62-*.csv")}
    assert {Path(to).name for to in drawn} == names and len(drawn) == len(names) > 1


def test_the_front_page_says_what_the_readme_says(site):
    text = (site[0] / "index.html").read_text()
    readme = (ROOT / "README.md").read_text()
    answer = re.search(r"<!-- answer -->\n(.*?)\n<!--", readme, re.DOTALL)[1]
    plain = unescape(re.sub("<.*?>", "", text)).replace("\u00a0", " ")
    assert answer in plain
    for path in ROOT.glob("notebooks/[0-9]*.ipynb"):
        assert notebook_head(path).title in plain


def test_the_search_finds_a_word_where_it_stands(site):
    folder, pages = site
    text = (folder / "search.js").read_text().removeprefix("const PAGES = ").removesuffix(";\n")
    found = json.loads(text)
    assert all(name in pages[Path(page)].names for page, _, name, *_ in found)
    hits = [(page, heading) for page, _, _, heading, text in found if "radar" in text.lower()]
    assert ("notebooks/62_selvan_radar.html", "Takeaways") in hits
    body = '<h1 id="a">A <b>b</b></h1><p>x &lt; y</p><pre>no</pre><h3 id="c">C</h3><img alt="z">'
    assert sections(body) == [("1", "a", "A b", "x < y"), ("3", "c", "C", "z")]


def test_every_formula_of_the_notebooks_is_drawn_whole():
    render = renderer(Links(Path(), [], set()))
    count = 0
    for path in ROOT.glob("notebooks/[0-9]*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "markdown":
                render.renderer.begin(path)
                text = re.sub(r"\]\(.*?\)", "]", "".join(cell["source"]))
                for drawn in re.findall("<math.*?</math>", render.render(text), re.DOTALL):
                    assert "\\" not in drawn and "$" not in drawn, (path.name, drawn)
                    count += 1
    assert count > 200


def test_links_of_text_become_links_of_pages(tmp_path, capsys):
    links = Links(tmp_path, [], set())
    here = ROOT / "notebooks" / "README.md"
    assert links.of("../README.md#what-was-found", here) == "../README.html#what-was-found"
    assert links.of("62_selvan_radar.ipynb#By-hand:-2%25", here) == "62_selvan_radar.html#by-hand-2"
    assert links.of("https://doi.org/10.1", here) == "https://doi.org/10.1"
    assert links.of("pepr/__init__.py", here) == "pepr/__init__.py.html"
    assert links.of("../effml/claims.csv", here) == "../effml/claims.csv"
    assert (tmp_path / "effml" / "claims.csv").is_file()
    radar = next(ROOT.glob("notebooks/62*.ipynb"))
    assert links.paths == [ROOT / "README.md", radar, ROOT / "notebooks" / "pepr" / "__init__.py"]
    for astray in ("gone.md", "../../x", "/etc/hosts"):
        assert links.of(astray, here) == ""
        told = f"notebooks/README.md links to {astray}, which is not in this project."
        assert capsys.readouterr().err.strip() == told


def test_a_notebook_that_is_not_there_is_refused_and_the_menu_told(tmp_path):
    with pytest.raises(ValueError, match="Unknown notebook '99'. Choose from: 00, 01, 10"):
        make_site(tmp_path, ["62", "99"])


@pytest.mark.parametrize(
    "code, free",
    [
        ("import effml, numpy\neffml.report({})\nfrom effml.seeds import interval", True),
        ("import effml\nruns = effml.sweep([], 'store')", True),
        ("import torch.nn", False),
        ("from effml import build_model", False),
        ("from effml.selection.proxy import x", False),
        ("import effml as e\nx = [e.load_dataset('phantom-chest')]", False),
        ("import effml as e\ndef f():\n    return e.load_dataset('phantom-chest')", True),
        ("%load_ext x", False),
    ],
)
def test_what_code_names_says_whether_a_browser_can_run_it(code, free):
    assert lite.needs_no_torch(code) == free


def test_the_notebooks_that_the_suite_runs_without_torch_are_offered():
    offered = {path.name[:2] for path in lite.in_browser()}
    assert offered >= {path.name[:2] for path in ROOT.glob("notebooks/[678]*.ipynb")}
    assert not offered & {"00", "13", "30", "51", "92"}


BROWSER = """
import sys
from importlib.machinery import PathFinder
class Bare:
    def find_spec(self, name, *rest):
        known = name.partition(".")[0] not in {blocked}
        return PathFinder.find_spec(name, *rest) if known else None
sys.meta_path[:] = [Bare() if finder is PathFinder else finder for finder in sys.meta_path]
import importlib, json, matplotlib
matplotlib.use("agg")
for room in {rooms}:
    importlib.import_module(room)
from IPython.core.interactiveshell import InteractiveShell
for book in {books}:
    shell = InteractiveShell()
    for cell in json.loads(open(book).read())["cells"]:
        if cell["cell_type"] == "code":
            text = "".join(cell["source"]).replace("%pip install -q effml", "")
            shell.run_cell(text).raise_error()
from effml.data.places import Path, digest
import effml
print(digest(Path(book), "md5"), effml.__file__)
"""


def test_from_the_wheel_notebooks_run_without_what_a_browser_lacks(tmp_path):
    """Those that make runs of their own: the others run without torch in their smoke profile. Of
    our packages only those that Pyodide has can be imported, and nothing of the checkout."""
    wheels, books = tmp_path / "wheels", []
    wheels.mkdir()
    for book in lite.in_browser():
        if book.name[0] not in "678" or book.name[:2] == "76":
            books.append(str(tmp_path / book.name))
            Path(books[-1]).write_text(lite.with_first_cell(book))
    lite.write_wheels(wheels)
    for wheel in wheels.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(tmp_path / "site-packages")
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split("[=<>]", one)[0].lower().replace("-", "_") for one in needed}
    blocked = (names | {"sklearn", "yaml", "tests"}) - {"numpy", "scipy", "pandas", "matplotlib"}
    rooms = [f"effml.{room}" for room in ("data.fetch", "results", "sweeping", "phantoms", "pepr")]
    code = BROWSER.format(blocked=blocked, rooms=rooms, books=books)
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment = kept | {"PYTHONPATH": str(tmp_path / "site-packages"), "MPLBACKEND": "agg"}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert done.stdout.splitlines()[-1].split()[1].startswith(str(tmp_path))


def test_of_a_pyodide_what_is_needed_is_copied_with_what_it_needs(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    lock = {
        name: {"file_name": f"{name}-1.whl", "depends": ["six_six"] * (name == "pandas")}
        for name in (*lite.NEEDS, "ipython", "six-six", "other")
    }
    (source / "pyodide-lock.json").write_text(json.dumps({"packages": lock}))
    core = {"pyodide.mjs", "pyodide.asm.wasm", "python_stdlib.zip"}
    for name in (*core, "pyodide.mjs.map", *(one["file_name"] for one in lock.values())):
        (source / name).touch()
    lite.copy_pyodide(source, target)
    wheels = {f"{name}-1.whl" for name in (*lite.NEEDS, "ipython", "six-six")}
    assert {path.name for path in target.iterdir()} == core | wheels | {"pyodide-lock.json"}
    (source / "numpy-1.whl").unlink()
    with pytest.raises(FileNotFoundError, match="numpy-1.whl"):
        lite.copy_pyodide(source, tmp_path / "again")
