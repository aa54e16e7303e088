"""Convolutions that pick their way: equal to float64, chosen, remembered, repeated, taken back."""

import copy
import json
import pickle

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

import effml
from effml import Recipe, fast_convolutions, run
from effml.convolutions import choosing, products, text
from effml.convolutions.products import Geometry
from effml.training import train
from tests.conftest import seeds

LAST = torch.channels_last


def always(monkeypatch, way="ppp"):
    """No measuring: each part that has another way than the library's goes it."""

    def measure(x, w, where, groups, learns):
        whole = way if groups == 1 else "ll" + way[2]
        return whole if learns else whole[0]

    monkeypatch.setattr(choosing, "measure", measure)


def any_layer(seed):
    """A convolution and its input, of random sizes and layouts, on small maps for the most part."""
    draw = torch.Generator().manual_seed(seed)

    def pick(*values):
        return values[int(torch.randint(len(values), (), generator=draw))]

    groups, channels = pick(1, 1, 1, 2, "depthwise"), pick(8, 12, 24)
    kernel = pick(1, 2, 3, 3, 5), pick(1, 3, 3, 5)
    dilation, stride = pick(1, 1, 2), (pick(1, 1, 2, 3), pick(1, 1, 2))
    padding = pick((1, 1), (0, 0), (2, 1), (kernel[0] // 2, kernel[1] // 2), "full")
    if padding == "full":
        padding = dilation * (kernel[0] - 1), dilation * (kernel[1] - 1)
    least = [max(1, dilation * (k - 1) + 1 - 2 * p) for k, p in zip(kernel, padding)]
    sides = [side + pick(0, 0, 1, 2, 5) for side in least]
    out = channels if groups == "depthwise" else pick(8, 16, 20)
    how = {"stride": stride, "padding": padding, "dilation": dilation, "bias": pick(True, False)}
    groups = channels if groups == "depthwise" else groups
    layer = nn.Conv2d(channels, out, kernel, groups=groups, **how)
    for p in layer.parameters():
        p.data.copy_(torch.randn(p.shape, generator=draw))
    x = torch.randn(pick(1, 3, 8), channels, *sides, generator=draw)
    layer = layer.to(memory_format=LAST) if pick(True, False) else layer
    return layer, x.to(memory_format=LAST) if pick(True, False) else x


def pointwise(channels=16):
    torch.manual_seed(0)
    return nn.Conv2d(channels, channels, 1), torch.randn(4, channels, 2, 2)


def results(layer, x, g):
    """Output, and the gradients of input and parameters, by name."""
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(g.to(y))
    found = {"output": y.detach(), "input": x.grad}
    return found | {name: p.grad for name, p in layer.named_parameters()}


def layout(t):
    return [stride for stride, size in zip(t.stride(), t.shape) if size > 1]


@pytest.mark.parametrize("seed", seeds(40, 200))
def test_outputs_and_gradients_are_those_of_float64(monkeypatch, seed):
    always(monkeypatch)
    layer, x = any_layer(seed) if seed else pointwise()
    exact = copy.deepcopy(layer).double()
    g = torch.randn(layer(x).shape, generator=torch.Generator().manual_seed(seed))
    g = g.to(memory_format=LAST) if seed % 2 else g
    expected = results(exact, x.double(), g)
    torch_layout = layout(layer(x))
    with fast_convolutions(layer) as made:
        found = results(layer, x, g)
        with torch.no_grad():
            assert torch.allclose(layer(x).double(), expected["output"], rtol=1e-4, atol=1e-4)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        error = (value - expected[name]).norm() / expected[name].norm().clamp(min=1e-9)
        assert error < 1e-5, (name, made)
    assert layout(found["output"]) == torch_layout
    assert layout(found["weight"]) == layout(layer.weight)


def test_the_random_layers_take_every_way(monkeypatch):
    always(monkeypatch)
    kinds = set()
    for seed in range(40):
        layer, x = any_layer(seed)
        with fast_convolutions(layer) as made:
            layer(x)
        kinds |= {(layer.groups == 1, way) for way in made.values()} or {"library"}
    assert kinds == {"library", (True, "ppp"), (False, "llp")}


@pytest.mark.parametrize("side", range(1, 6))
@pytest.mark.parametrize("kernel", (1, 2, 3, 5))
@pytest.mark.parametrize("stride", (1, 2, 3))
def test_the_products_are_all_pairs_of_pixels_that_a_tap_joins(side, kernel, stride):
    for padding in range(kernel):
        for dilation in (1, 2):
            outputs = (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            if outputs < 1:
                continue
            where = Geometry(*((n, n) for n in (side, kernel, stride, padding, dilation)))
            line = [
                (tap, o, o * stride - padding + tap * dilation)
                for tap in range(kernel)
                for o in range(outputs)
            ]
            line = [one for one in line if 0 <= one[2] < side]
            expected = {
                (i, j, r * outputs + c, a * side + b) for i, r, a in line for j, c, b in line
            }
            found = set()
            for i, j, output, seen in products.products(where):
                whole = isinstance(output, slice)
                pixels = [(n, n) for n in range(side * side)] if whole else [(output, seen)]
                assert not found & {(i, j, *pair) for pair in pixels}
                found |= {(i, j, *pair) for pair in pixels}
            assert found == expected


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EFFML_CACHE", str(tmp_path))
    return tmp_path


def test_a_shape_is_measured_once_and_remembered_for_later_processes(monkeypatch, cache):
    asked = []
    monkeypatch.setattr(
        choosing, "measure", lambda *a: asked.append(a[-1]) or "lpl"[: 3 if a[-1] else 1]
    )
    net, x = pointwise()
    for _ in range(2):
        with fast_convolutions(net) as made:
            net(x), net(x[:3]), net(torch.cat([x, x]))
            with torch.no_grad():
                net(x)
        short = {"4x16x2x2*16x16x1x1/1x1+0x0!ff", "8x16x2x2*16x16x1x1/1x1+0x0!ff"}
        assert made.keys() == short | {"4x16x2x2*16x16x1x1/1x1+0x0!ff?"}
        assert asked == [True, True, False]  # a batch of 3 goes as one of 4 does
    (file,) = cache.glob("convolutions-*.json")
    assert json.loads(file.read_text()) == made
    threads = torch.get_num_threads()
    try:  # another number of threads has other times
        torch.set_num_threads(threads + 1)
        with fast_convolutions(net):
            net(x)
    finally:
        torch.set_num_threads(threads)
    assert len(asked) == 4 and len([*cache.glob("convolutions-*.json")]) == 2


def test_what_another_process_remembered_meanwhile_stays(cache):
    net, x = pointwise()
    with fast_convolutions(net):
        net(x)
    (file,) = cache.glob("convolutions-*.json")
    before = json.loads(file.read_text())
    with fast_convolutions(net) as made:
        net(x[:2])
        file.write_text(json.dumps(before | {"theirs": "plp"}))
    assert json.loads(file.read_text()) == before | made | {"theirs": "plp"}


NAME = "4x16x2x2*16x16x1x1/1x1+0x0!ff"


@pytest.mark.parametrize(
    "damage", ["", "{", "[1]", '{"a": 1}', f'{{"{NAME}": 1}}', f'{{"{NAME}": "abc"}}']
)
def test_a_damaged_memory_is_measured_anew(cache, damage):
    net, x = pointwise()
    with fast_convolutions(net):
        net(x)
    (file,) = cache.glob("convolutions-*.json")
    file.write_text(damage)
    with fast_convolutions(net) as made:
        net(x)
    assert made.keys() == {NAME} and {*made[NAME]} <= {*"lp"}
    assert json.loads(file.read_text()).items() >= made.items()


def test_choices_can_be_repeated_and_what_they_do_not_name_goes_by_the_library(monkeypatch):
    net, x = pointwise()
    with monkeypatch.context() as patch:
        always(patch, "plp")
        with fast_convolutions(net) as made:
            net(x)
    with fast_convolutions(net, text(made)) as again:
        net(x), net(x[:2])
    assert again == made | {"2x16x2x2*16x16x1x1/1x1+0x0!ff": "lll"}
    with fast_convolutions(net, "library") as none:
        net(x)
    assert none == {} and text(none) == "library"
    (name,) = made
    with fast_convolutions(net, made) as same:  # as the block gave them
        net(x)
    assert same == made
    wrong = ["fast", "a=b", "x=ppp", "", "=", f"{name}=pp", f"{name}=pppp", f"{name}?=ppp"]
    for choices in [*wrong, f"{name}=ppp ", f"{name}=ppp b", {name: "zzz"}]:
        with pytest.raises(ValueError, match="Choose from: auto"):
            with fast_convolutions(net, choices):
                pass
    for kind in (None, 3, ["auto"]):
        with pytest.raises(ValueError, match="give a text, or the dict"):
            with fast_convolutions(net, kind):
                pass
    for given in ({name: "pp"}, {name: 1}, {"x": "ppp"}):
        with pytest.raises(ValueError, match="Choose from: auto"):
            with fast_convolutions(net, made=given):
                pass
    depthwise, y = nn.Conv2d(16, 16, 3, padding=1, groups=16), torch.randn(4, 16, 2, 2)
    with fast_convolutions(depthwise, {"4x16x2x2*16x1x3x3/1x1+1x1!ff": "ppp"}) as ways:
        assert torch.allclose(depthwise(y), nn.Conv2d.forward(depthwise, y))
    assert [*ways.values()] == ["llp"]  # there is no other way for the other parts


def test_the_faster_is_taken_by_the_best_of_three_turns(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(choosing.time, "perf_counter", lambda: now[0])

    def lasting(*seconds):
        times = iter([9.0, *seconds])  # the first call is not counted

        def work():
            now[0] += next(times)

        return work

    spared = choosing.seconds_spared
    assert spared(lasting(3.0, 3.0), lasting(1.0, 90.0)) == pytest.approx(2)  # clear after two
    assert spared(lasting(1.0, 1.0), lasting(3.0, 3.0)) == 0
    assert spared(lasting(200.0, 1.0), lasting(3.0, 3.0)) == 0  # it was stopped once
    assert spared(lasting(1.1, 1.1, 1.1), lasting(2.0, 1.0, 1.5)) == pytest.approx(0.1)
    assert spared(lasting(1.1, 1.0, 1.1), lasting(1.0, 0.96, 1.0)) == 0  # by a hair


@pytest.mark.parametrize(
    "gains, train, predict",
    [
        ([9e-5, 0.0, 9e-5], "plp", "p"),
        ([5e-5, 0.0, 4e-5], "lll", "p"),  # a function of Python's would cost more
        ([1e-5, 0.0, 0.0], "lll", "l"),
        ([0.0, 0.0, 1.0], "llp", "l"),
    ],
)
def test_ours_must_spare_more_than_its_call_costs(monkeypatch, gains, train, predict):
    for learns, expected in ((True, train), (False, predict)):
        left = iter(gains)
        monkeypatch.setattr(choosing, "seconds_spared", lambda theirs, mine: next(left))
        net, x = pointwise()
        with fast_convolutions(net) as made, torch.set_grad_enabled(learns):
            net(x)
        assert [*made.values()] == [expected]


class Scaled(nn.Conv2d):
    """Somebody's own convolution."""

    def _conv_forward(self, x, w, bias):
        return super()._conv_forward(x, 2 * w, bias)


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("kernel, stride, side", [(3, 1, 1), (3, 2, 2), (3, 1, 2), (1, 1, 2)])
def test_in_bfloat16_the_error_is_the_librarys(monkeypatch, autocast, kernel, stride, side):
    always(monkeypatch)
    torch.manual_seed(0)
    layer, x = nn.Conv2d(32, 32, kernel, stride, kernel // 2), torch.randn(16, 32, side, side)
    layer, x = (t if autocast else t.bfloat16() for t in (layer, x))
    g = torch.randn(layer(x).shape)
    low = torch.autocast("cpu", torch.bfloat16, enabled=autocast)
    rounded = copy.deepcopy(layer).bfloat16().double()
    exact = results(rounded, x.bfloat16().double(), g.bfloat16().double())
    with low:
        theirs = results(layer, x, g)
    layer.zero_grad()
    with fast_convolutions(layer) as made, low:
        found = results(layer, x, g)
    letters = "".join(made.values())
    assert letters == {(3, 1, 2): "lll", (3, 2, 2): "lpp"}.get((kernel, stride, side), "ppp")
    for name, value in exact.items():
        size = value.norm()
        ours, library = ((one[name].double() - value).norm() / size for one in (found, theirs))
        assert ours < 1.1 * library + 1e-3 and found[name].dtype == theirs[name].dtype, name


def test_what_is_timed_are_two_ways_of_the_same_part(monkeypatch):
    seen = []

    def spared(theirs, mine):
        ours = [one for one in (mine(),)]
        other = theirs()
        other = next(t for t in other if t is not None) if isinstance(other, tuple) else other
        seen.append(torch.allclose(ours[0], other, rtol=1e-3, atol=1e-3))
        return 1.0

    monkeypatch.setattr(choosing, "seconds_spared", spared)
    for groups, way in ((1, "ppp"), (16, "llp")):
        torch.manual_seed(0)
        net, x = nn.Conv2d(16, 16, 3, padding=1, groups=groups), torch.randn(4, 16, 2, 2)
        with fast_convolutions(net) as made:
            net(x)
        assert [*made.values()] == [way]
    assert seen == [True] * 4


def test_layers_of_the_same_sizes_that_move_otherwise_are_not_mixed_up(monkeypatch):
    always(monkeypatch)
    torch.manual_seed(0)
    moves = [{}, {"stride": 2}, {"stride": (1, 2)}, {"dilation": 2}, {"padding": 1}]
    moves += [{"padding": (2, 1)}, {"dilation": (1, 2)}, {"bias": False}]
    moves += [{"padding_mode": "circular"}]  # the library's, after its twin was met
    layers = nn.ModuleList(nn.Conv2d(16, 16, 3, **{"padding": 2} | how) for how in moves)
    x = torch.randn(4, 16, 2, 2)
    expected = [layer(x) for layer in layers]
    with fast_convolutions(layers) as made:
        for layer, right in zip([*layers, *layers], expected * 2):
            assert torch.allclose(layer(x), right, rtol=1e-4, atol=1e-4)
    assert {*made.values()} == {"ppp"}


def test_names_tell_shapes_apart():
    kinds = [{}, {"stride": 2}, {"padding": 1}, {"dilation": 2}]
    names = set()
    for how in kinds:
        net = nn.Conv2d(16, 16, 3, **{"padding": 2} | how)
        with fast_convolutions(net) as made:
            net(torch.randn(4, 16, 2, 2))
        names |= made.keys()
    assert len(names) == len(kinds)


def test_what_is_no_plain_float32_convolution_is_left_to_the_library(monkeypatch):
    always(monkeypatch)
    cases = [
        (nn.Conv3d(8, 8, 1), torch.randn(2, 8, 2, 2, 2)),
        (nn.Conv1d(8, 8, 1), torch.randn(2, 8, 2)),
        (nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular"), torch.randn(2, 8, 2, 2)),
        (nn.Conv2d(8, 8, 3, padding="same"), torch.randn(2, 8, 2, 2)),
        (nn.Conv2d(8, 8, 1), torch.randn(8, 2, 2)),
        (nn.Conv2d(8, 8, 1).double(), torch.randn(2, 8, 2, 2).double()),
        (nn.Conv2d(8, 8, 1).half(), torch.randn(2, 8, 2, 2).half()),
        (nn.Conv2d(8, 8, 3, padding=1).bfloat16(), torch.randn(2, 8, 3, 3).bfloat16()),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8).bfloat16(), torch.randn(2, 8, 1, 1).bfloat16()),
        (nn.Conv2d(16, 32, 1, groups=16), torch.randn(2, 16, 2, 2)),
        (nn.Conv2d(8, 8, 1), torch.randn(2, 8, 40, 40)),
        (nn.Conv2d(8, 8, 1), torch.randn(0, 8, 2, 2)),
        (nn.ConvTranspose2d(8, 8, 2), torch.randn(2, 8, 2, 2)),
        (Scaled(8, 8, 1), torch.randn(2, 8, 2, 2)),
    ]
    for layer, x in cases:
        expected = layer(x)
        with fast_convolutions(layer) as made:
            found = layer(x)
        assert torch.equal(found, expected) and {*"".join(made.values())} <= {"l"}, layer
    net, x = pointwise()
    with fast_convolutions(net) as made, torch.autocast("cpu", torch.float16):
        assert net(x).dtype == torch.float16
    with fast_convolutions(net) as made, torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(RuntimeError, match="type"):  # autocast leaves float64 alone
            net(x.double())
    assert made == {}
    with fast_convolutions(net) as made, pytest.raises(RuntimeError, match="channels"):
        net(torch.randn(4, 5, 2, 2))


def test_a_model_is_as_before_afterwards_and_can_be_copied_inside(monkeypatch):
    always(monkeypatch)
    net, x = pointwise()
    before = set(vars(net))
    with pytest.raises(ZeroDivisionError), fast_convolutions(net):
        1 / 0
    assert set(vars(net)) == before
    with fast_convolutions(net) as made:
        with fast_convolutions(net) as inner:  # the outer one keeps its choices
            net(x)
        twin = copy.deepcopy(net)
        with torch.no_grad():
            twin.weight.zero_(), twin.bias.zero_()
        assert net(x).any() and not twin(x).any()
        for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):  # torch's own forward
            torch.jit.trace(other, x, check_trace=False)
            assert torch.equal(other(x), torch.conv2d(x, net.weight, net.bias))
        assert b"effml" not in pickle.dumps(net)
    assert inner == {} and len(made) >= 1 and set(vars(net)) == before
    with fast_convolutions(twin) as later:  # a copy is trained the same way
        twin(x)
    assert later


def test_what_torch_transforms_goes_by_the_library(monkeypatch):
    always(monkeypatch)
    net, x = pointwise()
    weights = dict(net.named_parameters())

    def loss(weights, x):
        return torch.func.functional_call(net, weights, (x,)).square().sum()

    def direction():
        with forward_ad.dual_level():
            y = net(forward_ad.make_dual(x, torch.ones_like(x)))
            return forward_ad.unpack_dual(y).tangent

    several = torch.randn(3, *x.shape)
    expected = torch.func.grad(loss)(weights, x), torch.vmap(net)(several), direction()
    with fast_convolutions(net) as made:
        found = torch.func.grad(loss)(weights, x), torch.vmap(net)(several), direction()
        traced = torch.jit.trace(net, x, check_trace=False)
    assert made == {} and torch.allclose(traced(x), net(x), atol=1e-5)
    assert torch.allclose(found[0]["weight"], expected[0]["weight"], rtol=1e-4, atol=1e-4)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found[1:], expected[1:]))


def test_gradients_of_gradients_are_the_librarys(monkeypatch):
    always(monkeypatch)
    net, x = pointwise()
    x.requires_grad_()

    def penalty():
        (g,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), net.weight)[0]

    expected = penalty()
    with fast_convolutions(net) as made:
        found = penalty()
    assert "p" in "".join(made.values()) and torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_only_the_gradients_that_are_wanted_are_made(monkeypatch):
    always(monkeypatch)
    for frozen in ("weight", "bias"):
        net, x = pointwise()
        getattr(net, frozen).requires_grad_(False)
        x.requires_grad_()
        with fast_convolutions(net):
            net(x).sum().backward()
        assert getattr(net, frozen).grad is None and x.grad is not None
        assert all(p.grad is not None for p in net.parameters() if p.requires_grad)


def test_the_default_dtype_of_the_caller_changes_nothing(monkeypatch):
    always(monkeypatch)
    net, x = pointwise()
    expected = net(x)
    torch.set_default_dtype(torch.float64)
    try:
        with fast_convolutions(net):
            found = net(x)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32 and torch.allclose(found, expected, atol=1e-5)


def test_in_place_layers_may_follow(monkeypatch):
    always(monkeypatch)
    net, x = pointwise()
    block = nn.Sequential(net, nn.ReLU(inplace=True))
    with fast_convolutions(block):
        block(x).sum().backward()
    assert net.weight.grad.isfinite().all()


def deep():
    """A net whose last maps have one pixel."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU()]
    for _ in range(4):
        layers += [nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 2))


def test_training_goes_the_ways_and_says_which(monkeypatch):
    always(monkeypatch)
    images = torch.randint(0, 256, (64, 1, 28, 28), dtype=torch.uint8)
    how = {"epochs": 2, "batch_size": 32, "val": (images[:16], torch.arange(16) % 2)}
    told = {}
    for choices in ("auto", "library"):
        told[choices] = train(deep(), images, torch.arange(64) % 2, convolutions=choices, **how)
    assert "ppp" in told["auto"].convolutions.values() and not told["library"].convolutions
    again = train(
        deep(), images, torch.arange(64) % 2, convolutions=told["auto"].convolutions, **how
    )
    assert again.train_loss == told["auto"].train_loss
    for name in ("train_loss", "val_loss"):
        ours, theirs = (getattr(history, name) for history in told.values())
        assert ours == pytest.approx(theirs, rel=1e-3)


def test_a_record_says_the_choices_and_repeats_them_to_the_bit(monkeypatch, tmp_path):
    recipe = Recipe(data="phantom-chest", epochs=1, model="own:Sequential")
    with monkeypatch.context() as patch:
        always(patch, "pll")
        first = run(recipe, model=deep(), store=tmp_path)
    again = run(recipe.but(convolutions=first.convolutions_used), model=deep(), store=tmp_path)
    assert first.status == again.status == "ok" and "=pll" in first.convolutions_used
    assert again.convolutions_used == first.convolutions_used
    ours, theirs = (effml.load_arrays(tmp_path, one.run_id) for one in (first, again))
    assert (ours["test_probabilities"] == theirs["test_probabilities"]).all()
    assert run(recipe.but(convolutions="library"), model=deep()).convolutions_used == "library"
    with pytest.raises(ValueError, match="convolutions_used"):
        Recipe(convolutions="fast")


def test_a_proxys_choices_are_on_record_too(monkeypatch):
    always(monkeypatch)
    monkeypatch.setattr(effml.selection.proxy, "build_model", lambda *_, **__: deep())
    chosen = {"selection": "kcenter", "train_fraction": 0.2, "proxy": "lenet5@1"}
    record = run(Recipe(model="mlp", epochs=1, **chosen))
    assert record.status == "ok", record.reason
    assert "=ppp" in record.convolutions_used  # an mlp has none
