"""Notebooks 60 to 63: which records a part of the grid is, what their tables and figures show."""

import json

import matplotlib
import numpy as np
import pandas as pd
import pytest

import effml
import selvan
from selvan import paper_ranges, radars
from selvan.tables import ends


@pytest.fixture(autouse=True)
def no_window():
    matplotlib.use("agg")


def test_corners_lie_between_the_ends_of_their_axes():
    table = pd.DataFrame({"s": [10.0, 20.0], "J": [5.0, 5.0], "AUROC": [0.9, 0.8]}, ["a", "b"])
    zero = pd.Series({"AUROC": 0.5, "J": 0.0, "s": 0.0}), pd.Series({"AUROC": 1, "s": 20, "J": 5})
    ranges = {"paper": paper_ranges(table, floor=0.5), "from zero": zero}
    panels = {title: (table, reach) for title, reach in ranges.items()}
    figure = radars(panels, labels={"s": "time"})
    for axes, (title, (low, high)) in zip(figure.axes, ranges.items(), strict=True):
        assert axes.get_title() == title
        for line, (_, row) in zip(axes.lines, table.iterrows(), strict=True):
            corners = [(row[c] - low[c]) / (high[c] - low[c]) for c in table]
            assert line.get_ydata() == pytest.approx([*corners, corners[0]])
            assert line.get_xdata() == pytest.approx(2 * np.pi * np.array([0, 1 / 3, 2 / 3, 0]))
        assert [line.get_label() for line in axes.lines] == ["a", "b"]
        assert len({line.get_marker() for line in axes.lines}) == 2
    told = [[text.get_text() for text in axes.get_xticklabels()] for axes in figure.axes]
    assert told[0] == ["time\n5 … 20", "J\n2.5 … 5", "AUROC\n0.4 … 0.9"]
    assert told[1] == ["time\n0 … 20", "J\n0 … 5", "AUROC\n0.5 … 1"]


def test_a_column_of_one_value_without_a_floor_lies_at_the_centre():
    table = pd.DataFrame({"s": [1.0, 2.0], "J": [3.0, 3.0]})
    axes = radars({"": (table, paper_ranges(table, floor=1.0))}).axes[0]
    assert [line.get_ydata()[1] for line in axes.lines] == [0, 0]


def put(folder, recipes, **more):
    """A record of each recipe; AUROC and costs differ by setting and seed."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, recipe in enumerate(recipes):
        row = {**recipe.to_dict(), "recipe_id": recipe.id, "run_id": f"{recipe.id}-{i}"}
        row |= {"status": "ok", "numerics": effml.NUMERICS, "device": "cpu", "device_name": "here"}
        row |= {"cpu_flags": "avx2", "threads_used": 2, "finished_utc": f"2026-01-01T00:00:{i:02}"}
        row |= {"train_seconds": 10.0, "best_epoch": 2, "epochs_run": 5, "data_phantom": 0}
        row |= {"train_energy_j": 50.0}
        short = recipe.optimizer == "adam8bit"
        row |= {"train_peak_memory_bytes": 3e8 if short else 4e8, "test_majority_rate": 0.6}
        row |= {"optimizer_state_bytes": 1e6 * (1 if short else 4), "test_accuracy": 0.7}
        row |= {"test_auroc": 0.8 + 0.01 * short + recipe.seed / 1e4, "precision_emulated": 0}
        row |= {"test_worst_class_recall": 0.0 if recipe.precision == "bf16" else 0.5}
        lines.append(json.dumps(row | more))
    (folder / f"runs-{len(list(folder.iterdir()))}.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture
def reference(tmp_path, monkeypatch):
    """A reference with the MLP alone."""
    monkeypatch.setattr("selvan.runs.ROOT", tmp_path)
    put(tmp_path / "results" / "reference", selvan.grid(["MLP"]))
    return tmp_path


def test_the_grid_is_models_times_settings_times_seeds():
    recipes = selvan.grid(["DenseNet", "MLP"])
    assert len({recipe.id for recipe in recipes}) == 2 * 5 * 3
    pairs = dict.fromkeys((recipe.precision, recipe.optimizer) for recipe in recipes)
    assert list(pairs) == [
        ("fp32", "adam"),
        ("amp_bf16", "adam"),
        ("fp32", "adam8bit"),
        ("bf16", "adam8bit"),
        ("amp_bf16", "adam8bit"),
    ]
    rates = {recipe.model: recipe.learning_rate for recipe in recipes}
    assert rates == {"densenet121": 3e-4, "mlp": 1e-3}
    assert {(r.size, r.batch_size) for r in recipes} == {(32, 32)}
    assert {recipe.model: recipe.epochs for recipe in recipes} == {"densenet121": 3, "mlp": 5}
    (one,) = selvan.grid(["ResNet"], ["amp"], seeds=[7], size=8, data="phantom-chest")
    assert (one.model, one.size, one.seed, one.data) == ("resnet18", 8, 7, "phantom-chest")
    with pytest.raises(ValueError, match="Unknown setting 'half'. Choose from: baseline, amp"):
        selvan.grid(["MLP"], ["half"])
    with pytest.raises(ValueError, match="Unknown model 'mlp'. Choose from: DenseNet"):
        selvan.grid(["mlp"])


def test_the_paper_s_protocol_is_the_paper_s():
    recipe = selvan.grid(["ViT"], ["8bit_half"], seeds=[10], protocol="paper", data="my_rsna")[0]
    assert (recipe.model, recipe.size) == ("vit_base_patch32_plus_256", 256)
    assert (recipe.precision, recipe.optimizer, recipe.weights) == ("fp16", "adam8bit", "imagenet")
    assert (recipe.epochs, recipe.patience, recipe.stopping) == (50, 5, "selvan2023")
    assert (recipe.learning_rate, recipe.weight_decay, recipe.batch_size) == (1e-5, 0, 32)


def test_yours_where_all_of_a_model_are_there_else_the_reference(reference):
    store = reference / "mine"
    runs = selvan.grid_runs(store, ["MLP"])
    assert set(runs.whose) == {"reference"} and len(runs) == 15
    assert list(dict.fromkeys(runs.arm)) == list(selvan.NAMES.values())
    put(store, selvan.grid(["MLP"])[:-1])
    assert set(selvan.grid_runs(store, ["MLP"]).whose) == {"reference"}
    put(store, selvan.grid(["MLP"])[-1:], status="error")
    assert set(selvan.grid_runs(store, ["MLP"]).whose) == {"reference"}
    put(store, selvan.grid(["MLP"])[-1:], device_name="another machine")
    assert set(selvan.grid_runs(store, ["MLP"]).whose) == {"reference"}
    put(store, selvan.grid(["MLP"])[-1:], data_sha256="other images")
    assert set(selvan.grid_runs(store, ["MLP"]).whose) == {"reference"}
    put(store, selvan.grid(["MLP"])[-1:])
    assert set(selvan.grid_runs(store, ["MLP"]).whose) == {"yours"}
    some = selvan.grid_runs(store, ["MLP", "ViT"])
    assert set(some.net) == {"MLP"} and some.attrs["lacking"] == ["ViT"]
    assert selvan.told(some).endswith("not there: ViT")
    with pytest.raises(FileNotFoundError, match="all 15 runs of ViT, .*selvan.grid"):
        selvan.grid_runs(store, ["ViT"])
    put(store, selvan.grid(["ViT"]), numerics=effml.NUMERICS - 1)
    with pytest.raises(FileNotFoundError, match="ViT"):
        selvan.grid_runs(store, ["ViT"])


def test_a_ladder_of_protocols_takes_the_first_that_is_there(reference):
    store = reference / "mine"
    small = selvan.grid_runs(store, ["MLP"], protocol="paper|small")
    assert set(small.epochs) == {5}
    put(store, selvan.grid(["MLP"], protocol="paper"))
    assert set(selvan.grid_runs(store, ["MLP"], protocol="paper|small").epochs) == {50}
    with pytest.raises(FileNotFoundError):
        selvan.grid_runs(store, ["ViT"], protocol="paper|small")


def test_tables_by_hand(reference):
    runs = selvan.grid_runs(reference, ["MLP"])
    assert set(runs.best_s) == {4.0} and set(runs.best_j) == {20.0}
    assert set(runs.peak_mb) == {400.0, 300.0}
    table = selvan.results(runs)
    assert table.columns[2] == "accuracy (majority 0.60)" and len(table.columns) <= 8
    assert table.loc[("MLP", "8-bit"), "state, MB"] == "1.0"
    assert table.loc[("MLP", "AMP"), "test AUROC"].startswith("0.804 [0.790")
    told = selvan.changes(runs).loc[("MLP", "8-bit")]
    assert told["AUROC"] == "+0.010 [+0.010, +0.010]"
    assert told["peak memory"] == "-25% [-25%, -25%]"
    assert selvan.constant(runs) == "MLP, 8-bit + half (3 of 3 runs)"
    assert selvan.constant(runs[runs.arm == "AMP"]) == "none"
    assert "reference" in selvan.told(runs) and "computed, not emulated" in selvan.told(runs)


def test_intervals_of_one_model_are_corrected_for_its_settings_alone(reference):
    runs = selvan.grid_runs(reference, ["MLP"])
    noise = np.random.default_rng(0).normal(0, 0.01, len(runs))
    runs = runs.assign(test_auroc=runs.test_auroc + noise)
    both = pd.concat([runs, runs.assign(net="twin")])
    alone = effml.paired_differences(
        runs, "test_auroc", arm="arm", reference="Baseline", within=["net"]
    )
    found = selvan.paired_by_model(both, "test_auroc")
    assert np.allclose(ends(found.loc[["MLP"]]), ends(alone))
    assert np.allclose(ends(found.loc[["twin"]]), ends(alone))


def test_a_share_saved_is_of_the_same_model_and_seed(reference):
    runs = selvan.grid_runs(reference, ["MLP"])
    assert selvan.saved(runs, "peak_mb", "8-bit") == pytest.approx([0.25] * 3)
    assert len(selvan.saved(pd.concat([runs, runs.assign(net="b")]), "peak_mb", "AMP")) == 6
    half = runs.peak_mb.where((runs.arm != "8-bit") | (runs.seed != 10), 500)
    shares = selvan.saved(runs.assign(peak_mb=half), "peak_mb", "8-bit")
    assert shares == pytest.approx([0.25, -0.25, 0.25])  # seeds 1, 10, 100
    slow = runs.assign(precision_emulated=(runs.precision != "fp32").astype(int))
    assert selvan.saved(slow, "best_s", "AMP") == []
    assert selvan.saved(slow, "best_s", "8-bit") == [0.0] * 3
    assert selvan.saved(slow, "best_j", "AMP") == []
    assert "emulated: times say nothing" in selvan.told(slow)


def test_figures_draw_what_the_tables_say(reference):
    runs = selvan.grid_runs(reference, ["MLP"])
    labels = {"test_auroc": "AUROC", "peak_mb": "MB"}
    figure, drawn = selvan.differences_figure(runs, labels)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == [f"MLP, {arm}" for arm in list(selvan.NAMES.values())[1:]]
    assert [axes.get_xlabel() for axes in figure.axes] == ["AUROC", "MB"]
    assert drawn.loc[("peak_mb", "MLP", "8-bit"), "difference"] == pytest.approx(-100)
    places = [line.get_xdata() for line in figure.axes[1].lines if len(line.get_xdata()) == 3]
    assert np.allclose(places, [[0.0] * 3, [-100.0] * 3, [-100.0] * 3, [-100.0] * 3])
    sizes = pd.concat([runs.assign(size=8), runs.assign(size=16, test_auroc=0.7)])
    figure, drawn = selvan.curves(sizes, "test_auroc", "AUROC")
    amp = drawn[drawn.arm == "AMP"]
    assert amp["size"].tolist() == [8, 16]
    assert amp["mean"].tolist() == pytest.approx([0.8037, 0.7])


def test_the_size_of_a_nodule_is_a_baseline_for_lidc_alone():
    assert selvan.size_baseline().startswith("0.889 [")
    assert selvan.size_baseline("phantom-nodule") == "not known for these data"


def test_the_statements_by_hand():
    """Seeds 1 and 2. 8 bits are better in all but two pairs; half costs as much as is written."""
    rows = []
    costs = {"ViT": 0.04, "Swin": 0.02, "DenseNet": 0.01, "EfficientNet": 0.0, "MLP": 0.5}
    for net, cost in costs.items():
        for seed in (1, 2):
            gains = {"Baseline": 0, "AMP": 0, "AMP + 8-bit": 0, "8-bit + half": -cost}
            gains["8-bit"] = -0.1 if (net, seed) in {("MLP", 2), ("ViT", 1)} else 0.1
            for arm, gain in gains.items():
                short = arm == "8-bit"
                peak, best = 300 if short else 400, seed * (11 if short else 10)
                rows.append((net, seed, arm, 0.8 + gain, peak, best, 0))
    names = ["net", "seed", "arm", "test_auroc", "peak_mb", "best_j", "precision_emulated"]
    runs = pd.DataFrame(rows, columns=names).assign(test_worst_class_recall=0.4)
    ours = selvan.statements(runs, runs[runs.net == "DenseNet"])
    ours |= selvan.statements_by_seed(runs[runs.net.isin(["DenseNet", "ViT", "Swin"])])
    assert ours["selvan-amp-cnn"] == [0, 0]
    assert ours["selvan-8bit-memory"] == [0.25] * 10
    assert ours["selvan-8bit-time"] == pytest.approx([-0.1] * 6)
    better = ours["selvan-8bit-better"]
    assert better.value == 7 / 8 and better.low < 0.6 < 0.95 < better.high  # without ViT
    assert ours["selvan-transformers"] == pytest.approx([0.02] * 2)
    assert ours["selvan-best-densenet"] == pytest.approx([0.1 + 0.01 / 4] * 2)
    assert ours["selvan-best-swin"] == pytest.approx([-0.02 - 0.1 / 4] * 2)
    never = (runs.net == "EfficientNet") & (runs.seed == 1) & (runs.arm == "Baseline")
    idle = runs.assign(test_worst_class_recall=runs.test_worst_class_recall.mask(never, 0.0))
    without = selvan.statements(idle, runs[runs.net == "DenseNet"])
    assert without["selvan-8bit-better"].value == 5 / 6
    assert len(without["selvan-8bit-memory"]) == 10
    few = selvan.statements(runs[runs.net == "MLP"], runs[runs.net == "MLP"])
    assert len(few["selvan-8bit-memory"]) == 2


def test_what_amp_costs_is_of_an_epoch_and_of_the_peak():
    rows = [(1, "Baseline", 400, 60.0, 3), (1, "AMP", 500, 32.0, 2)]
    names = ["seed", "arm", "peak_mb", "train_energy_j", "epochs_run"]
    runs = pd.DataFrame(rows, columns=names).assign(net="DenseNet", precision_emulated=0)
    assert selvan.amp_costs(runs) == {
        "selvan-amp-memory": pytest.approx([-0.25]),
        "selvan-amp-time": pytest.approx([0.2]),
    }
