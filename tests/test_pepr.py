"""PePR against its definitions, brute force, and every score the authors published."""

import numpy as np
import pandas as pd
import pytest

from conftest import seeds
from effml.pepr import (
    NORMALIZATIONS,
    best_pepr,
    normalize,
    pareto_front,
    pepr_curve,
    pepr_score,
    resource,
)

COSTS = {"pepr_e": "energy", "pepr_c": "co2", "pepr_m": "memR", "pepr_t": "train_time"}


def test_the_papers_own_cases():
    assert pepr_score([0.8], [17.0]).tolist() == [0.8]  # one model: R = 0
    assert pepr_score([0.8, 0.9], [3.0, 5.0]).tolist() == [
        0.8,
        0.45,
    ]  # two: the cheap one P, the dear one P / 2
    assert pepr_score([1.0], [1.0], normalized=True, alpha=100) == pytest.approx(0.990099, abs=1e-6)
    assert pepr_score([1.0], [1.0], normalized=True) == 0.5
    assert pepr_score([0.5], [0.0], normalized=True) == 0.5  # a random guess costs nothing


def test_a_cost_is_normalised_over_what_was_measured():
    assert normalize([2.0, 4.0, 3.0]).tolist() == [0, 1, 0.5]
    assert (
        normalize([2.0, 4.0], lo=0).tolist()
        == NORMALIZATIONS["max"]([2.0, 4.0]).tolist()
        == [0.5, 1]
    )
    assert normalize([5.0, 5.0]).tolist() == [0, 0]
    assert NORMALIZATIONS["max"]([0.0, 0.0]).tolist() == [0, 0]
    assert normalize([10.0], lo=0, hi=8).tolist() == [1.25]  # a new model in an old experiment
    for bound in ({}, {"lo": 0}, {"hi": 3}):  # a column that nobody measured
        assert np.isnan(normalize([np.nan, np.nan], **bound)).all()
    with_hole = normalize([1.0, np.nan, 3.0, 2.0])
    assert np.isnan(with_hole[1]) and with_hole[[0, 2, 3]].tolist() == [0, 1, 0.5]
    assert normalize([]).shape == (0,)
    table = normalize(pd.DataFrame({"a": [1, 2, 3], "b": [5, 5, 5]}, index=list("xyz")))
    assert table.a.tolist() == [0, 0.5, 1]
    assert table.b.tolist() == [0, 0, 0]
    assert list(table.index) == list("xyz")
    for wrong, said in (({"lo": 3, "hi": 2}, "lies below lo"), ({}, "infinite")):
        with pytest.raises(ValueError, match=said):
            normalize([1.0, np.inf] if not wrong else [1.0], **wrong)


def test_order_and_missing_values_do_not_matter_to_the_others():
    rng = np.random.default_rng(0)
    p, e = rng.random(50), rng.random(50)
    order = rng.permutation(50)
    assert pepr_score(p[order], e[order]) == pytest.approx(pepr_score(p, e)[order])
    p[3] = e[4] = np.nan
    score = pepr_score(p, e)
    assert np.flatnonzero(np.isnan(score)).tolist() == [3, 4]
    kept = np.setdiff1d(np.arange(50), [4])
    assert np.nan_to_num(pepr_score(p[kept], e[kept])) == pytest.approx(np.nan_to_num(score[kept]))
    assert pepr_score(p, 7 * e) == pytest.approx(
        score, nan_ok=True
    )  # any unit, and any common factor
    series = pepr_score(pd.Series([0.5, 1.0], index=["b", "a"]), [1, 2])
    assert series.to_dict() == {"b": 0.5, "a": 0.5}


def test_several_resources_are_weighted():
    costs = pd.DataFrame({"energy": [1.0, 2.0, 3.0], "memR": [9.0, 3.0, 6.0]})
    p = np.array([0.6, 0.7, 0.8])
    r = 0.25 * np.array([0, 0.5, 1]) + 0.75 * np.array([1, 0, 0.5])
    assert pepr_score(p, costs, weights={"memR": 0.75, "energy": 0.25}) == pytest.approx(
        p / (1 + r)
    )
    assert pepr_score(p, costs, weights=[0.25, 0.75]) == pytest.approx(p / (1 + r))
    assert pepr_score(p, costs) == pytest.approx(pepr_score(p, costs, weights=[0.5, 0.5]))
    assert pepr_score(p, costs, weights={"energy": 1}) == pytest.approx(pepr_score(p, costs.energy))
    for weights, said in (
        ({"gpu": 1}, "no column 'gpu'. Choose from: energy, memR"),
        ([0.5, 0.6], "sum to 1"),
        ([1.0], "give 2"),
        ([1.5, -0.5], "none below 0"),
    ):
        with pytest.raises(ValueError, match=said):
            pepr_score(p, costs, weights=weights)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (([80.0], [1]), "Divide per cent by 100"),
        (([0.8], [1, 2]), "one row per model"),
        (([[0.8]], [1]), "one row per model"),
        (([0.8], [np.inf]), "infinite"),
        ((["good"], [1]), "no number"),
        (([0.8], [[[1]]]), "shape"),
    ],
)
def test_wrong_columns_are_explained(arguments, said):
    with pytest.raises(ValueError, match=said):
        pepr_score(*arguments)
    with pytest.raises(ValueError, match="alpha=0.5 is not allowed"):
        pepr_score([0.8], [1], alpha=0.5)
    with pytest.raises(ValueError, match="R starts at 0"):
        pepr_score([0.8], [-1], normalized=True)
    with pytest.raises(ValueError, match="weights need several costs"):
        pepr_score([0.8], [1], weights=[1.0])


def test_the_curve_rises_and_falls_as_the_paper_says():
    r = np.linspace(0, 1, 1001)
    curve = pepr_curve(0.5 + 0.5 * r, r, normalized=True)  # f' = f(0): between the two bounds
    assert np.ptp(curve.pepr) == pytest.approx(0) and curve.resource.is_monotonic_increasing
    steep, flat = (
        pepr_curve(f, r, normalized=True).pepr.to_numpy() for f in (0.99 * r, 0.5 + 0.2 * r)
    )
    assert (np.diff(steep) > 0).all() and (np.diff(flat) < 0).all()
    assert (
        pepr_curve(0 * r + 0.6, r, normalized=True).pepr <= 0.6
    ).all()  # not "always at least f(0)"


def test_the_best_point_is_the_cheapest_of_equals_in_any_order():
    p = pd.Series([0.9, 0.6, 0.8, np.nan, 0.2], index=list("abcde"))
    best = best_pepr(p, [0.5, 0.0, 1 / 3, 0.0, np.nan], normalized=True)  # three scores of 0.6
    assert best.index == "b" and best.pepr == pytest.approx(0.6) and best.resource == 0
    curve = pepr_curve(p, [5, 1, 3, 0, np.nan])
    assert list(curve.index) == ["b", "c", "a"]
    assert list(pepr_curve([0.2, 0.9], [1, 1]).index) == [1, 0]
    with pytest.raises(ValueError, match="no best one"):
        best_pepr([np.nan], [1.0])


@pytest.mark.parametrize("alpha, place", [(1, 1), (5, 1), (100, 2)])
def test_the_best_point_of_costs_as_measured_moves_with_alpha(alpha, place):
    p, cost = np.array([0.5, 0.8, 0.9]), np.array([2.0, 3.0, 12.0])  # R = 0, 0.1, 1
    r = (cost - 2) / 10
    score = alpha * p / (alpha + r)
    best = best_pepr(p, cost, alpha=alpha)
    assert best == pytest.approx((place, r[place], p[place], score[place]))
    assert place == np.argmax(score)
    assert pepr_curve(p, cost, alpha=alpha).pepr.to_numpy() == pytest.approx(score)
    assert resource(cost) == pytest.approx(r)


def test_models_of_the_same_values_are_both_on_the_front_and_an_index_is_kept():
    assert pareto_front([0.5, 0.5, np.nan], [1, 1, 0]).tolist() == [True, True, False]
    assert pareto_front(pd.Series([0.5, 0.4], index=["a", "b"]), [1.0, 2.0]).to_dict() == {
        "a": True,
        "b": False,
    }


def test_the_score_equals_every_published_one():
    """1 048 rows × 4 resources, normalised within each variant of a data set."""
    scores = published("full_data_pepr_dataset_level")
    assert len(scores) == 1048
    for _, rows in scores.groupby("dataset"):
        for score, cost in COSTS.items():
            assert pepr_score(rows.test_09, rows[cost]).to_numpy() == pytest.approx(
                rows[score].to_numpy(), abs=1e-12
            )
            assert normalize(rows[cost]).to_numpy() == pytest.approx(
                rows[f"{score[-1].upper()}_n"].to_numpy(), abs=1e-12
            )


def published(name):
    """A table of the authors, where it is on this machine."""
    from pepr import published_table

    try:
        return published_table(name)
    except FileNotFoundError:
        pytest.skip(
            "the PePR tables are not on this machine: pepr.fetch_tables(), or set EFFML_DATA"
        )


@pytest.mark.parametrize("seed", seeds(3, 12))
def test_the_front_with_ties_and_gaps_is_that_of_all_pairs(seed):
    draw = np.random.default_rng(seed)
    p, cost = draw.integers(0, 8, 60) / 8, draw.integers(0, 9, (60, 1 + seed % 3)).astype(float)
    p[draw.integers(60)] = cost[draw.integers(60), 0] = np.nan
    gains = np.column_stack([p, -cost])
    known = ~np.isnan(gains).any(axis=1)
    rivals = gains[known]
    beaten = [((rivals >= x).all(axis=1) & (rivals > x).any(axis=1)).any() for x in gains]
    assert pareto_front(p, cost).tolist() == (known & ~np.array(beaten)).tolist()
    assert not pareto_front(np.full(3, np.nan), np.arange(3.0)).any()
    assert len(pareto_front([], [])) == 0
