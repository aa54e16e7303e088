"""Who goes where: training, validation and test without a patient on two sides."""

import re

import numpy as np

from effml.data.dataset import SPLITS
from effml.data.identity import listed, spellings

WAYS = ("group", "date", "column", "image")
_SPELLINGS = {
    "train": 0,
    "training": 0,
    "val": 1,
    "valid": 1,
    "validation": 1,
    "test": 2,
    "testing": 2,
}


def side_of(name: str) -> int | None:
    """0, 1 or 2 for a name of train, val or test as people write it (Training, TEST, val_images);
    None for any other.
    """
    plain = re.sub(r"[ _.-]*(set|data|images|split|folder)$", "", name.strip().casefold())
    return _SPELLINGS.get(plain)


def one_spelling(groups: np.ndarray) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Groups (N,) with one spelling for each (see `identity.key`), and all spellings by it."""
    same = spellings(groups.tolist())
    if all(len(names) == 1 for names in same.values()):
        return groups, same
    stands_for = {name: one for one, names in same.items() for name in names}
    return np.array([stands_for[name] for name in groups.astype(str).tolist()]), same


def split(
    by: str,
    labels: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    dates: np.ndarray | None = None,
    given: np.ndarray | None = None,
    together: np.ndarray | None = None,
    fractions: tuple[float, ...] = (0.7, 0.1, 0.2),
    seed: int = 0,
) -> np.ndarray:
    """The side of every row, int (N,): 0 train, 1 val, 2 test, or -1 for a row that no side may have.

    labels (N,) are class names, all the same where there are none; groups, dates (ISO, so that text sorts as time) and
    given (names of splits) are text (N,). Groups that differ only in spelling, such as P7 and p7, are one. `by` is
    "group": whole groups, so dealt that sizes and class shares follow `fractions` (see `_deal`); "image": the same with
    every image its own group; "column": what `given` says; "date": train before val before test, cut between the two days
    nearest to `fractions`, so that no test image is of or before the last training day. There a patient seen earlier keeps
    his first side, and his later images are left out (-1): moving them back would put late days into training.
    `together` (N,) are numbers of the sets that "group" and "image" deal whole, in their place.

    Raises ValueError if a group is on two sides of a given split, if a side with a fraction gets nothing, or if a side
    lacks a class that the others have.
    """
    if groups is not None:
        groups, same = one_spelling(groups)
    if by == "column":
        side = _sides(given)
    elif by == "date":
        side = _by_date(dates, groups, fractions)
    else:
        units = groups if by == "group" else np.arange(len(labels))
        side = _deal(labels, units if together is None else together, fractions, seed)
    if groups is not None and by != "image":
        _refuse_leaks(side, groups, same)
    advice = "Give more data, other fractions=(0.8, 0, 0.2), which leaves validation out, or another split_by."
    if by != "column" and (
        empty := [SPLITS[s] for s in range(3) if fractions[s] > 0 and not (side == s).any()]
    ):
        raise ValueError(
            f"The split by {by} leaves nothing for {', '.join(empty)} out of {len(labels)} images. {advice}"
        )
    for s in np.unique(side[side >= 0]):
        if lacking := sorted(set(labels[side >= 0]) - set(labels[side == s])):
            raise ValueError(
                f"The split by {by} leaves {SPLITS[s]} without the class {', '.join(lacking)}. {advice}"
            )
    return side


def _deal(
    labels: np.ndarray, groups: np.ndarray, fractions: tuple[float, ...], seed: int
) -> np.ndarray:
    """Deal whole groups, the largest first, each to the side whose class counts it brings nearest to its share.

    The distance is squared, per class, relative to the side's fraction. scikit-learn's StratifiedGroupKFold deals to ten
    equal folds instead: slower, in tenths only, and where patients differ in size, further from the class shares.
    """
    names, group = np.unique(groups, return_inverse=True)
    classes, label = np.unique(labels, return_inverse=True)
    share = np.zeros((len(names), len(classes)))
    np.add.at(share, (group, label), 1)
    share /= share.sum(0)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-np.bincount(group)[order], kind="stable")]
    wanted = np.flatnonzero(fractions)
    part = np.array(fractions)[wanted, None]
    need = np.repeat(part, share.shape[1], axis=1)
    side = np.zeros(len(names), dtype=int)
    for g in order:
        best = np.argmax(((2 * need - share[g]) * share[g] / part).sum(1))
        need[best] -= share[g]
        side[g] = wanted[best]
    return side[group]


def _by_date(
    dates: np.ndarray, groups: np.ndarray | None, fractions: tuple[float, ...]
) -> np.ndarray:
    days, day, count = np.unique(dates, return_inverse=True, return_counts=True)
    until, wanted, end = np.cumsum(count) / len(dates), np.cumsum(fractions), len(days) - 1
    last = min(
        int(np.abs(until - wanted[0]).argmin()), end - sum(part > 0 for part in fractions[1:])
    )  # leaves the others a day
    then = min(
        max(int(np.abs(until - wanted[1]).argmin()), last + (fractions[1] > 0)),
        end - (fractions[2] > 0),
    )
    side = (day > last).astype(int) + (day > then)
    if groups is None:
        return side
    names, group = np.unique(groups, return_inverse=True)
    first = np.full(len(names), len(SPLITS))
    np.minimum.at(first, group, side)
    return np.where(side == first[group], side, -1)


def _sides(given: np.ndarray) -> np.ndarray:
    known = [side_of(str(name)) for name in given]
    if unknown := sorted({str(name) for name, side in zip(given, known) if side is None}):
        raise ValueError(
            f"The split column says {', '.join(unknown[:5])}. Choose from: train, val, test (training, valid, "
            "validation and testing are understood too)."
        )
    return np.array(known)


def _refuse_leaks(side: np.ndarray, groups: np.ndarray, same: dict[str, list[str]]) -> None:
    names, group = np.unique(groups, return_inverse=True)
    on = np.zeros((len(names), len(SPLITS)), dtype=bool)
    on[group[side >= 0], side[side >= 0]] = True
    if len(leaking := names[on.sum(1) > 1]):
        raise ValueError(
            f"{len(leaking)} groups are on more than one side of the split: {listed(same[str(name)] for name in leaking)}. "
            'Test figures would be too good. Mend the split column, or say split_by="group".'
        )
