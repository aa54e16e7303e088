"""Losses, augmentation, stopping, checkpoints, masks: each against an oracle."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from conftest import seeds
from effml import Recipe, load_dataset
from effml.data import Dataset, Split
from effml.models import build_model
from effml.training import SCHEDULES, train
from effml.training.augmentation import AUGMENTATIONS, augment
from effml.training.losses import make_loss, soft_dice_loss
from effml.training.stopping import STOPPING
from test_training import dots


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    labels = torch.tensor([0] * 50 + [1] * 10 + [2] * 3)
    logits = torch.randn(63, 3, generator=torch.Generator().manual_seed(0))
    weight = torch.tensor(
        compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy()),
        dtype=torch.float32,
    )
    expected = torch.nn.functional.cross_entropy(logits, labels, weight=weight)
    assert make_loss("multi-class", labels, 3, "balanced")(logits, labels).item() == pytest.approx(
        expected.item(), rel=1e-6
    )
    assert torch.isfinite(
        make_loss("multi-class", labels, 4, "balanced")(torch.zeros(63, 4), labels)
    )  # a class without images


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_losses_of_masks_of_several_labels_and_of_weighted_images_by_hand(weights):
    draw = torch.Generator().manual_seed(0)
    logits, masks = (
        torch.randn(4, 2, 5, 5, generator=draw),
        torch.randint(2, (4, 5, 5), generator=draw),
    )
    p, pixel = logits.softmax(1)[:, 1], torch.where(masks == 1, logits.softmax(1)[:, 1], 0)
    entropy = -torch.where(masks == 1, p, 1 - p).log().mean()
    dice = 1 - (2 * pixel.sum() + 1) / (p.sum() + masks.sum() + 1)
    assert make_loss("segmentation", masks, 2, weights)(logits, masks).item() == pytest.approx(
        (entropy + dice).item(), rel=1e-5
    )
    truth = (torch.arange(40)[:, None] < torch.tensor([4, 20, 36])).long()
    logits = torch.randn(40, 3, generator=draw)
    factor = torch.tensor([9, 1, 1 / 9]) if weights == "balanced" else torch.ones(3)
    expected = -(factor * truth * logits.sigmoid().log() + (1 - truth) * (-logits).sigmoid().log())
    loss = make_loss("multi-label", truth, 3, weights)
    assert loss(logits, truth).item() == pytest.approx(expected.mean().item(), rel=1e-5)
    none = torch.zeros(40, 3)  # a label that no image has
    assert torch.isfinite(make_loss("multi-label", none, 3, weights)(logits, none))
    labels, each = torch.tensor([0] * 30 + [1] * 10), torch.rand(40, generator=draw)
    factor = torch.tensor([2 / 3, 2.0, 0]) if weights == "balanced" else torch.ones(3)
    surprise = -logits.log_softmax(1)[torch.arange(40), labels]
    assert make_loss("multi-class", labels, 3, weights)(
        logits, labels, each
    ).item() == pytest.approx((each * factor[labels] * surprise).mean().item(), rel=1e-5)


def test_soft_dice_by_hand_and_with_empty_masks():
    logits, masks = torch.zeros(1, 2, 2, 2), torch.tensor([[[1, 0], [0, 0]]])
    assert soft_dice_loss(logits, masks).item() == pytest.approx(1 - (2 * 0.5 + 1) / (2 + 1 + 1))
    sure = torch.tensor([30.0, -30.0]).reshape(1, 2, 1, 1).expand(1, 2, 4, 4)
    assert soft_dice_loss(sure, torch.zeros(1, 4, 4)).item() == pytest.approx(0, abs=1e-6)
    assert soft_dice_loss(-sure, torch.ones(1, 4, 4)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(40, 3, 28, 28), (12, 1, 9, 10, 11)])
def test_augmentation_moves_images_and_masks_alike_and_repeats(name, shape):
    images = torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    masks = (images[:, 0] > 128).byte()
    one, other = (augment(name, images, masks, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one[0], other[0])
    assert one[0].shape == images.shape
    assert one[0].dtype == torch.uint8
    assert torch.equal((one[0][:, 0] > 128).byte(), one[1])
    changed = (one[0] != images).flatten(1).any(1).float().mean()
    assert (changed == 0) if name == "none" else 0.2 < changed <= 1
    if name == "flip":
        for new, old in zip(one[0], images):
            assert torch.equal(new, old) or torch.equal(new, old.flip(-1))
    assert augment(name, images, None, torch.Generator())[1] is None


def test_mirroring_is_fair_and_both_axes_are_independent():
    images = torch.arange(6, dtype=torch.uint8).reshape(1, 1, 2, 3).expand(800, 1, 2, 3)
    for name, ways in (("flip", ((), (-1,))), ("flips", ((), (-1,), (-2,), (-2, -1)))):
        new = augment(name, images, None, torch.Generator().manual_seed(0))[0]
        shares = [(new == images.flip(way)).flatten(1).all(1).float().mean() for way in ways]
        assert shares == pytest.approx([1 / len(ways)] * len(ways), abs=0.07), name


@pytest.mark.parametrize("side, reach", [(28, 2), (112, 8), (9, 1)])
def test_a_shift_is_at_most_a_fourteenth_of_the_side(side, reach):
    images, middle = torch.zeros(200, 1, side, side, dtype=torch.uint8), side // 2
    images[:, :, middle, middle] = 255
    moved = augment("shift", images, None, torch.Generator().manual_seed(0))[0].flatten(1).argmax(1)
    rows, columns = moved // side - middle, moved % side - middle
    assert set(rows.tolist()) == set(columns.tolist()) == {*range(-reach, reach + 1)}
    with pytest.raises(ValueError, match="Choose from: none, flip"):
        augment("mixup", images, None, torch.Generator())


def epochs_run(rule, accuracies, losses, patience=2):
    stopping, best = STOPPING[rule](patience), 0
    for epoch, (accuracy, loss) in enumerate(zip(accuracies, losses), 1):
        if stopping.better({"score": accuracy, "accuracy": accuracy, "loss": loss}):
            best = epoch
        if stopping.enough():
            return epoch, best
    return len(accuracies), best


def test_stopping_as_it_should_be_and_as_selvan_2023_wrote_it():
    accuracies, losses = (
        [0.5, 0.6, 0.5, 0.5, 0.5, 0.5, 0.5],
        [1.0, 0.9, 0.95, 0.94, 0.93, 0.99, 0.99],
    )
    assert epochs_run("score", accuracies, losses) == (4, 2)
    # 0.9 came together with a better accuracy, so the bar stayed at infinity: 0.95, 0.94 and 0.93
    # reset the counter in turn
    assert epochs_run("selvan2023", accuracies, losses) == (7, 2)
    assert epochs_run("score", [0.5] * 9, [1.0] * 9, patience=0) == (
        9,
        9,
    )  # of equals the later; never stops
    none = [math.inf] * 5  # a loss that is never better
    for rule in ("score", "selvan2023"):
        assert epochs_run(rule, [0.5, 0.6, 0.5, 0.5, 0.5], none) == (4, 2)
        assert epochs_run(rule, [0.5, 0.4, 0.6, 0.5, 0.5], none, patience=1) == (2, 1)
        assert epochs_run(rule, [0.5, math.nan, math.nan], none, patience=0) == (3, 1)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_stay_between_nothing_and_the_rate(name):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.8)
    schedule, rates = SCHEDULES[name](optimizer, 40), []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step(), schedule.step()
    assert 0 <= min(rates) and max(rates) <= 0.8 + 1e-9
    if name == "step":
        assert rates == pytest.approx([0.8] * 20 + [0.08] * 10 + [0.008] * 10)
    if name == "constant":
        assert rates == [0.8] * 40
    if name == "onecycle":
        assert np.argmax(rates) in (11, 12) and rates[-1] < 0.01


@pytest.mark.parametrize(
    "model, name, size", [("unet", "phantom-brain", 32), ("unet3d", "phantom-brain3d", 16)]
)
def test_a_unet_learns_to_outline(model, name, size):
    data, n = load_dataset(name, size=size), 32 if model == "unet3d" else 96
    net = build_model(model, in_channels=data.train.images.shape[1], seed=1)
    part = Dataset(
        name,
        data.task,
        data.classes,
        None,
        {},
        Split(data.train.images[:n], masks=data.train.masks[:n]),
        Split(data.val.images[:16], masks=data.val.masks[:16]),
    )
    how = dict(epochs=2, batch_size=4, learning_rate=0.003, augment="flip")
    history = train(net, part, recipe=Recipe(model=model, **how))
    assert history.train_loss[-1] < 0.8 * history.train_loss[0] and max(history.val_score) > 0.6
    assert net(torch.zeros(1, 1, *[19] * (3 if "3d" in model else 2))).shape[2:] == (19,) * (
        3 if "3d" in model else 2
    )


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_training import dots
from effml import Recipe
from effml.models import build_model
from effml.training import checkpoints, train
save = checkpoints.Checkpoint.save
def then_die(self, epoch):
    save(self, epoch)
    if epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)
checkpoints.Checkpoint.save = then_die
recipe = Recipe(epochs=6, batch_size=16, augment="flip_shift", precision={precision!r})
train(build_model("lenet5", seed=0), dots(), recipe=recipe, checkpoint=Path({file!r}))
"""


@pytest.mark.parametrize("precision", [["fp32", "amp_bf16"][i] for i in seeds(1, 2)])
def test_kill_9_and_resume_gives_the_weights_of_an_undisturbed_run(
    tmp_path, monkeypatch, precision
):
    file, tests = tmp_path / "x.checkpoint", os.path.dirname(__file__)
    monkeypatch.setenv("EFFML_CHECKPOINT_SECONDS", "0")
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format(tests=tests, file=str(file), precision=precision)],
        capture_output=True,
    )
    assert done.returncode == -9 and file.is_file(), done.stderr.decode()
    recipe = Recipe(epochs=6, batch_size=16, augment="flip_shift", precision=precision)
    resumed, whole = (build_model("lenet5", seed=0) for _ in range(2))
    history = train(resumed, dots(), recipe=recipe, checkpoint=file)
    undisturbed = train(whole, dots(), recipe=recipe)
    assert history.resumed_epoch == 3 and not file.exists()
    assert history.train_loss == undisturbed.train_loss
    assert history.best_epoch == undisturbed.best_epoch
    assert all(
        torch.equal(a, b)
        for a, b in zip(resumed.state_dict().values(), whole.state_dict().values())
    )


def interrupt(file, recipe, monkeypatch, after=1):
    """Leave the checkpoint of a training that was interrupted."""
    from effml.training.checkpoints import Checkpoint

    save = Checkpoint.save

    def die(self, epoch):
        save(self, epoch)
        if epoch == after:
            raise KeyboardInterrupt

    monkeypatch.setenv("EFFML_CHECKPOINT_SECONDS", "0")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", die)
        with pytest.raises(KeyboardInterrupt):
            train(build_model("mlp"), dots(), recipe=recipe, checkpoint=file)


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    "fields",
    [
        *[{"schedule": name} for name in SCHEDULES],
        {"optimizer": "adam8bit"},
        {"optimizer": "sgd"},
        {"optimizer": "adam", "stopping": "selvan2023", "precision": "bf16"},
    ],
    ids=str,
)
def test_every_part_of_the_state_is_restored(tmp_path, monkeypatch, fields):
    file, recipe = tmp_path / "x.checkpoint", Recipe(epochs=3, batch_size=48, **fields)
    interrupt(file, recipe, monkeypatch)
    resumed, whole = build_model("mlp"), build_model("mlp")
    history = train(resumed, dots(), recipe=recipe, checkpoint=file)
    train(whole, dots(), recipe=recipe)
    assert history.resumed_epoch == 1 and history.notes == [] and same_weights(resumed, whole)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    "harm",
    ["empty", "torn", "foreign", "one byte", "of another recipe", "of fewer images", "misfit"],
)
def test_a_checkpoint_of_no_use_is_begun_anew_with_a_note(tmp_path, monkeypatch, capfd, harm):
    file, recipe = tmp_path / "x.checkpoint", Recipe(epochs=2, batch_size=48)
    interrupt(file, recipe.but(seed=1) if harm == "of another recipe" else recipe, monkeypatch)
    content = file.read_bytes()
    half = len(content) // 2
    harmed = {
        "empty": b"",
        "torn": content[:half],
        "foreign": b"[1]",
        "one byte": content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :],
    }
    if harm in harmed:
        file.write_bytes(harmed[harm])
    elif harm != "of another recipe":
        state = torch.load(file, weights_only=True)
        state["run"] = [recipe.id, 144 - 9 * (harm == "of fewer images"), None]
        if harm == "misfit":  # everything is loaded before the one that does not fit
            state["history"].pop("val_loss")
        torch.save(state, file)
    begun, whole = build_model("mlp"), build_model("mlp")
    history = train(begun, dots(), recipe=recipe, checkpoint=file)
    undisturbed = train(whole, dots(), recipe=recipe)
    assert history.resumed_epoch == 0 and "began anew" in history.notes[0]
    assert "began anew" in capfd.readouterr().err
    assert same_weights(begun, whole) and history.val_score == undisturbed.val_score
    assert list(tmp_path.iterdir()) == []


class Evil:
    def __reduce__(self):
        return print, ("code of a checkpoint was run",)


def test_a_checkpoint_runs_no_code(tmp_path, capfd):
    file = tmp_path / "x.checkpoint"
    torch.save({"run": Evil()}, file)
    history = train(build_model("mlp"), dots(), recipe=Recipe(epochs=1), checkpoint=file)
    assert "damaged or no checkpoint" in history.notes[0] and not capfd.readouterr().out


def test_a_checkpoint_is_named_by_all_that_its_state_depends_on(tmp_path):
    from effml.recipe import Record
    from effml.training.checkpoints import checkpoint_file

    base = dict(data_sha256="a", precision_used="fp32", device="cpu", device_name="x", numerics=1)
    base |= dict(cpu_flags="avx2", threads_used=2, torch="2", timm="1")
    base |= dict(weights_sha256=None, teacher_sha256=None)
    made = lambda **other: checkpoint_file(tmp_path, Record(Recipe(), **base | other))  # noqa: E731
    others = {made(**{name: 3 if name == "numerics" else "other"}) for name in base}
    assert len(others | {made()}) == len(base) + 1 and made() == made(run_id="any", notes="any")


def test_a_failed_write_leaves_what_was_there_and_no_other_file(tmp_path, monkeypatch):
    from effml.results import save_file

    file = tmp_path / "x.checkpoint"
    file.write_bytes(b"before")

    def full(state, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        "pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full"))
    )
    with pytest.raises(OSError):
        save_file(file, b"after")
    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setenv("EFFML_CHECKPOINT_SECONDS", "0")
    with pytest.raises(OSError):
        train(build_model("mlp"), dots(), recipe=Recipe(epochs=2), checkpoint=file)
    assert file.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_short_trainings_write_no_checkpoint(tmp_path):
    train(build_model("mlp"), dots(), recipe=Recipe(epochs=2), checkpoint=tmp_path / "x.checkpoint")
    assert not list(tmp_path.iterdir())


def test_a_run_on_masks_reports_dice_and_a_model_that_does_not_fit_is_refused(tmp_path):
    from effml import load_arrays, run

    record = run(Recipe(data="phantom-wound", model="unet", epochs=1, batch_size=8), store=tmp_path)
    assert record.status == "ok", record.reason
    assert 0.2 < record.test_dice < 1
    assert record.test_dice_low < record.test_dice < record.test_dice_high
    assert record.test_n == 100
    assert record.val_auroc is None and record.val_score > 0.2 and record.macs > 0
    assert load_arrays(tmp_path, record.run_id)["test_probabilities"].shape == (100, 28, 28)
    for data, model, words in (
        ("phantom-wound", "lenet5", "Choose unet"),
        ("phantom-chest", "unet", "Choose a classifier"),
        ("phantom-brain3d", "unet", "Choose unet3d"),
    ):
        record = run(Recipe(data=data, model=model, epochs=1))
        assert record.status == "unsupported" and words in record.reason
