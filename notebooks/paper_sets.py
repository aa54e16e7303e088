"""The private sets of Selvan et al. 2023 and PePR, from the files their authors used: RSNA
mammography and LIDC patches.
"""

import argparse
import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from effml.data.dataset import SPLITS
from effml.importing.copies import Thumbprints, thumbprint
from effml.importing.delimited import read_csv
from effml.importing.importer import import_folder
from effml.importing.npz import finish
from effml.importing.output import npz_path
from effml.importing.pictures import Pixels

_RSNA = {"group": "patient_id", "site": "site_id", "cancer": "cancer"}  # what goes into the file
_LIDC = ("lidc_class256.pt",), ("Train.pt", "Valid.pt", "Test.pt")


def import_rsna(
    folder: str | os.PathLike,
    out: str | os.PathLike,
    *,
    max_age: float | None = None,
    size: int = 256,
    seed: int = 0,
    dry_run: bool = False,
) -> dict[str, Any]:
    """RSNA Screening Mammography (Kaggle 2022) as in Selvan et al. 2023: does a breast need
    follow-up (BIRADS 0) or not (1, 2)?

    `folder` holds train.csv and train_images/<patient>/<image>.dcm (or .png). Images without BIRADS
    or age, or of women of `max_age` years or more, are left out; the authors' file named 50yr ends
    at 54, which is 55 here. As theirs, pixels are divided by the picture's maximum and stretched to
    `size` pixels. Unlike theirs, MONOCHROME1 is inverted, the split is by patient (their contiguous
    60/20/20 has one patient in training and validation), and follow-up is the positive class.
    """
    import pandas as pd

    table = read_csv(Path(folder) / "train.csv")
    if missing := sorted({*_RSNA.values(), "image_id", "BIRADS", "age"} - set(table)):
        advice = "Get the one of Kaggle's rsna-breast-cancer-detection."
        raise ValueError(f"train.csv has no column {', '.join(missing)}. {advice}")
    birads, age = (pd.to_numeric(table[name], errors="coerce") for name in ("BIRADS", "age"))
    keep = birads.notna() & (age < (np.inf if max_age is None else max_age))
    table = table.assign(
        file="train_images/" + table.patient_id + "/" + table.image_id,
        label=np.where(birads > 0, "normal", "follow-up"),
    )[keep]
    limit = "" if max_age is None else f", age below {max_age:g}"
    title = "RSNA Screening Mammography Breast Cancer Detection, Kaggle 2022; with BIRADS"
    as_theirs = {"window": "max", "fit": "stretch", "colour": "grey", "positive": "follow-up"}
    about = {"source": title + limit, "licence": "see the rules of the competition"}
    how = {"size": size, "fractions": (0.6, 0.2, 0.2), "seed": seed, "dry_run": dry_run}
    return import_folder(folder, out, table=table, columns=_RSNA, **as_theirs, **about, **how)


def import_lidc_patches(
    folder: str | os.PathLike, out: str | os.PathLike, *, raters: int = 3
) -> dict[str, Any]:
    """The LIDC patches of Selvan & Dam 2020, 2023 and PePR: did `raters` of four see a nodule?

    The authors' code asks for more than two (3), their paper of 2023 says two or more (2). `folder`
    holds lidc_class256.pt, which is split here as they do it, in the file's order 60/20/20, or
    Train.pt, Valid.pt and Test.pt. Each is a pair of tensors: images uint8 (N, 1, H, W) and ratings
    0 or 1 (N, 4). No patient is named in them: one may be on two sides.

    Raises FileNotFoundError or ValueError if the files are not there or not of this form.
    """
    import pandas as pd
    from PIL import Image

    folder, out = Path(folder), npz_path(out)
    names = [names for names in _LIDC if all((folder / name).is_file() for name in names)]
    if not names:
        wanted = f"{_LIDC[0][0]} nor {', '.join(_LIDC[1])}"
        raise FileNotFoundError(f"{folder} holds neither {wanted}. Give the authors' folder.")
    if raters not in (1, 2, 3, 4):
        raise ValueError(f"raters={raters}: give 1 to 4.")
    parts = [_tensors(folder / name) for name in names[0]]
    images, ratings = (np.concatenate(arrays) for arrays in zip(*parts))
    n, sizes = len(images), [len(part[0]) for part in parts]
    cuts = [int(0.6 * n), int(0.8 * n)] if len(parts) == 1 else np.cumsum(sizes)[:2]
    rows = pd.DataFrame(
        {
            "file": [f"patch {i}" for i in range(n)],
            "split": np.array(SPLITS)[np.searchsorted(cuts, np.arange(n), side="right")],
            "label": np.where(ratings.sum(1) >= raters, "nodule", "no nodule"),
        }
    )
    prints = Thumbprints.of(n)
    for i, image in enumerate(images):
        prints.put(i, thumbprint(Image.fromarray(image)))
    said = "the files name no patients, so that one may be on two sides and test figures too good"
    seen = f"nodule: seen by {raters} or more of 4 raters"
    passport = {
        "source": f"LIDC-IDRI patches of Selvan & Dam 2020; {seen}; {said}",
        "licence": "CC BY 3.0 (LIDC-IDRI)",
        "converted": "nothing",
    }
    pixels = Pixels(images=images, masks=None, thumbprints=prints)
    job = SimpleNamespace(out=out, split_by="column", copies="report", positive="nodule", seed=0)
    job.fractions, job.refused, job.notes, job.table = (0.6, 0.2, 0.2), [], [], "of the index"
    return finish(job, rows, pixels, passport)


def _tensors(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, H, W) and ratings (N, 4), read without running what may be in the file."""
    import torch

    wrong = (ValueError, TypeError, AttributeError, RuntimeError, EOFError, pickle.UnpicklingError)
    try:
        both = torch.load(path, map_location="cpu", weights_only=True)
        images, ratings = (part.numpy() for part in both)
        images = images[:, 0] if images.ndim == 4 and images.shape[1] == 1 else images
        if images.dtype != np.uint8 or images.ndim != 3 or ratings.shape != (len(images), 4):
            raise ValueError(f"images {images.dtype} {images.shape}, ratings {ratings.shape}")
    except wrong as error:
        form = "images uint8 (N, 1, H, W) and ratings (N, 4)"
        raise ValueError(f"{path.name} is not a pair of tensors, {form}: {error}") from None
    return np.ascontiguousarray(images), ratings


def main(words: list[str] | None = None) -> None:
    """`python notebooks/paper_sets.py rsna FOLDER data/rsna.npz`, or lidc."""
    parser = argparse.ArgumentParser(description=__doc__)
    sets = parser.add_subparsers(dest="set", required=True)
    for name, work in (("rsna", import_rsna), ("lidc", import_lidc_patches)):
        one = sets.add_parser(name, help=work.__doc__.partition("\n\n")[0])
        one.add_argument("folder", metavar="FOLDER")
        one.add_argument("out", metavar="OUT", help="such as data/rsna.npz")
        one.set_defaults(work=work)
    rsna, lidc = sets.choices["rsna"], sets.choices["lidc"]
    rsna.add_argument("--max-age", type=float, metavar="YEARS", help="women younger than this")
    rsna.add_argument("--size", type=int, default=256, help="pixels (default 256)")
    lidc.add_argument("--raters", type=int, default=3, metavar="1…4", help="who saw a nodule")
    given = vars(parser.parse_args(words))
    del given["set"]
    work = given.pop("work")
    print("\n".join(f"{key}: {value}" for key, value in work(**given)["passport"].items()))


if __name__ == "__main__":
    main()
