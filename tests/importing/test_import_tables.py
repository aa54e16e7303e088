"""Tables as other people and programs write them: every case is read rightly, or refused with the
fact.
"""

import unicodedata
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from effml.data.spelling import listed, spellings
from effml.importing.dates import read_days
from effml.importing.importer import import_folder
from effml.importing.partition import split
from effml.importing.table import rows_of
from test_importer import everything, read
from test_pictures import put, scene


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """30 pictures, 00.png to 29.png."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(30):
        put(folder / f"{i:02d}.png", scene(i, (12, 12)))
    return folder


@pytest.fixture
def take(pictures, tmp_path):
    """Import the pictures with a table, which is a data frame or the bytes of a CSV; (report,
    arrays).
    """

    def work(table, **options):
        if not isinstance(table, pd.DataFrame):
            (tmp_path / "t.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
            table = tmp_path / "t.csv"
        report = import_folder(pictures, tmp_path / "x.npz", table=table, size=8, **options)
        return report, read(tmp_path / "x.npz")

    return work


def rows(labels=("ill", "well"), who="P{:02d}", more=lambda i: ()):
    """30 rows (file, label, patient, …) of 15 patients with both labels each."""
    return [
        (f"{i:02d}.png", labels[i % len(labels)], who.format(i // len(labels)), *more(i))
        for i in range(30)
    ]


def csv_of(content, header="file,label,patient", sep=",", end="\n"):
    return end.join([header.replace(",", sep), *(sep.join(row) for row in content)]) + end


def counts_of(report):
    total = {}
    for part in report["passport"]["classes"].values():
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total


# B1: nothing but an empty field is missing


@pytest.mark.parametrize(
    "word", ["NA", "None", "N/A", "nan", "NaN", "null", "inf", "True", "1e5", "<NA>", "-", "n/a"]
)
def test_a_class_may_have_any_name(take, word):
    report, _ = take(csv_of(rows((word, "tumour", "other"))))
    assert counts_of(report) == {word: 10, "tumour": 10, "other": 10} and not report["refused"]


@pytest.mark.parametrize("word", ["NA", "None", "nan", "null", "007", "1e5", "inf", "True", "#N/A"])
def test_a_patient_may_have_any_name(take, word):
    content = [(*row[:2], word) if row[2] == "P03" else row for row in rows()]
    report, arrays = take(csv_of(content))
    assert (everything(arrays, "groups") == word).sum() == 2 and not report["refused"]


def test_an_empty_field_is_missing(take):
    content = rows()
    content[3], content[4] = (content[3][0], "", content[3][2]), (*content[4][:2], "  ")
    report, _ = take(csv_of(content))
    assert [(one["file"], one["reason"]) for one in report["refused"]] == [
        ("03.png", "no label"),
        ("04.png", "no group"),
    ]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT, "", " "])
def test_missing_values_of_a_data_frame(take, missing):
    frame = pd.DataFrame(rows(("NA", "ill")), columns=["file", "label", "group"], dtype=object)
    frame.loc[5, "label"] = missing
    report, _ = take(frame)
    assert counts_of(report) == {"NA": 15, "ill": 14}
    assert report["refused"] == [{"file": "05.png", "reason": "no label"}]


def test_a_set_left_with_one_class_is_refused_with_what_was_seen(take, tmp_path):
    content = [(file, label if label == "ill" else "", who) for file, label, who in rows()]
    with pytest.raises(ValueError, match="All 15 pictures.*label ill.*Refused: 15, no label"):
        take(csv_of(content))
    assert not (tmp_path / "x.npz").exists()


# B6: what a table looks like

PLAIN = csv_of(rows())
QUOTED = csv_of([(*row, '"two\nlines, ""quoted"""') for row in rows()], "file,label,patient,note")


@pytest.mark.parametrize(
    "table",
    [
        "sep=;\n" + csv_of(rows(), sep=";"),
        "SEP=,\r\n" + csv_of(rows(), end="\r\n"),
        '"sep=\t"\n' + csv_of(rows(), sep="\t"),
        'file;label;patient;"size (a, b, c, d)"\n'
        + "\n".join(";".join((*row, "1")) for row in rows()),
        "file;label;patient;size (a, b, c, d)\n"
        + "\n".join(";".join((*row, "1,5")) for row in rows()),
        csv_of(rows(), sep=";") + ";;\n" * 200,
        "\n\n" + PLAIN.replace("\n", "\n\n"),
        csv_of(rows(), end="\r"),
        csv_of(rows(), end="\r\n"),
        "\ufeff" + PLAIN,
        PLAIN.encode("utf-16"),
        ("\ufeff" + PLAIN).encode("utf-16-be"),
        csv_of(rows(), sep="\t"),
        csv_of(rows(), sep="|"),
        csv_of([(*row, "1,5") for row in rows()], "file;label;patient;mm", sep=";"),
        QUOTED,
        csv_of([(f" {a}", f' "{b}"', f"{c} ") for a, b, c in rows()], "file, label, patient"),
        csv_of([(*row, "", "") for row in rows()]),
        csv_of([(*row, "") for row in rows()], "file,label,patient,"),
        PLAIN.rstrip("\n"),
        csv_of([(*row, "a", "b") for row in rows()], "file,label,patient,note,note"),
    ],
)
def test_tables_of_other_programs_are_read(take, table):
    report, arrays = take(table)
    assert counts_of(report) == {"ill": 15, "well": 15} and report["refused"] == []
    assert set(everything(arrays, "groups")) == {f"P{k:02d}" for k in range(15)}


@pytest.mark.parametrize(
    "table, words",
    [
        (
            PLAIN.replace("05.png,well", "05.png,\xfcbel").encode("cp1252"),
            "line 7 has a byte that is not UTF-8",
        ),
        (PLAIN.encode("utf-16-le"), "it has zero bytes"),
        (b"PK\x03\x04" + bytes(30), "zip archive, as spreadsheets"),
        (PLAIN.replace("05.png,well", "05.png,well,x"), "line 7 has 4 fields, the line of names 3"),
        (PLAIN.replace("05.png,well,", "05.png,"), "line 7 has 2 fields, the line of names 3"),
        (PLAIN.replace("05.png", '"05.png'), "line 7 has a quotation mark out of place"),
        (csv_of([(*r, "1,5") for r in rows()], "file,label,patient,mm"), "line 2 has 5 fields"),
        (PLAIN.split("\n", 1)[1], "first line of the table holds 00.png, a picture"),
        ("file,label,patient\n", "column names and no rows"),
        ("file,label,patient\n,,\n\n", "column names and no rows"),
        (b"", "it is empty"),
        (PLAIN.replace("patient", "label", 1), "two columns label"),
        (PLAIN.replace("label,patient", "Label,LABEL", 1), r"two columns Label \(for label\)"),
        (PLAIN.replace("05.png", "a|b.png"), "no picture in the folder"),
    ],
)
def test_what_is_no_table_is_refused_by_line(take, table, words):
    if "no picture" in words:
        assert {
            "file": "a|b.png",
            "reason": "named in the table, and no picture in the folder",
        } in take(table)[0]["refused"]
        return
    with pytest.raises(ValueError, match=words) as raised:
        take(table)
    assert "Error tokenizing" not in str(raised.value) and "codec" not in str(raised.value)


@pytest.mark.parametrize(
    "names, order",
    [
        (("1.0", "2.0", "10.0"), ["1.0", "2.0", "10.0"]),
        (("10", "9"), ["9", "10"]),
        (("-1", "0", "1"), ["-1", "0", "1"]),
        (("2.5", "10.5", "1"), ["1", "2.5", "10.5"]),
        (("007", "10"), ["007", "10"]),
        (("b", "a", "10"), ["10", "a", "b"]),
        ((1.0, 2.0, 10.0), ["1.0", "2.0", "10.0"]),
        ((True, False), ["False", "True"]),
    ],
)
def test_numbers_are_in_order(take, names, order):
    frame = pd.DataFrame(rows(names), columns=["file", "label", "group"], dtype=object)
    assert take(frame)[1]["label_names"].tolist() == order


def test_a_date_with_a_digit_too_many_is_no_date(take):
    content = rows(more=lambda i: ("202103011",))
    report, arrays = take(csv_of(content, "file,label,patient,date"))
    assert set(everything(arrays, "date")) == {"202103011"}  # as it is written, and said
    assert "30 of 30 dates stay as they are written, such as 202103011" in str(report["passport"])


def test_names_with_commas_and_bars_in_files_and_columns(tmp_path):
    from effml.data.load import at_hand
    from effml.importing.commands import _columns

    for i in range(30):
        put(tmp_path / "p" / f"a|b,{i}.png", scene(i, (12, 12)))
    table = tmp_path / "x,y.csv"
    content = [(f'"a|b,{i}.png"', "ab"[i % 2], str(i)) for i in range(30)]
    table.write_text(csv_of(content, 'file,"size (a, b)",patient'))
    columns = _columns("label=size (a, b),group=patient")
    assert columns == {"label": "size (a, b)", "group": "patient"}
    out = tmp_path / "o|p,q.npz"
    assert not import_folder(tmp_path / "p", out, table=table, columns=columns, size=8)["refused"]
    assert at_hand(str(out)) == str(out)


# B2: dates


@pytest.mark.parametrize(
    "written, read_as",
    [
        (["01.03.2021", "31.12.2021"], ["2021-03-01", "2021-12-31"]),
        (["1.3.2021", "02.03.2021"], ["2021-03-01", "2021-03-02"]),  # dots: the day is first
        (["03/04/2021", "25/04/2021"], ["2021-04-03", "2021-04-25"]),
        (["03/04/2021", "04/25/2021"], ["2021-03-04", "2021-04-25"]),
        (["2021-03-01T10:15:00Z", "2021-03-02 00:00:00"], ["2021-03-01", "2021-03-02"]),
        (["20210301", "20210302101500.25"], ["2021-03-01", "2021-03-02"]),
        (["2021/3/1", "2021.03.02"], ["2021-03-01", "2021-03-02"]),
        (["25-04-2021 10:00", "05/05/2021"], ["2021-04-25", "2021-05-05"]),
        ([date(2021, 3, 1), pd.Timestamp("2021-03-02")], ["2021-03-01", "2021-03-02"]),
        (["03/04/2021", "05/06/2021"], None),  # both orders fit
        (["13/01/2021", "01/13/2021"], None),  # no order fits
        (["01.03.21", "02.03.21"], None),
        (["2021-02-30", "2021-13-01"], None),
        (["spring", "2021"], None),
    ],
)
def test_days_are_read_where_there_is_one_way(take, written, read_as):
    frame = pd.DataFrame(
        rows(more=lambda i: (written[i % 2],)), columns=["file", "label", "group", "date"]
    ).astype(object)
    report, arrays = take(frame)
    notes = " ".join(report["passport"]["notes"])
    assert set(everything(arrays, "date")) == set(read_as or map(str, written))
    assert ("dates stay as they are written" in notes) == (read_as is None)
    if read_as:
        assert report["passport"]["dates"] == f"{min(read_as)} to {max(read_as)}"
    else:
        with pytest.raises(ValueError, match=f"no date as YYYY-MM-DD .such as {written[0]}"):
            take(frame, split_by="date")


@pytest.mark.parametrize(
    "written, read",
    [
        (["03/04/2021", "", None, "03/04/2021"], {}),
        (["13/01/2021", "01/13/2021"], {}),
        (["05/05/2021", "03/04/2021"], {"05/05/2021": "2021-05-05"}),
        (["25/04/2021", "30/02/2021"], {"25/04/2021": "2021-04-25"}),
        (["spring", "20210301"], {"20210301": "2021-03-01"}),
    ],
)
def test_a_day_that_cannot_be_read_is_not_guessed(written, read):
    days, why = read_days(written)
    assert days == read and "it is no day as YYYY-MM-DD" in why and "told apart" in why


def test_one_date_that_cannot_be_read_is_named_and_the_others_are_kept(take):
    content = rows(more=lambda i: ("" if i == 3 else "x" if i == 4 else f"{i + 1:02d}.03.2021",))
    table = csv_of(content, "file,label,patient,date")
    report, arrays = take(table)
    found = sorted(everything(arrays, "date"))
    assert found == sorted(
        ["", "x", *(f"2021-03-{i + 1:02d}" for i in range(30) if i not in (3, 4))]
    )
    assert "1 of 30 dates stay as they are written, such as x" in str(report["passport"]["notes"])
    report, _ = take(table, split_by="date", fractions=(0.6, 0, 0.4))
    assert {(one["file"], one["reason"][:25]) for one in report["refused"]} >= {
        ("03.png", "no date as YYYY-MM-DD"),
        ("04.png", "no date as YYYY-MM-DD (su"),
    }


# B2: labels


@pytest.mark.parametrize(
    "labels, words",
    [
        (("Effusion", "Mass", "Effusion|Mass", "No Finding"), "'Effusion|Mass' joins several"),
        (("Effusion|Mass", "No Finding"), "multi-label"),
        (("a;b", "a", "c"), "multi-label"),
        (("Effusion, Mass", "Effusion", "Mass"), "multi-label"),
        (("a, b", "b, c", "c, a"), "multi-label"),
        (("['a', 'b']", "['a']", "['b', 'a']"), "multi-label"),
        (("Benign", "benign", "ill"), "several ways: 'Benign' = 'benign'"),
        (("1", "1.0", "2"), "several ways: '1' = '1.0'"),
        (("grade 1", "grade-1", "grade 2"), "several ways: 'grade 1' = 'grade-1'"),
        (("x",), "All 30 pictures that can be used have the label x"),
    ],
)
def test_labels_that_are_no_classes(take, labels, words):
    with pytest.raises(ValueError, match=words):
        take(pd.DataFrame(rows(labels), columns=["file", "label", "group"]))


@pytest.mark.parametrize(
    "labels", [("naevus", "naevus, atypical"), ("HER2+", "HER2-"), ("a/b", "a")]
)
def test_labels_that_look_odd_and_are_classes(take, labels):
    report, _ = take(pd.DataFrame(rows(labels), columns=["file", "label", "group"]))
    assert counts_of(report) == dict.fromkeys(labels, 15)


@pytest.mark.parametrize(
    "negative, positive",
    [
        ("normal", "abnormal"),
        ("No Finding", "Effusion"),
        ("benign", "malignant"),
        ("zz_normal", "benign"),
        ("0", "1"),
        ("negative", "Covid"),
        ("healthy", "ill"),
        ("well", "ill"),
        ("no_tumour", "lesion"),
        ("non-cancer", "cancer"),
        ("tumour-free", "aa"),
        ("nevus", "melanoma"),
        ("False", "True"),
        ("uninfected", "parasitized"),
    ],
)
def test_sensitivity_is_about_the_class_that_is_not_normal(take, negative, positive):
    report, arrays = take(csv_of(rows((negative, positive))))
    passport = report["passport"]
    assert passport["positive"] == positive == arrays["label_names"][arrays["positive"]]
    assert f"by its name, beside {negative}" in passport["positive_from"]
    assert f'Say positive="{negative}"' in " ".join(passport["notes"])


def test_where_no_name_tells_the_guess_is_said_and_how_to_change_it(take):
    report, _ = take(csv_of(rows(("left", "right"))))
    assert report["passport"]["positive_from"] == "assumed: the last class"
    assert 'Say positive="left"' in " ".join(report["passport"]["notes"])


def test_a_file_that_names_no_positive_class_is_read_by_its_names(tmp_path):
    from effml import load_dataset

    images = np.random.default_rng(0).integers(0, 255, (4, 8, 8), np.uint8)
    arrays = {"train_images": images, "train_labels": np.array([[0], [1], [0], [1]])}
    np.savez(tmp_path / "x.npz", **arrays, label_names=["abnormal", "normal"])
    assert load_dataset(tmp_path / "x.npz").positive == 0
    np.savez(tmp_path / "y.npz", **arrays, label_names=["left", "right"])
    assert (
        load_dataset(tmp_path / "y.npz").passport["positive_from"].startswith("assumed: the last")
    )


# B3: identities


@pytest.mark.parametrize(
    "one, other",
    [
        ("P7", "p7"),
        ("7", "7.0"),
        ("7", "007"),
        ("P7", " P7 "),
        ("P7", "\uff30\uff17"),
        ("7", "\u0667"),
        ("P7", "P7."),
        ("M\xfcller", "Mu\u0308ller"),
        ("P-7", "P_7"),
        ("P7", "P 7"),
        ("A-B", "A\u2011B"),
        ("P07-3", "p7_03"),
        ("P7", "P\u200b7"),
        ("Stra\xdfe", "STRASSE"),
    ],
)
def test_two_spellings_are_one_patient(take, one, other):
    frame = pd.DataFrame(rows(who="Q{:02d}"), columns=["file", "label", "group"])
    frame.loc[:3, "group"] = [one, other, one, other]
    spelt = {unicodedata.normalize("NFC", name.strip()) for name in (one, other)}
    report, arrays = take(frame)
    named = {name: set(arrays[f"{name}_groups"]) & spelt for name in ("train", "val", "test")}
    assert sorted(map(len, named.values())) == [0, 0, 1]
    assert sum(report["passport"]["groups"].values()) == 14
    note = "1 group is spelt in several ways"
    assert (note in str(report["passport"]["notes"])) == (len(spelt) > 1)
    frame["split"] = ["train", "test"] * 15
    frame.loc[4:, "group"] = [f"Q{i}" for i in range(4, 30)]
    with pytest.raises(ValueError, match="1 group is on more than one side of the split"):
        take(frame, split_by="column")
    frame["date"] = [f"2021-01-{1 + i:02d}" for i in range(30)]
    frame["group"] = [one, *frame.group[1:-1], other]
    report, _ = take(frame, split_by="date")
    assert report["refused"][-1] == {
        "file": "29.png",
        "reason": "a later image of a patient who is on an earlier side",
    }


@pytest.mark.parametrize(
    "one, other",
    [
        ("P7", "P17"),
        ("12-3", "1-23"),
        ("7", "70"),
        ("7", "-7"),
        ("1.2.840.10", "1.2.840.1"),
        ("a1", "1a"),
        ("P7", "P7a"),
        ("7.0", "7.5"),
        ("A", "\xc4"),
        ("1.05", "1.5"),
    ],
)
def test_what_only_looks_alike_stays_two(take, one, other):
    frame = pd.DataFrame(rows(who="Q{:02d}"), columns=["file", "label", "group"])
    frame.loc[:3, "group"] = [one, other, one, other]
    report, arrays = take(frame)
    assert {one, other} <= set(everything(arrays, "groups"))
    assert "spelt in several ways" not in str(report["passport"]["notes"])


@pytest.mark.parametrize(
    "train, test",
    [
        (["P7", "P8"], ["p7", "P9"]),
        (["7", "8"], ["007", "9"]),
        ([7, 8], ["7.0", "9.0"]),
        ([b"P7", b"P8"], ["P7", "P9"]),
        (["P_7", "P_8"], ["P-7", "P-9"]),
    ],
)
def test_a_file_with_a_patient_on_two_sides_in_two_spellings_is_refused(tmp_path, train, test):
    from effml import load_dataset

    images = np.random.default_rng(0).integers(0, 255, (2, 8, 8), np.uint8)
    for name, groups in (("train", train), ("test", test)):
        arrays = {f"{name}_images": images, f"{name}_labels": np.array([[0], [1]])}
        arrays[f"{name}_groups"] = np.array(groups)
        np.savez(tmp_path / f"{name}.npz", **arrays)
    both = {**np.load(tmp_path / "train.npz"), **np.load(tmp_path / "test.npz")}
    np.savez(tmp_path / "x.npz", **both)
    with pytest.raises(ValueError, match="1 groups are in train and in test, such as .*7"):
        load_dataset(tmp_path / "x.npz")
    assert load_dataset(tmp_path / "train.npz").passport["groups"] == {"train": 2}


def test_the_split_of_ids_without_twins_is_what_it_was():
    groups = np.repeat([f"{k:03d}" for k in range(20)], 3)
    labels = np.array(["a", "b"] * 30)
    from effml.importing.partition import _deal

    assert (
        split("group", labels, groups=groups, seed=5) == _deal(labels, groups, (0.7, 0.1, 0.2), 5)
    ).all()


def test_notes_do_not_depend_on_the_order_of_a_set():
    """Notes name the same patients in every process: Python's own order of text differs from run to
    run.
    """
    names = [f"{letter}{k}" for letter in "pP" for k in range(30)]
    assert list(spellings(names)) == sorted(f"P{k}" for k in range(30))


def test_bytes_are_the_text_they_spell_and_the_first_five_are_listed():
    assert spellings([b"P7", "p7", 8]) == {"8": ["8"], "P7": ["P7", "p7"]}
    assert listed([[f"P{k}", f"p{k}"] for k in range(7)]) == ", ".join(
        f"P{k} = p{k}" for k in range(5)
    )


def test_one_id_of_dicom_in_two_spellings_is_one_pseudonym(tmp_path):
    from effml.importing.pictures import read_picture
    from test_pictures import dicom

    names = {
        read_picture(
            dicom(tmp_path / f"{k}.dcm", scene(k), PatientID=who).read_bytes(), size=8
        ).group
        for k, who in enumerate(["P7", "p7", "P07"])
    }
    assert len(names) == 1 and len(names.pop()) == 12


def test_names_in_other_case_are_found_where_they_mean_one_file(tmp_path):
    for i in range(12):
        put(tmp_path / "q" / "Sub" / f"im{i:02d}.png", scene(i, (12, 12)))
    put(tmp_path / "q" / "Two.png", scene(50, (12, 12)))
    put(tmp_path / "q" / "two.png", scene(51, (12, 12)))
    names = ["IM00.PNG", "SUB/IM01.png", "D:\\scans\\IM02.PNG", "IM03"]
    names += [f"im{i:02d}.png" for i in range(4, 12)] + ["TWO.PNG", "two.png"]
    table = pd.DataFrame({"file": names, "label": ["a", "b"] * 7, "patient": range(14)})
    report = import_folder(tmp_path / "q", tmp_path / "x.npz", table=table, size=8)
    found = {f"Sub/im{i:02d}.png" for i in range(12)} | {"two.png"}
    assert {one["file"] for one in report["files"]} == found
    assert {one["file"]: one["label"] for one in report["files"]}["Sub/im02.png"] == "a"
    assert {one["file"]: one["reason"] for one in report["refused"]} == {
        "TWO.PNG": "2 files have this name: give the path in the folder"
    }
    table.loc[13, "file"] = "IM05.png"  # im05.png has a row of its own
    with pytest.raises(ValueError, match="two rows or more for Sub/im05.png"):
        import_folder(tmp_path / "q", tmp_path / "x.npz", table=table, size=8)


@pytest.mark.parametrize("name, words", [("a\nb", "3 characters"), ("x" * 300, "300 characters")])
def test_names_of_classes_are_short_and_of_one_line(take, name, words):
    with pytest.raises(
        ValueError, match=f"A class is called .*{words}.*at most 100 characters"
    ) as said:
        take(pd.DataFrame(rows((name, "other")), columns=["file", "label", "patient"]))
    assert len(str(said.value)) < 200


def test_a_folder_of_slices_is_told_of_volumes():
    job, table = (
        SimpleNamespace(refused=[], columns=None),
        {"file": ["s", "a"], "label": ["x", "y"]},
    )
    rows = rows_of(job, {"s/1.dcm": Path(), "a.png": Path()}, pd.DataFrame(table), set())
    assert rows.file.tolist() == ["a.png"]
    assert job.refused == [
        {
            "file": "s",
            "reason": "it is a folder: say --volumes (volumes=True) where each folder is a series "
            "of slices",
        }
    ]
