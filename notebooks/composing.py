"""A factorial of two levels: which runs it takes, and what its factors and their pairs
do (notebook 90)."""

from collections.abc import Callable, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas

from effml.seeds import CONFIDENCE

ALL, BEYOND = "all together", "beyond each alone"


def design(
    factors: Sequence[str], seeds: Sequence[int], words: Sequence[Sequence[str]] = ()
) -> pandas.DataFrame:
    """The runs, a row each: `seed` and for each factor True where it is used.

    Without `words` each seed gets every combination. Two words, sets of factors, cut them into four
    quarters by whether an even number of each word's factors is used; the seeds take turns at
    these, so that three seeds make three quarters (John 1962). The first has the run
    without any."""
    whole = pandas.DataFrame(product([False, True], repeat=len(factors)), columns=list(factors))
    odd = np.array([whole[list(word)].sum(axis=1) % 2 for word in words]).reshape(-1, len(whole))
    cuts = list(product([0, 1], repeat=len(words)))
    parts = []
    for place, seed in enumerate(seeds):
        mine = (odd.T == cuts[place % len(cuts)]).all(axis=1)
        parts.append(whole[mine].assign(seed=seed))
    return pandas.concat(parts, ignore_index=True)


def columns_of(runs: pandas.DataFrame, factors: Sequence[str]) -> pandas.DataFrame:
    """The columns of the least squares: −1/2 or 1/2 for a factor, so that its coefficient is what
    it changes in the mean over the levels of all others; the product for a pair, so that its
    coefficient is (both − the second alone) − (the first alone − neither)."""
    halves = {name: runs[name].to_numpy(bool) - 0.5 for name in factors}
    pairs = {f"{a} × {b}": halves[a] * halves[b] for a, b in combinations(factors, 2)}
    return pandas.DataFrame(halves | pairs, index=runs.index)


def effects(
    runs: pandas.DataFrame,
    outcome: str,
    factors: Sequence[str],
    *,
    block: str = "seed",
    mean: str = "",
    comparisons: int = 1,
) -> pandas.DataFrame:
    """What factors and pairs of them change, by least squares with a level for each block.

    Args:
        runs: a row each, with the outcome, the block, and True or False for each factor.
        outcome: the column that is explained: the logarithm of what factors should multiply.
        factors: their columns.
        block: the column of what runs have in common, such as a seed.
        mean: the name of an outcome that is a change itself: its mean comes first, and no pairs.
        comparisons: for how many intervals together the 95 % hold (Bonferroni).

    Returns:
        A row for each factor and pair, ALL (the sum of the factors: all used against none) and
        BEYOND (the sum of the pairs: by how much ALL is more than the sum of what each does where
        no other is used). Columns: change, low, high, and sure, whether 0 lies outside.

    Raises:
        ValueError: too few runs, or such that two effects cannot be told apart; a value unknown.
    """
    from scipy.special import stdtrit

    y, n = runs[outcome].to_numpy(float), len(factors)
    found = columns_of(runs, factors).iloc[:, : n if mean else None]
    blocks = pandas.get_dummies(runs[block]).to_numpy(float)
    x = np.column_stack([found, blocks])
    df, rank = len(y) - x.shape[1], np.linalg.matrix_rank(x)
    if df < 1 or rank < x.shape[1] or not np.isfinite(y).all():
        told = f"{outcome}: {len(y)} runs for {x.shape[1]} numbers, {rank} of them independent"
        raise ValueError(f"{told}: give more runs, all of them known, or fewer factors.")
    weights = dict(zip(found, np.eye(x.shape[1])))
    if mean:
        over = np.r_[np.zeros(n), np.full(blocks.shape[1], 1 / blocks.shape[1])]
        weights = {mean: over} | weights
    else:
        weights[ALL] = sum(weights[name] for name in found.columns[:n])
        weights[BEYOND] = sum(weights[name] for name in found.columns[n:])
    b, w = np.linalg.lstsq(x, y)[0], np.array([*weights.values()])
    noise = ((y - x @ b) ** 2).sum() / df
    error = np.sqrt(noise * np.diag(w @ np.linalg.inv(x.T @ x) @ w.T))
    half = stdtrit(df, 1 - (1 - CONFIDENCE) / comparisons / 2) * error
    told = pandas.DataFrame({"change": w @ b}, index=pandas.Index(weights, name="effect"))
    told["low"], told["high"] = told.change - half, told.change + half
    return told.assign(sure=(told.low > 0) | (told.high < 0))


def named(found: pandas.DataFrame, text: Callable[[pandas.Series], str]) -> str:
    """The effects that are sure in words, the largest first; else that there is none."""
    sure = found[found.sure].sort_values("change", key=abs, ascending=False)
    told = ", ".join(f"{name} {text(row)}" for name, row in sure.iterrows())
    return told or f"none; all {len(found)} intervals cross zero"


def answers_ms(
    model: str, images: Any, forms: pandas.DataFrame, *, runtimes: Sequence[str], rounds: int
) -> pandas.DataFrame:
    """Milliseconds of an answer by each form of the model (rows of True and False: INT8, half of
    the channels, of the ranks), by turns: a row for each form and round."""
    from effml import build_model, build_predictor, compress, measure_latency

    made = []
    for form in forms.to_dict("records"):
        net = build_model(model, in_channels=images.shape[1], size=images.shape[-1])
        for name, how in {"channels": "channels", "rank": "svd_spatial"}.items():
            net = compress(net, how, 0.5, example=images[:1])[0] if form.get(name) else net
        made.append(build_predictor(net, runtimes[form["INT8"]], images[:1], images))
    told = measure_latency(made, images, rounds=rounds, seconds=rounds / 6, warmup=0.2)
    parts = [pandas.DataFrame({"ms": one.turns_ms, "round": range(rounds)}) for one in told]
    parts = [part.assign(**form) for part, form in zip(parts, forms.to_dict("records"))]
    return pandas.concat(parts, ignore_index=True)
