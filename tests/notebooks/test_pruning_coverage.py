"""The table of what channel pruning works on: rows for what works, for what does not, and for what
takes too long."""

import csv
import math
from pathlib import Path

import pytest
import torch
from torch import nn

import pruning_coverage as room
from pruning_coverage import COLUMNS, coverage, reference, row

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv2_050", "lenet5"])
def test_small_architectures_work(name):
    found = row(name, 0.5, 32)
    assert found["works"] and found["why"] == "" and found["size"] == 32
    assert 0.2 < found["params"] < 0.5
    assert found["macs"] < 0.6
    assert found["latency"] > 0
    assert found["difference"] < 1e-4


def test_what_fails_is_a_row_with_the_reason(monkeypatch):
    assert row("no_such_model")["works"] is False and "Unknown model" in row("no_such_model")["why"]
    whole = nn.Sequential(nn.Flatten(), nn.Linear(1024, 3))
    monkeypatch.setattr(room, "build_model", lambda name, classes, size: whole)
    found = row("hopeless", 0.5, 32)
    assert found["works"] is False and found["why"].startswith("It keeps 100% of its parameters")
    monkeypatch.setattr(room, "build_model", lambda name, classes, size: nn.Conv2d(2, 2, 3))
    assert "expected input" in row("hopeless", 0.5, 32)["why"]


def test_outputs_that_differ_from_disk_or_lost_gradients_are_no_success(monkeypatch):
    class Blocked(torch.autograd.Function):
        forward = staticmethod(lambda ctx, x: x.clone())
        backward = staticmethod(lambda ctx, grad: grad * math.nan)

    good = room.COMPRESSORS["channels"]

    def broken(model, keep, *, example):
        small, report = good(model, keep, example=example)
        small.register_forward_hook(lambda module, inputs, output: Blocked.apply(output))
        return small, report

    monkeypatch.setattr(room, "COMPRESSORS", {"channels": broken})
    assert row("lenet5", 0.5, 28)["why"] == "Gradients are not finite."
    assert not row("lenet5", 0.5, 28)["works"]
    monkeypatch.setattr(room, "COMPRESSORS", {"channels": good})
    monkeypatch.setattr(
        room, "load_compressed", lambda file: nn.Sequential(nn.Flatten(), nn.Linear(784, 3))
    )
    assert row("lenet5", 0.5, 28)["why"] == "From disk it has other outputs."


def test_a_table_has_a_row_for_all_and_a_time_out_is_one():
    table = coverage(["lenet5"], size=28, timeout=100)
    assert list(table.columns) == list(COLUMNS)
    assert table.name.tolist() == ["lenet5"] and table.works.tolist() == [True]
    late = coverage(["lenet5", "mlp"], timeout=0.05)
    assert late.name.tolist() == ["lenet5", "mlp"] and not late.works.any()
    assert set(late.why) == {"It took longer than 0.05 s."}


def test_the_stored_table_is_the_pepr_list_and_says_why_what_does_not_work():
    table = reference()
    assert list(table.columns) == list(COLUMNS) and len(table) == table.name.nunique() == 131
    assert table.works.sum() >= 110 and (table.why[~table.works] != "").all()
    done = table[table.works]
    assert (done.params <= room.SMALLER).all()
    assert done.macs.notna().all()
    assert done.seconds.max() < 600
    file = Path(__file__).parents[2] / "results" / "reference" / "coverage.csv"
    assert len(list(csv.reader(file.read_text().splitlines()))) == 132
