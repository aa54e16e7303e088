"""From a run to a folder that answers without torch and without a network, or refuses in words."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from importlib import import_module
from importlib._bootstrap_external import _code_to_timestamp_pyc
from importlib.util import cache_from_source
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import effml
from effml import Recipe, deploy, import_folder, load_dataset, load_run
from effml.__main__ import main
from effml.deployment import bundle, ladder, predict_template
from effml.deployment.gate import Row, _row
from effml.deployment.predict_template import COLUMNS, Deployed, answered, in_the_picture, safe
from effml.deployment.repeating import examples
from effml.experiment.predict_folder import midway
from effml.experiment.trained_model import TrainedModel

EXACT = {"rungs": ["openvino"]}
BLOCKED = """
import socket, sys
def refuse(*given, **more):
    with open({log!r}, "a") as file:  # who asks may swallow the error
        print(given, file=file)
    raise RuntimeError("a socket was asked for")
class Refused(socket.socket):
    __init__ = refuse
socket.socket, socket.getaddrinfo = Refused, refuse
for name in ("torch", "timm", "effml", "pandas", "scipy", "nncf", "onnx", {more}):
    sys.modules[name] = None
"""


def noise(seed, sides, channels=1, bits=8):
    few = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    picture = Image.fromarray(few).resize(sides, Image.Resampling.BICUBIC)
    pixels = np.asarray(picture if channels == 3 else picture.convert("L"))
    return Image.fromarray(pixels if bits == 8 else pixels.astype(np.uint16) * 180)


def imported(folder, size, channels, bits, **options):
    """An .npz of 60 pictures of noise, the ill ones with a bright corner."""
    for i in range(60):
        pixels = np.array(noise(i, (50 + i % 9, 70), channels, bits))
        if i % 2:
            pixels[:20, :20] = pixels.max()
        place = folder / "p" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{i}.png")
    how = {"split_by": "image", "fractions": (0.4, 0.4, 0.2), "positive": "b", "size": size}
    import_folder(folder / "p", folder / "x.npz", **how | options)
    return folder / "x.npz"


def run(folder, data, **fields):
    recipe = Recipe(data=str(data), model="lenet5", threads=1).but(**fields)
    record = effml.run(recipe, store=folder / "store", keep_weights=True)
    assert record.status == "ok", record.reason
    return record.run_id, folder / "store"


def program(folder, *words, more="", bytecode=False):
    """predict.py in a process of its own, which has neither effml nor torch nor sockets."""
    blocked = folder.parent / f"blocked{bool(more)}"
    blocked.mkdir(exist_ok=True)
    log = blocked / "asked"
    (blocked / "sitecustomize.py").write_text(BLOCKED.format(more=more, log=str(log)))
    env = {"PYTHONPATH": str(blocked), "PATH": os.environ["PATH"]}
    env |= {} if bytecode else {"PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "predict.py", *map(str, words)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert not log.exists(), log.read_text()
    return done


def rows_of(file):
    with open(file, encoding="utf-8", newline="") as opened:
        return {row["file"]: row for row in csv.DictReader(opened)}


@pytest.fixture(scope="module", autouse=True)
def short():
    """Times are measured, but not long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ladder, "SECONDS", 0.05)
        patch.setattr(ladder, "WARMUP", 0)
        yield


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """An imported set of grey pictures, its run, and its deployed folder."""
    folder = tmp_path_factory.mktemp("grey")
    data = imported(folder, 28, 1, 8)
    run_id, store = run(folder, data, epochs=1)
    return folder, load_run(run_id, store), deploy(run_id, folder / "out", store=store, **EXACT)


FAST = {"epochs": 3, "batch_size": 8, "learning_rate": 3e-3}
KINDS = {  # pixels, channels, bits, options of the import
    "28 px, 16 bits": (28, 1, 16, {}),
    "64 px, 16 bits, window": (64, 1, 16, {"window": (900.0, 40000.0), "fit": "stretch"}),
    "64 px, RGB": (64, 3, 8, {"fit": "stretch"}),
    "224 px": (224, 1, 8, {"colour": "grey"}),
    "224 px, RGB": (224, 3, 8, {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_any_size_and_mode_get_the_answers_of_the_run(tmp_path, kind):
    size, channels, bits, options = KINDS[kind]
    run_id, store = run(tmp_path, imported(tmp_path, size, channels, bits, **options), **FAST)
    made, trained = deploy(run_id, tmp_path / "out", store=store, **EXACT), load_run(run_id, store)
    new = tmp_path / "new"
    new.mkdir()
    for i, sides in enumerate([(28, 28), (64, 64), (224, 224), (300, 120), (17, 40)]):
        noise(90 + i, sides, 3).save(new / f"rgb{i}.png")
        noise(90 + i, sides).save(new / f"grey{i}.png")
        noise(90 + i, sides, bits=16).save(new / f"deep{i}.png")
    noise(99, (80, 60), 3).save(new / "a.jpg")
    done = program(made.folder, new, "--out", tmp_path / "a.csv")
    refuses = options.get("colour") != "grey" and channels == 1
    assert done.returncode == refuses, done.stderr
    rows, manifest = (
        rows_of(tmp_path / "a.csv"),
        json.loads((made.folder / "manifest.json").read_text()),
    )
    deployed = Deployed(made.folder)
    assert len(rows) == 16
    for name, row in rows.items():
        if row["reason"]:
            assert refuses and (name.startswith("rgb") or name == "a.jpg")
            assert row["reason"] == "it is in colour, those of the import were grey"
            continue
        assert (deployed.read(new / name, [])[0] == trained.read(new / name)).all()
        (p,) = trained.predict([new / name])
        mine = [float(row[f"probability of {c}"]) for c in trained.classes]
        assert np.abs(p - mine).max() <= manifest["tolerance"] / 10, name
        for aim, least in manifest["thresholds"].items():
            if abs(p[trained.positive] - least) > 1e-5:
                called = p[trained.positive] >= least
                assert row[COLUMNS[aim]] == trained.classes[trained.positive ^ (not called)]


def test_thresholds_part_the_validation_images_as_the_run_did_and_a_rounding_changes_nothing(grey):
    folder, trained, made = grey
    manifest = json.loads((made.folder / "manifest.json").read_text())
    kept = effml.load_arrays(folder / "store", trained.run_id)["val_probabilities"]
    p = kept[:, trained.positive].astype(float)
    assert set(manifest["thresholds"]) == {"youden", "screening"}
    for aim, cut in manifest["thresholds"].items():
        called = p >= trained.thresholds[aim]
        assert p[~called].max(initial=0) < cut < p[called].min() == trained.thresholds[aim]
        assert cut == pytest.approx((p[~called].max(initial=0) + p[called].min()) / 2)
        for off in (0, 1e-7, -1e-7):
            assert ((p + off >= cut) == called).all()
        assert ((p - 1e-7 >= trained.thresholds[aim]) != called).any()  # the run's own does not
    rows = {row["measure"]: row for row in manifest["gate"]["rows"]}
    assert rows["sensitivity at screening"]["value"] >= 0.95


def test_both_programs_answer_at_the_same_thresholds_and_say_so(grey, tmp_path, capsys):
    folder, trained, made = grey
    cuts = json.loads((made.folder / "manifest.json").read_text())["thresholds"]
    run_id, store = trained.run_id, folder / "store"
    (tmp_path / "p").mkdir()
    noise(3, (90, 50)).save(tmp_path / "p" / "a.png")
    between = np.array([1 - cuts["youden"], cuts["youden"]]) + [-1e-9, 1e-9]
    assert between[1] < trained.thresholds["youden"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainedModel, "predict", lambda *_: between[None])
        words = ["predict", run_id, str(tmp_path / "p"), "--store", str(store)]
        assert main([*words, "--out", str(tmp_path / "o.csv")]) == 0
    told = "Thresholds were moved to the middle between the validation probabilities that they part"
    both = "by `effml predict` and `effml deploy` alike: youden "
    assert told in (said := capsys.readouterr().err) and both in said
    row = rows_of(tmp_path / "o.csv")["a.png"]
    manifest = json.loads((made.folder / "manifest.json").read_text())
    fits = (manifest[x] for x in ("task", "classes", "positive", "thresholds"))
    assert row["answer at youden"] == answered(between, *fits)["answer at youden"] == "b"
    assert told in manifest["thresholds_note"] and both in manifest["thresholds_note"]


def test_where_no_validation_probability_was_kept_the_thresholds_stay_and_this_is_said(grey):
    folder, trained, _ = grey
    same, told = midway(replace(trained, run_id="another"), folder / "store")
    assert same.thresholds == trained.thresholds and "Thresholds are the run's own" in told
    val = load_dataset(folder / "x.npz").val
    moved = [
        midway(replace(trained, run_id=name), folder / "store", val)[0].thresholds
        for name in ("another", trained.run_id)
    ]
    assert moved[0] == pytest.approx(moved[1], abs=1e-6)


def test_the_answers_in_the_record_come_out_again(grey):
    folder, trained, made = grey
    kept = effml.load_arrays(folder / "store", trained.run_id)["test_probabilities"]
    deployed = Deployed(made.folder, 1)
    p = deployed.predict(load_dataset(folder / "x.npz").test.images.numpy())
    assert np.abs(p - kept).max() < 1e-5 < deployed.manifest["tolerance"]


def test_without_openvino_onnx_runtime_answers(grey, tmp_path):
    _, trained, made = grey
    noise(1, (90, 50)).save(tmp_path / "a.png")
    done = program(made.folder, tmp_path, "--out", made.folder.parent / "o.csv", more='"openvino",')
    assert done.returncode == 0 and "by onnxruntime, f32" in done.stdout, done.stderr
    (row,) = rows_of(made.folder.parent / "o.csv").values()
    (p,) = trained.predict([tmp_path / "a.png"])
    assert float(row["probability of a"]) == pytest.approx(p[0], abs=1e-5)
    assert (
        "All is well"
        in (
            again := program(
                made.folder,
                "--verify",
                "--images",
                made.folder.parent / "x.npz",
                more='"openvino",',
            )
        ).stdout
    ), again
    none = program(made.folder, tmp_path, more='"openvino", "onnxruntime",')
    assert none.returncode == 2 and "pip install -r requirements.txt" in none.stderr


def test_a_picture_that_cannot_be_read_is_named_and_not_guessed(grey, tmp_path):
    _, _, made = grey
    pictures = tmp_path / "p"
    pictures.mkdir()
    noise(1, (90, 50)).save(pictures / "=a.png")
    (pictures / "b.png").write_text("no picture")
    Image.new("L", (30, 30), 7).save(pictures / "c.png")
    (pictures / "d.nii.gz").write_bytes(b"\x1f\x8b a volume")
    done = program(made.folder, pictures, "--out", tmp_path / "a.csv")
    rows = rows_of(tmp_path / "a.csv")
    assert "no PNG" in rows["d.nii.gz"]["reason"]
    assert done.returncode == 1 and "1 of 4 pictures have an answer" in done.stdout
    assert "no answer for b.png: it starts with 'no pictu'" in done.stderr
    assert rows["c.png"]["reason"] == "all its pixels have the same value"
    assert rows["'=a.png"]["probability of a"] and not rows["b.png"]["probability of a"]
    assert program(made.folder, pictures, "--out", tmp_path / "a.csv").returncode == 2
    assert program(made.folder, pictures, "--out", pictures / "a.csv").returncode == 2
    assert "There is no folder" in program(made.folder, tmp_path / "gone", "--force").stderr
    for threads in (-3, 0):
        done = program(made.folder, pictures, "--threads", threads)
        assert done.returncode == 2 and f"--threads {threads}: give 1 or more" in done.stderr


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def swapped(folder):
    shutil.copy(folder / "model.onnx", folder / "model.bin")


def edited(name, **changes):
    def do(folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest[name] |= changes
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return do


DAMAGES = {
    "a bit of model.bin": (lambda f: flip(f / "model.bin"), "model.bin is not the file that was"),
    "another file": (swapped, "model.bin is not the file that was deployed"),
    "a part": (
        lambda f: flip(f / "parts" / "grey.py"),
        "grey.py is not the file|a part is damaged .* Copy the whole folder again",
    ),
    "a name in a part": (
        lambda f: (f / "parts" / "grey.py").write_text("import numpy as np\nnp.gone\n"),
        "grey.py is not the file|a part is damaged .* Copy the whole folder again",
    ),
    "a threshold": (lambda f: flip(f / "card.json"), "card.json is not the file"),
    "an example": (lambda f: next(f.glob("examples/*")).unlink(), "is missing. Copy the whole"),
    "another threshold": (edited("thresholds", youden=0.9), "different things of thresholds"),
    "no number": (edited("thresholds", youden=float("nan")), "different things of thresholds"),
    "a text": (edited("thresholds", youden="abc"), "different things of thresholds"),
    "another way": (edited("preprocessing", fit="stretch"), "different things of preprocessing"),
    "no parts": (lambda f: shutil.rmtree(f / "parts"), "is missing. Copy the whole folder again"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "is no deployed model"),
    "half a manifest": (
        lambda f: (f / "manifest.json").write_text((f / "manifest.json").read_text()[:900]),
        "manifest.json is damaged",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused(grey, tmp_path, damage, capsys):
    _, _, made = grey
    folder = Path(shutil.copytree(made.folder, tmp_path / "out"))
    assert main(["deploy", "--check", str(folder)]) == 0
    assert f"fingerprint {made.fingerprint}" in capsys.readouterr().out
    do, words = DAMAGES[damage]
    do(folder)
    assert main(["deploy", "--check", str(folder)]) == 2
    assert re.search(words, capsys.readouterr().err)
    done = program(folder, tmp_path)
    assert done.returncode and re.search(words, done.stderr), done.stderr
    assert "Traceback" not in done.stderr


def test_foreign_files_are_named_and_never_imported(grey, tmp_path, capsys):
    folder = Path(shutil.copytree(grey[2].folder, tmp_path / "out"))
    noise(1, (90, 50)).save(tmp_path / "a.png")
    (folder / "predictions.csv").touch()
    assert main(["deploy", "--check", str(folder)]) == 0 and capsys.readouterr()
    (folder / "extra.txt").touch()
    assert main(["deploy", "--check", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "note  extra.txt: not of the deployment" in said and "All is well" in said
    for name in ("numpy.py", "json.py", "parts/extra.py"):
        (folder / name).write_text("raise SystemExit('foreign')")
    assert main(["deploy", "--check", str(folder)]) == 1
    said = capsys.readouterr().out
    assert "FAILS json.py, numpy.py, parts/extra.py: not of the deployment" in said
    assert "It FAILS here" in said and "All is well" not in said
    assert program(folder, tmp_path, "--out", tmp_path.parent / "f.csv").returncode == 0


def bytecode(file, code):
    """A .pyc of `code` that Python takes for that of `file`."""
    pyc = Path(cache_from_source(str(file)))
    pyc.parent.mkdir(exist_ok=True)
    told = file.stat()
    head = _code_to_timestamp_pyc(compile(code, str(file), "exec"), told.st_mtime, told.st_size)
    pyc.write_bytes(head)
    return pyc


def test_bytecode_libraries_and_folders_beside_the_parts_are_named_and_never_run(
    grey, tmp_path, capsys
):
    folder = Path(shutil.copytree(grey[2].folder, tmp_path / "out"))
    noise(1, (90, 50)).save(tmp_path / "a.png")
    words = tmp_path, "--out", tmp_path.parent / "pyc.csv"
    assert program(folder, *words, "--force", bytecode=True).returncode == 0
    assert not [*folder.rglob("*.pyc")]  # nor written
    pyc = bytecode(folder / "parts" / "grey.py", "raise SystemExit('foreign')")
    (folder / "parts" / "square").mkdir()
    (folder / "parts" / "square" / "__init__.py").write_text("raise SystemExit('foreign')")
    (folder / "parts" / "gate.so").touch()
    done = program(folder, *words, "--force")
    assert done.returncode == 0, done.stderr
    named = f"FAILS parts/__pycache__/{pyc.name}, parts/gate.so, parts/square/__init__.py: not of"
    assert main(["deploy", "--check", str(folder)]) == 1 and named in capsys.readouterr().out
    again = program(folder, "--verify", "--images", grey[0] / "x.npz")
    assert again.returncode == 1 and named in again.stdout, again.stderr


def test_no_cell_is_a_formula():
    row = {"file": "=a.png", "probability of -b": "0.5", "answer": "=1+2", "note": ""}
    assert safe(rows := [row, {"file": "b.png", "answer": "b"}]) == 2
    assert rows[0] == row == {**row, "file": "'=a.png", "answer": "'=1+2"}


class Faint(nn.Module):
    """Has an answer of its own for images without contrast, which no image here gets."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(784, 2)

    def forward(self, x):
        logits = self.last(x.flatten(1))
        return logits * 0 if x.std() < 1e-3 else logits


def test_a_branch_that_would_be_lost_is_refused_unless_it_is_allowed(grey, tmp_path):
    recipe = Recipe(data=str(grey[0] / "x.npz"), epochs=1, threads=1)
    record = effml.run(recipe, store=tmp_path, keep_weights=True, model=Faint())
    how = {"store": tmp_path, "model": Faint(), **EXACT}
    with pytest.raises(ValueError, match=r"only the branch .*deploy\(…, branches=True\)"):
        deploy(record.run_id, tmp_path / "out", **how)
    made = deploy(record.run_id, tmp_path / "out", branches=True, **how)
    assert "only the branch that the example takes" in made.log[-1].reason
    assert "only the branch that the example takes" in (made.folder / "card.md").read_text()


def test_the_gate_is_repeated_on_the_machine_where_it_runs(grey, tmp_path):
    folder, _, made = grey
    assert "images" not in np.load(made.folder / "gate.npz")
    asked = program(made.folder, "--verify")
    assert asked.returncode == 2 and "--images DATA.npz" in asked.stderr
    done = program(made.folder, "--verify", "--images", folder / "x.npz")
    assert done.returncode == 0 and "All is well" in done.stdout, done.stderr
    assert f"fingerprint {made.fingerprint}" in done.stdout
    assert (
        done.stdout.count("ok    examples/") == 3 and "ok    sensitivity at youden" in done.stdout
    )
    arrays = dict(np.load(folder / "x.npz"))
    arrays["val_images"] = 255 - arrays["val_images"]
    np.savez(tmp_path / "y.npz", **arrays)
    other = program(made.folder, "--verify", "--images", tmp_path / "y.npz")
    assert other.returncode == 2 and "images are not in" in other.stderr
    (tmp_path / "table.csv").write_text("a,b")
    none = program(made.folder, "--verify", "--images", tmp_path / "table.csv")
    assert none.returncode == 2 and "is no .npz that can be read" in none.stderr


def test_a_machine_that_computes_otherwise_fails(grey, monkeypatch, capsys):
    folder, _, made = grey
    right = predict_template.probabilities
    monkeypatch.setattr(predict_template, "probabilities", lambda x, task: right(x * -1, task))
    words = ["--verify", "--images", str(folder / "x.npz")]
    assert predict_template.main(words, made.folder) == 1
    told = capsys.readouterr().out
    assert "FAILS examples/grey.png" in told and "FAILS auroc -" in told
    assert "do not use this model on this machine" in told


def test_a_golden_answer_that_is_off_fails_and_so_does_a_picture_read_otherwise(
    grey, monkeypatch, capsys
):
    deployed = Deployed(grey[2].folder)
    deployed.manifest["examples"]["examples/grey.png"]["pixels"] = "others"
    assert examples(deployed, grey[2].folder) == 1
    assert "FAILS examples/grey.png: other pixels here" in capsys.readouterr().out
    right = predict_template.probabilities
    monkeypatch.setattr(predict_template, "probabilities", lambda x, task: right(x, task) + 0.002)
    assert examples(deployed, grey[2].folder) == 3
    assert "FAILS examples/grey-small.png: 0.002 off, 0.001 allowed" in capsys.readouterr().out


@pytest.mark.parametrize("task", ["binary", "multi-label", "segmentation"])
def test_an_output_that_is_no_number_gives_no_answer(task):
    for odd in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not all finite numbers: do not use it here"):
            predict_template.probabilities(np.array([[0.0, 1.0], [0.0, odd]]), task)


def test_the_gate_alone_can_fail(grey, monkeypatch, capsys):
    true = Deployed.predict
    reverse = lambda self, x: true(self, x)[:, :: 1 if len(x) == 1 else -1]  # noqa: E731
    monkeypatch.setattr(Deployed, "predict", reverse)
    words = ["--verify", "--images", str(grey[0] / "x.npz")]
    assert predict_template.main(words, grey[2].folder) == 1
    told = capsys.readouterr().out
    assert told.count("ok    examples/") == 3 and "FAILS auroc -" in told


def test_simulated_images_go_along_and_private_ones_only_where_asked(grey, tmp_path, capsys):
    folder, trained, _ = grey
    words = ["deploy", trained.run_id, "--out", str(tmp_path / "out"), "--images"]
    words += [
        "--store",
        str(folder / "store"),
        "--margin",
        *"agreement=0.5 auroc=0.9 ece=0.9".split(),
    ]
    assert main([*words, "sensitivity=0.9", "worst_class=0.9"]) == 0
    assert "read card.md there first" in (told := capsys.readouterr().out)
    assert "openvino_int8" in told and re.search("fingerprint [0-9a-f]{64}", told)
    assert "as private as they are" in (tmp_path / "out" / "card.md").read_text()
    done = program(tmp_path / "out", "--verify")
    assert done.returncode == 0, done.stdout + done.stderr
    for row in json.loads((tmp_path / "out" / "manifest.json").read_text())["gate"]["rows"]:
        assert f"ok    {Row(**row)}" in done.stdout
    assert main(words) == 2 and "is there already" in capsys.readouterr().err
    assert main(["deploy", trained.run_id]) == 2 and main([*words[:4], "--margin", "x=1"]) == 2
    assert main([*words[:4], "--margin", "sensitivity=0,05"]) == 2
    assert "sensitivity=0,05: could not convert" in capsys.readouterr().err


def test_a_margin_that_is_too_narrow_is_told_with_its_option(monkeypatch, capsys):
    row = _row("agreement", (1, 0.9, -0.1, -0.2, 0.1), 0.05, n=20)

    def refused(*_, **__):
        raise ValueError(f"No rung passes the gate: {row}")

    monkeypatch.setattr(import_module("effml.experiment.deploy"), "deploy", refused)
    assert main("deploy r --out o".split()) == 2
    assert "or a wider one by --margin NAME=LOSS)" in capsys.readouterr().err


def test_what_the_graph_says_and_does_by_itself(grey):
    import openvino as ov

    _, trained, made = grey
    core = ov.Core()
    model = core.read_model(made.folder / "model.xml")
    about = {name: model.get_rt_info(["effml", name]).value for name in ("classes", "run_id")}
    assert about == {"classes": "a b", "run_id": trained.run_id} or about["classes"] == ["a", "b"]
    cuts = json.loads((made.folder / "manifest.json").read_text())["thresholds"]
    assert f"youden: {cuts['youden']}" in str(model.get_rt_info(["effml", "thresholds"]).value)
    picture = noise(5, (90, 90))
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    small = np.asarray(picture.resize((28, 28), Image.Resampling.BILINEAR))
    raw, ready = (np.asarray(x)[None, ..., None] for x in (picture, small))
    assert np.allclose(compiled(raw)[0], compiled(ready)[0], atol=0.02)
    session = predict_template.by_onnxruntime(made.folder, 1)
    assert np.allclose(session(raw), compiled(raw)[0], atol=0.02)
    assert np.allclose(session(ready), compiled(ready)[0], atol=1e-5)


def test_the_card_says_what_a_reader_must_know(grey):
    _, trained, made = grey
    text, told = (
        (made.folder / "card.md").read_text(),
        json.loads((made.folder / "card.json").read_text()),
    )
    ill = trained.classes[trained.positive]
    worst = trained.classes[int(told["test"]["youden"]["worst_class"])]
    assert text.count(f"| positive | {ill} |") == 2 and f"| worst class | {worst} | " in text
    for part in ("Intended use", "Data", "Quality on the test images", "By class", "Calibration"):
        assert f"\n## {part}\n" in text
    assert told["test"]["youden"]["n"] == len(load_dataset(grey[0] / "x.npz").test)
    for words in (
        "Research use only",
        "What compression changed",
        "train energy",
        "stops accidents",
    ):
        assert words in text
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert "gate.npz holds no image, but of each validation image its label" in text.lower()
    assert "Thresholds were moved to the middle" in text
    assert told["facts"]["gate"] == manifest["gate"] and len(told["ladder"]) == 1
    assert set(told["test"]) == {"youden", "screening (sensitivity ≥ 0.95 on validation)"}
    assert told["card"]["tags"][-1] == "research-use-only" and "model-index:" in text
    for file in ("card.md", "card.json", "manifest.json", "model.xml"):
        assert str(made.folder.parent) not in (made.folder / file).read_text()


def test_the_program_takes_nothing_of_effml_along_but_its_parts(grey):
    for file in (*grey[2].folder.glob("*.py"), *grey[2].folder.glob("parts/*.py")):
        assert not re.search(r"^\s*(from|import) effml", file.read_text(), re.M), file


def multi(folder, labels):
    rng = np.random.default_rng(0)
    arrays = {"label_names": np.array(["x", "y", "z"])}
    for split, n in (("train", 40), ("val", 40), ("test", 20)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, 28, 28), np.uint8)
        arrays[f"{split}_labels"] = labels(rng, n)
    np.savez(folder / "x.npz", **arrays)
    return folder / "x.npz"


@pytest.mark.parametrize(
    "task, labels",
    [
        ("multi-class", lambda rng, n: np.arange(n)[:, None] % 3),
        ("multi-label", lambda rng, n: (rng.random((n, 3)) < 0.4).astype(np.uint8)),
    ],
)
def test_several_classes_and_several_labels(tmp_path, task, labels):
    run_id, store = run(tmp_path, multi(tmp_path, labels), epochs=1)
    made, trained = deploy(run_id, tmp_path / "out", store=store, **EXACT), load_run(run_id, store)
    assert trained.task == task
    (tmp_path / "p").mkdir()
    noise(1, (90, 50)).save(tmp_path / "p" / "a.png")
    done = program(made.folder, tmp_path / "p", "--out", tmp_path / "a.csv")
    assert done.returncode == 0, done.stderr
    (row,) = rows_of(tmp_path / "a.csv").values()
    (p,) = trained.predict([tmp_path / "p" / "a.png"])
    assert [float(row[f"probability of {c}"]) for c in "xyz"] == pytest.approx(p.tolist(), abs=1e-5)
    right = "; ".join(np.array([*"xyz"])[p >= 0.5]) if task == "multi-label" else "xyz"[p.argmax()]
    assert row["answer"] == right
    done = program(made.folder, "--verify", "--images", tmp_path / "x.npz")
    assert done.returncode == 0, done.stdout + done.stderr


def outlined(folder):
    """Bright squares on noise, in colour, with their masks."""
    rng, arrays = np.random.default_rng(0), {"label_names": np.array(["background", "ulcer"])}
    for split, n in (("train", 24), ("val", 24), ("test", 6)):
        images, masks = rng.integers(0, 90, (n, 32, 32, 3)), np.zeros((n, 32, 32), np.uint8)
        for mask, (y, x) in zip(masks, rng.integers(2, 16, (n, 2))):
            mask[y : y + 12, x : x + 12] = 1
        arrays[f"{split}_images"] = np.uint8(images + 120 * masks[..., None])
        arrays[f"{split}_masks"] = masks
    np.savez(folder / "x.npz", **arrays)
    return folder / "x.npz"


def test_masks_lie_on_the_picture_as_it_is(tmp_path):
    data = outlined(tmp_path)
    run_id, store = run(tmp_path, data, model="unet", **FAST)
    made, trained = deploy(run_id, tmp_path / "out", store=store, **EXACT), load_run(run_id, store)
    test = load_dataset(data).test.images
    (tmp_path / "p").mkdir()
    Image.fromarray(test[0].permute(1, 2, 0).numpy()).save(tmp_path / "p" / "a.png")
    noise(4, (60, 100), 3).save(tmp_path / "p" / "b.png")
    done = program(made.folder, tmp_path / "p", "--out", tmp_path / "m.csv")
    assert done.returncode == 0, done.stderr
    rows, masks = rows_of(tmp_path / "m.csv"), tmp_path / "m_masks"
    first, other = (np.asarray(Image.open(masks / f"{name}.png.png")) for name in "ab")
    p = trained.predict(test[:1])[0].astype(np.float32)
    sure = np.abs(p - 0.5) > 0.01
    assert first.shape == (32, 32) and ((first == 255) == (p >= 0.5))[sure].all()
    assert float(rows["a.png"]["share of ulcer"]) == pytest.approx((first == 255).mean())
    assert other.shape == (100, 60) and rows["a.png"]["mask"] == str(masks / "a.png.png")
    done = program(made.folder, "--verify", "--images", data)
    assert done.returncode == 0 and "dice of the worst tenth" in done.stdout, done.stdout
    assert "| dice |" in (made.folder / "card.md").read_text()


def test_a_mask_goes_back_to_where_the_picture_was():
    p = np.zeros((8, 8), np.float32)
    p[:, 2:4] = 1  # a picture of 4 × 8 px lies in columns 2 to 6
    found = in_the_picture(p, (8, 16), {"size": 8, "fit": "pad"})
    assert found.shape == (16, 8) and (found[:, :3] > 0.5).all() and (found[:, 5:] < 0.5).all()
    halved = in_the_picture(p[::2, ::2], (8, 16), {"size": 8, "fit": "pad"})  # of 4 px, from 8
    assert halved.shape == (16, 8) and ((halved > 0.5) == (found > 0.5))[:, 1:-1].all()
    stretched = in_the_picture(p, (80, 16), {"size": 8, "fit": "stretch"})
    assert stretched.shape == (16, 80) and (stretched[:, 22:38] > 0.5).all()


def test_what_cannot_be_deployed_is_refused_in_words(grey, tmp_path):
    folder, trained, made = grey
    store = folder / "store"
    with pytest.raises(FileExistsError, match="new folder"):
        deploy(trained.run_id, made.folder, store=store)
    with pytest.raises(ValueError, match="choose rungs of OpenVINO"):
        deploy(trained.run_id, tmp_path / "x", store=store, rungs=["onnxruntime"])
    with pytest.raises(FileNotFoundError, match="keeps no weights"):
        deploy("no-such-run", tmp_path / "x", store=store)
    parts = dict(np.load(multi(tmp_path, lambda rng, n: np.arange(n)[:, None] % 2)))
    np.savez(tmp_path / "x.npz", **{k: v for k, v in parts.items() if not k.startswith("val")})
    run_id, store = run(tmp_path, tmp_path / "x.npz", epochs=1)
    with pytest.raises(ValueError, match="no validation images"):
        deploy(run_id, tmp_path / "y", store=store)
    run_id, store = run(tmp_path, "phantom-brain3d", size=16, model="unet3d", epochs=0)
    with pytest.raises(ValueError, match="takes volumes, deploy so far pictures"):
        deploy(run_id, tmp_path / "y", store=store)
    assert not (tmp_path / "y").exists() and not [*tmp_path.glob(".y*")]


@pytest.mark.parametrize(
    "engine, one, told",
    [
        ("by_openvino", True, "openvino with one thread gives answers that are 0.5 off"),
        ("by_openvino", False, "openvino with several threads gives answers that are 0.5 off"),
        ("by_onnxruntime", True, "model.onnx gives answers that are 0.5 off"),
    ],
)
def test_a_file_that_answers_otherwise_is_not_deployed(
    grey, tmp_path, monkeypatch, engine, one, told
):
    folder, trained, _ = grey
    true = getattr(bundle, engine)

    def wrong(*given):
        logits, off = true(*given), (given[-1] == 1) == one
        return lambda x: logits(x) + np.array([0.0, 9.0]) * off

    monkeypatch.setattr(bundle, engine, wrong)
    with pytest.raises(ValueError, match=told):
        deploy(trained.run_id, tmp_path / "out", store=folder / "store", **EXACT)
    assert not (tmp_path / "out").exists()


class Asked(Exception):
    """What the ladder is given."""


def asked(monkeypatch, run_id, store):
    def climb(model, example, calibration, images, labels, **judged):
        raise Asked(calibration, images, labels, judged)

    monkeypatch.setattr(import_module("effml.experiment.deploy"), "climb", climb)
    with pytest.raises(Asked) as caught:
        deploy(run_id, store.parent / "asked", store=store)
    return caught.value.args


def test_8_bits_are_calibrated_on_images_that_were_learned_from_and_judged_on_validation(
    grey, tmp_path, monkeypatch
):
    data = grey[0] / "x.npz"
    run_id, store = run(tmp_path, data, epochs=1, selection="random", train_fraction=0.5)
    calibration, images, labels, judged = asked(monkeypatch, run_id, store)
    kept = effml.load_arrays(store, run_id)["train_index"]
    train, val = (getattr(load_dataset(data), split) for split in ("train", "val"))
    learned = train.images[kept].flatten(1).tolist()
    assert len(kept) == len(train) // 2
    assert sorted(calibration.flatten(1).tolist()) == sorted(learned)
    assert (images == val.images).all() and (labels == val.labels.numpy()).all()
    assert judged["thresholds"].keys() == {"youden", "screening"} and judged["groups"] is None


def test_of_masks_the_gate_knows_the_patients(tmp_path, monkeypatch):
    arrays = dict(np.load(outlined(tmp_path)))
    for split in ("train", "val", "test"):
        n = len(arrays[f"{split}_images"])
        arrays[f"{split}_groups"] = np.array([f"{split}{i // 2}" for i in range(n)])
    np.savez(tmp_path / "x.npz", **arrays)
    run_id, store = run(tmp_path, tmp_path / "x.npz", model="unet", epochs=0)
    _, images, masks, judged = asked(monkeypatch, run_id, store)
    assert judged["groups"].tolist() == arrays["val_groups"].tolist()
    assert (masks == arrays["val_masks"]).all() and len(images) == len(masks)


def test_the_manifest_tells_of_the_rung_that_ships(grey, tmp_path, monkeypatch):
    def reversed_answers(model, example, calibration=None, **how):
        model = deepcopy(model)
        with torch.no_grad():
            for weights in [*model.parameters()][-2:]:
                weights *= -1
        return effml.RUNTIMES["openvino"](model, example, **how)

    monkeypatch.setitem(effml.RUNTIMES, "openvino_reversed", reversed_answers)
    folder, trained, _ = grey
    how = {"store": folder / "store", "rungs": ["openvino_reversed", "openvino"]}
    made = deploy(trained.run_id, tmp_path / "out", **how)
    assert [rung.ships for rung in made.log] == [False, True]
    rows = Deployed(made.folder).manifest["gate"]["rows"]
    assert {row["verdict"] for row in rows} == {"equal"}


def test_other_data_than_the_run_s_are_refused(tmp_path):
    parts = dict(np.load(multi(tmp_path, lambda rng, n: np.arange(n)[:, None] % 2)))
    run_id, store = run(tmp_path, tmp_path / "x.npz", epochs=0)
    np.savez(tmp_path / "x.npz", **parts | {"val_images": 255 - parts["val_images"]})
    with pytest.raises(ValueError, match="are not those that the run learned from"):
        deploy(run_id, tmp_path / "out", store=store, **EXACT)
