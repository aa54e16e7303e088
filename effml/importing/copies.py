"""Copies: pictures that show the same, also turned, saved again, resized or brighter.

Pixels that are equal, also after a turn, have equal digests. All others are compared by thumbnails
of 64 × 64 pixels in eight turns. Local means are taken off and local contrast is made even, so that
an outline counts no more than what is inside it; in a further comparison so is what many pictures
of a set have in common, such as a frame. What correlates in both, and area by area, is a near copy.
`python -m tests.bench copies` measures this on sets where the truth is known.

Not found are cropped pictures, turns by other than right angles, and, where little detail is left
(28 pixels, noise), many of those that were shrunken or saved as strong JPEG. What is alike but not
sure is told apart, as "possible": nothing is done to it.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from effml.data.dataset import SPLITS
from effml.importing.words import counted

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

ACTIONS = ("report", "group", "drop")
KINDS = ("exact", "turned", "near")  # "possible" is none of them: no action touches it
TURNS = (  # what makes the first picture look like the second, in the order of `_turn`
    "",
    "rotated by 90°",
    "rotated by 180°",
    "rotated by 270°",
    "mirrored",
    "mirrored, then rotated by 90°",
    "mirrored, then rotated by 180°",
    "mirrored, then rotated by 270°",
)
SIDE = 64  # of a thumbnail, pixels
NEAR, LARGE = 0.975, 0.94  # the least correlation of a near copy, and of one in a large set
LARGE_SET = 200  # pictures: then it is known what is common to many
REST, POSSIBLE = 0.9, 0.8  # the same of what is not common to many, for a near and a possible copy
OWN = 0.28  # the least share of a near copy that is not common to many
AREAS = 0.05  # the most of the areas that may disagree
FIRST, MOST = 0.93, 200  # of the coarse comparison; a picture is compared on with so many at most
COMPONENTS, SHARED = 16, 20  # what is common: at most 16 components, each of 20 pictures or more
LISTED = 1000  # pairs that a report names; all are counted
PAIRS = 100  # a set of more equal pictures is given as pairs with its first one


class Look(NamedTuple):
    """What is kept of a picture to know its copies again."""

    digest: str  # SHA-256 of shape and pixels
    turned: str  # that of one of its eight turns, the same one for all of them
    thumbnail: np.ndarray  # uint8 (SIDE, SIDE), grey, stretched to a square


class Looks(NamedTuple):
    """The looks of N pictures: text (N,), text (N,) and uint8 (N, SIDE, SIDE)."""

    digests: np.ndarray
    turned: np.ndarray
    thumbnails: np.ndarray

    @classmethod
    def of(cls, n: int) -> "Looks":
        """Room for the looks of `n` pictures; until they are put in, they are blank."""
        return cls(np.zeros(n, "U64"), np.zeros(n, "U64"), np.zeros((n, SIDE, SIDE), np.uint8))

    def put(self, row: int, look: Look) -> None:
        """Set one row."""
        for ours, one in zip(self, look):
            ours[row] = one

    def take(self, rows: np.ndarray) -> "Looks":
        """The looks of these rows, in this order."""
        return Looks(*(part[rows] for part in self))


class Pair(NamedTuple):
    """Rows a < b that show the same picture. `correlation` is 1 where all pixels are equal."""

    a: int
    b: int
    kind: str
    turn: str
    correlation: float


def look(image: "Image") -> Look:
    """The digests and the thumbnail of an 8-bit picture, grey or RGB, before it is resized."""
    from PIL import Image

    pixels = np.asarray(image)
    turns = [_turn(pixels, turn, axes=(0, 1)) for turn in range(len(TURNS))]
    step = max(1, min(image.size) // 64)  # a sample tells most turns apart, and that is quick
    samples = [(turned.shape, turned[::step, ::step].tobytes()) for turned in turns]
    lowest = min(samples)
    first = min(turned.tobytes() for turned, one in zip(turns, samples) if one == lowest)
    small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return Look(
        _digest(pixels.shape, pixels.tobytes()), _digest(lowest[0], first), np.asarray(small)
    )


def find_copies(looks: Looks) -> list[Pair]:
    """All pairs of pictures that show the same, sorted by row; "possible" where that is not sure.

    A picture without structure in its thumbnail is nobody's copy: all blank pictures are equal,
    and that says nothing. 20 000 pictures take about 25 s of one core, and 0.4 GB beside `looks`.
    """
    digests, turned, thumbnails = looks
    pairs, shows = [], np.flatnonzero(~blank(thumbnails))
    order = shows[np.argsort(turned[shows], kind="stable")]
    cuts = np.flatnonzero(turned[order[1:]] != turned[order[:-1]]) + 1
    same = {int(rows[0]): rows for rows in np.split(order, cuts) if len(rows)}
    for first, rows in same.items():
        for a, b in combinations(rows, 2) if len(rows) <= PAIRS else product([first], rows[1:]):
            kind = "exact" if digests[a] == digests[b] else "turned"
            turn = "" if kind == "exact" else _turn_of(thumbnails[a], thumbnails[b])
            pairs.append(Pair(int(a), int(b), kind, turn, 1.0))
    firsts = np.array(sorted(same), dtype=int)
    for i, j, kind, turn, alike in _near(thumbnails[firsts]):
        ours, theirs = same[int(firsts[i])], same[int(firsts[j])]
        many = len(ours) * len(theirs) > PAIRS
        for a, b in product(*(rows[:1] if many else rows for rows in (ours, theirs))):
            alone = len(ours) == len(theirs) == 1 or many
            how = TURNS[turn] if alone and a < b else _turn_of(*thumbnails[sorted((a, b))])
            pairs.append(Pair(int(min(a, b)), int(max(a, b)), kind, how, alike))
    return sorted(pairs)


def blank(thumbnails: np.ndarray) -> np.ndarray:
    """Which of the thumbnails (N, SIDE, SIDE) show one grey value only, bool (N,)."""
    return np.ptp(thumbnails.reshape(len(thumbnails), -1), axis=1) == 0


def sets_of(pairs: Iterable[Pair], groups: np.ndarray) -> np.ndarray:
    """Number of the set of each row, (N,): rows of one group and copies are in one set."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    number, rows = np.unique(groups, return_inverse=True)[1], np.arange(len(groups))
    ends = np.array([(a, b) for a, b, *_ in pairs], dtype=int).reshape(-1, 2)
    starts = np.concatenate([ends[:, 0], rows])
    stops = np.concatenate([ends[:, 1], len(rows) + number])  # a group is a node of its own
    nodes = 2 * len(rows)
    links = coo_array((np.ones(len(starts), bool), (starts, stops)), shape=(nodes, nodes))
    return connected_components(links, directed=False)[1][: len(rows)]


@dataclass(frozen=True)
class Copies:
    """What was found among the rows of an import, and what can be done about it."""

    rows: "pd.DataFrame"  # N rows with file and, where there are any, label and group
    pairs: list[Pair]
    doubts: list[Pair]  # those of kind "possible", which no action touches
    clash: np.ndarray  # bool, of each of `pairs`: different labels
    blank: int  # pictures that show one grey value

    @classmethod
    def among(cls, rows: "pd.DataFrame", looks: Looks, masks: np.ndarray | None) -> "Copies":
        """Search `rows`, whose index counts the rows of `looks` and `masks` (M, S, S).

        Labels differ where the column label does, or the masks of two exact copies.
        """
        looks, index = looks.take(rows.index), rows.index.to_numpy()
        found = find_copies(looks)
        pairs, doubts = (
            [pair for pair in found if (pair.kind in KINDS) == sure] for sure in (True, False)
        )
        clash = _differ(pairs, rows)
        if masks is not None:
            exact = [(index[a], index[b], kind == "exact") for a, b, kind, *_ in pairs]
            apart = [same and not np.array_equal(masks[a], masks[b]) for a, b, same in exact]
            clash |= np.array(apart, dtype=bool)
        return cls(rows, pairs, doubts, clash, int(blank(looks.thumbnails).sum()))

    def surplus(self, given: np.ndarray | None = None) -> dict[int, dict[str, str]]:
        """What to leave out, so that the first of each set stays: {row: its entry in refused}.

        First is by name; of a `given` split (N,) test comes before val before train, so that the
        test images stay those which others test on. Where labels differ within a set, nothing says
        which is right, and all of it goes.
        """
        number, names = sets_of(self.pairs, np.arange(len(self.rows))), self.rows.file.to_numpy()
        doubtful = {number[pair.a] for pair, differs in zip(self.pairs, self.clash) if differs}
        rank = np.zeros(len(names)) if given is None else -given
        first: dict[int, int] = {}
        out = {}
        for row in sorted(
            {row for a, b, *_ in self.pairs for row in (a, b)}, key=lambda k: (rank[k], names[k])
        ):
            one = first.setdefault(number[row], row)
            if number[row] in doubtful:
                out[row] = {"file": names[row], "reason": "a copy of it has another label"}
            elif row != one:
                out[row] = {"file": names[row], "reason": "a copy", "copy_of": names[one]}
        return out

    def together(self, by_group: bool) -> np.ndarray:
        """Number of the set that shares a side, (N,): copies and, if asked, rows of one group."""
        groups = self.rows.group.to_numpy(str) if by_group else np.arange(len(self.rows))
        return sets_of(self.pairs, groups)

    def apart(self, side: np.ndarray) -> np.ndarray:
        """Which pairs are on different sides; `side` (N,) is -1 for a row that was left out."""
        ends = np.array([(a, b) for a, b, *_ in self.pairs], dtype=int).reshape(-1, 2)
        return (side[ends] >= 0).all(1) & (side[ends[:, 0]] != side[ends[:, 1]])

    def counts(self, side: np.ndarray) -> dict[str, int]:
        """Pairs by kind, with different labels, on different sides, and possible ones."""
        kinds = {kind: sum(pair.kind == kind for pair in self.pairs) for kind in KINDS}
        return kinds | {
            "label_conflicts": int(self.clash.sum()),
            "across_sides": int(self.apart(side).sum()),
            "possible": len(self.doubts),
        }

    def report(self, side: np.ndarray) -> dict[str, list[dict[str, Any]]]:
        """Sure and possible pairs, LISTED of each: different labels, then different sides first."""
        doubts = replace(self, pairs=self.doubts, clash=_differ(self.doubts, self.rows))
        return {"duplicates": self._listed(side), "possible_duplicates": doubts._listed(side)}

    def _listed(self, side: np.ndarray) -> list[dict[str, Any]]:
        apart, kinds = self.apart(side), (*KINDS, "possible")
        ranks = sorted(
            range(len(self.pairs)),
            key=lambda k: (not self.clash[k], not apart[k], kinds.index(self.pairs[k].kind), k),
        )
        found = []
        for k in ranks[:LISTED]:
            a, b, kind, turn, alike = self.pairs[k]
            both = self.rows.iloc[[a, b]]
            one = {"files": both.file.tolist(), "kind": kind} | ({"turn": turn} if turn else {})
            one |= {f"{name}s": both[name].tolist() for name in ("label", "group") if name in both}
            one |= {"labels_differ": bool(self.clash[k]), "correlation": round(alike, 4)}
            one["sides"] = ["left out" if s < 0 else SPLITS[s] for s in side[[a, b]]]
            found.append(one)
        return found

    def named(self, which: np.ndarray, limit: int = 3) -> str:
        """The files of the first of these pairs, for a sentence."""
        names = self.rows.file.to_numpy()
        some = [self.pairs[k] for k in np.flatnonzero(which)[:limit]]
        more = ", …" if which.sum() > limit else ""
        return ", ".join(f"{names[a]} and {names[b]}" for a, b, *_ in some) + more

    def notes(self, side: np.ndarray, action: str, given: np.ndarray | None = None) -> list[str]:
        """What a user must know: different labels first, then different sides, then the rest.

        `side` (N,) is where the rows are, `given` (N,) where the table put them, if it did.
        """
        clash, drop, notes = self.clash, action == "drop", []
        ends = np.array([(a, b) for a, b, *_ in self.pairs], dtype=int).reshape(-1, 2)
        if drop:
            number = sets_of(self.pairs, np.arange(len(side)))[ends[:, 0]]
            kept = ~np.isin(number, number[clash])
            apart = kept & self.apart(side if given is None else given)
            same, where = kept & ~apart, ""
        else:
            apart, where = self.apart(side), " on one side"
            same = ~clash & ~apart & (side[ends] >= 0).all(1)
        if clash.any():
            advice = "mend the table, or leave all of them out by --copies drop"
            said = "all of them and their copies were left out" if drop else advice
            notes.append(
                f"{self.counted(clash, 'have')} different labels ({self.named(clash)}): {said}."
            )
        if apart.any():
            said = (
                "of each set of copies the one in test was kept, else the one in val"
                if drop
                else "test figures would be too good. --copies group puts them on one side, "
                "--copies drop keeps one of each"
            )
            notes.append(
                f"{self.counted(apart, 'were' if drop else 'are')} on different sides of the split ({self.named(apart)}): {said}."
            )
        if same.any():
            done = {"drop": "one of each was kept", "group": "they share a side"}
            said = done.get(action, "--copies drop keeps one of each")
            notes.append(f"{self.counted(same)}{where} ({self.named(same)}): {said}.")
        if notes:
            notes[-1] += " All are in the report, under duplicates."
        if self.doubts:
            notes.append(
                f"{counted(len(self.doubts), 'pair', 'are')} alike and may be copies or not "
                f"({_differ(self.doubts, self.rows).sum()} with different labels), neither grouped nor "
                "left out: look under possible_duplicates in the report."
            )
        if self.blank:
            blank = counted(self.blank, "picture", "are")
            notes.append(f"{blank} blank: one grey value, compared with nothing.")
        return notes

    def counted(self, which: np.ndarray, verb: str = "") -> str:
        """How many these pairs are, for a sentence."""
        return counted(int(which.sum()), "pair of copies", verb)


def _differ(pairs: list[Pair], rows: "pd.DataFrame") -> np.ndarray:
    """Which pairs have different labels in the column label, bool."""
    label = rows.label.to_numpy() if "label" in rows else np.zeros(len(rows))
    return np.array([label[a] != label[b] for a, b, *_ in pairs], dtype=bool)


def _digest(shape: tuple[int, ...], pixels: bytes) -> str:
    return hashlib.sha256(repr(shape).encode() + pixels).hexdigest()


def _turn(pixels: np.ndarray, turn: int, axes: tuple[int, int] = (-2, -1)) -> np.ndarray:
    """A turn of one picture or many: mirrored from 4 on, then rotated by `turn` quarters."""
    return np.rot90(np.flip(pixels, axes[1]) if turn >= 4 else pixels, turn % 4, axes)


def _turn_of(a: np.ndarray, b: np.ndarray) -> str:
    """The turn that brings the thumbnail a nearest to b."""
    turns = [np.abs(_turn(a.astype(int), turn) - b).sum() for turn in range(len(TURNS))]
    return TURNS[int(np.argmin(turns))]


def _even(thumbnails: np.ndarray, side: int, sigma: float) -> np.ndarray:
    """float32 (N, side, side) of norm 1, without local means, strong contrast made even.

    `sigma`, in pixels, is how far local reaches; strong is over 10 grey levels.
    """
    from scipy.ndimage import gaussian_filter

    n, step = len(thumbnails), SIDE // side
    values = thumbnails.reshape(n, side, step, side, step).mean((2, 4), dtype=np.float32)
    values -= gaussian_filter(values, (0, sigma, sigma), mode="nearest")
    values /= np.sqrt(gaussian_filter(values**2, (0, sigma, sigma), mode="nearest")) + 10
    values -= values.mean((1, 2), keepdims=True)
    return values / np.maximum(np.linalg.norm(values, axis=(1, 2), keepdims=True), 1e-6)


def _common(fine: np.ndarray) -> np.ndarray:
    """What many pictures have in common, such as a frame: orthonormal (K, side, side).

    These are the first COMPONENTS principal components, without those that fewer than SHARED
    pictures (or 2 %) make up: a picture and its copies are alike too, and must not be taken off.
    """
    from scipy.linalg import eigh

    flat = fine.reshape(len(fine), -1)
    if (least := max(SHARED, len(flat) // 50)) > len(flat):
        return fine[:0]
    few = len(flat) < flat.shape[1]
    square = flat @ flat.T if few else flat.T @ flat
    size, axes = eigh(square, subset_by_index=(max(len(square) - COMPONENTS, 0), len(square) - 1))
    axes = flat.T @ axes / np.sqrt(np.maximum(size, 1e-6)) if few else axes
    share = (flat @ axes) ** 2
    pictures = share.sum(0) ** 2 / np.maximum((share**2).sum(0), 1e-12)  # as many as carry an axis
    return axes.T[pictures >= least].reshape(-1, *fine.shape[1:])


def _near(thumbnails: np.ndarray, block: int = 64) -> Iterator[tuple[int, int, str, int, float]]:
    """Rows (i < j), kind, turn and correlation of the pairs that are alike by their thumbnails.

    Every picture in its eight turns is compared with all later ones by 16 × 16 means; what
    correlates there is compared by 32 × 32 means, then without what many have in common, then area
    by area. Blocks keep the memory at 8 × `block` × N numbers.
    """
    coarse, fine = _even(thumbnails, 16, 2), _even(thumbnails, 32, 3)
    common, flat = _common(fine), coarse.reshape(len(coarse), -1)
    enough = LARGE if len(flat) >= LARGE_SET else NEAR
    for start in range(0, len(flat), block):
        ours, finer = (
            np.stack([_turn(some[start : start + block], turn) for turn in range(len(TURNS))])
            for some in (coarse, fine)
        )
        alike = ours.reshape(-1, flat.shape[1]) @ flat[start:].T
        found = np.flatnonzero(alike > FIRST)  # much faster than nonzero
        if len(found) > MOST * len(alike):  # nearly all are alike: only the nearest of each
            near = np.argpartition(alike, -MOST, axis=1)[:, -MOST:]
            found = (near + alike.shape[1] * np.arange(len(alike))[:, None]).ravel()
            found = np.sort(found[alike.ravel()[found] > FIRST])
        turn, i, j = np.unravel_index(found, (*ours.shape[:2], alike.shape[1]))
        turn, i, j = (part[i < j] for part in (turn, i, j))
        best: dict[tuple[int, int], tuple[float, int, bool]] = {}
        for cut in range(0, len(i), 4096):
            t, a, b = (part[cut : cut + 4096] for part in (turn, i, j))
            whole, rest, own = _correlations(finer[t, a], fine[start + b], common)
            for k in np.flatnonzero((whole > NEAR) | (whole > LARGE) & (rest > POSSIBLE)):
                value = float(whole[k]), int(t[k]), rest[k] > REST and own[k] > OWN
                best[a[k], b[k]] = max(best.get((a[k], b[k]), value), value)
        for (a, b), (whole, way, sure) in best.items():
            a, b = int(start + a), int(start + b)
            sure = whole > enough and sure
            sure = sure and _disagree(_turn(thumbnails[a], way), thumbnails[b]) <= AREAS
            yield a, b, "near" if sure else "possible", way, min(whole, 0.9999)


def _correlations(
    a: np.ndarray, b: np.ndarray, common: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of pairs (n, side, side) of norm 1: correlation as they are, correlation without their
    `common` part, and the norm of what is left of the poorer one."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    axes = common.reshape(len(common), a.shape[1])
    rest = [part - (part @ axes.T) @ axes for part in (a, b)]
    sizes = [np.linalg.norm(part, axis=1) for part in rest]
    whole, left = (np.einsum("nx,nx->n", *pair) for pair in ((a, b), rest))
    return whole, left / np.maximum(sizes[0] * sizes[1], 1e-6), np.minimum(*sizes)


def _disagree(a: np.ndarray, b: np.ndarray) -> float:
    """The share of the 64 areas of two thumbnails that show different things.

    There they correlate below 0.7, and what one does not explain of the other is over 4 grey
    levels, more than JPEG of quality 75 leaves.
    """
    x, y = (
        part.astype(np.float32).reshape(8, 8, 8, 8).swapaxes(1, 2).reshape(64, 64)
        for part in (a, b)
    )
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    xx, yy, xy = (x**2).mean(1), (y**2).mean(1), (x * y).mean(1)
    r = xy / np.sqrt(np.maximum(xx * yy, 1e-6))
    left = np.sqrt(np.maximum(xx, yy) * (1 - np.clip(r, 0, 1) ** 2))
    return float(((r < 0.7) & (left > 4)).mean())
