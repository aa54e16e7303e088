import copy
import math

import numpy as np
import pytest
import torch

from effml import load_dataset
from effml.data import Dataset, Split
from effml.evaluation import evaluate
from effml.models import build_model
from effml.recipe import Recipe
from effml.training import SCHEDULES, Diverged, predict, train
from effml.training.history import dtypes_in_memory
from effml.training.losses import distillation_loss
from effml.training.sampling import Uniform


def dots(n=240, task="binary", classes=("no", "yes")):
    """Images whose class is the place of a bright dot: learnable in a few steps."""
    rng = np.random.default_rng(0)
    images, labels = (
        rng.integers(0, 60, (n, 1, 28, 28), dtype=np.uint8),
        np.arange(n) % len(classes),
    )
    for i, label in enumerate(labels):
        images[i, 0, 4 + 6 * label : 8 + 6 * label, 8:20] = 250
    images, labels = torch.from_numpy(images), torch.from_numpy(labels)
    if task == "multi-label":
        labels = torch.stack([labels, 1 - labels], 1)
    parts = {
        s: Split(images[a:b], labels[a:b])
        for s, a, b in (("train", 0, 144), ("val", 144, 192), ("test", 192, 240))
    }
    return Dataset("dots", task, classes, 1 if task == "binary" else None, {}, **parts)


@pytest.mark.parametrize("precision", ["fp32", "amp_bf16", "bf16"])
@pytest.mark.parametrize(
    "task, classes",
    [
        ("binary", ("no", "yes")),
        ("multi-class", ("a", "b", "c")),
        ("ordinal", ("a", "b", "c")),
        ("multi-label", ("no", "yes")),
    ],
)
def test_it_learns_what_can_be_learned(task, classes, precision):
    data = dots(task=task, classes=classes)
    model = build_model("lenet5", classes=len(classes))
    history = train(model, data, recipe=Recipe(epochs=4, batch_size=16, precision=precision))
    p = predict(model, data.test, task=task, precision=precision)
    right = (
        (p > 0.5) == data.test.labels.numpy()
        if task == "multi-label"
        else p.argmax(1) == data.test.labels.numpy()
    )
    assert right.mean() > 0.95
    assert history.val_score[-1] > 0.95
    assert history.train_loss[-1] < history.train_loss[0]
    weights, products = (
        ("bfloat16" if precision == "bf16" else "float32"),
        ("float32" if precision == "fp32" else "bfloat16"),
    )
    assert history.dtypes == {
        "weights": weights,
        "activations": products,
        "gradients": weights,
        "optimizer": weights,
    }
    assert p.dtype == np.float32 and p.shape == (48, len(classes)) and not model.training


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    def weights(seed):
        model = build_model("mlp", seed=seed)
        train(model, dots(), recipe=Recipe(epochs=2, seed=seed))
        return torch.cat([w.flatten() for w in model.parameters()])

    assert torch.equal(weights(0), weights(0)) and not torch.equal(weights(0), weights(1))


def test_the_loop_equals_one_written_out():
    """fp32, one batch an epoch, constant rate: AdamW by hand on the whole training split."""
    data, model, twin = dots(), build_model("mlp"), build_model("mlp")
    only_train = Dataset("dots", "binary", ("no", "yes"), 1, {}, train=data.train)
    history = train(model, only_train, recipe=Recipe(epochs=3, batch_size=144, schedule="constant"))
    optimizer = torch.optim.AdamW(twin.parameters(), lr=1e-3, weight_decay=0.01)
    for expected in history.train_loss:
        loss = torch.nn.functional.cross_entropy(
            twin(data.train.images.float() / 127.5 - 1), data.train.labels
        )
        assert loss.item() == pytest.approx(expected, rel=1e-4)
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    assert all(
        torch.allclose(a, b, atol=1e-5) for a, b in zip(model.parameters(), twin.parameters())
    )
    assert history.best_epoch == 3  # without a validation split the last


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_batches_and_the_schedule_written_out(schedule):
    """Plain SGD by hand on batches of 100 and 44; the schedule goes on after each."""
    data, model, twin = dots(), build_model("mlp"), build_model("mlp")
    alone = Dataset("dots", "binary", data.classes, 1, {}, data.train)
    recipe = Recipe(epochs=3, batch_size=100, optimizer="sgd", schedule=schedule, seed=5)
    history = train(model, alone, recipe=recipe)
    optimizer = torch.optim.SGD(twin.parameters(), lr=recipe.learning_rate, momentum=0.9)
    steps, order = SCHEDULES[schedule](optimizer, 6), torch.Generator().manual_seed(5)
    images, labels = data.train.images.float() / 127.5 - 1, data.train.labels
    for told in history.train_loss:
        total = 0.0
        for index in torch.randperm(144, generator=order).split(100):
            loss = torch.nn.functional.cross_entropy(twin(images[index]), labels[index])
            optimizer.zero_grad(), loss.backward(), optimizer.step(), steps.step()
            total += loss.item() * len(index)
        assert told == pytest.approx(total / 144, rel=1e-5)
    for a, b in zip(model.parameters(), twin.parameters()):
        assert torch.allclose(a, b, atol=1e-6)
    assert history.steps == 6 and not model.training


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_of_bf16_outputs_is_computed_in_float32(weighted):
    class Weighted(Uniform):
        def draw(self, index, score, order):
            return index, (1 + index / 72 if weighted else None)

    data, model = dots(), build_model("mlp")
    with torch.no_grad():
        images = (data.train.images.float() / 127.5 - 1).bfloat16()
        logits = copy.deepcopy(model).bfloat16()(images).float()
    each = torch.nn.functional.cross_entropy(logits, data.train.labels, reduction="none")
    expected = (each * (1 + torch.arange(144) / 72) if weighted else each).mean().item()
    recipe = Recipe(epochs=1, batch_size=144, precision="bf16")
    history = train(model, data, recipe=recipe, sampler=Weighted(144, 144))
    assert history.train_loss == [pytest.approx(expected, rel=1e-5)]
    if not weighted:
        teacher = build_model("mlp", seed=1)
        with torch.no_grad():
            guide = copy.deepcopy(teacher).bfloat16()(images).float()
        soft = recipe.but(teacher="r0", teacher_share=1.0, temperature=3.0)
        history = train(build_model("mlp"), data, recipe=soft, teacher=teacher)
        expected = distillation_loss(logits, guide, 3.0).item()
        assert history.train_loss == [pytest.approx(expected, rel=1e-4)]


def test_without_epochs_a_model_is_validated_as_it_is():
    data, model = dots(), build_model("mlp")
    before = copy.deepcopy(model.state_dict())
    history = train(model, data, recipe=Recipe(epochs=0))
    p, labels = predict(model, data.val, task="binary"), data.val.labels.numpy()
    assert history.val_score == [evaluate(p, labels, task="binary", positive=1).auroc]
    assert history.val_accuracy == [(p.argmax(1) == labels).mean()]
    assert history.val_loss == [pytest.approx(-np.log(p[np.arange(48), labels]).mean(), rel=1e-5)]
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values()))
    assert not (history.train_loss or history.notes or history.best_epoch)


def test_the_epoch_with_the_best_validation_score_is_kept(monkeypatch):
    scores, seen = iter([0.6, 0.9, 0.7, 0.8, 0.5, 0.4]), []

    def validate(model, data, number_format, loss_of, advice):
        seen.append(model[1].weight.detach().clone())
        return {"score": next(scores), "loss": 1.0, "accuracy": 0.5}

    monkeypatch.setattr("effml.training.loop.validate", validate)
    model = build_model("mlp")
    history = train(model, dots(), recipe=Recipe(epochs=6, patience=2))
    assert history.best_epoch == 2
    assert torch.equal(model[1].weight, seen[1])
    assert not torch.equal(seen[1], seen[2])
    assert len(history.val_score) == 4  # patience 2 ends it after epoch 4


def test_the_test_split_is_not_looked_at():
    data = dots()
    poisoned = Dataset("dots", "binary", data.classes, 1, {}, data.train, data.val, test=None)
    first, second = build_model("mlp"), build_model("mlp")
    train(first, data, recipe=Recipe(epochs=1)), train(second, poisoned, recipe=Recipe(epochs=1))
    assert torch.equal(first[1].weight, second[1].weight)


def test_divergence_ends_the_run_with_advice():
    with pytest.raises(Diverged, match="Lower learning_rate"):
        train(build_model("lenet5"), dots(), recipe=Recipe(learning_rate=1e30, epochs=3))


def test_names_list_their_menus():
    for fields, words in (
        ({"precision": "fp16"}, "4 to 500 times slower.*Choose from: fp32, amp_bf16"),
        ({"optimizer": "adm"}, "Choose from: adamw"),
        ({"schedule": "x"}, "Choose from: cosine"),
        ({"stopping": "x"}, "Choose from: score, selvan2023"),
        ({"class_weights": "x"}, "Choose from: none, balanced"),
        ({"augment": "x"}, "Choose from: none, flip"),
        ({"sampler": "x"}, "Choose from: uniform, importance"),
    ):
        with pytest.raises(ValueError, match=words):
            train(build_model("mlp"), dots(), recipe=Recipe(**fields))
    with pytest.raises(ValueError, match="no training images with"):
        train(build_model("mlp"), Dataset("x", "segmentation", (), None, {}), recipe=Recipe())


def test_a_teacher_needs_one_label_an_image_and_uniform_batches():
    for data, sampler in ((dots(), "importance"), (dots(task="multi-label"), "uniform")):
        recipe = Recipe(epochs=1, sampler=sampler)
        with pytest.raises(ValueError, match="Distillation needs one label"):
            train(build_model("mlp"), data, recipe=recipe, teacher=build_model("mlp"))


def test_the_cosine_ends_at_zero():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.8)
    schedule, rates = SCHEDULES["cosine"](optimizer, 10), []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step(), schedule.step()
    assert rates == pytest.approx([0.4 * (1 + math.cos(math.pi * k / 10)) for k in range(10)])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_a_last_batch_of_one_image_does_not_break_batch_normalisation():
    data = load_dataset("phantom-chest")
    few = Dataset(
        "few", "binary", data.classes, 1, {}, Split(data.train.images[:9], data.train.labels[:9])
    )
    train(build_model("mobilenetv2_050"), few, recipe=Recipe(epochs=1, batch_size=8))
    assert train(build_model("mlp"), few, recipe=Recipe(epochs=1, batch_size=1)).train_loss[0] > 0


def test_dtypes_are_named_by_how_many_numbers_have_them():
    def linear(n, dtype):
        return torch.nn.Linear(n, n, bias=False, dtype=dtype)

    single, double = torch.float32, torch.float64
    model = torch.nn.ModuleList(
        [linear(8, single), linear(8, single), linear(10, double)]
    )  # 128, 100
    optimizer = torch.optim.AdamW(model[2:].parameters())
    model[2](torch.ones(1, 10, dtype=double)).sum().backward()
    optimizer.step()
    assert dtypes_in_memory(model, torch.zeros(2, dtype=single), optimizer) == {
        "weights": "float32+float64",
        "activations": "float32",
        "gradients": "float64",
        "optimizer": "float64",
    }
    plain = torch.optim.SGD(model.parameters())
    assert dtypes_in_memory(model, torch.zeros(2), plain)["optimizer"] == "none"
