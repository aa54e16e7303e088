"""Channel pruning: the pruned model is the parent with those channels zeroed, on every way channels depend on each other."""
import copy

import pytest
import torch
from torch import nn

from effml.compression import COMPRESSORS, load_compressed, save_compressed
from effml.compression.channels import reestimate
from effml.compression.silencing import alive, silenced
from effml.models import build_model

CUTS = ("channels", "channels_bn", "channels_random")
NETS = {"plain": "lenet5", "residual": "resnet10t", "dense": "densenet121", "depthwise": "mobilenetv2_050", "squeeze": "mobilenetv3_small_050",
        "skip": "unet", "split": "res2net50_14w_8s", "blur": "resnetblur18", "attention": "vit_tiny_patch16_224", "windows": "swin_tiny_patch4_window7_224"}


pytestmark = pytest.mark.usefixtures("one_thread")


def images(n=4):
    return torch.randn(n, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def build(name, seed=3):
    """A model whose normalisations have scales, shifts and statistics of their own, as after training."""
    torch.manual_seed(seed)
    return alive(build_model(name, classes=3, size=32, seed=seed), images())


@pytest.mark.parametrize("kind, method", [*((kind, "channels") for kind in NETS), ("residual", "channels_random"),
                                          ("depthwise", "channels_random"), ("residual", "channels_bn")])
def test_the_pruned_model_is_the_parent_with_those_channels_zeroed(kind, method):
    model = build(NETS[kind])
    small, report = COMPRESSORS[method](model, 0.6, example=images(), seed=1)
    with torch.no_grad():
        expected, got, whole = (net.eval()(images()) for net in (silenced(model, small, report), small, model))
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert not torch.allclose(got, whole, rtol=1e-2, atol=1e-3 * float(whole.abs().max()))
    most = 0.9 if kind == "windows" else 0.5
    assert report.ratios["params"] < most and report.ratios["macs"] < most + 0.1
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


def test_attention_divides_by_the_width_its_heads_had_fused_or_not_and_from_disk(tmp_path):
    """Fused attention divides by the root of the width at hand, the other way by `scale`."""
    model = build("vit_tiny_patch16_224")
    small, report = COMPRESSORS["channels"](model, 0.5, example=images())
    again = load_compressed(save_compressed(tmp_path / "m", small, report, base="vit_tiny_patch16_224", classes=3, size=32))
    with torch.no_grad():
        expected, fused = silenced(model, small, report)(images()), small(images())
        for net in (small, again):
            for block in net.blocks:
                assert block.attn.scale == block.attn.head_dim ** -0.5
                block.attn.fused_attn = False
        assert torch.allclose(small(images()), fused, atol=1e-4) and torch.allclose(again(images()), expected, atol=1e-4)


def test_what_the_trace_cannot_follow_keeps_its_width_and_the_rest_is_cut():
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

        def forward(self, x):
            return self.norm(self.conv(x)).reshape(len(x), 8, *x.shape[2:])
    model = nn.Sequential(nn.Conv2d(1, 8, 3), Stubborn(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                          nn.Linear(16, 2))
    small, report = COMPRESSORS["channels"](model, 0.5, example=images())
    assert [small[0].out_channels, small[1].conv.out_channels, small[2].out_channels] == [4, 8, 8]
    assert report.layers["1.conv"] == {"kind": "cut", "in": report.layers["0"]["out"], "set": {"in_channels": 4}}
    assert report.notes == ("1 of 3 groups of layers keep their width: without their channels the model does not run.",)


def test_a_frozen_model_is_pruned_too_and_stays_frozen():
    model = build_model("resnet10t", classes=3, size=32).requires_grad_(False)
    small, _ = COMPRESSORS["channels"](model, 0.5, example=images())
    assert not any(p.requires_grad for p in [*small.parameters(), *model.parameters()])


def test_with_data_batch_norm_statistics_are_those_of_the_cut_model():
    model, data = build("resnet10t"), images(32)
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
