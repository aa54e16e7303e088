"""The .npz that an import writes, and the report beside it. Only an import's own are replaced."""

import json
import os
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from effml.machine import whole_file


def npz_path(out: str | os.PathLike) -> Path:
    """`out` as a path that can be written to; nothing is written yet.

    Raises ValueError unless it ends in .npz, FileExistsError where it or the report beside it is
    there and was not made by an import, and OSError where nothing can be written to its folder.
    """
    out = Path(out)
    if out.suffix != ".npz":
        raise ValueError(f"{out.name!r} is no name for the output: give one that ends in .npz.")
    earlier(out)
    there = next((one for one in out.parents if one.exists()), Path())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise OSError(f"Nothing can be written to {there}. Give another place for {out.name}.")
    return out


def earlier(out: Path) -> bool:
    """Whether `out` is there from an import. FileExistsError if it or its report is of another."""
    for path in (out, _report_of(out)):
        if os.path.lexists(path) and not _of_an_import(path):
            said = f"{path} is there already, and was not made by an import of effml"
            raise FileExistsError(f"{said}. Give another name, or delete that file first.")
    return os.path.lexists(out)


def write(out: Path, arrays: dict[str, Any], report: dict[str, Any]) -> bool:
    """Write `arrays` to `out` and `report` beside it, whole or not at all; whether they replaced an
    earlier import. Of a pair (array, rows) only `rows` are written. Raises as `earlier` does."""
    text = json.dumps(report, ensure_ascii=False, indent=1) + "\n"
    with whole_file(_report_of(out)) as page, whole_file(out) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, array in arrays.items():  # zipfile dates them 1980: the same bytes again
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    if isinstance(array, tuple):
                        _put(entry, *array)
                    else:
                        np.lib.format.write_array(entry, array, allow_pickle=False)
        page.write_text(text, encoding="utf-8")
        return earlier(out)


def _put(file: IO[bytes], array: np.ndarray, rows: np.ndarray) -> None:
    """`array[rows]` in .npy format, without a copy of the whole."""
    head = {"descr": array.dtype.str, "fortran_order": False}
    np.lib.format.write_array_header_1_0(file, head | {"shape": (len(rows), *array.shape[1:])})
    for start in range(0, len(rows), 128):
        file.write(array[rows[start : start + 128]].tobytes())


def _report_of(out: Path) -> Path:
    return out.with_suffix(".report.json")


def _of_an_import(path: Path) -> bool:
    """Whether the passport in an .npz or a report says that effml made it."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                passport = json.loads(file["passport"].item())
        else:
            passport = json.loads(path.read_text(encoding="utf-8"))["passport"]
        return passport["made_with"].startswith("effml ")
    except Exception:  # zipfile, numpy and json raise a dozen kinds for what is none
        return False
