"""The quality gate: is a smaller, faster version of a model as good as the model itself?"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from effml.deployment.repeating import MASKS, counts, of_masks
from effml.evaluation import (
    compare_predictions,
    non_inferiority,
    paired_bootstrap,
)

EQUAL = 1e-3
"""Probabilities that are nowhere farther apart are the same: the arithmetic's order, no loss."""
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
    probabilities are nowhere over EQUAL apart, all rows are equal; `largest`: how far they are."""

    rows: tuple[Row, ...]
    n: int
    largest: float

    @property
    def passed(self) -> bool:
        return all(row.verdict in PASSES for row in self.rows)

    @property
    def reason(self) -> str:
        if self.largest <= EQUAL:
            return f"the same probabilities on {self.n} images, at most {self.largest:.1g} apart"
        failed = [str(row) for row in self.rows if row.verdict not in PASSES]
        return "; ".join(failed) or f"non-inferior in all {len(self.rows)} measures"


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
            if not 0 < (value := getattr(self, one.name)) < 1:
                told = "the least share of equal answers" if one.name == "agreement" else "a loss"
                raise ValueError(f"{one.name}={value!r}: give {told}, between 0 and 1.")

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
        of masks. ValueError on input that cannot be scored or paired."""
        p, q = np.asarray(reference, dtype=float), np.asarray(probabilities, dtype=float)
        if p.shape != q.shape:
            raise ValueError(
                f"The reference gives {p.shape}, the version {q.shape}: give equal ones."
            )
        if task == "segmentation":
            rows = self._masks(p, q, np.asarray(labels), groups, seed)
        else:
            known = {name: cut for name, cut in (thresholds or {}).items() if cut == cut}
            cuts = known or {"0.5": 0.5} if task == "binary" else {"": None}
            how = {"task": task, "positive": positive, "seed": seed}
            rows = self._classes(p, q, labels, cuts, how)
        if (largest := float(np.abs(p - q).max())) <= EQUAL:
            rows = [replace(row, verdict="equal", note="") for row in rows]
        return Verdict(tuple(rows), len(p), largest)

    def _classes(self, p: NDArray, q: NDArray, labels: ArrayLike, cuts: dict, how: dict) -> list:
        sheets = {
            name: compare_predictions(p, q, labels, threshold=cut, **how)
            for name, cut in cuts.items()
        }
        first, rows = next(iter(sheets.values())), []
        for name, sheet in sheets.items():
            at = f" at {name}" * bool(name)
            same = sheet.loc["agreement"]
            ends = (same.b - 1, same.low - 1, same.high - 1)
            rows.append(_row(f"agreement{at}", (1.0, same.b, *ends), 1 - self.agreement, len(p)))
            if how["task"] == "binary":
                n = int((np.ravel(labels) == how["positive"]).sum())
                found = _found(sheet, "sensitivity")
                rows.append(_row(f"sensitivity{at}", found, self.sensitivity, n))
        rows.append(_row("auroc", _found(first, "auroc"), self.auroc))
        worst = _found(first, "worst_class_recall")
        rows.append(_row("recall of the worst class", worst, self.worst_class))
        return [*rows, _row("ece", _found(first, "ece"), self.ece)]

    def _masks(
        self, p: NDArray, q: NDArray, masks: NDArray, groups: ArrayLike | None, seed: int
    ) -> list[Row]:
        groups = None if groups is None else np.asarray(groups)
        both = [counts(x, p, masks.reshape(p.shape), groups) for x in (p, q)]
        before, after = map(of_masks, both)
        _, low, high = paired_bootstrap(
            lambda x, y: of_masks(y) - of_masks(x), *both, n=1000, seed=seed
        )
        margins = 1 - self.agreement, self.dice, self.sensitivity, self.worst_class, self.ece
        table = np.array([before, after, after - before, low, high])
        table[:, -1] *= -1  # ece, of which less is better
        table[3:, -1] = table[:2:-1, -1]
        return [_row(*one) for one in zip(MASKS, table.T.tolist(), margins)]


def _row(measure: str, found: Any, margin: float, n: int | None = None) -> Row:
    """`found`: reference, value, difference, low, high. `n` of a share of images: how many."""
    *_, low, high = found = tuple(found)
    ends = (-high, -low) if measure == "ece" else (low, high)
    verdict, note = non_inferiority(*ends, margin), ""
    if n is not None and verdict == "inconclusive":
        fewest = int(TANGO * (1 / margin - 1)) + 1
        if n < fewest:
            note = f"{n} images cannot show it: it takes {fewest} or more, or a wider margin"
    if low != low:
        note = "not defined on these images"
    return Row(measure, *found, margin, verdict, note)


def _found(sheet: Any, name: str) -> tuple[float, ...]:
    return tuple(float(sheet.loc[name, x]) for x in ("a", "b", "difference", "low", "high"))
