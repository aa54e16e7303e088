"""Models of one's own: compressed by name, saved and loaded with the user's class, exported,
pickled."""

import copy
import functools
import io
import pickle

import pytest
import torch
from torch import nn

from conftest import seeds
from effml.compression import COMPRESSORS, MERGERS, compress, load_compressed, save_compressed
from effml.compression.channels import reestimate
from effml.compression.saving import load_with_recipe
from effml.compression.silencing import Differs
from effml.compression.tracing import Fault, Runaway

pytestmark = pytest.mark.usefixtures("one_thread")
IMAGES = torch.randn(4, 1, 12, 12, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randint(0, 50, (4, 7), generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width)
        self.a, self.b = (nn.Conv2d(width, width, 3, padding=1) for _ in "ab")
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        return self.head((x + self.b(self.a(x).relu())).mean((2, 3)))


class Grouped(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.point, self.grouped = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 3, groups=2)
        self.scale = nn.GroupNorm(2, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = self.point(self.depthwise(self.norm(self.stem(x)).relu()).relu())
        return self.head(self.scale(self.grouped(x)).relu().mean((2, 3)))


class Encoder(nn.Module):
    """A small transformer: tokens, positions, attention by hand, a feed-forward block."""

    def __init__(self, width=16, heads=2):
        super().__init__()
        self.heads, self.table = heads, nn.Embedding(50, width)
        self.places = nn.Parameter(torch.randn(1, 7, width))
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in "qkv")
        self.out, self.up = nn.Linear(width, width), nn.Linear(width, 4 * width)
        self.down, self.head = nn.Linear(4 * width, width), nn.Linear(width, 3)

    def forward(self, ids):
        x = self.table(ids) + self.places
        y = self.before(x)
        parts = [
            layer(y).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        ]
        y = nn.functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        x = x + self.out(y)
        return self.head((x + self.down(self.up(self.between(x)).relu())).mean(1))


class Layered(nn.Module):
    """torch's own encoder layer."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, ids):
        return self.head(self.layer(self.table(ids)).mean(1))


def perceptron():
    first = [nn.Flatten(), nn.Linear(144, 32), nn.ReLU(), nn.Linear(32, 16)]
    return nn.Sequential(*first, nn.ReLU(), nn.Linear(16, 3))


OWN = {
    "residual": (Residual, IMAGES),
    "grouped": (Grouped, IMAGES),
    "perceptron": (perceptron, IMAGES),
    "encoder": (Encoder, TOKENS),
    "layered": (Layered, TOKENS),
}
CASES = [
    (kind, name)
    for kind in OWN
    for name in COMPRESSORS
    if (kind == "perceptron" or name not in MERGERS)
    and not (name == "channels_bn" and kind in ("perceptron", "encoder", "layered"))
]


@functools.cache
def made(kind, name, keep=0.5):
    """Shared: to be copied before it is changed."""
    torch.manual_seed(0)
    make, example = OWN[kind]
    model = make()
    if kind in ("residual", "grouped"):
        reestimate(model, IMAGES)
    return compress(model.eval(), name, keep, example=example, data=example), example


def outputs(model, x):
    with torch.no_grad():
        return model.eval()(x)


@pytest.mark.parametrize("kind, name", CASES)
def test_an_own_model_comes_back_from_disk_and_from_a_pickle_to_the_bit(tmp_path, kind, name):
    (small, report), example = made(kind, name)
    expected = outputs(small, example)
    file = save_compressed(tmp_path / "m", small, report)
    fresh = OWN[kind][0]()
    before = copy.deepcopy(fresh.state_dict())
    again = load_compressed(file, model=fresh)
    assert torch.equal(outputs(again, example), expected) and str(again) == str(small)
    assert all(torch.equal(before[key], value) for key, value in fresh.state_dict().items())
    for other in (pickle.loads(pickle.dumps(small)), copy.deepcopy(small)):
        other.load_state_dict(again.state_dict())
        assert torch.equal(outputs(other, example), expected)
    assert pickle.loads(pickle.dumps(report)) == report


FEW = [case for case in CASES if case[1] in ("channels", "svd_spatial", "merge_conv", "magnitude")]


@pytest.mark.parametrize("kind, name", FEW if len(seeds(1, 2)) == 1 else CASES)
def test_a_compressed_own_model_goes_through_torch_export(kind, name):
    (small, _), example = made(kind, name)
    expected = outputs(small, example)
    exported, file = torch.export.export(small.eval(), (example,)), io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    for program in (exported, torch.export.load(file)):
        assert torch.allclose(outputs_of(program, example), expected, atol=1e-5)


def outputs_of(program, x):
    with torch.no_grad():
        return program.module()(x)


def test_of_two_compressions_and_training_all_comes_back(tmp_path):
    (small, first), x = copy.deepcopy(made("residual", "channels"))
    small, second = compress(small, "svd", 0.3, example=x)
    small.train()(x)
    nn.init.normal_(small.head.weight)
    file = save_compressed(tmp_path / "m", small, [first, second])
    again, recipe = load_with_recipe(file, Residual())
    assert torch.equal(outputs(again, x), outputs(small, x))
    small, third = compress(again, "magnitude", 0.5, example=x)  # steps stand for their reports
    file = save_compressed(tmp_path / "n", small, [*recipe["steps"], third])
    assert torch.equal(outputs(load_compressed(file, model=Residual()), x), outputs(small, x))
    bare = {key: value for key, value in recipe["steps"][0].items() if key != "shapes"}
    for wrong in ([first], [second, first], [], [bare, recipe["steps"][1], third]):
        with pytest.raises(ValueError, match="does not fit together|at least one report"):
            save_compressed(tmp_path / "no", small, wrong)
    assert not [*tmp_path.glob("no*")]


def test_what_does_not_fit_an_own_recipe_is_an_instruction(tmp_path):
    (small, report), x = made("residual", "channels")
    file = save_compressed(tmp_path / "m", small, report)
    with pytest.raises(ValueError, match="whose class is not in it. Give .* a fresh instance"):
        load_compressed(file)
    with pytest.raises(ValueError, match=r"stem.weight is \[6, 1, 3, 3\] and not \[8, 1, 3, 3\]"):
        load_compressed(file, model=Residual(6))
    with pytest.raises(ValueError, match="the Residual given is not the one that was cut"):
        load_compressed(file, model=small)
    with pytest.raises(ValueError, match="the Grouped given is not the one .*stem.weight is"):
        load_compressed(file, model=Grouped())
    wider = Residual()
    wider.register_buffer("more", torch.ones(2))
    with pytest.raises(ValueError, match=r"more is \[2\] and not missing"):
        load_compressed(file, model=wider)
    with pytest.raises(ValueError, match="no build arguments"):
        save_compressed(tmp_path / "m", small, report, classes=3)
    file = save_compressed(tmp_path / "b", *compressed_lenet(), base="lenet5")
    with pytest.raises(ValueError, match="it is a lenet5 of build_model, so leave model= out"):
        load_compressed(file, model=Residual())


def compressed_lenet():
    from effml.models import build_model

    return compress(build_model("lenet5"), "merge", 0.5, example=torch.zeros(1, 1, 28, 28))


@pytest.mark.parametrize("fault", [kind("a.b", "no") for kind in (Differs, Fault, Runaway)])
def test_faults_come_back_from_a_pickle(fault):
    again = pickle.loads(pickle.dumps(fault))
    assert (type(again), again.name, str(again)) == (type(fault), "a.b", str(fault))


def test_arrays_will_do_and_a_mixed_up_call_is_said(tmp_path):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.Linear(8, 2))
    images = torch.randint(0, 256, (4, 1, 8, 8)).byte()
    small, report = compress(
        net, "svd_energy", 0.9, example=images[:1].numpy(), data=images.numpy()
    )
    same, _ = compress(net, "svd_energy", 0.9, example=images[:1], data=images)
    assert all(map(torch.equal, small.state_dict().values(), same.state_dict().values()))
    with pytest.raises(ValueError, match="second argument, behind the path.*must be a model"):
        save_compressed(small, tmp_path / "b", report)
    path = save_compressed(tmp_path / "b", small, report)
    with pytest.raises(ValueError, match=r"the class Sequential. Give Sequential\(…\)"):
        load_compressed(path, model=torch.nn.Sequential)
    with pytest.raises(ValueError, match="a net of your own channels or svd"):
        compress(torch.nn.Sequential(net), "merge", 0.5, example=images)
