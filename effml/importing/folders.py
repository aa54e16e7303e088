"""What the order of files and folders says: classes, the sides of a split, and which mask is of
which picture.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from effml.importing.partition import side_of
from effml.importing.table import finder
from effml.importing.words import counted

_MASK = (
    r"(?:masks?|seg|segmentations?|segs?|labels?|gt|ground[ _-]?truth|annotations?|rois?|contours?)"
)
_IS_MASK = re.compile(
    rf"(?P<stem>.+?)[ _.-]+{_MASK}(?:[ _.-]?\d+)?|{_MASK}[ _.-]+(?P<rest>.+)", re.IGNORECASE
)
_MASK_FOLDER = re.compile(rf"(?:.*[ _.-])?{_MASK}", re.IGNORECASE)


def other_files(folder: Path) -> str:
    """What else lies in `folder` and below, counted by suffix, for a message: "30 files .gif" or
    "no files".
    """
    names = (Path(name) for _, _, files in os.walk(folder) for name in files if name[0] != ".")
    counts = Counter(path.suffix.lower() or "without a suffix" for path in names)
    kinds = sorted(counts.items(), key=lambda kind: (-kind[1], kind[0]))[:3]
    return ", ".join(f"{counted(count, 'file')} {suffix}" for suffix, count in kinds) or "no files"


def masks_beside(files: Iterable[str]) -> dict[str, str]:
    """{mask: picture} of files that are masks by their names, such as `a_mask.png` beside `a.png`."""
    files = list(files)
    stems = {_without_suffix(file).casefold(): file for file in files}
    found = {}
    for file in files:
        path = PurePosixPath(file)
        if match := _IS_MASK.fullmatch(path.stem):
            stem = str(path.with_name(match["stem"] or match["rest"])).casefold()
            if stem in stems:
                found[file] = stems[stem]
    return found


def by_folders(
    names: Sequence[str], folder: Path, *, classes: bool
) -> tuple[dict[str, list[str | None]], list[str]]:
    """The columns label (if `classes` are wanted) and split, as far as the folders say them, and
    notes on how they are read.

    A folder around all others is passed over. Where all folders of a level are called train, val or
    test, they are the split. The first folder of what is left is the class. Raises ValueError where
    this makes no sense.
    """
    notes: list[str] = []
    paths = _inside([PurePosixPath(name).parts[:-1] for name in names], notes)
    columns: dict[str, list[str | None]] = {}
    for level in (0, 1):
        sides = {path[level] if len(path) > level else "" for path in paths if path}
        if len(sides) > 1 and all(side_of(side) is not None for side in sides):
            columns["split"] = [path[level] if path else None for path in paths]
            notes.append(f"The folders {', '.join(sorted(sides))} are taken as the split.")
            paths = _inside([path[:level] + path[level + 1 :] for path in paths], notes)
            break
    tops = {path[0] for path in paths if path}
    if not classes:
        return columns, notes
    if "split" in columns and not tops:
        raise ValueError(
            f"The folders in {folder} name a split and no classes. Give a table with the columns file and label, "
            "or put a folder for each class into each of them."
        )
    sides = {top for top in tops if side_of(top) is not None}
    if sides and sides != tops and 0 in map(side_of, sides):
        raise ValueError(
            f"In {folder} the folders {', '.join(sorted(sides))} name a split, {', '.join(sorted(tops - sides)[:5])} "
            "not. Without a table each folder is a class, or all of them are the split: move the others elsewhere."
        )
    masks = sorted(top for top in tops if _MASK_FOLDER.fullmatch(top))
    if masks and len(masks) < len(tops):
        where = next(name for name, path in zip(names, paths) if path and path[0] == masks[0])
        outer = PurePosixPath(*where.split("/")[: where.split("/").index(masks[0]) + 1])
        raise ValueError(
            f"The folder {masks[0]} holds masks by its name, and would be a class beside "
            f'{", ".join(sorted(tops - set(masks))[:3])}. Say masks="{folder / outer}", or give a table.'
        )
    columns["label"] = [path[0] if path else None for path in paths]
    return columns, notes


def pair_masks(
    pictures: Sequence[str], masks: Sequence[str], beside: dict[str, str]
) -> tuple[list[list[str]], str]:
    """For each picture the masks it may mean, and how they were paired where the names are not the
    same.

    Tried in turn: `beside` ({mask: picture}), the same name, and the same name without what all
    pictures and all masks have before and after it, such as _segmentation.
    """
    if beside:
        hits = defaultdict(list)
        for mask, picture in beside.items():
            hits[picture].append(mask)
        return [hits[picture] for picture in pictures], ""
    find = finder(masks)
    hits = [find(_without_suffix(name)) for name in pictures]
    if any(hits) or len(pictures) < 2 or len(masks) < 2:
        return hits, ""
    tried = []
    for before, after in ((False, True), (True, False), (True, True)):
        ours, theirs = (_affixes(names, before, after) for names in (pictures, masks))
        cores = defaultdict(list)
        for mask in masks:
            cores[f"{_core(mask, theirs)}.png"].append(mask)
        find = finder(cores)
        hits = [
            [mask for core in find(_core(name, ours)) for mask in cores[core]] for name in pictures
        ]
        tried.append((sum(len(found) == 1 for found in hits), hits, ours, theirs))
    paired, hits, ours, theirs = max(tried, key=lambda one: one[0])
    return hits, f"pictures {'…'.join(ours)}, masks {'…'.join(theirs)}" if paired else ""


def _inside(paths: list[tuple[str, ...]], notes: list[str]) -> list[tuple[str, ...]]:
    """The paths without the folders that are around all of them."""
    while len({path[0] for path in paths if path}) == 1 and any(len(path) > 1 for path in paths):
        notes.append(f"Everything lies in the folder {next(path[0] for path in paths if path)}.")
        paths = [path[1:] for path in paths]
    return paths


def _affixes(names: Sequence[str], before: bool, after: bool) -> tuple[str, str]:
    """What stands before and after in all stems, cut where a word ends, so that no number is cut."""
    stems = [PurePosixPath(name).stem for name in names]
    first = os.path.commonprefix(stems) if before else ""
    last = os.path.commonprefix([stem[::-1] for stem in stems])[::-1] if after else ""
    start, end = re.match(r".*[ _.-]", first), re.search(r"[ _.-].*$", last)
    return start[0] if start else "", end[0] if end else ""


def _core(name: str, affixes: tuple[str, str]) -> str:
    path = PurePosixPath(name)
    core = path.stem.removeprefix(affixes[0]).removesuffix(affixes[1])
    return str(path.with_name(core)) if core else name


def _without_suffix(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))
