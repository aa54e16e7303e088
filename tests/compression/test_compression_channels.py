"""Channel pruning: the pruned model is the parent with those channels zeroed, on every way channels depend on each other."""

import copy

import pytest
import torch
from torch import nn

from effml.compression import COMPRESSORS, load_compressed, save_compressed, sensitivity
from effml.compression.channels import _gradients, reestimate
from effml.compression.silencing import silenced
from effml.machine import import_timm
from effml.models import build_model
from pruning_coverage import alive

CUTS = ("channels", "channels_bn", "channels_random")
NETS = {
    "plain": "lenet5",
    "residual": "resnet10t",
    "dense": "densenet121",
    "depthwise": "mobilenetv2_050",
    "squeeze": "mobilenetv3_small_050",
    "skip": "unet",
    "split": "res2net50_14w_8s",
    "blur": "resnetblur18",
    "along": "ecaresnet26t",
    "attention": "vit_tiny_patch16_224",
    "windows": "swin_tiny_patch4_window7_224",
}


pytestmark = pytest.mark.usefixtures("one_thread")


def images(n=4):
    return torch.randn(n, 1, 32, 32, generator=torch.Generator().manual_seed(0))


SHALLOW = {  # every kind of dependency once or twice is enough
    "densenet121": {"block_config": (2, 2, 2, 2)},
    "res2net50_14w_8s": {"layers": (1, 1, 1, 1)},
    "vit_tiny_patch16_224": {"depth": 2, "img_size": 32},
    "swin_tiny_patch4_window7_224": {"depths": (2, 2, 1, 1), "img_size": 32},
}


def build(name, seed=3):
    """A model whose normalisations have scales, shifts and statistics of their own, as after training."""
    torch.manual_seed(seed)
    if name in SHALLOW:
        model = import_timm().create_model(name, in_chans=1, num_classes=3, **SHALLOW[name]).eval()
    else:
        model = build_model(name, classes=3, size=32, seed=seed)
    return alive(model, images())


@pytest.mark.parametrize(
    "kind, method",
    [
        *((kind, "channels") for kind in NETS),
        ("residual", "channels_random"),
        ("depthwise", "channels_random"),
        ("residual", "channels_bn"),
    ],
)
def test_the_pruned_model_is_the_parent_with_those_channels_zeroed(kind, method):
    model = build(NETS[kind])
    small, report = COMPRESSORS[method](model, 0.6, example=images(), seed=1)
    with torch.no_grad():
        expected, got, whole = (
            net.eval()(images()) for net in (silenced(model, small, report), small, model)
        )
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert not torch.allclose(got, whole, rtol=1e-2, atol=1e-3 * float(whole.abs().max()))
    most = {"split": 0.7, "along": 0.7, "windows": 0.9}.get(
        kind, 0.5
    )  # some groups keep their width
    assert report.ratios["params"] < most and report.ratios["macs"] < most + 0.1
    for name, done in report.layers.items():  # the kept indices have the shapes of the layers
        layer = small.get_submodule(name)
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and "out" in done:
            assert len(done["out"]) == len(layer.weight)


def test_the_smallest_scales_go_by_bn_and_the_smallest_weights_by_magnitude():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    model[1].weight.data = torch.tensor([1.0, 0.1, 2.0, 0.2])
    assert COMPRESSORS["channels_bn"](model, 0.5, example=images())[1].layers["0"]["out"] == [0, 2]
    model[1].weight.data.fill_(1)
    model[0].weight.data[:] = torch.tensor([0.1, 5, 0.2, 4])[:, None, None, None]
    model[5].weight.data.fill_(1)
    assert COMPRESSORS["channels"](model, 0.5, example=images())[1].layers["0"]["out"] == [1, 3]
    with pytest.raises(ValueError, match="has no batch normalisation.*Choose channels"):
        COMPRESSORS["channels_bn"](build_model("lenet5"), 0.5, example=images()[..., :28, :28])


def test_gradients_are_the_fisher_information_of_the_answers():
    torch.manual_seed(0)
    model, x = (
        nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)),
        torch.randn(1, 1, 2, 2),
    )
    with torch.no_grad():
        hidden = model[:3](x)[0]
        p = model(x).softmax(1)[0]
    for batch in (
        1,
        4,
    ):  # E (dL/dW)² = p (1 - p) h² for an image, and the mean over a batch has less of it, being of mean zero
        found = _gradients(model, x.expand(6000, -1, -1, -1), 0, batch=batch)
        assert torch.allclose(
            found[2], (p * (1 - p) / batch).sqrt()[:, None] * hidden, rtol=0.06, atol=1e-4
        )
    one = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))  # a logit alone: p = sigmoid
    p = one(x).sigmoid().detach()
    assert torch.allclose(
        _gradients(one, x.expand(6000, -1, -1, -1), 0, batch=1)[0],
        (p * (1 - p)).sqrt() * x.flatten().abs(),
        rtol=0.06,
    )


def test_by_taylor_those_channels_go_whose_weights_the_answers_do_not_depend_on():
    def net():
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
        )

    model, data = net(), images(32)
    model[0].bias.data = torch.tensor(
        [0.1, -50.0, 0.2, -50.0]
    )  # two that never fire, though their weights are large
    model[0].weight.data[1::2] *= 9
    taylor, size = (
        COMPRESSORS[name](model, 0.5, example=data[:1], data=data)[1].layers["0"]["out"]
        for name in ("channels_taylor", "channels")
    )
    assert taylor == [0, 2] and size == [1, 3]
    model = net()  # the sum over all weights of the channel, by hand
    grads = dict(zip((name for name, _ in model.named_parameters()), _gradients(model, data, 5)))
    parts = (
        (model[0].weight * grads["0.weight"]).abs().sum((1, 2, 3)),
        (model[4].weight * grads["4.weight"]).abs().sum(0),
    )
    kept = (parts[0] + parts[1]).topk(2).indices.sort().values.tolist()
    small, report = COMPRESSORS["channels_taylor"](
        model.requires_grad_(False), 0.5, example=data[:1], data=data, seed=5
    )
    assert report.layers["0"]["out"] == kept
    assert not any(p.requires_grad for p in [*small.parameters(), *model.parameters()])
    with torch.no_grad():
        assert torch.allclose(small(data), silenced(model, small, report)(data), atol=1e-5)
    with pytest.raises(
        ValueError,
        match="looks at images and was given none.*calibration_images=512. or choose channels",
    ):
        COMPRESSORS["channels_taylor"](model, 0.5, example=data[:1])


def test_sensitivity_is_the_score_of_the_model_with_one_layer_cut():
    data = images(8)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, bias=False),
        nn.Sequential(nn.BatchNorm2d(6)),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
        nn.ReLU(),
        nn.Linear(5, 2),
    ).train()
    for norm in (model[1], model[4][0]):
        norm.bias.data.uniform_(1, 2)  # what batch norm would let through of a silent channel
    before, asked = copy.deepcopy(model.state_dict()), copy.deepcopy(model).eval()

    def score(net):
        assert not net.training and net is not model
        with torch.no_grad():
            return net(data).pow(2).sum()

    rows = sensitivity(model, score, keeps=(1, 0.5, 0.01))
    assert [row["layer"] for row in rows] == ["0"] * 3 + ["3"] * 3 + ["8"] * 3 and model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    for (
        row
    ) in rows:  # brute force: the layer's channels cut away where the next layer would read them
        layer, keep = int(row["layer"]), row["keep"]
        weight = asked[layer].weight.detach()
        left = sorted(range(len(weight)), key=lambda n: -float(weight[n].abs().sum()))[
            : max(1, round(keep * len(weight)))
        ]
        mask, after = torch.zeros(len(weight)), {0: 3, 3: 6, 8: 10}[layer]
        mask[left] = 1
        with torch.no_grad():
            inner = asked[:after](data)
            expected = asked[after:](inner * mask.view(-1, *[1] * (inner.ndim - 2))).pow(2).sum()
        assert row["score"] == pytest.approx(float(expected), rel=1e-5), row
        assert type(row["score"]) is float  # whatever the score gave
    with pytest.raises(ValueError, match="keeps=0 is the fraction kept"):
        sensitivity(model, score, keeps=(0.5, 0))


def test_the_head_keeps_its_classes_and_attention_its_heads():
    model = build("vit_tiny_patch16_224")
    small, report = COMPRESSORS["channels"](model, 0.5, example=images())
    block = small.blocks[0].attn
    assert small(images()).shape == (4, 3)
    assert block.qkv.out_features == 3 * block.num_heads * block.head_dim
    assert block.num_heads == 3 and block.head_dim == 32 and report.ratios["params"] < 0.3


def test_attention_divides_by_the_width_its_heads_had_fused_or_not_and_from_disk(tmp_path):
    """Fused attention divides by the root of the width at hand, the other way by `scale`."""
    model = build("vit_tiny_patch16_224")
    small, report = COMPRESSORS["channels"](model, 0.5, example=images())
    again = load_compressed(save_compressed(tmp_path / "m", small, report), model=model)
    with torch.no_grad():
        expected, fused = silenced(model, small, report)(images()), small(images())
        for net in (small, again):
            for block in net.blocks:
                assert block.attn.scale == block.attn.head_dim**-0.5
                block.attn.fused_attn = False
        assert torch.allclose(small(images()), fused, atol=1e-4)
        assert torch.allclose(again(images()), expected, atol=1e-4)


def test_what_the_trace_cannot_follow_keeps_its_width_and_the_rest_is_cut():
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

        def forward(self, x):
            return self.norm(self.conv(x)).reshape(len(x), 8, *x.shape[2:])

    model = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        Stubborn(),
        nn.Conv2d(8, 16, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 2),
    )
    small, report = COMPRESSORS["channels"](model, 0.5, example=images())
    assert [small[0].out_channels, small[1].conv.out_channels, small[2].out_channels] == [4, 8, 8]
    assert report.layers["1.conv"] == {
        "kind": "cut",
        "in": report.layers["0"]["out"],
        "set": {"in_channels": 4},
    }
    assert report.notes == (
        "1 of 3 groups of layers keep their width: without their channels the model does not run (1.conv).",
    )


def test_a_frozen_model_is_pruned_too_and_stays_frozen():
    model = build_model("resnet10t", classes=3, size=32).requires_grad_(False)
    small, _ = COMPRESSORS["channels"](model, 0.5, example=images())
    assert not any(p.requires_grad for p in [*small.parameters(), *model.parameters()])


def test_with_data_batch_norm_statistics_are_those_of_the_cut_model():
    model, data = build("resnet10t"), images(32)
    small, _ = COMPRESSORS["channels"](model, 0.5, example=data, data=data)
    first, seen = (
        next(
            (a, b)
            for a, b in zip(small.conv1, list(small.conv1)[1:])
            if isinstance(b, nn.BatchNorm2d)
        ),
        [],
    )
    hook = first[1].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        small.eval()(data)
    hook.remove()
    assert torch.allclose(first[1].running_mean, seen[0].mean((0, 2, 3)), atol=1e-5)
    assert first[1].momentum == 0.1
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
            self.register_buffer(
                "shift", torch.ones(4, 1, 1)
            )  # as wide as the convolution, and unseen by the engine

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
