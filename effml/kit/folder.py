"""Filling the folder of a class: packages, project, data, pages, installers, checksums."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from effml.data.places import digest
from effml.kit import data, sums
from effml.kit.lock import LOCK, SYSTEMS, Wheel, wheels
from effml.machine import ROOT, whole_file

PYPI = "https://pypi.org/simple"
UNKNOWN_BYTES, REST_BYTES = 200e6, 100e6
"""Of a wheel whose size the lock does not tell; of what is no wheel."""
HERE = Path(__file__).resolve().parent
INSTALLERS = ("install.py", "install.sh", "install.ps1", "install.cmd")
PARTS = (sums.NAME, "START-HERE.html", *INSTALLERS, "wheelhouse", "requirements", "effml", "data")
PARTS = (*PARTS, "pages", "python")
"""Of a kit; `python` is for the installers of Python that somebody puts there."""


def make(
    folder: Path,
    systems: Sequence[str] = ("linux", "windows", "macos"),
    pythons: Sequence[str] = ("3.12",),
    *,
    also: Collection[str] = (),
    pyodide: Path | None = None,
    lock: Path = LOCK,
) -> None:
    """Fill `folder`, or go on where an earlier call stopped. What it holds for other systems and
    Pythons stays.

    Args:
        folder: a new one, or a kit.
        systems: of SYSTEMS.
        pythons: such as "3.12".
        also: stems of files of data or weights for which you know that they may be passed on.
        pyodide: an unpacked Pyodide, with which notebooks run in a browser alone.
        lock: another lock file.

    Raises:
        ValueError: a system or Python that the lock file does not know; a folder with other files;
            no checkout of git.
        OSError: the disk is too small, or a package cannot be had.
    """
    wanted = {f"{s}-{p}": wheels(s, p, lock) for s in systems for p in pythons}
    store = folder / "wheelhouse"
    folder.mkdir(parents=True, exist_ok=True)
    if strange := sorted({path.name for path in folder.iterdir()} - {*PARTS, *sums.JUNK}):
        told = f"{folder} holds other files: {', '.join(strange[:3])}"
        raise ValueError(f"{told}. Give a new folder, such as {folder / 'kit'}")
    store.mkdir(exist_ok=True)
    (folder / sums.NAME).unlink(missing_ok=True)  # a kit without it is unfinished
    lacking = {one.file: one for some in wanted.values() for one in some if not _here(store, one)}
    needed = sum(one.size or UNKNOWN_BYTES for one in lacking.values()) + REST_BYTES
    if needed > (free := shutil.disk_usage(folder).free):
        told = f"{folder} needs {needed / 1e6:,.0f} MB more, and {free / 1e6:,.0f} MB are free"
        raise OSError(f"{told}. Give another folder, or fewer systems (--for) and Pythons.")
    for key, some in wanted.items():
        _download(key, [one for one in some if not _here(store, one)], store)
    if failed := [one.url for one in lacking.values() if not _here(store, one)]:
        told = "\n".join(["pip could not get these (its words are above):", *failed])
        told += "\nThe kit is unfinished. What is here stays, and the same command goes on"
        raise OSError(f"{told}. Files that you put into {store} yourself will do as well.")
    for key, some in wanted.items():
        _write(folder / "requirements" / f"{key}.txt", _requirements(some, store))
    _copy_project(folder / "effml")
    _build(folder / "effml", store)
    data.copy(folder / "data", also)
    _write_pages(folder / "pages", pyodide)
    for name in INSTALLERS:
        shutil.copyfile(HERE / name, folder / name)
    kinds = ", ".join(sorted(path.stem for path in (folder / "requirements").glob("*.txt")))
    page = (HERE / "start_here.html").read_text(encoding="utf-8").replace("{kinds}", kinds)
    read = '<a href="pages/index.html">All notebooks as pages</a>. '
    read *= (folder / "pages" / "index.html").is_file()
    _write(folder / "START-HERE.html", [page.replace("{pages}", read)])
    sums.write(folder)
    size = sum(path.stat().st_size for path in sums.files(folder)) / 1e6
    print(f"{folder} is ready: {size:,.0f} MB for {kinds}. Open START-HERE.html there.")


def _here(store: Path, wheel: Wheel) -> bool:
    path = store / wheel.file
    return path.is_file() and digest(path, "sha256") == wheel.sha256


def _download(key: str, lacking: list[Wheel], store: Path) -> None:
    """Get wheels with pip, which knows this machine's mirrors, proxies and caches. It lays down a
    batch as a whole: what is interrupted loses one, and so does a wheel that is not to be had."""
    system, python = key.rsplit("-", 1)
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
    command += [f"--platform={name}" for name in SYSTEMS[system].platforms()]
    done = 0
    for batch in _batches(lacking):
        print(f"{key}: {done} of {len(lacking)} packages; {batch[0].file} …", flush=True)
        other = [f"--extra-index-url={batch[0].index}"] * (batch[0].index != PYPI)
        with tempfile.TemporaryDirectory() as place:
            asked = Path(place) / "asked.txt"
            _write(asked, [one.requirement + "\n" for one in batch])
            subprocess.run([*command, *other, f"--dest={store}", "-r", str(asked)])
        done += len(batch)


def _batches(lacking: list[Wheel], most: float = 20e6) -> Iterator[list[Wheel]]:
    """Of one index each, the largest wheels first."""
    batch, size = [], 0.0
    for wheel in sorted(lacking, key=lambda one: (one.index, -(one.size or UNKNOWN_BYTES))):
        full = size + (wheel.size or UNKNOWN_BYTES) > most
        if batch and (full or wheel.index != batch[0].index):
            yield batch
            batch, size = [], 0.0
        batch.append(wheel)
        size += wheel.size or UNKNOWN_BYTES
    if batch:
        yield batch


def _requirements(some: list[Wheel], store: Path) -> Iterator[str]:
    """A requirements file, and what the installer asks of the disk."""
    inside = [one for wheel in some for one in zipfile.ZipFile(store / wheel.file).infolist()]
    unpacked, longest = sum(one.file_size for one in inside), max(len(i.filename) for i in inside)
    yield f"# {unpacked / 1e6:.0f} MB unpacked, longest path {longest}\n"
    for wheel in some:
        yield wheel.requirement + "\n"


def _copy_project(to: Path) -> None:
    """What git tracks, as it lies here; and nothing that is private."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True)
    if listed.returncode:
        told = "so that nothing private goes along. Get it with git clone, or copy a kit as it is"
        raise ValueError(f"{ROOT}: a kit holds what git tracks, {told}.")
    shutil.rmtree(to, ignore_errors=True)
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, to / name)


def _build(project: Path, store: Path) -> None:
    """The wheel of effml itself, without a network, from a copy: setuptools leaves traces."""
    with tempfile.TemporaryDirectory() as place:
        source = shutil.copytree(project, Path(place) / "effml")
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index"]
        command += ["--no-build-isolation", f"--wheel-dir={store}", str(source)]
        time_of_files = {"SOURCE_DATE_EPOCH": "315532800"}  # the same files give the same wheel
        if subprocess.run(command, env=os.environ | time_of_files).returncode:
            raise OSError("The wheel of effml was not built. pip install 'setuptools>=77', again.")


def _write_pages(to: Path, pyodide: Path | None) -> None:
    """The notebooks as pages, some of which run in the browser where there is a Pyodide."""
    if find_spec("effml.site"):
        words = ["lite", str(to.resolve()), "--pyodide", str(pyodide.resolve())] if pyodide else []
        command = [sys.executable, "-m", "effml", *(words or ["html", str(to.resolve())])]
        if subprocess.run(command, cwd=ROOT).returncode:
            print(f"The kit goes without the pages. Try {' '.join(command[1:])}", file=sys.stderr)


def _write(path: Path, lines: Iterable[str]) -> None:
    with whole_file(path) as partial:
        partial.write_text("".join(lines), encoding="utf-8", newline="\n")
