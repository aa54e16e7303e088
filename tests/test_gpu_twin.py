"""The twin of `python -m tests.gpu` on a CPU: every path that a CPU has, and a run of the grid."""

import re
from argparse import Namespace

import pytest

import selvan
from effml import load_runs
from tests.gpu import __main__ as gpu


def test_the_twin_runs_every_path_and_writes_its_records(tmp_path, capsys):
    given = ["--device", "cpu", "--minutes", "1", "--epochs", "1", "--size", "28", "--most", "1"]
    assert gpu.main([*given, "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert told == (tmp_path / "report.txt").read_text(encoding="utf-8")
    kinds = re.findall(r"^ *[\d.]+ s  (ok|skipped|FAILED) ", told, re.M)
    assert kinds.count("ok") > 20 and "FAILED" not in kinds
    runs = load_runs(tmp_path)
    assert runs.status.tolist() == ["ok"] and runs.model.tolist() == ["mlp"]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".jsonl", ".txt"]


def test_a_path_that_fails_is_told_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    def broken(place):
        raise RuntimeError("no such\nkernel")

    monkeypatch.setattr(gpu, "paths", lambda: [("a", broken), ("b", lambda place: "fine")])
    given = ["--device", "cpu", "--minutes", "0", "--out", str(tmp_path), "--most", "0"]
    assert gpu.main(given) == 1
    lines = capsys.readouterr().out
    assert "FAILED  a: RuntimeError: no such kernel (test_gpu_twin.py:" in lines
    assert "ok      b: fine" in lines and "1 ok, 0 skipped, 1 FAILED" in lines


def test_the_grid_is_that_of_the_paper_cheapest_first_and_stops_in_time(tmp_path, monkeypatch):
    recipes = gpu.recipes(Namespace(grid="selvan", device="cuda", size=64, epochs=None))
    assert len({recipe.id for recipe in recipes}) == 5 * 5 * 3
    assert {(r.precision, r.optimizer) for r in recipes} == {
        ("fp32", "adam"),
        ("amp_fp16", "adam"),
        ("fp32", "adam8bit"),
        ("fp16", "adam8bit"),
        ("amp_fp16", "adam8bit"),
    }
    known = selvan.MODELS["gpu"]
    assert [r.model for r in recipes[::15]] == [known[name] for name in gpu.MODELS]
    assert {*recipes} == {*selvan.grid(known, protocol="gpu", data=recipes[0].data)}
    assert [r.seed for r in recipes[:15:5]] == [1, 10, 100]
    protocol = recipes[0].stopping, recipes[0].size, recipes[0].epochs, recipes[0].learning_rate
    assert protocol == ("selvan2023", 64, 50, 1e-3) and recipes[15].learning_rate == 3e-4
    monkeypatch.setattr(gpu, "paths", lambda: [])
    gpu.main(["--device", "cpu", "--minutes", "-1", "--out", str(tmp_path)])
    assert "no time for mlp: 0 of 75" in (tmp_path / "report.txt").read_text(encoding="utf-8")


def test_the_grid_of_pepr_skips_no_failure_and_goes_on(tmp_path, monkeypatch, capsys):
    """Three of its runs, the second of which fails: a record, and the third is done."""
    recipes = gpu.alone("pepr/own.py").gpu(epochs=1)
    assert [*{r.model for r in recipes}] and {r.precision for r in recipes} == {"fp32"}
    few = [r.but(data="phantom-chest", epochs=1) for r in recipes[:3]]
    few[1] = few[1].but(weights="no.safetensors")
    monkeypatch.setattr(gpu, "recipes", lambda given: few)
    given = ["--grid", "pepr", "--device", "cpu", "--minutes", "5", "--out", str(tmp_path)]
    assert gpu.main(given) == 0
    assert load_runs(tmp_path).status.tolist() == ["ok", "weights unavailable", "ok"]
    told = capsys.readouterr().out
    assert "all 3 runs done" in told and "optimizer" not in told


def test_without_a_gpu_it_says_what_to_do(tmp_path, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("here is one")
    assert gpu.main(["--out", str(tmp_path)]) == 2 and "--device cpu" in capsys.readouterr().err


def test_a_scaled_step_of_float16_is_skipped_once_and_then_taken(monkeypatch):
    """The path that only a GPU takes, with float16 on this CPU, which torch can and effml refuses:
    its gradients must be small enough that the second step does not overflow too."""
    monkeypatch.setattr("effml.precision.Arithmetic.__post_init__", lambda self: None)
    told = gpu.scaler(gpu.Place("cpu:0"))
    assert told == "scale 65536 → 32768 after an overflow, which took no step"
