"""From a folder of pictures and a table to one .npz in MedMNIST's layout, with a passport and a report of what was refused."""

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import effml
from effml.data.classes import in_order, positive_of
from effml.data.dataset import SPLITS
from effml.data.identity import listed
from effml.data.transfer import Progress
from effml.importing.copies import ACTIONS, Copies
from effml.importing.dates import read_days
from effml.importing.folders import by_folders, masks_beside, other_files, pair_masks
from effml.importing.output import earlier, npz_path, write
from effml.importing.partition import WAYS, given_sides, one_spelling, split
from effml.importing.pictures import (
    COLOURS,
    FITS,
    PLAIN,
    SUFFIXES,
    Picture,
    Pixels,
    Window,
    read_all,
)
from effml.importing.table import Refused, filled, pictures_in, rows_of
from effml.importing.words import counted, typed

if TYPE_CHECKING:
    import pandas as pd

REFUSED_LIMIT = (
    0.5  # a larger share of unusable pictures is a mistake in the call rather than in the pictures
)
FULL = 0.98  # masks that cover more than this share of their pictures are no masks
_NEEDED = {
    "group": "There is no group column, so that one patient could be on both sides of the split. Add a column group (the "
    'patient) to the table, or say split_by="image" when each image is another patient.',
    "date": "There is no date column to split by. Add one to the table, as YYYY-MM-DD.",
}


def import_folder(
    folder: str | os.PathLike,
    out: str | os.PathLike,
    *,
    table: "str | os.PathLike | pd.DataFrame | None" = None,
    masks: str | os.PathLike | None = None,
    size: int = 224,
    columns: dict[str, str] | None = None,
    split_by: str = "group",
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    positive: str | None = None,
    window: Window = None,
    colour: str = "auto",
    fit: str = "pad",
    seed: int = 0,
    copies: str = "report",
    source: str = "",
    licence: str = "",
    dry_run: bool = False,
) -> dict[str, Any]:
    """Make `out` (.npz) and `<name>.report.json` beside it from the pictures in `folder` and below; returns the report.

    Classes come from `table`, a CSV (or data frame) with the columns file, label and, where there are any, group (the
    patient), site, date (YYYY-MM-DD) and split; without a table from the names of the folders in `folder`. `columns` maps
    these names to the table's own, and further names to columns to carry along; no other column enters the output. Files
    are found by relative path, or by name where it is unique, with or without the extension. `masks` is a folder of masks
    with the pictures' stems. Where the table has no such column, DICOM files give a group, which is a hash of the PatientID
    (a pseudonym, no anonymity), and the StudyDate as date; nothing else of their headers is kept.

    `size` is in pixels; `window`, `colour` and `fit` are those of `read_picture`, `split_by` and `fractions` those of
    `partition.split`; `positive` names the class sensitivity is about (default: by their names, else the last).
    `copies`: "report", "group" (on one side) or "drop" all but one (all, where labels differ). Files'
    names are kept, row by row. The same input gives the same bytes; `dry_run` writes nothing.

    A picture that cannot be used is refused with its reason, and the rest goes on. Raises ValueError, and writes nothing,
    if an option or the table is wrong, more than half of the pictures are refused, or the split cannot be made;
    FileNotFoundError if a folder or the table is not there; FileExistsError if `out` is there and no earlier import.
    """
    out = npz_path(out)
    _check(size, split_by, fractions, window, colour, fit, copies)
    refused: Refused = []
    notes: list[str] = []
    rows, told = _asked(Path(folder), table, masks, columns or {}, split_by, refused, notes)
    _enough(rows, refused)
    if (
        split_by in _NEEDED
        and split_by not in rows
        and all(path.suffix.lower() in PLAIN for path in rows.path)
    ):
        raise ValueError(_lacking(rows, split_by))
    classes, index, why = _classes(rows, positive, refused)
    if dry_run:
        rows = _dated(rows, split_by, refused, notes)
        told |= {"positive": f"{classes[index]} ({why})" if why != "not binary" else None}
        told |= {"notes": notes, "replaces": "an earlier import" if earlier(out) else None}
        return _plan(rows, refused, told, size, colour, split_by, fractions, seed, copies)
    rows, pixels, facts = _read(rows, refused, size=size, window=window, colour=colour, fit=fit)
    if split_by in _NEEDED and split_by not in rows and len(rows):
        raise ValueError(_lacking(rows, split_by))
    rows, more = _understood(rows, split_by, positive, refused, notes)
    passport = {
        "source": source or "imported from a local folder",
        "licence": licence or "not stated",
        **facts,
        **more,
        **told,
        "notes": notes,
    }
    return finish(
        out,
        rows,
        pixels,
        passport,
        refused,
        split_by=split_by,
        fractions=fractions,
        seed=seed,
        positive=positive,
        copies=copies,
    )


def finish(
    out: Path,
    rows: "pd.DataFrame",
    pixels: Pixels,
    passport: dict[str, Any],
    refused: Refused,
    *,
    split_by: str,
    fractions: tuple[float, ...],
    seed: int = 0,
    positive: str | None = None,
    copies: str = "report",
) -> dict[str, Any]:
    """Look for copies, split, write `out` and its report. `rows.index` counts rows of `pixels`."""
    found = Copies.among(rows, pixels.looks, pixels.masks)
    side, given = _dealt(rows, found, refused, copies, split_by, fractions, seed)
    notes = found.notes(side, copies, given)
    if "split" in rows and split_by != "column":
        notes.append('The given split was not used. Say split_by="column" to keep it.')
    if "group" in rows and split_by == "image":
        rows = rows.drop(columns="group")
        notes.append(
            "The split is by image although there are groups: one patient may be on two sides. They are left out."
        )
    parts = {SPLITS[s]: rows[side == s] for s in np.unique(side[side >= 0])}
    classes, index, why = _classes(rows[side >= 0], positive, refused)
    shares = "/".join(f"{part:g}" for part in fractions)
    dealt = {"column": "as the table says", "date": f"{shares}, earlier days first"}
    passport |= {
        "split": f"by {split_by}, " + dealt.get(split_by, f"{shares}, dealt with seed {seed}"),
        "counts": {name: len(part) for name, part in parts.items()},
        "refused": len(refused),
        "duplicates": found.counts(side),
        "notes": (notes := notes + _lacking_sides(parts, split_by) + passport.get("notes", [])),
        "made_with": f"effml {effml.__version__}",
    }
    if classes:
        passport |= {
            "classes": {
                name: {kind: int((part.label == kind).sum()) for kind in classes}
                for name, part in parts.items()
            },
            "positive": None if index is None else classes[index],
            "positive_from": why,
        }
    if "group" in rows:
        passport["groups"] = {name: int(part.group.nunique()) for name, part in parts.items()}
    report = {
        "passport": passport,
        "refused": sorted(refused, key=lambda one: (one["file"], one["reason"])),
        **found.report(side),
        "files": _files(parts),
    }
    arrays = {"passport": np.array(json.dumps(passport, ensure_ascii=False))}
    arrays |= {"label_names": np.array(classes)} if classes else {}
    arrays |= {} if index is None else {"positive": np.array(index)}
    replaced = write(out, arrays | _columns(parts, pixels, classes), report)
    for note in notes + [f"{out} replaced an earlier import."] * replaced:
        print(f"import: {typed(note)}", file=sys.stderr)
    return report


def _dealt(
    rows: "pd.DataFrame",
    found: Copies,
    refused: Refused,
    action: str,
    split_by: str,
    fractions: tuple[float, ...],
    seed: int,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The side of every row, -1 where it is left out, and then it is in `refused`; and the side
    that the table gives it, if it is the table that counts.

    Raises ValueError if the copies cannot share a side, or if nothing would be left.
    """
    given = given_sides(rows.split) if split_by == "column" else None
    gone = found.surplus(given) if action == "drop" else {}
    refused += gone.values()
    kept = ~np.isin(np.arange(len(rows)), list(gone))
    if not kept.any():
        raise ValueError(
            f'copies="drop" leaves nothing: all {len(rows)} pictures are copies with different labels. Mend the table.'
        )
    together = (
        found.together("group" in rows and split_by == "group") if action == "group" else None
    )
    side = np.full(len(rows), -1)
    side[kept] = _sides(rows[kept], split_by, fractions, seed, together)
    refused += [
        {"file": name, "reason": "a later image of a patient who is on an earlier side"}
        for name in rows.file[kept & (side < 0)]
    ]
    if action == "group" and (apart := found.apart(side)).any():
        raise ValueError(
            f"{found.counted(apart, 'are')} on different sides of the split by {split_by}: {found.named(apart, 10)}. "
            f'Mend the column {"split" if split_by == "column" else split_by} of the table, or say copies="drop" '
            "(--copies drop)."
        )
    return side, given


def _lacking_sides(parts: dict[str, "pd.DataFrame"], split_by: str) -> list[str]:
    """What a user must know of sides without pictures."""
    need = [name for name in ("train", "test") if name not in parts]
    if need:
        how = (
            "name some in the given split"
            if split_by == "column"
            else "give it a share in fractions"
        )
        return [f"There are no pictures for {' and '.join(need)}, which a run needs: {how}."]
    if "val" not in parts and split_by == "column":
        return ["There are no pictures for val: a run then keeps its last epoch, not its best."]
    return []


def _files(parts: dict[str, "pd.DataFrame"]) -> list[dict[str, Any]]:
    """Which file is in which row of which split, with its label and group."""
    return [
        {"file": one["file"], "split": name, "row": row}
        | {key: one[key] for key in ("label", "group") if key in one}
        for name, part in parts.items()
        for row, one in enumerate(part.to_dict("records"))
    ]


def _columns(
    parts: dict[str, "pd.DataFrame"], pixels: Pixels, classes: list[str]
) -> dict[str, Any]:
    """What every split has, by its name in the file: arrays, and for pixels the pair of all rows and those to take."""
    arrays: dict[str, Any] = {}
    for name, part in parts.items():
        arrays[f"{name}_images"] = pixels.images, part.index.to_numpy()
        if pixels.masks is not None:
            arrays[f"{name}_masks"] = pixels.masks, part.index.to_numpy()
        if classes:
            arrays[f"{name}_labels"] = part.label.map(classes.index).to_numpy(np.uint8)[:, None]
        arrays[f"{name}_files"] = part.file.to_numpy(str)
        for column in [
            column for column in part if column not in ("file", "path", "mask", "label", "split")
        ]:
            arrays[f"{name}_{'groups' if column == 'group' else column}"] = part[column].to_numpy(
                str
            )
    return arrays


def _check(
    size: int,
    split_by: str,
    fractions: tuple[float, ...],
    window: Window,
    colour: str,
    fit: str,
    copies: str,
) -> None:
    for name, value, allowed in (
        ("split_by", split_by, WAYS),
        ("colour", colour, COLOURS),
        ("fit", fit, FITS),
        ("copies", copies, ACTIONS),
    ):
        if value not in allowed:
            raise ValueError(f"Unknown {name} {value!r}. Choose from: {', '.join(allowed)}")
    if not 8 <= size <= 4096:
        raise ValueError(f"size={size}: give 8 to 4096 pixels, such as 224.")
    if (
        len(fractions) != 3
        or not min(fractions) >= 0
        or fractions[0] == 0
        or abs(sum(fractions) - 1) > 1e-6
    ):
        raise ValueError(
            f"fractions={fractions}: give three that add up to 1, for train (not 0), val and test, such as "
            "fractions=(0.7, 0.1, 0.2)."
        )
    if window not in (None, "max") and not (
        isinstance(window, tuple) and len(window) == 2 and window[0] < window[1]
    ):
        raise ValueError(f'window={window!r}: give (low, high) with low < high, "max", or None.')


def _enough(rows: "pd.DataFrame", refused: Refused) -> None:
    asked = len(rows) + len(refused)
    if rows.empty or len(refused) > REFUSED_LIMIT * asked:
        raise ValueError(
            f"{len(refused)} of {counted(asked, 'picture')} were refused, more than half; nothing was written. Most often: "
            f"{_reasons(refused)}. First: {refused[0]['file']}."
        )


def _reasons(refused: Refused) -> str:
    reasons = Counter(one["reason"] for one in refused).most_common(3)
    return "; ".join(f"{reason} ({count}×)" for reason, count in reasons)


def _classes(
    rows: "pd.DataFrame", positive: str | None, refused: Refused
) -> tuple[list[str], int | None, str]:
    """Class names in order (numbers by value), which of two is positive, and who says so. No names without labels."""
    names = in_order(rows.get("label", ()))
    if len(names) == 1:
        raise ValueError(
            f"All {len(rows)} pictures that can be used have the label {names[0]}: there is nothing to tell apart. Give "
            "pictures of two classes or more, or masks. Refused: "
            + (f"{len(refused)}, {_reasons(refused)}." if refused else "none.")
        )
    if positive is not None and len(names) > 2:
        raise ValueError(
            f"positive={positive!r} is for two classes; here are {len(names)}: {', '.join(names[:9])}. Leave it out and "
            "score one class against the rest in Python: effml.achieved, with probabilities[:, c] and labels == c. Or "
            f"give labels of two classes, such as {positive} and rest."
        )
    if positive is not None and positive not in names:
        raise ValueError(
            f"positive={positive!r} must be one of two classes. The classes here: {', '.join(names) or 'none'}."
        )
    if len(names) != 2:
        return names, None, "not binary"
    if positive is not None:
        return names, names.index(positive), "given"
    return names, *positive_of(names)


def _asked(
    folder: Path,
    table: "str | os.PathLike | pd.DataFrame | None",
    masks: str | os.PathLike | None,
    columns: dict[str, str],
    split_by: str,
    refused: Refused,
    notes: list[str],
) -> tuple["pd.DataFrame", dict[str, Any]]:
    """The rows that the table or the folders name, with their masks; and for the passport how many
    pictures no table names, and which of its columns have other names.
    """
    import pandas as pd

    inner = None if masks is None else Path(masks).resolve()
    files = pictures_in(folder, refused, without=inner)
    if not files:
        raise ValueError(
            f"{folder} holds no pictures. Give a folder with {', '.join(SUFFIXES)} files in it or below "
            f"(there: {other_files(folder)})."
        )
    beside = masks_beside(files) if table is None or inner == folder.resolve() else {}
    theirs = {name: files.pop(name) for name in beside}
    if beside and masks is None:
        notes.append(
            f'{_masks_by_name(beside)}, left out here. To import them say masks="{folder}".'
        )
    told: dict[str, Any] = {}
    needed = ({"label"} if masks is None else set()) | (
        {"split"} if split_by == "column" else set()
    )
    if table is None:
        by_folder, said = by_folders(list(files), folder, classes=masks is None)
        notes += said
        if "split" in needed - set(by_folder):
            raise ValueError(
                f'split_by="column" asks for a split, but there is no table, and the folders in {folder} are not '
                "called train, val and test. Give a table with a column split, or another split_by."
            )
        if masks is None:
            _tells_classes(by_folder["label"], folder, beside)
        rows = pd.DataFrame({"file": list(files)} | by_folder, dtype=object)
        rows = rows_of(files, rows, columns, folder, needed=needed, refused=refused)
    else:
        rows = rows_of(files, table, columns, folder, needed=needed, refused=refused)
        if other := rows.attrs["other_case"]:
            notes.append(
                f"Found by their names in other case: {counted(len(other), 'file')}, such as {other[0]}."
            )
        named = rows.attrs["columns"].items()
        told["columns"] = {ours: str(theirs) for ours, theirs in named if ours != theirs}
    told["not_in_table"] = len(files) - len(rows) - sum(one["file"] in files for one in refused)
    if masks is not None:
        rows = _with_masks(rows, Path(masks), theirs, beside, refused, notes)
    return rows, told


def _masks_by_name(beside: dict[str, str]) -> str:
    what = "masks by their names" if len(beside) > 1 else "a mask by its name"
    return f"{counted(len(beside), 'file', 'are')} {what}, such as {next(iter(beside))}"


def _tells_classes(labels: list[str | None], folder: Path, beside: dict[str, str]) -> None:
    """Raises ValueError where the order of folders gives no two classes, and masks may be meant."""
    if beside and len(set(labels) - {None}) < 2:
        raise ValueError(
            f"No folders in {folder} name two classes, and {_masks_by_name(beside)}. If the masks are the task, say "
            f'masks="{folder}"; else give a table with the columns file and label.'
        )
    if not any(labels):
        raise ValueError(
            f"No picture in {folder} has a class: without a table its class is the name of the folder it lies in. Put "
            "each class into a folder of its own, or give a table with the columns file and label, or masks."
        )


def _with_masks(
    rows: "pd.DataFrame",
    folder: Path,
    there: dict[str, Path],
    beside: dict[str, str],
    refused: Refused,
    notes: list[str],
) -> "pd.DataFrame":
    """The rows which have a mask, with its path in a column mask; `there` and `beside` where masks
    lie among pictures.
    """
    if not beside:
        pictures = {path.resolve() for path in rows.path}
        found = pictures_in(folder, refused)
        there = {name: path for name, path in found.items() if path.resolve() not in pictures}
        if found and not there:
            raise ValueError(
                f"The folder of masks, {folder}, holds the pictures themselves and no masks. Give the folder of masks."
            )
        if not there:
            raise ValueError(
                f"The folder of masks, {folder}, holds no masks that can be read ({other_files(folder)}). Save them "
                "as PNG."
            )
    hits, how = pair_masks(list(rows.file), list(there), beside)
    if not any(hits):
        raise ValueError(
            f"No mask has the name of a picture. The pictures are called like {rows.file[0]}, the masks like "
            f"{next(iter(there))}. Give masks the stems of their pictures, with one ending after all of them if any."
        )
    if how:
        notes.append(f"Masks are paired by what is left of the names of {how}.")
    rows = rows.assign(mask=[there[found[0]] if len(found) == 1 else None for found in hits])
    rows = filled(rows, {"mask"}, refused).reset_index(drop=True)
    if "label" in rows and rows.label.nunique() == 1:
        notes.append(f"All labels are {rows.label[0]} and were left out: the task is the masks.")
        rows = rows.drop(columns="label")
    return rows


def _lacking(rows: "pd.DataFrame", split_by: str) -> str:
    keep = ' Or say split_by="column" to keep the given split.' if "split" in rows else ""
    return _NEEDED[split_by] + keep


def _understood(
    rows: "pd.DataFrame", split_by: str, positive: str | None, refused: Refused, notes: list[str]
) -> tuple["pd.DataFrame", dict[str, str]]:
    """The rows that the split can use, with days and one spelling for each group; for the passport
    the range of days.
    """
    rows = _dated(rows, split_by, refused, notes)
    rows = filled(rows, {"group", split_by} & {"group", "date"} & set(rows), refused)
    _enough(rows, refused)
    classes, index, why = _classes(rows, positive, refused)
    if why.startswith("assumed"):
        notes.append(
            f'Sensitivity is taken to be about {classes[index]} ({why}). Say positive="{classes[1 - index]}" if it '
            "is about the other class."
        )
    if "group" in rows:
        groups, same = one_spelling(rows.group.to_numpy(str))
        rows = rows.assign(group=groups)
        if several := [names for names in same.values() if len(names) > 1]:
            notes.append(
                f"{counted(len(several), 'group', 'are')} spelt in several ways; each is taken as one: {listed(several)}."
            )
    days = sorted(set(rows.get("date", ())) - {""})
    return rows, {"dates": f"{days[0]} to {days[-1]}"} if days else {}


def _dated(
    rows: "pd.DataFrame", split_by: str, refused: Refused, notes: list[str]
) -> "pd.DataFrame":
    """The rows with days as YYYY-MM-DD. What is no day is kept as it is written, or refused if the
    split needs it.
    """
    if "date" not in rows:
        return rows
    days, why = read_days(rows.date)
    unread = (rows.date != "") & ~rows.date.isin(days.keys())
    rows = rows.assign(date=rows.date.map(lambda text: days.get(text, text)))
    if unread.any():
        why = f"such as {rows.date[unread].iloc[0]}: {why}"
    if unread.any() and split_by != "date":
        notes.append(f"{unread.sum()} of {len(rows)} dates stay as they are written, {why}.")
    elif unread.any():
        refused += [
            {"file": name, "reason": f"no date as YYYY-MM-DD ({why})"} for name in rows.file[unread]
        ]
        rows = rows[~unread]
    return rows


def _sides(
    rows: "pd.DataFrame",
    by: str,
    fractions: tuple[float, ...],
    seed: int,
    together: np.ndarray | None = None,
) -> np.ndarray:
    text = {
        name: rows[name].to_numpy(str) if name in rows else None
        for name in ("label", "group", "date", "split")
    }
    labels = np.zeros(len(rows), "U1") if text["label"] is None else text["label"]
    return split(
        by,
        labels,
        groups=text["group"],
        dates=text["date"],
        given=text["split"],
        together=together,
        fractions=fractions,
        seed=seed,
    )


def _plan(
    rows: "pd.DataFrame",
    refused: Refused,
    told: dict[str, Any],
    size: int,
    colour: str,
    split_by: str,
    fractions: tuple[float, ...],
    seed: int,
    copies: str,
) -> dict[str, Any]:
    """What an import would do, as far as the table and the file sizes tell."""
    rows = filled(rows, {split_by} & {"date"} & set(rows), refused)
    side = (
        _sides(rows, split_by, fractions, seed)
        if split_by not in _NEEDED or split_by in rows
        else None
    )
    channels = 3 if colour == "rgb" else 1
    return {
        "pictures": len(rows),
        "mb_in": round(sum(map(_size, rows.path)) / 1e6, 3),
        "mb_out": round(len(rows) * size * size * channels / 1e6, 3),
        "channels": "1, or 3 if there is colour" if colour == "auto" else str(channels),
        "classes": dict(sorted(Counter(rows.get("label", ())).items())),
        "refused": refused,
        **told,
        "split_by": split_by,
        "counts": "known when the DICOM files are read"
        if side is None
        else "known when the pictures have been compared"
        if copies != "report"
        else {name: int((side == s).sum()) for s, name in enumerate(SPLITS) if (side == s).any()},
    }


def _read(
    rows: "pd.DataFrame", refused: Refused, **how: Any
) -> tuple["pd.DataFrame", Pixels, dict[str, Any]]:
    """Read the rows' files; the rows that could be used, with group and date from DICOM, their
    pixels, and for the passport what was converted and the masks' mean share of the picture.
    """
    total, have, show = (
        sum(map(_size, rows.path)),
        0,
        Progress("import", quiet=False),
    )

    def tell(count: int) -> None:
        nonlocal have
        have += count
        show(have, total)

    show.begin(0)
    pixels, found = read_all(
        list(rows.path), list(rows["mask"]) if "mask" in rows else None, tell, **how
    )
    refused += [
        {"file": rows.file[i], "reason": reason}
        for i, reason in found.items()
        if isinstance(reason, str)
    ]
    good = {i: picture for i, picture in found.items() if isinstance(picture, Picture)}
    rows = rows.loc[list(good)]
    for name in ("group", "date"):
        if name not in rows and any(
            told := [getattr(picture, name) or "" for picture in good.values()]
        ):
            rows[name] = told
    done = Counter(what for picture in good.values() for what in picture.done)
    told = "; ".join(f"{what} ({count}×)" for what, count in sorted(done.items())) or "nothing"
    facts: dict[str, Any] = {"converted": told}
    if pixels.masks is not None and good:
        shapes = np.array([picture.shape for picture in good.values()])
        facts["mask_area"] = _mask_area(pixels.masks, list(good), shapes, how["fit"])
    return rows, pixels, facts


def _size(path: Path) -> int:
    """The bytes of a file; 0 of one that cannot be read, which is refused when it is its turn."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _mask_area(masks: np.ndarray, index: list[int], shapes: np.ndarray, fit: str) -> float:
    """The masks' mean share of their pictures (of the borders around these nothing counts). Refuses
    what is no mask.
    """
    size = masks.shape[-1]
    inside = np.maximum(1, np.round(shapes * size / shapes.max(1, keepdims=True))).prod(1)
    area = masks.sum((1, 2))[index] / (size * size if fit == "stretch" else inside)
    if area.mean() > FULL or not area.any():
        raise ValueError(
            f"The masks cover {area.mean():.0%} of their pictures on average: nothing is marked off. Give masks that are "
            "white where the structure is and black elsewhere, in their grey values."
        )
    return round(float(area.mean()), 4)
