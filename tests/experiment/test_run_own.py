"""A model of your own through `run`, and back from its store."""

import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

import effml
from effml import Recipe, load_arrays, load_run, run, sweep
from effml.models import weights_bytes
from effml.results import CARD
from effml.sweeping import pending

QUICK = Recipe(epochs=2)


class Net(nn.Module):
    def __init__(self, classes=2, channels=1):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, classes))

    def forward(self, x):
        return self.head(self.body(x))


class Soft(Net):
    def forward(self, x):
        return super().forward(x).softmax(1)


class Tied(nn.Module):
    """Two layers that share their weights."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(784, 784), nn.Linear(784, 2)
        self.second = nn.Linear(784, 784)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.last(self.second(self.first(x.flatten(1)).relu()).relu())


class Pair(Net):
    def forward(self, x):
        return super().forward(x), x


def test_a_copy_of_your_own_model_is_trained_and_comes_back_with_its_weights(tmp_path):
    torch.manual_seed(0)
    mine = Net().train()
    start = weights_bytes(mine)
    record = run(QUICK, model=mine, store=tmp_path, keep_weights=True)
    assert record.status == "ok", record.reason
    assert weights_bytes(mine) == start and mine.training
    assert record.model == "own:Net" and record.recipe_id == QUICK.but(model="own:Net").id
    assert record.params == sum(p.numel() for p in mine.parameters())
    trained, data = load_run(record.run_id, tmp_path, model=mine), effml.load_dataset(QUICK.data)
    assert weights_bytes(mine) == start and mine.training
    kept = load_arrays(tmp_path, record.run_id)["test_probabilities"]
    assert np.array_equal(trained.predict(data.test.images), kept)
    assert run(QUICK.but(seed=1), model=mine).test_auroc != record.test_auroc
    assert run(QUICK.but(epochs=0), model=Net().double()).status == "ok"
    again = run(QUICK, model=mine, store=tmp_path)
    assert again.test_auroc == record.test_auroc
    for model, words in ((None, "give one as effml.load_run"), (Net(3), "do not fit this model")):
        with pytest.raises(ValueError, match=words):
            load_run(record.run_id, tmp_path, model=model)


class Other(Net):
    pass


def test_two_models_of_one_name_are_two_in_a_store(tmp_path):
    """Else the second would go on with the checkpoint of the first."""
    own = Net()
    same, other = Net(), type("Net", (Net,), {"forward": lambda self, x: Net.forward(self, -x)})()
    leaky = Net()
    leaky.body[2] = nn.LeakyReLU()
    for net in (same, other, leaky):
        net.load_state_dict(own.state_dict())
    first, *others = (
        run(QUICK.but(epochs=0), model=net).weights_sha256
        for net in (own, same, other, leaky, Net())
    )
    assert [first == one for one in others] == [True, False, False, False]
    with pytest.raises(ValueError, match="whose name another may have too"):
        pending([QUICK.but(model="own:Net")], tmp_path)


def test_another_forward_or_class_is_refused(tmp_path):
    record = run(QUICK, model=Net(), store=tmp_path, keep_weights=True)
    changed = type("Net", (Net,), {"forward": lambda self, x: Net.forward(self, x.abs())})
    for model, words in (
        (changed(), "its forward is another"),
        (Other(), "own:Net, and model is a Other"),
    ):
        with pytest.raises(ValueError, match=words):
            load_run(record.run_id, tmp_path, model=model)


@pytest.mark.parametrize(
    "device, off, fits", [("cuda", 0.01, True), ("cuda", 0.1, False), ("cpu", 0.01, False)]
)
def test_the_answers_of_a_gpu_may_differ_by_its_rounding(tmp_path, device, off, fits):
    record = run(QUICK, model=Net(), store=tmp_path, keep_weights=True)
    (file,) = tmp_path.glob(f"*{CARD}")
    card = json.loads(file.read_text())
    assert card["device"] == "cpu"
    moved = [[p + off, q - off] for p, q in card["fingerprint"]]
    file.write_text(json.dumps(card | {"device": device, "fingerprint": moved}))
    with nullcontext() if fits else pytest.raises(ValueError, match="its forward is another"):
        load_run(record.run_id, tmp_path, model=Net())


def test_shared_weights_come_back_shared(tmp_path):
    record = run(QUICK, model=Tied(), store=tmp_path, keep_weights=True)
    trained, data = load_run(record.run_id, tmp_path, model=Tied()), effml.load_dataset(QUICK.data)
    kept = load_arrays(tmp_path, record.run_id)["test_probabilities"]
    assert np.array_equal(trained.predict(data.test.images), kept)
    assert trained.model.first.weight is trained.model.second.weight


@pytest.mark.parametrize(
    "fields",
    [{"prune": "channels", "channel_fraction": 0.5}, {"factorize": "svd", "rank_fraction": 0.5}],
)
def test_your_own_model_comes_back_compressed(tmp_path, fields):
    record = run(QUICK.but(**fields), model=Net(), store=tmp_path, keep_weights=True)
    assert record.status == "ok" and record.params < record.params_before, record.reason
    trained, data = load_run(record.run_id, tmp_path, model=Net()), effml.load_dataset(QUICK.data)
    kept = load_arrays(tmp_path, record.run_id)["test_probabilities"]
    assert np.array_equal(trained.predict(data.test.images), kept)


@pytest.mark.parametrize(
    "model, fields, words",
    [
        (
            Net(3),
            {},
            r"must give logits \(2, 2\) for images .* of phantom-chest; it gives \(2, 3\)",
        ),
        (Pair(), {}, "it gives tuple"),
        (Net(channels=3), {}, r"for images \(2, 1, 28, 28\).*gives RuntimeError"),
        (Net(), {"data": "phantom-wound"}, "does not fit model='own:Net'"),
        (Net(), {"weights": "imagenet"}, "trained from the weights it has"),
        (None, {"model": "own:Net"}, "effml.run.recipe, model=…. takes it"),
    ],
)
def test_a_model_that_does_not_fit_is_a_record_with_advice(model, fields, words):
    import re

    record = run(QUICK.but(**fields), model=model)
    assert record.status == "unsupported" and re.search(words, record.reason, re.S), record.reason
    assert record.train_seconds is None


def test_what_is_no_model_is_refused_at_once_and_a_sweep_refuses_your_own(tmp_path):
    for model in (3, nn.ReLU(), Net):
        with pytest.raises(ValueError, match="give an nn.Module that has parameters"):
            run(QUICK, model=model)
    with pytest.raises(ValueError, match="give store"):
        run(QUICK, keep_weights=True)
    with pytest.raises(ValueError, match="effml.run.recipe, model=…. takes it"):
        sweep([QUICK, QUICK.but(model="own:Net")], tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_your_own_model_is_no_teacher_of_a_later_run(tmp_path):
    from effml.results import RecordWriter

    record = run(QUICK, model=Net(), store=tmp_path, keep_weights=True)
    with RecordWriter(tmp_path) as writer:
        writer.append(record)
    student = run(QUICK.but(model="mlp", teacher=record.recipe_id), store=tmp_path)
    assert student.status == "unsupported" and "not at hand here" in student.reason


def test_what_a_reader_should_know_of_model_and_images_is_noted(tmp_path):
    plain = run(QUICK.but(epochs=1), model=Net())
    assert plain.status == "ok" and plain.notes is None
    soft = run(QUICK.but(epochs=1), model=Soft())
    assert "own:Soft gives probabilities, not logits" in soft.notes
    draw = np.random.default_rng(0).integers
    train, labels = draw(0, 256, (20, 8, 8), dtype=np.uint8), np.arange(20)[:, None] % 2
    arrays = {"train_images": train, "train_labels": labels, "test_labels": labels}
    for test, words in (
        (train, "20 of 20 test images are in train too, to the byte"),
        (draw(0, 2, train.shape, dtype=np.uint8), "train 0 to 255, test 0 to 1. Scale all"),
    ):
        np.savez(tmp_path / "own.npz", test_images=test, **arrays)
        record = run(QUICK.but(data=str(tmp_path / "own.npz"), model="mlp"))
        assert record.status == "ok" and words in record.notes, record.reason
        assert "no validation images to choose an epoch by: the last is kept" in record.notes
        assert "images of 8 px: size=28 takes them as they are" in record.notes
        assert record.best_epoch == record.epochs_run == 2
