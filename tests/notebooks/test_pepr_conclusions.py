"""Effects against scipy's own tests and exact cases, ranks against brute force, the paper's
conclusions on its own tables."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_pepr_audit import NAMES

from effml.claims import Estimate, ledger, verdicts
from effml.pepr import pepr_score
from pepr import phantom_tables, repair
from pepr.conclusions import (
    _redraw,
    conclusions,
    constant_predictor,
    efficient_at_equal_size,
    holm,
    majority_rate,
    medians_by_size,
    paired,
    rank_intervals,
    rank_stability,
    size_adjusted,
    unpaired,
)
from pepr.published import RUNS
from test_pepr import published

RNG = np.random.default_rng(0)
A, B = RNG.normal(0.8, 0.05, 40), RNG.normal(0.78, 0.05, 40)


def test_paired_and_unpaired_effects_are_scipys():
    e, test = paired([*A, np.nan, 0.5], [*B, 0.5, np.nan]), stats.ttest_rel(A, B)
    assert (e.n, e.p, e.p_ranks) == pytest.approx((40, test.pvalue, stats.wilcoxon(A, B).pvalue))
    assert (e.low, e.high) == pytest.approx(tuple(test.confidence_interval()))
    assert e.in_favour == (A > B).mean()
    e, test = (
        unpaired([*A, *B[:30], np.nan], [True] * 40 + [False] * 30 + [True]),
        stats.ttest_ind(A, B[:30], equal_var=False),
    )
    assert (e.n, e.p) == (70, pytest.approx(test.pvalue))
    delta = np.sign(A[:, None] - B[None, :30]).mean()
    assert e.size == pytest.approx(delta) and e.value == pytest.approx(A.mean() - B[:30].mean())


def test_holm_on_a_case_by_hand():
    p = pd.Series([0.04, 0.01, np.nan, 0.03, 0.9], list("abcde"))
    expected = {"a": 0.09, "b": 0.04, "d": 0.09, "e": 0.9}
    assert holm(p).dropna().to_dict() == pytest.approx(expected)
    assert list(holm(p).index) == list(p.index)


def test_the_adjustment_for_size_removes_what_size_explains():
    """Frisch-Waugh: the coefficient is that of the residuals on the residuals; and an effect put in
    comes out."""
    size = RNG.uniform(6, 8, 80)
    first = RNG.random(80) < stats.norm.cdf(7 - size)  # the efficient are small
    y = 1.5 - 0.1 * size + RNG.normal(0, 0.01, 80)
    e = size_adjusted(y, first, 10**size)
    residual = [v - np.polyval(np.polyfit(size, v, 1), size) for v in (y, first.astype(float))]
    assert e.value == pytest.approx(stats.linregress(residual[1], residual[0]).slope)
    assert e.size == pytest.approx(stats.pearsonr(*residual).statistic)
    assert e.low < 0 < e.high and unpaired(y, first).low > 0
    assert size_adjusted(y + 0.05 * first, first, 10**size).value == pytest.approx(e.value + 0.05)


def a_variant(n=30, spread=0.05):
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "model": [f"m{i}" for i in range(n)],
            "dataset": "pneumonia",
            "energy": rng.uniform(1, 2, n),
            "test_09": np.round(608 * rng.normal(0.85, spread, n).clip(0, 1)) / 608,
        }
    )


def test_rank_intervals_hold_the_ranks_and_shrink_with_the_noise():
    runs = a_variant()
    table = rank_intervals(runs, n=500)
    assert table["rank"].tolist() == list(range(1, 31)) and table.pepr.is_monotonic_decreasing
    assert (table.low <= table["rank"]).mean() > 0.9 and (table["rank"] <= table.high).mean() > 0.9
    exact = rank_intervals(runs, n=50, test_images=False)
    assert (exact.low == exact["rank"]).all() and (exact.high == exact["rank"]).all()
    assert (rank_intervals(a_variant(spread=0.001), n=500).eval("high - low").mean()) > 0
    assert len(rank_intervals(runs.assign(energy=runs.energy.where(runs.index != 4)), n=10)) == 29


def tied():
    """Ten models of five scores, each twice: the second of a pair is the first again, at the same
    cost."""
    runs = a_variant(5)
    return pd.concat([runs, runs.assign(model=runs.model + "'")], ignore_index=True)


def test_equal_pepr_gives_equal_ranks():
    runs = tied()
    table = rank_intervals(runs, n=50, test_images=False)
    score = pepr_score(runs.test_09, runs.energy).set_axis(runs.model)
    oracle = pd.Series(stats.rankdata(-score, method="min"), runs.model)
    assert table["rank"].to_dict() == oracle.to_dict()
    assert sorted(table["rank"]) == [1, 1, 3, 3, 5, 5, 7, 7, 9, 9]
    assert (table.low == table["rank"]).all() and (table.high == table["rank"]).all()
    assert rank_stability(runs, errors=(0.0,), n=3).iloc[0].tolist() == pytest.approx([1, 1, 10])


def test_the_rank_correlation_of_equal_scores_is_scipys_spearman():
    runs = tied()
    score = pepr_score(runs.test_09, runs.energy)
    drawn = _redraw(runs, "energy", False, 0.4, 20, 0)
    expected = np.mean([stats.spearmanr(score.round(12), row.round(12)).statistic for row in drawn])
    found = rank_stability(runs, errors=(0.4,), n=20).iloc[0, 0]
    assert found == pytest.approx(expected)


def test_where_all_cost_the_same_the_performance_ranks():
    table = rank_intervals(a_variant().assign(energy=2.0), n=20)
    assert table.pepr.is_monotonic_decreasing and table.notna().all(axis=None)


def test_rank_stability_falls_with_the_error_and_is_spearmans():
    runs = a_variant()
    table = rank_stability(runs, errors=(0.0, 0.1, 0.4), n=300)
    assert table.iloc[0].tolist() == pytest.approx([1, 1, 10])
    assert table["rank correlation"].is_monotonic_decreasing
    assert table["of the ten best stay"].is_monotonic_decreasing


def test_the_majority_rate_is_read_off_collapsed_runs():
    runs = published(RUNS)
    assert majority_rate(runs, "derma_pt") == pytest.approx(1328 / 1984)
    assert majority_rate(runs, "pneumonia") == pytest.approx(381 / 608)
    assert majority_rate(runs, "lidc") == pytest.approx(1573 / 3008, abs=1e-6)
    assert np.isnan(majority_rate(runs[runs.dataset == "lidc"], "lidc"))


def test_the_constant_predictor_against_brute_force():
    tables = phantom_tables()
    runs, rate = tables[RUNS], constant_predictor(tables).loc["lidc", "majority rate"]
    of = runs[runs.dataset == "lidc"]
    r = (of.energy - of.energy.min()) / (of.energy.max() - of.energy.min())
    assert constant_predictor(tables).loc["lidc", "lower PePR-E (min-max)"] == sum(
        of.test_09 / (1 + r) < rate
    )


def test_what_survives_on_the_authors_tables():
    theirs = {name: published(name) for name in NAMES}
    before, after = conclusions(theirs), conclusions(repair(theirs))
    assert set(after.index) < set(ledger().id)
    assert after.n["pepr-pretrained"] == 124
    assert after.in_favour["pepr-pretrained"] == pytest.approx(115 / 124)
    assert before.in_favour["pepr-pretrained"] == pytest.approx(115 / 131)
    table = (
        verdicts({name: Estimate(row.value, row.low, row.high) for name, row in after.iterrows()})
        .set_index("claim")
        .verdict
    )
    kept = [
        "pepr-small-pepr-derma",
        "pepr-small-pepr-lidc",
        "pepr-small-pepr-pneumonia",
        "pepr-pretrained",
        "pepr-all-images",
        "pepr-imagenet-pepr-m",
        "pepr-small-performance",
    ]
    assert (table[kept] == "agrees").all() and table["pepr-efficient-pepr"] == "differs"
    adjusted = efficient_at_equal_size(repair(theirs))
    assert adjusted.low < 0 < adjusted.high  # it is their size, not their kind
    counts = constant_predictor(theirs)
    assert counts["lower PePR-E (min-max)"].tolist() == [97, 54, 39, 23]
    stated = ledger().set_index("id").theirs
    gap = {
        f"pepr-a1-{name}-{group}": abs(value - stated[f"pepr-a1-{name}-{group}"])
        for name, row in medians_by_size(theirs).iterrows()
        for group, value in row.items()
    }
    assert len(gap) == 6 and min(gap.values()) > 0.005
