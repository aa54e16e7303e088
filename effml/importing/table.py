"""What lies in a folder and what a table says of it: one row of text per picture."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from effml.importing.delimited import read_csv
from effml.importing.dicom import is_dicom
from effml.importing.pictures import SUFFIXES

if TYPE_CHECKING:
    import pandas as pd

Refused = list[dict[str, str]]  # [{"file": relative name, "reason": …}]
_COLUMNS = {
    "file": ("file", "image", "filename"),
    "label": ("label",),
    "group": ("group", "patient", "patient_id"),
    "site": ("site",),
    "date": ("date",),
    "split": ("split",),
}
_OURS = ("images", "labels", "masks", "groups", "files")  # arrays that no column may be called
_MISSING = {"date": "no date as YYYY-MM-DD", "mask": "no mask of its name, or more than one"}


def refuse(refused: Refused, names: Iterable[str], reason: str) -> None:
    """Add these files to `refused`."""
    refused += [{"file": name, "reason": reason} for name in names]


def pictures_in(folder: Path, refused: Refused, *, without: Path | None = None) -> dict[str, Path]:
    """The picture files in `folder` and below as {relative name (NFC, with /): path}, sorted by
    name, hidden ones left out.

    A picture has one of SUFFIXES in any case, or is a DICOM file by its first bytes. Links to
    folders are followed, each folder once. `without` is a folder to stay out of. Folders that
    cannot be opened are added to `refused`; FileNotFoundError if `folder` is none.
    """

    def name(path: str | os.PathLike) -> str:
        return unicodedata.normalize("NFC", Path(path).relative_to(folder).as_posix())

    def closed(error: OSError) -> None:
        reason = f"the folder cannot be opened ({error.strerror})"
        refuse(refused, [name(error.filename)], reason)

    if not folder.is_dir():
        where = f"Check the path; relative paths start at {Path.cwd()}."
        raise FileNotFoundError(f"There is no folder {folder}. {where}")
    found, seen = {}, {folder.resolve(), without}
    for here, below, files in os.walk(folder, followlinks=True, onerror=closed):
        # a link may lead back here, or to a folder that is reached without it: that one goes first
        below.sort(key=lambda one: (os.path.islink(os.path.join(here, one)), one))
        ways = {one: Path(here, one).resolve() for one in below if not one.startswith(".")}
        below[:] = [one for one, way in ways.items() if not (way in seen or seen.add(way))]
        for path in (Path(here, file) for file in files if not file.startswith(".")):
            if path.suffix.lower() in SUFFIXES or _starts_as_dicom(path):
                found[name(path)] = path
    return dict(sorted(found.items()))


def finder(files: Iterable[str]) -> Callable[[str], list[str]]:
    """A function from a name in a table to the files it may mean.

    Tried in turn: the relative path, the path with its extension in small letters, and the mere
    name; each also without an extension. So tables that were written on another machine, with other
    folders, still fit.
    """
    files, index = set(files), defaultdict(list)
    for file in files:
        low = _low(file)
        for key in {str(low), low.name, str(low.with_suffix("")), low.stem}:
            index[key].append(file)

    def find(name: str) -> list[str]:
        low = _low(name)
        return [name] if name in files else sorted(index.get(str(low)) or index.get(low.name, []))

    return find


def rows_of(
    files: dict[str, Path],
    table: "str | os.PathLike | pd.DataFrame",
    columns: dict[str, str],
    folder: Path,
    *,
    needed: set[str],
    refused: Refused,
) -> "pd.DataFrame":
    """One row per picture, sorted by file: the columns file and path (from `files`, which lie in
    `folder`), label, group, site, date and split as text, as far as there are any, and those that
    `columns` adds. attrs["columns"] says what they are called in the table, attrs["other_case"]
    which files were found in other case than the table writes them, as text.

    Rows without a file, or without a value in label, group or a column of `needed`, are added to
    `refused`. Raises ValueError if columns are missing or two rows mean one file.
    """
    import pandas as pd

    frame = table if isinstance(table, pd.DataFrame) else read_csv(table)
    chosen = _chosen(list(frame.columns), columns, needed)
    if frame.empty:
        advice = "Give a row per picture."
        raise ValueError(f"The table has a line of column names and no rows. {advice}")
    values = {ours: [_text(value) for value in frame[theirs]] for ours, theirs in chosen.items()}
    rows = pd.DataFrame(values, dtype=object)
    means, other_case = _meant(rows.file, files)
    lost = [(name, hits) for name, hits in zip(rows.file, means) if len(hits) != 1]
    for (name, _), reason in zip(lost, _why_lost(lost, folder)):
        refuse(refused, [_said(name)], reason)
    rows = rows.assign(file=[hits[0] if len(hits) == 1 else None for hits in means])
    rows = rows.dropna(subset="file")
    if len(twice := rows.file[rows.file.duplicated()].unique()):
        said = f"The table has two rows or more for {', '.join(twice[:5])} ({len(twice)} files)"
        raise ValueError(f"{said}. Keep one each.")
    rows = filled(rows, needed | {"label", "group"} & set(rows), refused).fillna("")
    rows = rows.sort_values("file", ignore_index=True)
    rows = rows.assign(path=[files[name] for name in rows.file])
    rows.attrs |= {"columns": chosen, "other_case": other_case}
    return rows


def _meant(names: Iterable[str | None], files: Iterable[str]) -> tuple[list[list[str]], list[str]]:
    """For each name the files that it may mean; and the names that mean a file in other case.

    Case is overlooked only where the name is no file's own and no other row means that file.
    """
    find, same = finder(files), defaultdict(list)
    means = [find(name) if name else [] for name in names]
    taken = {file for hits in means for file in hits}
    for file in files:
        same[file.casefold()].append(file)
    loose, told = finder(same), []
    for i, name in enumerate(names):
        if name and not means[i]:
            hits = [file for low in loose(name.casefold()) for file in same[low]]
            means[i] = [file for file in hits if file not in taken]
            if len(means[i]) == 1:
                told.append(f"{means[i][0]} for {name}")
    return means, told


def _why_lost(lost: list[tuple[str | None, list[str]]], folder: Path) -> list[str]:
    """Why a name of a table stands for no picture, for each pair of a name and the files it means."""
    walk = os.walk(folder, followlinks=False) if lost else ()
    there = (Path(here, file).relative_to(folder) for here, _, files in walk for file in files)
    find = finder(unicodedata.normalize("NFC", path.as_posix()) for path in there)
    reasons = []
    for name, hits in lost:
        others = [PurePosixPath(file) for file in (find(name) if name and not hits else ())]
        if hits:
            reason = f"{len(hits)} files have this name: give the path in the folder"
        elif not others:
            reason = "named in the table, not in the folder"
        elif any(part.startswith(".") for part in others[0].parts):
            reason = "a hidden file, by the dot before its name: rename it"
        elif others[0].suffix.lower() in SUFFIXES:
            reason = "a mask by its name or its folder, no picture"
        else:
            kind = others[0].suffix or "without an ending"
            reason = f"a file type that is not read: {kind}; save it as PNG"
        reasons.append(reason)
    return reasons


def filled(rows: "pd.DataFrame", columns: set[str], refused: Refused) -> "pd.DataFrame":
    """The rows with a value in each of `columns`; the others are added to `refused`."""
    for column in sorted(columns):
        missing = rows[column].isna() | (rows[column] == "")
        refuse(refused, rows.file[missing], _MISSING.get(column, f"no {column}"))
        rows = rows[~missing]
    return rows


def _chosen(there: list[str], columns: dict[str, str], needed: set[str]) -> dict[str, str]:
    """{our name: the table's name} for the columns that are used."""
    its = ", ".join(map(str, there))
    if pictures := [name for name in there if Path(str(name)).suffix.lower() in SUFFIXES]:
        said = (
            f"The first line of the table holds {pictures[0]}, a picture, and no names of columns"
        )
        raise ValueError(f"{said}. Write such a line above it: file,label,group.")
    if missing := [f"{own} (for {ours})" for ours, own in columns.items() if own not in there]:
        raise ValueError(f"The table has no column {', '.join(missing)}. Its columns: {its}.")
    if bad := [ours for ours in columns if not ours.isidentifier() or ours in _OURS]:
        menu = f"{', '.join(_COLUMNS)}, or another plain word"
        raise ValueError(f"columns cannot name {', '.join(bad)}. Choose from: {menu}.")
    low = defaultdict(list)
    for name in there:
        low[str(name).strip().lower()].append(name)
    found = {
        ours: next((low[name][0] for name in names if name in low), None)
        for ours, names in _COLUMNS.items()
    } | columns
    for ours, theirs in found.items():
        same = there.count(theirs) if ours in columns else len(low[str(theirs).strip().lower()])
        if same > 1:
            said = f"The table has two columns {theirs} (for {ours}). Its columns: {its}"
            raise ValueError(f"{said}. Rename or delete one.")
    if missing := sorted(name for name in {"file"} | needed if found[name] is None):
        raise ValueError(
            f"The table has no column {', '.join(missing)}. Its columns: {its}. Rename them, "
            f"or say columns={{'{missing[0]}': 'NAME'}} with the name in the table."
        )
    return {ours: theirs for ours, theirs in found.items() if theirs is not None}


def _text(value: Any) -> str | None:
    """A field as text without space around it; None if it is empty. NA and nan are text, unless a
    data frame's own.
    """
    import pandas as pd

    if not isinstance(value, str) and pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    return unicodedata.normalize("NFC", str(value)).strip() or None


def _low(name: str) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.with_suffix(path.suffix.lower()) if path.suffix.lower() in SUFFIXES else path


def _said(name: str | None) -> str:
    """A table's file name for the report, without the folders of the machine it was written on."""
    path = PureWindowsPath(name or "(no file name)")  # knows both kinds of slash
    return path.name if path.anchor else path.as_posix()


def _starts_as_dicom(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return is_dicom(file.read(132))
    except OSError:
        return False
