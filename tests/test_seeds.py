"""Means, intervals, paired differences and numbers of seeds, against scipy and brute force."""

import numpy as np
import pandas
import pytest
from scipy import stats

from effml import paired_differences, seeds_needed, spread
from effml.seeds import interval


def test_spread_tells_the_mean_and_students_interval():
    values = [0.84, 0.85, 0.89]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert spread(values, 4) == f"{np.mean(values):.4f} [{low:.4f}, {high:.4f}]"
    assert spread([0.9]) == "0.90" and spread([]) == "nan (no value)"
    assert spread([0.9, 1.0], top=1).endswith(", 1.00]")
    assert spread([-0.5, 0.5]).startswith("0.00 [-6.")  # no cut where values lie outside
    assert interval(values, confidence=0.9) != interval(values)


def test_spread_is_cut_at_both_ends_and_only_where_all_values_lie_between_them():
    """Of two values the half width is t(0.975, 1) · distance / 2 = 12.706 · distance / 2."""
    assert spread([0.0, 0.1], top=1) == "0.05 [0.00, 0.69]"
    assert spread([0.9, 1.1], top=1) == "1.00 [-0.27, 2.27]"


def test_spread_says_why_it_is_unknown():
    nan = float("nan")
    assert spread([0.9, nan, 0.8, nan]) == "nan (2 of 4 unknown)"
    assert spread([nan], top=1) == "nan (1 of 1 unknown)"
    assert spread(pandas.Series([0.5, None]), 3, top=1) == "nan (1 of 2 unknown)"


@pytest.mark.parametrize(
    ("sd", "room"),
    [(0.01, 0.01), (0.02, 0.005), (1.0, 0.9), (1, 20), (1, 0.013), (0.5, 1e-5), (9e-3, 1e-7)],
)
def test_seeds_needed_is_the_least_number_that_is_enough(sd, room):
    n = seeds_needed(sd, room)
    enough = [stats.t.ppf(0.975, m - 1) * sd / m**0.5 <= room for m in (n - 1, n) if m > 1]
    assert enough[-1] and not any(enough[:-1])


def test_seeds_needed_has_no_largest_answer():
    """Where n is large, t is the normal quantile: n = (1.959964 · sd / room)², to a few seeds."""
    assert seeds_needed(0, 0.01) == 2
    for ratio in (10, 1e3, 1e5):
        assert 0 < seeds_needed(ratio, 1) - (1.9599639845 * ratio) ** 2 < 5


def test_seeds_needed_refuses_what_has_no_answer():
    for sd, room in ((0.1, 0), (0.1, -1), (-0.1, 1), (0.1, float("nan")), (float("inf"), 1)):
        with pytest.raises(ValueError, match="Give room above 0 and sd from 0 on; got room=.*[^d]"):
            seeds_needed(sd, room)
    with pytest.raises(ValueError, match="an sd takes two values or more, all known"):
        seeds_needed(pandas.Series([0.9]).std(), 1)
    with pytest.raises(ValueError, match="No number of seeds gets to room=1e-07 where sd=1: widen"):
        seeds_needed(1, 1e-7)
    with pytest.raises(ValueError, match="No number of seeds"):
        seeds_needed(1.01e5, 1)


@pytest.fixture
def runs():
    rng, rows = np.random.default_rng(0), []
    for data in ("x", "y"):
        for seed in rng.permutation(5):
            base = rng.normal(0.8, 0.1)
            for arm, gain in (("a", 0), ("b", 0.1), ("c", 0.001)):
                rows.append((data, arm, seed, base + gain + rng.normal(0, 0.01)))
    table = pandas.DataFrame(rows, columns=["data", "arm", "seed", "test_auroc"])
    return table.sample(frac=1, random_state=0)


def test_paired_differences_are_those_of_a_paired_t_test(runs):
    how = {"arm": "arm", "reference": "a", "within": ["data"]}
    table = paired_differences(runs, "test_auroc", **how, corrected=False)
    wide = runs.pivot(index=["data", "seed"], columns="arm", values="test_auroc")
    for (data, arm), row in table.iterrows():
        a, b = wide.loc[data, "a"], wide.loc[data, arm]
        want = stats.ttest_rel(b, a)
        low, high = want.confidence_interval()
        assert (row.difference, row.low, row.high) == pytest.approx(((b - a).mean(), low, high))
        assert row.p == pytest.approx(want.pvalue) and row.n == 5
        assert row.sure == (low > 0 or high < 0)
    assert table.sure.tolist().count(True) >= 2


def test_correction_is_bonferronis_for_intervals_and_holms_for_p(runs):
    how = {"arm": "arm", "reference": "a", "within": "data"}
    plain = paired_differences(runs, "test_auroc", **how, corrected=False)
    both = paired_differences(runs, "test_auroc", **how)
    factor = stats.t.ppf(1 - 0.025 / 4, 4) / stats.t.ppf(0.975, 4)
    assert (both.high - both.low).to_numpy() == pytest.approx(factor * (plain.high - plain.low))
    p = np.sort(plain.p)
    holm = np.minimum(np.maximum.accumulate(p * [4, 3, 2, 1]), 1)
    assert np.sort(both.p) == pytest.approx(holm)
    assert both.difference.equals(plain.difference)


def test_holms_p_can_be_small_where_bonferronis_interval_holds_zero():
    """As the docstring says. Two arms: the sure one lets Holm multiply the other's p by 1, not 2."""
    noise = np.array([0.01, -0.02, 0.015, -0.01, 0.02])
    gains = {"b": 0.1, "c": 0.0225}
    rows = [("a", seed, 0.8) for seed in range(5)]
    rows += [(arm, s, 0.8 + gain + noise[s]) for arm, gain in gains.items() for s in range(5)]
    runs = pandas.DataFrame(rows, columns=["arm", "seed", "score"])
    p = stats.ttest_1samp(gains["c"] + noise, 0).pvalue
    assert 0.025 < p < 0.05
    table = paired_differences(runs, "score", arm="arm", reference="a")
    assert table.p["c"] == pytest.approx(p) and not table.sure["c"] and table.sure["b"]


def test_corrected_p_stay_with_their_arms_whatever_the_order():
    """Holm by its definition, arm by arm; a loss is as sure as a gain; arms keep their order."""
    noise = np.array([0.01, -0.02, 0.015, -0.01, 0.02])
    gains = {"z": 0.0015, "b": -0.1, "y": 0.0012, "c": 0.017}
    rows = [("a", seed, 0.8) for seed in range(5)]
    rows += [(arm, s, 0.8 + gain + noise[s]) for arm, gain in gains.items() for s in range(5)]
    runs = pandas.DataFrame(rows, columns=["arm", "seed", "score"])
    p = {arm: stats.ttest_1samp(gain + noise, 0).pvalue for arm, gain in gains.items()}
    steps = {arm: p[arm] * sum(other >= p[arm] for other in p.values()) for arm in p}
    want = [min(1, max(steps[x] for x in p if p[x] <= p[arm])) for arm in p]
    table = paired_differences(runs, "score", arm="arm", reference="a")
    assert table.index.tolist() == list(gains)
    assert table.p.to_numpy() == pytest.approx(want) and max(steps.values()) > 1
    assert table.sure.tolist() == [False, True, False, False] and table.high["b"] < 0


def test_paired_differences_of_one_seed_and_of_equal_runs():
    rows = [("a", 0, 0.5), ("b", 0, 0.5), ("a", 1, 0.6), ("b", 1, 0.6)]
    runs = pandas.DataFrame(rows, columns=["arm", "seed", "score"])
    how = {"arm": "arm", "reference": "a"}
    row = paired_differences(runs, "score", **how).iloc[0]
    assert (row.difference, row.p, row.sure) == (0, 1, False)
    one = paired_differences(runs[runs.seed == 0], "score", **how).iloc[0]
    assert np.isnan(one.low) and np.isnan(one.p) and not one.sure


def test_paired_differences_refuse_what_has_no_partner(runs):
    how = {"arm": "arm", "reference": "a"}
    with pytest.raises(ValueError, match="No run has arm='z'. Choose from: "):
        paired_differences(runs, "test_auroc", arm="arm", reference="z")
    with pytest.raises(ValueError, match="Two runs have arm=.* name what tells them apart"):
        paired_differences(runs, "test_auroc", **how)
    one = runs[runs.data == "x"]
    lost = one[~((one.arm == "b") & (one.seed == 3))]
    with pytest.raises(ValueError, match="arm=b has no test_auroc for seed=3: pairs need both"):
        paired_differences(lost, "test_auroc", **how)
    failed = one.assign(test_auroc=one.test_auroc.where(one.seed != 2))
    with pytest.raises(ValueError, match="for seed=2: pairs need both"):
        paired_differences(failed, "test_auroc", **how)


def test_paired_differences_leave_no_cell_out_without_a_word(runs):
    how = {"arm": "arm", "reference": "a", "within": "data"}
    alone = runs[(runs.data == "x") | (runs.arm == "a")]
    with pytest.raises(ValueError, match="data=y: it takes arm=a and another arm"):
        paired_differences(alone, "test_auroc", **how)
    without = runs[(runs.data == "x") | (runs.arm != "a")]
    with pytest.raises(ValueError, match="data=y: it takes arm=a and another arm"):
        paired_differences(without, "test_auroc", **how)
    with pytest.raises(ValueError, match="all runs: it takes arm=a and another arm"):
        paired_differences(runs[runs.arm == "a"], "test_auroc", arm="arm", reference="a")
    for name in ("data", "arm", "seed"):
        unknown = runs.astype({name: object})
        unknown.iloc[3, unknown.columns.get_loc(name)] = None
        with pytest.raises(ValueError, match=f"{name} is unknown for some runs"):
            paired_differences(unknown, "test_auroc", **how)
    with pytest.raises(ValueError, match="Unknown column 'auroc'"):
        paired_differences(runs, "auroc", **how)


def test_arms_may_be_true_and_false(runs):
    both = runs[(runs.data == "x") & (runs.arm != "c")]
    named = paired_differences(both, "test_auroc", arm="arm", reference="a")
    flagged = paired_differences(
        both.assign(arm=both.arm == "b"), "test_auroc", arm="arm", reference=False
    )
    assert flagged.to_numpy().tolist() == named.to_numpy().tolist()
