"""Pictures with masks, cut into patches with and without the structure."""

import numpy as np
import pytest
from PIL import Image

import effml


def pictures(n, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(1, 256, (n, 32, 48, 3), dtype=np.uint8)
    return images, (rng.random((n, 32, 48)) < 0.002).astype(np.uint8)


def written(path, **more):
    arrays = {}
    for seed, split in enumerate(("train", "val", "test")):
        images, masks = pictures(7 + seed, seed)
        images[0, :16, :16] = 0  # padding
        arrays |= {f"{split}_images": images, f"{split}_masks": masks}
        arrays |= {f"{split}_year": np.arange(len(images))}
    np.savez(path, **arrays, **more)
    return arrays


def test_every_patch_is_a_piece_of_its_picture(tmp_path):
    path = tmp_path / "wounds.npz"
    arrays = written(path, label_names=np.array(["background", "ulcer"]))
    data = effml.load_dataset(f"{path}:patches=16")
    assert data.task == "binary" and data.classes == ("without ulcer", "ulcer")
    assert data.positive == 1 and "16 × 16 px" in data.passport["patches"]
    for split in ("train", "val", "test"):
        part, images, masks = getattr(data, split), *(arrays[f"{split}_{k}"] for k in KINDS)
        assert len(part) == 6 * len(images) - 1 and part.masks is None
        places = [(i, y, x) for i in range(len(images)) for y in (0, 16) for x in (0, 16, 32)][1:]
        for row, (i, y, x) in enumerate(places):
            here = i, slice(y, y + 16), slice(x, x + 16)
            assert np.array_equal(part.images[row].numpy(), np.moveaxis(images[here], -1, 0))
            assert part.labels[row] == masks[here].any() and part.meta["year"][row] == i
            assert part.groups[row] == f"{split} {i}"
        assert 0 < part.labels.float().mean() < 1
    whole = effml.load_dataset(path)
    assert whole.passport["sha256"] != data.passport["sha256"]
    assert effml.at_hand(f"none|{path}") and data.passport["sha256"] == effml.data.fingerprint(
        f"{path}:patches=16"
    )


KINDS = ("images", "masks")


def test_patients_of_the_set_stay_its_groups(tmp_path):
    groups = {f"{split}_groups": np.array([f"{split} P"] * n) for split, n in SIZES.items()}
    written(tmp_path / "x.npz", **groups)
    data = effml.load_dataset(f"{tmp_path / 'x.npz'}:patches=16")
    assert {*data.test.groups} == {"test P"} and data.classes[0] == "without structure"


SIZES = {"train": 7, "val": 8, "test": 9}


def test_a_phantom_in_patches_and_a_run_on_them(tmp_path):
    name = "phantom-wound:seed=3:patches=32"
    assert effml.at_hand(f"nothing|{name}", size=64) == name
    data = effml.load_dataset(name, size=64)
    assert data.passport["image"] == "3×32×32" and data.passport["counts"]["test"] <= 400
    small = effml.load_dataset("phantom-wound:seed=3", size=64)
    assert data.train.labels.sum() > len(small.train) > 0
    recipe = effml.Recipe(data=name, size=64, epochs=0)
    record = effml.run(recipe, store=tmp_path, keep_weights=True)
    assert record["status"] == "ok" and record["data_sha256"] == data.passport["sha256"]
    trained = effml.load_run(recipe.id, tmp_path)
    assert trained.predict(data.test.images[:3]).shape == (3, 2)
    Image.fromarray(small.test.images[0].permute(1, 2, 0).numpy()).save(tmp_path / "whole.png")
    with pytest.raises(ValueError, match="patches of 32 px: .predict takes"):
        trained.predict([tmp_path / "whole.png"])
    with pytest.raises(ValueError, match="patches of 32 px"):
        effml.deploy(recipe.id, tmp_path / "ready", store=tmp_path)


@pytest.mark.parametrize(
    "name, words",
    [
        ("phantom-wound:patches=20", "a side that divides"),
        ("phantom-wound:patches=big", "whole pixels from 8 on"),
        ("phantom-wound:patches=4", "whole pixels from 8 on"),
        ("phantom-chest:patches=32", "no masks"),
        ("phantom-brain3d:patches=32", "Patches need pictures"),
    ],
)
def test_what_cannot_be_cut(name, words):
    with pytest.raises(ValueError, match=words):
        effml.load_dataset(name, size=32 if "3d" in name else 64)
