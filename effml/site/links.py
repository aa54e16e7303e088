"""Where the files of the project lie among the pages, what they are called, and links to them."""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from effml.machine import ROOT

SOURCES = {".py", ".yml", ".toml", ".cff", ".sh", ".ps1", ".txt", ""}
"""Files that become a page of source; what is no notebook or Markdown either is copied."""


class Links:
    """The files that become pages: these `paths`, and what pages link to meanwhile, but for what
    `skip` holds: nothing links to that. `folder` is that of the site."""

    def __init__(self, folder: Path, paths: Sequence[Path], skip: set[Path]):
        self.folder, self.paths, self.skip = folder, list(paths), skip

    def __iter__(self) -> Iterator[Path]:
        yield from self.paths  # a list that grows while it is read

    def page(self, path: Path) -> Path:
        """Where the page or the copy of a file lies in the site."""
        name = path.relative_to(ROOT)
        if path.is_dir():
            return name / "index.html"
        if path.suffix in (".ipynb", ".md") or path == ROOT / "index":
            return name.with_suffix(".html")
        return name.with_name(f"{name.name}.html") if path.suffix in SOURCES else name

    def to(self, path: Path, here: Path) -> str:
        """The link to a file from the page of the file `here`; "" to one that gets no page."""
        if path in self.skip:
            return ""
        page = self.page(path)
        if page.suffix != ".html":
            copy = self.folder / page
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        elif path not in self.paths:
            self.paths.append(path)
        return Path(os.path.relpath(page, self.page(here).parent)).as_posix()

    def of(self, target: str, here: Path) -> str:
        """The link that leads where the link `target` of a file leads; "" if that is not there or
        gets no page."""
        name, sign, anchor = target.partition("#")
        if not name or re.match(r"[a-z]+:", name):
            return target
        path = (here.parent / unquote(name)).resolve()
        if not path.exists() or ROOT not in path.parents:
            name = here.relative_to(ROOT)
            print(f"{name} links to {target}, which is not in this project.", file=sys.stderr)
            return ""
        way = self.to(path, here)
        return way and way + sign + anchor_of(unquote(anchor))


def anchor_of(heading: str) -> str:
    """The name of a heading, as GitHub gives it; of JupyterLab's name for it the same."""
    return re.sub(r"\s", "-", re.sub(r"<.*?>|[^\w\s-]", "", heading).strip().lower())


class Head(NamedTuple):
    """What stands above a notebook."""

    number: str
    title: str
    answer: str


@cache
def notebook_head(path: Path) -> Head:
    """Number, title and answer in one sentence, from the first cell."""
    first = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]
    title, answer = "".join(first).split("\n\n")[:2]
    number, _, title = title.removeprefix("# ").partition(" · ")
    answer = re.sub(r"^\*\*.*?\*\*\s*|`", "", answer.replace("\n", " "))
    return Head(number, title, answer[:1].upper() + answer[1:])
