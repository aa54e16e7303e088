"""Our own runs in the authors' form: with the authors' own tables the functions give what the paper
printed and what its data says; records are built by hand."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from effml import architectures
from effml.figures import subplots
from effml.pepr import pepr_score
from pepr import conclusions, phantom_tables, printed_table
from pepr.own_figures import (
    Agreement,
    agreement,
    as_theirs,
    best_models,
    by_size,
    experiments,
    forest,
    front,
    gains,
    groups,
    guesses,
    one_answer,
    overview,
    own_epochs,
    rank_agreement,
    rank_table,
    repeated,
    self_agreement,
    spread_of_seeds,
    stored,
    three_sets,
    whole_sweeps,
)
from test_pepr import published

NAMES = architectures()
RNG = np.random.default_rng(0)


def records(models=6, **fields):
    """As `load_runs` gives them: a model each, the first two the paper's smallest."""
    timm = NAMES.timm.iloc[:models].tolist()
    n = len(timm)
    plain = {"data": "lidc_nodules_64", "weights": "random", "train_fraction": 1.0, "epochs": 10}
    plain |= {
        "device": "cpu",
        "device_name": "a CPU",
        "convolutions": "auto",
        "seed": 0,
        "size": 32,
    }
    plain |= {"shared": 0, "test_majority_rate": 0.6, "test_balanced_accuracy": 0.71}
    plain |= {
        "test_worst_class_recall": 0.5,
        "test_auroc": 0.8,
        "test_auroc_low": 0.6,
        "macs": np.arange(n) * 1e6,
    }
    plain |= {"test_accuracy": 0.7 + 0.01 * np.arange(n), "train_seconds": 10.0 + np.arange(n)}
    plain |= {"train_energy_j": 3.6e3 * (1 + np.arange(n)), "train_peak_memory_bytes": 2e9}
    return pd.DataFrame({"model": timm} | plain | fields)


def test_records_become_the_authors_columns():
    points = as_theirs(records())
    of = points.set_index("model")
    assert list(points.model) == list(NAMES.sort_values("params").index[:6])
    assert list(points.num_param) == sorted(NAMES.params)[:6]
    assert of.energy.tolist() == pytest.approx([0.001 * k for k in range(1, 7)])  # kWh
    assert of.memR.eq(2).all() and of.train_time.tolist() == [10, 11, 12, 13, 14, 15]
    score = pepr_score(of.test_09, of.energy)
    assert of.pepr_e.tolist() == pytest.approx(score.tolist()) and of.pepr_e.iloc[0] == 0.7
    assert not of.constant.any() and of.learned.all()


def test_a_run_that_shared_its_machine_has_accuracy_and_no_score():
    points = as_theirs(records(shared=[0, 0, 0, 0, 0, 1]))
    last, alone = points.iloc[-1], as_theirs(records(models=5))
    assert last.test_09 == 0.75 and np.isnan([last.energy, last.train_time, last.pepr_e]).all()
    assert points.pepr_e[:5].tolist() == pytest.approx(alone.pepr_e.tolist())


def test_company_of_another_run_of_effml_counts_too():
    points = as_theirs(records(shared_machine=[0, 1, 0, 0, 0, 0])).set_index("model")
    assert points.pepr_e.isna().tolist() == [False, True, False, False, False, False]


def test_seeds_are_averaged():
    two = pd.concat([records(), records(seed=1, test_accuracy=0.9, test_auroc_low=0.5)])
    assert not as_theirs(two).learned.any()
    assert as_theirs(two).test_09.tolist() == pytest.approx([0.8 + 0.005 * k for k in range(6)])


@pytest.mark.parametrize("field", ["data", "device_name", "train_fraction"])
def test_two_experiments_are_no_experiment(field):
    runs = records()
    runs[field] = [*runs[field][:5], {"train_fraction": 0.1}.get(field, "another")]
    with pytest.raises(ValueError, match=f"several {field}"):
        as_theirs(runs)


def test_a_model_that_is_not_the_papers_is_refused():
    with pytest.raises(ValueError, match="lenet5 is no model of the paper"):
        as_theirs(records().replace(NAMES.timm.iloc[2], "lenet5"))


def test_one_answer_to_every_image_is_found():
    """Against recalls counted from predictions: constant ones, and some that only look alike."""
    rows, truth = [], []
    for classes in (2, 7):
        labels = np.arange(140) % classes
        for kind in range(6):
            said = [np.full(140, kind % classes), RNG.integers(classes, size=140)][kind % 2]
            recalls = [(said[labels == k] == k).mean() for k in range(classes)]
            rows.append((np.mean(recalls), min(recalls)))
            truth.append(len(set(said)) == 1)
    rows, truth = [*rows, (0.5, 0.5)], [*truth, False]  # a coin
    found = one_answer(
        pd.DataFrame(rows, columns=["test_balanced_accuracy", "test_worst_class_recall"])
    )
    assert found.tolist() == truth


def test_groups_of_the_authors_models_are_their_conclusions():
    tables = phantom_tables()
    of = three_sets(tables)
    found, right = groups(of), conclusions(tables)
    for name in ("small-performance", "efficient-performance", "cnn-pepr", "efficient-pepr"):
        assert found.loc[name].tolist() == pytest.approx(right.loc[f"pepr-{name}"].tolist())
    assert found.value["small-pepr"] > 0 and "small-auroc" not in found.index
    same = groups(of.assign(auroc=of.test_09))
    assert same.loc["cnn-auroc"].tolist() == pytest.approx(found.loc["cnn-performance"].tolist())


@pytest.mark.parametrize("variant", ["derma", "derma_pt", "lidc", "pneumonia"])
def test_table_1_is_the_printed_one(variant):
    runs = published("full_data_pepr_dataset_level")
    table = best_models(runs[runs.dataset == variant], normalization="max")
    printed = printed_table()
    printed = printed[printed.dataset == variant]
    assert table.model.str.removesuffix(" ★").tolist() == printed.model.tolist()
    assert table["PePR-E"].to_numpy() == pytest.approx(printed.pepr_e.to_numpy(), abs=1e-4)
    assert table.model.iloc[-1].endswith("★") and len(table) == 6


def test_the_most_accurate_among_the_best_has_one_row():
    points = as_theirs(records(test_accuracy=[0.9, 0.5, 0.5, 0.5, 0.5, 0.5]))
    assert len(best_models(points, top=3)) == 3


def test_rank_agreement_is_scipys_and_joins_by_model():
    names = [f"m{i}" for i in range(30)]
    a = pd.Series(RNG.normal(size=30).round(1), names)  # with ties
    b = (a + pd.Series(RNG.normal(size=30), names)).sample(frac=1, random_state=0)
    found = rank_agreement(a, b)
    assert found.rho == pytest.approx(stats.spearmanr(a, b.reindex(names)).statistic)
    assert found.low < found.rho < found.high and found.models == 30
    again = rank_agreement(a, b, seed=1)
    assert (again.low, again.high) == pytest.approx((found.low, found.high), abs=0.05)
    assert rank_agreement(a, a)[:3] == pytest.approx((1, 1, 1))
    assert rank_agreement(a, -a).rho == pytest.approx(-1)
    c = pd.Series(RNG.normal(size=30), names)
    pairs = [rank_agreement(*two).rho for two in ((a, b), (a, c), (b, c))]
    assert rank_agreement(a, b, c).rho == pytest.approx(np.mean(pairs))
    a["m3"] = np.nan
    assert rank_agreement(a, b[b.index != "m4"]).models == 28
    few = rank_agreement(a[:4], b)
    assert np.isnan(few.rho) and str(few) == "no ranking (3 models)"
    assert np.isnan(rank_agreement(a, 0 * b).rho)


def test_the_interval_holds_the_truth_nineteen_times_in_twenty():
    """Of normal columns with correlation 0.6, whose rank correlation is 6/π · asin(0.3)."""
    truth, held = 6 / np.pi * np.arcsin(0.3), 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=60)
        y = 0.6 * x + 0.8 * rng.normal(size=60)
        found = rank_agreement(pd.Series(x), pd.Series(y), draws=400)
        held += found.low <= truth <= found.high
    assert 88 <= held <= 99


def test_theirs_with_theirs_agrees_in_everything():
    runs = published("full_data_pepr_dataset_level")
    of = runs[runs.dataset == "lidc"]
    found = agreement(of.assign(auroc=of.test_09), of)
    assert found.rho.tolist() == pytest.approx([1] * len(found)) and (found.models == 131).all()
    unlike = of.assign(auroc=1 - of.test_09)
    assert agreement(unlike, of).rho["AUROC"] == pytest.approx(-1)  # with their accuracy
    assert agreement(unlike, unlike).rho["AUROC"] == pytest.approx(1)  # with each other
    none = agreement(of, of).loc["AUROC"]  # theirs have none
    assert none.models == 0 and str(Agreement(*none)) == "–"


def test_each_experiment_is_laid_beside_the_same_images_and_the_same_start():
    runs = published("full_data_pepr_dataset_level")
    variants = dict(list(runs.groupby("dataset")))
    ours = {"A": variants["pneumonia"].assign(data="pneumoniamnist")}
    found = rank_table(ours, variants, beside="A").rho.unstack("column")
    assert found.P["A", "same images"] == pytest.approx(1) and found.index.nlevels == 2
    two = (variants[name].set_index("model").test_09 for name in ("pneumonia", "derma"))
    right = stats.spearmanr(pd.concat(two, axis=1)).statistic
    assert found.P["A", "same start"] == found.P["theirs", "pneumonia, derma"]
    assert found.P["A", "same start"] == pytest.approx(right)
    both = rank_table(
        ours | {"B": ours["A"].assign(energy=-ours["A"].energy)}, variants, beside="A"
    )
    assert both.rho["A", "B", "E"] == pytest.approx(-1)


def test_guesses_rank_what_they_are_told_to():
    points = as_theirs(records())
    found = guesses(points, pd.DataFrame({"told": points.set_index("model").test_09}))
    assert found.rho["told", "P"] == pytest.approx(1)
    expected = stats.spearmanr(points.num_param, points.pepr_e).statistic
    assert found.rho["num_param", "PePR-E"] == pytest.approx(expected)


def test_sweeps_are_told_apart_and_small_ones_left_out():
    few, gpu = records(train_fraction=0.1), records(models=5, device="cuda", device_name="a GPU")
    runs = pd.concat([few, gpu, records(models=3, epochs=2), few.assign(seed=1)], ignore_index=True)
    found = experiments(whole_sweeps(runs, least=5))
    assert list(found) == ["CPU, 10% of lidc", "GPU, 100% of lidc"]
    assert [len(of) for of in found.values()] == [6, 5]
    assert repeated(runs, seeds=2).seed.value_counts().to_dict() == {0: 6, 1: 6}
    with pytest.raises(ValueError, match="Two experiments are called"):
        experiments(pd.concat([few, few.assign(epochs=2)]))


def test_of_two_machines_the_one_with_most_models_gives_the_costs():
    """Also where the other's runs are newer, and its seeds are none of these."""
    other = records(models=9).iloc[6:].assign(device_name="another CPU", train_energy_j=1.0)
    runs = pd.concat([records(), other], ignore_index=True)
    for order in (runs, runs[::-1]):
        found = experiments(whole_sweeps(order, least=9))["CPU, 100% of lidc"]
        pd.testing.assert_frame_equal(found, as_theirs(records()))
    twice = pd.concat([records(), records(seed=1, device_name="another CPU")], ignore_index=True)
    assert repeated(twice, seeds=2).empty


def test_an_overview_counts_models_by_hand():
    points = as_theirs(
        records(
            shared=[0, 0, 0, 0, 1, 1],
            test_balanced_accuracy=[0.5, 0.7, 0.7, 0.7, 0.7, 0.7],
            test_worst_class_recall=[0.0, 0.2, 0.2, 0.2, 0.2, 0.2],
            test_auroc_low=[0.4, 0.5, 0.6, 0.6, 0.6, 0.6],
        )
    )
    row = overview({"one": points}).loc["one"].to_dict()
    told = {"models": 6, "px": 32, "shared": 2, "one answer": 1, "learned": 4, "majority": 0.6}
    assert row == told | {"P, median": 0.725, "Wh": 10}  # 1 + 2 + 3 + 4


def test_a_ranking_agrees_with_itself_as_far_as_seeds_let_it():
    noisy = [0.7, 0.72, 0.71, 0.74, 0.75, 0.73]
    runs = pd.concat([records(), records(seed=1, test_accuracy=noisy)], ignore_index=True)
    other = runs.assign(data="ham10000_28", test_accuracy=1 - runs.test_accuracy)
    found = self_agreement(pd.concat([runs, other], ignore_index=True)).rho
    seeds = stats.spearmanr(np.arange(6), noisy).statistic
    assert found["seeds, lidc_nodules_64", "P"] == pytest.approx(seeds)
    assert found["seeds, ham10000_28", "E"] == pytest.approx(1)
    assert found["data sets", "P"] == pytest.approx(-1)
    alone = self_agreement(runs)
    assert alone.models["data sets", "P"] == 0 and alone.models["seeds, lidc_nodules_64", "P"] == 6
    assert (self_agreement(runs.iloc[:0]).models == 0).all()


def test_the_spread_of_seeds_is_told_from_that_of_models():
    """Models 0.01 apart, and in every second seed each 0.02 better."""
    runs = pd.concat([records(), records(seed=1, test_accuracy=0.72 + 0.01 * np.arange(6))])
    row = spread_of_seeds(runs.reset_index(drop=True)).loc["lidc_nodules_64"]
    assert row["P, nets"] == pytest.approx(np.std(0.01 * np.arange(6), ddof=1))
    assert row["P, seeds"] == pytest.approx(0.02 / 2**0.5) and row["AUROC, seeds"] == 0


def test_a_device_without_runs_is_told(tmp_path, capsys):
    found = stored(tmp_path, lambda runs: runs.iloc[:2], ["cpu", "tpu"], model="lenet5")
    assert (found.model == "lenet5").all() and len(found) == 2
    assert capsys.readouterr().out == "No such runs on tpu.\n"
    assert stored(tmp_path, whole_sweeps, ["tpu"]).empty


def test_epochs_share_the_energy_of_their_run(tmp_path):
    np.savez(tmp_path / "r1.npz", val_accuracy=[0.5, 0.7])
    points = own_epochs(records(models=1).assign(run_id="r1"), tmp_path)
    assert points.energy.tolist() == pytest.approx([0.0005, 0.001])
    assert points.performance.tolist() == [0.5, 0.7] and points.epoch.tolist() == [1, 2]


def test_drawings_count_what_they_show():
    matplotlib.use("agg")
    figure, axes = subplots(1, 5)
    answers = records(test_balanced_accuracy=[0.5, 0.7, 0.7, 0.7, 0.7, 0.5])
    by_size(axes[3], as_theirs(answers.assign(test_worst_class_recall=0.0)), "pepr_e")
    assert axes[3].get_legend().get_texts()[-1].get_text() == "one answer (2)"
    table = groups(three_sets(phantom_tables()))
    forest(axes[4], {"theirs": table, "again": table})
    assert [label.get_text() for label in axes[4].get_yticklabels()][0] == "small − large, P"
    drawn = axes[4].containers[0].lines[0].get_xdata()
    assert drawn[0] == table.value["small-performance"] and np.isnan(drawn[3])  # no AUROC
    before, after = pd.Series({"a": 0.5, "b": 0.6, "c": 0.7}), pd.Series({"c": 0.8, "a": 0.4})
    gains(axes[0], before, after)
    gains(axes[1], before, pd.Series(dtype=float))
    said = [axis.texts[0].get_text() for axis in axes[:2]]
    assert said == ["1 of 2 gain", "not measured"]
    front(axes[2], pd.DataFrame({"energy": [1, 2, 4], "performance": [0.5, 0.4, 0.9]}))
    steps = axes[2].lines[1].get_xydata()
    assert steps.tolist() == [[0.25, 0.5], [1, 0.9]]
    matplotlib.pyplot.close(figure)


def test_what_shared_its_machine_has_no_cost_between_seeds_either():
    runs = pd.concat([records(shared=[0] * 5 + [1]), records(seed=1)], ignore_index=True)
    models = self_agreement(runs).models
    assert [models["seeds, lidc_nodules_64", x] for x in ("E", "PePR-E", "P")] == [5, 5, 6]


def test_epochs_of_a_run_that_shared_its_machine_have_no_energy(tmp_path):
    np.savez(tmp_path / "r1.npz", val_accuracy=[0.5, 0.7])
    assert own_epochs(records(models=1).assign(run_id="r1", shared=1), tmp_path).energy.isna().all()


def test_one_answer_in_some_seed_is_marked():
    one = records(test_balanced_accuracy=0.5, test_worst_class_recall=0.0)
    assert as_theirs(pd.concat([one, records(seed=1)])).constant.all()
