"""The smallest keep from validation, against scores whose answer is known."""

import pytest
import torch
from torch import nn

from effml.compression import COMPRESSORS, smallest_keep
from effml.models import ResidualBlock, build_model

pytestmark = pytest.mark.usefixtures("one_thread")
EXAMPLE = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def rank(model: nn.Module) -> int:
    """Of the first layer with two factors; 64, the full one, without."""
    return model[1][0].out_features if isinstance(model[1], nn.Sequential) else 64


@pytest.mark.parametrize(
    "tolerance, keep",
    [(0.25, 0.75), (0.5, 0.5), (0.6, 0.40625), (0.96875, 0.03125), (2.0, 0.03125)],
)
def test_a_score_that_is_the_kept_rank_gives_that_rank(tolerance, keep):
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 2))
    small, report = smallest_keep(
        COMPRESSORS["svd"], model, lambda net: rank(net) / 64, tolerance=tolerance, example=EXAMPLE
    )
    assert (
        report.keep == keep and rank(small) == 64 * keep
    )  # the least multiple of 1/32 at or above 1 - tolerance
    assert report.seed == 0  # the default
    assert rank(small) / 64 >= 1 - tolerance and "scores: 0.5000 at 0.5" in report.notes[-1]


def test_when_nothing_is_good_enough_the_model_comes_back():
    model = build_model("lenet5")
    small, report = smallest_keep(
        COMPRESSORS["svd"], model, lambda net: float(net is model), tolerance=0.5, example=EXAMPLE
    )
    assert report.keep == report.kept == 1
    assert report.layers == {}
    assert "no keep below 1" in report.notes[-1]
    assert small is not model and torch.equal(small(EXAMPLE), model(EXAMPLE))


@pytest.mark.parametrize("name", COMPRESSORS)
def test_every_compressor_can_be_asked(name):
    model = build_model("lenet_srinivas")
    if name.startswith("channels"):
        last = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2)
        model = nn.Sequential(ResidualBlock(2, 1, 8), ResidualBlock(2, 8, 16, 2), *last).eval()
    with torch.no_grad():
        truth = model(EXAMPLE)
    small, report = smallest_keep(
        COMPRESSORS[name],
        model,
        lambda net: -float((net(EXAMPLE) - truth).detach().norm()),
        tolerance=float(truth.norm()) / 2,
        example=EXAMPLE,
        steps=3,
        data=EXAMPLE if name == "channels_taylor" else None,
    )
    assert 0 < report.keep <= 1 and report.method == name
    assert (small(EXAMPLE) - truth).norm() <= truth.norm() / 2
    assert not model.training and torch.equal(model(EXAMPLE), truth)


def test_what_cannot_be_asked_is_an_instruction():
    model, compress = build_model("lenet5"), COMPRESSORS["svd"]
    with pytest.raises(ValueError, match="at keep=1 is nan: give a function"):
        smallest_keep(compress, model, lambda net: float("nan"), tolerance=0.1, example=EXAMPLE)
    with pytest.raises(ValueError, match="tolerance=-1, steps=5"):
        smallest_keep(compress, model, lambda net: 1.0, tolerance=-1, example=EXAMPLE)
