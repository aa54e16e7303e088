"""Which pictures lie in a folder. A part of every deployed folder too."""

import os
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace

from effml.importing.dicom import is_dicom
from effml.importing.rasters import PLAIN

NIFTI = (".nii", ".nii.gz")
SUFFIXES = (*PLAIN, ".dcm", ".dicom", *NIFTI)
Job = SimpleNamespace  # the arguments of `import_folder`; refused and notes are added to


def refuse(job: Job, names: Iterable[str], reason: str) -> None:
    """Add these files to those that are refused."""
    job.refused += [{"file": name, "reason": reason} for name in names]


def pictures_in(job: Job, folder: Path, without: Path | None = None) -> dict[str, Path]:
    """The picture files in `folder` and below as {relative name (NFC, with /): path}, in order.

    A picture has one of SUFFIXES in any case, or is DICOM by its first bytes, and is not hidden.
    Links to folders are followed, each folder once, `without` never.
    """

    def name(path: str | os.PathLike) -> str:
        return unicodedata.normalize("NFC", Path(path).relative_to(folder).as_posix())

    def closed(error: OSError) -> None:
        refuse(job, [name(error.filename)], f"the folder cannot be opened ({error.strerror})")

    if not folder.is_dir():
        if folder.is_file():
            raise NotADirectoryError(f"{folder} is a file: give the folder that it lies in.")
        where = f"Check the path; relative paths start at {Path.cwd()}."
        raise FileNotFoundError(f"There is no folder {folder}. {where}")
    found, seen = {}, {folder.resolve(), without}
    for here, below, files in os.walk(folder, followlinks=True, onerror=closed):
        # a link may lead back here, or to a folder that is reached without it: that one goes first
        below.sort(key=lambda one: (os.path.islink(os.path.join(here, one)), one))
        ways = {one: Path(here, one).resolve() for one in below if not one.startswith(".")}
        below[:] = [one for one, way in ways.items() if not (way in seen or seen.add(way))]
        for path in (Path(here, file) for file in files if not file.startswith(".")):
            if path.name.lower().endswith(SUFFIXES) or _starts_as_dicom(path):
                found[name(path)] = path
    return dict(sorted(found.items()))


def passed_over(folder: Path, files: Mapping[str, Path]) -> str:
    """What is to be said of the files that are no picture by their names; "" where none is."""
    others = [p for p in folder.rglob("*") if p.is_file() and p not in files.values()]
    ends = ", ".join(sorted({path.suffix.lower() or "none" for path in others}))
    return f"{len(others)} file(s) not looked at, by their endings: {ends}" if others else ""


def _starts_as_dicom(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return is_dicom(file.read(132))
    except OSError:
        return False
