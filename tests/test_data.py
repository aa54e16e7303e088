import hashlib

import numpy as np
import pytest
import torch
from conftest import real

from effml import at_hand, load_dataset
from effml.data import fingerprint, load, normalize


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
    assert data.passport["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() == fingerprint(path)
    assert (data.train.images[:, 0].numpy() == content["train_images"]).all()
    monkeypatch.setenv("EFFML_DATA", str(tmp_path))
    (tmp_path / "below").mkdir()
    save(tmp_path / "below" / "deep.npz", **content)
    assert len(load_dataset("mine").train) == len(load_dataset("deep").test) == 6
    assert len(load_dataset("deep", root=tmp_path / "below").val) == 6


def test_rgb_channels_first_positive_masks_groups_and_absent_splits(tmp_path):
    content = arrays(rgb=True, splits=("test",), positive=0, test_groups=np.array(list("aabbcc")),
                     test_masks=np.ones((6, 28, 28), np.uint8))
    data = load_dataset(save(tmp_path / "x.npz", **content))
    assert data.test.images.shape == (6, 3, 28, 28) and data.train is None and data.positive == 0
    assert (data.test.images[2, 1].numpy() == content["test_images"][2, :, :, 1]).all()
    assert data.test.groups[2] == "b" and data.test.masks.sum() == 6 * 28 * 28
    volumes = load_dataset(save(tmp_path / "v.npz", test_images=np.zeros((2, 9, 9, 9), np.uint8), test_labels=np.zeros((2, 1))))
    assert volumes.test.images.shape == (2, 1, 9, 9, 9)


@pytest.mark.parametrize("change, words", [
    ({"train_images": np.zeros((6, 28, 28), np.float32)}, "uint8"), ({"train_images": np.zeros((0, 28, 28), np.uint8)}, "one image"),
    ({"train_labels": np.zeros((5, 1))}, "5 rows for 6"), ({"train_labels": np.full((6, 1), np.nan)}, "whole numbers"),
    ({"train_labels": np.full((6, 1), -1)}, "whole numbers"), ({"train_labels": np.array([["a"]] * 6)}, "whole numbers"),
    ({"label_names": np.array(["one"])}, "only 1 classes"), ({"train_masks": np.full((6, 28, 28), 7, np.uint8)}, "0 or 1"),
    ({"val_images": np.zeros((6, 30, 30), np.uint8)}, "unlike the first"), ({"train_labels": np.array([object()] * 6)}, "cannot be read")])
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
    with pytest.raises(FileNotFoundError, match="zenodo.*MD5.*phantom-chest"):
        load_dataset("breastmnist")
    with pytest.raises(FileNotFoundError, match="nosuch.npz was not found"):
        load_dataset("nosuch")
    with pytest.raises(ValueError, match="no variant of 50 px. Choose from: 28, 64, 128, 224"):
        load_dataset("breastmnist", size=50)


def test_a_file_under_an_official_name_with_another_checksum_is_an_error_not_a_substitute(tmp_path, monkeypatch, no_data):
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
    assert data.passport["phantom"] and data.test.images.shape[1:] == (1, 32, 32) and data.positive == 1
    assert fingerprint("phantom-chest") == fingerprint("phantom-chest") != fingerprint("phantom-chest", size=32)
    assert load_dataset("phantom-skin").task == "multi-class"


def test_size_is_a_variant_not_a_resize(tmp_path):
    path = save(tmp_path / "x.npz", **arrays(size=20))
    assert load_dataset(path).train.images.shape[-1] == load_dataset(path, size=20).train.images.shape[-1] == 20
    with pytest.raises(ValueError, match="20 px, not 64"):
        load_dataset(path, size=64)


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
    assert torch.equal(normalize(torch.tensor([0, 255], dtype=torch.uint8)), torch.tensor([-1.0, 1.0]))


def test_real_sets_have_the_published_counts_and_the_right_positive_class():
    breast = load_dataset(real("breastmnist"))
    assert breast.passport["counts"] == {"train": 546, "val": 78, "test": 156}
    assert breast.classes[breast.positive] == "malignant" and breast.passport["checksum"] == "official MD5"
    assert int((breast.test.labels == 0).sum()) == 42 and breast.passport["majority_rate"] == pytest.approx(114 / 156)
    pneumonia = load_dataset(real("pneumoniamnist|pneumoniamnist_reordered"))
    assert pneumonia.passport["counts"] == {"train": 4708, "val": 524, "test": 624} and pneumonia.classes[1] == "pneumonia"


def test_medmnist_passports_are_read_without_importing_the_package():
    info = load.medmnist_info()
    assert len(info) == 18 and info["breastmnist"]["MD5"] == "750601b1f35ba3300ea97c75c52ff8f6"
