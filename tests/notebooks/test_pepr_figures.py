"""What the figure notebooks 70 to 75 draw: against brute force and counts of the authors' own
tables; the notebooks without torch."""

import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest

import effml
import pepr
from effml.pepr import pepr_score
from pepr import epoch_points, per_million, phantom_tables, repair_regions
from pepr.published import ACCURACIES, RUNS
from pepr.regions import HOLDERS
from test_pepr import published


@pytest.fixture(autouse=True)
def no_window(monkeypatch, tmp_path):
    matplotlib.use("agg")
    monkeypatch.setenv("EFFML_FIGURES", str(tmp_path))


def test_a_region_counts_with_its_inhabitants():
    table = pd.DataFrame(
        {
            "name": ["Norway", "Oman", "Chile", "Peru"],
            "num_papers": [10, 2, 3, 5],
            "pop": [50.0, 4e6, 1e6, np.nan],
            "Region_updated": ["N", "N", "S", "S"],
        }
    )
    rates = per_million(table)
    assert rates.rate.to_dict() == {
        "N": 12 / 4000050 * 1e6,
        "S": 3.0,
    }
    assert rates.countries.tolist() == [2, 1]
    assert repair_regions(table)["pop"].tolist()[0] == 4e6 and table["pop"][0] == 50


@pytest.mark.parametrize("name", ["regions_papers_data_2013", "regions_papers_data_2023"])
def test_the_populations_are_put_right(name):
    table = published(name)
    right = repair_regions(table).set_index("name")
    assert (
        (right.num_papers / right["pop"] * 1e6).max()
        < 5000
        < (table.num_papers / table["pop"] * 1e6).max()
    )
    assert 5e6 < right["pop"]["Norway"] < 6e6
    assert 1.8e8 < right["pop"]["Pakistan"] < 2.5e8
    assert right["pop"].dropna().is_unique
    same = right[~right.index.isin(HOLDERS)]["pop"]
    assert same.equals(table.set_index("name")["pop"].astype(float)[same.index])


def test_every_country_has_grown_by_a_plausible_factor_after_the_repair():
    before, after = (
        repair_regions(published(f"regions_papers_data_{year}")).set_index("name")["pop"]
        for year in (2013, 2023)
    )
    assert (after / before).dropna().between(0.8, 1.65).all()
    assert len((after / before).dropna()) > 180


def test_epochs_against_a_loop():
    runs = phantom_tables()[RUNS].head(5).copy()
    runs.loc[runs.index[1], "test_03"] = np.nan
    points = epoch_points(runs, overhead_wh=1.0, best_so_far=True)
    for row in runs.itertuples():
        of = points[(points.model == row.model) & (points.dataset == row.dataset)].set_index(
            "epoch"
        )
        for epoch in range(1, 11):
            seen = [getattr(row, name) for name in ACCURACIES[:epoch]]
            assert of.performance[epoch] == np.nanmax(seen)
            assert of.energy[epoch] == pytest.approx((row.energy - 0.001) * epoch / 10)
    assert len(epoch_points(runs)) == 49
    assert epoch_points(runs).performance[0] == runs.test_00.iloc[0]


def test_one_mark_per_known_model_in_both_groups():
    figure, axes = pepr.both_ways(2, whose="nobody")
    points = pd.DataFrame(
        {"num_param": [1e6, 2e6, 3e7, 4e7], "y": [0.1, np.nan, 0.3, 0.4], "marker": [1, 1, 0, 0]}
    )
    pepr.by_size(axes[1, 0], points, "y")
    marks = [line for line in axes[1, 0].lines if line.get_marker() not in ("None", "")]
    assert {tuple(line.get_ydata()) for line in marks} == {(0.1,), (0.3, 0.4)}
    assert axes[1, 0].get_xscale() == "log"
    assert len({line.get_marker() for line in marks}) == 2
    assert [text.get_text() for text in axes[1, 0].get_legend().get_texts()] == [
        "not efficient (2)",
        "efficient (1)",
    ]
    assert [axis.get_title() for axis in axes[0]] == ["as published", "as corrected"]


def test_the_shading_is_the_score():
    figure, axes = pepr.both_ways()
    drawn = pepr.pepr_shading(axes[0, 0], alpha=2.0, low=0.5)
    assert drawn.zmax == 1
    assert drawn.zmin == pytest.approx(pepr_score([0.5], [1.0], alpha=2.0, normalized=True)[0])


def test_the_constant_predictor_is_a_line_with_its_rate():
    figure, axes = pepr.both_ways()
    pepr.constant_line(axes[0, 0], 0.6694)
    assert axes[0, 0].lines[0].get_ydata() == [0.6694, 0.6694]
    assert axes[0, 0].texts[0].get_text() == "constant predictor (0.669)"
    pepr.constant_line(axes[0, 0], 0.5, ha="right")
    ends = [(text.get_ha(), text.get_va()) for text in axes[0, 0].texts]
    assert ends == [("left", "bottom"), ("right", "top")]  # no name lies on the axis


def test_lines_go_from_the_old_rank_to_the_new():
    before, after = (
        pd.Series([0.9, 0.8, 0.7, np.nan], list("abcd")),
        pd.Series([0.1, 0.3, 0.2, 0.9], list("abcd")),
    )
    figure = pepr.rank_moves(before, after, top=2)
    ends = {(tuple(line.get_ydata()), line.get_marker()) for line in figure.axes[0].lines}
    assert ends == {((1, 3), "v"), ((2, 1), "^"), ((3, 2), "^")}  # d has no rank


def test_equal_scores_share_a_rank_and_are_drawn_one_below_the_other():
    before = pd.Series([0.9, 0.5, 0.1 + 0.2, 0.3, 0.1], list("abcde"))
    after = pd.Series([0.9, 0.9, 0.2, 0.4, 0.1], list("abcde"))
    axes = pepr.rank_moves(before, after, top=5).axes[0]
    right = {t.get_text() for t in axes.texts if t.xy[0] == 1}
    assert right == {"1  a", "1  b  (was 2)", "3  d", "4  c  (was 3)", "5  e"}
    assert sorted(t.xy[1] for t in axes.texts if t.xy[0] == 1) == [1, 2, 3, 4, 5]
    markers = {
        t.get_text()[3]: line.get_marker()
        for t, line in zip([t for t in axes.texts if t.xy[0] == 1], axes.lines)
    }
    assert markers == {"a": "o", "b": "^", "d": "o", "c": "v", "e": "o"}


def test_sliders_call_the_drawing_and_a_machine_without_people_draws_once(monkeypatch):
    calls = []
    controls = {"alpha": (1.0, 1.0, 5.0), "variant": ["lidc", "derma"]}
    draw = lambda **values: calls.append(values)  # noqa: E731
    assert effml.live(draw, **controls) is None and calls == [{"alpha": 1.0, "variant": "lidc"}]
    monkeypatch.delenv("EFFML_FIGURES")
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert effml.live(draw, **controls) is None and len(calls) == 2
    monkeypatch.delitem(sys.modules, "ipywidgets")
    pytest.importorskip("ipywidgets")
    box = effml.live(draw, **controls)
    box.children[0].value, box.children[1].value = 3.0, "derma"
    assert calls[-1] == {"alpha": 3.0, "variant": "derma"}
