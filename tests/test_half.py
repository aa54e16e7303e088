"""Weights in 16 bits: stochastic rounding, the repairs, and the count of lost updates."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import effml
from effml import LostUpdates, Recipe, make_optimizer, repair_half, round_stochastically, train
from effml.optimizers.half import EPS, HALF_REPAIRS, accumulated, repairs
from effml.precision import arithmetic
from effml.settings import PROTOCOL, SETTINGS, setting
from test_training import dots

HALVES = torch.bfloat16, torch.float16


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def neighbours(x, dtype):
    """The two values of `dtype` around each x, by search among all 65 536."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype).double()
    every = every[every.isfinite()].unique()
    above = torch.searchsorted(every, x.double())
    exact = every[above] == x.double()
    return every[torch.where(exact, above, above - 1)], every[above]


@pytest.mark.parametrize("dtype", HALVES)
def test_a_value_becomes_one_of_its_two_neighbours_with_the_right_chances(dtype):
    sizes = [1.0, 1 + 2**-9, -3.1, 0.3333, 1e-5, -2.5e-7, 6e-8, 65504, -1e-3, 0.0, 2**-14, 5e-5]
    x = torch.tensor(sizes)
    low, high = neighbours(x, dtype)
    found = round_stochastically(x.repeat(100_000, 1), dtype, draw()).double()
    assert ((found == low) | (found == high)).all()
    up = ((x.double() - low) / (high - low).clamp(min=1e-300)).clamp(0, 1)
    share = (found == high).double().mean(0)
    moving = high > low
    assert (share - up)[moving].abs().max() < 5 * 0.5 / 100_000**0.5
    error = (found.mean(0) - x.double()).abs()  # unbiased: within 5 standard errors
    assert (error <= 5 * (high - low) * 0.5 / 100_000**0.5).all()


@pytest.mark.parametrize("dtype", HALVES)
def test_stochastic_rounding_keeps_what_needs_none_and_never_overflows(dtype):
    largest = torch.finfo(dtype).max
    odd = torch.tensor(
        [float("nan"), float("inf"), -float("inf"), largest * 1.0019, 3.4e38, -3.4e38]
    )
    found = round_stochastically(odd.repeat(1000, 1), dtype, draw()).float()
    assert found[:, 0].isnan().all() and (found[:, 1:3] == odd[1:3]).all()
    assert (found[:, 3:].abs() == largest).all()
    grid = torch.arange(2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    grid = grid[grid.isfinite() & ((grid == 0) | (grid.float().abs() >= torch.finfo(dtype).tiny))]
    assert torch.equal(round_stochastically(grid.float(), dtype, draw(1)), grid)
    x = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)
    assert round_stochastically(x, dtype, draw()).stride() == x.stride()
    same = [round_stochastically(x, dtype, draw(5)) for _ in range(2)]
    assert torch.equal(*same) and not torch.equal(same[0], round_stochastically(x, dtype, draw(6)))
    for wrong in ((x.double(), dtype), (x, torch.float64)):
        with pytest.raises(ValueError, match="float32, and torch.bfloat16 or"):
            round_stochastically(*wrong, draw())


def problem(seed=0, dtype=torch.bfloat16):
    """A weight of 1 and gradients far below its spacing."""
    weight = nn.Parameter(torch.ones(40, 30).to(dtype))
    noise = torch.randn(40, 30, generator=draw(seed)) + 2
    return weight, noise.to(dtype)


def walk(repair, n=100, name="adam", rate=1e-4, dtype=torch.bfloat16, seed=3):
    weight, gradient = problem(dtype=dtype)
    optimizer = repair_half(make_optimizer(name, [weight], rate), repair, seed=seed)
    for _ in range(n):
        weight.grad = gradient.clone()
        optimizer.step()
    return weight, optimizer


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "adam8bit"])
def test_small_updates_are_lost_and_two_repairs_keep_them(name):
    rate = 1e-5 if name == "sgd" else 1e-4
    exact = walk("none", name=name, rate=rate, dtype=torch.float32)[0]
    moved = (1 - exact).mean()
    assert 0.001 < moved < 0.05
    assert (walk("none", name=name, rate=rate)[0] == 1).all()
    weight, optimizer = walk("master", name=name, rate=rate)
    master = optimizer.state[weight]["master"]
    assert master.dtype == torch.float32 and torch.equal(weight, master.bfloat16())
    assert (master - exact).abs().max() < 0.1 * moved
    weight, optimizer = walk("stochastic", name=name, rate=rate)
    assert weight.dtype == torch.bfloat16 and "master" not in optimizer.state[weight]
    assert ((1 - weight.float()).mean() - moved).abs() < 0.1 * moved
    assert weight.grad.dtype == torch.bfloat16
    other = walk("stochastic", name=name, rate=rate, seed=4)[0]
    assert not torch.equal(other, weight)
    assert torch.equal(walk("stochastic", name=name, rate=rate)[0], weight)


def test_the_master_steps_exactly_as_a_float32_weight_does_and_its_state_is_float32():
    weight, optimizer = walk("master")
    wide = nn.Parameter(torch.ones(40, 30))
    plain = make_optimizer("adam", [wide], 1e-4)
    for _ in range(100):
        wide.grad = problem()[1].float()
        plain.step()
    assert torch.equal(optimizer.state[weight]["master"], wide)
    assert {str(v.dtype) for v in optimizer.state[weight].values()} == {"torch.float32"}
    assert walk("none")[1].state_dict()["state"][0]["exp_avg"].dtype == torch.bfloat16


@pytest.mark.parametrize("repair", ["master", "stochastic"])
@pytest.mark.parametrize("name", ["adam", "adam8bit"])
def test_a_saved_state_goes_on_exactly(repair, name, tmp_path):
    whole, _ = walk(repair, 60, name)
    weight, optimizer = walk(repair, 25, name)
    torch.save((weight.detach(), optimizer.state_dict()), tmp_path / "state")
    saved, state = torch.load(tmp_path / "state", weights_only=True)
    again = nn.Parameter(saved)
    fresh = repair_half(make_optimizer(name, [again], 1e-4), repair, seed=99)
    fresh.load_state_dict(state)
    assert again.dtype == torch.bfloat16 and torch.equal(again, weight)
    for _ in range(35):
        again.grad = problem()[1].clone()
        fresh.step()
    assert torch.equal(again, whole)


class Twice(torch.optim.SGD):
    def step(self, closure=None):
        super().step(closure)
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                p -= 1e-4


def test_a_step_that_calls_its_parents_is_one_step():
    torch.optim.SGD([nn.Parameter(torch.ones(1))])  # from now on the parent's step calls hooks too
    weight = nn.Parameter(torch.ones(40).bfloat16())
    optimizer = repair_half(Twice([weight], lr=1e-4), "master")
    for _ in range(3):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert torch.allclose(optimizer.state[weight]["master"], torch.tensor(1 - 6e-4), atol=1e-6)


def test_eps_in_float16_and_which_optimizers_have_one():
    """fp16 by hand: g² of 1e-4 is 0, and so is 1e-8; a step of torch's Adam is then huge."""
    gradient = torch.tensor(1e-4).half()
    assert gradient**2 == 0 and torch.tensor(1e-8).half() == 0 < torch.tensor(EPS).half()
    net = nn.Linear(3, 2).bfloat16()
    for name in ("adam", "adamw", "adam8bit"):
        optimizer = repair_half(make_optimizer(name, net.parameters(), 1e-3), "eps")
        assert [group["eps"] for group in optimizer.param_groups] == [1e-4]
    with pytest.raises(ValueError, match="SGD has no eps: leave"):
        repair_half(make_optimizer("sgd", net.parameters(), 0.1), "eps")
    optimizer = make_optimizer("adam", net.parameters(), 1e-3)
    before = copy.deepcopy(optimizer.state_dict())
    assert repair_half(optimizer, "none") is optimizer and optimizer.state_dict() == before


@pytest.mark.parametrize(
    "repair, words",
    [("kahan", "Choose from: eps, batchnorm"), ("eps+eps", "each once")]
    + [("master+stochastic", "not both"), ("", "Choose from")],
)
def test_an_unknown_repair_is_refused(repair, words):
    with pytest.raises(ValueError, match=words):
        repairs(repair)
    if repair:
        with pytest.raises(ValueError, match="Choose from: none, eps, batchnorm"):
            Recipe(half_repair=repair, precision="bf16")


def test_repairs_come_before_the_first_step_and_once():
    weight, optimizer = walk("none", 1)
    with pytest.raises(ValueError, match="before its first step"):
        repair_half(optimizer, "master")
    fresh = repair_half(make_optimizer("adam", [weight], 0.1), "eps+master")
    with pytest.raises(ValueError, match=r"repaired already \(eps\+master\): join"):
        repair_half(fresh, "stochastic")


def test_what_a_repair_could_not_mend_is_refused():
    weights = [nn.Parameter(torch.ones(3))]
    with pytest.raises(ValueError, match="has 16 bits: cast the model first"):
        repair_half(make_optimizer("adam", weights, 0.1), "master")
    weight, optimizer = walk("master", 1)
    for given in ([lambda: 0], {"closure": lambda: 0}):
        with pytest.raises(ValueError, match="takes no closure: call backward, then step"):
            optimizer.step(*given) if isinstance(given, list) else optimizer.step(**given)
    assert weight.dtype == torch.bfloat16


class Normed(nn.Sequential):
    def __init__(self):
        super().__init__(
            *(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.GroupNorm(2, 8)),
            *(nn.Flatten(), nn.LazyLinear(10), nn.LayerNorm(10), nn.BatchNorm1d(10)),
            *(nn.RMSNorm(10), nn.Linear(10, 2)),
        )
        self(torch.randn(4, 1, 28, 28))


def test_norms_stay_in_float32_and_the_rest_computes_in_16_bits():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net = Normed()
    net[1].running_mean += 1 / 3
    kept, plain = copy.deepcopy(net), copy.deepcopy(net)
    number_format = arithmetic("bf16", "cpu")
    number_format.prepare(kept, "batchnorm+master")
    number_format.prepare(plain)
    found = {type(m).__name__: m.weight.dtype for m in kept if hasattr(m, "weight")}
    norms = {name for name, dtype in found.items() if dtype == torch.float32}
    assert norms == {"BatchNorm2d", "GroupNorm", "LayerNorm", "BatchNorm1d", "RMSNorm"}
    assert torch.equal(kept[1].running_mean, net[1].running_mean)
    assert plain[1].running_mean.dtype == torch.bfloat16
    assert {p.dtype for p in plain.parameters()} == {torch.bfloat16}
    x = torch.randn(6, 1, 28, 28, generator=draw())
    for layer in kept:
        out = layer(x if layer is not kept[0] else x.bfloat16())
        assert out.dtype == torch.bfloat16
        x = out
    x.float().sum().backward()
    assert kept[1].weight.grad.dtype == torch.float32
    assert kept[0].weight.grad.dtype == torch.bfloat16
    twin = copy.deepcopy(kept).eval()  # hooks go with a copy
    assert twin(torch.randn(2, 1, 28, 28).bfloat16()).dtype == torch.bfloat16


class ByHand:
    """The oracle of LostUpdates: value by value."""

    def __init__(self, model):
        self.model, self.was = model, {n: p.tolist() for n, p in model.named_parameters()}
        self.counts = {n: [0, 0] for n in self.was}
        self.first = copy.deepcopy(self.was)
        self.learned = {n: np.zeros(p.numel(), bool) for n, p in model.named_parameters()}

    def __call__(self):
        for name, p in self.model.named_parameters():
            values, was = np.ravel(p.tolist()), np.ravel(self.was[name])
            for gradient, now, before in zip(np.ravel(p.grad.tolist()), values, was):
                self.counts[name][1] += gradient != 0
                self.counts[name][0] += gradient != 0 and now == before
            self.was[name] = p.tolist()
            self.learned[name] |= np.ravel(p.grad.tolist()) != 0


def test_the_counter_equals_a_count_by_hand():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 2)).bfloat16()
    net[0].weight.data[0] = 3.0
    x = torch.randn(16, 12, generator=draw(), dtype=torch.float32).bfloat16()
    optimizer = make_optimizer("adam", net.parameters(), 3e-4)
    lost, oracle, steps = LostUpdates(net, optimizer), ByHand(net), []
    for _ in range(12):
        optimizer.zero_grad()
        net(x).float().square().mean().backward()
        net[0].weight.grad[1, :4] = 0
        net[0].weight.grad[2, 5 : 5 + len(steps)] = 0
        optimizer.step()
        before = np.sum(list(oracle.counts.values()), 0)
        oracle()
        steps.append(np.subtract(np.sum(list(oracle.counts.values()), 0), before))
        assert lost() == tuple(steps[-1])
    counts = np.sum(list(oracle.counts.values()), 0)
    assert 0.1 < lost.fraction < 0.99 and lost.fraction == counts[0] / counts[1]
    assert lost.steps == [a / b for a, b in steps]
    still = {
        n: np.ravel(p.tolist()) == np.ravel(oracle.first[n]) for n, p in net.named_parameters()
    }
    still = {name: where[oracle.learned[name]] for name, where in still.items()}
    assert sum(map(len, still.values())) == sum(p.numel() for p in net.parameters()) - 4
    for name, (share, unmoved) in lost.layers.items():
        assert share == oracle.counts[name][0] / oracle.counts[name][1]
        assert unmoved == still[name].mean()
    assert lost.unmoved == pytest.approx(np.concatenate(list(still.values())).mean(), abs=1e-12)
    assert 0 < lost.unmoved < 1


def test_the_counter_looks_at_the_master_copy_and_forgets_what_is_no_update():
    for repair, all_lost in (("none", True), ("master", False)):
        weight, gradient = problem()
        net = nn.Module()
        net.weight = weight
        optimizer = repair_half(make_optimizer("adam", [weight], 1e-4), repair)
        lost = LostUpdates(net, optimizer)
        for _ in range(3):
            weight.grad = gradient.clone()
            optimizer.step()
            lost()
        assert (lost.fraction == 1) == all_lost == (lost.unmoved == 1)
        assert all_lost or lost.fraction == lost.unmoved == 0
        assert accumulated(weight, optimizer).dtype == (
            torch.bfloat16 if all_lost else torch.float32
        )
    with torch.no_grad():
        weight += 1
    lost.renew()
    weight.grad = torch.zeros_like(weight)
    assert lost() == (0, 0) and np.isnan(lost.steps[-1]) and not np.isnan(lost.fraction)
    weight.grad = None
    with pytest.raises(ValueError, match="before zero_grad"):
        lost()
    assert np.isnan(LostUpdates(net).fraction) and np.isnan(LostUpdates(net).unmoved)
    with pytest.raises(ValueError, match="Linear has no parameter that is trained"):
        LostUpdates(nn.Linear(2, 2).requires_grad_(False))


def test_to_cast_the_model_after_the_counter_was_made_is_no_update():
    net = nn.Module()
    net.weight = nn.Parameter(torch.rand(500, generator=draw()) + 0.5)
    lost = LostUpdates(net)
    net.bfloat16()
    net.weight.grad = torch.ones_like(net.weight)
    torch.optim.SGD(net.parameters(), lr=1e-9).step()
    assert lost() == (500, 500) and lost.unmoved == 1


def test_some_values_of_each_tensor_stand_for_the_others():
    net = nn.Module()
    net.small, net.large = (nn.Parameter(torch.ones(n).bfloat16()) for n in (100, 90_000))
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    some, whole = LostUpdates(net, optimizer, most=5000), LostUpdates(net, optimizer)
    for seed in range(4):
        for p, most in ((net.small, 1.0), (net.large, 0.01)):
            p.grad = (most * torch.rand(p.shape, generator=draw(seed))).bfloat16()
            p.grad[::5] = 0
        optimizer.step()
        lost, all_ = some()
        true, every = whole()
        assert (lost, all_) != (true, every) and all_ == pytest.approx(every, rel=0.02)
        assert lost == pytest.approx(true, rel=0.05)
    assert some.layers["small"] == whole.layers["small"]
    assert some.unmoved == pytest.approx(whole.unmoved, rel=0.1)
    assert 0.1 < whole.fraction < 0.9 and some.fraction == pytest.approx(whole.fraction, rel=0.05)
    assert {len(x) for x in some.last.values()} == {100, 5000}
    assert max(map(len, LostUpdates(net, most=4999).looked.values())) < 5000


@pytest.mark.parametrize("repair", ["none", "master"])
def test_of_some_steps_the_first_is_counted_as_it_is_when_all_are(repair):
    weight, gradient = problem()
    net = nn.Module()
    net.weight = weight
    optimizer = repair_half(make_optimizer("adam", [weight], 5e-3), repair)
    whole, some, told = LostUpdates(net, optimizer), LostUpdates(net, optimizer, every=3), []
    for step in range(8):
        weight.grad = gradient * (-1.0) ** step
        optimizer.step()
        told.append((whole(), some()))
    assert [one == two for one, two in told[::3]] == [True] * 3
    assert {two for _, two in told[1::3] + told[2::3]} == {(0, 0)}
    assert some.steps == whole.steps[::3] and len({*whole.steps}) > (repair == "none")


def trained(**fields):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net = Normed()
    lost = LostUpdates(net)
    how = {"epochs": 2, "batch_size": 48, "optimizer": "adam", "learning_rate": 1e-4}
    history = train(net, dots(), **{"precision": "bf16"} | how | fields, after_step=lost)
    return net, history, lost


def test_a_training_counts_its_lost_updates_like_the_hook():
    net, history, lost = trained()
    counted = history.updates_lost / history.updates
    assert 0.3 < counted < 1 and 0 < history.unmoved < 1
    assert counted == pytest.approx(lost.fraction, abs=0.02)  # though it saw fp32 first, and all
    assert history.unmoved == pytest.approx(lost.unmoved, abs=0.02)
    _, fp32, _ = trained(precision="fp32")
    assert fp32.updates == 0 and fp32.unmoved is None
    _, kept, _ = trained(half_repair="master")
    assert kept.updates_lost / kept.updates < 0.01 > kept.unmoved


@pytest.mark.parametrize("repair", ["batchnorm+stochastic", "eps+master"])
def test_an_interrupted_training_goes_on_the_same(repair, tmp_path, monkeypatch):
    monkeypatch.setenv("EFFML_CHECKPOINT_SECONDS", "0")
    whole, history, _ = trained(half_repair=repair, epochs=3)

    def stop():
        if (tmp_path / "state").exists():
            raise KeyboardInterrupt

    how = {"half_repair": repair, "epochs": 3, "checkpoint": tmp_path / "state"}
    with pytest.raises(KeyboardInterrupt):
        trained(**how, after_epoch=stop)
    resumed, again, _ = trained(**how)
    assert again.resumed_epoch == 1 and again.train_loss == history.train_loss
    for key, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[key]), key
    assert (again.updates, again.updates_lost) == (history.updates, history.updates_lost)
    assert again.unmoved == history.unmoved


FOUND = {
    "none": ("bfloat16", "bfloat16", 4),
    "eps": ("bfloat16", "bfloat16", 4),
    "batchnorm": ("bfloat16+float32", "bfloat16+float32", 4),
    "master": ("bfloat16", "float32", 12),
    "stochastic": ("bfloat16", "float32", 8),
}


@pytest.mark.parametrize("repair", FOUND)
def test_the_record_proves_the_repair(repair, tmp_path):
    recipe = Recipe(
        **{"model": "resnet10t", "size": 32, "data": "phantom-chest", "epochs": 1},
        **{"batch_size": 400, "optimizer": "adam", "precision": "bf16", "learning_rate": 1e-4},
        half_repair=repair,
    )
    record = effml.run(recipe, store=tmp_path, keep_weights=True)
    assert record.status == "ok", record.reason
    weights, state, bytes_each = FOUND[repair]
    assert (record.weights_dtype, record.optimizer_dtype) == (weights, state)
    assert record.optimizer_state_bytes / record.params == pytest.approx(bytes_each, rel=0.01)
    assert (record.lost_updates < 0.01) == (repair == "master")
    assert (record.unmoved_weights < 0.01) == (repair == "master")
    loaded = effml.load_run(record.run_id, tmp_path)
    arrays = effml.load_arrays(tmp_path, record.run_id)
    test = effml.load_dataset("phantom-chest", size=32).test.images[:20]
    given = arrays["test_probabilities"][:20]
    assert np.abs(loaded.predict(test) - given).max() < (0.02 if repair == "batchnorm" else 0.02)
    wrong = {"batchnorm": "none"}.get(repair, "batchnorm")
    assert FOUND[wrong][0] != record.weights_dtype


def test_repairs_without_half_weights_are_contradictions():
    for fields, words in (
        ({"half_repair": "master"}, "no effect on precision='fp32': give precision='bf16'"),
        ({"half_repair": "master", "precision": "amp_bf16"}, "no effect"),
        ({"half_repair": "eps", "precision": "bf16", "optimizer": "sgd"}, "sgd has no eps"),
        ({"half_repair": "master+eps", "precision": "bf16"}, "in this order"),
    ):
        with pytest.raises(ValueError, match=words):
            Recipe(**fields)
    both = Recipe(half_repair="eps+batchnorm+stochastic", precision="fp16")
    assert repairs(both.half_repair) == {*HALF_REPAIRS} - {"master"}
    assert Recipe(precision="bf16").id == Recipe(precision="bf16", half_repair="none").id


def test_the_five_settings_of_selvan_2023():
    assert list(SETTINGS) == ["baseline", "amp", "8bit", "8bit_half", "amp_8bit"]
    table = {
        name: tuple(setting(name, device)[key] for device in ("cpu", "cuda:0") for key in fields)
        for name in SETTINGS
        for fields in [("precision", "optimizer")]
    }
    assert table == {
        "baseline": ("fp32", "adam", "fp32", "adam"),
        "amp": ("amp_bf16", "adam", "amp_fp16", "adam"),
        "8bit": ("fp32", "adam8bit", "fp32", "adam8bit"),
        "8bit_half": ("bf16", "adam8bit", "fp16", "adam8bit"),
        "amp_8bit": ("amp_bf16", "adam8bit", "amp_fp16", "adam8bit"),
    }
    for device in ("cpu", "cuda"):
        for name in SETTINGS:
            Recipe(**PROTOCOL, **setting(name, device))
    for wrong in (("half", "cpu"), ("amp", "tpu")):
        with pytest.raises(ValueError, match="Choose from: (baseline|cuda)"):
            setting(*wrong)


@pytest.mark.parametrize(
    "name, weights, activations, state, bytes_each",
    [
        ("baseline", "float32", "float32", "float32", 8),
        ("amp", "float32", "bfloat16", "float32", 8),
        ("8bit", "float32", "float32", "uint8+float32", 2.1),
        ("8bit_half", "bfloat16", "bfloat16", "uint8+float32", 2.1),
        ("amp_8bit", "float32", "bfloat16", "uint8+float32", 2.1),
    ],
)
def test_each_setting_is_found_in_memory(name, weights, activations, state, bytes_each):
    record = effml.run(Recipe(model="mlp", epochs=1, batch_size=400, **setting(name)))
    assert record.status == "ok", record.reason
    assert (record.weights_dtype, record.activations_dtype) == (weights, activations)
    assert record.gradients_dtype == weights
    assert record.optimizer_dtype.split("+")[0] == state.split("+")[0]
    assert record.optimizer_state_bytes / record.params == pytest.approx(bytes_each, rel=0.1)
    assert (record.lost_updates is not None) == (name == "8bit_half")


def test_the_command_line_takes_a_setting(tmp_path, capsys):
    from effml.__main__ import main

    fields = ["model=mlp", "epochs=1", "--store", str(tmp_path), "--device", "cpu"]
    assert main(["run", *fields, "--setting", "8bit_half"]) == 0
    assert main(["sweep", "optimizer=adam", *fields, "--setting", "amp_8bit"]) == 0
    runs = effml.load_runs(tmp_path)
    assert runs.precision.tolist() == ["bf16", "amp_bf16"]
    assert runs.optimizer.tolist() == ["adam8bit", "adam"]
    assert main(["run", *fields, "--setting", "half"]) == 2
    assert "Choose from: baseline" in capsys.readouterr().err


@pytest.mark.parametrize("name", SETTINGS)
def test_every_layer_and_every_step_are_of_the_dtypes_that_are_told(name):
    """Looked at by hooks of the test's own, not at the end alone."""
    net, made, held = effml.build_model("lenet5", seed=0), set(), set()
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda *given: made.add(given[2].dtype))

    def look(step):
        adam = step.optimizer
        held.update((p.dtype, p.grad.dtype) for p in step.model.parameters())
        held.update(("m", adam.state[p]["exp_avg"].dtype) for p in adam.state if p.numel() > 4096)

    how = {"epochs": 1, "batch_size": 24} | setting(name)
    told = train(net, dots(), **how, after_step=look).dtypes
    assert {f"torch.{told['activations']}"} == {*map(str, made)}
    weights, gradients = (getattr(torch, told[which]) for which in ("weights", "gradients"))
    moments = getattr(torch, told["optimizer"].split("+")[0])
    assert held == {(weights, gradients), ("m", moments)}


def test_a_setting_that_is_not_carried_out_is_not_in_the_record(monkeypatch):
    """Each is faked: the name stands for something else, and the record says what was found."""
    names = ("weights", "activations", "gradients", "optimizer")

    def found(name):
        record = effml.run(Recipe(model="mlp", epochs=1, batch_size=400, **setting(name)))
        assert record.status == "ok", record.reason
        told = [record.get(f"{what}_dtype").split("+")[0] for what in names]
        return told, record.optimizer_quantised > 0.9, record.optimizer_state_bytes / record.params

    honest = {name: found(name) for name in ("amp", "8bit", "8bit_half", "amp_8bit")}
    for faked in ("amp_bf16", "bf16"):
        monkeypatch.setitem(effml.precision.PRECISIONS, faked, effml.precision.Arithmetic)
    for name in ("amp", "8bit_half", "amp_8bit"):
        dtypes, *state = found(name)
        assert dtypes[:3] == ["float32"] * 3 != honest[name][0][:3] and state == [*honest[name][1:]]
    adam = effml.optimizers.OPTIMIZERS["adam"]
    monkeypatch.setitem(effml.optimizers.OPTIMIZERS, "adam8bit", adam)
    dtypes, eight, each = found("8bit")
    assert (dtypes[3], eight) == ("float32", False) and each == pytest.approx(8, rel=0.01)
    assert honest["8bit"][0][3] == "uint8" and honest["8bit"][1]
