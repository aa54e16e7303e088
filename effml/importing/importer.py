"""From a folder of pictures and a table to an .npz in MedMNIST's layout, and a report beside it."""

import os
import re
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from effml.data.dataset import SPLITS
from effml.data.transfer import Progress
from effml.importing.grey import Window
from effml.importing.labels import classes_of, dated, enough, lacks, sides_of, understood
from effml.importing.looking import NIFTI, Job, refuse
from effml.importing.npz import finish
from effml.importing.options import check, rows_asked
from effml.importing.output import earlier
from effml.importing.pictures import Picture, Pixels, bytes_of, read_all
from effml.importing.rasters import PLAIN
from effml.importing.table import filled
from effml.importing.volumes import AXES

if TYPE_CHECKING:
    import pandas as pd

_DAY = re.compile(r"\d{4}(-\d\d){0,2}")  # days as `dated` writes them, months and years
FULL = 0.98  # masks that cover more than this share of their pictures are no masks


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
    volumes: bool = False,
    source: str = "",
    licence: str = "",
    dry_run: bool = False,
) -> dict[str, Any]:
    """Make one checked .npz file of your own pictures, with a report beside it.

    Args:
        folder: the pictures, in it or below; without a table its folders name classes and sides
        out: the file to write, such as data/ours.npz
        table: CSV or data frame; columns file, label and, if any, group, site, date and split
        masks: folder of masks with the pictures' names: the task is then segmentation
        size: pixels of the square pictures, 8 to 4096; of volumes voxels of the cubes, to 192
        columns: {our name: the table's own}; further names are carried along, and nothing else
        split_by: group (the patient), date (test last), column (the table's split) or image
        fractions: of train, val and test; they add up to 1
        positive: class that sensitivity is about; by default a guess by the names, which is said
        window: (black, white) in the file's values, max, or None: the file's own or percentiles
        colour: auto (grey if all pictures are), grey or rgb
        fit: pad with black, or stretch to a square
        seed: number that the split is drawn with
        copies: report, group (on one side) or drop all but one (all, if labels differ)
        volumes: each folder of DICOM files is a series of slices; NIfTI files are always volumes
        source: where the pictures come from, for the passport
        licence: what may be done with them, for the passport
        dry_run: say what would be done, and write nothing

    Returns:
        The report: passport, refused files with reasons, copies, and the row of every file.

    Raises:
        ValueError: an option or the table is wrong, or over half of the pictures are unusable.
        OSError: the folder or table is not there, or `out` is and was not made by an import.

    Example:
        >>> import os
        >>> from PIL import Image
        >>> for name in ("linear", "radial"):
        ...     os.makedirs(f"p/{name}")
        ...     getattr(Image, f"{name}_gradient")("L").save(f"p/{name}/1.png")
        >>> effml.import_folder("p", "x.npz", split_by="image", fractions=(1, 0, 0))["refused"]
        []
    """
    return (_plan if dry_run else _import)(check(SimpleNamespace(**locals())))


def _rows(job: Job) -> tuple["pd.DataFrame", dict[str, Any]]:
    """What can be known before a picture is read; as `rows_asked`."""
    rows, told = rows_asked(job)
    enough(job, rows)
    plain = all(str(path).lower().endswith((*PLAIN, *NIFTI)) for path in rows.path)  # not DICOM
    if plain and (missing := lacks(job, rows)):
        raise ValueError(missing)
    classes_of(job, rows)
    return rows, told


def _import(job: Job) -> dict[str, Any]:
    rows, told = _rows(job)
    rows, pixels, facts = _read(job, rows)
    if missing := lacks(job, rows):
        raise ValueError(missing)
    rows = understood(job, rows)
    if days := sorted(day for day in set(rows.get("date", ())) if _DAY.fullmatch(day)):
        facts["dates"] = f"{days[0]} to {days[-1]}"
    source, licence = job.source or "imported from a local folder", job.licence or "not stated"
    return finish(job, rows, pixels, {"source": source, "licence": licence, **facts, **told})


def _plan(job: Job) -> dict[str, Any]:
    """What an import would do, as far as the table and the file sizes tell."""
    rows, told = _rows(job)
    classes, index, why = classes_of(job, rows)
    axes, colour = (3, "grey") if job.volumes else (2, job.colour)
    rows = filled(job, dated(job, rows), {job.split_by} & {"date"} & set(rows))
    job.notes.append("No picture was opened: an import also refuses those that cannot be read.")
    if missing := lacks(job, rows):
        job.notes.append(f"Unless the DICOM files say it, the import will stop: {missing}")
    counts: Any = "known when the DICOM files are read"
    if not missing:
        side = sides_of(job, rows)
        counts = {SPLITS[s]: int((side == s).sum()) for s in np.unique(side[side >= 0])}
        counts = counts if job.copies == "report" else "known when the pictures have been compared"
    return {
        "pictures": len(rows),
        "mb_in": round(sum(map(bytes_of, rows.path)) / 1e6, 3),
        "mb_out": round(len(rows) * job.size**axes * (3 if job.colour == "rgb" else 1) / 1e6, 3),
        "channels": {"auto": "1, or 3 if there is colour", "grey": "1", "rgb": "3"}[colour],
        "classes": dict(sorted(Counter(rows.get("label", ())).items())),
        "refused": job.refused,
        **told,
        "positive": None if index is None else f"{classes[index]} ({why})",
        "notes": job.notes,
        "replaces": "an earlier import" if earlier(job.out) else None,
        "split_by": job.split_by,
        "counts": counts,
    }


def _read(job: Job, rows: "pd.DataFrame") -> tuple["pd.DataFrame", Pixels, dict[str, Any]]:
    """The rows that could be used, with group and date from DICOM; pixels; passport entries."""
    total, have, show = sum(map(bytes_of, rows.path)), 0, Progress("import", quiet=False)

    def tell(count: int) -> None:
        nonlocal have
        have += count
        show(have, total)

    show.begin(0)
    how = {name: getattr(job, name) for name in ("size", "fit", "colour", "window")}
    how |= {"volumes": True, "colour": "grey"} if job.volumes else {}
    masks = list(rows["mask"]) if "mask" in rows else None
    pixels, found = read_all(list(rows.path), masks, tell, **how)
    good = {i: picture for i, picture in found.items() if isinstance(picture, Picture)}
    for i, reason in found.items():
        refuse(job, [] if i in good else [rows.file[i]], reason)
    rows = rows.loc[list(good)]
    for name in ("group", "date"):
        told = [getattr(picture, name) or "" for picture in good.values()]
        if name not in rows and any(told):
            rows[name] = told
    done = Counter(what for picture in good.values() for what in picture.done)
    told = "; ".join(f"{what} ({count}×)" for what, count in sorted(done.items())) or "nothing"
    how |= {"colour": "rgb"} if pixels.images.ndim == 4 and not job.volumes else {}
    if isinstance(job.window, tuple):  # as JSON has it
        how["window"] = [float(end) for end in job.window]
    facts = {"converted": told, "preprocessing": how | {"size": int(job.size)}}
    if masks and good:
        shapes = np.array([picture.shape for picture in good.values()])
        area = pixels.masks.reshape(len(pixels.masks), -1).sum(1)[list(good)]
        facts["mask_area"] = _mask_area(area, shapes, job.size, job.fit)
    if job.volumes and good:
        before, now = np.array([picture.spacing for picture in good.values()]).swapaxes(0, 1)
        spacing = np.zeros((len(pixels.images), 3), np.float32)
        spacing[list(good)] = now
        pixels = pixels._replace(spacing=spacing)
        said = f"{_span(before)} mm a voxel (D×H×W) in the files, {_span(now)} here"
        facts |= {"axes": AXES, "spacing": said}
    return rows, pixels, facts


def _span(spacing: np.ndarray) -> str:
    """The millimetres (N, 3) of the axes, from the least to the most."""
    ends = zip(spacing.min(0), spacing.max(0))
    return " × ".join(f"{a:.3g}" if np.isclose(a, b) else f"{a:.3g}–{b:.3g}" for a, b in ends)


def _mask_area(area: np.ndarray, shapes: np.ndarray, size: int, fit: str) -> float:
    """The masks' mean share of their pictures. Raises ValueError for what is no mask."""
    inside = np.maximum(1, np.round(shapes * size / shapes.max(1, keepdims=True))).prod(1)
    share = (area / (size ** shapes.shape[1] if fit == "stretch" else inside)).mean()
    if share > FULL or not share:
        said = f"The masks cover {share:.0%} of their pictures on average: nothing is marked off"
        raise ValueError(f"{said}. Give masks that are white on the structure, black elsewhere.")
    return round(float(share), 4)
