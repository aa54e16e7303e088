import numpy as np
import pytest
from PIL import Image
from test_importer import write_csv
from test_pictures import put, scene

from effml.data.importer import import_folder
from effml.data.partition import copies, split
from effml.data.phantoms import make_phantom
from effml.data.pictures import thumbnail
from effml.data.table import finder


def test_dealing_is_exact_whatever_the_sizes_of_groups():
    rng = np.random.default_rng(1)
    for groups in (np.repeat(np.arange(40), rng.integers(1, 30, 40)), np.arange(500)):
        labels = rng.choice(["a", "b", "c"], len(groups), p=[0.6, 0.3, 0.1])
        side = split("group", labels, groups=groups, seed=3)
        assert (side == split("group", labels, groups=groups, seed=3)).all()
        assert all(len(set(side[groups == g])) == 1 for g in np.unique(groups))
        for s, part in enumerate((0.7, 0.1, 0.2)):
            assert np.mean(side == s) == pytest.approx(part, abs=0.02)
            assert np.mean(labels[side == s] == "a") == pytest.approx(
                np.mean(labels == "a"), abs=0.05
            )
    with pytest.raises(ValueError, match="without the class rare"):
        split("image", np.array(["rare"] * 2 + ["often"] * 50))


def test_days_are_not_parted_and_every_side_gets_one():
    days = np.repeat(["2020-01-01", "2021-01-01", "2021-01-02"], [1, 7, 1])
    same = np.array(["a"] * 9)
    assert split("date", same, dates=days).tolist() == [0] + [1] * 7 + [2]
    assert split("date", same, dates=days, fractions=(0.7, 0, 0.3)).tolist() == [0] * 8 + [2]
    assert split("date", same, dates=days, fractions=(0.2, 0.8, 0)).tolist() == [0] + [1] * 8
    for few in (days[:3], days[:1]):
        with pytest.raises(ValueError, match="leaves nothing for"):
            split("date", same[: len(few)], dates=few)


def test_copies_in_blocks_and_with_flat_thumbnails():
    rng = np.random.default_rng(0)
    flat = rng.random((700, 16, 16)).astype(np.float32)
    flat[5], flat[650], flat[651] = 0, 0, flat[7] * 2 + 1
    found = copies(np.arange(700).astype(str), flat, np.repeat([0, 1, 2], [600, 40, 60]), block=16)
    assert [(a, b) for a, b, _ in found] == [(7, 651)] and thumbnail(
        Image.fromarray(scene(0))
    ).shape == (16, 16)


def test_copies_on_two_sides_are_found_exact_and_near(tmp_path):
    phantoms = make_phantom("phantom-chest", size=96, counts=(300, 20, 20))["train_images"]
    rows = [("file", "label", "split")]

    def add(name, pixels, side, **options):
        put(tmp_path / "p" / name, pixels, **options)
        rows.append((name, "ab"[len(rows) % 2], side))

    for i, image in enumerate(phantoms):
        add(f"{i:03d}.png", image, ("train", "val", "test")[i % 3])
    add("exact.tif", phantoms[0], "test")
    add("rgb.png", np.stack([phantoms[3]] * 3, 2), "val")
    add("jpeg.jpg", phantoms[6], "test", quality=70)
    add("bright.png", np.uint8(np.clip(phantoms[9].astype(int) + 20, 0, 255)), "test")
    add("small.png", np.asarray(Image.fromarray(phantoms[12]).resize((70, 70))), "val")
    add("same side.png", phantoms[15], "train")
    table = write_csv(tmp_path / "t.csv", rows)
    report = import_folder(
        tmp_path / "p", tmp_path / "x.npz", table=table, split_by="column", size=64
    )
    assert {tuple(sorted(pair["files"])): pair["exact"] for pair in report["duplicates"]} == {
        ("000.png", "exact.tif"): True,
        ("003.png", "rgb.png"): True,
        ("006.png", "jpeg.jpg"): False,
        ("009.png", "bright.png"): False,
        ("012.png", "small.png"): False,
    }
    assert report["passport"]["duplicates"] == {"exact": 2, "near": 3}
    assert "take one of each out" in report["passport"]["notes"][0]


def test_what_a_name_in_a_table_may_mean():
    find = finder(["a/x.png", "b/x.png", "c/y.jpg", "c/y.PNG"])
    assert (
        find("a/x.png") == ["a/x.png"]
        and find("x.png") == ["a/x.png", "b/x.png"]
        and find("y.png") == ["c/y.PNG"]
    )
    assert (
        find("c/y") == ["c/y.PNG", "c/y.jpg"] and find("z") == [] and find("../../etc/passwd") == []
    )
