"""What several seeds say together: means with intervals, paired differences, how many it takes."""

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas

CONFIDENCE = 0.95


def interval(
    values: Sequence[float], *, confidence: float = CONFIDENCE
) -> tuple[float, float, float]:
    """Mean and its interval (Student's t, 95 %), NaN for fewer than two values."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return (float(values[0]) if len(values) else np.nan), np.nan, np.nan
    half = _quantile(confidence, len(values)) * values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def spread(values: Sequence[float], digits: int = 2, *, top: float = math.inf) -> str:
    """Mean and 95 % interval (Student's t) as text.

    Args:
        values: one for each seed.
        digits: decimals.
        top: the largest possible value; the interval is cut to 0…top where all values lie in it.

    Returns:
        The mean and, in brackets, the interval; of one value the value alone. Where values are not
        known (NaN), "nan" and how many these are: those that are left may be the lucky ones.

    Example:
        >>> effml.spread([0.84, 0.85, 0.86], top=1)
        '0.85 [0.83, 0.87]'
    """
    values = np.asarray(values, dtype=float)
    if not values.size:
        return "nan (no value)"
    if unknown := int(np.isnan(values).sum()):
        return f"nan ({unknown} of {len(values)} unknown)"
    found = interval(values)
    if 0 <= min(values) and max(values) <= top:
        found = tuple(x if x != x else min(max(x, 0.0), top) for x in found)
    mean, low, high = (f"{x:.{digits}f}" for x in found)
    return mean if low == "nan" else f"{mean} [{low}, {high}]"


def seeds_needed(sd: float, room: float) -> int:
    """How many seeds make the 95 % interval of a mean at most `room` wide to each side.

    Choose `room` before you look: the tolerance of a claim, or the difference that would matter. Of
    paired differences, give their standard deviation, from a few pilot seeds.

    Args:
        sd: standard deviation between seeds.
        room: half width of the interval, in the same unit.

    Returns:
        The smallest n with t(0.975, n − 1) · sd / √n ≤ room, from 2 on.

    Raises:
        ValueError: `room` is not above 0 or below a hundred-thousandth of `sd`, or `sd` is negative
            or unknown, as that of one value is.

    Example:
        >>> effml.seeds_needed(0.01, room=0.01)
        7
    """
    if not room > 0 or not 0 <= sd < math.inf:
        why = "; an sd takes two values or more, all known" if sd != sd else ""
        raise ValueError(f"Give room above 0 and sd from 0 on; got room={room}, sd={sd}{why}.")
    if sd > 1e5 * room:
        raise ValueError(f"No number of seeds gets to room={room:g} where sd={sd:g}: widen it.")
    known = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)  # t with n without end
    n = max(2, int((known * sd / room) ** 2))
    while _quantile(CONFIDENCE, n) * sd / n**0.5 > room:
        n += 1
    return n


def paired_differences(
    runs: "pandas.DataFrame",
    column: str,
    *,
    arm: str,
    reference: str,
    within: Sequence[str] = (),
    pair: str = "seed",
    corrected: bool = True,
) -> "pandas.DataFrame":
    """How far each arm is from the reference arm: the same seed in both makes a pair.

    Args:
        runs: a row for each run; those that failed left out.
        column: what is compared, such as `test_auroc`.
        arm: the column that names the arms.
        reference: the arm that the others are compared with.
        within: columns inside which arms are compared, such as a data set or a fraction.
        pair: the column that says which run belongs to which.
        corrected: widen the intervals so that all of them hold together (Bonferroni), and correct p
            (Holm). Without it the table is exploratory.

    Returns:
        A row for each of `within` and each other arm: difference (arm − reference), low, high, n
        pairs, p (paired t test) and sure: whether 0 lies outside the interval. Corrected p and
        `sure` can disagree: Holm's p is below 0.05 in some rows where Bonferroni's wider interval
        still holds 0. Say *sure* only where `sure` is True.

    Raises:
        ValueError: there is no such column or arm, a run lacks its partner, two runs claim one
            place, or there is nothing to compare in one of `within`.

    Example:
        >>> import pandas
        >>> rows = [("a", 0, 0.80), ("a", 1, 0.82), ("b", 0, 0.90), ("b", 1, 0.93)]
        >>> runs = pandas.DataFrame(rows, columns=["arm", "seed", "test_auroc"])
        >>> effml.paired_differences(runs, "test_auroc", arm="arm", reference="a").n.tolist()
        [2]
    """
    import pandas

    within = [within] if isinstance(within, str) else list(within)
    _check(runs, [column, arm, pair, *within], arm, reference)
    rows, values = [], []
    for place, group in runs.groupby(within, sort=False) if within else [((), runs)]:
        if reference not in set(group[arm]) or group[arm].nunique() < 2:
            where = ", ".join(f"{name}={value}" for name, value in zip(within, place)) or "all runs"
            raise ValueError(f"{where}: it takes {arm}={reference} and another arm to compare.")
        table = _by_pair(group, column, arm, pair)
        for name in table.columns.drop(reference):
            values.append((table[name] - table[reference]).to_numpy())
            rows.append([*place, name])
    confidence = 1 - (1 - CONFIDENCE) / (len(rows) if corrected else 1)
    found = [[*interval(one, confidence=confidence), len(one), _p(one)] for one in values]
    found = pandas.DataFrame(found, columns=["difference", "low", "high", "n", "p"])
    if corrected:
        found["p"] = _holm(found.p.to_numpy())
    found["sure"] = (found.low > 0) | (found.high < 0)
    index = pandas.DataFrame(rows, columns=[*within, arm])
    return found.set_index(pandas.MultiIndex.from_frame(index) if within else index[arm])


def _check(runs: "pandas.DataFrame", names: Sequence[str], arm: str, reference: Any) -> None:
    """ValueError where a column is not there or, but for the first, not known of every run."""
    if unknown := [name for name in names if name not in runs]:
        raise ValueError(f"Unknown column {unknown[0]!r}. Choose from: {_menu(runs)}")
    if unknown := [name for name in names[1:] if runs[name].isna().any()]:
        raise ValueError(f"{unknown[0]} is unknown for some runs: fill it in or leave them out.")
    if reference not in (arms := list(dict.fromkeys(runs[arm]))):
        raise ValueError(f"No run has {arm}={reference!r}. Choose from: {_menu(arms)}")


def _menu(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names))


def _by_pair(group: "pandas.DataFrame", column: str, arm: str, pair: str) -> "pandas.DataFrame":
    """A row for each pair, a column for each arm."""
    twice = group[group.duplicated([arm, pair])]
    if len(twice):
        told = f"{arm}={twice[arm].iloc[0]} and {pair}={twice[pair].iloc[0]}"
        raise ValueError(f"Two runs have {told}: name what tells them apart in `within`.")
    table = group.pivot(index=pair, columns=arm, values=column)
    table = table.reindex(columns=list(dict.fromkeys(group[arm])))
    if table.isna().any(axis=None):
        lacking = table.isna().stack()
        where, name = lacking.index[lacking.to_numpy()][0]
        raise ValueError(f"{arm}={name} has no {column} for {pair}={where}: pairs need both.")
    return table.astype(float)


def _quantile(confidence: float, n: int) -> float:
    from scipy.special import stdtrit  # scipy.stats takes over a second to import

    return float(stdtrit(n - 1, (1 + confidence) / 2))


def _p(differences: np.ndarray) -> float:
    from scipy.special import stdtr

    if len(differences) < 2:
        return math.nan
    if not differences.std():  # the t statistic would be 0/0 or infinite
        return float(not differences.any())
    t = differences.mean() / differences.std(ddof=1) * len(differences) ** 0.5
    return float(2 * stdtr(len(differences) - 1, -abs(t)))


def _holm(p: np.ndarray) -> np.ndarray:
    """p values that hold for all comparisons together (Holm 1979)."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1)
    return corrected
