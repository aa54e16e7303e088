"""The collection as web pages, which need neither a network nor Python to be read."""

import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from html import unescape
from pathlib import Path

from effml.claims import reported
from effml.machine import ROOT
from effml.reproduce.rewrite import without_iri_grammar
from effml.site.links import Links, notebook_head

HERE = Path(__file__).parent / "template"
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
    """Write the pages of the whole collection: findings, notebooks with their stored outputs, and
    every page and file of the project that one of them links to.

    Args:
        folder: where to write; files of the same names are replaced.
        only: numbers of notebooks, such as `["00", "62"]`; none: all.
        lite: the notebooks that `make_lite` offers to run in the browser: their pages lead there.

    Returns:
        The pages, relative to `folder`; `index.html` is the first.

    Raises:
        FileNotFoundError: the package was installed without its notebooks, or a page links to a
            file that is not there.
        ValueError: `only` names a notebook that is not there.

    Example:
        >>> effml.site.make_site("pages", ["62"])[:2]
        [PosixPath('index.html'), PosixPath('README.html')]
    """
    every = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not every:
        raise FileNotFoundError(f"{ROOT} has no notebooks: run this in a checkout of effml.")
    if unknown := sorted({*only} - {path.name[:2] for path in every}):
        menu = ", ".join(path.name[:2] for path in every)
        raise ValueError(f"No notebook {', '.join(unknown)}. Choose from: {menu}")
    books = [path for path in every if not only or path.name[:2] in only]
    return Site(Path(folder), books, every, lite).make()


class Site:
    """A folder of pages, and what their search finds."""

    def __init__(
        self,
        folder: Path,
        books: Sequence[Path],
        every: Sequence[Path],
        lite: Sequence[Path] | None,
    ):
        without_iri_grammar()
        from jinja2 import Environment, FileSystemLoader

        from effml.site.bodies import Bodies

        self.folder, self.books, self.every, self.lite = folder, books, every, lite
        self.top = {ROOT / name: title for name, title in TOP.items() if (ROOT / name).is_file()}
        skip = {*ROOT.glob("notebooks/**/*.ipynb")} - {*books} if books != every else set()
        self.links = Links(folder, [ROOT / "index", *self.top, *books], skip)
        self.bodies = Bodies(self.links)
        self.found: list[tuple[str, ...]] = []
        self.env = Environment(loader=FileSystemLoader(HERE), trim_blocks=True, autoescape=True)

    def make(self) -> list[Path]:
        """Write all pages, one after another: those that they link to come at the end."""
        made = [self._write(path) for path in self.links]
        for name in ("style.css", "site.js"):
            shutil.copy(HERE / name, self.folder / name)
        index = json.dumps(self.found, ensure_ascii=False)
        (self.folder / "search.js").write_text(f"const PAGES = {index};\n", encoding="utf-8")
        return made

    def _write(self, path: Path) -> Path:
        page, told = self.links.page(path), self._around(path)
        if path == ROOT / "index":
            text = self.env.get_template("front.html.j2").render(told, **self._front())
        else:
            body = self.bodies.of(path)
            parts = sections(body)
            title = parts[0][1] if parts else path.name
            told |= {"title": title, "body": body, "contents": parts[1:]}
            self.found += [(page.as_posix(), name, title, *rest) for name, *rest in parts]
            text = self.env.get_template("page.html.j2").render(told)
        (self.folder / page).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / page).write_text(text, encoding="utf-8")
        return page

    def _around(self, path: Path) -> dict:
        """What every page shows around its text."""
        place = self.books.index(path) if path in self.books else None
        near = (None, None) if place is None else (place - 1, place + 1)
        books = [
            self.books[i] if i is not None and 0 <= i < len(self.books) else None for i in near
        ]
        words = re.split(r"[/._]", str(path.relative_to(ROOT)))
        return {
            "root": "../" * (len(self.links.page(path).parts) - 1),
            "top": [(self.links.to(one, path), title) for one, title in self.top.items()],
            "near": [one and (self.links.to(one, path), notebook_head(one)) for one in books],
            "run": path in self.books and self.lite is not None and self._run(path),
            "lang": next((word for word in words if word in ("fr", "es")), "en"),
        }

    def _run(self, path: Path) -> str:
        """Where the browser runs a notebook; `none` where none can."""
        page = f"../lite/notebooks/index.html?path={path.name}"
        return page if path in self.lite else "none"

    def _front(self) -> dict:
        """What was found, in the words and the figure of the README, and the map."""
        sys.path.insert(0, str(ROOT / "notebooks"))
        import findings

        home, told = ROOT / "index", findings.pages()["README.md"]
        figure = re.search(r"!\[(.*?)\]\((.*?)\)", (ROOT / "README.md").read_text("utf-8"))
        shown = [one.quality for one in findings.found() if not isinstance(one.quality, str)]
        changed = [one for one in shown if one.sure(0.0005)]
        return {
            "title": "effml",
            "about": self.links.to(ROOT / "README.md", home),
            "figure": (figure[1], self.links.to(ROOT / figure[2], home)),
            "told": {name: self.bodies.of(home, text) for name, text in told.items()},
            "lost": sum(one.high < 0 for one in changed),
            "gained": sum(one.low > 0 for one in changed),
            "shown": len(shown),
            "verdicts": reported().verdict.value_counts().to_dict(),
            "books": [(self.links.to(path, home), notebook_head(path)) for path in self.every],
        }


def sections(body: str) -> list[tuple[str, str, str]]:
    """Of a page the name, title and text of each part: what its search finds."""
    body = re.sub(r'<img [^>]*alt="([^"]*)"[^>]*>', r" \1 ", body)
    body = re.sub(r"<(pre|table|math)\b.*?</\1>", " ", body, flags=re.DOTALL)
    _, *parts = re.split(r'<h[12] id="(.*?)">(.*?)</h[12]>', body, flags=re.DOTALL)
    told = (" ".join(unescape(re.sub("<.*?>", " ", text)).split()) for text in parts)
    return list(zip(*[told] * 3))
