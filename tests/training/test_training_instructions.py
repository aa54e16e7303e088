"""What is asked of a model, images and a recipe by train, predict, embed and select."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import effml
from effml import Recipe, embed, predict, select, train
from effml.training import Diverged

IMAGES = torch.randint(0, 256, (24, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
LABELS, FEW = torch.arange(24) % 2, {"epochs": 1, "batch_size": 8}


def net(k=2):
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, k))


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x):
        return self.net(x), x


def broken():
    model = net()
    nn.init.constant_(model[3].bias, torch.nan)
    return model


def frozen():
    return net().requires_grad_(False)


WRONG = IMAGES.repeat(1, 3, 1, 1), IMAGES.movedim(1, -1), IMAGES.long(), IMAGES[:, 0]
LOADER = torch.utils.data.DataLoader(IMAGES)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: predict(net(1), IMAGES), r"\(N, K\), K above 1.*the model gives \(24, 1\)"),
        (lambda: predict(net(1), IMAGES, task="binary"), "softmax is always 1"),
        (lambda: select("entropy", net(1), IMAGES, k=3), r"entropy needs two logits.*\(24, 1\)"),
        (lambda: predict(net(), IMAGES, task="segmentation"), "sides of the images; the model"),
        (lambda: predict(broken(), IMAGES), "outputs are not all finite"),
        (lambda: predict(Pair(), IMAGES), "Pair gives a tuple, not one tensor.*Wrap"),
        (lambda: select("entropy", Pair(), IMAGES, k=5), "Pair gives a tuple"),
        (lambda: train(net(), IMAGES, LABELS, teacher=Pair(), **FEW), "Pair gives a tuple"),
        (lambda: embed(nn.Flatten(), IMAGES), "Flatten has no parameters"),
        (lambda: select("margin", nn.Flatten(), IMAGES, k=1), "Flatten has no parameters"),
        (lambda: predict(nn.Sequential, IMAGES), r"the class Sequential. Give Sequential\(…\)"),
        (lambda: embed(net(), IMAGES[:0]), "no batch.*not empty"),
        (lambda: train(net(), IMAGES, LABELS, teacher="resnet18", **FEW), "teacher must be a mod"),
        (lambda: train(net(), IMAGES, LABELS, teacher=net(3), **FEW), r"logits \(N, 2\)"),
        (lambda: train(net(), IMAGES, LABELS, recipe={"epochs": 1}), "is no Recipe"),
        (lambda: train("lenet5", IMAGES, LABELS), "model must be a model, got 'lenet5'"),
        (lambda: train(frozen(), IMAGES, LABELS, **FEW), "All parameters are frozen"),
        (lambda: train(net().double(), IMAGES, LABELS, **FEW), r"Give model.float\(\)"),
        (lambda: train(net(), IMAGES, LABELS, precision="auto"), r"effml.native_precision\(\)"),
        *[(lambda x=x: predict(net(), x), "batch|must be uint8") for x in (*WRONG, LOADER, "pics")],
        *[(lambda x=x: embed(net(), x), "take this batch|Give uint8 from 0") for x in WRONG],
        *[
            (lambda x=x: select("entropy", net(), x, k=3), "take this batch|Give uint8 from 0")
            for x in WRONG
        ],
    ],
)
def test_what_does_not_fit_is_said(act, words):
    with pytest.raises((ValueError, Diverged), match=words):
        act()


@pytest.mark.parametrize(
    "fields",
    [
        {"selection": "kcenter", "train_fraction": 0.2},
        {"prune": "channels", "channel_fraction": 0.5},
        {"trainable": "head"},
        {"teacher": "rabc"},
    ],
)
def test_a_recipe_is_not_done_in_part(fields):
    with pytest.raises(ValueError, match=f"does not go by {next(iter(fields))}=.*effml.run does"):
        train(net(), IMAGES, LABELS, recipe=Recipe(**FEW, **fields))


@pytest.mark.parametrize("augment", ["none", "flip"])
def test_a_teacher_is_left_as_it_is_and_may_be_the_pupil(augment):
    teacher = net().train()
    before = copy.deepcopy(teacher.state_dict())
    train(net(), IMAGES, LABELS, teacher=teacher, precision="bf16", augment=augment, **FEW)
    assert teacher.training and all(p.requires_grad for p in teacher.parameters())
    for name, tensor in teacher.state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, before[name])
    assert train(teacher, IMAGES, LABELS, teacher=teacher, **FEW).steps == 3


def test_a_model_answers_in_any_type_and_keeps_its_own():
    model, double = net(), net().double()
    right, half = predict(model, IMAGES), predict(model, IMAGES, precision="bf16")
    assert np.abs(half - right).max() < 0.02 and model[0].weight.dtype == torch.float32
    assert predict(double, IMAGES).dtype == np.float32 and double[0].weight.dtype == torch.float64
    train(model, IMAGES, LABELS, precision="bf16", **FEW)
    assert np.isfinite(predict(model, IMAGES)).all() and model[0].weight.dtype == torch.bfloat16


def test_a_split_is_embedded_and_a_checkpoint_may_be_a_name(tmp_path):
    model = net()
    split = effml.Dataset.of(IMAGES, LABELS).train
    assert torch.equal(embed(model, split), embed(model, IMAGES))
    assert train(model, IMAGES, LABELS, checkpoint=str(tmp_path / "ck"), **FEW).steps == 3
