"""Notebooks that run in the browser alone: JupyterLite, with Pyodide beside it."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import effml
from effml.machine import ROOT, optional
from effml.reproduce.plan import make_plan
from effml.reproduce.sources import mentioned
from effml.site import make_site

NEEDS = ("numpy", "pandas", "matplotlib", "scipy", "pillow")
"""What the notebooks take of Pyodide's own packages, whose versions are not our pins."""
KERNEL = ("ipython", "micropip", "packaging", "ssl", "sqlite3", "jedi", "pyodide-http")
"""What the kernel takes of them besides, as far as a version of Pyodide has it apart."""
CORE = (".mjs", ".js", ".wasm", ".json", ".zip")
"""Endings of the files of Pyodide itself."""
PACKED = (".py", ".csv", ".json", ".jsonl")
"""Endings of our files that a notebook imports or reads."""
FIRST = """\
# In the browser: the package, and the records that this notebook reads
%pip install -q effml
import os

from effml.machine import ROOT

os.environ["EFFML_REFERENCE"] = str(ROOT / "results" / "reference")
os.environ["EFFML_REFERENCE_RUNS"] = "runs-NN.jsonl"
os.environ["EFFML_DATA"] = str(ROOT / "data")
os.environ["EFFML_FIGURES"] = "/tmp/figures"  # figures stand still here"""


def make_lite(folder: str | os.PathLike, pyodide: str | os.PathLike | None = None) -> list[Path]:
    """Write the pages, and in the folder `lite` among them the notebooks that need no torch: a
    browser runs them in the profile reference, from a server. They are returned.

    `pyodide` is the folder of an unpacked Pyodide, of which what is needed comes along; without it
    the browser fetches Pyodide when a notebook is opened. Raises ModuleNotFoundError where
    JupyterLite is not installed, RuntimeError with its words where it fails.
    """
    optional("jupyterlite_pyodide_kernel", "lite")
    folder, books = Path(folder), in_browser()
    make_site(folder, lite=books)
    with tempfile.TemporaryDirectory() as scratch:
        lite = Path(scratch)
        for name in ("files", "pypi"):
            (lite / name).mkdir()
        for book in books:
            (lite / "files" / book.name).write_text(with_first_cell(book), encoding="utf-8")
        write_wheels(lite / "pypi")
        if pyodide is not None:
            copy_pyodide(Path(pyodide), lite / "static" / "pyodide")
        words = [sys.executable, "-m", "jupyterlite_core", "build", "--no-sourcemaps"]
        words += ["--lite-dir", str(lite), "--output-dir", str((folder / "lite").resolve())]
        done = subprocess.run(words, capture_output=True, text=True, cwd=lite)
    kernel = folder / "lite" / "extensions" / "@jupyterlite" / "pyodide-kernel-extension"
    if done.returncode or not kernel.is_dir():
        raise RuntimeError(f"JupyterLite could not build: {(done.stderr or done.stdout)[-600:]}")
    return books


def in_browser() -> list[Path]:
    """The notebooks that need no torch."""
    return [plan.path for plan in make_plan("laptop") if needs_no_torch(plan.code)]


def needs_no_torch(code: str) -> bool:
    """Whether code names neither torch nor a room of the package that imports it at its top, and
    loads no images, which are its tensors: in functions that compute what is kept, it may."""
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "effml").rglob("*.py")}
    torch = {path for path, text in texts.items() if re.search("^import torch", text, re.M)}
    avoid = {path.relative_to(ROOT / "effml").parts[0].removesuffix(".py") for path in torch}
    asked = set()
    for name in mentioned(code):
        first, _, rest = name.partition(".")
        ours = rest.partition(".")[0] if first == "effml" else first
        asked |= {ours, effml._ROOMS.get(ours, ours).partition(".")[0]}
    return not asked & (avoid | {"torch", "*"}) and not _loads(ast.parse(code))


def _loads(tree: ast.AST) -> bool:
    if isinstance(tree, ast.Call) and ast.unparse(tree.func).endswith("load_dataset"):
        return True
    parts = ast.iter_child_nodes(tree)
    return any(_loads(part) for part in parts if not isinstance(part, ast.FunctionDef))


def with_first_cell(book: Path) -> str:
    """A notebook behind the cell that gets the package and says where its records are."""
    told = json.loads(book.read_text(encoding="utf-8"))
    cell = {"cell_type": "code", "id": "in-the-browser", "metadata": {}, "outputs": []}
    cell |= {"execution_count": None, "source": FIRST.replace("NN", book.name[:2])}
    return json.dumps(told | {"cells": [cell, *told["cells"]]})


def write_wheels(folder: Path) -> None:
    """A wheel of the package, the modules beside the notebooks, the reference, and the tables of
    PePR where they are at hand; it asks for other packages by their names alone. And one of `comm`,
    which the kernel would fetch from PyPI."""
    sys.path.insert(0, str(ROOT / "notebooks"))
    from pepr.tables import tables_here

    files: dict[Path, Path | str] = {Path("data/README.md"): ROOT / "data" / "README.md"}
    for top, start in (("effml", ROOT), ("notebooks", ROOT / "notebooks"), ("results", ROOT)):
        for path in sorted((ROOT / top).rglob("*")):
            parts = {*path.relative_to(ROOT).parts}
            if path.suffix in PACKED and not {"local", "solutions"} & parts:
                files[path.relative_to(start)] = path
    files |= {Path("data/pepr") / f"{name}.csv": path for name, path in tables_here().items()}
    info = Path(f"effml-{effml.__version__}.dist-info")
    about = f"Metadata-Version: 2.1\nName: effml\nVersion: {effml.__version__}\n"
    files[info / "METADATA"] = about + "".join(f"Requires-Dist: {name}\n" for name in NEEDS)
    kind = "Wheel-Version: 1.0\nGenerator: effml\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[info / "WHEEL"] = kind
    files[info / "RECORD"] = "".join(f"{name.as_posix()},,\n" for name in files)
    _zip(folder / f"effml-{effml.__version__}-py3-none-any.whl", files)
    comm = distribution("comm")
    parts = {path: comm.locate_file(path) for path in comm.files if "__pycache__" not in path.parts}
    _zip(folder / f"comm-{comm.version}-py3-none-any.whl", parts)


def _zip(wheel: Path, files: dict) -> None:
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as file:
        for name, source in files.items():
            text = source if isinstance(source, str) else Path(source).read_bytes()
            file.writestr(name.as_posix(), text)


def copy_pyodide(source: Path, target: Path) -> None:
    """Copy the core of a Pyodide, the packages needed, and those which these need."""
    lock = json.loads((source / "pyodide-lock.json").read_text(encoding="utf-8"))["packages"]
    packages = {name.replace("_", "-"): package for name, package in lock.items()}
    needed, waiting = {}, [*NEEDS, *(name for name in KERNEL if name in packages)]
    while waiting:
        if (name := waiting.pop().replace("_", "-")) not in needed:
            needed[name] = packages[name]["file_name"]
            waiting += packages[name]["depends"]
    core = [path.name for path in source.glob("py*") if path.suffix in CORE]
    target.mkdir(parents=True)
    for file in (*core, *needed.values()):
        shutil.copy(source / file, target / file)
