"""The checksums of a kit: which of its files are damaged, missing, or nobody's."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from effml.machine import whole_file

NAME = "SHA256SUMS"
JUNK = (".DS_Store", "Thumbs.db", "desktop.ini", "System Volume Information", ".Trashes")
"""What systems leave on a stick by themselves."""


def files(folder: Path) -> Iterator[Path]:
    """Of a kit, but the checksums themselves."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        junk = any(part in JUNK or part.startswith("._") for part in parts)
        if path.is_file() and not junk and parts != (NAME,):
            yield path


def write(folder: Path) -> None:
    """SHA256SUMS, which `sha256sum -c` reads too."""
    lines = (f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files(folder))
    with whole_file(folder / NAME) as partial:
        partial.write_text("".join(lines), encoding="utf-8", newline="\n")


def read(folder: Path) -> dict[str, str]:
    """The SHA-256 that each file of a kit should have, by its name."""
    if not folder.is_dir():
        what = "That is a file" if folder.exists() else "There is no folder"
        raise FileNotFoundError(f"{what}: {folder}. Give the folder of a kit.")
    if not (folder / NAME).is_file():
        told = f"{folder} holds no {NAME}: it is no kit, or was not finished"
        raise FileNotFoundError(f"{told}. Say: python -m effml kit make '{folder}'")
    lines = (folder / NAME).read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def verify(folder: Path) -> list[str]:
    """What is wrong with a kit, a line for each file; empty where nothing is.

    Raises:
        FileNotFoundError: no kit, or one that was not finished.
    """
    asked = read(folder)
    here = {path.relative_to(folder).as_posix(): path for path in files(folder)}
    told = []
    for name in sorted({*asked, *here}):
        if name not in here:
            told.append(f"missing  {name}")
        elif name not in asked:
            told.append(f"extra    {name}")
        elif _sha256(here[name]) != asked[name]:
            told.append(f"damaged  {name}")
    return told


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:  # a bad sector of the stick
        return f"unreadable: {error}"
