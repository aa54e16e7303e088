"""Who goes where: training, validation and test without a patient on two sides."""

import re
from collections.abc import Iterable

import numpy as np

from effml.data.dataset import SPLITS
from effml.data.spelling import listed, spellings
from effml.importing.words import counted

WAYS = ("group", "date", "column", "image")
_ADVICE = dict.fromkeys(
    ("group", "image"),
    "A class is needed on every side, and a patient, like a set of copies, stays on one: give more "
    "patients, put rare classes together, or give larger shares, such as fractions=(0.6, 0, 0.4).",
) | {
    "date": "A patient stays on the side of his first day, and later images of him are left out: "
    'give more days and later patients, or say split_by="group".',
    "column": "Add such pictures to that side, leave the class out of the table, or say "
    'split_by="group".',
}
_NAMES = (("train", "training"), ("val", "valid", "validation"), ("test", "testing"))


def side_of(name: str) -> int | None:
    """0, 1 or 2 for a name of train, val or test as people write it; None for any other."""
    plain = re.sub(r"[ _.-]*(set|data|images|split|folder)$", "", name.strip().casefold())
    return next((side for side, names in enumerate(_NAMES) if plain in names), None)


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
    """The side of every row, int (N,): 0 train, 1 val, 2 test, or -1 where no side may have it.

    labels (N,) are class names, all the same where there are none; groups, dates (ISO) and given
    (names of splits) are text (N,). `by` is one of WAYS: whole groups or images, so dealt that
    sizes and class shares follow `fractions`; what `given` says; or train before val before test.
    By date a patient seen earlier keeps his first side, and his later images are left out (-1): in
    training they would be late days. `together` (N,) numbers sets that are dealt whole.

    Raises ValueError with the cause if a group is on two sides of a given split, if a side with a
    fraction gets nothing, or if a side lacks a class that the others have.
    """
    if groups is not None:
        groups, same = one_spelling(groups)
    if by == "column":
        side = given_sides(given)
    elif by == "date":
        side = _by_date(dates, groups, fractions)
    else:
        units = groups if by == "group" else np.arange(len(labels))
        units = units if together is None else together
        side = _deal(labels, units, fractions, seed)
    if groups is not None and by != "image":
        _refuse_leaks(side, groups, same)
    need = (np.array(fractions) > 0) & (by != "column")  # a given split has the sides that it has
    if not (fault := _fault(side, labels, need)):
        return side
    where = f"The split by {by} {fault}, out of {counted(len(labels), 'image')}"
    if groups is not None and by == "group" and len(set(groups)) == 1:
        where += f", all of the one group {groups[0]}"
    raise ValueError(f"{where}. {_ADVICE[by]}")


def _fault(side: np.ndarray, labels: np.ndarray, need: np.ndarray) -> str:
    """What is wrong with a split: a side that is needed (3,) has nothing, or not every class."""
    if empty := [SPLITS[s] for s in np.flatnonzero(need) if not (side == s).any()]:
        return f"leaves nothing for {', '.join(empty)}"
    every = set(labels[side >= 0])
    for s in np.unique(side[side >= 0]):
        if lacking := sorted(every - set(labels[side == s])):
            more = ", …" * (len(lacking) > 5)
            has = [
                f"{name} ({counted(int((labels == name).sum()), 'image')})" for name in lacking[:5]
            ]
            return f"leaves {SPLITS[s]} without the class {', '.join(has)}{more}"
    return ""


def _deal(
    labels: np.ndarray, groups: np.ndarray, fractions: tuple[float, ...], seed: int
) -> np.ndarray:
    """Deal whole groups, the largest first, each to the side that it brings nearest to its share.

    The distance is squared, per class, relative to the side's fraction. (scikit-learn's
    StratifiedGroupKFold knows equal folds only.)
    """
    names, group = np.unique(groups, return_inverse=True)
    classes, label = np.unique(labels, return_inverse=True)
    share = np.zeros((len(names), len(classes)))
    np.add.at(share, (group, label), 1)
    share /= share.sum(0)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-np.bincount(group)[order], kind="stable")]
    wanted = np.flatnonzero(fractions)
    part = np.array(fractions, dtype=float)[wanted, None]
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
    until, end = np.cumsum(count) / len(dates), len(days) - 1
    last, then = (int(np.abs(until - wanted).argmin()) for wanted in np.cumsum(fractions)[:2])
    last = min(last, end - sum(part > 0 for part in fractions[1:]))  # leaves the others a day
    then = min(max(then, last + (fractions[1] > 0)), end - (fractions[2] > 0))
    side = (day > last).astype(int) + (day > then)
    if groups is None:
        return side
    names, group = np.unique(groups, return_inverse=True)
    first = np.full(len(names), len(SPLITS))
    np.minimum.at(first, group, side)
    return np.where(side == first[group], side, -1)


def given_sides(given: Iterable[str]) -> np.ndarray:
    """The sides (N,) that a split column names. Raises ValueError for names that are none."""
    known = {name: side_of(str(name)) for name in given}
    if unknown := sorted(str(name) for name, side in known.items() if side is None):
        said = f"The split column says {', '.join(unknown[:5])}"
        raise ValueError(f"{said}. Choose from: train, val, test.")
    return np.array([known[name] for name in given])


def _refuse_leaks(side: np.ndarray, groups: np.ndarray, same: dict[str, list[str]]) -> None:
    names, group = np.unique(groups, return_inverse=True)
    on = np.zeros((len(names), len(SPLITS)), dtype=bool)
    on[group[side >= 0], side[side >= 0]] = True
    if len(leaking := names[on.sum(1) > 1]):
        raise ValueError(
            f"{counted(len(leaking), 'group', 'are')} on more than one side of the split: "
            f"{listed(same[str(name)] for name in leaking)}. Test figures would be too good. "
            'Mend the split column, or say split_by="group".'
        )
