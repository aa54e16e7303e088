"""What a GPU, a finished class or a flat score would meet: skipped steps, the proxy's device, zero
scores, patience."""

import math
from contextlib import nullcontext

import pytest
import torch

from effml import Recipe, run
from effml.data import Dataset, Split, normalize
from effml.models import build_model, embed
from effml.precision import Arithmetic
from effml.selection import SELECTORS, proxy
from effml.training import History, loop, train
from effml.training.sampling import Importance
from test_training import dots


class Overflowing(torch.amp.GradScaler):
    """The scaler of a GPU on the CPU: the first `left` losses overflow when scaled."""

    def __init__(self, left):
        super().__init__("cpu", init_scale=8.0)
        self.left = left

    def scale(self, loss):
        self.left -= 1
        return super().scale(loss) * (math.inf if self.left >= 0 else 1)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "adam8bit"])
def test_steps_that_the_loss_scale_skips_end_no_run(monkeypatch, optimizer):
    recipe = Recipe(epochs=1, batch_size=16, optimizer=optimizer)
    for skipped, steps in ((1, 8), (99, 0)):
        monkeypatch.setattr(Arithmetic, "scaler", lambda self, n=skipped: Overflowing(n))
        model = build_model("mlp")
        before = model[1].weight.clone()
        history = train(model, dots(), recipe=recipe)
        assert history.steps == steps and model[1].weight.isfinite().all()
        assert torch.equal(before, model[1].weight) == (steps == 0)
        assert bool(history.optimizer_state) == bool(history.dtypes) == (steps > 0)
        assert any("not trained" in note for note in history.notes) == (steps == 0)
    assert history.dtypes == {} and len(history.train_loss) == 1


def test_a_proxy_trains_on_the_device_of_the_run(monkeypatch):
    seen = []

    def device_of(model, data, **_):
        seen.append(next(model.parameters()).device.type)
        return History()

    monkeypatch.setattr(proxy, "train", device_of)
    recipe = Recipe(selection="kmeans", features="pixels", proxy="mlp@1", train_fraction=0.1)
    for device in ("meta", "cpu"):
        proxy.select_images(dots(), recipe, device=device)
    assert seen == ["meta", "cpu"]
    asked = []
    monkeypatch.setattr(
        "effml.experiment.prepare.select_images",
        lambda data, recipe, **others: asked.append(others) or (torch.arange(64), {}),
    )
    record = run(Recipe(model="mlp", epochs=0, selection="random", train_fraction=0.1))
    assert asked == [{"device": record.device}] and record.train_n == 64


@pytest.mark.parametrize(
    "selection, embedding, predictions, linear",
    [
        ("kmeans", True, False, False),
        ("kcenter_per_class", True, False, False),
        ("entropy", False, True, False),
        ("grand", True, True, True),
    ],
)
def test_a_selection_sees_what_it_goes_by(monkeypatch, selection, embedding, predictions, linear):
    asked = {"embedding": embedding, "predictions": predictions, "linear": linear}
    asked["device"] = "cpu"
    seen, view = [], proxy.view
    monkeypatch.setattr(
        proxy, "view", lambda *given, **more: seen.append(more) or view(*given, **more)
    )
    recipe = Recipe(selection=selection, proxy="lenet5@1", train_fraction=0.1)
    proxy.select_images(dots(), recipe)
    assert seen == [asked]
    found = view(dots(), recipe, **asked)
    assert found.features.shape == (144, 84 if embedding else 784)
    assert (found.predictions.shape == (144, 1, 2)) if predictions else found.predictions is None
    assert view(dots(), recipe.but(features="pixels"), **asked).features.shape == (144, 784)


@pytest.mark.parametrize("how, epochs", [("", [5]), ("@2", [2]), ("@0", [])])
def test_a_proxy_is_trained_for_what_its_name_says(monkeypatch, how, epochs):
    seen = []

    def asked_for(*_, recipe, after_epoch):
        seen.append((recipe, after_epoch))
        return History()

    monkeypatch.setattr(proxy, "train", asked_for)
    fields = {"batch_size": 8, "learning_rate": 0.5, "seed": 3, "precision": "bf16"}
    chosen = {"selection": "kmeans", "train_fraction": 0.1, "proxy": f"mlp{how}"}
    proxy.view(dots(), Recipe(**chosen, **fields), predictions=False)
    assert seen == [(Recipe(model="mlp", epochs=n, **fields), None) for n in epochs]


def test_a_proxy_begins_with_the_weights_of_its_name_and_the_seed_of_the_recipe(monkeypatch):
    made = []

    def build(name, **given):
        made.append((name, given["weights"], given["seed"]))
        return build_model("lenet5", **given | {"weights": "random"})

    monkeypatch.setattr(proxy, "build_model", build)
    recipe = Recipe(selection="kmeans", train_fraction=0.1, proxy="lenet5@0", seed=3)
    data = dots()
    found = proxy.view(data, recipe)
    images = normalize(data.train.images)
    expected = embed(build_model("lenet5", seed=3), images)
    assert torch.equal(found.features, expected) and found.predictions is None
    proxy.view(data, recipe.but(proxy="resnet18@imagenet"))
    assert made == [("lenet5", "random", 3), ("resnet18", "imagenet", 3)]
    found = proxy.view(data, recipe.but(proxy="lenet5@2"))
    assert found.features.shape == (144, 84) and found.predictions.shape == (144, 2, 2)


def test_a_selection_begins_at_the_seed_of_the_recipe_and_keeps_its_fraction():
    data = dots()
    pixels, labels = data.train.images.flatten(1), data.train.labels
    for seed, fraction, k in ((3, 0.1, 14), (4, 0.5, 72), (5, 0.001, 1)):
        asked = Recipe(selection="random", train_fraction=fraction, seed=seed)
        kept, _ = proxy.select_images(data, asked)
        assert torch.equal(kept, SELECTORS["random"](pixels, labels, k, seed=seed))


class Watched(torch.nn.Sequential):
    def forward(self, x):
        self.seen.append((self.training, torch.is_grad_enabled()))
        return super().forward(x)


def test_after_scoring_the_model_trains_in_training_mode_and_a_frozen_one_does_not():
    for frozen in (False, True):
        model = Watched(torch.nn.Flatten(), torch.nn.Linear(784, 8), torch.nn.Linear(8, 2))
        model.seen, sampler = [], Importance(144, 16)
        model[1].requires_grad_(not frozen)
        sampler.threshold = 0.0
        history = train(model, dots(), recipe=Recipe(epochs=2, batch_size=16), sampler=sampler)
        assert history.importance_steps > 10
        learned = [training for training, gradients in model.seen if gradients]
        looked = [training for training, gradients in model.seen if not gradients]
        assert learned == [not frozen] * 18 and len(looked) >= history.importance_steps
        assert not any(looked)


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_scores_that_are_all_zero_or_no_numbers_leave_the_batch_uniform(value):
    sampler, order = Importance(300, 100), torch.Generator().manual_seed(0)
    sampler.tau = 99.0
    index, weights = sampler.draw(
        torch.arange(100), lambda pool: torch.full((len(pool),), value), order
    )
    assert weights is None and torch.equal(index, torch.arange(100))


def test_importance_sampling_goes_on_when_everything_is_learned(monkeypatch):
    monkeypatch.setattr(loop, "gradient_norm", lambda logits, labels: torch.zeros(len(labels)))
    sampler = Importance(144, 16)
    sampler.threshold, sampler.tau = -1.0, 5.0
    history = train(
        build_model("mlp"), dots(), recipe=Recipe(epochs=1, batch_size=16), sampler=sampler
    )
    assert history.importance_steps == 0 and math.isfinite(history.train_loss[0])


@pytest.mark.parametrize("stopping", ["score", "selvan2023"])
def test_patience_ends_a_run_without_a_score(stopping):
    data, recipe = dots(), Recipe(epochs=9, batch_size=144, patience=3, stopping=stopping)
    blind = Dataset("dots", "binary", data.classes, 1, {}, data.train)
    history = train(build_model("mlp"), blind, recipe=recipe)
    assert len(history.train_loss) == history.best_epoch == 3
    assert "stopped after epoch 3 by patience=3" in history.notes[0] and "NaN" in history.notes[0]
    history = train(build_model("mlp"), blind, recipe=recipe.but(patience=0))
    assert len(history.train_loss) == history.best_epoch == 9 and not history.notes


def test_one_class_in_validation_ends_by_patience_too():
    data = dots()
    ones = data.val.labels == 1
    val = Split(data.val.images[ones], data.val.labels[ones])
    one = Dataset("dots", "binary", data.classes, 1, {}, data.train, val)
    history = train(build_model("mlp"), one, recipe=Recipe(epochs=9, batch_size=144, patience=2))
    assert len(history.train_loss) == 2 and "not defined (NaN)" in history.notes[0]


@pytest.mark.parametrize(
    "stopping, scores, epochs, kept, words",
    [
        ("score", [0.5] * 9, 4, 4, "was 0.5 in every epoch"),
        ("score", [0.5, 0.7, 0.7, 0.7, 0.7, 0.9], 5, 5, None),  # of equals the later
        ("score", [0.7, math.nan, math.nan, math.nan, 0.9], 4, 1, None),
        ("score", [math.nan, 0.6, 0.5, 0.5, 0.5, 0.9], 5, 2, None),
        (
            "selvan2023",
            [0.5] * 9,
            5,
            1,
            "was 0.5 in every epoch",
        ),  # its loss counts from epoch 2
    ],
)
def test_patience_counts_epochs_that_are_no_better(
    monkeypatch, stopping, scores, epochs, kept, words
):
    values = iter(scores)

    def validate(*_):
        return dict.fromkeys(("score", "accuracy"), next(values)) | {"loss": 1.0}

    monkeypatch.setattr(loop, "validate", validate)
    recipe = Recipe(epochs=len(scores), batch_size=144, patience=3, stopping=stopping)
    history = train(build_model("mlp"), dots(), recipe=recipe)
    assert (len(history.val_score), history.best_epoch) == (epochs, kept)
    assert (words in history.notes[0]) if words else not history.notes


def test_training_waits_as_a_run_does(monkeypatch):
    asked = []
    monkeypatch.setattr(loop, "Waiting", lambda threads: asked.append(threads) or nullcontext())
    images = torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    train(net, images, torch.arange(8) % 2, epochs=1)
    assert asked == [torch.get_num_threads()]
