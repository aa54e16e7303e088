"""Latency: models whose time, turns and memory are known."""

import os
import time
from itertools import groupby, product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from effml import build_predictor, measure_latency
from effml.deployment import worker
from effml.deployment.latency import predict_elsewhere

IMAGES = np.zeros((8, 1, 4, 4), np.float32)


class Known(nn.Module):
    """Takes 200 MB and, if it is slow, 0.2 s; notes who ran it where."""

    def __init__(self, name, notes):
        super().__init__()
        self.name, self.notes, self.last = name, str(notes), nn.Linear(16, 2)

    def forward(self, x):
        with open(self.notes, "a") as file:
            print(self.name, os.getpid(), len(x), os.environ.get("OMP_WAIT_POLICY"), file=file)
        if self.name == "broken" and os.environ.get("OMP_WAIT_POLICY"):
            raise ValueError("no such kernel")
        held = torch.ones(50_000_000)
        time.sleep(0.2 * (self.name == "slow"))
        return self.last(x.flatten(1)) + 0 * held[0]


@pytest.fixture
def known(tmp_path, monkeypatch):
    """Makes an eager predictor of a Known, which the processes can import."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    notes = tmp_path / "notes"
    return lambda name: build_predictor(Known(name, notes), "eager", IMAGES, threads=1), notes


def test_time_and_memory_are_those_of_the_model_in_processes_by_turns(known):
    make, notes = known
    predictors = [make("slow"), make("fast")]
    notes.unlink()  # what the builds wrote
    rows = measure_latency(predictors, IMAGES, batch=4, seconds=0.2, warmup=0.0)
    for row in rows:
        assert row.median_ms <= row.p95_ms
        assert row.images_per_s == pytest.approx(4000 / row.median_ms)
        assert (row.runtime, row.precision, row.threads, row.batch) == ("eager", "f32", 1, 4)
        assert len(row.turns_ms) == 5 and row.median_ms <= max(row.turns_ms)
        assert row.passes >= 15 and row.peak_memory_bytes > 200e6
        assert not row.joules_low > row.joules_per_1000 and row.energy_source
    assert rows[0].median_ms >= max(200, rows[1].median_ms + 50)
    lines = [line.split() for line in notes.read_text().splitlines()]
    assert [name for name, _ in groupby(line[0] for line in lines)] == ["slow", "fast"] * 6
    assert len({line[1] for line in lines} - {str(os.getpid())}) == 2
    assert {tuple(line[2:]) for line in lines} == {("4", "PASSIVE")}


def test_each_predictor_may_have_its_own_images_and_batch(known):
    make, notes = known
    predictors = [make("slow"), make("fast")]
    notes.unlink()
    images = [IMAGES[:2], IMAGES]
    how = {"batch": [np.int64(2), 5], "seconds": 0.0, "warmup": 0.0, "rounds": 2}
    rows = measure_latency(predictors, images, **how)
    for row, batch in zip(rows, (2, 5)):
        assert row.batch == batch and len(row.turns_ms) == 2 and row.passes == 6
        assert min(row.turns_ms) <= row.median_ms <= max(row.turns_ms)
    assert min(rows[0].turns_ms) > 200
    lines = [line.split() for line in notes.read_text().splitlines()]
    assert {(line[0], line[2]) for line in lines} == {("slow", "2"), ("fast", "5")}


def test_an_engine_without_torch_takes_less_memory_and_a_saved_folder_is_as_good(tmp_path):
    model, images = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), IMAGES
    eager = build_predictor(model, "eager", images, threads=1)
    folder = build_predictor(model, "openvino", images, threads=1).save(tmp_path / "saved")
    torchs, engines = measure_latency([eager, folder], images, seconds=0.05, warmup=0.0)
    assert engines.peak_memory_bytes < 0.7 * torchs.peak_memory_bytes
    one = measure_latency(folder, images, seconds=0.05, warmup=0.0, threads=2)
    assert (one.runtime, one.threads, one.batch) == ("openvino", 2, 1)


def test_a_fresh_process_predicts_images_as_they_are_stored(known):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    predictor = build_predictor(model, "openvino", IMAGES, threads=1)
    stored = np.random.default_rng(0).integers(0, 256, (5, 1, 4, 4), dtype=np.uint8)
    logits, cost = predict_elsewhere(predictor, stored)
    with torch.inference_mode():
        wanted = model(torch.from_numpy(stored).div(127.5).sub(1)).numpy()
    assert logits == pytest.approx(wanted, abs=1e-5)
    assert cost["infer_seconds"] > 0 and cost["infer_peak_memory_bytes"] > 1e7


def test_timed_images_lie_in_memory_that_the_engine_need_not_copy(tmp_path):
    np.save(file := tmp_path / "x.npy", IMAGES)
    for array in (np.load(file, mmap_mode="r"), IMAGES.astype(np.uint8)[..., ::-1]):
        found = worker._floats(array)
        assert type(found) is np.ndarray and found.dtype == np.float32
        assert found.flags.writeable and found.flags.c_contiguous and found.base is None


def test_what_goes_wrong_is_said(known):
    make, _ = known
    with pytest.raises(ValueError, match="batch=9 of 8 images: give 1 to 8"):
        measure_latency(make("a"), IMAGES, batch=9)
    with pytest.raises(ValueError, match="batch is a list of 2: give 1"):
        measure_latency(make("a"), IMAGES, batch=[1, 8])
    with pytest.raises(ValueError, match="images is a list of 1: give 2"):
        measure_latency([make("a"), make("b")], [IMAGES])
    with pytest.raises(ValueError, match="batch=9 of 8"):
        measure_latency([make("a"), make("b")], IMAGES, batch=[1, 9])
    for wrong in (9, 0, 1.5, "1", [1, 2.0]):
        with pytest.raises(ValueError, match="batch=.* of 8 images: give 1 to 8, a whole number"):
            measure_latency([make("a"), make("b")], IMAGES, batch=wrong)
    for name, wrong in product(("rounds", "threads"), (0, -3, 1.5, "2", np.nan)):
        with pytest.raises(ValueError, match=f"{name}={wrong!r}: give a whole number"):
            measure_latency(make("a"), IMAGES, **{name: wrong})
    for name, wrong in product(("seconds", "warmup"), (-1, np.nan, np.inf)):
        with pytest.raises(ValueError, match="no seconds below 0 or without end"):
            measure_latency(make("a"), IMAGES, **{name: wrong})
    with pytest.raises(ValueError, match="0 predictors"):
        measure_latency([], IMAGES)
    with pytest.raises(ValueError, match="Linear is no predictor: give what effml.build_predictor"):
        measure_latency(nn.Linear(2, 2), IMAGES)
    with pytest.raises(FileNotFoundError, match="that predictor.save"):
        measure_latency("no-such-folder", IMAGES)
    with pytest.raises(
        ValueError, match=r"images are \(8, 1, 4, 3\), and eager takes \(N, 1, 4, 4"
    ):
        measure_latency(make("a"), IMAGES[..., 1:])
    with pytest.raises(RuntimeError, match=r"ended \(1\): ValueError: no such kernel"):
        measure_latency(make("broken"), IMAGES, seconds=0.1)
