"""A finished model: what comes back from a store, and what it says of pictures."""

import csv
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import effml
from effml import Recipe, evaluate, load_arrays, load_run, operating_point, run, sweep
from effml.__main__ import main
from effml.deployment.predict_template import COLUMNS
from effml.experiment import write
from effml.experiment.predict_folder import _answered

QUICK = Recipe(model="mlp", epochs=1)
DATA = effml.load_dataset("phantom-chest")
HOW = {"size": 28, "fit": "pad", "colour": "auto", "window": None}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    assert sweep([QUICK], folder, keep_weights=True).status.tolist() == ["ok"]
    return folder


@pytest.fixture
def reading(monkeypatch):
    """Stands for the import's way to read a picture: .npy files. What it was asked for."""
    asked = []

    def preprocess(path, preprocessing, told):
        asked.append(preprocessing)
        try:
            return np.load(path)
        except Exception as error:
            raise ValueError(f"{path} cannot be used: {error}") from error

    monkeypatch.setattr("effml.importing.preprocess", preprocess, raising=False)
    monkeypatch.setattr("effml.importing.looking.SUFFIXES", (".npy",))
    return asked


def pictures(folder, images):
    for number, image in enumerate(images):
        (folder / f"{number % 2}").mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{number % 2}" / f"{number:03}.npy", image.numpy())
    return sorted(folder.rglob("*.npy"))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"model": "mobilenetv2_050", "precision": "bf16"},
        {"model": "lenet5", "prune": "channels", "channel_fraction": 0.5},
        {"data": "phantom-skin", "model": "lenet5"},
    ],
)
def test_what_comes_back_answers_to_the_bit(tmp_path, fields):
    recipe = QUICK.but(**fields)
    record = run(recipe, store=tmp_path, keep_weights=True)
    assert record.status == "ok", record.reason
    trained, data = load_run(recipe.id, tmp_path), effml.load_dataset(recipe.data)
    kept = load_arrays(tmp_path, record.run_id)
    assert np.array_equal(trained.predict(data.test.images), kept["test_probabilities"])
    assert np.array_equal(
        trained.predict(data.test.images.numpy()[:9]).argmax(1),
        kept["test_probabilities"][:9].argmax(1),
    )
    assert not trained.model.training and trained.run_id == record.run_id
    assert (trained.classes, trained.positive) == (data.classes, data.positive)
    assert trained.preprocessing == {"size": 28, "channels": data.test.images.shape[1]}
    if data.task == "binary":
        for aim, threshold in trained.thresholds.items():
            point = operating_point(
                kept["val_probabilities"], kept["val_labels"], positive=data.positive, aim=aim
            )
            assert threshold == point.threshold
    else:
        assert np.isnan([*trained.thresholds.values()]).all() and "binary" in trained.notes[-1]


def test_without_validation_there_are_no_thresholds_and_the_reason_is_told(monkeypatch):
    arrays = {
        "val_probabilities": np.array([[0.2, 0.8], [0.6, 0.4]]),
        "val_labels": np.zeros(2, int),
    }
    for data, words in (
        (replace(DATA, val=None), "no validation split"),
        (DATA, "0 of 2 images are positive"),
    ):
        thresholds, (note,) = write.thresholds_of(data, arrays)
        assert np.isnan([*thresholds.values()]).all() and words in note


def test_a_run_is_found_by_its_beginning_and_else_the_error_says_what_to_do(store, tmp_path):
    run_id = load_run(QUICK.id, store).run_id
    assert load_run(run_id, store).run_id == load_run(run_id[:-2], store).run_id == run_id
    run(QUICK.but(seed=1), store=store, keep_weights=True)
    newest = run(QUICK, store=store, keep_weights=True)
    assert load_run(QUICK.id, store).run_id == newest.run_id
    with pytest.raises(ValueError, match=f"begins several runs.*{run_id}"):
        load_run("r", store)
    bare = sweep([QUICK.but(seed=2)], store).run_id[0]
    for asked in ("x", bare):
        words = f"no weights of a run '{asked}'.*--keep-weights.* Choose from: .*{run_id}"
        with pytest.raises(FileNotFoundError, match=words):
            load_run(asked, store)
    with pytest.raises(FileNotFoundError, match="keep_weights=True"):
        load_run("x", tmp_path)


def test_weights_that_are_not_what_the_run_left_are_refused(tmp_path):
    first, other = (run(QUICK.but(seed=s), store=tmp_path, keep_weights=True) for s in (0, 1))
    files = [tmp_path / f"{record.run_id}.safetensors" for record in (first, other)]
    files[0].write_bytes(files[1].read_bytes())
    with pytest.raises(ValueError, match="not what the run left"):
        load_run(first.run_id, tmp_path)
    files[1].unlink()
    with pytest.raises(ValueError, match="is gone, or not"):
        load_run(other.run_id, tmp_path)


def test_the_score_on_record_is_that_of_the_epoch_that_was_kept(tmp_path):
    record = run(QUICK.but(epochs=3, learning_rate=0.1, seed=1), store=tmp_path, keep_weights=True)
    scores = load_arrays(tmp_path, record.run_id)["val_score"]
    assert record.best_epoch < 3 and record.val_score == record.val_auroc == max(scores)
    assert scores[-1] < max(scores)


def test_images_of_another_kind_are_refused(store):
    trained, images = load_run(QUICK.id, store), DATA.test.images[:2]
    for wrong in (images.float(), images[:, :, :20], images[0], images.repeat(1, 3, 1, 1)):
        with pytest.raises(ValueError, match=r"takes uint8 \(N, 1, 28, 28\)"):
            trained.predict(wrong)


def test_a_sweep_that_keeps_weights_makes_up_for_a_lost_card(tmp_path):
    from effml.sweeping import pending

    run_id = sweep([QUICK], tmp_path, keep_weights=True).run_id[0]
    assert pending([QUICK], tmp_path, keep_weights=True) == []
    (tmp_path / f"{run_id}.card.json").unlink()
    assert pending([QUICK], tmp_path, keep_weights=True) == [QUICK]
    assert pending([QUICK], tmp_path) == []


def predicted(*words):
    status = main(["predict", *map(str, words)])
    with open(words[words.index("--out") + 1], encoding="utf-8", newline="") as file:
        return status, list(csv.DictReader(file))


def test_a_folder_of_pictures_gets_its_answers(store, tmp_path, reading, capsys, monkeypatch):
    monkeypatch.setattr(sys.modules["effml.experiment.predict_folder"], "BATCH", 16)
    files = pictures(tmp_path / "in", DATA.test.images[:40])
    trained = load_run(QUICK.id, store)
    out = tmp_path / "p.csv"
    status, rows = predicted(trained.run_id, tmp_path / "in", "--out", out, "--store", store)
    told = capsys.readouterr()
    assert status == 0 and "40 of 40 pictures have an answer" in told.out
    assert "padded to squares of 28 px" in told.err
    assert reading[0] == {"size": 28, "fit": "pad", "colour": "grey", "window": None}
    expected = trained.predict(files)
    names = [path.relative_to(tmp_path / "in").as_posix() for path in files]
    assert [row["file"] for row in rows] == names
    columns = [f"probability of {name}" for name in DATA.classes]
    given = np.array([[float(row[column]) for column in columns] for row in rows], "float32")
    assert np.allclose(given, expected, atol=1e-6)
    val = load_arrays(store, trained.run_id)["val_probabilities"][:, DATA.positive].astype(float)
    for column, aim in ((column, aim) for aim, column in COLUMNS.items()):
        own = trained.thresholds[aim]  # moved midway to the next lower answer, as `deploy` does
        middle = (val[val < own].max(initial=0) + val[val >= own].min()) / 2
        called = given[:, DATA.positive].astype(float) >= middle
        assert 0 < called.sum() < 40
        assert [row[column] for row in rows] == [
            DATA.classes[DATA.positive if one else 1 - DATA.positive] for one in called
        ]
    assert main(["predict", QUICK.id, str(tmp_path / "in"), "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert predicted(QUICK.id, tmp_path / "in", "--out", out, "--store", store, "--force")[0] == 0


def test_a_picture_that_cannot_be_used_has_its_reason_and_no_numbers(store, tmp_path, reading):
    pictures(tmp_path / "in", DATA.test.images[:2])
    (tmp_path / "in" / "torn.npy").write_bytes(b"no picture")
    np.save(tmp_path / "in" / "wide.npy", np.zeros((3, 28, 28), "uint8"))
    words = (QUICK.id, tmp_path / "in", "--out", tmp_path / "p.csv", "--store", store)
    status, rows = predicted(*words)
    assert status == 1 and [bool(row["reason"]) for row in rows] == [False, False, True, True]
    assert "cannot be used" in rows[2]["reason"] and "(3, 28, 28)" in rows[3]["reason"]
    assert all(
        not row[COLUMNS["youden"]] and not row["probability of " + DATA.classes[0]]
        for row in rows[2:]
    )
    (tmp_path / "none").mkdir()
    where = ["--store", str(store), "--out", str(tmp_path / "q.csv")]
    assert main(["predict", QUICK.id, str(tmp_path / "none"), *where]) == 2
    assert main(["predict", "x", str(tmp_path / "in"), *where]) == 2
    assert not (tmp_path / "q.csv").exists()


def test_an_answer_at_the_threshold_without_one_and_of_several_labels(store):
    given = {"classes": ("no", "yes"), "positive": 0}
    given["thresholds"] = {"youden": 0.25, "screening": math.nan}
    binary = replace(load_run(QUICK.id, store), **given)
    for p, answer in (([0.25, 0.75], "no"), ([0.2, 0.8], "yes")):
        told = _answered(binary, np.float32(p))
        assert [told[COLUMNS[aim]] for aim in ("youden", "screening")] == [answer, ""]
    several = replace(binary, task="multi-label", classes=("a", "b", "c"), positive=None)
    assert _answered(several, np.float32([0.5, 0.45, 0.9]))["answer"] == "a; c"


def test_the_preprocessing_of_an_import_comes_back(tmp_path, monkeypatch, reading, capsys):
    passport = {**DATA.passport, "preprocessing": HOW}
    imported = replace(DATA, passport=passport, positive=0)  # as in BreastMNIST
    monkeypatch.setattr("effml.experiment.prepare.load_dataset", lambda *_, **__: imported)
    record = run(QUICK, store=tmp_path, keep_weights=True)
    card = json.loads((tmp_path / f"{record.run_id}.card.json").read_text(encoding="utf-8"))
    trained = load_run(record.run_id, tmp_path)
    assert trained.preprocessing == card["preprocessing"] == HOW
    kept, how = load_arrays(tmp_path, record.run_id), {"task": "binary", "positive": 0}
    scores = evaluate(kept["test_probabilities"], kept["test_labels"], **how)
    assert record.test_sensitivity == scores.sensitivity and trained.positive == 0
    for aim, threshold in trained.thresholds.items():
        given = kept["val_probabilities"], kept["val_labels"]
        assert threshold == operating_point(*given, positive=0, aim=aim).threshold
    trained.predict(pictures(tmp_path / "in", DATA.test.images[:3]))
    assert reading == [HOW] * 3
    predicted(record.run_id, tmp_path / "in", "--out", tmp_path / "p.csv", "--store", tmp_path)
    assert "padded" not in capsys.readouterr().err


def test_the_command_line_keeps_weights_where_it_is_told_to(tmp_path, capsys):
    words = ["model=mlp", "epochs=1", "--store", str(tmp_path)]
    assert main(["run", *words]) == 0
    (tmp_path / "in").mkdir()
    asked = ["predict", QUICK.id, str(tmp_path / "in"), "--store", str(tmp_path)]
    assert main(asked) == 2 and "with --keep-weights" in capsys.readouterr().err
    assert main(["sweep", *words, "--keep-weights"]) == 0
    assert main(asked) == 2 and "There is no picture" in capsys.readouterr().err
    assert load_run(QUICK.id, tmp_path).task == "binary"


def test_pictures_in_answers_out(tmp_path, capsys):
    """From PNG files to an import, a run and back: what predict says of the files of the test split
    is what the run said of it."""
    from PIL import Image

    for number, (image, label) in enumerate(zip(DATA.test.images[:90, 0], DATA.test.labels)):
        folder = tmp_path / "in" / DATA.classes[int(label)]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, 3:].numpy()).save(folder / f"{number:02}.png")
    own, out = tmp_path / "own.npz", tmp_path / "p.csv"
    effml.import_folder(tmp_path / "in", own, size=24, split_by="image", positive=DATA.classes[1])
    record = run(QUICK.but(data=str(own)), store=tmp_path, keep_weights=True)
    assert record.status == "ok", record.reason
    status, rows = predicted(record.run_id, tmp_path / "in", "--out", out, "--store", tmp_path)
    assert status == 0 and len(rows) == 90 and "padded" not in capsys.readouterr().err
    said = {Path(row["file"]).name: row for row in rows}
    data = effml.load_dataset(own)
    kept = load_arrays(tmp_path, record.run_id)["test_probabilities"]
    for name, p in zip(data.test.meta["files"], kept, strict=True):
        for label, share in zip(data.classes, p):
            given = said[Path(str(name)).name][f"probability of {label}"]
            assert float(given) == pytest.approx(share, abs=1e-6)


def test_several_classes_and_masks(tmp_path, reading):
    skin = effml.load_dataset("phantom-skin")
    record = run(QUICK.but(data="phantom-skin"), store=tmp_path, keep_weights=True)
    pictures(tmp_path / "in", skin.test.images[:5])
    where = ("--out", tmp_path / "p.csv", "--store", tmp_path)
    status, rows = predicted(record.run_id, tmp_path / "in", *where)
    top = load_run(record.run_id, tmp_path).predict(sorted((tmp_path / "in").rglob("*.npy")))
    assert [row["answer"] for row in rows] == [skin.classes[k] for k in top.argmax(1)]
    assert reading[0]["colour"] == "rgb"
    masks = Recipe(data="phantom-wound", model="unet", epochs=0)
    record = run(masks, store=tmp_path, keep_weights=True)
    images = effml.load_dataset("phantom-wound").test.images[:2]
    assert load_run(record.run_id, tmp_path).predict(images).shape == (2, 28, 28)
    assert main(["predict", record.run_id, str(tmp_path / "in"), "--force", *map(str, where)]) == 2


ODD = {  # what is put in a file that is 60 × 40 px, 8-bit grey unless it says otherwise
    "plain": "",
    "=deep": "to 8 bit: 0.5th to 99.5th percentile",
    "two": "black and white to grey",
    "clear": "alpha channel left out",
    "tiny": "enlarged (Lanczos)",
    "long": "a side over 4 times the other",
}


def test_a_conversion_stands_beside_the_answer_and_a_formula_is_marked(store, tmp_path, capsys):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
    odd = {"=deep": pixels * np.uint16(200), "two": pixels > 99, "tiny": pixels[:5, :5]}
    odd |= {"clear": np.stack([pixels, pixels], 2), "long": pixels[:5].repeat(9, 1)}
    (tmp_path / "in").mkdir()
    for name in ODD:
        Image.fromarray(odd.get(name, pixels)).save(tmp_path / "in" / f"{name}.png")
    where = ("--out", tmp_path / "p.csv", "--store", store)
    status, rows = predicted(QUICK.id, tmp_path / "in", *where)
    notes = {row["file"].removesuffix(".png"): row["note"] for row in rows}
    assert status == 0 and notes.keys() == {"'=deep", *ODD} - {"=deep"} and not notes["plain"]
    assert all(words in notes[f"{chr(39) * (name[0] == '=')}{name}"] for name, words in ODD.items())
    assert "1 cell(s) that a spreadsheet may run" in capsys.readouterr().err
    skin = run(QUICK.but(data="phantom-skin"), store=tmp_path, keep_weights=True)
    where = ("--out", tmp_path / "p.csv", "--store", tmp_path, "--force")
    rows = predicted(skin.run_id, tmp_path / "in", *where)[1]
    assert rows and all("grey made RGB" in row["note"] for row in rows)


def test_what_is_asked_of_predict_and_load_run_is_checked(store, tmp_path, capsys):
    picture = tmp_path / "a.png"
    picture.write_bytes(b"x")
    for words, said in (
        (["", tmp_path, "--out", "p.csv"], "run_id is '': give record.run_id"),
        ([QUICK.id, tmp_path, "--out", picture, "--force"], "a name that ends in .csv"),
        ([QUICK.id, tmp_path, "--out", tmp_path / "p.csv"], f"outside of {tmp_path}"),
    ):
        assert main(["predict", *map(str, words), "--store", str(store)]) == 2
        assert said in capsys.readouterr().err and picture.read_bytes() == b"x"
    trained = load_run(QUICK.id, store)
    for images in (str(picture), picture, []):
        with pytest.raises(ValueError, match="give a list of one path or more"):
            trained.predict(images)
    assert trained.predict(DATA.test).shape == (len(DATA.test), 2)
    with pytest.raises(ValueError, match="run_id is a Record: give record.run_id"):
        load_run(effml.Record(QUICK), store)
    with pytest.raises(ValueError, match="recipe is a dict: give effml.Recipe"):
        run({"model": "mlp"})


def test_run_prints_a_long_reason_whole(monkeypatch, tmp_path, capsys):
    import pandas as pd

    row = pd.DataFrame([{"status": "unsupported", "precision": "fp32", "reason": "why " * 99}])
    monkeypatch.setattr("effml.__main__._swept", lambda *_: row)
    monkeypatch.setattr("argparse.Namespace.failed", 1, raising=False)
    for words in ["run"], ["run", "--all"]:
        assert main(words) == 1
        told = capsys.readouterr().out
        assert told.split().count("why") == 99 and max(map(len, told.splitlines())) <= 100
