"""The errors of a model's layers in 8 bits, by ONNX Runtime's tools (notebook 40)."""

import numpy as np
import pytest
import torch
from torch import nn

from layer_errors import layer_errors, widths


def decibels(signal, error):
    return 20 * np.log10(np.linalg.norm(signal) / np.linalg.norm(error))


def made():
    """A convolution, a ReLU, a linear layer; images."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    return net, torch.rand(6, 1, 8, 8).numpy() * 2 - 1


def test_the_rounding_of_what_comes_in_is_that_of_256_values_from_least_to_largest():
    net, images = made()
    found = layer_errors(net, images, images)
    assert len(found) == 2 and found.index[0].endswith("Conv") and found.index[1].endswith("Gemm")
    step = (images.max() - images.min()) / 255
    zero = np.round(-images.min() / step)
    error = step * (np.clip(np.round(images / step) + zero, 0, 255) - zero) - images
    assert found["so far"].iloc[0] == pytest.approx(decibels(images, error), abs=0.2)
    assert 20 < found["so far"].iloc[1] < found["so far"].iloc[0]


def test_a_range_that_calibration_has_not_seen_and_weights_on_one_step_show():
    net, images = made()
    good, dark = (layer_errors(net, seen, images) for seen in (images, images / 100))
    assert (
        (dark["so far"] < 3).all() and (good["so far"] > 30).all() and (good["weights"] > 35).all()
    )
    assert np.allclose(dark["weights"], good["weights"])  # what was shown does not matter to these


def test_widths_are_largest_over_typical_and_leave_the_model_alone():
    net, images = made()
    with torch.no_grad():
        net[0].weight[:] = 1
        net[0].weight[0, 0, 0, 0] = -6
    found, x = widths(net, torch.from_numpy(images)), images
    assert found.weights[0] == pytest.approx(6 / np.sqrt((35 + 36) / 36))
    assert found["incoming values"][0] == pytest.approx(np.abs(x).max() / np.sqrt((x**2).mean()))
    assert len(found) == 2 and not any(layer._forward_pre_hooks for layer in net)
