"""Weights of few bits: the rounding, its gradient, the schedules, the file, the training."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import effml
from effml import Recipe, build_model
from effml.compression import bit_file, bit_width
from effml.compression.bit_file import from_bits, to_bits
from effml.compression.bit_width import STEPS, Rounded, WeightBits, bits_at, codes_of
from effml.training import Diverged, train
from test_training import dots


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def net():
    with effml.machine.seeded(0):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 40), nn.Linear(40, 2)
        )


@pytest.mark.parametrize("bits", STEPS)
def test_the_steps_are_those_of_least_squared_error_for_a_laplace_distribution(bits):
    x = np.linspace(-30, 30, 120_001)
    density, q = np.exp(-abs(x) * 2**0.5) / 2**0.5, 2 ** (bits - 1) - 1

    def error(step):
        return (density * (x - step * np.clip(np.round(x / step), -q, q)) ** 2).sum()

    near = [error(STEPS[bits] * (1 + change)) for change in np.arange(-0.03, 0.031, 0.01)]
    assert np.argmin(near) == len(near) // 2


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
@pytest.mark.parametrize("shape", [(3, 50), (4, 2, 3, 3), (2, 1, 3, 3, 3)])
def test_the_rounding_equals_one_by_hand_channel_by_channel(bits, shape):
    weight = draw(*shape) ** 3
    weight[0].mul_(100)  # a channel of its own size
    weight.flatten(1)[1, :2] = 0.0
    found, q = Rounded(bits)(weight), 2 ** (bits - 1) - 1
    for row, given in zip(weight.flatten(1).numpy(), found.flatten(1).numpy()):
        step = min(STEPS[bits] * math.sqrt((row**2).mean()), abs(row).max() / q)
        step = float(torch.tensor(step).bfloat16())
        expected = [step * max(-q, min(q, round(value / step))) for value in row.tolist()]
        assert given == pytest.approx(expected, rel=1e-6)
    assert found.abs().max() > 0 and torch.equal(Rounded(bits)(0 * weight), 0 * weight)
    even = torch.tensor([[1.0, -1.0, 1.0, 1.0]])  # the largest weight is reached: nothing is wasted
    assert torch.equal(Rounded(bits)(even), even.sign() * float(Rounded(bits)(even).max()))
    assert Rounded(bits)(even).max() == pytest.approx(1, rel=2**-8)


def test_the_gradient_passes_straight_through_but_for_weights_beyond_the_last_code():
    weight, passed = draw(5, 64).requires_grad_(), draw(5, 64, seed=1)
    (Rounded(2)(weight) * passed).sum().backward()
    inside = weight.detach().abs() < 1.5 * Rounded(2).step(weight)[:, None]
    assert torch.equal(weight.grad, passed * inside) and 0.8 < inside.float().mean() < 1


@pytest.mark.parametrize("shape", [(64, 500), (16, 8, 3, 3)])
def test_it_is_torchs_own_fake_quantisation_to_the_bit_with_its_gradient(shape):
    for bits in STEPS:
        ours, theirs, q = (
            draw(*shape).requires_grad_(),
            draw(*shape).requires_grad_(),
            2 ** (bits - 1) - 1,
        )
        step, passed = Rounded(bits).step(ours), draw(*shape, seed=1)
        zero = torch.zeros_like(step, dtype=torch.int32)
        found = Rounded(bits)(ours)
        wanted = torch.fake_quantize_per_channel_affine(theirs, step, zero, 0, -q, q)
        assert torch.equal(found, wanted)
        (found * passed).sum().backward(), (wanted * passed).sum().backward()
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("bits", range(2, 9))
def test_bits_are_packed_without_a_gap_and_read_back(bits):
    codes = torch.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)).repeat(3)[:-1].to(torch.int8)
    row = to_bits(codes, bits)
    assert len(row) == math.ceil(len(codes) * bits / 8)
    assert torch.equal(from_bits(row, bits, len(codes)), codes.short())


def test_the_packing_of_a_case_by_hand():
    assert to_bits(torch.tensor([-1, 0, 1, 1, -2]), 2).tolist() == [0b01_10_11_11, 0]
    assert to_bits(torch.tensor([-3, 3, 0]), 3).tolist() == [0b001_111_10, 0b0_0000000]


def test_the_schedules_by_hand():
    model = build_model("lenet5")  # two convolutions and three linear layers, the ends small
    names = ["0", "3", "7", "9", "11"]
    assert [*bits_at(model, "uniform:3")] == names
    assert [*bits_at(model, "uniform:3").values()] == [8, 3, 3, 3, 8]
    assert [*bits_at(model, "depth:8-2").values()] == [8, 8, 5, 2, 8]
    assert [*bits_at(model, "depth:2-5").values()] == [8, 2, 4, 5, 8]
    large = nn.Sequential(nn.Linear(784, 9), nn.Linear(9, 9), nn.Linear(9, 2))
    assert [*bits_at(large, "depth:6-4").values()] == [6, 4, 8]  # most weights are in its first
    assert [*bits_at(nn.Sequential(nn.Linear(3, 3)), "depth:6-4").values()] == [6]
    tenths = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 70), nn.Linear(20, 10))  # 1, 7, 2
    assert [*bits_at(tenths, "uniform:3").values()] == [8, 3, 3]

    def over(text, epochs):
        return [bits_at(model, text, epoch, epochs)["7"] for epoch in range(1, epochs + 1)]

    assert over("time:8-4", 10) == [8, 8, 7, 7, 6, 6, 5, 5, 4, 4]
    assert over("time:3-5", 7) == [3, 3, 4, 4, 5, 5, 5]
    assert over("time:8-2", 1) == [2] and over("time:8-2", 2) == [5, 2]
    assert over("uniform:5", 2) == [5, 5]


def test_bits_by_name_and_again_and_the_optimizer_keeps_its_parameters():
    model = net()
    before, plain = {*model.parameters()}, [*model.state_dict()]
    effml.quantize_aware(model, {"3": 2})
    assert {*model.parameters()} == before and {n: b for n, (*_, b) in codes_of(model).items()} == {
        "3": 2
    }
    effml.quantize_aware(model, {"0": 4, "3": 3, "4": 32})
    assert {n: b for n, (*_, b) in codes_of(model).items()} == {"0": 4, "3": 3}
    assert len(model[3].weight[0].unique()) <= 7
    told = effml.finish_quantized(model)
    assert told.layers == {"0": 4, "3": 3}
    assert told.weight_bits == pytest.approx((36 * 4 + 640 * 3 + 80 * 32) / 756)
    assert {*model.parameters()} == before and [*model.state_dict()] == plain
    assert type(model[0]) is nn.Conv2d and len(model[3].weight[0].unique()) <= 7


@pytest.mark.parametrize(
    "bits, words",
    [
        (1, "bits are 2 to 8"),
        (9, "Choose from"),
        ("deep:8-2", "Choose from: constant, uniform, depth, time"),
        ("depth:8", "depth:8-2"),
        ("time:8-4", "call quantize_aware again"),
        ({"fc": 4}, "Choose from: 0, 3, 4"),
        ({"0": 1}, "0: 1 bits. Give 2 to 8, or 32"),
        ({"0": 4.0}, "0: 4.0 bits. Give 2 to 8, or 32"),
    ],
)
def test_what_cannot_be_is_refused_with_advice(bits, words):
    model = net()
    with pytest.raises(ValueError, match=words):
        effml.quantize_aware(model, bits)
    assert not codes_of(model)


def test_layers_that_share_a_weight_share_its_bits_and_are_rounded_once():
    """A second rounding of what was rounded is another number."""
    for bits in (2, 3, 4):
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
        model[0].weight.data = draw(64, 64)
        model[2].weight = model[0].weight
        with pytest.raises(ValueError, match="0 and 2 share a weight: give both the same bits"):
            effml.quantize_aware(model, {"0": bits, "2": 8})
        effml.quantize_aware(model, {"0": bits, "2": bits})
        before = model[2].weight.detach().clone()
        assert effml.finish_quantized(model).layers == {"0": bits, "2": bits}
        assert model[0].weight is model[2].weight and torch.equal(model[0].weight, before)


def test_the_constant_schedule_leaves_a_model_of_your_own_loop_as_it_is():
    assert not codes_of(effml.quantize_aware(net(), "constant"))


def test_models_that_cannot_be_are_refused_with_advice():
    for model, words in (
        (net().bfloat16(), "bfloat16 weights.*precision fp32"),
        (nn.BatchNorm2d(3), "no layer to quantise. It takes Linear"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), "parametrisation of its own"),
        ("lenet5", "must be a model"),
    ):
        with pytest.raises(ValueError, match=words):
            effml.quantize_aware(model, 4)
    with pytest.raises(ValueError, match="call effml.quantize_aware"):
        effml.finish_quantized(net())


def test_the_file_gives_back_the_same_model_and_is_as_small_as_its_codes(tmp_path):
    model = effml.quantize_aware(build_model("lenet300_100", seed=3), "uniform:3")
    told = effml.save_bits(tmp_path / "x", model)
    size = (tmp_path / "x").stat().st_size
    header = int.from_bytes((tmp_path / "x").read_bytes()[:8], "little") + 8
    first, second, last = 784 * 300, 300 * 100, 100 * 2
    codes = (first + second) * 3 / 8 + last  # the small last layer keeps 8 bits
    assert told.stored_bytes == size == codes + (300 + 100 + 2) * (2 + 4) + header
    assert told.weight_bits == pytest.approx((3 * (first + second) + 8 * last) / 265_400)
    again = effml.load_bits(tmp_path / "x", build_model("lenet300_100"))
    told_at_the_end = effml.finish_quantized(model)
    assert told == told_at_the_end
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    for other in (build_model("mlp"), build_model("lenet5")):
        with pytest.raises(ValueError, match="does not fit this"):
            effml.load_bits(tmp_path / "x", other)
    (tmp_path / "y").write_bytes(b"no such file")
    with pytest.raises(ValueError, match="y does not fit"):
        effml.load_bits(tmp_path / "y", build_model("mlp"))


def test_a_layer_alone_is_a_model_too(tmp_path):
    layer = effml.quantize_aware(nn.Linear(10, 10), 4)
    effml.save_bits(tmp_path / "x", layer)
    again = effml.load_bits(tmp_path / "x", nn.Linear(10, 10))
    assert torch.equal(again.weight, layer.weight)


def test_a_layer_that_a_model_has_twice_is_written_and_read(tmp_path):
    def twice():
        norm = nn.LayerNorm(6)
        return nn.Sequential(norm, nn.Linear(6, 6), norm)

    model = effml.quantize_aware(twice(), 4)
    model[0].weight.data.copy_(draw(6))
    effml.save_bits(tmp_path / "x", model)
    again, x = effml.load_bits(tmp_path / "x", twice()), draw(5, 6)
    assert torch.equal(again(x), model(x))


@pytest.mark.parametrize("part", ["from_bits", "to_bits"])
def test_a_record_is_proven_by_what_was_read_back(part, monkeypatch):
    right = getattr(bit_file, part)
    monkeypatch.setattr(
        bit_file, part, lambda x, bits, *more: right(x, bits, *more).clone().fill_(1)
    )
    model = effml.quantize_aware(net(), 4)
    with pytest.raises(RuntimeError, match="do not give the weights back"):
        effml.finish_quantized(model)


def few_values(model, bits):
    """Whether each channel of each inner layer holds no more values than the bits have codes."""
    rows = [row for name, m in model.named_modules() if name in bits for row in m.weight.flatten(1)]
    most = [
        2 ** bits[name] - 1 for name, m in model.named_modules() if name in bits for _ in m.weight
    ]
    return all(len(row.unique()) <= n for row, n in zip(rows, most))


@pytest.mark.parametrize("schedule", ["uniform:2", "depth:6-2", "time:6-3"])
@pytest.mark.parametrize("precision", ["fp32", "amp_bf16"])
def test_a_training_learns_and_leaves_the_codes_alone(schedule, precision):
    model = build_model("lenet5", seed=0)
    how = {"precision": precision, "epochs": 6, "batch_size": 24, "learning_rate": 3e-3}
    history = train(model, dots(), recipe=Recipe(bit_schedule=schedule, **how))
    bits = bits_at(model, schedule, 6, 6)
    assert history.stored["layers"] == bits and few_values(model, bits)
    assert not few_values(model, {name: width - 1 for name, width in bits.items()})
    assert history.val_accuracy[history.best_epoch - 1] > 0.9 and type(model[3]) is nn.Conv2d


def test_the_record_tells_and_the_constant_schedule_changes_nothing(tmp_path):
    base = Recipe(model="lenet5", epochs=1)
    plain, few = (
        effml.run(r, store=tmp_path, keep_weights=True)
        for r in (base, base.but(bit_schedule="uniform:2"))
    )
    assert plain.weight_bits is plain.stored_bytes is None
    assert few.status == "ok" and 2 < few.weight_bits < 2.1
    assert few.stored_bytes < few.model_file_bytes / 10 and few.weights_dtype == "float32"
    model = effml.load_run(few.run_id, tmp_path).model
    assert few_values(model, {"3": 2, "7": 2, "9": 2, "0": 8, "11": 8})
    bad = effml.run(base.but(bit_schedule="uniform:2", precision="bf16"))
    assert bad.status == "unsupported" and "precision fp32" in bad.reason


def test_only_epochs_in_the_last_bits_can_be_the_best():
    """The first epochs, in 8 bits, are the better ones here: the learning rate is then spoilt."""
    seen = []

    def spoil(step):
        seen.append(codes_of(step.model)["7"][2])
        if step.epoch > 1:
            with torch.no_grad():
                step.model[11].bias.copy_(torch.tensor([5.0, -5.0]))
                step.model[7].parametrizations.weight.original.mul_(0.9)

    model = build_model("lenet5", seed=0)
    recipe = Recipe(bit_schedule="time:8-5", epochs=8, batch_size=72, patience=1)
    history = train(model, dots(), recipe=recipe, after_step=spoil)
    assert seen[::2][:6] == [8, 8, 7, 7, 6, 6] and history.best_epoch >= 7
    assert history.stored["layers"]["7"] == 5


def test_without_epochs_the_weights_are_rounded_as_they_come():
    model, same = build_model("lenet5", seed=0), build_model("lenet5", seed=0)
    train(model, dots(), bit_schedule="time:8-3", epochs=0)
    assert torch.equal(model[7].weight, Rounded(3)(same[7].weight))
    assert torch.equal(model[7].bias, same[7].bias)


def test_an_interrupted_training_goes_on_with_its_bits(tmp_path, monkeypatch):
    monkeypatch.setenv("EFFML_CHECKPOINT_SECONDS", "0")
    recipe = Recipe(bit_schedule="time:6-3", epochs=4, batch_size=48)
    whole, broken, seen = build_model("lenet5", seed=0), build_model("lenet5", seed=0), []
    train(whole, dots(), recipe=recipe)

    def stop():
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt

    file = tmp_path / "x.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        train(broken, dots(), recipe=recipe, checkpoint=file, after_epoch=stop)
    assert type(broken[3]) is nn.Conv2d
    history = train(again := build_model("lenet5", seed=5), dots(), recipe=recipe, checkpoint=file)
    assert history.resumed_epoch == 2 and history.stored["layers"]["3"] == 3
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_a_model_is_plain_again_after_a_failure():
    model = build_model("lenet5", seed=0)
    with pytest.raises(Diverged):
        train(model, dots(), recipe=Recipe(bit_schedule="uniform:4", learning_rate=1e30, epochs=3))
    assert type(model[0]) is nn.Conv2d and not codes_of(model)
    with WeightBits(model, "constant", 3) as bits:
        assert bits.begin(1) and not codes_of(model)
    assert bits.stored == {}


def test_channels_last_and_a_transformer_train_too():
    for name, size in (("vit_tiny_patch16_224", 32), ("mobilenetv2_035", 32)):
        model = build_model(name, size=size, classes=2).to(memory_format=torch.channels_last)
        effml.quantize_aware(model, "depth:6-3")
        model(torch.ones(2, 1, size, size)).sum().backward()
        layers = bit_width._layers(model).values()
        assert all(layer.parametrizations.weight.original.grad is not None for layer in layers)
        assert effml.finish_quantized(model).weight_bits < 6.5
