"""A strategy without a knob is a function and a line.

In each registry one made-up entry is asked for by its name, through the public door, and seen to
have worked: nothing else in the package was told of it.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

import effml
from effml import compression, metering, optimizers, phantoms, precision, selection
from effml.compression.magnitude import magnitude
from effml.deployment import runtimes
from effml.training import SCHEDULES, augmentation, sampling


@pytest.fixture
def base(monkeypatch, tmp_path):
    """A recipe of few images and one epoch. Its phantom is kept from the cache of other tests."""
    monkeypatch.setenv("EFFML_CACHE", str(tmp_path / "cache"))
    small = replace(phantoms.PHANTOMS["phantom-chest"], counts=(48, 16, 16))
    monkeypatch.setitem(phantoms.PHANTOMS, "phantom-few", small)
    asked = {"data": "phantom-few", "model": "mlp", "epochs": 1, "batch_size": 16}
    return effml.Recipe(**asked, threads=1)


def ran(recipe, store=None):
    record = effml.run(recipe, device="cpu", store=store)
    assert record.status == "ok", record.reason
    return record


def test_a_selection(base, monkeypatch, tmp_path):
    def last_first(features, labels, k, *, seed=0, scores=None):
        return torch.arange(len(features) - 1, len(features) - 1 - k, -1)

    monkeypatch.setitem(selection.SELECTORS, "last_first", last_first)
    record = ran(base.but(selection="last_first", train_fraction=0.25), tmp_path)
    kept = effml.load_arrays(tmp_path, record.run_id)["train_index"]
    assert kept.tolist() == list(range(47, 35, -1)) and record.train_n == 12


def test_a_runtime(base, monkeypatch, tmp_path):
    @runtimes.runtime("torch", layout="contiguous", dtype="float32", compile=False, timm=False)
    def without_weights(job):
        with torch.no_grad():
            for parameter in job.model.parameters():
                parameter.zero_()
        torch.save(job.model, job.folder / "model.pt")

    monkeypatch.setitem(runtimes.RUNTIMES, "without_weights", without_weights)
    record = ran(base.but(runtime="without_weights"), tmp_path)
    assert record.test_auroc == 0.5 and record.runtime_precision == "f32"
    assert (effml.load_arrays(tmp_path, record.run_id)["test_probabilities"] == 0.5).all()


def test_a_compressor(base, monkeypatch):
    def all_zero(model, keep, **options):
        model, report = magnitude(model, keep, **options)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        return model, report

    all_zero.__module__ = magnitude.__module__  # it would stand in that file
    menus = [menu for menu in dicts(vars(compression)) if menu.get("magnitude") is magnitude]
    assert menus
    for menu in menus:
        monkeypatch.setitem(menu, "all_zero", all_zero)
    record = ran(base.but(prune="all_zero", channel_fraction=0.5, epochs=0))
    assert record.nonzero_params == 0 < record.params


def dicts(found) -> Iterator[dict]:
    for value in found.values():
        if type(value) is dict:
            yield value
            yield from dicts({key: inner for key, inner in value.items() if type(inner) is dict})


def test_an_optimizer(base, monkeypatch):
    made = []

    def plain(parameters, learning_rate):
        made.append(torch.optim.SGD(parameters, lr=learning_rate, momentum=0.5))
        return made[-1]

    monkeypatch.setitem(optimizers.OPTIMIZERS, "plain", plain)
    record = ran(base.but(optimizer="plain", schedule="constant"))
    assert len(made) == 1 and made[0].param_groups[0]["lr"] == base.learning_rate
    assert record.optimizer_state_bytes == 4 * record.params  # a float32 of momentum for each
    own = effml.make_optimizer("plain", torch.nn.Linear(2, 1).parameters(), 0.5)
    assert isinstance(own, torch.optim.SGD) and own.param_groups[0]["lr"] == 0.5


def test_a_precision(base, monkeypatch):
    def double(device):
        return precision.Arithmetic(device, weights="float64", products="float64")

    monkeypatch.setitem(precision.PRECISIONS, "double", double)
    record = ran(base.but(precision="double"))
    assert (record.precision_used, record.weights_dtype) == ("double", "float64")
    assert effml.arithmetic("double", "cpu").cast(torch.zeros(1)).dtype == torch.float64


def test_a_sampler(base, monkeypatch):
    class FirstOnly(sampling.Uniform):
        """The first images again and again."""

        def draw(self, index, score, order):
            index = torch.arange(len(index))
            drawn.append(index.tolist())
            return index, torch.ones(len(index))

    drawn = []
    monkeypatch.setitem(sampling.SAMPLERS, "first_only", FirstOnly)
    record = ran(base.but(sampler="first_only"))
    assert drawn == [list(range(16))] * 3 and record.importance_steps == 3


def test_a_schedule(base, monkeypatch, tmp_path):
    def standstill(optimizer, steps):
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)

    monkeypatch.setitem(SCHEDULES, "standstill", standstill)
    first, trained = (
        ran(base.but(schedule="standstill", epochs=epochs, weight_decay=0.0), tmp_path)
        for epochs in (0, 1)
    )
    before, after = (effml.load_arrays(tmp_path, run.run_id) for run in (first, trained))
    assert np.array_equal(before["test_probabilities"], after["test_probabilities"])
    moved = ran(base.but(weight_decay=0.0), tmp_path)
    moved = effml.load_arrays(tmp_path, moved.run_id)["test_probabilities"]
    assert not np.array_equal(before["test_probabilities"], moved)


def test_an_augmentation(base, monkeypatch):
    def black(images, masks, generator):
        seen.append(images.shape)
        return torch.zeros_like(images), masks

    seen = []
    monkeypatch.setitem(augmentation.AUGMENTATIONS, "black", black)
    ran(base.but(augment="black"))
    assert [shape[0] for shape in seen] == [16, 16, 16]


def test_a_meter(monkeypatch):
    def one_joule(device):
        return lambda window: metering.Energy(
            energy_j=1.0, energy_low_j=0.5, energy_high_j=2.0, energy_source=f"made up on {device}"
        )

    monkeypatch.setitem(metering.METERS, "made up", one_joule)
    monkeypatch.setenv("EFFML_METER", "made up")
    with effml.measure() as cost:
        sum(range(1000))
    assert (cost.energy_j, cost.energy_source) == (1.0, "made up on cpu") and cost.seconds > 0


def test_a_phantom(base, monkeypatch):
    def stripes(labels, size, difficulty, rng):
        """The ill have upright stripes, the healthy lying ones."""
        upright = np.broadcast_to(np.arange(size) % 4 < 2, (size, size))
        images = np.where(labels[:, None, None] == 1, upright, upright.T)
        return {"images": (200 * images).astype(np.uint8)}

    made_up = phantoms.Phantom(
        draw=stripes,
        modality="stripes",
        counts=(40, 12, 12),
        classes={"lying": 0.5, "upright": 0.5},
        positive=1,
    )
    monkeypatch.setitem(phantoms.PHANTOMS, "phantom-stripes", made_up)
    data = effml.load_dataset("phantom-stripes", size=16)
    assert data.passport["phantom"] and len(data.train) == 40 and data.positive == 1
    image = data.train.images[0, 0]
    assert bool((image == image[0]).all()) == bool(data.train.labels[0] == 1)
    assert ran(base.but(data="phantom-stripes")).data_phantom == 1
