"""What the order of files and folders says: classes, sides of a split, and whose a mask is."""

import os
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from effml.importing.partition import side_of
from effml.importing.table import finder
from effml.importing.words import bare

_MASK = r"(?:masks?|seg|segmentations?|segs?|labels?|gt|ground[ _-]?truth|annotations?|rois?"
_MASK += r"|contours?)"
_IS_MASK = re.compile(
    rf"(?P<stem>.+?)[ _.-]+{_MASK}(?:[ _.-]?\d+)?|{_MASK}[ _.-]+(?P<rest>.+)", re.IGNORECASE
)
_MASK_FOLDER = re.compile(rf"(?:.*[ _.-])?{_MASK}", re.IGNORECASE)


def masks_beside(files: Collection[str]) -> dict[str, str]:
    """{mask: picture} of files that are masks by name, such as `a_mask.png` beside `a.png`."""
    stems, found = {bare(file).casefold(): file for file in files}, {}
    for file in files:
        path = PurePosixPath(bare(file))
        if match := _IS_MASK.fullmatch(path.name):
            stem = str(path.with_name(match["stem"] or match["rest"])).casefold()
            if stem in stems:
                found[file] = stems[stem]
    return found


def by_folders(
    names: Sequence[str], folder: Path, notes: list[str], *, classes: bool
) -> dict[str, list[str | None]]:
    """The columns label (if `classes` are wanted) and split, as far as the folders say them.

    A folder around all others is passed over. Where all folders of a level name a side, they are
    the split. The first folder of what is left is the class. How they are read is added to `notes`.
    """
    paths = _inside([PurePosixPath(name).parts[:-1] for name in names], notes)
    columns: dict[str, list[str | None]] = {}
    for level in (0, 1):
        sides = {path[level] if len(path) > level else "" for path in paths if path}
        if len(sides) > 1 and all(side_of(side) is not None for side in sides):
            columns["split"] = [path[level] if path else None for path in paths]
            notes.append(f"The folders {', '.join(sorted(sides))} are taken as the split.")
            paths = _inside([path[:level] + path[level + 1 :] for path in paths], notes)
            break
    if classes:
        tops = {path[0] for path in paths if path}
        if "split" in columns and not tops:
            said = f"The folders in {folder} name a split and no classes"
            raise ValueError(f"{said}. Put a folder for each class into them, or give a table.")
        _refuse_odd(tops, folder)
        columns["label"] = [path[0] if path else None for path in paths]
    return columns


def _refuse_odd(tops: set[str], folder: Path) -> None:
    """Raises ValueError where some of the folders name a split, training among it, or masks."""
    sides = {top for top in tops if side_of(top) is not None}
    masks = {top for top in tops if _MASK_FOLDER.fullmatch(top)}
    advice = "move the others away, or give a table"
    if odd := sides if 0 in map(side_of, sides) else set():
        what = "name a split"
    elif odd := masks:
        what, advice = "hold masks by name", "name it as masks, or give a table"
    if odd and odd != tops:
        named, others = (", ".join(sorted(some)[:5]) for some in (odd, tops - odd))
        raise ValueError(
            f"In {folder} the folders {named} {what}, {others} not: without a table each would be "
            f"a class. So {advice}."
        )


def pair_masks(
    pictures: Sequence[str], masks: Sequence[str], beside: dict[str, str]
) -> tuple[list[list[str]], str]:
    """For each picture the masks it may mean, and how they were paired if not by equal names.

    Tried in turn: `beside` ({mask: picture}), the same name, and what is left of the names without
    what all pictures and all masks have after, then also before it, such as _segmentation.
    """
    if beside:
        of = defaultdict(list)
        for mask, picture in beside.items():
            of[picture].append(mask)
        return [of[picture] for picture in pictures], ""
    hits = [finder(masks)(bare(name)) for name in pictures]
    if any(hits) or len(pictures) < 2 or len(masks) < 2:
        return hits, ""
    for before in (False, True):
        ours, theirs = (_affixes(names, before) for names in (pictures, masks))
        cores = defaultdict(list)
        for mask in masks:
            cores[f"{_core(mask, theirs)}.png"].append(mask)
        find = finder(cores)
        hits = [
            [one for core in find(_core(name, ours)) for one in cores[core]] for name in pictures
        ]
        if any(len(found) == 1 for found in hits):
            return hits, f"pictures {'…'.join(ours)}, masks {'…'.join(theirs)}"
    return hits, ""


def _inside(paths: list[tuple[str, ...]], notes: list[str]) -> list[tuple[str, ...]]:
    """The paths without the folders that are around all of them."""
    while len({path[0] for path in paths if path}) == 1 and any(len(path) > 1 for path in paths):
        notes.append(f"Everything lies in the folder {next(path[0] for path in paths if path)}.")
        paths = [path[1:] for path in paths]
    return paths


def _affixes(names: Sequence[str], before: bool) -> tuple[str, str]:
    """What stands before (if asked) and after in all stems, to where a word ends: no number."""
    stems = [PurePosixPath(bare(name)).name for name in names]
    first = os.path.commonprefix(stems) if before else ""
    last = os.path.commonprefix([stem[::-1] for stem in stems])[::-1]
    start, end = re.match(r".*[ _.-]", first), re.search(r"[ _.-].*$", last)
    return start[0] if start else "", end[0] if end else ""


def _core(name: str, affixes: tuple[str, str]) -> str:
    path = PurePosixPath(bare(name))
    core = path.name.removeprefix(affixes[0]).removesuffix(affixes[1])
    return str(path.with_name(core)) if core else name
