"""Dataset.of: your own arrays and tensors, with the checks of a file."""

import numpy as np
import pytest
import torch

from effml import Dataset, load_dataset
from test_data import arrays, save

GREY = np.random.default_rng(0).integers(0, 256, (6, 9, 10), dtype=np.uint8)
HALF = np.arange(6) % 2


def test_arrays_and_tensors_give_what_a_file_gives(tmp_path):
    content = arrays(rgb=True, label_names=np.array(["healthy", "ill"]))
    file = load_dataset(save(tmp_path / "x.npz", **content))
    pairs = {
        split: (np.moveaxis(content[f"{split}_images"], -1, 1), content[f"{split}_labels"])
        for split in ("train", "val", "test")
    }
    names = ["healthy", "ill"]
    one = Dataset.of(*pairs["train"], val=pairs["val"], test=pairs["test"], classes=names)
    train, val, test = (tuple(map(torch.from_numpy, pairs[split])) for split in pairs)
    other = Dataset.of(*train, val=val, test=test, classes=names, positive="ill", task="binary")
    for data in (one, other):
        assert (data.task, data.classes, data.positive) == ("binary", ("healthy", "ill"), 1)
        for split in pairs:
            ours, theirs = getattr(data, split), getattr(file, split)
            assert torch.equal(ours.images, theirs.images) and ours.images.dtype == torch.uint8
            assert torch.equal(ours.labels, theirs.labels) and ours.labels.dtype == torch.int64
        for key in ("counts", "image", "majority_rate", "classes", "positive", "groups", "masks"):
            assert data.passport[key] == file.passport[key]
        assert data.passport["phantom"] is False and data.name == "yours"
    assert one.passport["task_from"] == "guessed from the labels"
    assert one.passport["positive_from"].startswith("assumed: by its name")
    assert other.passport["task_from"] == other.passport["positive_from"] == "stated by you"
    assert one.passport["sha256"] == other.passport["sha256"]
    changed = Dataset.of(train[0], 1 - train[1], val=val, test=test)
    assert changed.passport["sha256"] != one.passport["sha256"] and changed.positive == 1
    shapes = (6, 9, 10), (6, 10, 9)
    assert len({Dataset.of(GREY.reshape(s), HALF).passport["sha256"] for s in shapes}) == 2


def test_the_task_is_guessed_from_the_labels():
    several = np.array([[1, 1, 0], [0, 1, 0]] * 3)
    for labels, task, classes in (
        (HALF, "binary", 2),
        ((HALF > 0).tolist(), "binary", 2),
        (HALF.astype(float)[:, None], "binary", 2),
        (np.arange(6) % 3, "multi-class", 3),
        (several, "multi-label", 3),
        (np.eye(3, dtype=int)[np.arange(6) % 3], "multi-class", 3),
    ):
        data = Dataset.of(GREY, labels)
        assert (data.task, len(data.classes)) == (task, classes)
        assert data.train.images.shape == (6, 1, 9, 10)
    hot = np.eye(3, dtype=int)[np.arange(6) % 3]
    assert Dataset.of(GREY, hot, task="multi-label").train.labels.shape == (6, 3)
    assert Dataset.of(GREY, np.arange(6) % 3, task="ordinal").task == "ordinal"
    assert "one-hot" in Dataset.of(GREY, hot).passport["labels"]
    assert Dataset.of(GREY, HALF, positive=0).positive == 0


def test_images_of_any_layout_in_memory(tmp_path):
    flipped, read_only = GREY[:, ::-1], GREY.copy()
    read_only.flags.writeable = False
    np.save(tmp_path / "large.npy", GREY)
    for images in (flipped, read_only, np.load(tmp_path / "large.npy", mmap_mode="r")):
        found = Dataset.of(images, HALF).train.images
        assert (found[:, 0].numpy() == images).all()
        found[0] = 0  # the tensor may be written to; what it was made of stays where it must
    assert (np.load(tmp_path / "large.npy") == GREY).all() and read_only[0].any()
    assert Dataset.of(np.zeros((2, 1, 9, 9, 9), np.uint8), [0, 1]).train.images.ndim == 5


@pytest.mark.parametrize(
    "change, words",
    [
        ({"images": GREY / 255}, "float64 .*scale floats to 0…255 and cast"),
        ({"images": GREY.astype(np.uint16)}, "Give uint8"),
        ({"images": [[1, 2], [3, 4]]}, "Give uint8"),
        ({"images": GREY[:0]}, "at least one image"),
        ({"images": np.zeros((6, 9, 9, 3), np.uint8)}, "move colours from the last axis to axis 1"),
        ({"images": np.zeros((6, 8, 9, 9), np.uint8)}, "C below 8"),
        ({"images": np.zeros((6, 9, 9, 9), np.uint8)}, r"volumes as \(N, 1, D, H, W\)"),
        ({"labels": HALF[:5]}, "5 rows for 6 images"),
        ({"labels": None}, "no rows for 6 images"),
        ({"labels": HALF - 1}, "whole numbers from 0"),
        ({"labels": HALF + 0.5}, "whole numbers from 0"),
        ({"labels": list("ababab")}, "whole numbers from 0"),
        ({"labels": 2 * HALF}, "no image has 1"),
        ({"labels": np.array([[0, 2]] * 6)}, "0 and 1"),
        ({"val": GREY}, "Give val="),
        ({"test": (GREY[:, :8], HALF)}, "unlike the first split"),
        ({"classes": ["one"]}, "1 classes are named"),
        ({"classes": []}, "Name every class"),
        ({"task": "binay"}, "Choose from: binary, multi-class"),
        ({"task": "multi-label"}, "its labels are binary"),
        ({"task": "binary", "labels": np.arange(6) % 3}, "its labels are multi-class"),
        ({"task": "ordinal", "labels": [[1, 1], [0, 1]] * 3}, "its labels are multi-label"),
        ({"positive": 2}, "must be 0 or 1"),
        ({"positive": "ill", "classes": ["no", "yes"]}, "Choose from: no, yes"),
        ({"positive": 1, "labels": np.arange(6) % 3}, "positive is for binary"),
    ],
)
def test_what_does_not_fit_is_refused_with_an_instruction(change, words):
    with pytest.raises(ValueError, match=words):
        Dataset.of(**{"images": GREY, "labels": HALF, **change})


def test_images_on_two_sides_are_told_and_one_text_is_no_list_of_classes(capsys):
    data = Dataset.of(GREY, HALF, test=(GREY[:4], HALF[:4]))
    told = "4 of 4 images of test are in an earlier split too"
    assert data.passport["duplicates"] == told and told in capsys.readouterr().err
    assert Dataset.of(GREY, HALF, test=(255 - GREY, HALF)).passport["duplicates"] == "none"
    with pytest.raises(ValueError, match="classes='ab' is one text: give a list"):
        Dataset.of(GREY, HALF, classes="ab")
    for alike in (["a", "a "], ["b 1", "B_1"], ["c", "c"]):
        with pytest.raises(ValueError, match="are one name|twice"):
            Dataset.of(GREY, HALF, classes=alike)
