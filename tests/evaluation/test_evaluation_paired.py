"""Two models on the same images: pROC's own example, brute force, statsmodels, and what 95 % means
in simulation."""

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score
from test_evaluation import plain

from conftest import seeds
from effml.evaluation import (
    auroc_interval,
    evaluate,
    mcnemar,
    non_inferiority,
    paired_auroc,
    paired_bootstrap,
    paired_proportions,
    paired_scores,
)

# pROC's data set aSAH (Turck et al., Intensive Care Medicine 36:107, 2010): 41 patients with a poor
# outcome, then 72 with a good one. S100β in 1/100 µg/l and the WFNS grade, put together from the
# thresholds and placements that pROC's own tests expect; values that no comparison between the two
# groups can tell apart are in any order.
S100B = np.array(
    """
    13 10 16 12 44 52 49 7 33 9 7 41 35 48 56 25 58 70 71 7 71 30 3 9 22 74 26 77 8 27 13 10
    11 23 82 14 86 32 96 207 44 13 14 10 4 45 17 10 10 4 8 4 9 11 7 17 7 11 13 18 4 16 14 34 9
    50 46 16 7 43 47 11 8 9 8 4 13 10 14 15 5 5 9 5 9 8 16 9 8 33 11 28 7 10 32 7 6 24 38 10
    15 8 14 10 7 6 19 15 47 19 15 50 48
    """.split(),
    dtype=int,
)
WFNS = np.array(
    [
        *"324555525212544255525252454414422552255551111512212211121"
        "21134141551124112212122111121211324214115422111312244111"
    ],
    dtype=int,
)
POOR = np.repeat([1, 0], (41, 72))


def correlated(rng, n, classes=2, rho=0.8, signal=(1.2, 1.0)):
    """Probabilities of two models that err alike, and labels."""
    y = rng.permutation(np.arange(n) % classes)
    noise = rng.normal(size=(3, n, classes))
    logits = [
        s * np.eye(classes)[y] + rho**0.5 * noise[0] + (1 - rho) ** 0.5 * own
        for s, own in zip(signal, noise[1:])
    ]
    return *(np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in logits), y


def test_auroc_and_its_interval_are_those_of_proc():
    """R: ci.auc(aSAH$outcome, aSAH$s100b) gives 0.6301-0.7314-0.8326 (DeLong)."""
    assert plain(S100B, POOR) == pytest.approx((0.731368563685637, 0.6301, 0.8326), abs=5e-5)
    assert auroc_interval(S100B, POOR)[0] == pytest.approx(0.731368563685637, abs=1e-13)
    assert auroc_interval(WFNS, POOR)[0] == pytest.approx(0.823678861788618, abs=1e-13)


def test_paired_difference_is_that_of_procs_roc_test():
    """R: roc.test(wfns, s100b) expects Z = 2.209, p = 0.0271757822291882, interval
    0.0104061769564846 to 0.174214419249478."""
    found = paired_auroc(S100B / 300, WFNS / 5, POOR, positive=1)
    assert (found.low, found.high) == pytest.approx(
        (0.0104061769564846, 0.174214419249478), abs=2e-9
    )
    assert found.p == pytest.approx(0.0271757822291882, abs=1e-12)
    other = paired_auroc(
        1 - S100B / 300, 1 - WFNS / 5, POOR, positive=0
    )  # the same question, asked of the other class
    assert (other.difference, other.p) == pytest.approx((found.difference, found.p), abs=1e-12)


@pytest.mark.parametrize("decimals", [2, 1])
def test_paired_auroc_by_brute_force_over_all_pairs(decimals):
    a, b, y = correlated(np.random.default_rng(0), 110)
    a, b = a[:, 0].round(decimals), b[:, 0].round(decimals)
    psi = [[[(x > z) + (x == z) / 2 for z in p[y == 1]] for x in p[y == 0]] for p in (a, b)]
    v10, v01 = np.mean(psi, axis=2), np.mean(psi, axis=1)
    covariance = np.cov(v10) / v10.shape[1] + np.cov(v01) / v01.shape[1]
    difference, error = (
        v10.mean(axis=1) @ (-1, 1),
        (np.array((-1, 1)) @ covariance @ (-1, 1)) ** 0.5,
    )
    found = paired_auroc(a, b, y, positive=0)
    assert (found.a, found.b) == pytest.approx(
        [roc_auc_score(y == 0, p) for p in (a, b)], abs=1e-12
    )
    assert (found.difference, (found.high - found.low) / 2 / 1.959964) == pytest.approx(
        (difference, error), abs=1e-12
    )
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(difference) / error), abs=1e-12)


def test_paired_macro_auroc_has_the_width_of_the_bootstrap_and_is_binary_for_two_classes():
    a, b, y = correlated(np.random.default_rng(1), 240, classes=3)
    found = paired_auroc(a, b, y, task="multi-class")

    def gain(p, q, t):
        return roc_auc_score(t, q, multi_class="ovr") - roc_auc_score(t, p, multi_class="ovr")

    _, low, high = paired_bootstrap(gain, a, b, y, n=len(seeds(100, 300)), strata=y)
    assert found.high - found.low == pytest.approx(high - low, rel=0.2)
    assert low < found.difference < high
    a, b, y = correlated(np.random.default_rng(2), 90)
    binary, macro = paired_auroc(a, b, y, positive=1), paired_auroc(a, b, y, task="ordinal")
    assert (macro.low, macro.high, macro.p) == pytest.approx(
        (binary.low, binary.high, binary.p), abs=1e-12
    )
    truth = np.eye(2, dtype=int)[y]
    assert paired_auroc(a, b, truth, task="multi-label").difference == pytest.approx(
        binary.difference, abs=1e-12
    )


def test_paired_auroc_at_its_edges():
    a, b, y = correlated(np.random.default_rng(3), 60)
    same = paired_auroc(
        a, a**2 / (a**2).sum(axis=1, keepdims=True), y, positive=0
    )  # the same ranking
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)
    apart = paired_auroc(np.full(60, 0.5), np.where(y == 0, 0.9, 0.1), y, positive=0)
    assert (apart.a, apart.b, apart.low) == (0.5, 1, 0.5) and np.isnan(apart.p)
    assert np.isnan(paired_auroc(a, b, np.zeros(60, int), positive=0).difference)
    one, other = paired_auroc(a, b, y, positive=0), paired_auroc(b, a, y, positive=0)
    assert (one.difference, one.low, one.p) == pytest.approx(
        (-other.difference, -other.high, other.p), abs=1e-12
    )
    with pytest.raises(ValueError, match="do not fit binary"):
        paired_auroc(a, b[:-1], y, positive=0)


def binormal(rng, y, aurocs, rho):
    """Scores (M, N) with these AUROCs in the long run: positives lie Φ⁻¹(AUROC) √2 higher."""
    shift = 2**0.5 * stats.norm.ppf(aurocs)[:, None]
    shared, own = rng.normal(size=len(y)), rng.normal(size=(len(aurocs), len(y)))
    return stats.norm.cdf(shift * y + rho**0.5 * shared + (1 - rho) ** 0.5 * own)


@pytest.mark.parametrize("n", [(200, 1000)[i] for i in seeds(1, 2)])
def test_95_percent_intervals_cover(n):
    """Prevalence 0.2, AUROC 0.85 (and 0.82 for the second model, correlation 0.7), 2 000 data sets:
    93.5 to 96.5 % of intervals hold the truth; on DeLong's plain scale not so with 40 positives,
    which is why the package takes the logit. (500 data sets but with --full.)"""
    rng, y, aurocs, rounds = (
        np.random.default_rng(12),
        (np.arange(n) < n // 5).astype(int),
        np.array([0.85, 0.82]),
        len(seeds(500, 2000)),
    )
    covered = {"plain": 0, "logit": 0, "paired": 0}
    for _ in range(rounds):
        a, b = binormal(rng, y, aurocs, 0.7)
        for scale, interval in (("plain", plain), ("logit", auroc_interval)):
            _, low, high = interval(a, y)
            covered[scale] += low <= 0.85 <= high
        found = paired_auroc(a, b, y, positive=1)
        covered["paired"] += found.low <= -0.03 <= found.high
    shares = {name: count / rounds for name, count in covered.items()}
    print(n, shares)
    assert all(0.935 <= shares[name] <= 0.965 for name in ("logit", "paired")), shares
    assert n < 1000 or 0.935 <= shares["plain"] <= 0.965, shares


@pytest.mark.parametrize(
    "only_a, only_b",
    [(0, 0), (3, 0), (3, 9), (12, 12), (24, 0), (10, 15), (40, 22), (13, 12), (30, 30)],
)
def test_mcnemar(only_a, only_b):
    a = np.repeat([1, 0, 1, 0], (only_a, only_b, 50, 11))
    b = np.repeat([0, 1, 1, 0], (only_a, only_b, 50, 11))
    found = mcnemar(a, b)
    assert (found.only_a, found.only_b) == (only_a, only_b)
    n = only_a + only_b
    if n < 25:
        assert found.method == "exact binomial"
        assert found.p == pytest.approx(stats.binomtest(only_a, n).pvalue if n else 1)
    else:
        assert "chi-square with continuity" in found.method
    if only_a == only_b:
        assert found.p == 1  # statsmodels puts (|0| - 1)² there
    else:
        tables = pytest.importorskip("statsmodels.stats.contingency_tables")
        expected = tables.mcnemar([[50, only_a], [only_b, 11]], exact=n < 25, correction=True)
        assert found.p == pytest.approx(expected.pvalue, abs=1e-12)
    assert mcnemar(b, a).p == found.p and mcnemar(a[::-1] == 1, b[::-1] == 1) == found


@pytest.mark.parametrize(
    "gained, lost, n",
    [
        (4, 9, 60),
        (0, 7, 40),
        (5, 0, 30),
        (20, 18, 500),
        (0, 0, 33),
        (2, 2, 4),
        (6, 0, 6),
        (0, 1, 1),
    ],
)
def test_tangos_interval_is_where_the_profile_score_reaches_1_96(gained, lost, n):
    a = np.repeat([0, 1, 1], (gained, lost, n - gained - lost))
    b = np.repeat([1, 0, 1], (gained, lost, n - gained - lost))
    found = paired_proportions(a, b)
    assert found.difference == pytest.approx((gained - lost) / n) and found.p == mcnemar(a, b).p
    assert -1 <= found.low <= found.difference <= found.high <= 1 and found.low < found.high
    for edge in (found.low, found.high):
        if abs(edge) == 1:
            assert abs(found.difference) == 1
            continue

        def minus_loglik(
            lost_share, edge=edge
        ):  # the likelihood of the three cells when gained - lost = edge
            cells = np.clip([lost_share + edge, lost_share, 1 - 2 * lost_share - edge], 1e-300, 1)
            return -np.sum(np.array([gained, lost, n - gained - lost]) * np.log(cells))

        low, high = max(0, -edge), (1 - edge) / 2
        fit = minimize_scalar(
            minus_loglik, bounds=(low, high), method="bounded", options={"xatol": 1e-13}
        ).x
        best = min((low, fit, high), key=minus_loglik)
        score = (gained - lost - n * edge) / (n * (2 * best + edge * (1 - edge))) ** 0.5
        assert abs(score) == pytest.approx(1.959964, abs=1e-4)
    if gained == lost == 0:
        z2 = 1.959964**2
        assert (found.low, found.high) == pytest.approx((-z2 / (n + z2), z2 / (n + z2)), abs=1e-9)
    mirrored = paired_proportions(b, a)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=1e-12)


def test_tangos_interval_covers():
    rng, cells = (
        np.random.default_rng(4),
        (0.08, 0.05, 0.87),
    )  # 60 malignant images, 3 points better
    draws, counts = np.unique(rng.multinomial(60, cells, size=2000), axis=0, return_counts=True)
    held = []
    for gained, lost, same in draws:
        found = paired_proportions(
            np.repeat([0, 1, 1], (gained, lost, same)), np.repeat([1, 0, 1], (gained, lost, same))
        )
        held.append(found.low <= 0.03 <= found.high)
    assert 0.935 <= np.average(held, weights=counts) <= 0.975
    assert np.isnan(paired_proportions([], []).low)


def test_paired_bootstrap():
    rng = np.random.default_rng(5)
    y = np.repeat([0, 1], (180, 20))
    a, b = rng.normal(y), rng.normal(y)

    def gain(p, q, t):
        return average_precision_score(t, q) - average_precision_score(t, p)

    n = len(seeds(40, 200))
    value, low, high = paired_bootstrap(gain, a, b, y, n=n, strata=y)
    assert value == gain(a, b, y) and low < value < high
    again, other = (paired_bootstrap(gain, a, b, y, n=n, strata=y, seed=seed) for seed in (0, 1))
    assert again == (value, low, high) != other
    counts = []
    paired_bootstrap(
        lambda p, t: counts.append((t.sum(), np.isin(p, a).all())) or 0, a, y, n=20, strata=y
    )
    assert set(counts) == {(20, True)}
    _, low, high = paired_bootstrap(np.mean, a)
    assert high - low == pytest.approx(2 * 1.96 * a.std() / 200**0.5, rel=0.05)
    value, low, high = paired_bootstrap(lambda x: np.array([x.mean(), np.nan]), a, n=50)
    assert value.shape == low.shape == high.shape == (2,)
    assert low[0] < value[0] < high[0]
    assert np.isnan([low[1], high[1]]).all()
    for wrong in ((a, b[:-1]), (), (a[:0],)):
        with pytest.raises(ValueError, match="the same images in the same order"):
            paired_bootstrap(np.mean, *wrong)


@pytest.mark.parametrize("task", ["binary", "multi-class", "multi-label"])
def test_paired_scores_are_the_differences_of_evaluate(task):
    a, b, y = correlated(np.random.default_rng(6), 210, classes=2 if task == "binary" else 4)
    labels, cuts = (
        np.eye(4, dtype=int)[y] if task == "multi-label" else y,
        (0.3, 0.6) if task == "binary" else (None, None),
    )
    how = dict(task=task, positive=0 if task == "binary" else None)
    found = paired_scores(a, b, labels, thresholds=cuts, **how)
    one, two = (evaluate(p, labels, thresholds=cut, **how) for p, cut in zip((a, b), cuts))
    for name, d in found.items():
        assert (d.a, d.b) == pytest.approx((getattr(one, name), getattr(two, name)), abs=1e-12)
        assert d.difference == pytest.approx(d.b - d.a, abs=1e-12)
        assert d.low < d.high
        assert np.isnan(d.p)
    if task == "multi-class":

        def gain(p, q, t):
            return balanced_accuracy_score(t, q.argmax(1)) - balanced_accuracy_score(t, p.argmax(1))

        again = paired_scores(a, b, y, n=200, seed=4, **how)["balanced_accuracy"]
        _, low, high = paired_bootstrap(gain, a, b, y, strata=y, n=200, seed=4)
        assert (again.low, again.high) == pytest.approx((low, high), abs=1e-12)
        squares = [((p - np.eye(4)[y]) ** 2).sum(axis=1) for p in (a, b)]
        expected = 3.92 * (squares[1] - squares[0]).std() / 210**0.5
        assert found["brier"].high - found["brier"].low == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(
    "low, high, verdict",
    [
        (-0.009, 0.02, "non-inferior"),
        (0.01, 0.03, "non-inferior"),
        (-0.01, 0.02, "inconclusive"),
        (-0.03, -0.005, "inconclusive"),
        (-0.05, -0.011, "inferior"),
        (-0.05, -0.01, "inconclusive"),
        (np.nan, np.nan, "inconclusive"),
        (0, 0, "non-inferior"),
    ],
)
def test_non_inferiority(low, high, verdict):
    assert non_inferiority(low, high, 0.01) == verdict
    for wrong in ((low, high, 0), (low, high, -0.01), (1, 0, 0.01)):
        with pytest.raises(ValueError, match="the loss that would not matter"):
            non_inferiority(*wrong)


@pytest.mark.parametrize("a, b", [([1, 0], [1]), ([[1, 0]], [[1, 0]]), ([2, 0], [1, 0]), (1, 1)])
def test_answers_that_do_not_pair_are_refused(a, b):
    for test in (mcnemar, paired_proportions):
        with pytest.raises(ValueError, match="pass `answers == labels`"):
            test(a, b)
