import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from conftest import real
from effml import at_hand, load_dataset
from effml.data import catalogue, files, fingerprint, load, normalize
from effml.phantoms import make_phantom


def arrays(n=6, size=28, classes=2, rgb=False, splits=("train", "val", "test"), **more):
    shape = (n, size, size, 3) if rgb else (n, size, size)
    out = {}
    for i, split in enumerate(splits):
        rng = np.random.default_rng(i)
        out[f"{split}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        out[f"{split}_labels"] = (np.arange(n) % classes).astype(np.uint8)[:, None]
    return {**out, **more}


def save(path, **content):
    np.savez(path, **content)
    return path


def test_own_npz_by_path_and_by_name(tmp_path, monkeypatch, no_data):
    content = arrays(label_names=np.array(["healthy", "ill"]))
    path = save(tmp_path / "mine.npz", **content)
    data = load_dataset(path)
    assert data.train.images.shape == (6, 1, 28, 28) and data.train.images.dtype == torch.uint8
    assert data.train.labels.tolist() == [0, 1, 0, 1, 0, 1] and data.classes == ("healthy", "ill")
    assert data.positive == 1 and data.passport["positive_from"].startswith("assumed")
    assert (
        data.passport["sha256"]
        == hashlib.sha256(path.read_bytes()).hexdigest()
        == fingerprint(path)
    )
    assert (data.train.images[:, 0].numpy() == content["train_images"]).all()
    monkeypatch.setenv("EFFML_DATA", str(tmp_path))
    (tmp_path / "below").mkdir()
    save(tmp_path / "below" / "deep.npz", **content)
    assert len(load_dataset("mine").train) == len(load_dataset("deep").test) == 6
    assert len(load_dataset("deep", root=tmp_path / "below").val) == 6


def test_rgb_channels_first_positive_masks_groups_and_absent_splits(tmp_path):
    content = arrays(
        rgb=True,
        splits=("test",),
        positive=0,
        test_groups=np.array(list("aabbcc")),
        test_masks=np.ones((6, 28, 28), np.uint8),
    )
    data = load_dataset(save(tmp_path / "x.npz", **content))
    assert data.test.images.shape == (6, 3, 28, 28) and data.train is None and data.positive == 0
    assert (data.test.images[2, 1].numpy() == content["test_images"][2, :, :, 1]).all()
    assert data.test.groups[2] == "b" and data.test.masks.sum() == 6 * 28 * 28
    volumes = load_dataset(
        save(
            tmp_path / "v.npz",
            test_images=np.zeros((2, 9, 9, 9), np.uint8),
            test_labels=np.zeros((2, 1)),
        )
    )
    assert volumes.test.images.shape == (2, 1, 9, 9, 9)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"train_images": np.zeros((6, 28, 28), np.float32)}, "uint8"),
        ({"train_images": np.zeros((0, 28, 28), np.uint8)}, "one image"),
        ({"train_labels": np.zeros((5, 1))}, "5 rows for 6"),
        ({"train_labels": np.full((6, 1), np.nan)}, "whole numbers"),
        ({"train_labels": np.full((6, 1), -1)}, "whole numbers"),
        ({"train_labels": np.array([["a"]] * 6)}, "whole numbers"),
        ({"label_names": np.array(["one"])}, "1 classes are named"),
        ({"train_masks": np.full((6, 28, 28), 7, np.uint8)}, "0 or 1"),
        ({"val_images": np.zeros((6, 30, 30), np.uint8)}, "unlike the first"),
        ({"train_labels": np.array([object()] * 6)}, "cannot be read"),
    ],
)
def test_broken_files_are_one_clear_error(tmp_path, change, words):
    path = save(tmp_path / "x.npz", **{**arrays(), **change})
    with pytest.raises(ValueError, match=words):
        load_dataset(path)


def test_truncated_or_foreign_files_are_refused(tmp_path):
    path = save(tmp_path / "x.npz", **arrays())
    whole = path.read_bytes()
    for content in (whole[:-100], whole[:50], b"hello", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="cannot be read|holds no images"):
            load_dataset(path)


def test_names_say_where_they_were_looked_for_and_how_to_get_them(no_data):
    with pytest.raises(
        FileNotFoundError,
        match="(?s)data get breastmnist.*1. Get.*https://zenodo.*MD5 7506.*4. Say.*phantom-chest",
    ):
        load_dataset("breastmnist")
    with pytest.raises(FileNotFoundError, match="nosuch.npz was not found"):
        load_dataset("nosuch")
    with pytest.raises(ValueError, match="no variant of 50 px. Choose from: 28, 64, 128, 224"):
        load_dataset("breastmnist", size=50)


def test_a_file_under_an_official_name_with_another_checksum_is_an_error_not_a_substitute(
    tmp_path, monkeypatch, no_data
):
    save(tmp_path / "breastmnist.npz", **arrays())
    monkeypatch.setenv("EFFML_DATA", str(tmp_path))
    for ask in (load_dataset, at_hand, lambda name: at_hand(f"{name}|phantom-chest")):
        with pytest.raises(ValueError, match="is not the official breastmnist"):
            ask("breastmnist")
    assert len(load_dataset(tmp_path / "breastmnist.npz").train) == 6  # by path it is what it is


def test_ladders(tmp_path, no_data):
    assert at_hand("breastmnist|phantom-chest") == "phantom-chest"
    save(tmp_path / "mine.npz", **arrays())
    assert at_hand("breastmnist | mine|phantom-chest", root=tmp_path) == "mine"
    with pytest.raises(FileNotFoundError, match="None of breastmnist, octmnist"):
        at_hand("breastmnist|octmnist")
    with pytest.raises(ValueError, match="empty"):
        at_hand(" | ")


def test_phantoms_say_that_they_are():
    data = load_dataset("phantom-chest", size=32)
    assert data.passport["phantom"]
    assert data.test.images.shape[1:] == (1, 32, 32)
    assert data.positive == 1
    assert (
        fingerprint("phantom-chest")
        == fingerprint("phantom-chest")
        != fingerprint("phantom-chest", size=32)
    )
    assert load_dataset("phantom-skin").task == "multi-class"


def test_size_is_a_variant_not_a_resize(tmp_path):
    path = save(tmp_path / "x.npz", **arrays(size=20))
    assert (
        load_dataset(path).train.images.shape[-1]
        == load_dataset(path, size=20).train.images.shape[-1]
        == 20
    )
    with pytest.raises(ValueError, match="20 px, not 64"):
        load_dataset(path, size=64)


def test_a_whole_part_of_a_side_takes_means_and_masks_the_majority(tmp_path):
    rng = np.random.default_rng(5)
    masks = {
        f"{split}_masks": rng.integers(0, 2, (6, 24, 24), dtype=np.uint8) for split in ("test",)
    }
    content = arrays(size=24, rgb=True, splits=("test",)) | masks
    path = save(tmp_path / "x.npz", **content)
    data = load_dataset(path, size=8)
    blocks = content["test_images"].reshape(6, 8, 3, 8, 3, 3).mean((2, 4))
    assert (data.test.images.numpy() == blocks.round().transpose(0, 3, 1, 2)).all()
    share = masks["test_masks"].reshape(6, 8, 3, 8, 3).mean((2, 4))
    assert (data.test.masks.numpy() == (share > 0.5)).all()
    assert data.passport["resized"] == "8 px: means over 3 × 3 pixels"
    assert "resized" not in load_dataset(path, size=24).passport
    with pytest.raises(
        ValueError, match="24 px, not 10: .* a whole part of it: 12, 8, 6, 4; or leave size out"
    ):
        load_dataset(path, size=10)


def test_a_medmnist_file_by_path_keeps_its_positive_class(tmp_path):
    """0 = malignant, whatever the way to the file."""
    data = load_dataset(save(tmp_path / "breastmnist.npz", **arrays()))
    assert data.positive == 0 and data.passport["checksum"] == "not the official one"
    with pytest.raises(ValueError, match="must be 0 or 1"):
        load_dataset(save(tmp_path / "y.npz", **arrays(), positive=5))


def test_a_wrong_data_folder_is_an_error_not_a_phantom(monkeypatch):
    monkeypatch.setenv("EFFML_DATA", "/no/such/folder")
    with pytest.raises(ValueError, match="is no folder"):
        at_hand("breastmnist|phantom-chest")


def test_normalize_by_hand():
    assert torch.equal(
        normalize(torch.tensor([0, 255], dtype=torch.uint8)), torch.tensor([-1.0, 1.0])
    )


def test_real_sets_have_the_published_counts_and_the_right_positive_class():
    breast = load_dataset(real("breastmnist"))
    assert breast.passport["counts"] == {"train": 546, "val": 78, "test": 156}
    assert breast.classes[breast.positive] == "malignant"
    assert breast.passport["checksum"] == "official MD5"
    assert int((breast.test.labels == 0).sum()) == 42
    assert breast.passport["majority_rate"] == pytest.approx(114 / 156)
    pneumonia = load_dataset(real("pneumoniamnist|pneumoniamnist_reordered"))
    assert pneumonia.passport["counts"] == {"train": 4708, "val": 524, "test": 624}
    assert pneumonia.classes[1] == "pneumonia"


def test_medmnist_passports_are_read_without_importing_the_package():
    info = catalogue.medmnist_info()
    assert len(info) == 18 and info["breastmnist"]["MD5"] == "750601b1f35ba3300ea97c75c52ff8f6"


def test_images_larger_than_memory_are_mapped_and_look_the_same(tmp_path, monkeypatch):
    ones = np.ones((60, 144, 144), np.uint8)
    content = arrays(
        n=60,
        size=144,
        rgb=True,
        train_masks=ones,
        val_masks=ones,
        test_masks=ones,
        train_site=np.arange(60),
    )
    path = save(tmp_path / "large.npz", **content)
    whole = load_dataset(path)
    monkeypatch.setenv("EFFML_MEMORY_GB", "0.005")
    monkeypatch.setenv("EFFML_CACHE", str(tmp_path / "cache"))
    mapped = load_dataset(path)
    again = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*")}
    assert load_dataset(path).train.maps
    assert again == {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*")}
    assert not whole.train.maps
    assert len(mapped.train.maps) == 2
    assert mapped.train.to("cpu") is mapped.train
    index = torch.tensor([7, 3, 59])
    for split in (whole.train, mapped.train):
        assert (
            split.take(index).numpy() == content["train_images"][[7, 3, 59]].transpose(0, 3, 1, 2)
        ).all()
        assert torch.equal(split.take(slice(58, 99)), split.images[58:])
        assert split.take(index).dtype == torch.uint8
        assert torch.equal(split.masks, whole.train.masks)
        assert split.meta["site"].tolist() == list(range(60))
    mapped.train.images[0] = 1  # a private page: the cache and the next reader do not see it
    assert torch.equal(load_dataset(path).train.images, whole.train.images)
    assert {key: value for key, value in mapped.passport.items()} == whole.passport


def test_a_full_disk_is_said_before_unpacking(tmp_path, monkeypatch):
    path = save(tmp_path / "large.npz", **arrays(n=60, size=96))
    monkeypatch.setenv("EFFML_MEMORY_GB", "0.001")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("usage", (), {"free": 1000}))
    with pytest.raises(OSError, match="EFFML_CACHE"):
        load_dataset(path)


def test_a_phantom_is_drawn_once_and_again_if_what_is_kept_is_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv("EFFML_CACHE", str(tmp_path / "cache"))
    drawn = []
    monkeypatch.setattr(
        load, "make_phantom", lambda *a, **k: drawn.append(a) or make_phantom(*a, **k)
    )
    name = "phantom-nodule:seed=5"
    first, second = load_dataset(name), load_dataset(name)
    assert len(drawn) == 1
    assert first.passport == second.passport
    assert first.positive == second.positive
    for split in ("train", "val", "test"):
        one, other = getattr(first, split), getattr(second, split)
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.masks, other.masks)
        assert all((one.meta[key] == other.meta[key]).all() for key in one.meta)
        assert one.meta.keys() == other.meta.keys()
    next((tmp_path / "cache").rglob("train_images.npy")).write_bytes(b"damaged")
    assert torch.equal(load_dataset(name).train.images, first.train.images) and len(drawn) == 2
    (tmp_path / "file").touch()
    monkeypatch.setenv("EFFML_CACHE", str(tmp_path / "file"))  # no folder can be made there
    assert torch.equal(load_dataset(name).train.images, first.train.images) and len(drawn) == 3


def test_two_at_once_draw_a_phantom_once(tmp_path, monkeypatch):
    monkeypatch.setenv("EFFML_CACHE", str(tmp_path))
    started, drawn = threading.Barrier(2, timeout=60), []

    def fill(folder):
        drawn.append(folder)
        time.sleep(0.3)  # the other comes meanwhile
        np.save(folder / "a.npy", np.arange(3))

    def ask(_):
        started.wait()
        return files.cached("phantom-x", fill, 0)["a"].tolist()

    with ThreadPoolExecutor(2) as both:
        assert list(both.map(ask, range(2))) == [[0, 1, 2]] * 2
    assert len(drawn) == 1


def test_phantoms_take_options_in_their_name():
    noisy = load_dataset("phantom-chest:label_noise=0.25:shift=1:seed=3")
    assert float(
        (noisy.train.labels.numpy() != noisy.train.meta["true_labels"][:, 0]).mean()
    ) == pytest.approx(0.25, abs=1e-3)
    assert set(noisy.train.meta["site"]) == set("ABC")
    assert set(noisy.test.meta["site"]) == set("ABCD")
    assert "true_labels" not in noisy.test.meta and noisy.passport["checksum"] == "made from seed 3"
    assert fingerprint("phantom-chest") != fingerprint("phantom-chest:seed=1")
    assert at_hand("nosuch|phantom-chest:shift=1") == "phantom-chest:shift=1"


@pytest.mark.parametrize(
    "name, shape, counts, groups",
    [
        (
            "malaria_28",
            (1, 28, 28),
            {"train": 18564, "val": 3297, "test": 5697},
            {"train": 140, "val": 20, "test": 40},
        ),
        (
            "ham10000_28",
            (3, 28, 28),
            {"train": 6989, "val": 1015, "test": 2011},
            {"train": 5229, "val": 747, "test": 1494},
        ),
        (
            "lidc_nodules_64",
            (1, 64, 64),
            {"train": 1048, "val": 145, "test": 295},
            {"train": 482, "val": 71, "test": 133},
        ),
        (
            "foot_ulcer_128",
            (3, 128, 128),
            {"train": 810, "val": 100, "test": 100},
            {"train": 810, "val": 100, "test": 100},
        ),
        ("medetec_wound_128", (3, 128, 128), {"test": 160}, {"test": 152}),
        ("cifar10_jpeg_15k", (3, 32, 32), {"train": 10000, "test": 5000}, None),
        (
            "nuclei_128",
            (3, 128, 128),
            {"train": 464, "val": 67, "test": 133},
            {"train": 464, "val": 67, "test": 133},
        ),
        ("mnist", (1, 28, 28), {"train": 60000, "test": 10000}, None),
        ("adrenalmnist3d", (1, 28, 28, 28), {"train": 1188, "val": 98, "test": 298}, None),
    ],
)
def test_real_sets_by_name(name, shape, counts, groups):
    data = load_dataset(real(name))
    assert data.passport["counts"] == counts and data.passport["groups"] == groups
    assert (
        tuple(next(split for split in (data.train, data.test) if split).images.shape[1:]) == shape
    )
    assert (data.task == "segmentation") == (
        name in ("foot_ulcer_128", "medetec_wound_128", "nuclei_128")
    )
    assert "local file" not in data.passport["source"]
    assert data.passport["licence"] != "see the file's source"
    if name == "mnist":
        assert data.passport["majority_rate"] == 0.1135
        assert data.train.labels[:5].tolist() == [
            5,
            0,
            4,
            1,
            9,
        ]


def test_a_class_without_an_image_to_learn_from_is_remarked(tmp_path, capsys):
    content = arrays(n=8, classes=4)
    content["train_labels"] %= 3
    data = load_dataset(save(tmp_path / "few.npz", **content))
    assert data.passport["labels"] == "class 3 has no training image"
    assert "few.npz: class 3 has no training image." in capsys.readouterr().err
    content["val_labels"] %= 2
    names = ["no", "mild", "grave", "worst"]
    data = load_dataset(save(tmp_path / "named.npz", **content, label_names=names))
    assert data.passport["labels"] == (
        "class worst has no training image; classes grave, worst have no validation image"
    )
    assert "labels" not in load_dataset(save(tmp_path / "all.npz", **arrays(classes=3))).passport
    several = arrays(n=8)
    for part in ("train", "val", "test"):
        several[f"{part}_labels"] = np.array([[1, 0, 1], [0, 0, 0]] * 4)
    data = load_dataset(save(tmp_path / "several.npz", **several))
    assert data.task == "multi-label" and "class 1 has no training image" in data.passport["labels"]
    one_hot = arrays(n=9, classes=3)
    for part in ("train", "val", "test"):
        one_hot[f"{part}_labels"] = np.eye(4, dtype=int)[np.arange(9) % 3]
    said = load_dataset(save(tmp_path / "hot.npz", **one_hot)).passport["labels"]
    assert said.startswith("one-hot columns") and "; class 3 has no training image" in said


def test_a_positive_class_among_three_is_told_to_be_of_no_use(tmp_path, capsys):
    path = save(tmp_path / "three.npz", **arrays(classes=3), positive=1)
    assert load_dataset(path).positive is None
    assert "positive=1 is not used: the task is multi-class" in capsys.readouterr().err


def test_the_record_of_a_run_says_which_class_has_no_training_image(tmp_path):
    from effml import Recipe, run

    content = arrays(n=8, size=8, classes=4)
    content["train_labels"] %= 3
    path = save(tmp_path / "few.npz", **content)
    record = run(Recipe(data=str(path), model="mlp", epochs=1))
    assert record.status == "ok" and "class 3 has no training image" in record.notes


def test_the_jpeg_container_decodes_as_pillow_does():
    from io import BytesIO

    from PIL import Image

    from effml.data.places import find

    data, path = load_dataset(real("cifar10_jpeg_15k")), find("cifar10_jpeg_15k")
    with np.load(path) as file:
        o, rows = file["jpeg_offsets"], np.flatnonzero(file["split"] == 1)
        with Image.open(
            BytesIO(file["jpeg_bytes"][o[rows[7]] : o[rows[7] + 1]].tobytes())
        ) as image:
            assert (np.asarray(image) == data.test.images[7].permute(1, 2, 0).numpy()).all()
        assert int(file["labels"][rows[7]]) == int(data.test.labels[7])
