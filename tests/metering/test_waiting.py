"""Threads that sleep beside a busy program, and else spin."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from effml.metering import waiting


@pytest.fixture
def others(monkeypatch):
    """What share of the CPU time others take, as the watcher sees it."""
    told = SimpleNamespace(share=0.0, stood=False)
    for name in waiting.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    step = 0.01
    monkeypatch.setattr(waiting, "STEP_S", step)

    def opened(used):
        def close():
            stood, share = told.stood, told.share
            seconds = step * (20 if stood else 1)
            return SimpleNamespace(seconds=seconds, own=0, busy=share * seconds * len(used))

        return close

    monkeypatch.setattr(waiting, "open_window", opened)
    return told


class Library:
    """OpenMP's, which counts the spare teams."""

    def __init__(self):
        self.teams = []

    def GOMP_parallel(self, function, data, threads, flags):
        self.teams.append(threads.value)


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP")
def test_threads_sleep_while_others_are_busy_and_spin_again(others, monkeypatch):
    import threading

    before, library = threading.active_count(), Library()
    monkeypatch.setattr(waiting.ctypes, "CDLL", lambda *_, **__: library)
    library.free = waiting.ctypes.CFUNCTYPE(None)(lambda: None)
    cpus = len(os.sched_getaffinity(0))
    with waiting.Waiting(max(cpus, 2)) as ours:
        time.sleep(0.1)
        assert ours.way == "spin" and not library.teams
        others.stood, others.share = True, 0.9  # in the other's turn nothing is concluded
        time.sleep(0.1)
        assert ours.way == "spin"
        others.stood = False
        until(lambda: library.teams)
        assert ours.way == "sleep" and max(cpus, 2) - 1 + library.teams[0] > cpus
        others.share = 0.0
        until(lambda: threading.active_count() == before + 1)  # the watcher; the team has gone
        others.share = 0.9
        until(lambda: len(library.teams) == 2)
        assert ours.way == "sleep"  # it did, if not all the time
    until(lambda: threading.active_count() == before)


def test_what_the_user_set_stands_and_one_thread_waits_for_nobody(others, monkeypatch):
    others.share = 0.9
    with waiting.Waiting(1) as one:
        time.sleep(0.05)
    assert one.way is None
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    with waiting.Waiting(2) as two:
        time.sleep(0.05)
    assert two.way == "OMP_WAIT_POLICY=passive"


def test_the_record_of_each_run_says_how_its_threads_waited(others):
    from effml import Recipe, run

    recipe = Recipe(model="mlp", data="phantom-chest", epochs=1)
    found = []
    for threads, share in ((2, 0.9), (2, 0.0), (1, 0.9)):
        others.share = share
        found.append(run(recipe.but(threads=threads)).waiting)
    gnu = sys.platform == "linux" and "libgomp" in Path("/proc/self/maps").read_text()
    assert found == (["sleep", "spin", None] if gnu else [None] * 3)


CPU_TIME = """
import os, threading, time, torch
from effml.metering import waiting
torch.set_num_threads(2)
a = torch.ones(1 << 17)
waiting.BUSY, waiting.QUIET = {busy}, -2
with waiting.Waiting(2) as w:
    a.mul_(1.0)
    while w.way == "spin" and waiting.BUSY < 0:
        time.sleep(0.01)
    time.sleep(0.5)
    start = time.process_time()
    for _ in range(60):
        a.mul_(1.0); time.sleep(0.006)
print(time.process_time() - start, w.way)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP")
def test_the_library_really_lets_threads_sleep():
    """Between two operations 6 ms apart a thread spins or sleeps: CPU seconds tell."""
    cost = {}
    for way, busy in (("spin", 9), ("sleep", -1)):
        environment = {n: v for n, v in os.environ.items() if not n.startswith(("OMP", "GOMP"))}
        command = [sys.executable, "-c", CPU_TIME.format(busy=busy)]
        told = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        seconds, said = told.stdout.split()
        if said == "None":
            pytest.skip("torch uses another OpenMP here")
        assert said == way
        cost[way] = float(seconds)
    assert cost["sleep"] < cost["spin"] / 2
