"""Folders as other people keep them: what their order says, which files are masks, and what makes
no sense.
"""

import os

import numpy as np
import pytest

from effml.importing.importer import import_folder
from test_importer import everything, read, write_csv
from test_pictures import put, scene

ALONE = {"split_by": "image", "fractions": (0.6, 0.2, 0.2), "size": 16}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "p"


def draw(folder, places, count=30):
    """`count` pictures dealt to the places in turn; a place has {} where the number goes."""
    for i in range(count):
        put(folder / places[i % len(places)].format(i), scene(i, (16, 16)))


def square(path, area=(4, 12), value=255, shape=(16, 16)):
    mask = np.zeros(shape, np.uint8)
    mask[slice(*area), slice(*area)] = value
    put(path, mask)


def take(folder, **options):
    report = import_folder(folder, folder.parent / "x.npz", **(ALONE | options))
    return report["passport"], read(folder.parent / "x.npz")


# what the folders say


@pytest.mark.parametrize(
    "places",
    [
        ["images/benign/{}.png", "images/malignant/{}.png"],
        ["a/b c/benign/{}.png", "a/b c/malignant/{}.png"],
        ["set/benign/x/{}.png", "set/malignant/{}.png"],
        ["all/malignant/{}.png", "all/benign/deep/er/{}.png"],
    ],
)
def test_a_folder_too_many_is_passed_over(folder, places):
    draw(folder, places)
    passport, arrays = take(folder)
    assert arrays["label_names"].tolist() == ["benign", "malignant"]
    assert "Everything lies in the folder" in passport["notes"][0]


@pytest.mark.parametrize(
    "sides, places",
    [
        (("train", "TEST"), "{side}/{kind}/{{}}.png"),
        (("Train", "validation", "test"), "{side}/{kind}/{{}}.png"),
        (("training_set", "test-set"), "{side}/{kind}/{{}}.png"),
        (("train", "val"), "data/{side}/images/{kind}/{{}}.png"),
        (("train", "test"), "{kind}/{side}/{{}}.png"),
        (("train_images", "valid_images"), "all/{side}/{kind}/more/{{}}.png"),
    ],
)
def test_folders_that_name_a_split_are_the_split_and_no_classes(folder, sides, places):
    kinds = ("benign", "malignant")
    draw(folder, [places.format(side=side, kind=kind) for side in sides for kind in kinds])
    passport, arrays = take(folder, split_by="column")
    assert arrays["label_names"].tolist() == list(kinds)
    each = 30 // (2 * len(sides))
    for counts in passport["classes"].values():
        assert all(each <= count <= each + 1 for count in counts.values())
    assert set(passport["counts"]) == {
        "train",
        *("val" if side.startswith("val") else "test" for side in sides[1:]),
    }
    assert "are taken as the split" in " ".join(passport["notes"])
    assert passport["split"] == "by column, as the folders say"
    words = 'To keep the split that the folders name say split_by="column".*no group column'
    with pytest.raises(ValueError, match=words):
        take(folder, split_by="group")


@pytest.mark.parametrize(
    "places, words",
    [
        (["train/{}.png", "test/{}.png"], "name a split and no classes"),
        (["train/a/{}.png", "extra/b/{}.png"], "folders train name a split, extra not"),
        (["images/{}.png", "masks/{}.png"], "folders masks hold masks by name, images not"),
        (["x/images/{}.png", "x/Labels/{}.png"], "folders Labels hold masks by name, images not"),
        (["scans/{}.png"], "All 30 pictures that can be used have the label scans"),
        (["a/b/{}.png"], "All 30 pictures that can be used have the label b"),
        (["{}.png"], "name no two classes. Make a folder.*or give a table"),
    ],
)
def test_folders_that_make_no_sense_are_refused(folder, places, words):
    draw(folder, places)
    with pytest.raises(ValueError, match=words):
        take(folder)
    assert not (folder.parent / "x.npz").exists()


def test_a_folder_without_pictures_is_an_instruction(folder):
    folder.mkdir()
    for name in ("a.mat", "c.txt", ".hidden"):
        (folder / name).touch()
    with pytest.raises(ValueError, match="holds no pictures.*Give a folder with .png"):
        take(folder)


def test_classes_may_be_called_test_and_control(folder):
    draw(folder, ["test/{}.png", "control/{}.png"])
    passport, _ = take(folder)
    assert passport["positive"] == "test"
    assert passport["classes"]["train"] == {
        "control": 9,
        "test": 9,
    }


def test_a_split_by_column_without_table_and_split_is_an_instruction(folder):
    draw(folder, ["a/{}.png", "b/{}.png"])
    with pytest.raises(ValueError, match="are not called train, val and test"):
        take(folder, split_by="column")


def test_linked_folders_are_followed_once_and_without_end(folder, tmp_path):
    draw(tmp_path / "disk", ["a/{}.png", "b/{}.png"])
    folder.mkdir()
    os.symlink(tmp_path / "disk" / "a", folder / "a")
    os.symlink(tmp_path / "disk" / "b", folder / "b")
    os.symlink(folder, tmp_path / "disk" / "a" / "loop")
    os.symlink(tmp_path / "disk" / "b", tmp_path / "disk" / "b" / "again")
    os.symlink(tmp_path / "nowhere", folder / "broken")
    passport, _ = take(folder)
    assert sum(passport["counts"].values()) == 30
    assert not any(passport["duplicates"].values())  # each file once


# masks


@pytest.mark.parametrize(
    "name",
    [
        "picture ({}){}_mask.png",
        "picture ({}){}-mask.png",
        "picture ({}){}_Mask.PNG",
        "picture ({}){}_seg.png",
        "picture ({}){}.segmentation.png",
        "picture ({}){}_label.png",
        "picture ({}){}_gt.tif",
        "picture ({}){}_mask_1.png",
        "picture ({}){} ground truth.bmp",
        "mask_picture ({}){}.png",
    ],
)
def test_masks_beside_pictures_are_no_pictures_and_can_be_asked_for(folder, name):
    draw(folder, ["benign/picture ({})b.png", "malignant/picture ({})m.png"])
    for i in range(30):
        square(folder / ("benign", "malignant")[i % 2] / name.format(i, "bm"[i % 2]))
    passport, _ = take(folder)
    assert sum(passport["counts"].values()) == 30
    said = next(note for note in passport["notes"] if "masks by name" in note)
    assert said.startswith("30 masks") and f'masks="{folder}"' in said
    passport, arrays = take(folder, masks=folder)
    assert "label_names" not in arrays and sum(passport["counts"].values()) == 30
    assert (everything(arrays, "masks").sum((1, 2)) == 64).all()
    assert passport["mask_area"] == 0.25


@pytest.mark.parametrize("way", ["same", "dots", "link", "around"])
def test_masks_that_are_the_pictures_are_refused(folder, way):
    draw(folder, ["a/{}.png", "b/{}.png"])
    if way == "link":
        os.symlink(folder, folder.parent / "masks")
    masks = {
        "same": folder,
        "dots": folder / ".." / "p",
        "link": folder.parent / "masks",
        "around": folder.parent,
    }[way]
    with pytest.raises(ValueError, match="holds the pictures themselves and no masks"):
        take(folder, masks=masks)


@pytest.mark.parametrize(
    "picture, mask",
    [
        ("ISIC_{:03}.png", "ISIC_{:03}_segmentation.png"),
        ("{}.jpg", "mask_{}.png"),
        ("{}_image.png", "{}_mask.png"),
        ("img-{}.png", "seg-{}.png"),
        ("case {}.png", "case {} (manual) v2.tif"),
        ("{}.tif", "{}.PNG"),
        ("a/{}.png", "b/{}_gt.png"),
        ("1{}1_image.png", "1{}1_label.png"),
    ],
)
def test_masks_are_paired_by_what_is_left_of_all_names(folder, picture, mask):
    for i in range(30):
        put(folder / picture.format(i), scene(i, (16, 16)))
        square(folder.parent / "m" / mask.format(i), area=(0, 1 + i % 15))
    passport, arrays = take(folder, masks=folder.parent / "m")
    order = {scene(i, (16, 16)).tobytes(): i for i in range(30)}
    for image, cut in zip(everything(arrays, "images"), everything(arrays, "masks")):
        if picture.endswith(".jpg"):
            gap = [np.abs(image.astype(int) - scene(i, (16, 16))).sum() for i in range(30)]
            row = int(np.argmin(gap))
        else:
            row = order[image.tobytes()]
        assert cut.sum() == (1 + row % 15) ** 2
    paired = any("Masks are paired by" in note for note in passport["notes"])
    assert paired == (picture.partition(".")[0] != mask.partition(".")[0])


def test_masks_of_some_pictures_and_two_for_one(folder):
    draw(folder, ["a_{:02}.png", "b_{:02}.png"])
    for i in range(
        0, 30, 2
    ):  # of the pictures a_… alone: what all masks begin with is not taken off
        square(folder.parent / "m" / f"a_{i:02}_mask.png", area=(0, 1 + i // 2))
    square(folder.parent / "m" / "a_04_mask.tif")
    table = write_csv(
        folder.parent / "t.csv", [("file",), *[(f"a_{i:02}.png",) for i in range(0, 30, 2)]]
    )
    passport, arrays = take(folder, masks=folder.parent / "m", table=table)
    report = import_folder(
        folder, folder.parent / "y.npz", masks=folder.parent / "m", table=table, **ALONE
    )
    assert report["refused"] == [
        {"file": "a_04.png", "reason": "no mask of its name, or more than one"}
    ]
    order = {scene(i, (16, 16)).tobytes(): i for i in range(30)}
    for image, cut in zip(everything(arrays, "images"), everything(arrays, "masks")):
        assert cut.sum() == (1 + order[image.tobytes()] // 2) ** 2


@pytest.mark.parametrize(
    "masks, words",
    [
        (["{}.mat", "{}.xml"], "no masks that can be read"),
        (["x_{}_y_{}.png"], "called like im 0.png, the masks like x_0_y_0.png"),
    ],
)
def test_masks_that_cannot_be_paired_are_named_on_both_sides(folder, masks, words):
    draw(folder, ["im {}.png"])
    where = folder.parent / "m"
    where.mkdir()
    for i in range(30):
        for name in masks:
            path = where / name.format(i, i)
            square(path) if path.suffix == ".png" else path.write_bytes(b"")
    with pytest.raises(ValueError, match=words):
        take(folder, masks=where)


@pytest.mark.parametrize("shape", [(16, 16), (8, 16)])
@pytest.mark.parametrize("area, words", [((0, 16), "cover 100%"), ((0, 0), "cover 0%")])
def test_masks_of_everything_or_nothing_are_refused(folder, shape, area, words):
    for i in range(30):
        put(folder / f"{i}.png", scene(i, shape))
        square(folder.parent / "m" / f"{i}.png", area=area, shape=shape)
    if area == (0, 16):  # a palette's index or half a maximum must not hide it: one pixel is black
        for i in range(30):
            mask = np.full(shape, 255, np.uint8)
            mask[0, 0] = 0
            put(folder.parent / "m" / f"{i}.png", mask)
        words = "cover 9[89]%|cover 100%"
    with pytest.raises(ValueError, match=words):
        take(folder, masks=folder.parent / "m")


def test_labels_of_one_kind_beside_masks_are_left_out(folder):
    draw(folder, ["{}.png"])
    for i in range(30):
        square(folder.parent / "m" / f"{i}.png")
    table = write_csv(
        folder.parent / "t.csv", [("file", "label"), *[(f"{i}.png", "lesion") for i in range(30)]]
    )
    passport, arrays = take(folder, masks=folder.parent / "m", table=table)
    assert "label_names" not in arrays and "All labels are lesion" in str(passport["notes"])


def test_webp_is_a_picture(folder):
    for i in range(30):
        put(folder / "ab"[i % 2] / f"{i}.webp", scene(i, (16, 16)), lossless=True)
    passport, arrays = take(folder)
    assert sum(passport["counts"].values()) == 30
    assert {image.tobytes() for image in everything(arrays, "images")} == {
        scene(i, (16, 16)).tobytes() for i in range(30)
    }


def test_masks_beside_pictures_without_classes_say_how_to_import_them(folder):
    draw(folder, ["{:02d}.png"])
    for i in range(30):
        square(folder / f"{i:02d}_mask.png")
    words = f'30 masks by name, such as 00_mask.png, are the task, say masks="{folder}"'
    with pytest.raises(ValueError, match=words):
        take(folder)
    passport, arrays = take(folder, masks=folder)  # as it says
    assert passport["mask_area"] == 0.25 and len(everything(arrays, "masks")) == 30


def test_masks_in_one_folder_of_pictures_are_no_class_either(folder):
    draw(folder, ["img/{:02d}.png"])
    square(folder / "img" / "00_mask.png")
    with pytest.raises(ValueError, match="1 mask by name, such as img/00_mask.png"):
        take(folder)


def test_a_flat_folder_says_where_classes_come_from(folder):
    draw(folder, ["{:02d}.png"])
    with pytest.raises(
        ValueError, match="name no two classes. Make a folder for each class, or give a table"
    ):
        take(folder)


# what is said


def test_what_is_not_known_is_not_said(folder):
    draw(folder, ["a/{}.png", "b/{}.png"])
    (folder / "a" / "broken.png").write_bytes(b"no picture")
    out, names = folder.parent / "x.npz", [f"{'ab'[i % 2]}/{i}.png" for i in range(30)]
    plan = import_folder(folder, out, dry_run=True, **ALONE)
    assert plan["refused"] == [] and "No picture was opened" in plan["notes"][-1]
    with pytest.raises(ValueError, match="Give a table with one .the patient."):
        import_folder(folder, out)
    (folder.parent / "only").mkdir()
    put(folder.parent / "only" / "c" / "1.png", scene(1))
    with pytest.raises(ValueError, match="Refused: none so far"):
        import_folder(folder.parent / "only", out, **ALONE)
    days = ["2024-02-01", "2023-05-06", "03/04/2024", "6.7.2024"]
    rows = [["file", "label", "date"], *([n, n[0], days[i % 4]] for i, n in enumerate(names))]
    passport, _ = take(folder, table=write_csv(folder.parent / "t.csv", rows))
    assert passport["dates"] == "2023-05-06 to 2024-02-01"
    put(folder / "x.png", scene(1))
    (folder / "x.png").rename(folder / "a" / "x.dcm")
    plan = import_folder(folder, out, dry_run=True, **(ALONE | {"split_by": "date"}))
    assert "There is no date column" in plan["notes"][-1]
    twice = write_csv(folder.parent / "t.csv", [*rows, rows[1]])
    with pytest.raises(ValueError, match=r"two rows or more for a/0.png \(1 file\)"):
        take(folder, table=twice)


def test_a_palette_of_greys_becomes_grey(folder):
    from PIL import Image

    for i in range(30):
        (folder / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(scene(i, (16, 16))).convert("P")
        picture.save(folder / "ab"[i % 2] / f"{i}.png")
    assert take(folder)[0]["converted"] == "palette to grey (30×)"
