"""A bench on a machine that others use says that its ratios are none."""

import subprocess
import sys

import pytest

from bench import common
from bench.common import machine_in_words, share_of_others, watched
from effml.metering.window import Window


def test_others_are_who_is_neither_this_process_nor_one_below_it(monkeypatch):
    monkeypatch.setattr(common.os, "cpu_count", lambda: 2)
    window = Window(seconds=10, own=5, busy=20)
    assert share_of_others(window, children=3) == pytest.approx(12 / 20)
    assert share_of_others(window, children=16) == 0


@pytest.mark.parametrize("when", [None, "before", "during", "after"])
def test_a_busy_machine_is_marked_and_an_idle_one_is_not(when, monkeypatch, capsys):
    at_rest = iter([0.4 if when == moment else 0.05 for moment in ("before", "after")])
    monkeypatch.setattr(common, "_others_at_rest", lambda seconds: next(at_rest))
    during = 0.4 if when == "during" else 0.05
    monkeypatch.setattr(common, "share_of_others", lambda window, children: during)
    shares = watched(lambda: print("2.0×"))
    said = capsys.readouterr().out
    assert list(shares) == ["before", "during", "after"] and "2.0×" in said
    assert said.rstrip().endswith("2.0×") == (when is None)
    if when:
        assert said.count("ratios above are none") == 1 and f"40% {when}" in said
    assert ("BUSY MACHINE" in said.partition("2.0×")[0]) == (when == "before")


def test_a_process_below_this_one_counts_as_ours():
    spin = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    command = [sys.executable, "-c", f"{spin}\nprint(1, flush=True); input()"]
    before = common._of_children()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert common._of_children() - before >= 0.25
        child.communicate(b"\n")


def test_the_machine_is_named_with_what_is_emulated(monkeypatch):
    for name in common.EMULATION:
        monkeypatch.delenv(name, raising=False)
    assert "nothing emulated" in machine_in_words()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    said = machine_in_words()
    assert "(ONEDNN_MAX_CPU_ISA=AVX2)" in said
    for part in ("torch 2.", " threads", "in force", " CPUs"):
        assert part in said
