"""What compressors take: each entry of COMPRESSORS against models and inputs of many kinds, each
taken or refused by name."""

import copy
import re

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from effml.compression import COMPRESSORS

pytestmark = pytest.mark.usefixtures("one_thread")
IMAGES = torch.randn(4, 1, 12, 12, generator=torch.Generator().manual_seed(0))
MERGE = [name for name in COMPRESSORS if name.startswith("merge")]


def net():
    """Plain layers, which every compressor takes but channels_bn; those behind it stand in the case
    `norm`."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 8),
        nn.ReLU(),
        nn.Linear(8, 2),
    )


def with_norm():
    model = net()
    model[1] = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU())
    return model


def perceptron():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3)
    )


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.norm = nn.Embedding(50, 32), nn.LayerNorm(32)
        self.up, self.down, self.head = nn.Linear(32, 64), nn.Linear(64, 32), nn.Linear(32, 3)

    def forward(self, ids):
        x = self.table(ids)
        return self.head(self.norm(x + self.down(self.up(x).relu())).mean(1))


class Encoder(nn.Module):
    """torch's encoder layer reads the weights of its linear layers itself."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 32)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.head = nn.Linear(32, 3)

    def forward(self, x):
        return self.head(self.layer(self.first(x)).mean(1))


def call(name, model, example, **others):
    data = {"data": example} if name == "channels_taylor" else {}
    return COMPRESSORS[name](model, 0.5, example=example, **data | others)


TAKEN = {
    "plain": (net, IMAGES),
    "norm": (with_norm, IMAGES),
    "uint8 images": (net, (IMAGES * 50 + 128).clamp(0, 255).to(torch.uint8)),
    "bfloat16": (lambda: net().bfloat16(), IMAGES),
    "float16": (lambda: net().half(), IMAGES),
    "float64": (lambda: net().double(), IMAGES),
    "vectors": (perceptron, torch.randn(4, 16)),
    "sequences": (perceptron, torch.randn(4, 5, 16)),
    "token ids": (Tokens, torch.randint(0, 50, (4, 7))),
    "encoder": (Encoder, torch.randn(4, 5, 8)),
}


@pytest.mark.parametrize("kind", TAKEN)
@pytest.mark.parametrize("name", COMPRESSORS)
def test_every_compressor_takes_every_kind_or_says_which_layers_it_needs(name, kind):
    make, example = TAKEN[kind]
    model = make().eval()
    if name in MERGE and kind in ("norm", "token ids", "encoder"):
        with pytest.raises(ValueError, match="plain nn.Sequential"):
            call(name, model, example)
        return
    if name == "channels_bn" and kind != "norm":
        with pytest.raises(ValueError, match="has no batch normalisation"):
            call(name, model, example)
        return
    small, report = call(name, model, example)
    weight = next(model.parameters())
    x = example.div(127.5).sub(1) if example.dtype == torch.uint8 else example
    x = x.to(weight) if x.is_floating_point() else x
    with torch.no_grad():
        out, whole = small.eval()(x), model(x)
    assert out.shape == whole.shape and out.dtype == weight.dtype and out.isfinite().all()
    assert 0 < report.kept < 1
    counted = "nonzero_params" if name.startswith("magnitude") else "params"
    assert report.ratios[counted] < 1
    if kind == "encoder" and name.startswith("svd"):
        assert "stay as they are: layer.linear1, layer.linear2." in report.notes[-1]


class Answers(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.net, self.answer = net(), answer

    def forward(self, x):
        return self.answer(self.net(x))


class Lone(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


def changed(change):
    def make():
        model = with_norm()
        changed_model = change(model)
        return changed_model if isinstance(changed_model, nn.Sequential) else model

    return make


def tied():
    model = perceptron()
    model[2].weight = nn.Parameter(torch.randn(32, 32))
    model.insert(4, nn.Linear(32, 32))
    model[4].weight = model[2].weight
    return model


def sparse(model):
    model[6].weight = nn.Parameter(model[6].weight.detach().to_sparse())


def whole_numbers(model):
    model.append(nn.Identity())
    model[-1].count = nn.Parameter(torch.ones(3, dtype=torch.long), requires_grad=False)


def set_nan(tensor):
    tensor.data.view(-1)[0] = torch.nan


def quantized():
    return torch.ao.quantization.quantize_dynamic(with_norm().eval(), {nn.Linear})


REFUSED = {
    "weight norm": (
        changed(lambda m: parametrizations.weight_norm(m[2])),
        "weights of layer 2 are computed at each call .*remove_parametrizations",
    ),
    "spectral norm": (
        changed(lambda m: parametrizations.spectral_norm(m[6])),
        "weights of layer 6 are computed at each call",
    ),
    "old weight norm": (
        changed(lambda m: nn.utils.weight_norm(m[2])),
        "weights of layer 2 are computed at each call .*remove_weight_norm",
    ),
    "old spectral norm": (
        changed(lambda m: nn.utils.spectral_norm(m[2])),
        "weights of layer 2 are computed at each call .*remove_spectral_norm",
    ),
    "mask": (
        changed(lambda m: prune.l1_unstructured(m[2], "weight", 0.5)),
        "weights of layer 2 are computed at each call .*prune.remove",
    ),
    "NaN weights": (
        changed(lambda m: set_nan(m[2].weight)),
        "1 of the 1152 numbers of 2.weight are not finite .*diverged",
    ),
    "infinite statistics": (
        changed(lambda m: m[1][0].running_var.fill_(torch.inf)),
        "8 of the 8 numbers of 1.0.running_var are not finite",
    ),
    "a tuple": (lambda: Answers(lambda x: (x, x.mean())), "gives a tuple, .*give logits"),
    "a dict": (lambda: Answers(lambda x: {"out": x}), "gives a dict, .*give logits"),
    "classes": (lambda: Answers(lambda x: x.argmax(1)), "gives torch.int64, .*give logits"),
    "no parameters": (Lone, "Lone has no parameters"),
    "lazy": (
        changed(lambda m: nn.Sequential(*m[:-1], nn.LazyLinear(2))),
        "8.weight has no values yet.*call a lazy model once",
    ),
    "meta": (changed(lambda m: m.to("meta")), "0.weight has no values yet. Load the weights"),
    "sparse": (changed(sparse), "6.weight is torch.float32 .torch.sparse_coo.*dense"),
    "complex": (changed(lambda m: m.to(torch.complex64)), "is torch.complex64 .*floating-point"),
    "whole numbers": (
        changed(whole_numbers),
        "9.count is torch.int64 .*parameters must be dense floating-point",
    ),
    "quantised": (quantized, "layer 6 is quantised"),
    "shared": (tied, "2.weight and 4.weight are one tensor"),
    "compiled": (
        lambda: torch.jit.trace(net(), IMAGES),
        "TopLevelTracedModule is no plain model.*before torch.compile or torch.jit",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", REFUSED)
def test_every_compressor_refuses_by_name_what_it_would_get_wrong(kind):
    make, words = REFUSED[kind]
    model = make()
    for name in COMPRESSORS:
        with pytest.raises(ValueError, match=f"^{name}: .*{words}"):
            call(name, model, IMAGES)


@pytest.mark.parametrize(
    "example, words",
    [
        (None, "got NoneType"),
        (torch.tensor(1.0), r"got shape \(\)"),
        (IMAGES[:0], r"got shape \(0, 1, 12, 12\)"),
        (IMAGES[:, :, 0], "does not take this example ((4, 1, 12), float32); it says: "),
        (torch.full_like(IMAGES, torch.nan), "example holds numbers that are not finite"),
        (torch.ones(4, 16), "does not take this example ((4, 16), float32); it says: "),
    ],
)
def test_every_compressor_refuses_an_example_that_the_model_does_not_take(example, words):
    words = words if "\\" in words else re.escape(words)
    for name in COMPRESSORS:
        with pytest.raises(ValueError, match=f"^{name}: .*{words}"):
            COMPRESSORS[name](with_norm(), 0.5, example=example, data=IMAGES)
    with pytest.raises(ValueError, match="^svd: data must be a batch.*images.*got list"):
        COMPRESSORS["svd"](net(), 0.5, example=IMAGES, data=[1])


def test_minus_infinity_of_an_attention_mask_is_no_diverged_run():
    model = net()
    model.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
    assert call("magnitude", model, IMAGES)[1].kept == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("name", ["magnitude", "svd", "channels"])
def test_every_module_comes_back_in_its_own_mode(name):
    """Frozen batch normalisation in a model in training stays frozen, and its statistics stay as
    they are."""
    model = with_norm().train()
    model[1][0].eval()
    before = copy.deepcopy(model.state_dict())
    small, _ = call(name, model, IMAGES)
    assert small.training and small[6].training and not small[1][0].training
    assert [module.training for module in model.modules()].count(False) == 1
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_linear_layer_on_sequences_is_not_merged_through_a_flattening():
    """Behind it the units of one place stand beside each other, not the places of one unit as
    behind a convolution."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(8, 6), nn.ReLU(), nn.Flatten(), nn.Linear(30, 8), nn.ReLU(), nn.Linear(8, 2)
    )
    for name in MERGE:
        with pytest.raises(ValueError, match="What layer 3 reads are not the units"):
            COMPRESSORS[name](model, 0.5, example=torch.randn(4, 5, 8))
    sequences = torch.randn(4, 5, 16)
    model = perceptron()
    model[0].weight.data[16:], model[0].bias.data[16:] = model[0].weight[:16], model[0].bias[:16]
    model[2].weight.data[16:], model[2].bias.data[16:] = model[2].weight[:16], model[2].bias[:16]
    small, _ = COMPRESSORS["merge"](model, 0.5, example=sequences)  # copies merge for nothing
    with torch.no_grad():
        assert torch.allclose(small(sequences), model(sequences), atol=1e-5)


class Reads(nn.Module):
    """Reads the weights of one of its layers itself."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(16, 32), nn.Linear(16, 3)

    def forward(self, x):
        return self.b(nn.functional.linear(self.a(x), self.a.weight.t()))


def test_a_model_that_does_not_run_without_what_was_removed_is_refused():
    with pytest.raises(ValueError, match="^svd: without what was removed Reads does not run"):
        COMPRESSORS["svd"](Reads().eval(), 0.5, example=torch.randn(2, 16))
    with pytest.raises(ValueError, match="OptimizedModule is no plain model.*before torch.compile"):
        COMPRESSORS["svd"](torch.compile(Reads()), 0.5, example=torch.randn(2, 16))


class Draws(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 2)

    def forward(self, x):
        return self.b(self.a(x + torch.randn_like(x)))


def test_a_model_that_draws_moves_no_global_generator():
    model, before = Draws().eval(), torch.get_rng_state()
    for name in ("svd", "magnitude"):
        COMPRESSORS[name](model, 0.5, example=torch.zeros(2, 16))
    assert torch.equal(torch.get_rng_state(), before)
