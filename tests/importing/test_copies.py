"""Pictures that show the same: which are found, what is said of them, and what can be done."""

import argparse
import io
from itertools import product

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from effml import load_dataset
from effml.importing import commands, copies
from effml.importing.copies import PAIRS, TURNS, Pair, Thumbprints, find_copies, sets_of, thumbprint
from effml.importing.duplicates import Copies
from effml.importing.importer import import_folder
from effml.importing.partition import split
from test_importer import everything, read, write_csv
from test_pictures import put, scene


def picture(seed, shape=(90, 120), detail=14):
    """A random picture with structure of many sizes, uint8."""
    rng = np.random.default_rng(seed)
    fine = Image.fromarray(rng.integers(0, 256, (detail, detail), dtype=np.uint8))
    return np.asarray(fine.resize(shape[::-1], Image.Resampling.BICUBIC))


def jpeg(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def prints_of(pictures):
    prints = Thumbprints.of(len(pictures))
    for row, pixels in enumerate(pictures):
        prints.put(row, thumbprint(Image.fromarray(pixels)))
    return prints


def old(pixels):
    """Steps of 16 × 16 means; pairs that correlated above 0.98 were near copies before."""
    small = Image.fromarray(pixels).convert("F").resize((16, 16), Image.Resampling.BOX)
    step = np.concatenate([np.diff(np.asarray(small), axis=axis).ravel() for axis in (0, 1)])
    return (step - step.mean()) / np.linalg.norm(step - step.mean())


def test_equal_after_a_turn_is_equal_in_the_digest_and_nothing_else_is():
    """All 64 pictures of 2 × 3 pixels of two values, and their turns, by brute force."""
    pictures = [np.reshape(bits, (2, 3)).astype(np.uint8) for bits in product((0, 9), repeat=6)]
    orbits = [
        {
            (turned.shape, turned.tobytes())
            for part in (a, a[:, ::-1])
            for k in range(4)
            for turned in [np.rot90(part, k)]
        }
        for a in pictures
    ]
    prints = prints_of(pictures)
    for i, j in product(range(64), repeat=2):
        assert (prints.turned[i] == prints.turned[j]) == (orbits[i] == orbits[j])
        assert (prints.digests[i] == prints.digests[j]) == (i == j)


def test_the_same_pixels_in_another_shape_are_another_picture():
    pixels = np.zeros(16, np.uint8)
    pixels[-1] = 9  # in a corner: of all turns of both, the least is this one
    prints = prints_of([pixels.reshape(2, 8), pixels.reshape(4, 4)])
    assert len(set(prints.turned)) == len(set(prints.digests)) == 2


def test_turns_of_large_pictures_are_told_apart_by_all_their_pixels():
    black = np.zeros((200, 140), np.uint8)
    black[3, 5], black[7, 101], black[151, 9] = 10, 20, 30  # between the points of the sample
    turns = [np.rot90(part, k) for part in (black, black[:, ::-1]) for k in range(4)]
    other = black.copy()
    other[3, 5] = 11
    assert len(set(prints_of(turns).turned)) == 1 and len(set(prints_of(turns).digests)) == 8
    assert prints_of([black]).turned != prints_of([other]).turned


def test_every_turn_is_found_and_named():
    base = picture(0)
    turns = [np.rot90(part, k) for part in (base, base[:, ::-1]) for k in range(4)]
    for turn, name in list(zip(turns, TURNS))[1:]:
        (pair,) = find_copies(prints_of([base, turn, picture(1), np.stack([picture(2)] * 3, 2)]))
        assert pair == (0, 1, "turned", name, 1.0)
        saved = np.asarray(jpeg(Image.fromarray(turn), 70))
        (pair,) = find_copies(prints_of([picture(1), base, saved]))
        assert pair[:4] == (1, 2, "near", name) and 0.98 < pair.correlation < 1


CHANGES = {
    "jpeg": lambda image: jpeg(image, 60),
    "bright": lambda image: image.point(lambda value: min(255, value + 25)),
    "contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "small": lambda image: image.resize((80, 60), Image.Resampling.LANCZOS),
    "halved": lambda image: image.reduce(2).resize(image.size, Image.Resampling.BICUBIC),
    "soft": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "colour": lambda image: image.convert("RGB").convert("L"),
}


def test_changed_copies_are_found_and_nothing_else():
    """Among 60 and among 260 pictures (a large set)."""
    for count in (60, 260):
        pictures = [picture(seed) for seed in range(count)]
        made = [CHANGES[what](Image.fromarray(pictures[i])) for i, what in enumerate(CHANGES)]
        prints = prints_of([*(np.asarray(image) for image in made), *pictures])
        found = find_copies(prints)
        assert [(a, b) for a, b, *_ in found] == [(i, i + len(made)) for i in range(len(made))]
        kinds = [pair.kind for pair in found]
        assert kinds == ["exact" if what == "colour" else "near" for what in CHANGES]


def like(outline, seed, level):
    """An outline of strong contrast with a weak pattern of its own inside."""
    inside = picture(seed, outline.shape).astype(float) - 128
    return np.uint8(np.clip(outline + np.where(outline > 100, inside * level, 0), 0, 255))


def test_like_outlines_of_different_patients_are_no_copies():
    y, x = np.mgrid[:120, :120] - 60
    pictures = []
    for pair in range(8):
        outline = 180.0 * (x**2 / (30 + 3 * pair) ** 2 + y**2 / (52 - 2 * pair) ** 2 < 1)
        pictures += [like(outline, 10 * pair, 0.15), like(outline, 10 * pair + 5, 0.15)]
    assert sum(old(a) @ old(b) > 0.98 for a, b in zip(pictures[::2], pictures[1::2])) == 8
    assert all(pair.kind == "possible" for pair in find_copies(prints_of(pictures)))
    copy = np.asarray(jpeg(Image.fromarray(pictures[0]), 90))  # while a true copy is found
    sure = [pair for pair in find_copies(prints_of([*pictures, copy])) if pair.kind == "near"]
    assert [(pair.a, pair.b) for pair in sure] == [(0, 16)]


@pytest.mark.parametrize("off", [{}, {"OWN": 0}, {"REST": -1}])  # each limit is enough for it
def test_a_frame_that_many_pictures_share_makes_no_copies(off, monkeypatch):
    """Bright rim, dark corners, weak contents: alike as a whole, unlike in what is their own."""
    for name, value in off.items():
        monkeypatch.setattr(copies, name, value)
    y, x = np.mgrid[:96, :96] / 47.5 - 1
    away = np.hypot(x, y)
    frame = np.where(away < 0.7, 110.0, np.where(away < 0.85, 240.0, 0.0))
    shown = [
        np.uint8(frame + (away < 0.7) * (picture(seed, (96, 96)) - 128.0) * 0.05)
        for seed in range(40)
    ]
    others = [picture(seed, (96, 96)) for seed in range(100, 200)]
    assert all(pair.kind == "possible" for pair in find_copies(prints_of([*shown, *others])))


def test_a_picture_saved_many_times_is_not_taken_for_what_is_common():
    saved = [np.asarray(jpeg(Image.fromarray(picture(0)), quality)) for quality in range(60, 96, 5)]
    found = find_copies(prints_of([*saved, *(picture(seed) for seed in range(1, 30))]))
    assert [(pair.a, pair.b) for pair in found if pair.kind == "near"] == [
        (a, b) for a in range(8) for b in range(a + 1, 8)
    ]


def test_in_a_large_set_a_weaker_copy_is_sure():
    weak = np.asarray(Image.fromarray(picture(3)).filter(ImageFilter.GaussianBlur(3)))
    for count, kind in ((30, "possible"), (230, "near")):
        prints = prints_of([*(picture(seed) for seed in range(count)), weak])
        rows = pd.DataFrame(
            {"file": np.arange(count + 1).astype(str), "label": ["a"] * count + ["b"]}
        )
        found = Copies.among(rows, prints, None)
        assert found.clash.tolist() == [True] * (kind == "near")
        notes = found.notes(np.zeros(count + 1, int), "report")
        assert "different labels" in notes[0] and ("may be copies" in notes[0]) == (kind != "near")
        (pair,) = find_copies(prints)
        assert (pair.a, pair.b, pair.kind) == (3, count, kind) and 0.94 < pair.correlation < 0.975


def test_blank_pictures_are_nobodys_copies():
    blank = [np.zeros((20, 20), np.uint8)] * 3 + [np.full((20, 20), 200, np.uint8)]
    rows = pd.DataFrame({"file": [f"{i}.png" for i in range(6)]})
    found = Copies.among(rows, prints_of([*blank, scene(1), scene(2)]), None)
    assert found.pairs == found.doubts == []


def test_many_equal_pictures_take_little_memory_and_stay_one_set():
    pictures = [scene(0)] * (PAIRS + 1) + [scene(1), np.flipud(scene(1)), scene(2)]
    found = find_copies(prints_of(pictures))
    assert len(found) == PAIRS + 1 and found[-1].kind == "turned"
    number = sets_of(found, np.arange(len(pictures)))
    assert len(set(number[: PAIRS + 1])) == 1 and number[-3] == number[-2] != number[-1]


def test_thousands_of_pairs_are_bounded_by_the_nearest_of_each(monkeypatch):
    monkeypatch.setattr(copies, "MOST", 10)
    one = prints_of([picture(0)]).take(np.zeros(400, int))
    names = np.arange(400).astype(str)  # 400 files whose pixels differ where no thumbnail shows it
    found = find_copies(one._replace(digests=names, turned=names))
    assert 0 < len(found) <= 8 * 10 * 400 < 400 * 399 / 2


def test_a_report_names_a_thousand_pairs_and_counts_all():
    rows = pd.DataFrame({"file": ["a.png", "b.png"]})
    pairs = [Pair(0, 1, "near", "", 0.98)] * 1001
    found, side = Copies(rows, pairs, pairs, np.zeros(1001, bool)), np.zeros(2, int)
    assert [len(some) for some in found.report(side).values()] == [1000, 1000]
    assert found.counts(side)["near"] == found.counts(side)["possible"] == 1001


def test_sets_are_the_components_of_groups_and_copies():
    rng = np.random.default_rng(0)
    for _ in range(20):
        groups = rng.integers(0, 12, 20).astype(str)
        pairs = [(int(a), int(b)) for a, b in rng.integers(0, 20, (5, 2))]
        number = np.arange(20)  # by brute force: spread the smaller number until nothing changes
        for _ in range(20):
            for a, b in [*pairs, *((i, j) for i in range(20) for j in range(20))]:
                if (a, b) in pairs or groups[a] == groups[b]:
                    number[a] = number[b] = min(number[a], number[b])
        ours = sets_of([(a, b, "near", "", 1.0) for a, b in pairs], groups)
        assert ((ours[:, None] == ours) == (number[:, None] == number)).all()


@pytest.fixture
def ward(tmp_path):
    """60 pictures of 30 patients, and 5 copies, two with another label; (folder, rows)."""
    folder, rows = tmp_path / "p", []
    for i in range(60):
        put(folder / f"{i:02}.png", scene(i))
        rows.append((f"{i:02}.png", "ab"[i % 2], f"P{i // 2:02}"))
    put(folder / "copy of 00.png", scene(0))  # exact, same label
    put(folder / "copy of 01.png", scene(1))  # exact, other label
    put(folder / "copy of 02.png", np.fliplr(scene(2)))  # turned
    Image.fromarray(scene(4)).save(folder / "copy of 04.jpg", quality=85)
    Image.fromarray(np.rot90(scene(5))).save(folder / "copy of 05.jpg", quality=85)  # other label
    rows += [
        ("copy of 00.png", "a", "Q0"),
        ("copy of 01.png", "a", "Q1"),
        ("copy of 02.png", "a", "Q2"),
        ("copy of 04.jpg", "a", "Q3"),
        ("copy of 05.jpg", "a", "Q4"),
    ]
    return folder, rows


HEADER = ("file", "label", "group")


def test_different_labels_come_first_then_different_sides(ward, tmp_path, capsys):
    folder, rows = ward
    table = write_csv(tmp_path / "t.csv", [HEADER, *rows])
    report = import_folder(folder, tmp_path / "x.npz", table=table, size=16)
    found = report["duplicates"]
    assert {(tuple(one["files"]), one["kind"]) for one in found} == {
        (("00.png", "copy of 00.png"), "exact"),
        (("01.png", "copy of 01.png"), "exact"),
        (("02.png", "copy of 02.png"), "turned"),
        (("04.png", "copy of 04.jpg"), "near"),
        (("05.png", "copy of 05.jpg"), "near"),
    }
    assert [one["labels_differ"] for one in found] == [True, True, False, False, False]
    apart = [one["sides"][0] != one["sides"][1] for one in found[2:]]
    assert apart == sorted(apart, reverse=True)
    assert found[0]["labels"] == ["b", "a"] and found[0]["groups"] == ["P00", "Q1"]
    assert next(one["turn"] for one in found if one["kind"] == "turned") == "mirrored"
    counts = report["passport"]["duplicates"]
    sides = {one["file"]: one["split"] for one in report["files"]}
    across = sum(sides[a] != sides[b] for a, b in (one["files"] for one in found))
    assert counts == {
        "exact": 2,
        "turned": 1,
        "near": 2,
        "label_conflicts": 2,
        "across_sides": across,
        "possible": 0,
    }
    said = capsys.readouterr().err.split("import: ")[1:]
    first = next(note for note in said if "pairs of" in note)
    assert first.startswith("2 pairs of copies have different labels (01.png and copy of 01.png, ")


def test_group_puts_copies_and_their_patients_on_one_side(ward, tmp_path):
    folder, rows = ward
    table = write_csv(tmp_path / "t.csv", [HEADER, *rows])
    for options in ({}, {"split_by": "image"}):
        apart = 0
        for seed in range(2):
            done = {}
            for action in ("report", "group"):
                report = import_folder(
                    folder,
                    tmp_path / "x.npz",
                    table=table,
                    size=8,
                    seed=seed,
                    copies=action,
                    **options,
                )
                done[action] = report["passport"]["duplicates"]["across_sides"]
                if not options:
                    load_dataset(tmp_path / "x.npz")  # refuses a group on two sides
            apart += done["report"]
            assert done["group"] == 0 and sum(report["passport"]["counts"].values()) == 65
        assert apart > 0


def test_drop_keeps_one_and_none_where_labels_differ(ward, tmp_path):
    folder, rows = ward
    put(folder / "copy of 01 too.png", scene(1))
    rows.append(("copy of 01 too.png", "b", "Q9"))
    table = write_csv(tmp_path / "t.csv", [HEADER, *rows])
    report = import_folder(folder, tmp_path / "x.npz", table=table, size=8, copies="drop")
    assert report["refused"] == [
        {"file": "01.png", "reason": "a copy of it has another label"},
        {"file": "05.png", "reason": "a copy of it has another label"},
        {"file": "copy of 00.png", "reason": "a copy", "copy_of": "00.png"},
        {"file": "copy of 01 too.png", "reason": "a copy of it has another label"},
        {"file": "copy of 01.png", "reason": "a copy of it has another label"},
        {"file": "copy of 02.png", "reason": "a copy", "copy_of": "02.png"},
        {"file": "copy of 04.jpg", "reason": "a copy", "copy_of": "04.png"},
        {"file": "copy of 05.jpg", "reason": "a copy of it has another label"},
    ]
    kept = {one["file"] for one in report["files"]}
    assert kept == {name for name, *_ in rows} - {one["file"] for one in report["refused"]}
    assert report["passport"]["refused"] == 8
    assert report["passport"]["counts"].keys() == {
        "train",
        "val",
        "test",
    }
    assert report["passport"]["duplicates"]["across_sides"] == 0
    for one in report["duplicates"]:
        assert "left out" in one["sides"]


def test_folders_as_classes_and_the_command_line(ward, tmp_path, capsys):
    folder, rows = ward
    for name, label, _ in rows:
        (tmp_path / "f" / label).mkdir(parents=True, exist_ok=True)
        (folder / name).rename(tmp_path / "f" / label / name)
    parser = argparse.ArgumentParser()
    commands.add(parser.add_subparsers())

    def run(*words):
        out = str(tmp_path / "x.npz")
        place = ["import", str(tmp_path / "f"), out, "--split-by", "image", "--size", "8"]
        assert commands.main(parser.parse_args([*place, *words])) == 0
        return capsys.readouterr()

    assert "label_conflicts 2" in run().out
    assert "across_sides 0" in run("--copies", "group").out
    told = run("--copies", "drop").out
    assert "a copy of it has another label (4×)" in told and "a copy (3×)" in told
    assert "known when the pictures have been compared" in run("--copies", "drop", "--dry-run").out
    with pytest.raises(ValueError, match="Unknown copies 'keep'. Choose from: report, group, drop"):
        run("--copies", "keep")


def test_a_given_split_that_parts_copies_is_refused_for_group(ward, tmp_path):
    folder, rows = ward
    side = {name: "train" for name, *_ in rows[:60]} | {name: "test" for name, *_ in rows[60:]}
    side |= {"58.png": "test", "59.png": "test", "copy of 00.png": "train"}
    day = {name: "2020-01-01" if where == "train" else "2021-01-01" for name, where in side.items()}
    columns = [(*row, side[row[0]], day[row[0]]) for row in rows]
    table = write_csv(tmp_path / "t.csv", [(*HEADER, "split", "date"), *columns])
    for by in ("column", "date"):
        options = {"table": table, "size": 8, "split_by": by, "fractions": (0.9, 0, 0.1)}
        words = "4 pairs of copies are on different sides.*01.png and copy of 01.png.*--copies drop"
        with pytest.raises(ValueError, match=words):
            import_folder(folder, tmp_path / "x.npz", copies="group", **options)
        assert not (tmp_path / "x.npz").exists()
        counts = import_folder(folder, tmp_path / "y.npz", **options)["passport"]["duplicates"]
        assert counts["across_sides"] == 4


def test_nothing_is_left_of_copies_with_different_labels(tmp_path):
    for label in "ab":
        for i in range(5):
            put(tmp_path / "p" / label / f"{i}.png", scene(i))
    with pytest.raises(ValueError, match="leaves nothing: all 10 pictures are copies"):
        import_folder(tmp_path / "p", tmp_path / "x.npz", split_by="image", copies="drop")


def test_equal_pictures_with_different_masks_are_a_conflict(tmp_path):
    for i in range(12):
        put(tmp_path / "p" / f"{i}.png", scene(i % 11))
        mask = np.zeros((40, 40), np.uint8)
        mask[10:20, 10 + i : 20 + i] = 255
        put(tmp_path / "m" / f"{i}.png", mask)
    options = {"masks": tmp_path / "m", "split_by": "image", "fractions": (0.5, 0.0, 0.5)}
    report = import_folder(tmp_path / "p", tmp_path / "x.npz", size=40, **options)
    assert [(one["files"], one["labels_differ"]) for one in report["duplicates"]] == [
        (["0.png", "11.png"], True)
    ]


def test_report_and_file_say_which_file_is_in_which_row(ward, tmp_path):
    folder, rows = ward
    table = write_csv(tmp_path / "t.csv", [HEADER, *rows])
    report = import_folder(folder, tmp_path / "x.npz", table=table, size=40)
    arrays, data = read(tmp_path / "x.npz"), load_dataset(tmp_path / "x.npz")
    assert len(report["files"]) == len(rows) == len(set(everything(arrays, "files")))
    known = {name: (label, group) for name, label, group in rows}
    for one in report["files"]:
        part, row = getattr(data, one["split"]), one["row"]
        assert (one["label"], one["group"]) == known[one["file"]]
        assert arrays[f"{one['split']}_files"][row] == part.meta["files"][row] == one["file"]
        shown = np.asarray(Image.open(folder / one["file"]))
        assert (part.images[row, 0].numpy() == shown).all()
        assert data.classes[part.labels[row]] == one["label"]
    with pytest.raises(ValueError, match="cannot name files"):
        import_folder(folder, tmp_path / "y.npz", table=table, columns={"files": "group"})


def test_sets_are_dealt_whole_and_in_the_asked_shares():
    rng = np.random.default_rng(2)
    together, labels = rng.integers(0, 150, 600), rng.choice(["a", "b"], 600)
    for by in ("group", "image"):
        side = split(by, labels, groups=np.arange(600).astype(str), together=together)
        assert all(len(set(side[together == one])) == 1 for one in set(together))
        assert np.bincount(side) / 600 == pytest.approx((0.7, 0.1, 0.2), abs=0.02)


def test_drop_keeps_the_test_images_of_a_given_split_and_says_so(tmp_path, capsys):
    rows = []
    for i in range(24):
        side = "train" if i < 16 else "val" if i < 20 else "test"
        put(tmp_path / "p" / f"{i:02}.png", scene(i))
        rows.append((f"{i:02}.png", "ab"[i % 2], side))
    for name, of, side in (
        ("t0.png", 0, "test"),  # in train too
        ("t1.png", 16, "test"),  # in val too
        ("v1.png", 1, "val"),  # in train too
        ("u1.png", 3, "train"),  # in train too
        ("v2.png", 2, "val"),  # in train, and with the next one in test
        ("w2.png", 2, "test"),
    ):
        put(tmp_path / "p" / name, scene(of))
        rows.append((name, "ab"[of % 2], side))
    table = write_csv(tmp_path / "t.csv", [("file", "label", "split"), *rows])
    options = {"table": table, "size": 8, "split_by": "column", "copies": "drop"}
    report = import_folder(tmp_path / "p", tmp_path / "x.npz", **options)
    assert {one["file"]: one["copy_of"] for one in report["refused"]} == {
        "00.png": "t0.png",
        "16.png": "t1.png",
        "01.png": "v1.png",
        "u1.png": "03.png",
        "02.png": "w2.png",
        "v2.png": "w2.png",
    }
    said = [line for line in capsys.readouterr().err.splitlines() if "of copies" in line]
    assert len(said) == 1 and "7 pairs of copies (" in said[0]
    assert "left out, but for one of each set whose labels agree, in test if it can" in said[0]
    assert report["passport"]["duplicates"]["across_sides"] == 0


def test_pairs_of_which_all_went_are_not_said_to_be_kept(tmp_path, capsys):
    for i in range(12):
        put(tmp_path / "p" / "ab"[i % 2] / f"{i:02}.png", scene(i))
    for name in ("a/x.png", "b/y.png"):  # x is a copy of 00 with its label, y with another
        put(tmp_path / "p" / name, scene(0))
    options = {"size": 8, "split_by": "image", "fractions": (0.5, 0, 0.5), "copies": "drop"}
    report = import_folder(tmp_path / "p", tmp_path / "x.npz", **options)
    assert len(report["refused"]) == 3
    assert "one of each set whose labels agree" in capsys.readouterr().err
