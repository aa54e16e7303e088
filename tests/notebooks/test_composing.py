"""The factorial of notebook 90 against contrasts by hand, made-up effects and another solver."""

from itertools import combinations, product
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
import torch
from scipy import stats

import effml
from composing import ALL, BEYOND, answers_ms, columns_of, design, effects, named

SIX = ["images", "channels", "taught", "rank", "bf16", "8 bits"]
WORDS = [["images", "channels", "taught", "bf16"], ["channels", "taught", "rank", "8 bits"]]


def made_up(runs, factors, *, noise=0.0, seed=0):
    """An outcome of known effects, a level for each seed, and noise."""
    draw = np.random.default_rng(seed)
    x = columns_of(runs, factors)
    true = pandas.Series(draw.normal(size=x.shape[1]).round(2), x.columns)
    return true, x @ true + 10 * runs.seed + noise * draw.normal(size=len(runs))


def test_a_full_factorial_gives_the_contrasts_of_four_means():
    runs = design("abc", [0, 1])
    runs["y"] = np.random.default_rng(0).normal(size=len(runs)) + runs.seed
    found = effects(runs, "y", "abc").change
    for name in "abc":
        by = runs.groupby(name).y.mean()
        assert found[name] == pytest.approx(by[True] - by[False])
    for a, b in combinations("abc", 2):
        m = runs.groupby([a, b]).y.mean()
        by_hand = (m[True, True] - m[False, True]) - (m[True, False] - m[False, False])
        assert found[f"{a} × {b}"] == pytest.approx(by_hand)


def test_three_quarters_give_back_all_six_effects_and_all_fifteen_pairs():
    runs = design(SIX, [0, 1, 2], WORDS)
    assert len(runs) == 48 and not runs.duplicated(SIX).any()
    assert (runs[SIX].mean() == 0.5).all() and (runs.groupby("seed")[SIX].mean() == 0.5).all(None)
    true, runs["y"] = made_up(runs, SIX)
    found = effects(runs, "y", SIX)
    assert len(true) == 21 and np.allclose(found.change[true.index], true)
    assert (found.high - found.low < 1e-9).all()
    assert not runs[SIX].iloc[0].any()  # of the first seed the run without any


def test_all_together_and_beyond_each_alone_are_what_single_runs_say():
    runs = design("abcd", [0, 1])
    true, runs["y"] = made_up(runs, list("abcd"))
    y = runs[runs.seed == 0].set_index(list("abcd")).y
    y.index = y.index.set_levels([[0, 1]] * 4)
    none, all_ = y[0, 0, 0, 0], y[1, 1, 1, 1]
    alone = sum(y[tuple(one)] - none for one in np.eye(4, dtype=int))
    found = effects(runs, "y", list("abcd")).change
    assert found[ALL] == pytest.approx(all_ - none)
    assert found[BEYOND] == pytest.approx(all_ - none - alone)


def test_the_mean_of_a_change_and_what_moves_it():
    runs = design("ab", [0, 1, 2])
    runs["y"] = -0.3 + 0.2 * (runs.a - 0.5) + np.tile([0.1, -0.1, -0.1, 0.1], 3)
    found = effects(runs, "y", "ab", mean="INT8")
    assert list(found.index) == ["INT8", "a", "b"]
    assert np.allclose(found.change, [-0.3, 0.2, 0])


def test_the_interval_of_a_balanced_plan_is_the_textbook_one():
    runs = design("ab", [0, 1, 2, 3])
    _, runs["y"] = made_up(runs, list("ab"), noise=1.0)
    found = effects(runs, "y", "ab")
    fitted = columns_of(runs, "ab") @ found.change[["a", "b", "a × b"]]
    left = runs.y - fitted
    left -= left.groupby(runs.seed).transform("mean")
    df = 16 - 3 - 4
    half = stats.t.ppf(0.975, df) * 2 * np.sqrt((left**2).sum() / df / 16)
    assert np.allclose((found.high - found.low)[["a", "b"]], 2 * half)
    assert np.allclose((found.high - found.low)["a × b"], 4 * half)


def test_intervals_hold_as_often_as_they_say():
    runs = design(SIX, [0, 1, 2], WORDS)
    hits = []
    for seed in range(40):
        true, runs["y"] = made_up(runs, SIX, noise=1.0, seed=seed)
        found = effects(runs, "y", SIX).loc[true.index]
        hits.append(((found.low < true) & (true < found.high)).mean())
    assert 0.92 < np.mean(hits) < 0.98
    wide = effects(runs, "y", SIX, comparisons=42).loc[true.index]
    assert (wide.high - wide.low > 1.4 * (found.high - found.low)).all()


def test_what_cannot_be_told_apart_is_an_instruction():
    half = design("abc", [0], ["abc"])
    assert len(half) == 4
    with pytest.raises(ValueError, match="4 runs for 7 numbers, 4 of them independent: give more"):
        effects(half.assign(y=0.0), "y", "abc")
    runs = design("ab", [0, 1]).assign(y=np.nan)
    with pytest.raises(ValueError, match="all of them known"):
        effects(runs, "y", "ab")


def test_words_name_the_sure_effects_or_say_that_there_is_none():
    runs = design("ab", [0, 1, 2])
    runs["y"] = -3.0 * runs.a + 0.5 * runs.b + np.tile([0.01, -0.01], 6)
    found = effects(runs, "y", "ab").loc[["b", "a"]]
    assert named(found, lambda row: f"{row.change:+.1f}") == "a -3.0, b +0.5"
    runs["y"] = np.random.default_rng(1).normal(size=12)
    assert named(effects(runs, "y", "ab").loc[["a", "b"]], str) == (
        "none; all 2 intervals cross zero"
    )


def test_every_combination_is_there_once():
    runs = design("abc", [5])
    assert sorted(map(tuple, runs[list("abc")].to_numpy())) == sorted(
        product([False, True], repeat=3)
    )


def test_every_form_is_built_and_timed_by_turns(monkeypatch):
    built = []

    def build(net, runtime, *_):
        built.append((sum(p.numel() for p in net.parameters()), runtime))
        return len(built)

    def measure(made, *_, rounds, **__):
        return [SimpleNamespace(turns_ms=[10 * one + n for n in range(rounds)]) for one in made]

    monkeypatch.setattr(effml, "build_predictor", build)
    monkeypatch.setattr(effml, "measure_latency", measure)
    forms = design(["channels", "INT8"], [0])[["channels", "INT8"]]
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    found = answers_ms("lenet5", images, forms, runtimes=["whole", "eight"], rounds=3)
    sizes, runtimes = zip(*built)
    assert runtimes == ("whole", "eight") * 2 and sizes[0] == sizes[1] > 1.5 * sizes[2]
    assert found.ms.tolist() == [10 * one + n for one in (1, 2, 3, 4) for n in range(3)]
    assert found["round"].tolist() == [0, 1, 2] * 4
    assert found[["channels", "INT8"]].drop_duplicates().to_numpy().tolist() == [
        [False, False],
        [False, True],
        [True, False],
        [True, True],
    ]
