"""Copies: pictures that show the same, also turned, saved again, resized or brighter.

Equal pixels, also after a turn, have equal digests. Others are compared by thumbnails of 64 × 64
pixels in eight turns, without local means and with even local contrast, so that an outline counts
no more than what is inside it; and again without what many pictures of a set have in common, such
as a frame. What correlates in both, and area by area, is a near copy; what is alike but not sure is
"possible", and nothing is done to it. Cropped pictures, and small ones (28 pixels) that were
shrunken or saved as strong JPEG, are not found. `python -m tests.bench copies` measures this.
"""

import hashlib
from collections.abc import Iterator
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
from PIL import Image

_WAYS = ("", "rotated by 90°", "rotated by 180°", "rotated by 270°")
TURNS = (*_WAYS, "mirrored", *(f"mirrored, then {way}" for way in _WAYS[1:]))  # as `_turn` counts
SIDE = 64  # of a thumbnail, pixels
NEAR, LARGE = 0.975, 0.94  # the least correlation of a near copy, and of one in a large set
LARGE_SET = 200  # pictures: then it is known what is common to many
REST, POSSIBLE = 0.9, 0.8  # the same of what is not common to many, for a near and a possible copy
OWN = 0.28  # the least share of a near copy that is not common to many
AREAS = 0.05  # the most of the areas that may disagree
FIRST, MOST = 0.93, 200  # of the coarse comparison; a picture is compared on with so many at most
COMPONENTS, SHARED = 16, 20  # what is common: at most 16 components, each of 20 pictures or more
PAIRS = 100  # a set of more equal pictures is given as pairs with its first one


# SHA-256 of shape and pixels; that of one of its eight turns, the same one for all of them; and the
# picture in grey, stretched to a square, uint8 (SIDE, SIDE): enough to know its copies again
Thumbprint = tuple[str, str, np.ndarray]


class Thumbprints(NamedTuple):
    """Those of N pictures: text (N,), text (N,) and uint8 (N, SIDE, SIDE)."""

    digests: np.ndarray
    turned: np.ndarray
    thumbnails: np.ndarray

    @classmethod
    def of(cls, n: int) -> "Thumbprints":
        """Room for `n`; until they are put in, they are blank."""
        return cls(np.zeros(n, "U64"), np.zeros(n, "U64"), np.zeros((n, SIDE, SIDE), np.uint8))

    def put(self, row: int, one: Thumbprint) -> None:
        """Set one row."""
        for ours, its in zip(self, one):
            ours[row] = its

    def take(self, rows: np.ndarray) -> "Thumbprints":
        """Those of these rows, in this order."""
        return Thumbprints(*(part[rows] for part in self))


class Pair(NamedTuple):
    """Rows a < b that show the same picture. `correlation` is 1 where all pixels are equal."""

    a: int
    b: int
    kind: str  # exact, turned, near or possible
    turn: str  # what makes the picture a look like b
    correlation: float


def thumbprint(image: Image.Image) -> Thumbprint:
    """The digests and the thumbnail of an 8-bit picture, grey or RGB, before it is resized."""
    pixels = np.asarray(image)
    turns = [_turn(pixels, turn, axes=(0, 1)) for turn in range(len(TURNS))]
    step = max(1, min(image.size) // 64)  # a sample tells most turns apart, and that is quick
    samples = [(turned.shape, turned[::step, ::step].tobytes()) for turned in turns]
    shape, lowest = min(samples)
    first = min(turned.tobytes() for turned, one in zip(turns, samples) if one == (shape, lowest))
    small = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    digest, turned = _digest(pixels.shape, pixels.tobytes()), _digest(shape, first)
    return digest, turned, small


def find_copies(prints: Thumbprints) -> list[Pair]:
    """All pairs of pictures that show the same, sorted by row; "possible" where that is not sure.

    A blank picture is nobody's copy. 20 000 pictures take about 25 s of one core and 0.4 GB.
    """
    digests, turned, thumbnails = prints
    pairs, shows = [], np.flatnonzero(np.ptp(thumbnails, axis=(1, 2)))
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


def ends_of(pairs: list[Pair]) -> np.ndarray:
    """The rows a and b of each pair, int (P, 2)."""
    return np.array([pair[:2] for pair in pairs], dtype=int).reshape(-1, 2)


def sets_of(pairs: list[Pair], groups: np.ndarray) -> np.ndarray:
    """Number of the set of each row, (N,): rows of one group and copies are in one set."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    number, rows = np.unique(groups, return_inverse=True)[1], np.arange(len(groups))
    a, b = ends_of(pairs).T
    links = np.concatenate([a, rows]), np.concatenate([b, len(rows) + number])  # a group is a node
    there = np.ones(len(links[0]), bool)
    graph = coo_array((there, links), shape=(2 * len(rows), 2 * len(rows)))
    return connected_components(graph, directed=False)[1][: len(rows)]


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
    pictures (or 2 %) make up, such as a picture and its copies.
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
    common, flat = _common(fine), coarse.reshape(len(coarse), 256)
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
            sure = sure and whole > enough
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
