"""`predict.py --verify`: the stored examples and the quality gate once more, on this machine. It
needs NumPy alone; its intervals are a paired bootstrap's."""

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from effml.evaluation.intervals import paired_bootstrap
from effml.importing.decoding import averaged

if TYPE_CHECKING:
    from effml.deployment.predict_template import Deployed

BINS = 15
DRAWN = 500  # of the bootstrap
MASKS = ("agreement", "dice", "sensitivity of pixels", "dice of the worst tenth", "ece")


def verify(model: "Deployed", folder: Path, data: str | None = None, gate: bool = True) -> int:
    """Say what comes out here; 0 where it is as good as where the model was built, else 1."""
    failed = examples(model, folder) + (repeated(model, folder, data) if gate else 0)
    print("It FAILS here: do not use this model on this machine." if failed else "All is well.")
    return int(failed > 0)


def examples(model: "Deployed", folder: Path) -> int:
    """How many of the stored pictures get other pixels, or other answers, than they should."""
    said, failed = model.manifest, 0
    which = model.engine.partition(",")[0]
    for name, wanted in said["examples"].items():
        image, _ = model.read(folder / name, [])
        off = float(np.abs(model.predict(image[None])[0] - np.array(wanted[which])).max())
        told, fine = f"{off:.2g} off, {said['tolerance']:g} allowed", off <= said["tolerance"]
        if hashlib.sha256(image.tobytes()).hexdigest() != wanted["pixels"]:
            fine, told = False, "other pixels here: pip install -r requirements.txt"
        print(f"{'ok' if fine else 'FAILS':6}{name}: {told}")
        failed += not fine
    return failed


def repeated(model: "Deployed", folder: Path, data: str | None) -> int:
    """How many measures of the gate fail here."""
    with np.load(folder / "gate.npz", allow_pickle=False) as stored:
        known = dict(stored)
    if (images := known.get("images")) is None:
        images = _find(data, known["digests"], model.manifest["image_shape"])
    here, failed = model.predict(images), 0
    margins = {row["measure"]: row["margin"] for row in model.manifest["gate"]["rows"]}
    parts = known["reference"], here, known["truth"], model.manifest, known.get("groups")
    found = losses(*parts)
    print(f"The gate, on {len(here)} images, against the trained model:")
    for name, (loss, low, high) in found.items():
        fine = high < margins[name]
        told = f"loss {loss:.4f} [{low:.4f}, {high:.4f}], allowed {margins[name]:.4g}"
        print(f"{'ok' if fine else 'FAILS':6}{name}: {told}")
        failed += not fine
    return failed


def losses(
    reference: np.ndarray,
    here: np.ndarray,
    truth: np.ndarray,
    said: Mapping[str, Any],
    groups: np.ndarray | None = None,
) -> dict[str, tuple[float, float, float]]:
    """By measure what is lost from `reference` to `here`, with its 95 % interval."""

    def of_both(*arrays: np.ndarray) -> np.ndarray:
        if said["task"] == "segmentation":
            return of_masks(arrays[0]) - of_masks(arrays[1])
        p, q, true = arrays
        before, after = (of_classes(x, p, true, said).values() for x in (p, q))
        return np.subtract([*before], [*after])

    if said["task"] == "segmentation":
        names, strata = MASKS, None
        arrays = [counts(p, reference, truth, groups) for p in (reference, here)]
    else:
        names, strata = of_classes(here, here, truth, said), truth if truth.ndim == 1 else None
        arrays = [reference, here, truth]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a class of which no image was drawn
        found = paired_bootstrap(of_both, *arrays, n=DRAWN, strata=strata)
    return {name: tuple(map(float, one)) for name, *one in zip(names, *found)}


def of_classes(
    p: np.ndarray, reference: np.ndarray, truth: np.ndarray, said: Mapping[str, Any]
) -> dict[str, float]:
    """The gate's measures of probabilities (N, K); ece with a minus, so that more is better."""
    p, reference = p.astype(float), reference.astype(float)
    if said["task"] == "binary":
        cuts = {name: cut for name, cut in said["thresholds"].items() if cut is not None}
        p, reference = p[:, said["positive"]], reference[:, said["positive"]]
        true, told = truth == said["positive"], {}
        for name, cut in (cuts or {"0.5": 0.5}).items():
            told[f"agreement at {name}"] = ((p >= cut) == (reference >= cut)).mean()
            told[f"sensitivity at {name}"] = (p >= cut)[true].mean()
        answers = p >= next(iter((cuts or {"": 0.5}).values()))
        recalls, sure, came = [answers[true].mean(), (~answers[~true]).mean()], p, true
        p, true = p[:, None], true[:, None]
    else:
        several, which = said["task"] == "multi-label", np.arange(p.shape[1])
        true = truth == 1 if several else truth[:, None] == which
        answers, theirs = (
            x >= 0.5 if several else x.argmax(1)[:, None] == which for x in (p, reference)
        )
        same = answers == theirs if several else (answers & theirs).any(1)
        told, sure, came = {"agreement": same.mean()}, p, true
        if not several:
            sure, came = p.max(1), (answers & true).any(1)
        recalls = [a[t].mean() for a, t in zip(answers.T, true.T) if t.any()]
    aurocs = [_auroc(s, t) for s, t in zip(p.T, true.T) if t.any() and not t.all()]
    gap = np.abs(_gaps(sure, came)).sum()
    worst = min(recalls, default=np.nan)
    auroc = np.mean(aurocs) if aurocs else np.nan
    return told | {"auroc": auroc, "recall of the worst class": worst, "ece": -gap}


def counts(
    p: np.ndarray, reference: np.ndarray, masks: np.ndarray, groups: np.ndarray | None = None
) -> np.ndarray:
    """What each patient (each image, without groups) adds to `of_masks`, (P, 5 + BINS)."""
    p, reference, masks = (x.reshape(len(x), -1) for x in (p, reference, masks == 1))
    answers = p >= 0.5
    hits, size = (answers & masks).sum(1), answers.sum(1) + masks.sum(1)
    dice = np.where(size > 0, 2 * hits / np.maximum(size, 1), 1.0)
    same = (answers == (reference >= 0.5)).mean(1)
    gaps = [_gaps(sure.astype(float), came) for sure, came in zip(p, masks)]
    table = np.column_stack([np.ones(len(p)), same, dice, hits, masks.sum(1), gaps])
    if groups is None:
        return table
    return np.stack([table[groups == one].sum(0) for one in np.unique(groups)])


def of_masks(table: np.ndarray) -> np.ndarray:
    """The measures of MASKS from rows of `counts`; ece with a minus, so that more is better."""
    images, same, dice, hits, true, *gaps = table.sum(0)
    worst = np.sort(table[:, 2] / table[:, 0])[: max(1, len(table) // 10)].mean()
    found = hits / true if true else np.nan
    return np.array([same / images, dice / images, found, worst, -np.abs(gaps).sum() / images])


def _gaps(sure: np.ndarray, came: np.ndarray) -> np.ndarray:
    """By bin of confidence what was foretold less what came true, over all of its events."""
    place = np.digitize(sure.ravel(), np.linspace(0, 1, BINS + 1)[1:-1], right=True)
    return np.bincount(place, weights=(sure - came).ravel(), minlength=BINS) / sure.size


def _auroc(scores: np.ndarray, true: np.ndarray) -> float:
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks, n = (np.cumsum(count) - (count - 1) / 2)[place], int(true.sum())
    return float((ranks[true].sum() - n * (n + 1) / 2) / (n * (len(true) - n)))


def _find(data: str | None, digests: np.ndarray, shape: list[int]) -> np.ndarray:
    """The gate's images in an .npz of the data, by their SHA-256. ValueError where one lacks."""
    if data is None:
        advice = (
            "say predict.py --verify --images DATA.npz, with the data that the run learned from"
        )
        raise ValueError(f"This folder holds no image of a patient. To repeat the gate, {advice}.")
    found = {}
    with np.load(data, allow_pickle=False) as stored:
        for name in (name for name in stored.files if name.endswith("_images")):
            for image in stored[name]:
                image = np.moveaxis(np.atleast_3d(image), -1, 0)
                image = np.ascontiguousarray(averaged(image, shape[-1]))
                found[digest(image)] = image
    if missing := [one for one in digests.tolist() if one not in found]:
        told = f"{len(missing)} of the gate's {len(digests)} images are not in {data}"
        raise ValueError(f"{told}: give the data that the run learned from, unchanged.")
    return np.stack([found[one] for one in digests.tolist()])


def digest(image: np.ndarray) -> str:
    """By which an image uint8 (C, S, S) is known again."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
