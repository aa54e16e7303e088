"""Training on your own arrays and model, the hook after each step, and that every class can be
pickled and copied."""

import copy
import pickle

import numpy as np
import pytest
import torch

import effml
from effml import Recipe, build_model
from effml.data import normalize
from effml.optimizers import OPTIMIZERS, make_optimizer
from effml.selection.inputs import Batches
from effml.selection.proxy import ProxyView
from effml.training import Step, train
from effml.training.checkpoints import Checkpoint
from effml.training.history import History, zero_weights
from effml.training.loop import Training
from effml.training.sampling import SAMPLERS
from effml.training.stopping import STOPPING
from test_training import dots


class Own(torch.nn.Module):
    def __init__(self, classes=2):
        super().__init__()
        self.layer = torch.nn.Linear(784, classes)

    def forward(self, x):
        return self.layer(x.flatten(1))


def weights(model):
    return torch.cat([w.flatten() for w in model.state_dict().values()])


@pytest.mark.parametrize("array", [torch.Tensor.clone, torch.Tensor.numpy], ids=["tensor", "numpy"])
def test_arrays_train_as_a_data_set_with_a_recipe_does(array):
    data, ours, theirs = dots(), Own(), Own()
    theirs.load_state_dict(ours.state_dict())
    fields = {"epochs": 3, "batch_size": 16, "optimizer": "adam8bit", "seed": 4}
    fields |= {"class_weights": "balanced", "augment": "flip"}
    recipe = Recipe(**fields)
    pairs = [(array(part.images), array(part.labels)) for part in (data.train, data.val)]
    history = effml.train(ours, *pairs[0], val=pairs[1], **fields)
    assert history == train(theirs, data, recipe=recipe) and history.best_epoch > 0
    assert torch.equal(weights(ours), weights(theirs))
    train(ours, *pairs[0], recipe=recipe.but(epochs=1), epochs=2)
    assert len(train(ours, *pairs[0], recipe=recipe.but(epochs=1), epochs=2).train_loss) == 2


def test_a_sampler_by_name_and_a_teacher_with_its_fields():
    data, teacher = dots(), build_model("lenet5", seed=1)
    named, asked = Own(), Own()
    asked.load_state_dict(named.state_dict())
    train(named, data, epochs=1, sampler="importance", batch_size=8)
    train(asked, data, recipe=Recipe(epochs=1, sampler="importance", batch_size=8))
    assert torch.equal(weights(named), weights(asked))
    soft = {"teacher_share": 1.0, "temperature": 2.0, "epochs": 1}
    train(named, data, teacher=teacher, **soft)
    train(asked, data, teacher=teacher, recipe=Recipe(seed=0), **soft)
    assert torch.equal(weights(named), weights(asked))
    train(asked, data, teacher=teacher, recipe=Recipe(teacher="r0", **soft))
    train(named, data, teacher=teacher, **soft)
    assert torch.equal(weights(named), weights(asked))


@pytest.mark.parametrize(
    "given, words",
    [
        ({"labels": None}, "Images need labels"),
        ({"lr": 0.1}, "train does not go by lr. Choose from: epochs, batch_size"),
        ({"prune": "channels"}, "train does not go by prune"),
        ({"optimizer": "adm"}, "Choose from: adamw"),
        ({"sampler": "importanse"}, "Choose from: uniform, importance"),
        ({"model": Own(3)}, r"gives \(128, 3\) for 128 images.*logits are \(128, 2\)"),
        ({"model": Own(1)}, r"gives \(128, 1\)"),
        ({"data": dots()}, "A Dataset has its own labels"),
        ({"data": dots(), "labels": None, "val": (1, 2)}, "A Dataset has its own labels"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_an_instruction(given, words):
    part = dots().train
    asked = {"model": Own(), "data": part.images, "labels": part.labels, "epochs": 1} | given
    with pytest.raises(ValueError, match=words):
        train(**asked)


@pytest.mark.parametrize("sampler", ["uniform", "importance"])
def test_the_hook_sees_every_step_after_its_update(tmp_path, monkeypatch, sampler):
    seen, recipe = [], Recipe(epochs=3, batch_size=64, optimizer="sgd", sampler=sampler)
    model = Own()

    def note(step):
        assert step.model is model and isinstance(step.optimizer, torch.optim.SGD)
        assert all(p.grad is not None for p in model.parameters())
        seen.append((step.number, step.epoch, step.loss, weights(model)))

    history = train(model, dots(), recipe=recipe, after_step=note)
    assert [told[:2] for told in seen] == [(1 + i, 1 + i // 3) for i in range(9)]
    sizes = np.array([64, 64, 16])
    for epoch, mean in enumerate(history.train_loss):
        losses = [told[2] for told in seen[3 * epoch : 3 * epoch + 3]]
        assert mean == pytest.approx((losses * sizes).sum() / 144)
    assert all(not torch.equal(a[3], b[3]) for a, b in zip(seen, seen[1:]))
    plain = Own()
    plain.load_state_dict(model.state_dict())
    before = copy.deepcopy(plain)
    (
        train(plain, dots(), recipe=recipe),
        train(before, dots(), recipe=recipe, after_step=seen.append),
    )
    assert torch.equal(weights(plain), weights(before))  # to look changes nothing


def test_a_resumed_training_goes_on_counting_and_other_images_begin_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("EFFML_CHECKPOINT_SECONDS", "0")
    file, numbers, part = tmp_path / "x.checkpoint", [], dots().train

    def stop(step):
        if step.epoch == 2:
            raise KeyboardInterrupt

    for images, first in ((part.images, 4), (255 - part.images, 1)):
        with pytest.raises(KeyboardInterrupt):
            asked = {"epochs": 2, "batch_size": 50, "checkpoint": file}
            train(Own(), part.images, part.labels, after_step=stop, **asked)
        numbers.clear()
        note = lambda step: numbers.append(step.number)  # noqa: E731
        history = train(Own(), images, part.labels, after_step=note, **asked)
        assert numbers[0] == first and numbers[-1] == 6
        assert bool(history.notes) == (first == 1) == (history.resumed_epoch == 0)
    assert "of another recipe or other images" in history.notes[0]


def things():
    """One of every class of these rooms, in use."""
    recipe = Recipe(epochs=1, batch_size=48, sampler="importance", augment="flip", optimizer="sgd")
    training = Training(Own(), dots(), recipe.but(precision="amp_bf16"), None, None)
    taught = Training(Own(), dots(), Recipe(epochs=1), None, Own())
    for one in (training, taught):
        one.epoch(1, None)
        yield one
    yield training.history
    yield Checkpoint(None, training)
    yield Step(number=1, epoch=1, model=training.model, optimizer=training.optimizer, loss=0.5)
    yield History(train_loss=[1.0])
    yield from (stopping(3) for stopping in STOPPING.values())
    yield from (sampler(100, 10) for sampler in SAMPLERS.values())
    yield training.number_format
    yield ProxyView(features=torch.ones(2, 2))
    yield Batches(torch.ones(3, 1, 2, 2))


@pytest.mark.parametrize("way", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_every_class_can_be_copied_and_pickled(way):
    for thing in things():
        other = way(thing)
        assert type(other) is type(thing) and vars(other).keys() == vars(thing).keys()
        if isinstance(thing, Training):
            before = weights(thing.model)
            assert thing.epoch(2, None) == other.epoch(2, None)
            assert torch.equal(weights(thing.model), weights(other.model))
            assert not torch.equal(before, weights(thing.model))


@pytest.mark.parametrize("name", sorted({*OPTIMIZERS} - {"adam8bit_bnb"}))
def test_a_copied_optimizer_goes_on_as_the_first_does(name):
    for way in (copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))):
        parameters = [torch.nn.Parameter(torch.ones(5000)), torch.nn.Parameter(torch.ones(7))]
        optimizer = make_optimizer(name, parameters, 0.1)
        for p in parameters:
            p.grad = torch.full_like(p, 0.5)
        optimizer.step()
        pair, other = way((parameters, optimizer))
        for p, q in zip(parameters, pair):
            p.grad, q.grad = torch.full_like(p, -2.0), torch.full_like(p, -2.0)
        optimizer.step(), other.step()
        assert all(torch.equal(p, q) for p, q in zip(parameters, pair))


def test_an_optimizer_without_state_trains(monkeypatch):
    plain = lambda parameters, rate: torch.optim.SGD(parameters, lr=rate)  # noqa: E731
    monkeypatch.setitem(OPTIMIZERS, "plain", plain)
    history = train(Own(), dots(), epochs=1, optimizer="plain")
    assert history.steps and history.optimizer_state["bytes"] == 0
    assert history.dtypes["optimizer"] == "none"


def test_weights_that_were_pruned_and_grew_back_are_said():
    torch.manual_seed(0)
    net, images = build_model("mlp"), torch.randint(0, 256, (40, 1, 28, 28), dtype=torch.uint8)
    small, _ = effml.compress(net, "magnitude", 0.3, example=images[:1])
    for model, said in ((small, True), (net, False)):
        history = train(model, images, torch.arange(40) % 2, epochs=1, batch_size=20)
        assert any("has grown back" in note for note in history.notes) is said


def test_few_zeros_and_those_that_stay_are_not_said():
    layer = torch.nn.Linear(10, 10)
    torch.nn.init.ones_(layer.weight), torch.nn.init.zeros_(layer.bias)
    for few, told in ((9, 0), (10, 10)):  # a tenth; zeros of a bias do not count
        layer.weight.data.view(-1)[:few] = 0
        assert zero_weights(layer) == told
    for left, said in ((400, False), (380, True)):  # of 784
        model = Own()
        rows = model.layer.weight.data
        rows[0] = 0
        history = train(
            model,
            dots().train.images,
            dots().train.labels,
            epochs=1,
            after_step=lambda step: rows[0, :left].zero_(),
        )
        assert any("has grown back" in note for note in history.notes) is said


def test_probabilities_are_those_of_eval_mode_in_the_order_of_the_images():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.9), torch.nn.Linear(784, 2))
    images = dots().train.images.repeat(4, 1, 1, 1)[:513]  # one more than a batch
    with torch.no_grad():
        logits = model.eval()(normalize(images))
    for task, right in (("binary", logits.softmax(1)), ("multi-label", logits.sigmoid())):
        found = effml.predict(model.train(), images, task=task)
        assert not model.training and found.dtype == np.float32
        assert np.allclose(found, right, atol=1e-6)
    outlines = torch.nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        right = outlines(normalize(images[:3])).softmax(1)[:, 1]
    found = effml.predict(outlines, images[:3].numpy(), task="segmentation")
    assert found.dtype == np.float16 and np.allclose(found, right, atol=2e-3)
    for wrong in (normalize(images), images[:0], images[:, 0]):
        with pytest.raises(ValueError, match="images must be uint8"):
            effml.predict(model, wrong)
