"""Compression and distillation through recipes: what the record says, what is kept, and what builds
on it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from effml import Recipe, load_dataset, load_runs, run, sweep
from effml.compression import load_compressed
from effml.data import Dataset, Split
from effml.experiment import prepare
from effml.experiment.lineage import lineage
from effml.training import train
from effml.training.losses import distillation_loss
from test_training import dots

QUICK = Recipe(model="lenet5", epochs=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    assert sweep([QUICK], folder, keep_weights=True).status.tolist() == ["ok"]
    return folder


def test_no_epochs_take_a_model_as_it_comes(store):
    parent, same = sweep([QUICK, QUICK.but(weights=QUICK.id, epochs=0)], store).itertuples()
    assert same.test_auroc == parent.test_auroc and same.val_auroc == parent.val_auroc
    assert (
        same.epochs_run == same.best_epoch == 0
        and same.optimizer_state_bytes != same.optimizer_state_bytes
    )  # unknown


@pytest.mark.parametrize(
    "fields",
    [
        {"merge": "merge", "neuron_fraction": 0.5},
        {"prune": "channels", "channel_fraction": 0.5, "calibration_images": 32},
        {"factorize": "svd", "rank_fraction": 0.25, "calibration_images": 32},
        {
            "merge": "merge",
            "neuron_fraction": 0.9,
            "factorize": "svd",
            "rank_fraction": 0.25,
            "epochs": 1,
        },
    ],
)
def test_a_recipe_compresses_and_its_weights_come_back(store, fields):
    recipe = QUICK.but(**{"weights": QUICK.id, "epochs": 0} | fields)
    row = sweep([recipe], store, keep_weights=True).iloc[0]
    assert row.status == "ok", row.reason
    assert row.params < row.params_before
    assert row.macs <= row.macs_before
    assert row.latency_s > 0
    assert 0 < row.kept < 1
    assert row.lineage_seconds == load_runs(store).set_index("recipe_id").train_seconds[QUICK.id]
    model = load_compressed(store / row.run_id)
    assert sum(p.numel() for p in model.parameters()) == row.params
    again = sweep([Recipe(weights=recipe.id, epochs=0)], store).iloc[0]
    assert again.test_auroc == pytest.approx(row.test_auroc, abs=1e-6)
    assert again.params == row.params
    other = sweep([Recipe(weights=recipe.id, model="mlp", epochs=0)], store).iloc[0]
    assert other.status == "unsupported" and "compressed lenet5" in other.reason


def test_compressing_twice_keeps_all_steps(store):
    first = QUICK.but(weights=QUICK.id, epochs=0, merge="merge", neuron_fraction=0.5)
    second = Recipe(weights=first.id, epochs=0, prune="channels", channel_fraction=0.5)
    rows = sweep([first], store, keep_weights=True), sweep([second], store, keep_weights=True)
    assert rows[1].params_before[0] == rows[0].params[0] > rows[1].params[0]
    assert (
        sum(p.numel() for p in load_compressed(store / rows[1].run_id[0]).parameters())
        == rows[1].params[0]
    )


def test_a_budget_of_parameters_is_kept(store):
    row = run(QUICK.but(merge="merge", neuron_fraction=0.4, keep_unit="params", epochs=0))
    assert row["params"] <= 0.4 * row["params_before"] and row["kept"] != 0.4


def test_a_method_in_the_wrong_place_fails_with_advice():
    with pytest.raises(ValueError, match="Unknown prune 'svd'. Choose from: none, magnitude"):
        QUICK.but(prune="svd", channel_fraction=0.5)
    with pytest.raises(ValueError, match="Unknown factorize 'channels'. Choose from: none, svd"):
        QUICK.but(factorize="channels", rank_fraction=0.5)
    record = run(QUICK.but(merge="merge", neuron_fraction=0.5, model="resnet18_medmnist"))
    assert record.status == "unsupported" and "Choose lenet5" in record.reason


def test_distillation_loss_is_that_of_hinton():
    torch.manual_seed(0)
    student, teacher = (
        torch.randn(5, 3, dtype=torch.double, requires_grad=True),
        torch.randn(5, 3, dtype=torch.double),
    )
    p, q = (teacher / 4).softmax(1), (student / 4).softmax(1)
    assert torch.allclose(
        distillation_loss(student, teacher, 4), 16 * (p * (p / q).log()).sum(1).mean()
    )
    assert float(distillation_loss(teacher, teacher, 4)) == pytest.approx(0, abs=1e-12)
    # at a high temperature the gradient is that of matching logits (Hinton et al. 2015, eq. 4)
    distillation_loss(student, teacher, 1e4).backward()
    centred = [z - z.mean(1, keepdim=True) for z in (student.detach(), teacher)]
    assert torch.allclose(student.grad, (centred[0] - centred[1]) / 3 / 5, atol=1e-4)


def test_a_student_learns_from_its_teacher(store):
    data = load_dataset("phantom-chest")
    recipe = Recipe(model="mlp", epochs=3, teacher=QUICK.id, teacher_share=1.0, temperature=2.0)
    row = sweep([recipe], store).iloc[0]
    assert row.status == "ok" and row.lineage_seconds > 0, row.reason

    class Fixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, x):  # says the opposite of brightness: no label says that
            bright = x.mean((1, 2, 3)) - 0.2
            return self.scale * torch.stack([20 * bright, -20 * bright], 1)

    from effml import build_model
    from effml.data import normalize

    for augment in ("none", "flip"):
        student, teacher = build_model("mlp"), Fixed()
        train(student, data, recipe=recipe.but(augment=augment, epochs=6), teacher=teacher)
        with torch.no_grad():
            x = normalize(data.test.images)
            agree = (student(x).argmax(1) == teacher(x).argmax(1)).float().mean()
            divergence = functional.kl_div(
                student(x).log_softmax(1), teacher(x).softmax(1), reduction="batchmean"
            )
        assert agree > 0.9 and np.isfinite(float(divergence)), augment


def test_a_teacher_that_cannot_teach_is_refused(store):
    assert "no run in this store" in run(QUICK.but(teacher="r0"), store=store)["reason"]
    sampled = sweep([QUICK.but(teacher=QUICK.id, sampler="importance")], store).iloc[0]
    assert sampled.status == "unsupported" and "uniform" in sampled.reason


def test_a_teacher_of_other_classes_is_refused_and_never_given_a_new_last_layer(store):
    teachers = [
        QUICK,
        Recipe(model="mobilenetv2_050", epochs=0),
    ]  # timm would draw the last layer anew without a word
    sweep(teachers, store, keep_weights=True)
    for teacher in teachers:
        row = sweep(
            [Recipe(data="phantom-skin", model="mlp", epochs=1, teacher=teacher.id)], store
        ).iloc[0]
        assert row.status == "unsupported" and "learned phantom-chest" in row.reason, row.reason
    with pytest.raises(ValueError, match="no effect with epochs=0"):
        QUICK.but(teacher=QUICK.id, epochs=0)


def test_lineage_counts_each_run_once_and_says_when_it_does_not_know(store):
    small = QUICK.but(weights=QUICK.id, merge="merge", neuron_fraction=0.5)
    sweep([small], store, keep_weights=True)
    taught = sweep([Recipe(weights=small.id, teacher=QUICK.id, epochs=1)], store).iloc[
        0
    ]  # QUICK is both teacher and grandparent
    cost = load_runs(store).set_index("recipe_id").train_seconds
    assert taught.lineage_seconds == pytest.approx(cost[QUICK.id] + cost[small.id])


def stored(folder, name, seconds, status="ok", kept=True, **fields):
    """A row of the store as an earlier run left it."""
    row = {
        "run_id": f"{name}-1",
        "recipe_id": name,
        "status": status,
        "weights": "random",
        "teacher": "none",
        "train_seconds": seconds,
        "train_energy_j": seconds,
        "finished_utc": "2026",
    } | fields
    folder.mkdir(exist_ok=True)
    with open(folder / "runs-a.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")
    if kept:
        (folder / f"{row['run_id']}.safetensors").touch()
    return row


def test_lineage_by_hand(tmp_path):
    """A took 100 s, C (from A) 5 s, U an unknown time; G began with B, whose record is gone."""
    stored(tmp_path, "A", 100.0)
    stored(tmp_path, "C", 5.0, weights="A")
    stored(tmp_path, "U", None)
    stored(tmp_path, "P", 7.0, kept=False)  # its weights were deleted, its record is there
    stored(tmp_path, "G", 3.0, weights="B")
    nan = float("nan")
    for weights, teacher, expected in (
        ("A", "none", 100),
        ("A", "C", 105),  # A counts once
        ("C", "A", 105),
        ("C", None, 105),
        ("C", "C", 105),
        ("P", "A", 107),
        ("imagenet", "A", 100),  # no run
        ("U", "none", nan),
        ("A", "U", nan),
        ("B", "none", nan),
        ("A", "G", nan),
        ("some/file.safetensors", "A", nan),
    ):
        found = lineage(tmp_path, weights, teacher)
        for name in ("lineage_seconds", "lineage_energy_j"):
            assert found[name] == pytest.approx(expected, nan_ok=True), (weights, teacher)
    assert lineage(tmp_path, "random", "none") == {}


def test_what_a_selection_or_a_cut_left_is_in_the_notes(monkeypatch):
    data = load_dataset("phantom-chest")
    (ill,) = (data.train.labels == 1).nonzero(as_tuple=True)
    assert prepare.lost_classes(data, data.only(ill)) == [
        f"the selection left no training image of {data.classes[0]}"
    ]
    assert prepare.lost_classes(data, data) == []
    sizes = {"params": 1, "macs": 1, "latency_s": 1.0}
    told = SimpleNamespace(notes=("one group kept its width",), kept=0.5, before=sizes, after=sizes)
    monkeypatch.setattr(prepare, "compress", lambda model, *_: (model, [told]))
    assert "one group kept its width" in run(QUICK).notes


def test_what_a_run_builds_on_is_found(tmp_path):
    from safetensors.torch import save_file

    from effml.experiment.lineage import ancestor, find_teacher, shape
    from effml.models import WeightsUnavailable, build_model

    data, wide = dots(), dots(classes=("a", "b", "c"))
    images = torch.zeros(2, 3, 20, 28, dtype=torch.uint8)
    other = Dataset("x", "multi-class", wide.classes, None, {}, Split(images, torch.zeros(2)))
    assert shape(other) == {"in_channels": 3, "classes": 3, "size": 28}
    row = stored(tmp_path, "r0", 1.0, model="lenet5", data="dots", size=28, seed=0)
    stored(tmp_path, "r9", 1.0, kept=False)
    weights = build_model("lenet5", seed=1).state_dict()
    save_file(weights, tmp_path / "r0-1.safetensors")
    assert ancestor("r0", tmp_path) == (str(tmp_path / "r0-1.safetensors"), row)
    assert ancestor("imagenet", tmp_path) == ("imagenet", None)
    with pytest.raises(
        WeightsUnavailable, match="r9 is in the store, but the weights that it left are not"
    ):
        ancestor("r9", tmp_path)
    assert find_teacher(Recipe(), data, tmp_path) is None
    teacher = find_teacher(Recipe(teacher="r0"), data, tmp_path)
    assert all(torch.equal(weights[name], w) for name, w in teacher.state_dict().items())
    with pytest.raises(ValueError, match="do not fit .*'classes': 3"):
        find_teacher(Recipe(teacher="r0"), wide, tmp_path)
    with pytest.raises(WeightsUnavailable, match="'r1' is no run in this store"):
        find_teacher(Recipe(teacher="r1"), data, tmp_path)
