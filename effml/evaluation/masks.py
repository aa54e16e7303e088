"""Segmentation: masks in, overlap and surface distance out."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from effml.evaluation.intervals import NAN, paired_bootstrap


@dataclass(frozen=True)
class MaskScores:
    """Plain numbers over N images; distances in the unit of `spacing`, pixels by default."""

    n: int
    n_empty: int  # images whose true mask is empty
    n_one_empty: int  # images of which one mask, true or predicted, is empty and the other is not
    dice: float  # mean over images
    dice_low: float
    dice_high: float
    dice_pooled: float  # of all pixels of all images together: large structures weigh more
    iou: float  # mean over images
    hausdorff95: float  # mean over the images in which both masks hold something
    hausdorff95_median: float
    pixel_sensitivity: float  # pooled
    pixel_precision: float  # pooled
    notes: tuple[str, ...] = ()

    def as_columns(self, prefix: str = "") -> dict[str, float]:
        """Every number under `prefix` + its name, for the flat record; the notes stay out."""
        return {prefix + f.name: getattr(self, f.name) for f in fields(self) if f.name != "notes"}


def evaluate_masks(
    probabilities: ArrayLike,
    masks: ArrayLike,
    *,
    threshold: float = 0.5,
    spacing: float | Sequence[float] = 1.0,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> MaskScores:
    """Score `probabilities`, or masks of 0 and 1, against true 0/1 `masks`: (N, H, W) or (N, D, H, W) each; an axis of
    length 1 after N, as networks give it, is dropped. A pixel is called where probability >= `threshold`.

    Dice = 2 |A ∩ B| / (|A| + |B|), IoU = |A ∩ B| / |A ∪ B|; both masks empty: 1, one of them: 0. Dice's interval is a
    percentile bootstrap over images (2 000 from `seed`), or over `groups` (N,), where the images of one patient are
    dependent: whole patients are drawn then. The 95 % Hausdorff distance is the larger of the two directed 95th percentiles
    (linear interpolation) of the distances from each surface pixel of one mask to the nearest of the other, as in MONAI;
    medpy pools both directions before taking it. Surface pixels are those with a neighbour (4 in 2-D, 6 in 3-D) outside the
    mask or the image. `spacing` is a pixel's size, a number or one per axis. It is not defined where a mask is empty: such
    images are left out, counted and noted. ValueError on other shapes and values."""
    p, truth = (np.asarray(x) for x in (probabilities, masks))
    p, truth = (x[:, 0] if x.ndim > 3 and x.shape[1] == 1 else x for x in (p, truth))
    if p.shape != truth.shape or p.ndim not in (3, 4) or not p.size:
        raise ValueError(
            f"probabilities {np.shape(probabilities)} and masks {np.shape(masks)} do not fit: pass (N, H, W) or "
            "(N, D, H, W) each, N > 0; score one structure of several at a time."
        )
    if not ((p >= -1e-6) & (p <= 1 + 1e-6)).all() or not np.isin(truth, (0, 1)).all():
        raise ValueError(
            "probabilities must be finite and in [0, 1], masks 0 or 1: apply sigmoid to logits; for one structure "
            "of several pass `masks == index`."
        )
    size = np.full(p.ndim - 1, spacing) if np.ndim(spacing) == 0 else np.asarray(spacing)
    if not 0 < threshold <= 1 or size.shape != (p.ndim - 1,) or not (size > 0).all():
        raise ValueError(
            f"threshold={threshold}, spacing={spacing}: give a threshold above 0 and at most 1, and a pixel's size "
            f"above 0, one number or {p.ndim - 1} of them."
        )
    n, answer, truth = len(p), p >= threshold, truth == 1
    both, answered, true = (x.reshape(n, -1).sum(axis=1) for x in (answer & truth, answer, truth))
    either = answered + true - both
    dice, iou = (
        np.divide(x, y, out=np.ones(n), where=either > 0)
        for x, y in ((2 * both, answered + true), (both, either))
    )
    comparable = (answered > 0) & (true > 0)
    distances = np.array(
        [_hausdorff95(answer[i], truth[i], size) for i in np.flatnonzero(comparable)]
    )
    patients = np.arange(n) if groups is None else np.asarray(groups)
    if patients.shape != (n,):
        raise ValueError(
            f"groups {patients.shape} must name the patient of each of {n} images: pass (N,)."
        )
    member = np.unique(patients, return_inverse=True)[1]
    interval = paired_bootstrap(
        lambda total, images: total.sum() / images.sum(),
        np.bincount(member, weights=dice),
        np.bincount(member),
        seed=seed,
    )
    one, none = int((either > 0).sum() - comparable.sum()), int((either == 0).sum())
    notes = {
        f"images without a structure in which none was found: {none}, Dice 1, no distance": none
        > 0,
        f"images of which one mask is empty, the other not: {one}, Dice 0, no distance": one > 0,
    }
    pooled = [
        x / y if y else NAN
        for x, y in (
            (2 * both.sum(), answered.sum() + true.sum()),
            (both.sum(), true.sum()),
            (both.sum(), answered.sum()),
        )
    ]
    middle = (distances.mean(), np.median(distances)) if len(distances) else (NAN, NAN)
    return MaskScores(
        n,
        int((true == 0).sum()),
        one,
        *map(float, (*interval, pooled[0], iou.mean(), *middle, *pooled[1:])),
        tuple(note for note, holds in notes.items() if holds),
    )


def _hausdorff95(a: NDArray, b: NDArray, spacing: NDArray) -> float:
    """Of two bool masks of one shape, neither of them empty; looks only at the box that holds both."""
    from scipy import ndimage

    box = ndimage.find_objects((a | b).astype(np.uint8))[0]
    a, b = a[box], b[box]
    surface_a, surface_b = (x & ~ndimage.binary_erosion(x) for x in (a, b))
    return max(
        np.percentile(ndimage.distance_transform_edt(~there, sampling=spacing)[here], 95)
        for here, there in ((surface_a, surface_b), (surface_b, surface_a))
    )
