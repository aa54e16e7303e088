"""The field `runtime`: the record's quality and costs are those of that runtime."""

import sys

import numpy as np
import pytest

from effml import Recipe, load_arrays, load_run, run

BASE = Recipe(model="lenet5", epochs=1, threads=1)


def test_the_test_split_is_predicted_by_the_runtime_in_a_fresh_process(tmp_path):
    eager, same, eight = (
        run(BASE.but(runtime=name), device="cpu", store=tmp_path, keep_weights=True)
        for name in ("eager", "openvino", "openvino_int8")
    )
    assert [r.status for r in (eager, same, eight)] == ["ok"] * 3, same.reason
    whole, engine, low = (load_arrays(tmp_path, r.run_id) for r in (eager, same, eight))
    for split in ("test", "val"):
        wanted = whole[f"{split}_probabilities"]
        assert engine[f"{split}_probabilities"] == pytest.approx(wanted, abs=1e-5)
        assert 1e-6 < np.abs(low[f"{split}_probabilities"] - wanted).max() < 0.05
    assert same.test_auroc == pytest.approx(eager.test_auroc, abs=1e-3)
    assert (eager.runtime_precision, same.runtime_precision) == (None, "f32")
    assert eight.runtime_precision == "int8"
    assert eight.runtime_file_bytes < 0.5 * same.runtime_file_bytes
    assert same.runtime_build_seconds > 0 and same.infer_seconds > 0
    assert same.infer_peak_memory_bytes < 0.7 * eager.infer_peak_memory_bytes  # without torch
    assert "those of runtime=openvino_int8" in load_run(eight.run_id, tmp_path).notes[-1]
    assert eight.best_epoch == eager.best_epoch and eight.train_n == eager.train_n


def test_masks_and_a_runtime_that_trains_again(tmp_path):
    masks = Recipe(data="phantom-tissue", size=32, model="unet", epochs=1, threads=1)
    eager, engine, cut = (
        run(masks.but(runtime=name), device="cpu")
        for name in ("eager", "onnxruntime", "openvino_int8_pruned60")
    )
    assert [r.status for r in (eager, engine, cut)] == ["ok"] * 3, cut.reason
    assert engine.test_dice == pytest.approx(eager.test_dice, abs=1e-3)
    assert cut.runtime_precision == "int8" and "of the parameters cut" in cut.notes
    assert cut.runtime_file_bytes < 0.2 * engine.runtime_file_bytes
    assert cut.runtime_build_seconds > 0.5 * cut.train_seconds


def test_an_unknown_runtime_and_a_missing_package(monkeypatch):
    with pytest.raises(ValueError, match="Unknown runtime 'tensorrt'. Choose from: eager, "):
        Recipe(runtime="tensorrt")
    monkeypatch.setitem(sys.modules, "openvino", None)
    record = run(BASE.but(runtime="openvino"), device="cpu")
    assert record.status == "failed" and "pip install -e '.[inference]'" in record.reason
