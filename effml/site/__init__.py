"""The collection as web pages, which need neither a network nor Python to be read."""

import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

from effml.claims import reported
from effml.machine import ROOT, choose
from effml.reproduce.rewrite import without_iri_grammar
from effml.site.links import Links, notebook_head

TEMPLATE = Path(__file__).parent / "template"
HOME = ROOT / "index"
TOP = {
    "README.md": "About",
    "TEACHING.md": "Teaching",
    "notebooks/GLOSSARY.md": "Glossary",
    "CHECKLIST.md": "Checklists",
}
"""Pages that the bar on top leads to, as far as they are there."""


def make_site(
    folder: str | os.PathLike, only: Sequence[str] = (), *, lite: Sequence[Path] | None = None
) -> list[Path]:
    """Write the pages of the whole collection, or of the notebooks whose numbers `only` names: the
    findings, the notebooks with their stored outputs, and every file that one of them links to.
    `lite` are the notebooks that `make_lite` offers to run.

    Returns the pages, relative to `folder`, `index.html` first. A link to what is not there becomes
    plain text and is told on stderr; one to a notebook that `only` leaves out, plain text alone.
    Raises FileNotFoundError outside of a checkout.

    Example:
        >>> effml.site.make_site("pages", ["62"])[:2]
        [PosixPath('index.html'), PosixPath('README.html')]
    """
    every = {path.name[:2]: path for path in sorted(ROOT.glob("notebooks/[0-9][0-9]_*.ipynb"))}
    if not every:
        raise FileNotFoundError(f"{ROOT} has no notebooks: run this in a checkout of effml.")
    books = [every[choose("notebook", number, every)] for number in (only or every)]
    return _Site(Path(folder), books, [*every.values()], lite).write()


class _Site:
    """A folder of pages, and what their search finds."""

    def __init__(self, folder: Path, books: list[Path], every: list[Path], lite: Any):
        without_iri_grammar()
        from jinja2 import Environment, FileSystemLoader

        from effml.site.bodies import Bodies

        self.folder, self.books, self.every, self.lite = folder, books, every, lite
        self.top = {ROOT / name: title for name, title in TOP.items() if (ROOT / name).is_file()}
        skip = {*ROOT.glob("notebooks/**/*.ipynb")} - {*books} if books != every else set()
        self.links = Links(folder, [HOME, *self.top, *books], skip)
        self.bodies, self.found = Bodies(self.links), []
        self.env = Environment(loader=FileSystemLoader(TEMPLATE), trim_blocks=True, autoescape=True)

    def write(self) -> list[Path]:
        """All pages, one after another: what they link to is written at the end."""
        made = [self._page(path) for path in self.links]
        for name in ("style.css", "site.js"):
            shutil.copy(TEMPLATE / name, self.folder / name)
        index = f"const PAGES = {json.dumps(self.found, ensure_ascii=False)};\n"
        (self.folder / "search.js").write_text(index, encoding="utf-8")
        return made

    def _page(self, path: Path) -> Path:
        page, told, kind = self.links.page(path), self._around(path), "front.html.j2"
        if path == HOME:
            told |= self._front()
        else:
            told["body"], kind = self.bodies.of(path), "page.html.j2"
            parts = sections(told["body"])
            told |= {"title": parts[0][2] if parts else path.name, "contents": parts[1:]}
            self.found += [(page.as_posix(), told["title"], *rest) for _, *rest in parts]
        (self.folder / page).parent.mkdir(parents=True, exist_ok=True)
        text = self.env.get_template(kind).render(told)
        (self.folder / page).write_text(text, encoding="utf-8")
        return page

    def _around(self, path: Path) -> dict[str, Any]:
        """What every page shows around its text."""
        before, after = dict(zip(self.books[1:], self.books)), dict(zip(self.books, self.books[1:]))
        near = [before.get(path), after.get(path)]
        words, run = re.split(r"[/._]", str(path.relative_to(ROOT))), None
        if self.lite is not None and path in self.books:
            way = f"../lite/notebooks/index.html?path={path.name}"
            run = way if path in self.lite else "none"
        return {
            "root": "../" * (len(self.links.page(path).parts) - 1),
            "top": [(self.links.to(one, path), title) for one, title in self.top.items()],
            "near": [one and (self.links.to(one, path), notebook_head(one)) for one in near],
            "run": run,
            "lang": next((word for word in words if word in ("fr", "es")), "en"),
        }

    def _front(self) -> dict[str, Any]:
        """What was found, in the words and the figure of the README, and the map."""
        sys.path.insert(0, str(ROOT / "notebooks"))
        import findings

        figure = re.search(r"!\[(.*?)\]\((.*?)\)", (ROOT / "README.md").read_text("utf-8"))
        shown = [one.quality for one in findings.found() if not isinstance(one.quality, str)]
        changed = [one for one in shown if one.sure(0.0005)]
        told = findings.pages()["README.md"].items()
        return {
            "title": "effml",
            "about": self.links.to(ROOT / "README.md", HOME),
            "figure": (figure[1], self.links.to(ROOT / figure[2], HOME)),
            "told": {name: self.bodies.of(HOME, text) for name, text in told},
            "lost": sum(one.high < 0 for one in changed),
            "gained": sum(one.low > 0 for one in changed),
            "shown": len(shown),
            "verdicts": reported().verdict.value_counts().to_dict(),
            "books": [(self.links.to(path, HOME), notebook_head(path)) for path in self.every],
        }


def sections(body: str) -> list[tuple[str, ...]]:
    """Of a page the level, name, heading and text of each part: what its search finds."""
    body = re.sub(r'<img [^>]*alt="([^"]*)"[^>]*>', r" \1 ", body)
    body = re.sub(r"<(pre|table|math)\b.*?</\1>", " ", body, flags=re.DOTALL)
    _, *parts = re.split(r'<h([1-3]) id="(.*?)">(.*?)</h[1-3]>', body, flags=re.DOTALL)
    told = (" ".join(unescape(re.sub("<.*?>", " ", text)).split()) for text in parts)
    return list(zip(*[told] * 4))
