"""Channel pruning: the pruned model is the parent with those channels zeroed, on every way channels depend on each other."""
import copy

import pytest
import torch
from torch import nn

from effml.compression import COMPRESSORS
from effml.compression.channels import reestimate
from effml.models import build_model

CUTS = ("channels", "channels_bn", "channels_random")
NETS = {"plain": "lenet5", "residual": "resnet10t", "dense": "densenet121", "depthwise": "mobilenetv2_050", "squeeze": "mobilenetv3_small_050",
        "skip": "unet"}


pytestmark = pytest.mark.usefixtures("one_thread")


def images(n=4):
    return torch.randn(n, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def alive(name, seed=3):
    """A model whose batch norm has scales, shifts and statistics of its own, as after training."""
    model = build_model(name, classes=3, size=32, seed=seed)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data.uniform_(0.5, 1.5)
            layer.bias.data.normal_(std=0.3)
            layer.running_mean.normal_(std=0.3)
            layer.running_var.uniform_(0.5, 1.5)
    return model


def zeroed(model, report):
    """The parent with every output that the report does not keep set to zero, weights, scales and shifts alike."""
    model = copy.deepcopy(model)
    for name, done in report.layers.items():
        layer = model.get_submodule(name)
        if "out" in done and getattr(layer, "weight", None) is not None:
            gone = [n for n in range(len(layer.weight)) if n not in set(done["out"])]
            layer.weight.data[gone] = 0
            if layer.bias is not None:
                layer.bias.data[gone] = 0
    return model


@pytest.mark.parametrize("kind, method", [*((kind, "channels") for kind in NETS), ("residual", "channels_random"),
                                          ("depthwise", "channels_random"), ("residual", "channels_bn")])
def test_the_pruned_model_is_the_parent_with_those_channels_zeroed(kind, method):
    model = alive(NETS[kind])
    small, report = COMPRESSORS[method](model, 0.6, example=images(), seed=1)
    with torch.no_grad():
        expected, got, whole = (net.eval()(images()) for net in (zeroed(model, report), small, model))
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert not torch.allclose(got, whole, rtol=1e-2, atol=1e-3 * float(whole.abs().max()))
    assert report.after["params"] < 0.5 * report.before["params"] and report.after["macs"] < 0.6 * report.before["macs"]
    for name, done in report.layers.items():  # the kept indices have the shapes of the layers
        layer = small.get_submodule(name)
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and "out" in done:
            assert len(done["out"]) == len(layer.weight)


def test_the_smallest_scales_go_by_bn_and_the_smallest_weights_by_magnitude():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    model[1].weight.data = torch.tensor([1.0, 0.1, 2.0, 0.2])
    assert COMPRESSORS["channels_bn"](model, 0.5, example=images())[1].layers["0"]["out"] == [0, 2]
    model[1].weight.data.fill_(1)
    model[0].weight.data[:] = torch.tensor([0.1, 5, 0.2, 4])[:, None, None, None]
    model[5].weight.data.fill_(1)
    assert COMPRESSORS["channels"](model, 0.5, example=images())[1].layers["0"]["out"] == [1, 3]
    with pytest.raises(ValueError, match="has no batch normalisation.*Choose channels"):
        COMPRESSORS["channels_bn"](build_model("lenet5"), 0.5, example=images()[..., :28, :28])


def test_the_head_keeps_its_classes_and_attention_its_heads():
    model = build_model("vit_tiny_patch16_224", classes=3, size=32)
    small, report = COMPRESSORS["channels"](model, 0.5, example=images())
    block = small.blocks[0].attn
    assert small(images()).shape == (4, 3) and block.qkv.out_features == 3 * block.num_heads * block.head_dim
    assert block.num_heads == 3 and block.head_dim == 32 and report.ratios["params"] < 0.3


def test_a_frozen_model_is_pruned_too_and_stays_frozen():
    model = build_model("resnet10t", classes=3, size=32).requires_grad_(False)
    small, _ = COMPRESSORS["channels"](model, 0.5, example=images())
    assert not any(p.requires_grad for p in [*small.parameters(), *model.parameters()])


def test_with_data_batch_norm_statistics_are_those_of_the_cut_model():
    model, data = alive("resnet10t"), images(32)
    small, _ = COMPRESSORS["channels"](model, 0.5, example=data, data=data)
    first, seen = next((a, b) for a, b in zip(small.conv1, list(small.conv1)[1:]) if isinstance(b, nn.BatchNorm2d)), []
    hook = first[1].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        small.eval()(data)
    hook.remove()
    assert torch.allclose(first[1].running_mean, seen[0].mean((0, 2, 3)), atol=1e-5) and first[1].momentum == 0.1
    assert torch.allclose(first[1].running_var, seen[0].var((0, 2, 3)), rtol=1e-4)
    plain = build_model("lenet5", size=32)
    before = copy.deepcopy(plain.state_dict())
    reestimate(plain, data)
    assert all(torch.equal(before[key], value) for key, value in plain.state_dict().items())


def test_a_cut_that_misses_a_dependency_is_not_handed_out():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)
            self.register_buffer("shift", torch.ones(4, 1, 1))  # as wide as the convolution, and unseen by the engine

        def forward(self, x):
            return self.fc((self.conv(x) + self.shift).mean((2, 3)))
    with pytest.raises(ValueError, match="cannot prune Hidden .RuntimeError"):
        COMPRESSORS["channels"](Hidden(), 0.5, example=images())


def test_what_the_engine_cannot_prune_is_an_instruction():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

        def forward(self, x):
            if torch.is_grad_enabled():
                raise RuntimeError("no tracing")
            return self.fc(self.conv(x).mean((2, 3)))
    with pytest.raises(ValueError, match="cannot prune Odd .RuntimeError: no tracing.*Choose svd"):
        COMPRESSORS["channels"](Odd(), 0.5, example=images())
