"""Notebooks 65 and 66: which recipes the grid holds, what is measured, what tables say."""

import dataclasses
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch

import effml
import thakur
from thakur import tables


@pytest.fixture(autouse=True)
def no_window():
    matplotlib.use("agg")


@pytest.fixture
def folder(tmp_path):
    """Two workloads in three modes; the second gains less, loses more."""
    laps, losses = [], []
    names = list(thakur.CLASSIFICATION)[:2]
    times = {"eager": (8.0, 6.0), "openvino": (4.0, 5.0), "openvino_int8": (2.0, 1.5)}
    for slow, workload in enumerate(names):
        for mode, pair in times.items():
            for threads, ms in zip((1, 2), pair):
                lap = {"workload": workload, "mode": mode, "threads": threads}
                ms += slow * (mode == "openvino_int8")
                lap |= {"median_ms": ms, "p95_ms": ms + 1, "others_cpu": 0.05}
                memory = 1e8 if mode == "openvino_int8" else (4 - slow) * 1e8
                laps.append(lap | {"peak_memory_bytes": memory, "file_bytes": 2e6})
            loss = 0.002 * (mode == "openvino_int8") * (1 + slow)
            row = {"workload": workload, "mode": mode, "loss": loss, "passed": not slow}
            losses.append(row | {"loss_low": loss - 0.004, "loss_high": loss + 0.004})
    pd.DataFrame(laps).to_csv(tmp_path / "grid-65-latency.csv", index=False)
    pd.DataFrame(losses).to_csv(tmp_path / "grid-65-utility.csv", index=False)
    return tmp_path


def test_speed_ups_are_over_the_same_workload_and_threads(folder):
    found = thakur.measured(thakur.CLASSIFICATION, folder)
    int8 = found[found["mode"] == "openvino_int8"].set_index(["workload", "threads"])
    first, second = list(thakur.CLASSIFICATION)[:2]
    assert int8.over_pytorch[first, 1] == pytest.approx(8 / 2)
    assert int8.over_fp32[first, 1] == pytest.approx(4 / 2)
    assert int8.over_fp32[first, 2] == pytest.approx(5 / 1.5)
    assert int8.over_pytorch[second, 2] == pytest.approx(6 / 2.5)
    assert thakur.measured(thakur.SEGMENTATION, folder).empty
    assert thakur.place(folder) == folder and thakur.place(folder / "no") == tables.REFERENCE


def test_a_sentence_is_judged_where_it_is_true_the_least(folder):
    ours = thakur.statements(thakur.measured(thakur.CLASSIFICATION, folder), "classification")
    assert ours["thakur-speed-classification"] == pytest.approx([8 / 3] * 3)
    assert ours["thakur-fp32-classification"] == pytest.approx([4 / 3] * 3)
    assert ours["thakur-memory-classification"] == pytest.approx([2 / 3] * 3)
    assert ours["thakur-utility-classification"] == pytest.approx([0.004, 0, 0.008])
    verdicts = effml.claims.verdicts(ours).set_index("claim").verdict
    assert verdicts.tolist() == ["agrees"] * 4
    worse = {"thakur-utility-classification": effml.claims.Estimate(0.008, 0.002, 0.014)}
    assert effml.claims.verdicts(worse).verdict.item() == "inconclusive"


def test_the_table_says_one_and_two_threads(folder):
    found = thakur.measured(thakur.CLASSIFICATION, folder)
    table, names = thakur.table(found, "AUROC"), list(thakur.CLASSIFICATION)
    row = table.loc[names[0], "OpenVINO, INT8"]
    assert row["ms"] == "2.00 / 1.50" and row["× best fp32"] == "2.00 / 3.33"
    assert row["AUROC lost"] == "+0.0020 [-0.0020, +0.0060]" and row["gate"] == "passes"
    assert table.loc[names[1], "OpenVINO, INT8"]["gate"] == "fails"
    assert thakur.threads_gain(found).loc["OpenVINO, INT8", names[0]] == pytest.approx(1.33)
    assert thakur.busy(found).endswith("5% to 5% of the CPU time, in 0 of 12 (*) over 10%")
    loud = found.assign(others_cpu=np.where(found.threads == 1, 0.3, 0.1))
    assert thakur.table(loud, "AUROC").loc[names[0], "OpenVINO, INT8"]["ms"] == "2.00* / 1.50"
    axes = thakur.figure(found, "AUROC").axes
    assert len(axes[0].get_yticklabels()) == 4 and axes[1].get_xlabel() == "test AUROC lost"


def test_a_mode_takes_the_trained_model_and_one_thread():
    recipes, trained = thakur.grid(), {recipe.id for recipe in thakur.trained()}
    assert {recipe.weights for recipe in recipes.values()} <= trained
    assert {recipe.threads for recipe in [*recipes.values(), *thakur.trained()]} == {1}
    plain = [one for (_, mode), one in recipes.items() if mode not in thakur.RETRAINED]
    assert len(plain) == 8 * len(thakur.WORKLOADS) - 2 and {one.epochs for one in plain} == {0}
    assert len({one.id for one in recipes.values()}) == len(recipes)


def test_the_reference_holds_every_run_and_every_measurement():
    runs = effml.load_runs(tables.REFERENCE)
    runs = runs[(runs.status == "ok") & (runs.numerics == effml.NUMERICS)]
    asked = {recipe.id for recipe in [*thakur.trained(), *thakur.grid().values()]}
    assert asked <= set(runs.recipe_id)
    assert set(runs[runs.recipe_id.isin(asked)].threads_used) == {1}
    found = thakur.measured(thakur.WORKLOADS)
    pairs = [(*pair, threads) for pair in thakur.grid() for threads in (1, 2)]
    assert sorted(zip(found.workload, found["mode"], found.threads)) == sorted(pairs)


def test_losses_are_paired_and_by_patient():
    from thakur import measure

    rng, who = np.random.default_rng(0), np.repeat(np.arange(25), 4)
    a = rng.random(100)
    b = a - 0.05 * rng.normal(1, 1, 25)[who]
    found = measure._paired(lambda values, rows: values.mean(), a, b, who)
    assert found["loss"] == pytest.approx((a - b).mean())
    sd = (a - b)[::4].std(ddof=1) / 5  # of the mean over patients
    assert found["loss_high"] - found["loss_low"] == pytest.approx(3.92 * sd, rel=0.15)
    assert found["reference_high"] - found["reference_low"] > 3 * (
        found["loss_high"] - found["loss_low"]
    )


def test_scores_are_those_of_the_package():
    from thakur import measure

    rng = np.random.default_rng(1)
    true, scores = (rng.random(80) < 0.3).astype(int), rng.random(80).round(1)
    p = np.column_stack([1 - scores, scores])
    how = {"task": "binary", "positive": 1}
    model = SimpleNamespace(**how, thresholds={"youden": 0.5})
    test = SimpleNamespace(labels=torch.from_numpy(true), groups=None)
    row = measure._compared(p, p[:, ::-1], model, test)
    assert row["reference"] == pytest.approx(effml.evaluate(p, true, **how).auroc)
    assert row["value"] == pytest.approx(1 - row["reference"])
    masks = (rng.random((9, 6, 6)) < 0.3).astype(int)
    masks[:2], p = 0, rng.random((9, 6, 6))
    p[1] = 0
    model = SimpleNamespace(task="segmentation", positive=None)
    test = SimpleNamespace(masks=torch.from_numpy(masks), groups=None)
    row = measure._compared(p, p, model, test)
    assert row["reference"] == pytest.approx(effml.evaluate_masks(p, masks).dice)
    assert row["loss"] == 0 and row["patients"] == 9


def test_patches_of_a_photograph_stay_together_in_the_intervals():
    from thakur import measure

    test = effml.load_dataset("phantom-wound:patches=32", size=64).test
    assert len(set(test.groups)) < len(test)
    truth = test.labels.numpy()
    p = np.clip(0.6 * truth + 0.2 + np.random.default_rng(0).normal(0, 0.2, len(truth)), 0, 1)
    p = np.column_stack([1 - p, p])
    model = {"task": "binary", "positive": 1, "thresholds": {"youden": 0.5}}
    model = dataclasses.make_dataclass("Model", model)(**model)
    row = measure._compared(p, p, model, test)
    assert row["patients"] == len(set(test.groups)) and row["loss"] == 0 and row["passed"]


def test_longer_trainings_are_told_by_net_and_epochs():
    row = thakur.longer().loc[("resnet18_3d", 8)]
    assert row.seeds == 3 and row["test AUROC"].startswith("0.796 [0.749, ")
    row = thakur.longer().loc[("resnet18_3d", 16)]
    assert row.seeds == 3 and row["test AUROC"].startswith("0.815 ")


def test_yardsticks_of_others_are_over_32_bits_in_openvino(folder):
    ours = thakur.yardsticks(thakur.measured(thakur.CLASSIFICATION, folder), "classification")
    assert ours["edge-xray-size"] == ours["gram-stain-quantised-size"] == pytest.approx([1] * 3)
    assert ours["edge-xray-x86"] == pytest.approx([3 / 4] * 3)  # the second, on one thread
    assert ours["edge-xray-auroc"] == pytest.approx([0.004, 0, 0.008])
    assert [name for name, one in ours.items() if not len(one)] == [
        "edge-xray-arm",
        "gram-stain-quantised-time",
        "gram-stain-pruned-size",
    ]
    found = thakur.measured(thakur.SEGMENTATION)
    ours = thakur.yardsticks(found, "segmentation")
    one = found[(found.workload == "MRI, brain 3-D") & (found.threads == 1)].set_index("mode")
    fp32, int8 = one.loc["openvino"], one.loc["openvino_int8"]
    assert ours["qu-int8-size"].value == fp32.file_bytes / int8.file_bytes
    assert ours["qu-int8-latency"].value == fp32.median_ms / int8.median_ms
    assert ours["thakur-brainmage-dice"] == pytest.approx(
        [fp32.loss, fp32.loss_low, fp32.loss_high]
    )
