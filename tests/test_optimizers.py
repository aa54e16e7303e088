"""8-bit Adam against torch's own, what its state holds, and the report of any optimiser's state."""

import copy
import math
import sys

import pytest
import torch

import effml
from effml.optimizers import OPTIMIZERS, eight_bit, make_optimizer, state_report
from effml.optimizers.eight_bit import BLOCK, SMALLEST

SIZES = ((64, 100), (5000,), (33, 7, 3, 3, 3), (10,), (BLOCK * 20,))


def tensors(seed=0, sizes=SIZES, dtype=torch.float32):
    torch.manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(size).to(dtype)) for size in sizes]


def steps(optimizer, parameters, n, seed=1, spread=2.0):
    """Noisy gradients whose size differs from value to value over four decades, with a mean of a
    third of their noise."""
    draw = torch.Generator().manual_seed(seed)
    size = [10 ** (torch.rand(p.shape, generator=draw) * 2 * spread - spread) for p in parameters]
    for _ in range(n):
        for p, s in zip(parameters, size):
            p.grad = ((torch.randn(p.shape, generator=draw) + 0.3) * s).to(p.dtype)
        optimizer.step()
    return parameters


def second_moment(state):
    """v in float32, from its codes, value by value."""
    return ((state["exp_avg_sq"].int() << 20) + state["base"]).view(torch.float32).flatten()


class WrittenOut:
    """AdamW in float64, a line per formula (Loshchilov & Hutter 2019, algorithm 2): the oracle.
    torch's fused kernels are none, since they read a gradient that is set by hand in the memory
    order of its parameter."""

    def __init__(self, parameters, rate, decay=0.0):
        self.parameters, self.rate, self.decay, self.t = parameters, rate, decay, 0
        self.moments = [
            (torch.zeros_like(p).double(), torch.zeros_like(p).double()) for p in parameters
        ]

    @torch.no_grad()
    def step(self):
        self.t += 1
        for p, (m, v) in zip(self.parameters, self.moments):
            gradient = p.grad.double()
            m.mul_(0.9).add_(gradient, alpha=0.1)
            v.mul_(0.999).add_(gradient.square(), alpha=0.001)
            root = (v / (1 - 0.999**self.t)).sqrt() + 1e-8
            move = self.rate * m / (1 - 0.9**self.t) / root
            p.copy_(p.double() * (1 - self.rate * self.decay) - move)


@pytest.mark.parametrize("ours, decay", [("adam8bit", 0.0), ("adamw8bit", 0.01)])
def test_the_first_step_is_that_of_adam_and_the_following_stay_near_it(ours, decay):
    pairs = [tensors(), tensors()]
    optimizers = [make_optimizer(ours, pairs[0], 1e-3), WrittenOut(pairs[1], 1e-3, decay)]
    for optimizer, parameters in zip(optimizers, pairs):
        steps(optimizer, parameters, 1)
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(*pairs))
    start = copy.deepcopy(pairs[1])
    for optimizer, parameters in zip(optimizers, pairs):
        steps(optimizer, parameters, 300, seed=2)
    for eight, full, was in zip(*pairs, start):
        moved = (full - was).norm()
        assert moved > 0.02 * was.numel() ** 0.5
        assert (eight - full).norm() < 0.1 * moved
        assert (
            torch.corrcoef(torch.stack([(eight - was).flatten(), (full - was).flatten()]))[0, 1]
            > 0.99
        )


@pytest.mark.parametrize("name", ["adam8bit", "adam"])
def test_tensors_too_small_for_codes_step_as_adam_does(name):
    sizes = ((10, 10), (SMALLEST - 1,))
    ours, theirs = tensors(sizes=sizes), tensors(sizes=sizes)
    steps(make_optimizer(name, ours, 1e-3), ours, 20)
    steps(WrittenOut(theirs, 1e-3), theirs, 20)
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(ours, theirs))


def test_what_is_not_asked_is_as_in_adam():
    (p,) = tensors(sizes=((10,),))
    ours, theirs = eight_bit.Adam8bit([p]).defaults, torch.optim.Adam([p]).defaults
    assert ours == {name: theirs[name] for name in ours}


def test_the_mean_of_squares_is_followed_through_many_steps_smaller_than_a_code():
    p = torch.nn.Parameter(torch.zeros(4, SMALLEST))
    optimizer = make_optimizer("adam8bit", [p], 1e-9)
    size = 10 ** torch.linspace(-4, 4, 4 * SMALLEST).view(SMALLEST, 4).T.contiguous()
    expected = torch.zeros_like(size)
    for step in range(3000):
        p.grad = size if step < 1000 else torch.zeros_like(size)
        expected.mul_(0.999).add_(0.001 * p.grad.square())
        optimizer.step()
    ratio = second_moment(optimizer.state[p]).view_as(expected) / expected
    assert 0.7 < ratio.min()
    assert ratio.max() < 1.4
    assert abs(ratio.log().mean()) < 0.05
    assert ratio.log().std() < 0.12


def test_how_values_are_cut_into_chunks_changes_nothing(monkeypatch):
    whole, cut, alone = tensors(), tensors(), tensors()
    steps(make_optimizer("adamw8bit", whole, 1e-2), whole, 30)
    monkeypatch.setattr(eight_bit, "CHUNK", 4 * BLOCK)
    steps(make_optimizer("adamw8bit", cut, 1e-2), cut, 30)
    assert all(torch.equal(a, b) for a, b in zip(whole, cut))
    monkeypatch.undo()
    optimizer = make_optimizer(
        "adamw8bit", [{"params": [p]} for p in alone], 1e-2
    )  # a neighbour's padding cannot matter
    steps(optimizer, alone, 30)
    assert all(torch.equal(a, b) for a, b in zip(whole, alone))


def test_a_parameter_that_gets_no_gradient_in_some_steps_disturbs_no_other():
    """The codes of all lie side by side; here some are missing, and ages differ."""

    def train(parameters, optimizers):
        draw = torch.Generator().manual_seed(1)
        for i in range(12):
            for j, p in enumerate(parameters):
                gradient = torch.randn(p.shape, generator=draw)
                p.grad = None if (i + j) % 3 == 0 else gradient
            [optimizer.step() for optimizer in optimizers]

    together, alone = tensors(), tensors()
    train(together, [make_optimizer("adamw8bit", together, 1e-2)])
    train(alone, [make_optimizer("adamw8bit", [p], 1e-2) for p in alone])
    assert all(torch.equal(a, b) for a, b in zip(together, alone))


def test_the_mean_of_gradients_is_kept_to_a_twentieth_where_sizes_differ_by_four_decades():
    """m / sqrt(v) moves the weight: its error is that of a linear code over the range of a block,
    and that of the root, which follows the code of v."""
    (p,), (q,) = tensors(sizes=((BLOCK * 32,),)), tensors(sizes=((BLOCK * 32,),))
    optimizer, oracle = make_optimizer("adam8bit", [p], 1e-3), WrittenOut([q], 1e-3)
    steps(optimizer, [p], 50), steps(oracle, [q], 50)
    state, ((m, v),) = optimizer.state[p], oracle.moments
    root = (second_moment(state).view(torch.int32) >> 1).view(torch.float32)
    coded = torch.ops.quantized.embedding_bag_byte_unpack(state["exp_avg"]).flatten() * root
    assert ((coded - m) / v.sqrt()).norm() < 0.05 * (m / v.sqrt()).norm()


def test_memory_format_of_gradients_and_half_weights():
    ours, other = tensors(sizes=((32, 16, 3, 3),)), tensors(sizes=((32, 16, 3, 3),))
    for p in (ours[0], other[0]):
        p.data = p.data.to(memory_format=torch.channels_last)
    optimizers = [make_optimizer("adam8bit", p, 1e-2) for p in (ours, other)]
    for i in range(5):
        gradient = torch.randn(32, 16, 3, 3, generator=torch.Generator().manual_seed(i))
        ours[0].grad, other[0].grad = gradient.to(memory_format=torch.channels_last), gradient
        [optimizer.step() for optimizer in optimizers]
    assert torch.equal(*ours, *other) and ours[0].is_contiguous(memory_format=torch.channels_last)
    set_by_hand, oracle = tensors(sizes=((32, 16, 3, 3),)), tensors(sizes=((32, 16, 3, 3),))
    for optimizer, (p,) in (
        (make_optimizer("adam8bit", set_by_hand, 1e-2), set_by_hand),
        (WrittenOut(oracle, 1e-2), oracle),
    ):
        p.grad = gradient.to(memory_format=torch.channels_last)
        optimizer.step()
    assert torch.allclose(*set_by_hand, *oracle, rtol=1e-5, atol=1e-7)
    half = tensors(dtype=torch.bfloat16)
    steps(make_optimizer("adam8bit", half, 0.1), half, 3)
    assert all(p.dtype == torch.bfloat16 and p.isfinite().all() for p in half)
    assert (half[0].float() - tensors(dtype=torch.bfloat16)[0].float()).abs().mean() > 0.05


@pytest.mark.parametrize("name", ["adam8bit", "adamw8bit"])
def test_a_saved_state_continues_exactly(name, tmp_path):
    whole, halved = tensors(), tensors()
    optimizer = make_optimizer(name, whole, 1e-2)
    steps(optimizer, whole, 5), steps(optimizer, whole, 5, seed=3)
    optimizer = make_optimizer(name, halved, 1e-2)
    steps(optimizer, halved, 5)
    torch.save(optimizer.state_dict(), tmp_path / "state")
    later = make_optimizer(name, halved, 1e-2)
    later.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert {s["exp_avg"].dtype for s in later.state.values()} == {torch.uint8, torch.float32}
    steps(later, halved, 5, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(whole, halved))


def test_convergence_is_that_of_adam_within_the_noise_of_seeds():
    def loss(name, seed):
        draw = torch.Generator().manual_seed(seed)
        x, noise = torch.randn(2000, 40, generator=draw), torch.randn(2000, generator=draw)
        y = (x[:, 0] * x[:, 1] + x[:, 2] + 0.3 * noise > 0).long()
        torch.manual_seed(seed)
        model = torch.nn.Sequential(
            torch.nn.Linear(40, 128),
            torch.nn.ReLU(),
            torch.nn.Linear(128, 64),
            torch.nn.ReLU(),
            torch.nn.Linear(64, 2),
        )
        optimizer = make_optimizer(name, model.parameters(), 3e-3)
        for index in torch.randint(1500, (200, 64), generator=draw):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[index]), y[index]).backward()
            optimizer.step()
        return torch.nn.functional.cross_entropy(model(x[1500:]), y[1500:]).item()

    ours, theirs = (
        torch.tensor([loss(name, seed) for seed in range(4)]) for name in ("adam8bit", "adam")
    )
    assert theirs.max() < 0.6
    assert (ours - theirs).abs().mean() < 2 * theirs.std()


def test_state_report_counts_what_lies_in_memory():
    big = [torch.nn.Parameter(torch.randn(512, 512)), torch.nn.Parameter(torch.randn(512))]
    plain, reports = torch.optim.SGD(big, 1e-3), {}
    steps(plain, big, 1)
    assert state_report(plain)["bytes"] == state_report(plain)["bytes_per_parameter"] == 0
    for name in ("adamw", "sgd", "adam8bit"):
        optimizer = make_optimizer(name, big, 1e-3)
        assert state_report(optimizer)["bytes"] == 0  # before the first step
        steps(optimizer, big, 1)
        reports[name] = state_report(optimizer)
    n = 512 * 512 + 512
    assert reports["adamw"]["bytes"] == 8 * n + 2 * 4 and reports["adamw"]["tensors_quantised"] == 0
    assert reports["sgd"]["bytes"] == 4 * n
    eight = reports["adam8bit"]
    assert eight["bytes"] == 512 * 512 * 2 + 1024 * 12 + 512 * 8
    assert eight["bytes_per_parameter"] < 2.2
    assert (eight["tensors"], eight["tensors_quantised"]) == (2, 1)
    assert eight["fraction_quantised"] == 512 * 512 / n
    assert eight["dtypes"] == {
        "float32": 512 * 8,
        "uint8": 512 * 512 * 2 + 1024 * 8,  # m, its scale and its smallest value; v
        "int32": 1024 * 4,
    }


def test_a_recipe_asks_for_it_and_the_record_proves_it():
    from effml import Recipe, run

    record = run(Recipe(model="mlp", optimizer="adam8bit", epochs=1))
    assert record.status == "ok", record.reason
    assert record.optimizer_dtype.startswith("uint8+")
    assert record.optimizer_quantised > 0.9
    assert record.optimizer_state_bytes < 2.5 * record.params


@pytest.mark.parametrize("way", [lambda thing: thing, copy.deepcopy], ids=["itself", "a copy"])
@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "adam8bit"])
def test_a_first_step_that_the_loss_scale_skips_leaves_no_trace(monkeypatch, name, way):
    """torch's fused SGD took memory as it was found for its momentum: here it is NaN."""
    monkeypatch.setattr(torch, "empty_like", lambda like: torch.full_like(like, math.nan))
    weights = []
    for losses in ([math.inf, 1.0, 2.0], [1.0, 2.0]):
        p = torch.nn.Parameter(torch.ones(5, 3))
        p, optimizer = way((p, make_optimizer(name, [p], 0.1)))
        scaler = torch.amp.GradScaler("cpu", 8.0)
        for loss in losses:
            optimizer.zero_grad()
            scaler.scale(loss * p.square().sum()).backward()
            scaler.step(optimizer), scaler.update()
        weights.append(p.detach())
    assert torch.equal(*weights) and weights[0].isfinite().all()


def test_what_it_cannot_do_is_an_instruction(monkeypatch):
    table = torch.nn.Embedding(100, 64, sparse=True)
    table(torch.arange(3)).sum().backward()
    with pytest.raises(ValueError, match="sparse=False"):
        make_optimizer("adam8bit", table.parameters(), 1e-3).step()
    with pytest.raises(ValueError, match="Choose from: adamw"):
        make_optimizer("adam9bit", table.parameters(), 1e-3)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(ImportError, match="'adam8bit' needs none"):
        OPTIMIZERS["adam8bit_bnb"](table.parameters(), 1e-3)


def test_gradients_that_are_no_numbers_are_not_hidden():
    parameters = tensors(sizes=((5000,),))
    parameters[0].grad = torch.full((5000,), float("nan"))
    make_optimizer("adam8bit", parameters, 1e-3).step()
    assert parameters[0].isnan().all()


def test_a_closure_is_called_with_gradients():
    p = torch.nn.Parameter(torch.ones(SMALLEST))
    optimizer = make_optimizer("adam8bit", [p], 0.1)

    def closure():
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(5)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("parameters", "rate", "words"),
    [
        (None, -1, "learning_rate=-1 must be a number"),
        (None, "a", "learning_rate='a' must be a number"),
        (torch.nn.Linear(2, 2), 1e-3, r"give model.parameters\(\)"),
    ],
)
def test_what_an_optimizer_cannot_use_is_said(parameters, rate, words):
    for name in ("adam8bit", "adamw"):
        with pytest.raises(ValueError, match=words):
            make_optimizer(name, parameters or [torch.nn.Parameter(torch.ones(4))], rate)


def test_adamw_is_torchs_fused_one_to_the_bit_and_copies_no_gradient_that_lies_channels_last():
    last = torch.channels_last
    pairs = []
    for make in (make_optimizer, None):
        parameters = tensors(
            sizes=((8, 16, 3, 3), (8, 16, 3, 3), (8, 16, 1, 1), (5000,), (8, 1, 3, 3))
        )
        parameters[0].data = parameters[0].data.to(memory_format=last)
        parameters[2].data = parameters[2].data.to(memory_format=last)
        fused = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
        pairs.append((make("adamw", parameters, 1e-3) if make else fused, parameters))
    draws = [torch.Generator().manual_seed(1) for _ in pairs]
    for step in range(4):
        for draw, (optimizer, parameters) in zip(draws, pairs):
            for p in parameters[: 3 + step]:  # the last ones begin later
                p.grad = torch.empty_like(p).copy_(torch.randn(p.shape, generator=draw))
            optimizer.step()
    (ours, mine), (torchs, theirs) = pairs
    for a, b in zip(mine, theirs):
        assert torch.equal(a, b) and a.stride() == b.stride()
        for name, value in torchs.state[b].items():
            assert torch.equal(ours.state[a][name], value)
            assert ours.state[a][name].stride() == value.stride()
    with torch.profiler.profile() as seen:
        ours.step()
    assert not [event.name for event in seen.events() if event.name == "aten::clone"]


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_a_gradient_that_is_laid_otherwise_is_taken_rightly(name):
    torch.manual_seed(0)
    start, gradient = torch.randn(8, 6), torch.randn(8, 6)
    found = []
    for g in (gradient, gradient.t().contiguous().t()):
        p = torch.nn.Parameter(start.clone())
        optimizer = make_optimizer(name, [p], 0.1)
        for _ in range(2):
            p.grad = g.clone(memory_format=torch.preserve_format)
            optimizer.step()
        found.append(p.detach())
    assert torch.equal(*found)
    with pytest.raises(ValueError, match="weight_decay=nan"):
        make_optimizer(name, [p], 0.1, math.nan)


def test_rows_are_packed_on_a_gpu_as_torch_packs_them_on_a_cpu():
    rows = torch.randn(300, BLOCK, generator=torch.Generator().manual_seed(0))
    rows = torch.cat([rows**3 * 100, rows[:20] * 1e-9, torch.zeros(3, BLOCK), -rows[:9].abs()])
    ours, theirs = (
        eight_bit._pack_anywhere(rows),
        torch.ops.quantized.embedding_bag_byte_prepack(rows),
    )
    assert ours.shape == theirs.shape and torch.equal(ours[:, BLOCK:], theirs[:, BLOCK:])
    apart = (ours[:, :BLOCK].int() - theirs[:, :BLOCK].int()).abs()
    assert apart.max() <= 1 and (apart > 0).float().mean() < 1e-3  # halves round either way


def test_the_kernel_of_a_gpu_gets_tensors_of_one_shape_and_order(monkeypatch):
    """It refuses others (check_fast_path_restrictions in ATen's ForeachUtils.h). Where there is no
    GPU, torch's device without memory takes the same way."""
    taken = []

    def kernel(*lists, **_):
        *lists, no_maxima, ages = lists
        for same in zip(*lists, strict=True):
            assert len({(t.shape, t.stride(), t.dtype, t.device) for t in same}) == 1
            taken.append(same[0].numel())
        assert not no_maxima and len(ages) == len(lists[0]) and ages[0].is_meta

    monkeypatch.setattr(torch, "_fused_adamw_", kernel)
    monkeypatch.setattr(eight_bit, "CHUNK", 32 * BLOCK)
    shapes = ((100, 200), (64, 16, 3, 3), (SMALLEST + 5,), (40, 3), (1, 7000), ())
    parameters = [torch.nn.Parameter(torch.empty(shape, device="meta")) for shape in shapes]
    last = torch.empty(64, 16, 3, 3, device="meta").to(memory_format=torch.channels_last)
    parameters.append(torch.nn.Parameter(last))
    for p in parameters:
        p.grad = torch.empty_like(p)
    make_optimizer("adam8bit", parameters, 1e-3).step()
    assert sum(taken) == sum(p.numel() for p in parameters) and len(taken) > len(parameters)


@pytest.mark.parametrize("name", ["adam8bit_bnb", "adam8bit"])
@pytest.mark.parametrize("repair", ["master", "stochastic", "eps"])
def test_weights_in_16_bits_go_on_exactly_from_a_saved_state(name, repair, tmp_path):
    """bitsandbytes calls no hooks when it loads, and gives a float32 copy the dtype of the weight:
    before this was looked after, the copy was cut to 16 bits without a word."""
    if name.endswith("_bnb"):
        pytest.importorskip("bitsandbytes")

    def start(weights):
        p = torch.nn.Parameter(weights.bfloat16())
        return p, effml.repair_half(make_optimizer(name, [p], 1e-4), repair, seed=3)

    ones = torch.ones(90, 60)
    (whole, optimizer), (half, first) = start(ones), start(ones)
    steps(optimizer, [whole], 8), steps(optimizer, [whole], 9, seed=3)
    steps(first, [half], 8)
    torch.save(first.state_dict(), tmp_path / "state")
    again, later = start(half.detach())
    later.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    kept = later.state[again].get("master")
    assert (kept is not None) == (repair == "master")
    assert kept is None or kept.dtype == torch.float32 and torch.equal(kept.bfloat16(), again)
    steps(later, [again], 9, seed=3)
    assert torch.equal(whole, again) and again.dtype == torch.bfloat16
