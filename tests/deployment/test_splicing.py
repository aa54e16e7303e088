"""Batch splicing: pixels where they belong, and the model's numbers for each image."""

import numpy as np
import pytest
import torch

from effml import build_model, build_predictor
from effml.deployment.splicing import apart, exact, masked, splice

N, SHAPE, GUTTER = 5, (1, 16, 24), 8


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    model, images = build_model("unet", classes=2, seed=0), torch.randn(N, *SHAPE)
    with torch.no_grad():
        model.train()(images)  # biases behind the batch norms
    return model.eval(), images.numpy()


def logits(model, images):
    with torch.inference_mode():
        return model(torch.from_numpy(images)).numpy()


@pytest.mark.parametrize("n", [1, 2, 5, 9])
@pytest.mark.parametrize("gutter", [0, 3])
def test_images_come_apart_as_they_were_and_nothing_is_between_them(n, gutter):
    images = np.random.default_rng(n).uniform(1, 2, (n, 2, 3, 4)).astype(np.float32)
    canvas = splice(images, gutter)
    assert np.array_equal(apart(canvas, n, (3, 4), gutter), images)
    assert np.count_nonzero(canvas) == images.size  # each pixel once, zeros elsewhere
    assert canvas.shape[2] * canvas.shape[3] < 4 * n * (3 + gutter) * (4 + gutter)


def test_a_gutter_alone_is_not_exact_and_one_that_is_zero_at_each_layer_is(unet):
    model, images = unet
    wanted, canvas = logits(model, images), splice(images, GUTTER)
    assert np.abs(apart(logits(model, canvas), N, SHAPE[1:], GUTTER) - wanted).max() > 0.01
    masked = exact(model, SHAPE, N, GUTTER)
    assert apart(logits(masked, canvas), N, SHAPE[1:], GUTTER) == pytest.approx(wanted, abs=1e-5)
    assert np.array_equal(logits(model, images), wanted)  # the model is as it was


def test_images_of_several_sizes_lie_where_the_mask_says(unet):
    model, images = unet
    places, canvas = np.zeros((1, 1, 32, 48), np.float32), np.ones((1, 1, 32, 48), np.float32)
    corners = [(0, 0, 16), (0, 24, 24), (24, 8, 8)]  # top, left, width
    for i, (top, left, wide) in enumerate(corners):
        high = min(16, 32 - top)
        places[0, 0, top : top + high, left : left + wide] = 1
        canvas[0, 0, top : top + high, left : left + wide] = images[i, 0, :high, :wide]
    given = logits(masked(model, places), canvas)
    for i, (top, left, wide) in enumerate(corners):
        alone = logits(model, images[i : i + 1, :, : min(16, 32 - top), :wide])[0]
        own = given[0, :, top : top + alone.shape[1], left : left + wide]
        assert own == pytest.approx(alone, abs=1e-5)


def test_on_an_engine_too(unet):
    model, images = unet
    canvas = splice(images, GUTTER)
    predictor = build_predictor(exact(model, SHAPE, N, GUTTER), "openvino", canvas, threads=1)
    given = apart(predictor(canvas), N, SHAPE[1:], GUTTER)
    assert given == pytest.approx(logits(model, images), abs=1e-4)


@pytest.mark.parametrize(
    "name, shape, gutter",
    [("unet", SHAPE, 4), ("unet", (1, 20, 20), 8), ("lenet5", (1, 28, 28), 8)],
)
def test_what_cannot_be_exact_is_refused(name, shape, gutter):
    with pytest.raises(ValueError, match="multiples of the model's stride"):
        exact(build_model(name, seed=0), shape, 4, gutter)
