"""Channel pruning of nets of one's own: the outputs stay, and what is cut is the parent with those
channels silenced."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from conftest import seeds
from effml.compression import COMPRESSORS, sensitivity
from effml.compression.channels import _listed
from effml.compression.dependencies import output_layers
from effml.compression.silencing import Differs, Likeness, _redraw, silenced
from effml.compression.tracing import Runaway

pytestmark = pytest.mark.usefixtures("one_thread")


def images(n=4):
    return torch.randn(n, 1, 12, 12, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Layers by name, and a function of them and the input."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.function = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.function(self, x)


def pooled(x):
    return x.mean((2, 3))


def shuffle(x, groups=2):
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def conv(a, b):
    return nn.Conv2d(a, b, 3, padding=1)


def pruned(net, keep=0.5, name="channels", seed=0):
    """The cut net and its report, and by brute force: it has the outputs of the silenced parent, in
    their shape."""
    small, report = COMPRESSORS[name](net.eval(), keep, example=images(), seed=seed)
    parent = silenced(net, small, report)
    with torch.no_grad():
        for x in (images(), 3 * torch.randn(2, 1, 12, 12) + 1):
            expected, got = parent(x), small.eval()(x)
            assert got.shape == net(x).shape == expected.shape
            assert torch.allclose(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    return small, report


def two(join):
    return Net(
        lambda s, x: join(s.a(pooled(s.conv(x))), s.b(functional.relu(pooled(s.conv(x))))),
        a=nn.Linear(8, 4),
        conv=conv(1, 8),
        b=nn.Linear(8, 4),
    )


OUTPUTS = {
    "head first": (
        lambda: Net(
            lambda s, x: s.head(functional.relu(s.fc(pooled(s.conv(x))))),
            head=nn.Linear(8, 5),
            conv=conv(1, 8),
            fc=nn.Linear(8, 8),
        ),
        ["head"],
        {"fc": 4, "conv": 4},
    ),
    "sum of two": (lambda: two(torch.add), ["a", "b"], {"conv": 4}),
    "two side by side": (lambda: two(lambda a, b: torch.cat([a, b], 1)), ["a", "b"], {"conv": 4}),
    "a gated answer": (
        lambda: Net(
            lambda s, x: s.a(pooled(s.conv(x))) * s.b(pooled(s.conv(x))).sigmoid(),
            b=nn.Linear(8, 3),
            a=nn.Linear(8, 3),
            conv=conv(1, 8),
            idle=nn.Linear(3, 3),
        ),
        ["b", "a"],
        {"conv": 4},
    ),
    "a map through batch normalisation": (
        lambda: Net(
            lambda s, x: functional.interpolate(
                s.norm(s.last(functional.relu(s.conv(x)))), (24, 24)
            ),
            last=conv(8, 6),
            norm=nn.BatchNorm2d(6),
            conv=conv(1, 8),
        ),
        ["last", "norm"],
        {"conv": 4},
    ),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_all_layers_that_make_the_outputs_keep_them_wherever_they_are_registered(kind):
    make, makers, widths = OUTPUTS[kind]
    torch.manual_seed(0)
    net = make().eval()
    small, report = pruned(net)
    assert output_layers(net, images()) == makers
    assert not any("out" in report.layers.get(name, {}) for name in makers) and report.notes == ()
    assert {name: len(small.get_submodule(name).weight) for name in widths} == widths
    rows = sensitivity(net, lambda model: float(model(images()).detach().norm()), keeps=(0.5,))
    assert not {row["layer"] for row in rows} & {*makers}
    assert {*widths} <= {row["layer"] for row in rows}


def test_a_channel_shuffle_keeps_its_width_and_the_note_names_it():
    torch.manual_seed(0)
    net = Net(
        lambda s, x: s.fc(
            pooled(s.c(functional.relu(s.b(shuffle(functional.relu(s.a(x)))))).relu())
        ),
        a=conv(1, 8),
        b=conv(8, 8),
        c=conv(8, 8),
        fc=nn.Linear(8, 3),
    )
    small, report = pruned(net)
    assert [len(layer.weight) for layer in (small.a, small.b, small.c)] == [8, 4, 4]
    assert report.notes == (
        "1 of 3 groups of layers keep their width: cut, they are not what the model is with their channels silenced (a).",
    )


@pytest.mark.parametrize("values", ["random", "equal"])
def test_the_halves_of_a_gate_go_together_and_the_share_is_the_one_asked_for(values):
    torch.manual_seed(0)

    def gated(s, x):
        value, gate = s.a(x).chunk(2, 1)
        return s.fc(pooled(s.b(value * gate.sigmoid())))

    net = Net(gated, a=conv(1, 32), b=conv(16, 8), fc=nn.Linear(8, 3))
    if values == "equal":  # ties in importance must not tear pairs apart
        for layer in (net.a, net.b):
            nn.init.ones_(layer.weight)
    small, report = pruned(net)
    kept = report.layers["a"]["out"]
    assert len(kept) == 16 and kept[8:] == [16 + index for index in kept[:8]]
    assert len(small.b.weight) == 4 and report.layers["b"]["in"] == kept[:8] and report.notes == ()
    size = net.a.weight.detach().flatten(1).norm(dim=1) ** 2
    together = (size[:16] + size[16:]) / 2 + net.b.weight.detach().transpose(0, 1).flatten(1).norm(
        dim=1
    ) ** 2
    if values == "random":  # by hand: the pairs with the largest weights of both layers stay
        assert kept[:8] == together.topk(8).indices.sort().values.tolist()


def test_a_grouped_convolution_that_widens_is_cut_on_both_sides():
    torch.manual_seed(0)
    net = Net(
        lambda s, x: s.fc(pooled(s.b(functional.relu(s.a(x))))),
        a=conv(1, 8),
        b=nn.Conv2d(8, 16, 3, groups=2),
        fc=nn.Linear(16, 3),
    )
    with torch.no_grad():
        net.b.weight[[0, 1, 2, 3, 8, 9, 10, 11]] *= 0.01
    small, report = pruned(net)
    assert report.layers["b"]["out"] == [4, 5, 6, 7, 12, 13, 14, 15] and report.notes == ()
    assert len(small.a.weight) == 4 and small.b.groups == 2


def test_what_cannot_be_cut_as_asked_is_named_with_what_it_keeps():
    torch.manual_seed(0)
    net = Net(
        lambda s, x: s.fc(pooled(s.b(functional.glu(s.a(x), 1)))),
        a=conv(1, 32),
        b=conv(16, 8),
        fc=nn.Linear(8, 3),
    )
    _, report = pruned(net)
    told = "Another share than asked for, by first layer of a group: a 32 of 32."
    assert report.notes == (told,) and "out" not in report.layers.get("a", {})


def test_a_padded_shortcut_keeps_its_width_and_the_inner_channels_are_cut():
    """Option A of the residual nets for CIFAR: every second pixel, and channels of zeros."""
    torch.manual_seed(0)

    def block(s, x):
        x = functional.relu(s.norm(s.stem(x)))
        short = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        inner = functional.relu(s.first(s.a(x)))
        return s.fc(pooled(functional.relu(s.second(s.b(inner)) + short)))

    net = Net(
        block,
        stem=conv(1, 8),
        norm=nn.BatchNorm2d(8),
        a=nn.Conv2d(8, 16, 3, 2, 1),
        first=nn.BatchNorm2d(16),
        b=conv(16, 16),
        second=nn.BatchNorm2d(16),
        fc=nn.Linear(16, 3),
    )
    small, report = pruned(net)
    assert [len(layer.weight) for layer in (small.stem, small.a, small.b)] == [8, 8, 16]
    assert "silenced (stem)." in report.notes[0] and len(report.notes) == 1


def test_a_wrong_wiring_shows_though_the_weights_at_hand_hide_it():
    """A shuffle behind a scale of zero: trained or not, the cut that is handed out must be right
    for any weights."""
    torch.manual_seed(0)
    net = Net(
        lambda s, x: s.fc(pooled(s.c(x) + s.norm(s.b(shuffle(s.a(x)))))),
        a=conv(1, 8),
        b=conv(8, 6),
        norm=nn.BatchNorm2d(6),
        c=conv(1, 6),
        fc=nn.Linear(6, 3),
    )
    nn.init.zeros_(net.norm.weight)
    small, report = pruned(net)
    assert len(small.a.weight) == 8 and "silenced (a)." in report.notes[0]


@pytest.mark.parametrize("only", [None, torch.float32])
def test_a_wrong_wiring_behind_units_that_never_fire_shows_too(only):
    """Also where a model runs in one type of numbers only."""
    torch.manual_seed(0)

    def forward(s, x):
        assert only in (None, x.dtype)
        return s.fc(pooled(s.c(x) + s.b(shuffle(functional.relu(s.a(x))))))

    net = Net(forward, a=conv(1, 8), b=conv(8, 6), c=conv(1, 6), fc=nn.Linear(6, 3))
    nn.init.constant_(net.a.bias, -100)
    small, report = pruned(net)
    assert len(small.a.weight) == 8 and "silenced (a)." in report.notes[0]


def test_weights_that_cannot_be_redrawn_are_compared_as_they_are():
    def forward(s, x):
        assert x.dtype == torch.float32
        return s.b(pooled(s.a(x))) + (0.0 if s.b.bias.max() == 0 else torch.nan)

    net = Net(forward, a=conv(1, 8), b=nn.Linear(8, 3))
    nn.init.zeros_(net.b.bias)
    small, report = pruned(net)
    assert len(small.a.weight) == 4 and report.notes == ()


def test_the_comparison_sees_one_exchanged_channel_and_passes_what_is_right():
    torch.manual_seed(0)
    net = nn.Sequential(conv(1, 6), nn.Sigmoid(), conv(6, 4), nn.Flatten(), nn.Linear(576, 2))
    likeness, kept = Likeness(net, images()), [0, 2, 3, 5]

    def cut(order):
        small = nn.Sequential(conv(1, 4), nn.Sigmoid(), conv(4, 4), *net[3:]).double()
        whole = likeness.model
        small[4] = whole[4]
        for new, old in ((small[0], whole[0]), (small[2], whole[2])):
            new.bias = nn.Parameter(old.bias[kept] if new is small[0] else old.bias)
        small[0].weight, small[2].weight = (
            nn.Parameter(whole[0].weight[kept]),
            nn.Parameter(whole[2].weight[:, order]),
        )
        return small

    layers = {"0": {"out": kept}, "2": {"in": kept}}
    likeness.check(cut(kept), layers)
    with pytest.raises(Differs):
        likeness.check(cut([0, 3, 2, 5]), layers)
    wrong = cut(kept)
    wrong[0].weight = nn.Parameter(likeness.model[0].weight[[0, 3, 2, 5]])
    with pytest.raises(Differs) as error:
        likeness.check(wrong, layers)
    assert error.value.name == "2"  # which reads something else


def test_redrawn_scales_shifts_and_statistics_lie_about_1_and_all_differ():
    net = nn.Sequential(nn.Conv2d(20, 50, 5), nn.BatchNorm2d(50))
    _redraw(net, torch.Generator().manual_seed(0))
    for drawn in (net[0].bias, *net[1].parameters(), net[1].running_mean, net[1].running_var):
        assert drawn.min() >= 0.5 and drawn.max() <= 1.5 and len(drawn.unique()) == 50
    assert float(net[0].weight.detach().std()) == pytest.approx(
        500**-0.5, rel=0.02
    )  # the size stays


def test_a_model_of_other_outputs_each_time_is_refused():
    net = Net(
        lambda s, x: s.fc(functional.dropout(pooled(s.a(x)))), a=conv(1, 8), fc=nn.Linear(8, 2)
    )
    with pytest.raises(ValueError, match="in eval mode it gives other outputs each time"):
        COMPRESSORS["channels"](net.eval(), 0.5, example=images())


def test_a_net_of_which_nothing_can_be_cut_is_refused_with_the_fact():
    net = Net(
        lambda s, x: s.fc(s.lstm(x[:, 0])[0].mean(1)),
        lstm=nn.LSTM(12, 8, batch_first=True),
        fc=nn.Linear(8, 3),
    )
    with pytest.raises(ValueError, match=r"Net \(the outputs of lstm, an LSTM, cannot be cut\)"):
        COMPRESSORS["channels"](net.eval(), 0.5, example=images())


def test_four_groups_of_two_channels_keep_half_and_where_that_is_less_it_is_said():
    net = Net(
        lambda s, x: s.fc(pooled(s.b(s.a(x)))),
        a=conv(1, 8),
        b=nn.Conv2d(8, 8, 3, groups=4),
        fc=nn.Linear(8, 3),
    )
    _, half = pruned(net, keep=0.5)
    assert half.kept == 0.5 and half.notes == ()
    _, asked = pruned(net, keep=0.9)
    told = "Another share than asked for, by first layer of a group: "
    assert asked.kept == 0.5 and asked.notes[0].startswith(told) and "a 4 of 8" in asked.notes[0]
    assert pruned(net, keep=0.4)[1].kept == 0.5  # one of two is the least a group can keep


def test_eight_layers_are_listed_and_the_others_counted():
    assert _listed([*"abcdefgh"]) == "a, b, c, d, e, f, g, h"
    assert _listed([*"abcdefghij"]) == "a, b, c, d, e, f, g, h and 2 more"


def test_a_trace_that_runs_in_circles_names_the_layer():
    error = Runaway("a.b", "The channels of a.b cannot be followed.")
    assert str(error) == "The channels of a.b cannot be followed." and error.name == "a.b"


def test_convolutions_along_a_sequence_are_cut():
    torch.manual_seed(0)
    net = Net(
        lambda s, x: s.fc(s.b(functional.relu(s.a(x.flatten(2)))).mean(2)),
        a=nn.Conv1d(1, 8, 3),
        b=nn.Conv1d(8, 6, 3),
        fc=nn.Linear(6, 3),
    )
    small, report = pruned(net)
    assert [len(layer.weight) for layer in (small.a, small.b)] == [4, 3] and report.notes == ()


def test_at_batches_of_one_the_model_is_traced_as_it_is_called():
    torch.manual_seed(0)
    net = nn.Sequential(conv(1, 8), nn.ReLU(), nn.Flatten(-3), nn.Linear(8 * 144, 3)).eval()
    wide, one = (COMPRESSORS["channels"](net, 0.5, example=images(n))[1].layers for n in (4, 1))
    assert one == wide and len(one["0"]["out"]) == 4


class Random(nn.Module):
    """A random net of blocks, each of one kind: residual, concatenating, gating, shuffling, padding
    or squeezing."""

    def __init__(self, seed):
        super().__init__()
        pick = torch.Generator().manual_seed(seed)
        self.kinds, width = [], 8
        self.blocks, self.stem = nn.ModuleList(), conv(1, width)
        for _ in range(3):
            kind = ("residual", "concat", "gate", "shuffle", "pad", "squeeze")[
                int(torch.randint(6, (1,), generator=pick))
            ]
            wide = {"gate": 2 * width, "concat": 4, "squeeze": width}.get(kind, width)
            norm = (nn.BatchNorm2d, lambda n: nn.GroupNorm(1, n))[
                int(torch.randint(2, (1,), generator=pick))
            ]
            self.kinds.append(kind)
            self.blocks.append(nn.ModuleList([conv(width, wide), norm(wide), conv(wide, width)]))
            width += {"concat": 4, "pad": 4}.get(kind, 0)
        self.head, self.other = nn.Linear(width, 3), nn.Linear(width, 3)
        self.two = bool(torch.randint(2, (1,), generator=pick))
        self.unused = nn.Linear(3, 3)

    def forward(self, x):
        x = self.stem(x)
        for kind, (a, norm, b) in zip(self.kinds, self.blocks):
            y = norm(a(x))
            if kind == "residual":
                x = (x + b(y.sigmoid())).relu()
            elif kind == "concat":
                x = torch.cat([x, y.tanh()], 1)
            elif kind == "gate":
                value, gate = y.chunk(2, 1)
                x = x + value * gate.sigmoid()
            elif kind == "shuffle":
                x = b(shuffle(y.relu()))
            elif kind == "pad":
                x = functional.pad(x, (0, 0, 0, 0, 2, 2)) + functional.pad(
                    b(y.relu()), (0,) * 5 + (4,)
                )
            else:
                x = x * b(y.relu()).mean((2, 3), keepdim=True).sigmoid()
        x = x.mean((2, 3))
        return self.head(x) + self.other(x.relu()) if self.two else self.head(x)


@pytest.mark.parametrize("seed", seeds(4, 12))
def test_random_nets_keep_their_outputs_and_are_their_silenced_parents(seed):
    torch.manual_seed(seed)
    net = Random(seed)
    for layer in net.modules():
        if isinstance(layer, (nn.BatchNorm2d, nn.GroupNorm)):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
    for name, keep in (("channels", 0.5), ("channels_random", 0.3)):
        pruned(net, keep, name, seed)


def test_every_group_keeps_a_channel_however_little_is_asked_for():
    net = nn.Sequential(
        conv(1, 16),
        nn.ReLU(),
        conv(16, 6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )
    left = []
    for keep in (0.01, 0.06, 0.1, 0.2, 0.5):
        small, report = pruned(net, keep)
        left.append((small[0].out_channels, small[2].out_channels))
        assert report.kept == pytest.approx(sum(left[-1]) / 22)
    assert left == [(1, 1), (1, 1), (1, 1), (3, 1), (8, 3)]
