"""What is saved for the backward pass, in fewer bits: against brute force, by hand, on average."""

import random
import subprocess
import sys
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional

import effml
from effml import Recipe, build_model
from effml.machine import seeded
from effml.training import Diverged, train
from effml.training.saved import GROUP, SMALLEST, Packed, is_dense
from test_training import dots

DATA = dots()


def draws(seed=0):
    return random.Random(seed).randrange


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("kind", ["mixed", "relu", "above", "equal", "zero"])
def test_values_stay_in_the_range_of_their_group_within_a_step_and_zeros_stay(bits, kind):
    x = normal(3 * 2**18 + 300)
    x = {"mixed": x, "relu": x.relu(), "above": x.abs() + 9, "equal": x * 0 + 7, "zero": x * 0}[
        kind
    ]
    packed = Packed(x, bits, draw=draws())
    found = packed.values()
    for one, other in zip(x[:-300].view(-1, GROUP)[::97], found[:-300].view(-1, GROUP)[::97]):
        low, high = one.min(), one.max()
        step = (high - low) / (2**bits - 1 - (low >= 0).int())
        assert ((other - one).abs() <= step * 1.0001 + 1e-6).all()
        assert (other >= low - 1e-5).all() and (other <= high + 1e-5).all()
        assert len(other.unique()) <= 2**bits
    if kind != "mixed":
        assert torch.equal(found == 0, x == 0)
    assert (found[-300:] - x[-300:]).abs().max() <= 9 / (2**bits - 2)
    assert packed.codes.nbytes == -(-len(x) // GROUP) * GROUP * bits // 8
    assert packed.nbytes == packed.codes.nbytes + 8 * len(packed.codes)


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("low", [-1.0, 0.0, 0.5])
def test_rounding_is_unbiased_over_a_hundred_thousand_draws(bits, low):
    value = low + 0.37 * (1 - low)
    x = torch.full((110_000 // 254 * GROUP,), value).view(-1, GROUP)
    x[:, 0], x[:, 1] = low, 1.0
    found = Packed(x, bits, draw=draws(bits)).values().view(-1, GROUP)[:, 2:]
    step = (1 - low) / (2**bits - 1 - (low >= 0))
    assert found.numel() > 1e5 and len(found.unique()) == 2
    assert abs(float(found.mean()) - value) < 4 * step / 2 / found.numel() ** 0.5 + 1e-4 * step
    nearest = Packed(x, bits).values().view(-1, GROUP)[:, 2:]
    assert len(nearest.unique()) == 1 and abs(float(nearest[0, 0]) - value) <= step / 2 * 1.001


def test_codes_by_hand_in_two_bits():
    """Codes of the quarters of a group share a byte, the first in its lowest bits."""
    mixed = Packed(torch.tensor([-1.0, 0, 1, 2, 1, -1, 2, 0]), 2, group=8)
    assert mixed.codes.tolist() == [[0 | 2 << 2 | 2 << 4 | 3 << 6, 1 | 3 << 2 | 0 << 4 | 1 << 6]]
    assert mixed.step.item() == 1 and mixed.base.item() == -1
    relu = Packed(torch.tensor([0.0, 1, 2, 0, 1e-9, 0, 2, 1]), 2, group=8)  # 0 is kept for zeros
    assert relu.codes.tolist() == [[0 | 3 << 2 | 1 << 4 | 3 << 6, 2 | 0 << 2 | 0 << 4 | 2 << 6]]
    assert relu.values().tolist() == pytest.approx([0, 1, 2, 0, 0, 0, 2, 1], abs=1e-5)
    assert relu.values()[4] > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_layouts_and_dtypes_come_back(dtype):
    net = nn.Identity()
    for x in (
        normal(4, 8, 16, 16).to(memory_format=torch.channels_last),
        normal(4, 8, 16, 16).permute(2, 0, 3, 1),
        normal(4, 16, 16, 16)[:, ::2],
    ):
        x = x.to(dtype).requires_grad_()
        with effml.pack_activations(net) as saved:
            y = x.square().sum()
        y.backward()
        assert saved.tensors == 1 and x.grad.dtype == dtype
        assert (x.grad - 2 * x).abs().max() < 0.1


def test_dense_is_what_fills_its_memory_once():
    x = normal(2, 3, 4, 5)
    dense = [x, x.permute(3, 1, 0, 2), x[:1], x[1], x[:, :, :1, :1][:1, :1], x.view(6, 20).t()]
    assert all(map(is_dense, dense))
    several = [x[:, ::2], x[..., 1:], x[:1].expand(2, 3, 4, 5), x.as_strided((2, 2, 2), (1, 1, 5))]
    assert not any(map(is_dense, several))


def counted(model, x, bits=8, **more):
    with effml.pack_activations(model, bits=bits, **more) as saved:
        loss = model(x).square().mean()
    return saved, loss


def test_each_tensor_is_packed_once_parameters_are_skipped_and_index_tensors_counted_apart():
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 600)
    )
    x = normal(16, 1, 16, 16)
    saved, loss = counted(net, x)
    sizes = [x.numel(), 16 * 8 * 256, 16 * 512, 16 * 600]  # images, ReLU (pooled too), pool, output
    assert saved.before == 4 * sum(sizes) and saved.tensors == 4 and saved.kept == 0
    assert saved.index == 8 * 16 * 512 and saved.bits == 8
    groups = sum(-(-n // GROUP) for n in sizes)
    assert saved.after == groups * (GROUP + 8)
    plain, _ = counted(net, x, bits=32)
    assert (plain.before, plain.after, plain.index) == (saved.before, saved.before, saved.index)
    loss.backward()
    assert all(p.grad is not None for p in net.parameters())


def test_the_statistics_of_batch_norm_are_the_model_s_and_stay_as_they_are():
    net, x = nn.BatchNorm1d(2048), normal(8, 2048)
    saved, loss = counted(net, x)
    sizes = [8 * 2048, 2048, 2048, 8 * 2048]  # images, mean and deviation of the batch, output
    assert saved.before == 4 * sum(sizes) and saved.tensors == 4
    net.eval()
    saved, _ = counted(net, x)
    assert saved.before == 4 * 2 * 8 * 2048 and saved.tensors == 2


def test_each_step_and_each_part_of_it_draws_anew(monkeypatch):
    """One table of noise for all steps would make the same errors in each of them."""
    seeds = []

    def pack(model, *, bits, seed):
        seeds.append(seed)
        return effml.pack_activations(model, bits=bits, seed=seed)

    monkeypatch.setattr("effml.training.loop.pack_activations", pack)
    for seed in (0, 1):
        how = {"epochs": 2, "batch_size": 24, "accumulate": 2, "activation_bits": 8, "seed": seed}
        train(build_model("mlp", seed=0), DATA, **how)
    assert len(seeds) == len(set(seeds)) == 2 * 2 * 2 * -(-len(DATA.train) // 24)


def test_small_and_expanded_tensors_stay_and_a_change_in_place_is_another_tensor():
    net, x = nn.Identity(), normal(SMALLEST - 1).requires_grad_()
    with effml.pack_activations(net) as saved:
        x.square().sum()
    assert saved.kept == saved.before == saved.after == x.nbytes and not saved.tensors
    one, other = normal(1, 400).requires_grad_(), normal(99, 400, seed=1).requires_grad_()
    with effml.pack_activations(net) as saved:
        y = (one.expand(99, 400) * other).sum()
    y.backward()
    assert saved.kept == one.nbytes and saved.before == one.nbytes + other.nbytes
    assert saved.tensors == 1 and (one.grad - other.sum(0)).abs().max() < 1
    a = normal(5000).requires_grad_()
    with effml.pack_activations(net) as saved:
        b = a * 1
        c = b.square()
        b.mul_(2)
        d = b.square()
    (c.sum() + d.sum()).backward()
    assert saved.tensors == 2 and (a.grad - (2 * a + 8 * a)).abs().max() < 0.3


def test_the_float32_tensor_is_gone_and_the_packed_one_goes_with_the_graph():
    net, alive = nn.Linear(64, 64), []
    with effml.pack_activations(net):
        h = net(normal(256, 64)).relu()
        y = h.square().sum()
        alive.append(weakref.ref(h.untyped_storage()))
        alive += [
            weakref.ref(saved[0]) for saved in [y.grad_fn.next_functions[0][0]._raw_saved_self.data]
        ]
        del h
    assert alive[1]() is not None
    y.backward()
    del y
    assert alive[1]() is None


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_gradients_are_those_of_float32_on_average(bits):
    with seeded(0):
        net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.GELU())
    x = normal(64, 64)
    net(x).square().mean().backward()
    true = [p.grad.clone() for p in net.parameters()]
    total, first = [torch.zeros_like(t) for t in true], None
    for seed in range(60):
        net.zero_grad()
        counted(net, x, bits, seed=seed)[1].backward()
        for t, p in zip(total, net.parameters()):
            t += p.grad / 60
        first = first or [t * 60 for t in total]
    for t, one, g in zip(total, first, true):
        single, mean = (one - g).norm() / g.norm(), (t - g).norm() / g.norm()
        assert mean < max(0.25 * single, {8: 0.01, 4: 0.05, 2: 0.3}[bits])


def test_two_seeds_differ_one_seed_repeats_and_a_second_backward_is_the_same():
    with seeded(0):
        net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    x, found = normal(64, 64), []
    for seed in (1, 2, 1):
        net.zero_grad()
        loss = counted(net, x, 4, seed=seed)[1]
        loss.backward(retain_graph=True)
        found.append(net[0].weight.grad.clone())
        loss.backward()
        assert torch.allclose(net[0].weight.grad, 2 * found[-1], rtol=1e-5)
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])


def test_autocast_weights_are_left_alone():
    net, x = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 64)), normal(100, 64)
    with torch.autocast("cpu", torch.bfloat16), effml.pack_activations(net) as saved:
        y = net(x)
    y.float().square().sum().backward()
    assert saved.tensors <= 4 and saved.before <= 2 * 100 * (64 + 96 + 64) + 4 * 100 * 64


def test_the_error_of_a_gradient_is_made_good_in_the_next_steps():
    p = nn.Parameter(torch.zeros(5000))
    feedback, sent, true = effml.ErrorFeedback([p]), torch.zeros(5000), torch.zeros(5000)
    for step in range(20):
        p.grad = normal(5000, seed=step) * 0.01
        true += p.grad
        feedback.step()
        sent += p.grad
        assert len(p.grad[:GROUP].unique()) <= 256
        assert torch.allclose(sent + feedback.errors[0], true, atol=1e-6)
    assert feedback.errors[0].abs().max() < 0.08 / 255 / 2 * 1.5  # half a step: it does not grow
    assert feedback.sent_bytes == 20 * (GROUP + 8)
    kept = feedback.errors[0].clone()
    p.grad = torch.full((5000,), torch.inf)
    feedback.step()
    assert p.grad.isinf().all() and torch.equal(feedback.errors[0], kept)
    other = effml.ErrorFeedback([p])
    other.load_state_dict(feedback.state_dict())
    assert torch.equal(other.errors[0], kept)


def test_a_sparse_gradient_is_refused():
    table = nn.Embedding(2000, 8, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="sparse=False"):
        effml.ErrorFeedback(table.parameters()).step()


def test_small_gradients_go_whole_and_an_error_belongs_to_its_parameter():
    few, unused, many, kernel = (nn.Parameter(torch.zeros(n)) for n in (1023, 5000, 1024, 2048))
    kernel.data = kernel.data.view(8, 16, 4, 4).to(memory_format=torch.channels_last)
    few.grad, many.grad = normal(1023), normal(1024, seed=1)
    kernel.grad = normal(2048, seed=2).view(8, 16, 4, 4).to(memory_format=torch.channels_last)
    true = {i: p.grad.clone() for i, p in enumerate((few, unused, many, kernel)) if p is not unused}
    feedback = effml.ErrorFeedback([few, unused, many, kernel])
    feedback.step()
    assert torch.equal(few.grad, true[0]) and set(feedback.errors) == {2, 3}
    for number, p in ((2, many), (3, kernel)):
        assert torch.allclose(p.grad + feedback.errors[number], true[number], atol=1e-6)
        assert 0 < feedback.errors[number].abs().max() < 0.05  # a step is some 6/255
    assert feedback.sent_bytes == 1023 * 4 + (1024 + 2048) // GROUP * (GROUP + 8)
    few.grad, many.grad = torch.full((1023,), torch.inf), true[2].clone()
    feedback.step()
    assert torch.equal(many.grad, true[2])  # one that is not finite: all stay as they are


@pytest.mark.parametrize("what", ["pack_activations", "ErrorFeedback"])
def test_other_bits_are_refused(what):
    with pytest.raises(ValueError, match="Choose from: 8, 4, 2, 32"):
        if what == "ErrorFeedback":
            effml.ErrorFeedback([], bits=3)
        with effml.pack_activations(nn.Identity(), bits=3):
            pass
    with (
        pytest.raises(ValueError, match="multiple of 4"),
        effml.pack_activations(nn.Identity(), group=6),
    ):
        pass
    for field in ({"activation_bits": 16}, {"gradient_bits": 4}):
        with pytest.raises(ValueError, match="fill whole bytes"):
            Recipe(**field)


def trained(**fields):
    net, losses = build_model("resnet10t", size=32, seed=0), []
    history = train(
        net, DATA, epochs=2, batch_size=32, after_step=lambda s: losses.append(s.loss), **fields
    )
    return net, history, losses


def test_blocks_computed_again_give_the_very_same_training():
    net, _, losses = trained()
    again, _, same = trained(checkpointing="blocks")
    assert losses == same
    for (name, one), other in zip(net.state_dict().items(), again.state_dict().values()):
        assert torch.equal(one, other), name


def test_blocks_of_ones_own_and_models_without():
    with seeded(0):
        block = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8))
        net = nn.Sequential(block, nn.Linear(8, 2))
    x, calls = normal(16, 8), []
    block[3].register_forward_hook(lambda *_: calls.append(1))
    with effml.recompute_blocks(net):
        net(x).sum().backward()
    assert block[1].num_batches_tracked == 1 and block[1].momentum == 0.1
    mean = functional.linear(x, block[0].weight, block[0].bias).mean(0)
    assert torch.allclose(block[1].running_mean, 0.1 * mean, atol=1e-6)
    assert "forward" not in vars(block) and not block[1]._forward_hooks
    with pytest.raises(ValueError, match="no blocks"), effml.recompute_blocks(nn.Linear(2, 2)):
        pass
    with pytest.raises(ValueError, match="no blocks"):
        train(build_model("lenet5"), DATA, epochs=1, checkpointing="blocks")


def test_parts_of_a_batch_sum_to_its_step():
    def linear():
        with seeded(0):
            return nn.Sequential(nn.Flatten(), nn.Linear(784, 2))

    one, two = linear(), linear()
    first = train(one, DATA, epochs=2, batch_size=40, optimizer="sgd", learning_rate=0.01)
    second = train(
        two, DATA, epochs=2, batch_size=40, optimizer="sgd", learning_rate=0.01, accumulate=4
    )
    assert first.steps == second.steps
    assert first.train_loss == pytest.approx(second.train_loss, rel=1e-5)
    assert torch.allclose(one[1].weight, two[1].weight, atol=1e-6)
    assert not torch.equal(one[1].weight, linear()[1].weight)
    saved = [
        train(build_model("mlp"), DATA, epochs=1, batch_size=40, accumulate=n).saved for n in (2, 4)
    ]
    assert saved[0]["saved_bytes"] > 1.5 * saved[1]["saved_bytes"]
    for wrong in (3, 40):
        with pytest.raises(ValueError, match="divisor of 40"):
            Recipe(batch_size=40, accumulate=wrong)
    with pytest.raises(ValueError, match="one of the two"):
        Recipe(activation_bits=8, checkpointing="blocks")


@pytest.mark.parametrize("bits, ratio", [(8, 3.5), (4, 6), (2, 9)])
def test_a_record_says_what_was_found_in_memory(bits, ratio):
    recipe = Recipe(model="resnet10t", size=32, epochs=1, batch_size=32, activation_bits=bits)
    record = effml.run(recipe)
    assert record.status == "ok", record.reason
    assert record.saved_bits == bits and record.saved_bytes_fp32 > ratio * record.saved_bytes
    assert record.gradient_bytes is None and record.allocator_used in ("mmap", "system")


def test_bits_that_are_not_there_are_not_in_the_record(monkeypatch):
    """Each is faked: 4 bits that are 8, nothing packed, gradients as they were."""
    base = Recipe(model="mlp", epochs=1, batch_size=400, activation_bits=4, gradient_bits=8)

    def found():
        record = effml.run(base)
        assert record.status == "ok", record.reason
        return (
            record.saved_bits,
            record.saved_bytes_fp32 / record.saved_bytes,
            record.gradient_bytes,
        )

    bits, ratio, sent = found()
    params = effml.run(base.but(epochs=0)).params
    assert bits == 4 and ratio > 6 and params < sent < 1.1 * params
    with monkeypatch.context() as fake:
        wide = lambda x, bits, *more: Packed(x, 8, *more)  # noqa: E731
        fake.setattr("effml.training.saved.Packed", wide)
        bits, ratio, same = found()
        assert bits == 8 and 3.5 < ratio < 4 and same == sent
    with monkeypatch.context() as fake:
        fake.setattr("effml.training.saved.SMALLEST", 10**12)
        bits, ratio, sent = found()
        assert not bits > 0 and ratio == 1 and sent == 4 * params
    monkeypatch.setattr("effml.training.saved.ErrorFeedback.step", lambda self: None)
    assert found()[2] is None


def test_a_loss_that_is_no_number_ends_a_training_in_parts_too():
    with pytest.raises(Diverged):
        train(build_model("mlp"), DATA, epochs=3, learning_rate=1e30, accumulate=2, batch_size=32)


def test_an_interrupted_training_with_packed_activations_and_gradients_goes_on(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("EFFML_CHECKPOINT_SECONDS", "0")
    recipe = Recipe(epochs=3, batch_size=48, activation_bits=4, gradient_bits=8, seed=1)
    whole = build_model("mlp", seed=0)
    losses = train(whole, DATA, recipe=recipe).train_loss

    def stop():
        nonlocal epochs
        epochs += 1
        if epochs == 3:
            raise KeyboardInterrupt

    half, epochs = build_model("mlp", seed=0), 0
    with pytest.raises(KeyboardInterrupt):
        train(half, DATA, recipe=recipe, checkpoint=tmp_path / "a", after_epoch=stop)
    history = train(half, DATA, recipe=recipe, checkpoint=tmp_path / "a")
    assert history.resumed_epoch == 2 and history.train_loss == losses
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), half.parameters()))


GROWTH = """
import torch
from torch import nn
from effml import pack_activations
from effml.metering.memory import give_back_freed_memory, peak_bytes, reset_peak, resident_bytes

torch.set_num_threads(1)
gives, x = give_back_freed_memory(), torch.ones(2048, 256)
net = nn.Sequential(*[part for _ in range(24) for part in (nn.Linear(256, 256), nn.ReLU())])
for bits in (8, 32, 8):
    held = []
    reset_peak()
    start = resident_bytes()
    with pack_activations(net, bits=bits):
        y = net[0](x)
        for part in net[1:]:
            y = part(y)
            held += [y] * HOLDS
    y.sum().backward()
    del y
    print(gives * (peak_bytes() - start))
    net.zero_grad()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("holds", [False, True])
def test_the_process_itself_grows_less_unless_somebody_holds_the_tensors(holds):
    code = GROWTH.replace("HOLDS", str(int(holds)))
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    _, plain, packed = map(float, done.stdout.split())
    if not plain:
        pytest.skip("the allocator is not glibc's")
    assert (packed < plain / 2) != holds
