import csv
import json
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from effml import load_dataset
from effml.importing.importer import import_folder
from test_pictures import dicom, put, scene


def write_csv(path, rows, sep=",", encoding="utf-8"):
    with open(path, "w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=sep).writerows(rows)
    return path


@pytest.fixture
def clinic(tmp_path):
    """60 pictures of 20 patients with a table; (folder, table, rows)."""
    folder = tmp_path / "pictures"
    rows = [
        (
            f"im {i:02d}.png",
            ("benign", "malignant")[i % 2],
            f"{i // 3:03d}",
            "AB"[i % 3 == 0],
            f"20{10 + i // 6}-03-0{1 + i % 3}",
        )
        for i in range(60)
    ]
    for i, row in enumerate(rows):
        put(folder / row[0], scene(i))
    return (
        folder,
        write_csv(tmp_path / "table.csv", [("file", "label", "patient", "site", "date"), *rows]),
        rows,
    )


def read(path):
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def everything(arrays, what):
    return np.concatenate(
        [arrays[f"{s}_{what}"] for s in ("train", "val", "test") if f"{s}_{what}" in arrays]
    )


def test_2000_images_of_300_patients(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    folder, patient = tmp_path / "p", rng.integers(0, 300, 2000)
    folder.mkdir()
    label = np.where(rng.random(2000) < np.where(patient % 3, 0.2, 0.8), "malignant", "benign")
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(
                lambda i: put(folder / f"{i:04d}.png", scene(i, (128, 128)), compress_level=1),
                range(2000),
            )
        )
    rows = [(f"{i:04d}.png", label[i], f"{patient[i]:03d}") for i in range(2000)]
    start = time.perf_counter()
    report = import_folder(
        folder,
        tmp_path / "a.npz",
        size=64,
        table=write_csv(tmp_path / "a.csv", [("file", "label", "group"), *rows]),
    )
    print(f"{2000 / (time.perf_counter() - start):.0f} pictures per second")
    data = load_dataset(tmp_path / "a.npz")
    groups = {s: set(getattr(data, s).groups) for s in ("train", "val", "test")}
    assert sum(map(len, groups.values())) == len(set.union(*groups.values())) == len(set(patient))
    whole = (label == "malignant").mean()
    for s, part in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        assert len(getattr(data, s)) / 2000 == pytest.approx(part, abs=0.02)
        assert getattr(data, s).labels.float().mean().item() == pytest.approx(whole, abs=0.02)
    assert report["duplicates"] == report["refused"] == []

    walk = os.walk  # another file system, another order of the table: the same bytes
    monkeypatch.setattr(
        os,
        "walk",
        lambda *a, **k: ((here, below, files[::-1]) for here, below, files in walk(*a, **k)),
    )
    random.Random(0).shuffle(rows)
    import_folder(
        folder,
        tmp_path / "b.npz",
        size=64,
        table=write_csv(tmp_path / "b.csv", [("file", "label", "group"), *rows]),
    )
    for kind in ("npz", "report.json"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_what_is_written(clinic, tmp_path):
    folder, table, rows = clinic
    report = import_folder(
        folder,
        tmp_path / "new" / "x.npz",
        table=table,
        size=40,
        positive="benign",
        licence="ours",
        columns={"where": "site"},
    )
    arrays = read(tmp_path / "new" / "x.npz")
    assert {key.partition("_")[2] for key in arrays if key.startswith("train")} == {
        "images",
        "labels",
        "groups",
        "site",
        "date",
        "where",
        "files",
    }
    order = {scene(i).tobytes(): row for i, row in enumerate(rows)}
    images, labels = everything(arrays, "images"), everything(arrays, "labels")
    assert labels.dtype == np.uint8 and labels.shape == (60, 1) and len(images) == 60
    for k, image in enumerate(images):
        row = order[image.tobytes()]
        assert [
            arrays["label_names"][labels[k, 0]],
            *(everything(arrays, what)[k] for what in ("groups", "site", "date")),
        ] == list(row[1:])
        assert everything(arrays, "files")[k] == row[0]
    assert arrays["positive"] == 0 and report["passport"]["positive_from"] == "given"
    assert json.loads(arrays["passport"].item()) == report["passport"]
    assert json.loads((tmp_path / "new" / "x.report.json").read_text()) == report
    data = load_dataset(tmp_path / "new" / "x.npz")
    assert data.passport["licence"] == "ours"
    assert data.passport["split"].startswith("by group")
    assert data.positive == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["x.npz", "x.report.json"]
    for text in arrays["passport"].item(), (tmp_path / "new" / "x.report.json").read_text():
        assert str(tmp_path) not in text and "/home" not in text


def test_dry_run_tells_and_writes_nothing(clinic, tmp_path):
    folder, table, _ = clinic
    before = sorted(tmp_path.rglob("*"))
    plan = import_folder(
        folder, tmp_path / "x.npz", table=table, size=32, colour="rgb", dry_run=True
    )
    assert sorted(tmp_path.rglob("*")) == before
    assert plan["pictures"] == 60
    assert plan["mb_out"] == pytest.approx(60 * 32 * 32 * 3 / 1e6, abs=1e-3)
    assert plan["mb_in"] == pytest.approx(
        sum(f.stat().st_size for f in folder.iterdir()) / 1e6, abs=1e-3
    )
    assert (
        plan["counts"]
        == import_folder(folder, tmp_path / "x.npz", table=table, size=32)["passport"]["counts"]
    )


def test_folders_as_classes_and_split_by_image(tmp_path):
    for i in range(60):
        put(tmp_path / "p" / ("10" if i % 3 else "9") / "deep" / f"Ä{i} x.PNG", scene(i))
    put(tmp_path / "p" / "loose.png", scene(99))
    with pytest.raises(ValueError, match='no group column.*split_by="image"'):
        import_folder(tmp_path / "p", tmp_path / "x.npz")
    report = import_folder(
        tmp_path / "p", tmp_path / "x.npz", split_by="image", fractions=(0.75, 0, 0.25), size=8
    )
    assert report["passport"]["counts"] == {"train": 45, "test": 15}
    assert "val_images" not in read(tmp_path / "x.npz")
    assert load_dataset(tmp_path / "x.npz").classes == ("9", "10")
    assert "assumed" in report["passport"]["positive_from"]
    assert report["refused"] == [{"file": "loose.png", "reason": "no label"}]


def test_split_by_date_keeps_time_and_patients_apart(clinic, tmp_path):
    folder, table, rows = clinic
    rows = [
        (*row[:2], f"{i % 45:03d}", row[3], row[4]) for i, row in enumerate(rows)
    ]  # patients who come back
    write_csv(table, [("file", "label", "patient", "site", "date"), *rows])
    report = import_folder(
        folder, tmp_path / "x.npz", table=table, split_by="date", fractions=(0.5, 0.2, 0.3), size=16
    )
    arrays = read(tmp_path / "x.npz")
    assert max(arrays["train_date"]) < min(arrays["val_date"])
    assert max(arrays["val_date"]) < min(arrays["test_date"])
    assert not set(arrays["train_groups"]) & set(arrays["test_groups"])
    assert len(set(arrays["test_groups"])) == 3
    assert {one["reason"] for one in report["refused"]} == {
        "a later image of a patient who is on an earlier side"
    }
    assert len(report["refused"]) + sum(report["passport"]["counts"].values()) == 60
    write_csv(table, [("file", "label", "date"), *[(row[0], row[1], "autumn") for row in rows]])
    with pytest.raises(ValueError, match="no date as YYYY-MM-DD"):
        import_folder(folder, tmp_path / "x.npz", table=table, split_by="date")


def test_a_given_split_is_kept_and_must_not_leak(clinic, tmp_path):
    folder, table, rows = clinic
    names = ["train"] * 36 + ["Validation"] * 12 + ["test"] * 12
    header = ("file", "label", "patient", "split")
    write_csv(
        table, [header, *[(*row[:3], name) for row, name in zip(rows, names)]], ";", "utf-8-sig"
    )  # as Excel saves it
    report = import_folder(folder, tmp_path / "x.npz", table=table, split_by="column", size=16)
    assert report["passport"]["counts"] == {"train": 36, "val": 12, "test": 12}
    assert (
        "was not used"
        in import_folder(folder, tmp_path / "y.npz", table=table, size=16)["passport"]["notes"][0]
    )
    write_csv(table, [header, *[(*row[:3], names[i - 1]) for i, row in enumerate(rows)]])
    with pytest.raises(ValueError, match="groups are on more than one side.*012"):
        import_folder(folder, tmp_path / "x.npz", table=table, split_by="column")
    write_csv(table, [("file", "label", "split"), *[(*row[:2], "dev") for row in rows]])
    with pytest.raises(ValueError, match="Choose from: train, val, test"):
        import_folder(folder, tmp_path / "x.npz", table=table, split_by="column")


def test_masks(tmp_path):
    folder, masks = tmp_path / "p", tmp_path / "p" / "masks"
    for i in range(12):
        put(folder / "a" / f"{i}.jpg", scene(i, (30, 60)))
        mask = np.zeros((30, 60), np.uint8)
        mask[10:20, 15:45] = (255, 1, 128)[i % 3]
        put(masks / "a" / f"{i}.png", mask)
    put(masks / "a" / "3.png", np.zeros((30, 30), np.uint8))
    put(
        masks / "a" / "4.png", np.zeros((30, 60), np.uint8)
    )  # nothing to be seen: a mask all the same
    (masks / "a" / "5.png").unlink()
    report = import_folder(
        folder,
        tmp_path / "x.npz",
        masks=masks,
        size=60,
        split_by="image",
        fractions=(0.6, 0.2, 0.2),
    )
    assert {one["file"]: one["reason"] for one in report["refused"]} == {
        "a/3.jpg": "its mask: it has 30×30 pixels, the picture 60×30",
        "a/5.jpg": "no mask of its name, or more than one",
    }
    data = load_dataset(tmp_path / "x.npz")
    assert data.task == "segmentation" and sum(data.passport["counts"].values()) == 10
    cut = everything(read(tmp_path / "x.npz"), "masks")
    assert cut.dtype == np.uint8
    assert set(np.unique(cut)) == {0, 1}
    assert sorted(set(cut.sum((1, 2)))) == [0, 300]
    assert (cut[cut.sum((1, 2)) > 0] == np.pad(np.ones((10, 30)), ((25, 25), (15, 15)))).all()


def test_what_cannot_be_read_is_refused_one_by_one(clinic, tmp_path, monkeypatch):
    folder, table, rows = clinic
    whole = (folder / "im 00.png").read_bytes()
    (folder / "im 00.png").write_bytes(whole[: len(whole) // 2])
    (folder / "im 01.png").write_text("not a picture")
    (folder / "im 02.png").write_bytes(b"")
    (folder / "im 03.png").unlink()
    put(folder / "im 04.png", np.full((40, 40), 7, np.uint8))
    Image.fromarray(scene(1)).save(
        folder / "im 05.tif", save_all=True, append_images=[Image.fromarray(scene(2))]
    )
    put(folder / "im 06.png", scene(6, (300, 300)))
    put(folder / "stranger.png", scene(77))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60_000)
    rows[5] = ("im 05.tif", *rows[5][1:])
    rows[7], rows[8] = (rows[7][0], "", *rows[7][2:]), (*rows[8][:2], " ", *rows[8][3:])
    rows.append(("/home/alice/secret/lost.png", "benign", "900", "A", ""))
    write_csv(table, [("file", "label", "patient", "site", "date"), *rows])
    report = import_folder(folder, tmp_path / "x.npz", table=table, size=32)
    reasons = {one["file"]: one["reason"] for one in report["refused"]}
    expected = {
        "im 00.png": "its PNG data end early",
        "im 01.png": "it starts with 'not a pi'",
        "im 02.png": "empty",
        "im 03.png": "no picture in the folder",
        "im 04.png": "same value",
        "im 05.tif": "2 frames",
        "im 06.png": "decompression bomb",
        "im 07.png": "no label",
        "im 08.png": "no group",
        "lost.png": "no picture in the folder",
    }
    assert set(reasons) == set(expected) and all(
        expected[name] in reasons[name] for name in expected
    ), reasons
    assert report["passport"]["refused"] == 10 and sum(report["passport"]["counts"].values()) == 51
    assert report["passport"]["not_in_table"] == 2  # the stranger, and the .png beside the .tif
    assert str(tmp_path) not in (tmp_path / "x.report.json").read_text()


def test_a_failing_import_leaves_what_was_there(clinic, tmp_path, monkeypatch):
    folder, table, rows = clinic
    out = tmp_path / "x.npz"
    import_folder(folder, out, table=table, size=16)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("x.*")}
    for i in range(40):
        (folder / rows[i][0]).write_text("spoilt")
    with pytest.raises(
        ValueError, match="40 of 60 pictures were refused, more than half; nothing was written.*40×"
    ):
        import_folder(folder, out, table=table, size=16)
    write_csv(table, [("file", "label", "patient"), *[row[:3] for row in rows[40:]]])
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("the disk is full")))
    with pytest.raises(OSError, match="full"):
        import_folder(folder, out, table=table, size=16)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("x.*")} == before
    assert not list(tmp_path.glob(".x.*"))


def test_tables(clinic, tmp_path):
    folder, table, rows = clinic

    def build(header, content, **options):
        return import_folder(
            folder,
            tmp_path / "x.npz",
            table=write_csv(table, [header, *content]),
            size=16,
            **options,
        )

    mapping = {"file": "Bild", "label": "Befund", "group": "Kennung"}
    build(mapping.values(), [row[:3] for row in rows], columns=mapping)
    assert {"000", "007", "019"} <= set(everything(read(tmp_path / "x.npz"), "groups"))
    shifted = [
        ("C:\\data\\" + row[0].replace(".png", ".PNG"), *row[1:3]) for row in rows
    ]  # written on another machine
    assert not build(("image", "label", "group"), shifted)["refused"]
    assert not build(("image", "label", "group"), [(row[0][:-4], *row[1:3]) for row in rows])[
        "refused"
    ]
    with pytest.raises(ValueError, match="no column label. Its columns: file, class"):
        build(("file", "class"), [row[:2] for row in rows])
    with pytest.raises(
        ValueError, match=r"no column Klasse \(for label\). Its columns: file, label"
    ):
        build(("file", "label"), [row[:2] for row in rows], columns={"label": "Klasse"})
    with pytest.raises(ValueError, match="two rows or more for im 00.png"):
        build(("file", "label", "group"), [*[row[:3] for row in rows], rows[0][:3]])
    with pytest.raises(ValueError, match="cannot be read as a table"):
        build(("file", "label"), [("a", "b", "c", "d"), ("a", "b")])
    table.write_bytes(b"file,label\n\xff\xfe,x")
    with pytest.raises(ValueError, match="CSV in UTF-8"):
        import_folder(folder, tmp_path / "x.npz", table=table)


def test_names_in_other_unicode_and_case(tmp_path):
    composed, decomposed = "Möller.png", "Mo\u0308ller.png"
    for i in range(30):
        put(tmp_path / "p" / f"{i}{decomposed}", scene(i))
    rows = [(f"{i}{composed}", "ab"[i % 2], str(i)) for i in range(30)]
    table = write_csv(tmp_path / "t.csv", [("file", "label", "group"), *rows])
    assert import_folder(tmp_path / "p", tmp_path / "x.npz", table=table, size=16)["refused"] == []


@pytest.mark.parametrize(
    "options, words",
    [
        ({"split_by": "patient"}, "Unknown split_by 'patient'. Choose from: group, date"),
        ({"colour": "blue"}, "Choose from"),
        ({"fit": "crop"}, "Choose from: pad, stretch"),
        ({"size": 0}, "8 to 4096"),
        ({"fractions": (0.5, 0.5, 0.5)}, "add up to"),
        ({"fractions": (0.0, 0.5, 0.5)}, "train"),
        ({"window": (5, 5)}, "low < high"),
        ({"positive": "cyst"}, "benign, malignant"),
        ({"split_by": "column"}, "no column split"),
        ({"columns": {"images": "site"}}, "cannot name images"),
    ],
)
def test_wrong_options_are_instructions(clinic, tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        import_folder(clinic[0], tmp_path / "x.npz", table=clinic[1], **options)
    assert not (tmp_path / "x.npz").exists()


def test_wrong_places_are_instructions(clinic, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        import_folder(tmp_path / "nowhere", tmp_path / "x.npz")
    with pytest.raises(NotADirectoryError, match="is a file: give the folder"):
        import_folder(clinic[1], tmp_path / "x.npz")
    with pytest.raises(IsADirectoryError, match="is a folder: give a table"):
        import_folder(clinic[0], tmp_path / "x.npz", table=tmp_path)
    with pytest.raises(FileNotFoundError, match="no table"):
        import_folder(clinic[0], tmp_path / "x.npz", table=tmp_path / "none.csv")
    with pytest.raises(ValueError, match="ends in .npz"):
        import_folder(clinic[0], tmp_path / "x.zip", table=clinic[1])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no pictures"):
        import_folder(tmp_path / "empty", tmp_path / "x.npz")


def test_dicom_gives_pseudonyms_and_dates_and_no_names(tmp_path):
    for i in range(40):
        dicom(
            tmp_path / "p" / ("ill" if i % 2 else "well") / f"IM{i:04d}",
            scene(i).astype(np.uint16) * 16,
            PatientID=f"ID{i // 2}",
            StudyDate=f"201{i // 5}0115",
        )
    dicom(
        tmp_path / "p" / "ill" / "cine.dcm",
        np.stack([scene(i) for i in range(3)]),
        NumberOfFrames=3,
    )
    dicom(tmp_path / "p" / "ill" / "text.dcm", scene(50), BurnedInAnnotation="YES")
    (tmp_path / "p" / "ill" / "cut.dcm").write_bytes(
        (tmp_path / "p" / "ill" / "IM0001").read_bytes()[:900]
    )
    (tmp_path / "p" / "notes.txt").write_text("no picture")
    assert (
        import_folder(tmp_path / "p", tmp_path / "x.npz", dry_run=True)["counts"]
        == "known when the DICOM files are read"
    )
    report = import_folder(tmp_path / "p", tmp_path / "x.npz", size=32)
    assert [(one["file"], one["reason"][:9]) for one in report["refused"]][::2] == [
        ("ill/cine.dcm", "it holds "),
        ("ill/text.dcm", "text is b"),
    ]
    arrays = read(tmp_path / "x.npz")
    groups = everything(arrays, "groups")
    assert len(set(groups)) == 20 and all(len(g) == 12 and int(g, 16) >= 0 for g in groups)
    assert set(everything(arrays, "date")) == {f"201{k}-01-15" for k in range(8)}
    raw = (
        b"".join(value.tobytes() for value in arrays.values())
        + (tmp_path / "x.report.json").read_bytes()
    )
    assert not any(
        name.encode(code) in raw
        for name in ("Doe", "Jane", "ID7")
        for code in ("utf-8", "utf-32-le")
    )
    late = import_folder(tmp_path / "p", tmp_path / "y.npz", size=32, split_by="date")
    assert late["passport"]["split"].startswith("by date")
    assert min(read(tmp_path / "y.npz")["test_date"]) > "2015"


def test_dicom_without_pydicom_says_what_to_install(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / "p" / name).mkdir(parents=True)
        (tmp_path / "p" / name / "x.dcm").write_bytes(bytes(128) + b"DICM")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ValueError, match="pip install pydicom"):
        import_folder(tmp_path / "p", tmp_path / "x.npz")
