"""Who goes where: training, validation and test without a patient on two sides."""

import re
from collections.abc import Iterable

import numpy as np

from effml.data.dataset import SPLITS
from effml.data.identity import listed, spellings
from effml.importing.words import counted

WAYS = ("group", "date", "column", "image")
_OTHER = ((0.6, 0.2, 0.2), (0.4, 0.3, 0.3), (0.8, 0, 0.2), (0.6, 0, 0.4), (0.5, 0, 0.5))
_NAMES = (("train", "training"), ("val", "valid", "validation"), ("test", "testing"))


def side_of(name: str) -> int | None:
    """0, 1 or 2 for a name of train, val or test as people write it (Training, TEST, val_images);
    None for any other.
    """
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
    (names of splits) are text (N,). `by` is "group": whole groups, so dealt that sizes and class
    shares follow `fractions`; "image": the same with every image its own group; "column": what
    `given` says; "date": train before val before test, cut between the days nearest to `fractions`.
    There a patient seen earlier keeps his first side, and his later images are left out (-1), since
    moving them back would put late days into training. `together` (N,) numbers sets that "group"
    and "image" deal whole.

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
    if by == "column":
        why = "Add such pictures to that side, leave the class out of the table, or deal anew by "
        why += 'split_by="group" or split_by="image".'
    elif by == "date":
        alone = "nothing" in fault or not _fault(_by_date(dates, None, fractions), labels, need)
        why = _why_by_date(dates, groups, need, alone)
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
            more = ", …" * (len(lacking) > 5)
            return f"leaves {SPLITS[s]} without the class {', '.join(lacking[:5])}{more}"
    return ""


def _why_dealt(labels: np.ndarray, units: np.ndarray, thing: str, sides: int, seed: int) -> str:
    """Why whole units (N,) could not be dealt to so many sides, and what would help."""
    other, stays = "", "" if thing == "image" else f", and a {thing} stays on one side"
    for shares in _OTHER:  # advice that was tried
        if not _fault(_deal(labels, units, shares, seed), labels, np.array(shares) > 0):
            out = "" if shares[1] else ", which leaves validation out"
            other = f" Or say fractions={shares}{out}."
            break
    number, unit = np.unique(units, return_inverse=True)
    if len(number) < sides:
        only = f"Only {counted(len(number), thing, 'are')} there for {sides} sides{stays}"
        return f"{only}. Give pictures of more patients.{other}"
    classes, label = np.unique(labels, return_inverse=True)
    count = np.bincount(np.unique([label, unit], axis=1)[0], minlength=len(classes))
    if few := int((count < sides).sum()):
        example = f"{classes[count.argmin()]} with {counted(count.min(), thing)}"
        less = f"fewer than {counted(sides, thing)}, one for each side, such as {example}{stays}"
        advice = "put classes together (values of a measurement into ranges), or leave them out"
        return f"{few} of {len(classes)} classes have {less}. Give more, {advice}.{other}"
    return f"Its share is too small for whole {counted(2, thing)[2:]}. Give more data.{other}"


def _why_by_date(
    dates: np.ndarray, groups: np.ndarray | None, need: np.ndarray, alone: bool
) -> str:
    """Why days could not be parted into as many sides as are needed, and what would help. `alone`:
    without the groups they could.
    """
    why = "A class that was seen on few days cannot be on every side."
    if (days := len(np.unique(dates))) < need.sum():
        why = f"Only {counted(days, 'day', 'are')} there for {need.sum()} sides."
    elif groups is not None and alone:
        last = max(min(dates[groups == name]) for name in np.unique(groups))
        why = "A patient stays on the side of his first day, and later images of earlier patients "
        why += f"are left out: the last new one came on {last}, the last day is {max(dates)}."
    return f'{why} Say split_by="group", or give pictures of more days and later patients.'


def _deal(
    labels: np.ndarray, groups: np.ndarray, fractions: tuple[float, ...], seed: int
) -> np.ndarray:
    """Deal whole groups, the largest first, each to the side that it brings nearest to its share.

    The distance is squared, per class, relative to the side's fraction. scikit-learn's
    StratifiedGroupKFold deals to ten equal folds instead: slower, in tenths only, and where
    patients differ in size, further from the class shares.
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
        said = f"The split column says {', '.join(unknown[:5])}. Choose from: train, val, test"
        raise ValueError(f"{said} (training, valid, validation and testing are understood too).")
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
