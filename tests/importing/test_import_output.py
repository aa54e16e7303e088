"""What an import writes, and what it never replaces."""

import json
import os

import numpy as np
import pytest

from effml.__main__ import main
from effml.importing.importer import import_folder
from effml.importing.output import npz_path
from effml.importing.words import counted
from test_importer import write_csv
from test_pictures import put, scene


@pytest.fixture
def ward(tmp_path, monkeypatch):
    """20 pictures in two folders; the working folder is around them."""
    monkeypatch.chdir(tmp_path)
    for i in range(20):
        put(tmp_path / "p" / "ab"[i % 2] / f"{i:02d}.png", scene(i, (12, 12)))
    return tmp_path


def take(*options, out="x.npz"):
    return main(["data", "import", "p", out, "--split-by", "image", "--size", "8", *options])


def arrays_of_another(path):
    np.savez(path, train_images=np.zeros((2, 8, 8), np.uint8), train_labels=[[0], [1]])


def arrays_with_a_passport_of_another(path):
    np.savez(path, passport=np.array(json.dumps({"made_with": "someone else"})))


OTHERS = {
    "text": lambda path: path.write_text("a year of work"),
    "nothing": lambda path: path.touch(),
    "arrays": arrays_of_another,
    "passport": arrays_with_a_passport_of_another,
    "folder": lambda path: path.mkdir(),
    "pickle": lambda path: np.savez(path, passport=np.array({"made_with": "effml 1"}, object)),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("dry", [True, False])
def test_what_no_import_made_is_never_replaced(ward, capsys, kind, dry):
    out = ward / "x.npz"
    OTHERS[kind](out)
    before = out.read_bytes() if out.is_file() else None
    words = (
        "x.npz is there already, and was not made by an import of effml.*another name, or delete"
    )
    with pytest.raises(FileExistsError, match=words):
        import_folder("p", out, split_by="image", size=8, dry_run=dry)
    assert take(*["--dry-run"] * dry) == 2
    assert "effml: x.npz is there already" in capsys.readouterr().err
    assert (out.read_bytes() if out.is_file() else None) == before
    assert sorted(os.listdir(ward)) == ["p", "x.npz"]


def test_a_report_of_something_else_is_not_replaced_either(ward, capsys):
    (ward / "x.report.json").write_text('{"mine": 1}')
    assert take() == 2 and "x.report.json is there already" in capsys.readouterr().err
    assert (ward / "x.report.json").read_text() == '{"mine": 1}'
    assert not (ward / "x.npz").exists()


def test_a_file_that_comes_while_pictures_are_read_is_not_replaced(ward, monkeypatch):
    from effml.importing import importer

    read_all = importer.read_all

    def slow(*args, **how):
        (ward / "x.npz").write_text("a year of work")
        return read_all(*args, **how)

    monkeypatch.setattr(importer, "read_all", slow)
    with pytest.raises(FileExistsError, match="not made by an import"):
        import_folder("p", "x.npz", split_by="image", size=8)
    assert (ward / "x.npz").read_text() == "a year of work"
    assert sorted(os.listdir(ward)) == ["p", "x.npz"]


def test_an_earlier_import_is_replaced_and_that_is_said(ward, capsys):
    assert take() == 0 and "replaced" not in capsys.readouterr().err
    before = (ward / "x.npz").read_bytes()
    assert take("--dry-run") == 0
    assert "replaces      an earlier import" in capsys.readouterr().out
    assert (ward / "x.npz").read_bytes() == before
    assert take("--seed", "1") == 0
    assert "import: x.npz replaced an earlier import." in capsys.readouterr().err
    assert (ward / "x.npz").read_bytes() != before
    (ward / "x.npz").unlink()  # its report alone is no earlier import, and in nobody's way
    assert take() == 0 and "replaced" not in capsys.readouterr().err
    assert (ward / "x.npz").read_bytes() == before


def test_a_place_where_nothing_can_be_written_is_said_before_the_work(ward, capsys, monkeypatch):
    (ward / "file").write_text("no folder")
    monkeypatch.setattr("effml.importing.importer.read_all", None)  # no picture is read
    assert take(out="file/deep/x.npz") == 2
    assert "effml: Nothing can be written to file. Give another place for x.npz." in (
        capsys.readouterr().err
    )
    assert npz_path(ward / "new" / "deep" / "x.npz") and not (ward / "new").exists()


def test_a_wrong_name_is_told_without_an_option_that_is_none(ward, capsys):
    assert take(out="x.zip") == 2
    err = capsys.readouterr().err
    assert "'x.zip' is no name for the output: give one that ends in .npz." in err
    assert "--out" not in err


def test_a_link_to_nothing_is_refused_and_the_rest_goes_on(ward, capsys):
    os.symlink("/nowhere.png", ward / "p" / "a" / "dead.png")
    assert take("--dry-run") == 0 and "mb_in" in capsys.readouterr().out
    report = import_folder("p", "x.npz", split_by="image", size=8)
    assert report["refused"] == [
        {"file": "a/dead.png", "reason": "it cannot be read (No such file or directory)"}
    ]
    assert sum(report["passport"]["counts"].values()) == 20


def test_masks_that_are_links_to_nothing_are_refused_too(ward):
    for i in range(20):
        mask = np.zeros((12, 12), np.uint8)
        mask[2:6, 2:6] = 255
        put(ward / "m" / f"{i:02d}.png", mask)
    (ward / "m" / "03.png").unlink()
    os.symlink("/nowhere.png", ward / "m" / "03.png")
    table = write_csv(ward / "t.csv", [("file",), *[(f"{i:02d}.png",) for i in range(20)]])
    report = import_folder("p", "x.npz", table=table, masks="m", split_by="image", size=8)
    assert [one["reason"] for one in report["refused"]] == [
        "its mask: it cannot be read (No such file or directory)"
    ]


@pytest.mark.parametrize(
    "sides, note, next_step",
    [
        (("train",), "There are no pictures for test, which a run needs", False),
        (("val", "test"), "There are no pictures for train, which a run needs", False),
        (("val",), "There are no pictures for train and test, which a run needs", False),
        (("train", "test"), "There are no pictures for val: a run then keeps its last", True),
        (("train", "val", "test"), "", True),
    ],
)
def test_a_given_split_without_a_side_is_said_and_no_run_proposed(
    ward, capsys, sides, note, next_step
):
    rows = [(f"{i:02d}.png", "ab"[i % 2], sides[i // 2 % len(sides)]) for i in range(20)]
    write_csv(ward / "t.csv", [("file", "label", "split"), *rows])
    words = ["data", "import", "p", "x.npz", "--size", "8", "--table", "t.csv"]
    assert main([*words, "--split-by", "column"]) == 0
    said = capsys.readouterr()
    assert ("\nnext " in said.out) == next_step
    assert (note or "There are no pictures") in said.err if note else "no pictures" not in said.err


def test_things_are_counted_as_one_says_it():
    assert counted(1, "pair of copies") == "1 pair of copies"
    assert counted(2, "pair of copies", "have") == "2 pairs of copies have"
    assert counted(1, "group", "are") == "1 group is" and counted(0, "file") == "0 files"
    assert counted(1, "day", "are") == "1 day is" and counted(1, "set", "have") == "1 set has"
