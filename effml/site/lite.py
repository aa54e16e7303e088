"""Notebooks that run in the browser alone: JupyterLite, with Pyodide beside it."""

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
"""What the notebooks need of Pyodide's own packages, in its versions: our pins are others."""
KERNEL = ("ipython", "micropip", "packaging", "ssl", "sqlite3", "jedi", "pyodide-http")
"""What the kernel asks for besides, as far as a version of Pyodide has it."""
PLAIN = ("comm",)
"""What the kernel would otherwise fetch from PyPI: pure Python, packed from what is installed."""
CORE = (".mjs", ".js", ".wasm", ".json", ".zip")
"""Endings of the files of Pyodide itself."""
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
    """Write the pages, and in its folder `lite` the notebooks that run without torch, to be run by
    the browser: in the profile reference, from a server (`python -m http.server`).

    Args:
        folder: where to write.
        pyodide: the folder of an unpacked Pyodide (`pyodide.mjs`, `pyodide-lock.json`, wheels),
            of which what is needed comes along. Without it the browser fetches it when a notebook
            is opened, which takes a network.

    Returns:
        The notebooks offered.

    Raises:
        ModuleNotFoundError: JupyterLite is not installed.
        FileNotFoundError: the folder of Pyodide lacks a file that is needed.
        RuntimeError: JupyterLite could not build its pages; its words.

    Example:
        >>> effml.site.lite.make_lite("pages")  # doctest: +SKIP
    """
    optional("jupyterlite_pyodide_kernel", "lite")
    folder, books = Path(folder), in_browser()
    make_site(folder, lite=books)
    with tempfile.TemporaryDirectory() as scratch:
        lite = Path(scratch)
        for name in ("files", "pypi", "static"):
            (lite / name).mkdir()
        for book in books:
            (lite / "files" / book.name).write_text(_with_first_cell(book), encoding="utf-8")
        write_wheel(lite / "pypi")
        for name in PLAIN:
            installed_wheel(name, lite / "pypi")
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
    """The notebooks that need no torch: their cells name neither it, nor a room of the package that
    imports it, nor images, which are its tensors."""
    rooms = {
        path.relative_to(ROOT / "effml").parts[0]
        for path in _files("effml", ".py")
        if re.search("^import torch", path.read_text(encoding="utf-8"), re.M)
    }
    return [
        plan.path
        for plan in make_plan("laptop")
        if not _asked(plan.code) & (rooms | {"torch", "load_dataset"})
    ]


def _asked(code: str) -> set[str]:
    """Packages that code names, and names and rooms of ours."""
    asked = set()
    for name in mentioned(code):
        first, _, rest = name.partition(".")
        ours = rest.partition(".")[0] if first == "effml" else first
        asked |= {ours, effml._ROOMS.get(ours, ours).partition(".")[0]}
    return asked


def _with_first_cell(book: Path) -> str:
    told = json.loads(book.read_text(encoding="utf-8"))
    cell = {"cell_type": "code", "id": "in-the-browser", "metadata": {}, "outputs": []}
    cell |= {"execution_count": None, "source": FIRST.replace("NN", book.name[:2])}
    return json.dumps(told | {"cells": [cell, *told["cells"]]})


def _files(folder: str, *endings: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*") if path.suffix in endings)


def write_wheel(folder: Path) -> Path:
    """A wheel of the package, the modules beside the notebooks, the reference, and the tables of
    PePR where they are at hand. It asks for other packages by their names alone, since a browser
    has its own versions of them."""
    sys.path.insert(0, str(ROOT / "notebooks"))
    from pepr.tables import tables_here

    files = {path.relative_to(ROOT): path for path in _files("effml", ".py", ".csv")}
    beside = [path for path in _files("notebooks", ".py", ".csv") if "solutions" not in path.parts]
    files |= {path.relative_to(ROOT / "notebooks"): path for path in beside}
    files |= {
        path.relative_to(ROOT): path
        for path in _files("results/reference", ".csv", ".jsonl", ".json")
    }
    files |= {Path("data/pepr") / f"{name}.csv": path for name, path in tables_here().items()}
    about = f"Metadata-Version: 2.1\nName: effml\nVersion: {effml.__version__}\n"
    about += "".join(f"Requires-Dist: {name}\n" for name in NEEDS)
    kind = "Wheel-Version: 1.0\nGenerator: effml\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    wheel = folder / f"effml-{effml.__version__}-py3-none-any.whl"
    info = f"effml-{effml.__version__}.dist-info"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as file:
        for name, path in files.items():
            file.write(path, name.as_posix())
        file.writestr(f"{info}/METADATA", about)
        file.writestr(f"{info}/WHEEL", kind)
        file.writestr(f"{info}/RECORD", "".join(f"{name.as_posix()},,\n" for name in files))
    return wheel


def installed_wheel(name: str, folder: Path) -> None:
    """A wheel of a package that is installed here and has no compiled part."""
    found = distribution(name)
    wheel = folder / f"{name}-{found.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as file:
        for path in found.files:
            if not {"..", "__pycache__"} & {*path.parts}:
                file.write(found.locate_file(path), path.as_posix())


def copy_pyodide(source: Path, target: Path) -> None:
    """Copy the core of a Pyodide, the packages needed, and those which these need."""
    lock = json.loads((source / "pyodide-lock.json").read_text(encoding="utf-8"))["packages"]
    packages = {name.replace("_", "-"): package for name, package in lock.items()}
    needed, waiting = {}, [name for name in (*NEEDS, *KERNEL) if name in packages or name in NEEDS]
    while waiting:
        if (name := waiting.pop().replace("_", "-")) not in needed:
            needed[name] = packages[name]["file_name"]
            waiting += packages[name]["depends"]
    core = [path.name for path in source.glob("py*") if path.suffix in CORE]
    target.mkdir(parents=True)
    for file in (*core, *needed.values()):
        shutil.copy(source / file, target / file)
