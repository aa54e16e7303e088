"""Who goes where: training, validation and test without a patient on two sides."""

import re
from collections.abc import Iterable

import numpy as np

from effml.data.dataset import SPLITS
from effml.data.identity import listed, spellings
from effml.importing.words import counted

WAYS = ("group", "date", "column", "image")
_OTHER = ((0.6, 0.2, 0.2), (0.4, 0.3, 0.3), (0.8, 0, 0.2), (0.6, 0, 0.4), (0.5, 0, 0.5))
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

    Raises ValueError with the cause if a group is on two sides of a given split, if a side with a fraction gets nothing,
    or if a side lacks a class that the others have.
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
    need = np.array(fractions) > 0  # a given split has the sides that it has
    need &= by != "column"
    if not (fault := _fault(side, labels, need)):
        return side
    if by == "column":
        why = (
            "Add such pictures to that side, leave the class out of the table, or deal anew by "
            'split_by="group" or split_by="image".'
        )
    elif by == "date":
        again = groups is not None and (
            not np.isin(np.flatnonzero(need), side).all()  # days alone leave no side empty
            or not _fault(_by_date(dates, None, fractions), labels, need)
        )
        why = _why_by_date(labels, dates, groups if again else None, int(need.sum()))
    else:
        thing = "set of copies" if together is not None else "group" if by == "group" else "image"
        why = _why_dealt(labels, units, thing, int(need.sum()), seed)
    raise ValueError(f"The split by {by} {fault}, out of {counted(len(labels), 'image')}. {why}")


def _fault(side: np.ndarray, labels: np.ndarray, need: np.ndarray) -> str:
    """What is wrong with a split: a side that is needed (3,) has nothing, or not every class."""
    if empty := [SPLITS[s] for s in np.flatnonzero(need) if not (side == s).any()]:
        return f"leaves nothing for {', '.join(empty)}"
    every = set(labels[side >= 0])
    for s in np.unique(side[side >= 0]):
        if lacking := sorted(every - set(labels[side == s])):
            return f"leaves {SPLITS[s]} without the class {_some(lacking)}"
    return ""


def _some(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + ", …" * (len(names) > most)


def _why_dealt(labels: np.ndarray, units: np.ndarray, thing: str, sides: int, seed: int) -> str:
    """Why whole units (N,) could not be dealt to so many sides, and what would help."""
    number, other = len(np.unique(units)), ""
    for shares in _OTHER:  # advice that was tried
        if not _fault(_deal(labels, units, shares, seed), labels, np.array(shares) > 0):
            other = f" Or say fractions={shares}" + (
                ", which leaves validation out." if not shares[1] else "."
            )
            break
    classes, label = np.unique(labels, return_inverse=True)
    pairs = np.unique(np.stack([label, np.unique(units, return_inverse=True)[1]]), axis=1)
    count = np.bincount(pairs[0], minlength=len(classes))
    stays = "" if thing == "image" else f", and a {thing} stays on one side"
    if number < sides:
        return (
            f"Only {counted(number, thing, 'are')} there for {sides} sides{stays}. "
            f"Give pictures of more patients.{other}"
        )
    if len(few := np.flatnonzero(count < sides)):
        example = few[count[few].argmin()]
        return (
            f"{len(few)} of {len(classes)} classes have fewer than {counted(sides, thing)}, one for each side, such as "
            f"{classes[example]} with {counted(count[example], thing)}{stays}. Give more of them, put classes together "
            f"(values of a measurement into ranges), or leave them out.{other}"
        )
    return f"Its share is too small for whole {counted(2, thing)[2:]}. Give more data.{other}"


def _why_by_date(
    labels: np.ndarray, dates: np.ndarray, groups: np.ndarray | None, sides: int
) -> str:
    """Why days could not be parted into as many sides as are needed, and what would help. `groups`
    (N,) are given where the split fails because of them alone.
    """
    otherwise = 'Say split_by="group", or give pictures of more days.'
    if (days := len(np.unique(dates))) < sides:
        return f"Only {counted(days, 'day', 'are')} there for {sides} sides. {otherwise}"
    if groups is not None:
        start = [min(dates[groups == name]) for name in np.unique(groups)]
        return (
            "A patient stays on the side of his first day, and later images of earlier patients are left out: the last "
            f'new patient came on {max(start)}, the last day is {max(dates)}. Say split_by="group", or give pictures '
            "of patients who came later."
        )
    classes = np.unique(labels)
    seen = np.array([len(np.unique(dates[labels == name])) for name in classes])
    if (seen < sides).any():
        k = int(seen.argmin())
        return (
            f"The class {classes[k]} was seen on {counted(int(seen[k]), 'day')} only. {otherwise}"
        )
    return 'The days of its side hold none. Say split_by="group".'


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


def given_sides(given: Iterable[str]) -> np.ndarray:
    """The sides (N,) that a split column names. Raises ValueError for names that are none."""
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
            f"{counted(len(leaking), 'group', 'are')} on more than one side of the split: "
            f"{listed(same[str(name)] for name in leaking)}. "
            'Test figures would be too good. Mend the split column, or say split_by="group".'
        )
