"""Where on this machine a set lies, whether it is the official one, and how to come by it."""

import gzip
import hashlib
import os
import re
import zlib
from functools import lru_cache
from pathlib import Path

from effml.data.catalogue import RemoteFile, remote_files
from effml.machine import ROOT
from effml.phantoms import PHANTOMS


def folders(root: str | os.PathLike | None = None) -> list[Path]:
    """Where data may lie, in order: `root`, `EFFML_DATA` and one level below it, `data/`,
    MedMNIST's cache. New files go into the first of them."""
    found = [] if root is None else [Path(root)]
    if found and found[0].is_file():
        raise NotADirectoryError(f"root={root} is a file: give a folder.")
    if given := os.environ.get("EFFML_DATA"):
        given = Path(given).expanduser()
        folder = given if given.is_dir() else ROOT / given  # notebooks run in their own folder
        if not folder.is_dir():
            raise ValueError(f"EFFML_DATA={given} is no folder. Set it to one, or unset it.")
        found += [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    if (ROOT / "pyproject.toml").is_file():  # a checkout; else ROOT is where pip puts packages
        found.append(ROOT / "data")
    once: dict[Path, Path] = {}
    for folder in (*found, Path("data"), Path.home() / ".medmnist"):
        once.setdefault(folder.resolve(), folder)
    return list(once.values())


def find(name: str, *, size: int = 28, root: str | os.PathLike | None = None) -> Path:
    """The file (for MNIST the folder) on this machine that a name or path stands for. ValueError:
    a file under an official name has not the official MD5."""
    if Path(name).is_file():
        return Path(name)
    if name.endswith((".npz", ".npy")):
        raise FileNotFoundError(f"There is no file {name}, seen from {Path.cwd()}.")
    remote, looked = remote_files(name, size=size), folders(root)
    where = f"in {', '.join(map(str, looked))}. {advice(name, remote, root)}"
    if len(remote) > 1:  # MNIST, by torchvision's habits or as it was fetched by hand
        for place in (folder / way for folder in looked for way in ("MNIST/raw", "raw", "")):
            if all((place / Path(file.path).name).is_file() for file in remote):
                return place
        raise FileNotFoundError(f"MNIST's four idx files were not found {where}")
    file = remote[0].path if remote else f"{name}.npz"
    here = [path for folder in looked if (path := folder / file).is_file()]
    for path in here:
        if not remote or digest(path, "md5") == remote[0].md5:
            return path
    if here:
        raise ValueError(
            f"{here[0]} is not the official {name}: its MD5 is {digest(here[0], 'md5')}, not "
            f"{remote[0].md5}. Get the file again, or load it by its path."
        )
    raise FileNotFoundError(f"{file} was not found {where}")


def advice(name: str, remote: list[RemoteFile], root: str | os.PathLike | None = None) -> str:
    """How to come by a set that is not here: a command, steps by hand, its file or a phantom."""
    other = f"choose a phantom: {', '.join(PHANTOMS)}"
    if Path(name).is_dir():
        return f"{name} is a folder: python -m effml data import {name} mine.npz makes a file of it"
    if Path(f"{name}.npz").is_file():
        return f"{name}.npz is a file: say data={name}.npz"
    if not remote:
        return f"Set EFFML_DATA to the folder which holds it, give a path, or {other}"
    place = folders(root)[0] / remote[0].path
    size = re.search(r"_(64|128|224)\.npz$", remote[0].path)
    wanted = f" --size {size[1]}" if size else ""
    files = [f"   {one.urls[0]} as {Path(one.path).name}, MD5 {one.md5}\n" for one in remote]
    return (
        f"With a network: python -m effml data get {name}{wanted}. By hand:\n"
        f"1. Get on any machine:\n{''.join(files)}2. Check the MD5.\n"
        f"3. Put it into {place.parent}.\n4. Say python -m effml data verify {name}. "
        f"Or set EFFML_DATA to the folder which holds it, or {other}"
    )


def valid(path: Path, file: RemoteFile) -> bool:
    """Whether `path` is this public file, by its MD5 or, for a .gz file, that of its content."""
    try:
        return digest(path, "md5") == file.md5 or (
            bool(file.md5_inside) and digest(path, "md5 inside") == file.md5_inside
        )
    except (OSError, EOFError, zlib.error):  # not here, no gzip file, or a damaged one
        return False


def digest(path: Path, kind: str) -> str:
    """The "md5", "sha256" or "md5 inside" (of a .gz file's content) of a file or MNIST's folder;
    remembered until it changes."""
    names = [Path(file.path).name for file in remote_files("mnist")]
    paths = [path / name for name in names] if path.is_dir() else [path]
    stats = [file.stat() for file in paths]
    return _digest(tuple(paths), kind, tuple((stat.st_mtime_ns, stat.st_size) for stat in stats))


@lru_cache(maxsize=64)
def _digest(paths: tuple[Path, ...], kind: str, _version: tuple) -> str:
    total = hashlib.new(kind.removesuffix(" inside"), usedforsecurity=False)
    for path in paths:
        with gzip.open(path) if kind.endswith(" inside") else open(path, "rb") as file:
            hashlib.file_digest(file, lambda: total)
    return total.hexdigest()
