"""Reported troubles of users with tables and folders, on the command line; and what it says must be
typed as it stands.
"""

import os
import shlex
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

from effml.__main__ import _scores, _values, main
from effml.importing.words import at_a_shell, typed
from test_pictures import put, scene

N = 30


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def clinic(labels=("ill", "well"), who=lambda i: f"P{i // 2:02d}", header="file,label,patient"):
    """30 pictures and a table of them, as lines of fields."""
    for i in range(N):
        put_here(f"pictures/{i:02d}.png", i)
    rows = zip(range(N), cycle(labels))
    return [header.split(","), *([f"{i:02d}.png", label, who(i)] for i, label in rows)]


def put_here(name, seed, **options):
    put(Path(name), scene(seed, (12, 12)), **options)


def write(rows, sep=",", before="", after=""):
    with open("table.csv", "w", encoding="utf-8", newline="") as file:
        file.write(before + "".join(sep.join(row) + "\n" for row in rows) + after)


def call(capsys, *options, table=True):
    words = ["data", "import", "pictures", "out.npz", "--size", "8", *options]
    code = main([*words, *(["--table", "table.csv"] if table else [])])
    said = capsys.readouterr()
    lines = dict(line.split(maxsplit=1) for line in said.out.splitlines())
    assert len(said.out.splitlines()) <= 11 and (code == 0) == bool(said.out)
    return code, lines, said.err


def test_class_called_na(here, capsys):
    write(clinic(labels=("NA", "tumour", "tumour")))
    _, said, _ = call(capsys)
    assert said["classes"].startswith("train (NA 7, tumour 15)") and said["refused"] == "0"
    assert said["positive"].startswith("tumour (assumed: by its name")


def test_patient_p7_is_p7(here, capsys):
    write(clinic(who=lambda i: f"{'pP'[i % 2]}{i // 2}"))
    _, said, err = call(capsys)
    counts = [int(word) for word in said["groups"].replace(",", "").split() if word.isdigit()]
    assert sum(counts) == 15 and "15 groups are spelt in several ways" in err and "P0 = p0" in err
    with np.load("out.npz") as file:
        sides = [set(map(str.lower, file[f"{s}_groups"])) for s in ("train", "val", "test")]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 15


def test_labels_joined_by_pipes(here, capsys):
    write(clinic(labels=("Effusion", "Mass", "Effusion|Mass", "No Finding")))
    code, _, err = call(capsys)
    assert code == 2 and "'Effusion|Mass' joins several names" in err and "multi-label" in err
    assert not os.path.exists("out.npz")


def test_sep_line_of_excel(here, capsys):
    write(clinic(), ";", before="sep=;\n")
    assert call(capsys)[1]["groups"] == "train 11, val 1, test 3"


def test_commas_in_the_header(here, capsys):
    head, *rows = clinic()
    write([[*head, '"size (a, b, c, d)"'], *([*row, "1"] for row in rows)], ";")
    assert call(capsys)[1]["groups"] == "train 11, val 1, test 3"


def test_two_hundred_empty_rows(here, capsys):
    write(clinic(), ";", after=";;\n" * 200)
    _, said, _ = call(capsys)
    assert said["groups"] == "train 11, val 1, test 3" and said["refused"] == "0"


def test_dates_by_day_first(here, capsys):
    head, *rows = clinic()
    write([[*head, "date"], *([*row, f"{1 + i % 28:02d}.03.2021"] for i, row in enumerate(rows))])
    assert call(capsys)[1]["dates"] == "2021-03-01 to 2021-03-28"


def test_positive_is_normal(here, capsys):
    write(clinic(labels=("abnormal", "normal")))
    _, said, err = call(capsys)
    assert said["positive"] == "abnormal (assumed: by its name, beside normal)"
    assert "Say --positive normal if" in err and "positive=" not in err


def test_one_folder_too_many(here, capsys):
    for i in range(N):
        put_here(f"pictures/images/{('malignant', 'benign')[i % 2]}/{i:02d}.png", i)
    _, said, err = call(capsys, "--split-by", "image", table=False)
    assert said["classes"].startswith("train (benign 11, malignant 11)")
    assert "Everything lies in the folder images." in err


def test_linked_folder(here, capsys):
    head, *rows = clinic()
    os.rename("pictures", "disk")
    os.mkdir("pictures")
    os.symlink(os.path.join("..", "disk"), "pictures/scans")
    put_here("pictures/one.png", 900)
    write([head, *([f"scans/{row[0]}", *row[1:]] for row in rows)])
    _, said, _ = call(capsys)
    assert said["refused"] == "0; not in the table 1"


def test_webp_pictures(here, capsys):
    rows = clinic()
    for i in range(4):
        put_here(f"pictures/w{i}.webp", 200 + i, lossless=True)
        put_here(f"pictures/v{i}.png", 300 + i, format="WEBP", lossless=True)
        rows += [[f"w{i}.webp", "ill", f"w{i}"], [f"v{i}.png", "ill", f"v{i}"]]
    write(rows)
    _, said, _ = call(capsys)
    assert said["refused"] == "0" and said["groups"] == "train 16, val 2, test 5"


# words for the shell


@pytest.mark.parametrize(
    "labels, options, words",
    [
        (("ill", "well"), ["--split-by", "date"], "There is no date column"),
        (("ill", "well"), ["--split-by", "patient"], "Unknown --split-by 'patient'"),
        (("ill", "well"), ["--split-by", "column"], "--columns split=NAME"),
        (("ill", "well"), ["--size", "4"], "--size 4: give"),
        (("ill", "well"), ["--fractions", "0.5,0.5,0.5"], "such as --fractions 0.7,0.1,0.2"),
        (("ill", "well"), ["--window=-5,-9"], "--window=-5.0,-9.0: give"),
        (("ill", "well"), ["--positive", "cyst"], "--positive cyst must be one of two"),
        (
            ("a b", "c", "d"),
            ["--positive", "a b"],
            "--positive 'a b' is for two classes; here are 3",
        ),
        (("a", "b", "c"), ["--positive", "a"], "effml.achieved, with probabilities[:, c]"),
        (("ill", "well"), ["--columns", "label=Befund"], "no column Befund (for label)"),
        (("ill", "well"), ["--masks", "pictures"], "holds the pictures themselves and no masks"),
    ],
)
def test_advice_is_what_a_shell_takes(here, capsys, labels, options, words):
    write(clinic(labels=labels))
    code, _, err = call(capsys, *options)
    assert code == 2 and words in err and err.startswith("effml: ")
    assert "split_by" not in err and "columns=" not in err and "fractions=" not in err


def test_advice_to_split_by_image_and_in_notes(here, capsys):
    head, *rows = clinic()
    write([[*head[:2], "split"], *([*row[:2], "train"] for row in rows)])
    code, _, err = call(capsys)
    assert code == 2 and "or say --split-by image when" in err and "split_by" not in err
    assert "say --split-by column to keep" in err
    _, _, err = call(capsys, "--split-by", "image")
    assert "Say --split-by column to keep it." in err


def test_the_report_is_the_same_from_a_shell_and_from_python(here, capsys):
    from effml import import_folder

    write(clinic())
    call(capsys)
    files = here / "out.report.json", here / "out.npz"
    first = [file.read_bytes() for file in files]
    import_folder("pictures", "out.npz", table="table.csv", size=8)
    assert first == [file.read_bytes() for file in files]


def test_a_dry_run_says_what_it_would_take_for_what(here, capsys):
    for i in range(N):
        put_here(f"pictures/all/{('train', 'Test')[i % 3 > 1]}/{'ab'[i % 2]}/{i:02d}.png", i)
        put_here(f"pictures/all/train/a/{i // 6 * 6:02d}_mask.png", i)
    code, said, _ = call(capsys, "--split-by", "column", "--dry-run", table=False)
    assert code == 0 and said["counts"] == "train 20, test 10" and said["classes"] == "a 15, b 15"
    assert said["positive"] == "b (assumed: the last class)"
    assert "folders Test, train are taken as the split" in said["notes"]
    assert "5 masks by name" in said["notes"]
    assert "--masks pictures" in said["notes"]
    assert not os.path.exists("out.npz")


def test_what_is_printed_as_next_can_be_typed(here, capsys, monkeypatch):
    write(clinic())
    os.mkdir("my data, 2")
    main(
        ["data", "import", "pictures", "my data, 2/it's.npz", "--table", "table.csv", "--size", "8"]
    )
    line = capsys.readouterr().out.splitlines()[-1]
    words = shlex.split(line.removeprefix("next"))
    assert words == ["python", "-m", "effml", "run", "data=my data, 2/it's.npz"]


@pytest.mark.parametrize(
    "text, shell",
    [
        ('say split_by="image" when', "say --split-by image when"),
        ("positive='a b'", "--positive 'a b'"),
        ('positive="it\'s"', "--positive 'it'\"'\"'s'"),
        ("fractions=(0.8, 0, 0.2),", "--fractions 0.8,0,0.2,"),
        ("window=(-5, 5)", "--window=-5,5"),
        ("size=0: give", "--size 0: give"),
        ("columns={'label': 'NAME'} or", "--columns label=NAME or"),
        ("another split_by.", "another --split-by."),
        ("say --split-by=image", "say --split-by=image"),
        ("a resize=3 or data='x'", "a resize=3 or data='x'"),
        ("", ""),
    ],
)
def test_python_is_put_into_words_of_the_shell(text, shell):
    options = ("split_by", "positive", "fractions", "window", "size", "columns")
    assert typed(text) == text
    with at_a_shell(options):
        assert typed(text) == shell
    with pytest.raises(ValueError) as raised, at_a_shell(options):
        raise ValueError(text)
    assert str(raised.value) == shell and typed(text) == text


def test_commas_in_the_names_of_files_part_no_values_of_a_sweep(here):
    for name in ("a,b.npz", "c.npz"):
        (here / name).touch()
    assert _values("a,b.npz,c.npz") == ["a,b.npz", "c.npz"]
    assert _values(f"{here}/a,b.npz") == [f"{here}/a,b.npz"]
    assert _values("lenet5,mlp") == ["lenet5", "mlp"] and _values("0,1,,2") == ["0", "1", "", "2"]


def test_a_table_of_segmentation_shows_the_dice():
    import pandas as pd

    none = [None, None]
    assert _scores(pd.DataFrame({"test_auroc": none, "test_dice": [0.5, None]})) == ["test_dice"]
    assert _scores(pd.DataFrame({"test_auroc": [0.5, 1], "test_dice": none})) == ["test_auroc"]
    assert _scores(pd.DataFrame({"test_auroc": none, "test_dice": none})) == ["test_auroc"]
    both = pd.DataFrame({"test_auroc": [0.5, None], "test_dice": [None, 0.5]})
    assert _scores(both) == ["test_auroc", "test_dice"]


@pytest.mark.parametrize("positive", [0, 1, 2])
def test_achieved_on_three_classes_says_one_against_the_rest(positive):
    from effml.evaluation import achieved

    rng = np.random.default_rng(0)
    p, labels = rng.dirichlet([1, 1, 1], 60), np.arange(60) % 3
    say = r"pass probabilities\[:, c\] and labels == c, with positive=1"
    with pytest.raises(ValueError, match=say):
        achieved((p, labels), (p, labels), positive=positive)
    with pytest.raises(ValueError, match=say):
        achieved((p[:, positive], labels), (p[:, positive], labels), positive=positive)
    one = p[:, positive], labels == positive  # as it says
    assert achieved(one, one, positive=1).index.tolist() == ["screening", "confirmation"]
