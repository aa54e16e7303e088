"""Segmentation: masks in, overlap and surface distance out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from effml.evaluation.checks import notes_of
from effml.evaluation.intervals import NAN, Interval, columns, paired_bootstrap
from effml.evaluation.overlap import dice_of_each
from effml.evaluation.scores import Scores


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

    as_columns = Scores.as_columns


def evaluate_masks(
    probabilities: ArrayLike,
    masks: ArrayLike,
    *,
    threshold: float = 0.5,
    spacing: float | Sequence[float] = 1.0,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> MaskScores:
    """Score predicted masks against the true ones: overlap, and distance of the surfaces.

    Args:
        probabilities: (N, H, W) or (N, D, H, W) in [0, 1]; an axis of length 1 after N is dropped.
        masks: the true ones, 0/1 of the same shape.
        threshold: a pixel is called where probability >= threshold.
        spacing: size of a pixel, a number or one per axis.
        groups: (N,) the patient of each image, if some have several: whole patients are drawn.
        seed: of the bootstrap.

    Returns:
        MaskScores: Dice with a percentile bootstrap over images, IoU; both masks empty: 1, one of
        them: 0. The 95 % Hausdorff distance is the larger of the two directed 95th percentiles of
        the distances between surfaces, as in MONAI (medpy pools both directions). Images with an
        empty mask have no distance: they are left out, counted and noted.

    Raises:
        ValueError: on other shapes and values.

    Example:
        >>> effml.evaluate_masks([[[0.9, 0.2]]], [[[1, 1]]]).iou
        0.5
    """
    answer, truth, size = _checked(probabilities, masks, threshold, spacing)
    n = len(truth)
    both, answered, true = (x.reshape(n, -1).sum(axis=1) for x in (answer & truth, answer, truth))
    dice, iou = dice_of_each(answer, truth), _share(both, answered + true - both, 1)
    comparable, empty = (answered > 0) & (true > 0), (answered == 0) & (true == 0)
    found = np.flatnonzero(comparable)
    distances = np.array([_hausdorff95(answer[i], truth[i], size) for i in found])
    one, none = int((~comparable & ~empty).sum()), int(empty.sum())
    neither = f"images without a structure in which none was found: {none}, Dice 1, no distance"
    alone = f"images of which one mask is empty, the other not: {one}, Dice 0, no distance"
    return MaskScores(
        n=n,
        n_empty=int((true == 0).sum()),
        n_one_empty=one,
        **columns(dice=_mean_over_patients(dice, groups, seed)),
        dice_pooled=_share(2 * both.sum(), (answered + true).sum(), NAN).item(),
        iou=float(iou.mean()),
        hausdorff95=float(distances.mean()) if len(found) else NAN,
        hausdorff95_median=float(np.median(distances)) if len(found) else NAN,
        pixel_sensitivity=_share(both.sum(), true.sum(), NAN).item(),
        pixel_precision=_share(both.sum(), answered.sum(), NAN).item(),
        notes=notes_of({neither: none > 0, alone: one > 0}),
    )


def _checked(
    probabilities: ArrayLike, masks: ArrayLike, threshold: float, spacing: float | Sequence[float]
) -> tuple[NDArray, NDArray, NDArray]:
    p, truth = (np.asarray(x) for x in (probabilities, masks))
    p, truth = (x[:, 0] if x.ndim > 3 and x.shape[1] == 1 else x for x in (p, truth))
    if p.shape != truth.shape or p.ndim not in (3, 4) or not p.size:
        fit = f"probabilities {np.shape(probabilities)} and masks {np.shape(masks)} do not fit"
        raise ValueError(f"{fit}: pass (N, H, W) or (N, D, H, W), one structure at a time, N > 0.")
    if not ((p >= -1e-6) & (p <= 1 + 1e-6)).all() or not np.isin(truth, (0, 1)).all():
        cure = "apply sigmoid to logits; for one structure of several pass `masks == index`"
        raise ValueError(f"probabilities must be finite and in [0, 1], masks 0 or 1: {cure}.")
    size = np.full(p.ndim - 1, spacing) if np.ndim(spacing) == 0 else np.asarray(spacing)
    if not 0 < threshold <= 1 or size.shape != (p.ndim - 1,) or not (size > 0).all():
        need = f"above 0: a threshold up to 1, a pixel's size, one number or {p.ndim - 1} of them"
        raise ValueError(f"threshold={threshold}, spacing={spacing}: give numbers {need}.")
    return p >= threshold, truth == 1, size


def _share(part: NDArray, whole: NDArray, if_none: float) -> NDArray:
    return np.divide(part, whole, out=np.full(np.shape(whole), float(if_none)), where=whole > 0)


def _mean_over_patients(dice: NDArray, groups: ArrayLike | None, seed: int) -> Interval:
    patients = np.arange(len(dice)) if groups is None else np.asarray(groups)
    if patients.shape != dice.shape:
        raise ValueError(f"groups {patients.shape} must name the patient of each of {len(dice)}.")
    member = np.unique(patients, return_inverse=True)[1]
    sums, images = np.bincount(member, weights=dice), np.bincount(member)
    return paired_bootstrap(lambda sums, images: sums.sum() / images.sum(), sums, images, seed=seed)


def _hausdorff95(a: NDArray, b: NDArray, spacing: NDArray) -> float:
    """Of two bool masks, neither of them empty; looks only at the box of both."""
    from scipy import ndimage

    box = ndimage.find_objects((a | b).astype(np.uint8))[0]
    a, b = a[box], b[box]
    surface_a, surface_b = (x & ~ndimage.binary_erosion(x) for x in (a, b))
    return max(
        np.percentile(ndimage.distance_transform_edt(~there, sampling=spacing)[here], 95)
        for here, there in ((surface_a, surface_b), (surface_b, surface_a))
    )
