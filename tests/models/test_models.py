import pytest
import torch

from effml.models import MODELS, SEGMENTING, WeightsUnavailable, build_model, count, weights_bytes


@pytest.mark.parametrize("name", [*MODELS, "mobilenetv2_050"])
@pytest.mark.parametrize("channels, classes, size", [(1, 2, 28), (3, 7, 32)])
def test_every_model_answers_every_shape_and_is_drawn_from_its_seed(name, channels, classes, size):
    def make(seed):
        return build_model(name, in_channels=channels, classes=classes, size=size, seed=seed)

    batch = torch.randn(2, channels, *[size] * (3 if name == "unet3d" else 2))
    with torch.no_grad():
        first, again, other = (make(seed)(batch) for seed in (1, 1, 2))
    assert (
        first.shape == (2, classes, *(batch.shape[2:] if name in SEGMENTING else ()))
        and torch.equal(first, again)
        and not torch.equal(first, other)
    )


def test_counts_by_hand():
    lenet300 = count(build_model("lenet300_100", classes=10), torch.zeros(1, 1, 28, 28))
    assert lenet300["params"] == 266_610  # Han et al. 2015: 267 k
    assert lenet300["macs"] == 784 * 300 + 300 * 100 + 100 * 10
    lenet5 = build_model("lenet5", classes=10)
    assert (
        count(lenet5, torch.zeros(1, 1, 28, 28))["params"] == 61_706
    )  # the well-known count of LeNet-5
    assert count(lenet5, torch.zeros(1, 1, 28, 28))["macs"] == (
        28**2 * 6 * 25 + 10**2 * 16 * 6 * 25 + 400 * 120 + 120 * 84 + 84 * 10
    )
    lenet5[0].weight.data.zero_()
    assert count(lenet5, torch.zeros(1, 1, 28, 28))["nonzero_params"] == 61_706 - 150


def test_the_medmnist_stem_keeps_the_resolution():
    model = build_model("resnet18_medmnist")
    assert model.layer1(model.maxpool(model.conv1(torch.zeros(1, 1, 28, 28)))).shape == (
        1,
        64,
        28,
        28,
    )
    assert count(model, torch.zeros(1, 1, 28, 28))["params"] == 11_168_706 + 64 * 9 - 576


def test_a_transformer_is_built_for_the_size_of_the_images():
    """64 px in patches of 16: 4 × 4 patches and the class token have a position each."""
    model = build_model("vit_tiny_patch16_224", size=64)
    assert model.pos_embed.shape == (1, 4 * 4 + 1, 192) and model(
        torch.zeros(2, 1, 64, 64)
    ).shape == (2, 2)
    assert build_model("vit_tiny_patch16_224", size=224).pos_embed.shape == (1, 14 * 14 + 1, 192)


def test_unknown_names_and_small_images_are_instructions():
    with pytest.raises(ValueError, match="Unknown model 'resnet-18'. Choose from: lenet5"):
        build_model("resnet-18")
    with pytest.raises(ValueError, match="at least 12 px"):
        build_model("lenet5", size=11)


def test_weights_asked_for_and_not_had_are_never_random():
    for name, weights, words in (
        ("lenet5", "imagenet", "no ImageNet weights"),
        ("lenet5", "no.safetensors", "no weights file"),
        ("resnet18", "no.safetensors", "no weights file"),
        ("resnet18", "imagenet", "could not be loaded"),
    ):
        with pytest.raises(WeightsUnavailable, match=words):
            build_model(name, weights=weights)


@pytest.mark.parametrize("name", ["lenet5", "mobilenetv2_050"])
def test_weights_from_a_file(tmp_path, name):
    model = build_model(name, seed=5)
    path = tmp_path / "w.safetensors"
    path.write_bytes(weights_bytes(model))
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            model.parameters(), build_model(name, weights=str(path), seed=6).parameters()
        )
    )
    path.write_bytes(b"no tensors")
    with pytest.raises(WeightsUnavailable):
        build_model(name, weights=str(path))


def test_half_precision_colour_weights_serve_a_grey_model_of_other_classes(tmp_path):
    """A grey image in three channels has the same features: the kernels of the stem are added up, and fp16 is cast."""
    from safetensors.torch import save_file

    from effml.models import embed

    colour = build_model("mobilenetv2_050", in_channels=3, classes=5, size=32, seed=1)
    path = tmp_path / "half.safetensors"
    save_file(
        {
            name: tensor.half() if tensor.ndim > 1 else tensor
            for name, tensor in colour.state_dict().items()
        },
        path,
    )
    grey = build_model("mobilenetv2_050", in_channels=1, classes=2, size=32, weights=str(path))
    x = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert {p.dtype for p in grey.parameters()} == {torch.float32} and grey(x).shape == (4, 2)
    wide = x.repeat(1, 3, 1, 1)
    assert torch.allclose(
        embed(grey, lambda part: x[part], 4), embed(colour, lambda part: wide[part], 4), atol=1e-2
    )
