import copy
import pickle

import pytest
import torch

from effml.data import normalize
from effml.models import (
    MODELS,
    SEGMENTING,
    WeightsUnavailable,
    build_model,
    count,
    embed,
    takes_volumes,
    weights_bytes,
)


@pytest.mark.parametrize("name", [*MODELS, "mobilenetv2_050"])
@pytest.mark.parametrize("channels, classes, size", [(1, 2, 28), (3, 7, 32)])
def test_every_model_answers_every_shape_and_is_drawn_from_its_seed(name, channels, classes, size):
    def make(seed):
        return build_model(name, in_channels=channels, classes=classes, size=size, seed=seed)

    batch = torch.randn(2, channels, *[size] * (3 if takes_volumes(name) else 2))
    with torch.no_grad():
        first, again, other = (make(seed)(batch) for seed in (1, 1, 2))
    assert first.shape == (2, classes, *(batch.shape[2:] if name in SEGMENTING else ()))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


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
    assert model.pos_embed.shape == (1, 4 * 4 + 1, 192)
    assert model(torch.zeros(2, 1, 64, 64)).shape == (2, 2)
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
    assert torch.allclose(embed(grey, x), embed(colour, wide), atol=1e-2)


@pytest.mark.parametrize("name", [*MODELS, "mobilenetv2_050", "vit_tiny_patch16_224"])
def test_every_model_can_be_pickled_copied_and_filled(name):
    model = build_model(name, size=32, seed=1)
    batch = torch.randn(2, 1, *[32] * (3 if takes_volumes(name) else 2))
    other = build_model(name, size=32, seed=2)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), other):
            assert torch.equal(again(batch), model(batch))


class Twins(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Linear(784, 2), torch.nn.Linear(784, 2)

    def forward(self, x):
        x = x.flatten(1)
        return (self.a(x) + self.b(x)) / 2


def test_embeddings_come_from_loaders_and_arrays_alike_and_leave_the_model_as_it_is():
    images = torch.randint(0, 256, (30, 1, 28, 28), dtype=torch.uint8)
    model = build_model("lenet5", seed=0).train()
    model[7].eval()
    model[9].weight.requires_grad_(False)
    x = normalize(images)
    with torch.no_grad():
        truth = model[:-1](x)
    pairs = torch.utils.data.TensorDataset(images, torch.zeros(30))
    for loader in (
        *(images, images.numpy(), x, x.double(), x.split(7)),
        *([(part.numpy(), "name") for part in x.split(4)], (b for b in x.split(9))),
        torch.utils.data.DataLoader(pairs, batch_size=8),
    ):
        found = embed(model, loader)
        assert found.dtype == torch.float32 and not found.requires_grad
        assert torch.allclose(found, truth, atol=1e-6)
    assert model.training and not model[7].training and not model[9].weight.requires_grad
    assert model[0].weight.requires_grad and all(p.grad is None for p in model.parameters())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())
    loose = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.9), torch.nn.Linear(784, 2))
    assert torch.equal(embed(loose, images), x.flatten(1)) and loose.training
    assert torch.equal(embed(Twins(), images), x.flatten(1))  # what both see, once


@pytest.mark.parametrize(
    "loader, words",
    [
        ([], "no batch"),
        ([{"image": 1}], "got dict"),
        ([torch.ones(28)], r"got shape \(28,\)"),
        ([torch.ones(3, 28, 28)], "not single images"),
    ],
)
def test_what_is_no_loader_is_refused(loader, words):
    class Net(torch.nn.Sequential):
        def forward(self, x):
            return super().forward(x.flatten(-2)).reshape(-1, 2)[:2]

    with pytest.raises(ValueError, match=words):
        embed(Net(torch.nn.Linear(784, 2)), loader)


@pytest.mark.parametrize("classes", [2, 9])
def test_a_head_for_few_classes_does_not_drown_the_features(classes):
    """timm draws MobileNet's from ±1/√classes; a head of the right size stays as it is drawn."""
    from effml.machine import import_timm, seeded

    for name, same in (("mobilenetv2_050", False), ("efficientnet_b0", False), ("resnet18", True)):
        with seeded(3):
            plain = import_timm().create_model(name, in_chans=1, num_classes=classes)
        built = build_model(name, classes=classes, seed=3).get_classifier().weight
        theirs = plain.get_classifier().weight
        assert torch.equal(built, theirs) == same, name
        ratio = built / theirs
        assert torch.allclose(ratio, ratio[0, 0].expand_as(ratio))  # only its size differs
        bound = built.shape[1] ** -0.5
        size = float(built.detach().std())
        assert size < bound and (same or size == pytest.approx(bound / 3**0.5))


def test_a_head_that_was_learned_keeps_its_size(tmp_path):
    learned = build_model("mobilenetv2_050", classes=2, size=32, seed=1)
    with torch.no_grad():
        learned.get_classifier().weight.mul_(100)
    file = tmp_path / "weights.safetensors"
    file.write_bytes(weights_bytes(learned))
    again = build_model("mobilenetv2_050", classes=2, size=32, weights=str(file))
    assert torch.equal(again.get_classifier().weight, learned.get_classifier().weight)
