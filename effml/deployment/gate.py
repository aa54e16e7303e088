"""The quality gate: is a smaller, faster version of a model as good as the model itself? A part of
every deployed folder too, so it needs NumPy alone."""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from effml.evaluation.auroc import Difference, paired_auroc
from effml.evaluation.calibration import BINS, bin_of
from effml.evaluation.checks import ARGMAX, TASKS, called, checked_pair
from effml.evaluation.intervals import over_images, paired_bootstrap, wilson
from effml.evaluation.overlap import dice_of_each
from effml.evaluation.paired import non_inferiority, paired_scores, tango

EQUAL = 1e-4
"""Probabilities nowhere farther apart are the same: float32 in another order, not fewer bits."""
MASKS = ("agreement", "dice", "sensitivity of pixels", "dice of the worst tenth", "ece")
USED = {
    "binary": ("agreement", "auroc", "sensitivity", "worst_class", "ece"),
    "segmentation": ("agreement", "dice", "sensitivity", "worst_class", "ece"),
}
USED |= dict.fromkeys({*TASKS} - {"binary"}, ("agreement", "auroc", "worst_class", "ece"))
"""The margins that count, by task."""
FEW = 5
"""Patients of masks: a bootstrap over fewer is too sure of itself, over one wholly."""
SUM = 0.01  # how far the probabilities of an image may be from adding up to 1
PASSES = "equal", "non-inferior"
TANGO = 1.959964**2  # an interval for N equal answers ends at TANGO / (N + TANGO)


@dataclass(frozen=True)
class Row:
    """One measure: of the reference, of the version, their difference (more is better, but for
    ece) with its paired 95 % interval, the loss allowed, and what follows."""

    measure: str
    reference: float
    value: float
    difference: float
    low: float
    high: float
    margin: float
    verdict: str  # equal, non-inferior, inferior or inconclusive
    note: str = ""

    def __str__(self) -> str:
        told = f"{self.measure} {self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"
        note = f" ({self.note})" * bool(self.note)
        return f"{told}, allowed {self.margin:g}: {self.verdict}{note}"


@dataclass(frozen=True)
class Verdict:
    """What the gate says of `n` images: `passed` where every row is non-inferior. Where the
    probabilities are nowhere over EQUAL apart, all rows are equal; `largest`: how far they are.
    `notes`: what makes the rows say less."""

    rows: tuple[Row, ...]
    n: int
    largest: float
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return all(row.verdict in PASSES for row in self.rows)

    @property
    def reason(self) -> str:
        if self.largest <= EQUAL:
            told = f"the same probabilities on {self.n} images, at most {self.largest:.1g} apart"
        else:
            failed = [str(row) for row in self.rows if row.verdict not in PASSES]
            told = "; ".join(failed) or f"non-inferior in all {len(self.rows)} measures"
        return "; ".join([told, *self.notes])


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Losses that would not matter, named before looking. A version passes where the paired 95 %
    interval of each measure excludes a larger one.

    Args:
        agreement: the least share of images (of masks: pixels) that get the same answer.
        auroc: the loss of AUROC (macro, one-vs-rest) allowed.
        dice: the loss of Dice allowed, of masks.
        sensitivity: the loss of sensitivity allowed, at each operating point; of masks of pixels.
        worst_class: the loss allowed in the recall of the class that is found least often; of masks
            in the mean Dice of the worst tenth of the patients.
        ece: the rise of the calibration error allowed.

    Raises:
        ValueError: a margin that is not between 0 and 1.

    Example:
        >>> p, labels = [[0.9, 0.1], [0.2, 0.8]] * 100, [0, 1] * 100
        >>> effml.Gate().check(p, p, labels, task="binary", positive=1).reason
        'the same probabilities on 200 images, at most 0 apart'
    """

    agreement: float = 0.98
    auroc: float = 0.01
    dice: float = 0.01
    sensitivity: float = 0.02
    worst_class: float = 0.05
    ece: float = 0.02

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not (isinstance(value, (int, float)) and 0 < value < 1):
                told = "the least share of equal answers" if one.name == "agreement" else "a loss"
                raise ValueError(f"{one.name}={value!r}: give {told}, between 0 and 1.")

    def fits(self, task: str) -> None:
        """ValueError where a margin was given that says nothing of this task."""
        used = USED[task] if task in USED else ()
        for one in fields(self):
            if one.name not in used and getattr(self, one.name) != one.default:
                menu = f"{task} is judged by {', '.join(used)}" if used else f"task={task!r}"
                raise ValueError(f"The margin {one.name} has no effect: {menu}. Leave it out.")

    def check(
        self,
        reference: ArrayLike,
        probabilities: ArrayLike,
        labels: ArrayLike,
        *,
        task: str,
        positive: int | None = None,
        thresholds: dict[str, float] | None = None,
        groups: ArrayLike | None = None,
        seed: int = 0,
    ) -> Verdict:
        """The verdict on `probabilities` against those of the `reference`, for the same images.

        `labels`, `task` and `positive` are as in `evaluate`, for masks (N, …) of 0 and 1 and
        "segmentation"; `thresholds` by name, of binary tasks (NaN: left out); `groups` the patients
        of masks, of whom fewer than FEW give no interval. ValueError on input that cannot be scored
        or paired, or says nothing of the task."""
        self.fits(task)
        p, q = _pair(reference, probabilities, task)
        _fit(task, len(p), positive, thresholds, groups)
        if task == "segmentation":
            rows, notes = self._masks(p, q, np.asarray(labels), groups, seed)
        else:
            given = (thresholds or {}).items()
            known = {name: cut for name, cut in given if cut is not None and cut == cut}
            cuts = known or {"0.5": 0.5} if task == "binary" else {"": None}
            rows, notes = self._classes(p, q, labels, task, positive, cuts, seed)
        if (largest := float(np.abs(p - q).max())) <= EQUAL:
            rows = [replace(row, verdict="equal", note="") for row in rows]
        return Verdict(tuple(rows), len(p), largest, tuple(notes))

    def _classes(
        self,
        p: NDArray,
        q: NDArray,
        labels: ArrayLike,
        task: str,
        positive: int | None,
        cuts: dict,
        seed: int,
    ) -> tuple[list[Row], list[str]]:
        *both, truth = checked_pair(p, q, labels, task, positive)
        rows, notes, how = [], [], {"task": task, "positive": positive}
        for name, cut in cuts.items():
            at = f" at {name}" * bool(name)
            a, b = (called(x, task, cut)[0] for x in both)
            share = (
                over_images((a == b).mean(1)) if task == "multi-label" else wilson((a == b).all(1))
            )
            found = (1.0, share[0], *(x - 1 for x in share))
            rows.append(_row(f"agreement{at}", found, 1 - self.agreement, len(a)))
            if task == "binary":
                found = tango(a[truth], b[truth])
                rows.append(_row(f"sensitivity{at}", found, self.sensitivity, int(truth.sum())))
            if len(a) > 1 and (a == a[0]).all():
                notes.append(f"the trained model answers the same for all {len(a)} images{at}")
        first = next(iter(cuts.values()))
        found = paired_scores(p, q, labels, thresholds=(first, first), seed=seed, **how)
        rows.append(_row("auroc", paired_auroc(p, q, labels, **how), self.auroc))
        worst = found["worst_class_recall"]
        rows.append(_row("recall of the worst class", worst, self.worst_class))
        return [*rows, _row("ece", found["ece"], self.ece)], notes

    def _masks(
        self, p: NDArray, q: NDArray, masks: NDArray, groups: ArrayLike | None, seed: int
    ) -> tuple[list[Row], list[str]]:
        if not all(((0 <= x) & (x <= 1)).all() for x in (p, q)):
            raise ValueError("Probabilities of masks lie outside [0, 1]: apply softmax or sigmoid.")
        if not np.isin(masks, (0, 1)).all():
            raise ValueError(f"masks hold {np.unique(masks)[:5]}: give 0 and 1, masks > 0, say.")
        if len(masks) != len(p) or masks.size != p.size:
            raise ValueError(
                f"masks are {masks.shape} and probabilities {p.shape}: give equal ones."
            )
        groups = None if groups is None else np.asarray(groups)
        both = [counts(x, p, masks.reshape(p.shape), groups) for x in (p, q)]
        before, after = map(of_masks, both)
        _, low, high = paired_bootstrap(
            lambda x, y: of_masks(y) - of_masks(x), *both, n=1000, seed=seed
        )
        notes = []
        if (patients := len(both[0])) < FEW:
            low, high = np.full((2, len(MASKS)), np.nan)
            notes = [f"{patients} patient(s) give no interval: it takes {FEW} or more"]
        margins = 1 - self.agreement, self.dice, self.sensitivity, self.worst_class, self.ece
        table = np.array([before, after, after - before, low, high])
        table[:, -1] *= -1  # ece, of which less is better
        table[3:, -1] = table[:2:-1, -1]
        return [_row(*one) for one in zip(MASKS, table.T.tolist(), margins)], notes


def _pair(reference: ArrayLike, probabilities: ArrayLike, task: str) -> tuple[NDArray, NDArray]:
    """Both as floats. ValueError where they cannot be probabilities for the same images."""
    p, q = np.asarray(reference, dtype=float), np.asarray(probabilities, dtype=float)
    if p.shape != q.shape:
        raise ValueError(f"The reference gives {p.shape}, the version {q.shape}: give equal ones.")
    if p.ndim < 1 or len(p) < 2:
        raise ValueError(f"Probabilities are {p.shape}: give those of two images or more.")
    if task in ("binary", *ARGMAX) and p.ndim == 2 and p.shape[1] > 1:
        for name, x in (("reference", p), ("version", q)):
            if (off := np.abs(x.sum(1) - 1) > SUM).any():
                row = int(off.argmax())
                told = f"of the {name} add up to {x[row].sum():.3g} in row {row}"
                raise ValueError(f"Probabilities {told}, not to 1: apply softmax to logits.")
    return p, q


def _fit(task: str, n: int, positive: Any, thresholds: Any, groups: Any) -> None:
    """ValueError where something is given that says nothing of this task, or not of n images."""
    if not isinstance(thresholds or {}, dict):
        raise ValueError(f"thresholds={thresholds!r}: give them by name, such as {{'own': 0.5}}.")
    cuts = [cut for cut in (thresholds or {}).values() if cut is not None and cut == cut]
    for name, given, of in (
        ("positive", positive is not None, "binary"),
        ("thresholds", cuts, "binary"),
        ("groups", groups is not None, "segmentation"),
    ):
        if given and task != of:
            raise ValueError(f"{name} is for {of} tasks, and this is {task}: leave it out.")
    if groups is not None and np.shape(groups) != (n,):
        told = f"groups are {np.shape(groups)}, and there are {n} images"
        raise ValueError(f"{told}: give the patient of each.")


def _row(measure: str, found: Any, margin: float, n: int | None = None) -> Row:
    """`found`: reference, value, difference, low, high, or a Difference. `n` of a share of images:
    how many."""
    if isinstance(found, Difference):
        found = found.a, found.b, found.difference, found.low, found.high
    *_, low, high = found = tuple(map(float, found))
    ends = (-high, -low) if measure == "ece" else (low, high)
    verdict, note = non_inferiority(*ends, margin), ""
    if n is not None and verdict == "inconclusive":
        fewest = int(TANGO * (1 / margin - 1)) + 1
        if n < fewest:
            note = f"{n} images cannot show it: it takes {fewest} or more, or a wider margin"
    if low != low:
        note = "not defined on these images"
    return Row(measure, *found, margin, verdict, note)


def counts(
    p: np.ndarray, reference: np.ndarray, masks: np.ndarray, groups: np.ndarray | None = None
) -> np.ndarray:
    """What each patient (each image, without groups) adds to `of_masks`, (P, 5 + BINS)."""
    p, reference, masks = (x.reshape(len(x), -1) for x in (p, reference, masks == 1))
    answers = p >= 0.5
    hits, dice = (answers & masks).sum(1), dice_of_each(answers, masks)
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


def _gaps(sure: NDArray, came: NDArray) -> NDArray:
    """By bin of confidence what was foretold less what came true, over all of its events."""
    return np.bincount(bin_of(sure), weights=sure - came, minlength=BINS) / sure.size
