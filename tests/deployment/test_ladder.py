"""The ladder: a good model ships at INT8, a bad one falls, and each rung has its reason."""

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import effml
from effml import RUNTIMES, climb
from effml.deployment import ladder
from effml.deployment.ladder import FP32, LADDER, latencies, predicted
from effml.machine import import_timm
from effml.phantoms import make_phantom


@pytest.fixture(autouse=True)
def in_order(monkeypatch):
    """The rung that is judged is measured as the fastest: seconds differ from machine to machine."""
    monkeypatch.setattr(
        ladder, "latencies", lambda all, image: [1.0 + i for i, _ in enumerate(all)]
    )


@cache
def nodules():
    """Training images with labels, and 800 to judge by."""
    a = make_phantom("phantom-nodule", size=32, counts=(600, 800, 2), difficulty=0.2, seed=1)
    parts = [a[f"{s}_{what}"] for s in ("train", "val") for what in ("images", "labels")]
    x, y, v, w = map(torch.from_numpy, parts)
    return x[:, None], y[:, 0].long(), v[:, None], w[:, 0].long()


@cache
def trained(kind="cnn"):
    x, y, *_ = nodules()
    with effml.machine.seeded(0):
        if kind == "vit":
            sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}
            net = import_timm().models.VisionTransformer(**sizes, in_chans=1, num_classes=2)
        else:
            layers = nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU()
            layers += nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()
            net = nn.Sequential(*layers, nn.Linear(2048, 32), nn.ReLU(), nn.Linear(32, 2))
    effml.train(net, x, y, epochs=6, batch_size=32, learning_rate=2e-3)
    return net


def climbed(net, calibration=None, **how):
    x, _, v, w = nodules()
    calibration = x[:100] if calibration is None else calibration
    how = {"task": "binary", "positive": 1, "thresholds": {"youden": 0.5}, "threads": 1} | how
    return climb(net, x[:1], calibration, v, w.numpy(), **how)


def told(log):
    return {rung.runtime: rung.reason for rung in log}


def test_a_good_model_ships_at_int8():
    predictor, log = climbed(trained())
    assert [(rung.runtime, rung.ships) for rung in log] == [("openvino_int8", True)]
    assert predictor.precision == log[0].precision == "int8"
    assert log[0].verdict.passed and "non-inferior in all" in log[0].reason
    assert log[0].fastest_fp32 in FP32 and log[0].file_bytes == predictor.file_bytes


def test_what_is_calibrated_on_noise_falls_to_the_bottom():
    noise = torch.randn(50, 1, 32, 32, generator=torch.Generator().manual_seed(0)) / 100
    rungs = [name for name in LADDER if "bf16" not in name]
    predictor, log = climbed(trained(), noise, rungs=rungs)
    assert [rung.runtime for rung in log] == rungs and predictor.name == "openvino"
    assert [rung.ships for rung in log] == [False] * (len(rungs) - 1) + [True]
    for rung in log[:-1]:
        assert "refused by the gate" in rung.reason and "agreement at youden -0." in rung.reason


def test_damaged_weights_of_a_class_are_refused(monkeypatch):
    def damaged(model, example, calibration=None, **how):
        model = deepcopy(model)
        with torch.no_grad():
            model[-1].weight[1] *= 0.3
        return RUNTIMES["openvino"](model, example, **how)

    monkeypatch.setitem(RUNTIMES, "damaged", damaged)
    predictor, log = climbed(trained(), rungs=["damaged", "openvino"])
    assert predictor.name == "openvino" and not log[0].ships
    assert "sensitivity at youden -" in log[0].reason and "inferior" in log[0].reason


def test_what_is_no_faster_than_the_fastest_float32_falls_too(monkeypatch):
    monkeypatch.setattr(
        ladder, "latencies", lambda all, image: [9.0 - i for i, _ in enumerate(all)]
    )
    predictor, log = climbed(trained(), rungs=["openvino_int8", "openvino"])
    assert predictor.name == "openvino"
    assert "good enough" in log[0].reason and "not faster: 9000.00 ms an image" in log[0].reason
    assert log[0].milliseconds > log[0].fastest_fp32_milliseconds


def test_a_rung_that_cannot_be_built_is_passed_over_with_the_reason(monkeypatch):
    def broken(model, example, calibration=None, **how):
        raise RuntimeError("no such instruction")

    monkeypatch.setitem(RUNTIMES, "x", broken)
    _, log = climbed(trained(), rungs=["x", "openvino"])
    assert told(log)["x"] == "it cannot be built: no such instruction" and log[-1].ships


def test_where_no_rung_passes_nothing_ships():
    noise = torch.zeros(4, 1, 32, 32)
    with pytest.raises(ValueError, match="nothing is shipped:\n  openvino_int8: refused"):
        climbed(trained(), noise, rungs=["openvino_int8"])
    with pytest.raises(ValueError, match="Choose from: .*openvino_int8"):
        climbed(trained(), rungs=["int8"])


def test_a_transformer_without_its_preset_falls_to_the_preset():
    """A feature made 200 times as large, and its weights as much smaller: the same function, and
    too wide a range for 8 bits unless the preset evens it out."""
    net = deepcopy(trained("vit")).eval()
    before = effml.predict(net, nodules()[2], task="binary")
    with torch.no_grad():
        for block in net.blocks:
            for norm, layer in ((block.norm1, block.attn.qkv), (block.norm2, block.mlp.fc1)):
                norm.weight[0] *= 200
                norm.bias[0] *= 200
                layer.weight[:, 0] /= 200
    assert np.abs(effml.predict(net, nodules()[2], task="binary") - before).max() < 1e-4
    rungs = ["openvino_int8", "openvino_int8_transformer", "openvino"]
    predictor, log = climbed(net, rungs=rungs)
    assert predictor.name == "openvino_int8_transformer"
    assert "refused by the gate" in log[0].reason and log[1].ships


def test_seconds_are_medians_in_turns():
    predictor, _ = climbed(trained(), rungs=["openvino"])
    found = latencies([predictor, predictor], np.zeros((1, 1, 32, 32), np.float32), budget=0.01)
    assert len(found) == 2 and all(0 < one < 1 for one in found)


def test_many_images_are_predicted_as_one_by_one():
    predictor, _ = climbed(trained(), rungs=["openvino"])
    images = nodules()[2][:70]
    each = [predicted(predictor, images[i : i + 1], "binary") for i in range(70)]
    assert np.allclose(predicted(predictor, images, "binary"), np.concatenate(each), atol=1e-6)
