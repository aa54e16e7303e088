"""Compression: exact cases, brute force, and the promises every compressor makes."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn

from conftest import seeds
from effml.compression import COMPRESSORS, compress, data_free_fraction
from effml.compression.compressor import sizes
from effml.compression.merging import merge_down, saliencies
from effml.models import ResidualBlock, build_model, count

EXAMPLE = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))


pytestmark = pytest.mark.usefixtures("one_thread")


def outputs(model, images=EXAMPLE):
    with torch.no_grad():
        return model.eval()(images)


def small_net(units=12, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, units),
        nn.ReLU(),
        nn.Linear(units, 8),
        nn.ReLU(),
        nn.Linear(8, 3),
    ).eval()


def brute_force(incoming, outgoing, k):
    """The algorithm as the paper writes it: all pairs anew at every step."""
    left, outgoing, paid = list(range(len(incoming))), outgoing.clone(), []
    while len(left) > k:
        price, i, j = min(
            (float((outgoing[j] ** 2).mean() * ((incoming[i] - incoming[j]) ** 2).sum()), i, j)
            for i, j in itertools.permutations(left, 2)
        )
        outgoing[i] += outgoing[j]
        left.remove(j)
        paid.append(price)
    return left, outgoing[left], paid


@pytest.mark.parametrize("seed", seeds(2, 5))
def test_merging_is_the_algorithm_of_the_paper_by_brute_force(seed):
    generator = torch.Generator().manual_seed(seed)
    incoming, outgoing = (
        torch.randn(14, d, dtype=torch.double, generator=generator) for d in (5, 4)
    )
    kept, moved, paid = merge_down(incoming, outgoing, 3)
    left, expected, prices = brute_force(incoming, outgoing, 3)
    assert kept.tolist() == left
    assert torch.allclose(moved, expected)
    assert paid.tolist() == pytest.approx(prices)
    first = saliencies(incoming, outgoing)
    assert float(first.min()) == pytest.approx(prices[0])
    assert first.diagonal().isinf().all()
    assert not torch.equal(first, first.T)


@pytest.mark.parametrize("scale", [1.0, 3.7])
def test_a_duplicated_neuron_merges_without_a_change_of_output_also_scaled_under_relu(scale):
    model = small_net()
    model[1].weight.data[7], model[1].bias.data[7] = (
        scale * model[1].weight[2],
        scale * model[1].bias[2],
    )
    small, report = COMPRESSORS["merge"](model, 11.4 / 12, example=EXAMPLE)  # 11 of 12 and 8 of 8
    assert small[1].out_features == 11 and torch.allclose(outputs(small), outputs(model), atol=1e-6)
    assert report.kept == 19 / 20 and report.after["params"] == report.before["params"] - 785 - 8


@pytest.mark.parametrize("after", [nn.Identity, nn.Tanh])
def test_a_scaled_duplicate_is_not_one_under_tanh_but_a_plain_one_is(after):
    for scale, same in ((1.0, True), (3.7, False)):
        model = small_net()
        model[2] = nn.Tanh()
        model.insert(3, after())  # one layer that is not homogeneous is enough
        model[1].weight.data[7], model[1].bias.data[7] = (
            scale * model[1].weight[2],
            scale * model[1].bias[2],
        )
        small, report = COMPRESSORS["merge"](model, 11.4 / 12, example=EXAMPLE)
        assert torch.allclose(outputs(small), outputs(model), atol=1e-6) == same
        assert ({2, 7} <= {*report.layers["1"]["out"]}) != same


def test_a_duplicated_channel_merges_through_pooling_and_flattening():
    model = build_model("lenet5", classes=3, seed=1)
    for conv, a, b in ((model[0], 1, 4), (model[3], 3, 9)):
        conv.weight.data[b], conv.bias.data[b] = 2 * conv.weight[a], 2 * conv.bias[a]
    model[7].weight.data[1:], model[7].bias.data[1:] = (
        model[7].weight[:1],
        model[7].bias[:1],
    )  # so that neurons merge for nothing
    model[9].weight.data[1:], model[9].bias.data[1:] = model[9].weight[:1], model[9].bias[:1]
    small, _ = COMPRESSORS["merge_conv"](model, 0.91, example=EXAMPLE)
    assert (
        small[0].out_channels,
        small[3].out_channels,
        small[7].in_features,
        small[7].out_features,
    ) == (5, 15, 375, 109)
    assert torch.allclose(outputs(small), outputs(model), atol=1e-6)


def test_neurons_without_biases_merge_too():
    model = small_net()
    model[1], model[3] = (nn.Linear(n, m, bias=False) for n, m in ((784, 12), (12, 8)))
    model[1].weight.data[7] = 3.7 * model[1].weight[2]
    small, _ = COMPRESSORS["merge"](model, 11.4 / 12, example=EXAMPLE)
    assert small[1].out_features == 11 and torch.allclose(outputs(small), outputs(model), atol=1e-6)


def test_the_report_names_the_inputs_that_stay_behind_a_flattened_convolution():
    model = build_model("lenet5", classes=3, seed=1)
    _, report = COMPRESSORS["merge_conv"](model, 0.5, example=EXAMPLE)
    channels = report.layers["3"]["out"]
    assert report.layers["7"]["in"] == [25 * c + place for c in channels for place in range(25)]


def test_permuting_neurons_changes_nothing():
    model, shuffled = small_net(), small_net()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    shuffled[1].weight.data, shuffled[1].bias.data = (
        model[1].weight[order].clone(),
        model[1].bias[order].clone(),
    )
    shuffled[3].weight.data = model[3].weight[:, order].clone()
    (a, report), (b, again) = (
        COMPRESSORS["merge"](net, 0.5, example=EXAMPLE) for net in (model, shuffled)
    )
    assert torch.allclose(outputs(a), outputs(b), atol=1e-5)
    assert sorted(order[again.layers["1"]["out"]].tolist()) == report.layers["1"]["out"]


def test_merging_beats_deleting_and_the_baselines_delete():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 3))
    with torch.no_grad():
        model[1].weight[32:] = model[1].weight[:32] * 2 + 0.002 * torch.randn(32, 784)
        model[1].bias[32:] = model[1].bias[:32] * 2
    far = {
        name: float(
            (outputs(COMPRESSORS[name](model, 0.5, example=EXAMPLE)[0]) - outputs(model)).norm()
        )
        for name in ("merge", "merge_random", "merge_smallest")
    }
    assert far["merge"] < 0.5 * min(far["merge_random"], far["merge_smallest"])
    small, report = COMPRESSORS["merge_smallest"](model, 0.5, example=EXAMPLE)
    norms, kept = model[1].weight.norm(dim=1), report.layers["1"]["out"]
    assert norms[kept].min() > norms[[n for n in range(64) if n not in kept]].max()
    assert torch.equal(small[1].weight, model[1].weight[kept])


def test_the_data_free_fraction_finds_how_many_neurons_are_copies():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 3))
    with torch.no_grad():
        for start in range(40, 200, 40):
            model[1].weight[start : start + 40] = model[1].weight[:40] + 1e-4 * torch.randn(40, 784)
            model[1].bias[start : start + 40] = model[1].bias[:40]
    assert data_free_fraction(model) <= 0.25 and data_free_fraction(model, share=0.01) >= 0.19


def test_the_lenet_of_the_paper_has_its_431_thousand_parameters_and_loses_83_5_percent():
    model = build_model("lenet_srinivas", classes=10)
    assert count(model, EXAMPLE[:1])["params"] == 431_080
    small, report = COMPRESSORS["merge"](model, 0.165, example=EXAMPLE, keep_unit="params")
    assert small[7].out_features == 56
    assert report.after["params"] / 431_080 == pytest.approx(0.165, abs=0.001)
    assert report.after["params"] <= 0.165 * 431_080


def net_for(name):
    if name.startswith("merge"):
        return build_model("lenet5", classes=3, seed=2)
    torch.manual_seed(2)
    blocks = ResidualBlock(2, 1, 16), ResidualBlock(2, 16, 32, 2)
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3)).eval()


def seen_by(name):
    return {"data": EXAMPLE} if name == "channels_taylor" else {}


@pytest.mark.parametrize("name", COMPRESSORS)
def test_every_compressor_leaves_its_input_as_it_is_and_reports_what_it_measured(name):
    model = net_for(name).train()
    before, modules = copy.deepcopy(model.state_dict()), [str(m) for m in model.modules()]
    small, report = COMPRESSORS[name](model, 0.5, example=EXAMPLE, **seen_by(name))
    assert model.training and small.training and [str(m) for m in model.modules()] == modules
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not {id(p) for p in model.parameters()} & {id(p) for p in small.parameters()}
    measured = count(small.eval(), EXAMPLE[:1])
    assert {key: report.after[key] for key in measured} == measured
    assert outputs(small).shape == (
        4,
        3,
    )
    assert 0.3 < report.kept < 0.9 and report.after["latency_s"] > 0 and name in str(report)
    if name.startswith("magnitude"):
        assert report.after["params"] == report.before["params"]
        assert report.after["nonzero_params"] < 0.6 * report.before["params"]
    else:
        assert report.after["params"] < report.before["params"]
        assert report.after["macs"] <= report.before["macs"]
        assert report.after["file_bytes"] < report.before["file_bytes"]


@pytest.mark.parametrize("name", COMPRESSORS)
def test_every_compressor_meets_a_budget_of_parameters_and_keeps_all_of_all(name):
    model = net_for(name)
    small, report = COMPRESSORS[name](
        model, 0.7, example=EXAMPLE, **seen_by(name), keep_unit="params"
    )
    key = "nonzero_params" if name.startswith("magnitude") else "params"
    assert 0.5 < report.after[key] / report.before[key] <= 0.7
    whole, report = COMPRESSORS[name](model, 1, example=EXAMPLE)
    assert report.kept == 1 and torch.equal(outputs(whole), outputs(model)) and whole is not model


def test_sizes_are_what_a_recipe_file_can_hold():
    assert sizes(nn.LayerNorm((3, 4))) == {"normalized_shape": [3, 4]}
    assert sizes(nn.Linear(3, 4)) == {"in_features": 3, "out_features": 4}


def test_errors_are_instructions():
    model = build_model("lenet5")
    merge = COMPRESSORS["merge"]
    with pytest.raises(ValueError, match="Unknown compressor 'prune'. Choose from: merge,"):
        compress(model, "prune", 0.5, example=EXAMPLE)
    for keep in (0, -0.1, 1.2, math.nan, True, "half"):
        with pytest.raises(ValueError, match="merge: keep=.* more than 0 and at most 1"):
            merge(model, keep, example=EXAMPLE)
    with pytest.raises(ValueError, match="example must be a batch .* got NoneType"):
        merge(model, 0.5, example=None)
    with pytest.raises(
        ValueError, match="Unknown keep_unit 'bytes'. Choose from: fraction, params"
    ):
        merge(model, 0.5, example=EXAMPLE, keep_unit="bytes")
    least = sum(p.numel() for p in merge(model, 1e-9, example=EXAMPLE)[0].parameters())
    with pytest.raises(ValueError, match=f"cannot bring this model to .*: {least} is the smallest"):
        merge(model, 0.001, example=EXAMPLE, keep_unit="params")
    with pytest.raises(
        ValueError, match="plain nn.Sequential .* it is a EfficientNet. Choose lenet5"
    ):
        merge(build_model("mobilenetv2_050"), 0.5, example=EXAMPLE)
    with pytest.raises(ValueError, match="it holds BatchNorm1d"):
        merge(
            nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)),
            0.5,
            example=EXAMPLE,
        )
    with pytest.raises(ValueError, match="no hidden layer"):
        merge(nn.Sequential(nn.Flatten(), nn.Linear(784, 4)), 0.5, example=EXAMPLE)
