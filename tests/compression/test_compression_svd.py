"""Low-rank layers against torch's SVD, and magnitude pruning by hand."""

import pytest
import torch
from torch import nn

from effml.compression import COMPRESSORS
from effml.compression.factorization import (
    SCHEMES,
    as_matrix,
    break_even,
    factorize_layer,
    low_rank,
    product_grams,
    rank_of_energy,
)
from effml.models import build_model

LAYERS = {
    "linear": (nn.Linear(9, 14), (5, 9)),
    "wide": (nn.Linear(20, 6, bias=False), (5, 20)),
    "conv": (nn.Conv2d(3, 8, 3, padding=1), (2, 3, 9, 11)),
    "odd": (nn.Conv2d(4, 5, (3, 2), (2, 1), (1, 2), (1, 2), bias=False), (2, 4, 9, 11)),
    "same": (nn.Conv2d(3, 4, 3, padding="same", padding_mode="reflect"), (2, 3, 9, 11)),
    "valid": (nn.Conv2d(3, 4, 3, padding="valid"), (2, 3, 9, 11)),
    "1x1": (nn.Conv2d(3, 4, 1), (2, 3, 9, 11)),
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", LAYERS)
def test_at_full_rank_two_layers_are_the_one(kind, scheme):
    layer, shape = LAYERS[kind]
    x = torch.randn(*shape)
    with torch.no_grad():
        pair = factorize_layer(layer, min(as_matrix(layer, scheme).shape), scheme)
        assert torch.allclose(pair(x), layer(x), atol=1e-5)


@pytest.mark.parametrize("shape", [(30, 12), (12, 30), (17, 17)])
def test_the_gram_matrix_gives_the_truncated_svd_of_torch(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, right, energies = low_rank(matrix)
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    assert torch.allclose(energies, s**2)
    for rank in (1, 5, 12):
        assert torch.allclose(
            left[:, :rank] @ right[:rank], u[:, :rank] * s[:rank] @ v[:rank], atol=1e-5
        )


def test_weighing_with_the_data_is_best_on_them_and_equals_the_whitened_svd():
    generator = torch.Generator().manual_seed(1)
    matrix, x = (
        torch.randn(10, 6, generator=generator).double(),
        torch.randn(500, 6, generator=generator).double(),
    )
    x = x * torch.tensor([5, 3, 1, 1, 0.1, 0.1]) @ torch.randn(6, 6, generator=generator).double()
    left, right, _ = low_rank(matrix, matrix @ x.T @ x @ matrix.T / 500)
    plain_left, plain_right, _ = low_rank(matrix)
    best = torch.linalg.svdvals(x @ matrix.T)
    for rank in (1, 3):
        error = (x @ (matrix - left[:, :rank] @ right[:rank]).T).norm()
        assert float(error) == pytest.approx(
            float(best[rank:].norm())
        )  # Eckart and Young: no rank can do better
        assert error < (x @ (matrix - plain_left[:, :rank] @ plain_right[:rank]).T).norm()


@pytest.mark.parametrize("shape", [(17, 17), (12, 30), (30, 12)])
def test_half_precision_weights_are_factorised_too(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)).bfloat16()
    left, right, _ = low_rank(matrix)
    assert torch.allclose(left @ right, matrix.double(), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_at_full_rank_the_weighed_factors_give_the_matrix_in_any_precision_of_the_gram_matrix(
    dtype,
):
    matrix = torch.randn(40, 30, generator=torch.Generator().manual_seed(2))
    left, right, _ = low_rank(matrix, (matrix @ matrix.T).to(dtype))
    assert torch.allclose(left @ right, matrix.double(), atol=1e-5)


def test_the_gram_matrix_of_the_products_is_that_of_the_outputs_without_bias():
    torch.manual_seed(0)
    layer, x = nn.Conv2d(2, 5, 3, stride=2, padding=1), torch.randn(40, 2, 9, 9)
    out = (layer(x) - layer.bias[:, None, None]).detach().transpose(0, 1).flatten(1)
    grams = product_grams(nn.Sequential(layer), {"0": layer}, "channel", x)
    assert torch.allclose(grams["0"], out @ out.T / out.shape[1], atol=1e-5)
    assert product_grams(nn.Sequential(layer), {"0": layer}, "spatial", x)["0"].shape == (15, 15)


def test_rank_of_energy_and_break_even_by_hand():
    assert [
        rank_of_energy(torch.tensor([8.0, 1.0, 1.0]), keep) for keep in (0.5, 0.8, 0.81, 0.9, 1.0)
    ] == [1, 1, 2, 2, 3]
    assert break_even(4, 4) == 2 and break_even(64, 576) == 57.6


@pytest.mark.parametrize("name", ["svd", "svd_spatial", "svd_energy", "svd_spatial_energy"])
@pytest.mark.parametrize("keep", [0.2, 0.6, 0.95])
def test_no_layer_ever_grows(name, keep):
    model, example = build_model("unet", size=32), torch.randn(1, 1, 32, 32)
    small, report = COMPRESSORS[name](model, keep, example=example)
    for layer, done in report.layers.items():
        old = model.get_submodule(layer).weight.numel()
        new = sum(part.weight.numel() for part in small.get_submodule(layer))
        assert new < old and small.get_submodule(layer)[0].weight.shape[0] == done["rank"]
    assert "head" not in report.layers and report.after["params"] <= report.before["params"]
    assert keep > 0.9 or len(report.layers) > 10


@pytest.mark.parametrize(
    "keep, cut, kept",
    [
        (0.05, {"1": 1, "3": 1}, 2 / 8),  # one at least
        (0.25, {"1": 1, "3": 1}, 2 / 8),
        (0.5, {"1": 2}, 6 / 8),  # two ranks of a 4 × 4 hold as many weights as it: it stays
        (0.9, {}, 1),
    ],
)
def test_ranks_and_the_fraction_kept_by_hand(keep, cut, kept):
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(16, 4), nn.Dropout(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)
    )
    small, report = COMPRESSORS["svd"](model, keep, example=torch.ones(1, 1, 4, 4))
    assert {name: layer["rank"] for name, layer in report.layers.items()} == cut
    assert report.kept == kept and isinstance(small[5], nn.Linear)
    assert any("Give a smaller keep" in note for note in report.notes) == (not cut)


def test_the_last_layer_of_a_net_of_convolutions_stays_and_no_hook_is_left_behind():
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    images = torch.rand(6, 1, 9, 9)
    small, report = COMPRESSORS["svd"](model, 0.25, example=images[:1], data=images)
    assert list(report.layers) == ["0"] and torch.equal(small[2].weight, model[2].weight)
    product_grams(model, {"2": model[2]}, "channel", images)
    assert not any(m._forward_pre_hooks for net in (small, model) for m in net.modules())


def test_data_lessen_the_error_of_the_outputs():
    torch.manual_seed(0)
    images = torch.rand(64, 1, 28, 28) ** 4
    model = build_model("lenet5", classes=3)
    for name in ("svd", "svd_spatial"):
        error = [
            float(
                (
                    COMPRESSORS[name](model, 0.4, example=images[:1], data=data)[0](images)
                    - model(images)
                )
                .detach()
                .norm()
            )
            for data in (None, images)
        ]
        assert error[1] < 0.7 * error[0], name


def test_unknown_ranks_schemes_and_layers_are_instructions():
    layer = nn.Conv2d(3, 8, 3)
    with pytest.raises(ValueError, match="rank=9 is not possible for a 8 × 27 matrix: 1 to 8 is"):
        factorize_layer(layer, 9)
    with pytest.raises(ValueError, match="Unknown scheme 'tucker'. Choose from: channel, spatial"):
        factorize_layer(layer, 2, "tucker")
    with pytest.raises(ValueError, match="cannot be factorised: give a Linear"):
        factorize_layer(nn.Conv2d(4, 8, 3, groups=2), 2)


def test_magnitude_keeps_the_largest_of_each_layer_or_of_all():
    model, example = (
        nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2)),
        torch.ones(1, 1, 2, 2),
    )
    model[1].weight.data = torch.tensor([[1.0, -2, 3, -4], [5, -6, 7, -8]])
    model[3].weight.data = torch.tensor([[0.1, -0.2], [0.3, -0.4]])
    local, report = COMPRESSORS["magnitude"](model, 0.5, example=example)
    assert local[1].weight.tolist() == [[0, 0, 0, 0], [5, -6, 7, -8]]
    assert local[3].weight.count_nonzero() == 2
    assert report.kept == 0.5
    assert "latency stay" in report.notes[0]
    assert report.after["file_bytes"] == report.before["file_bytes"]
    whole, report = COMPRESSORS["magnitude_global"](model, 0.5, example=example)
    assert whole[1].weight.tolist() == [[0, 0, 3, -4], [5, -6, 7, -8]] and not whole[3].weight.any()
    assert report.layers["3"]["nonzero"] == 0 and type(report.layers["3"]["nonzero"]) is int


@pytest.mark.parametrize(
    "name, keep, left",
    [
        ("magnitude", 0.7, [14, 7]),
        ("magnitude_global", 0.7, [12, 9]),  # of equals the first of the first layer go
        ("magnitude", 0.99, [20, 10]),
        ("magnitude", 0.01, [1, 1]),
        ("magnitude_global", 0.01, [0, 1]),
    ],
)
def test_magnitude_keeps_as_many_as_asked_of_equal_weights(name, keep, left):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Linear(5, 2))
    for layer in (model[1], model[2]):
        layer.weight.data.sign_()  # as weights of one bit are
        layer.weight.data[1, 1] /= 2
    small, report = COMPRESSORS[name](model, keep, example=torch.ones(1, 1, 2, 2))
    assert [int(layer.weight.count_nonzero()) for layer in (small[1], small[2])] == left
    assert report.kept == sum(left) / 30 and (keep == 0.99 or small[1].weight[1, 1] == 0)
