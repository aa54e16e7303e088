"""Which of the project's own files a notebook's code imports, told by reading them."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import effml
from effml.reproduce import places

EVERYTHING = "*"
"""What code mentions whose imports cannot be told by reading it."""


def sources(code: str) -> list[Path]:
    """The modules of the package and beside the notebooks which `code` imports, at its top or in a
    function, those which they import, and the .csv files beside them which they name.

    Where reading cannot tell, all there are. `effml/__init__.py` is none of them: it only says
    where names lie, and they are looked up.
    """
    found: set[Path] = set()
    asked: set[str] = set()
    waiting = [(code, places.NOTEBOOKS)]
    while waiting:
        text, folder = waiting.pop()
        names = mentioned(text) - asked
        tables = {name for name in names if name.endswith(".csv")}
        found |= {folder / name for name in tables if (folder / name).is_file()}
        asked |= names - tables
        new = {path for name in names - tables for path in _files(name)} - found
        found |= new
        modules = (path for path in new if path.suffix == ".py")
        waiting += [(path.read_text(encoding="utf-8"), path.parent) for path in modules]
    return sorted(found)


def _files(name: str) -> Iterator[Path]:
    """The files of ours behind a dotted name: of its packages, and its module's."""
    start = places.ROOT / "effml" / "__init__.py"
    if name == EVERYTHING:
        for root in (places.ROOT / "effml", places.NOTEBOOKS):
            every = (path for path in root.rglob("*") if path.suffix in (".py", ".csv"))
            yield from (path for path in every if path != start)
        return
    first, *rest = name.split(".")
    if first == "effml" and rest and rest[0] in effml._ROOMS:
        rest = [effml._ROOMS[rest[0]], *rest]
    place = places.ROOT if first == "effml" else places.NOTEBOOKS
    for part in (first, *rest):
        place = place / part
        here = next(filter(Path.is_file, (place / "__init__.py", place.with_suffix(".py"))), None)
        if here and here != start:
            yield here
        if not place.is_dir():  # a module, a name inside the last one, or somebody else's package
            return


@cache
def mentioned(code: str) -> frozenset[str]:
    """Dotted names of modules, or of what is in them, and names of .csv files."""
    try:
        tree = ast.parse(code)
    except SyntaxError:  # a line for IPython, say
        return frozenset([EVERYTHING])
    reader = _Reader()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [a.asname or "effml" for a in node.names if _is_package(a)]
            reader.packages.update(names)
    reader.visit(tree)
    return frozenset(reader.found)


def _is_package(alias: ast.alias) -> bool:
    """Whether `import …` binds a name to effml itself."""
    return alias.name == "effml" or (alias.name.startswith("effml.") and not alias.asname)


class _Reader(ast.NodeVisitor):
    """Collects what a module mentions."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.packages: set[str] = set()  # names bound to effml

    def visit_Import(self, node: ast.Import) -> None:
        self.found.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        every = node.module == "effml" and any(alias.name == "*" for alias in node.names)
        if node.level or every:
            self.found.add(EVERYTHING)
        self.found.update(f"{node.module}.{alias.name}" for alias in node.names)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        base, _, rest = ast.unparse(node).partition(".")
        if base in self.packages:  # effml.select, effml.results.interval
            self.found.add(f"effml.{rest}")
        else:
            self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self.packages:  # handed on: who knows what is asked of it
            self.found.add(EVERYTHING)

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func).rpartition(".")[2]
        known = node.args and isinstance(node.args[0], ast.Constant)
        if called in ("import_module", "__import__") and not known:
            self.found.add(EVERYTHING)
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) == "TYPE_CHECKING":
            for other in node.orelse:
                self.visit(other)
        else:
            self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Text may be a table's name, a module for `python -m`, or a program for a process."""
        text = node.value if isinstance(node.value, str) else ""
        if re.fullmatch(r"[\w.-]+\.csv|effml(\.\w+)+", text):
            self.found.add(text)
        for module, names in re.findall(r"^\s*from ([\w.]+) import ([\w, ]+)", text, re.M):
            self.found.update(f"{module}.{name.strip()}" for name in names.split(","))
        for modules in re.findall(r"^\s*import ([\w., ]+)", text, re.M):
            self.found.update(name.strip() for name in modules.split(","))
        if re.search(r"^\s*import effml\b", text, re.M):
            self.found.update(re.findall(r"\beffml(?:\.\w+)+", text))
