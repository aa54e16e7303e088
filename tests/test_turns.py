"""Runs that take turns."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from effml import Recipe
from effml.sweeping import executors

pytestmark = pytest.mark.skipif(not executors.FORKS, reason="turns are for Linux")


def stopped(process):
    return Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


@pytest.fixture
def sleepers(monkeypatch, tmp_path):
    """Three processes that do nothing, and locks that no other test has."""
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    with ExitStack() as stack:
        ends = [
            stack.enter_context(subprocess.Popen(["sleep", "60"])) for _ in range(3)
        ]
        yield ends
        for end in ends:
            end.kill()


def rotate(everyone, steps):
    for _ in range(steps):
        for turns in everyone:
            turns.next()


def test_one_runs_at_a_time_each_gets_its_turn_and_at_the_end_all_run(sleepers):
    from effml.sweeping.turns import Turns

    with ExitStack() as stack:
        everyone = [stack.enter_context(Turns(p.pid, True)) for p in sleepers]
        assert all(map(stopped, sleepers))  # none begins before it has a turn
        seen = []
        for _ in range(30):
            for turns in everyone:
                turns.next()
                running = [i for i, p in enumerate(sleepers) if not stopped(p)]
                assert len(running) <= 1
                seen += running
        assert {*seen} == {0, 1, 2} and max(map(seen.count, seen)) < 0.6 * len(seen)
    assert not any(map(stopped, sleepers))
    assert all(turns.stood_s > 0 for turns in everyone)


def test_who_is_alone_keeps_its_turn_and_a_dead_ones_is_free(sleepers):
    from effml.sweeping.turns import SLICE_S, Turns

    code = (
        "import sys, tempfile; from effml.sweeping.turns import Turns\n"
        f"tempfile.gettempdir = lambda: {tempfile.gettempdir()!r}\n"
        f"turns = Turns({sleepers[0].pid}, True).__enter__(); turns.next()\n"
        "print(turns.stood_s, flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    holder = subprocess.Popen([sys.executable, "-c", code], **pipes)
    assert holder.stdout.readline()
    with Turns(sleepers[1].pid, True) as turns:
        turns.next(), turns.next()
        assert stopped(sleepers[1])
        holder.kill(), holder.wait()
        assert turns.next() == SLICE_S and not stopped(sleepers[1])
        assert [turns.next() for _ in range(3)] == [SLICE_S] * 3 and not stopped(sleepers[1])
    holder.stdin.close(), holder.stdout.close()


def test_what_fits_side_by_side_or_is_on_a_gpu_takes_no_turns(sleepers, monkeypatch):
    from effml.sweeping import turns

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    needed = [turns.needs_turns(threads, "cpu") for threads in (1, 2, 3, 4)]
    assert needed == [False, False, True, True] and not turns.needs_turns(4, "cuda")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert not turns.needs_turns(1, "cpu")  # one thread waits for none
    with turns.Turns(sleepers[0].pid, False) as none:
        assert none.next() is None and not stopped(sleepers[0])


def test_a_run_that_stood_still_says_so_and_its_numbers_are_the_same(tmp_path, monkeypatch):
    """The choice is each run's own: the same server did a run of one thread before."""
    from effml import sweep
    from effml.sweeping.turns import Turns

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(executors, "_idle", [])
    base = Recipe(model="mlp", data="phantom-chest", epochs=1)
    one = sweep([base.but(threads=1)], tmp_path / "a").iloc[0]
    assert one.turns_seconds == 0 and one.waiting != one.waiting or one.waiting is None
    with subprocess.Popen(["sleep", "60"]) as other, Turns(other.pid, True) as turns:
        turns.next()  # this test has the CPUs
        recipe, cpus = base.but(threads=len(os.sched_getaffinity(0)) + 1), tmp_path / "b"
        job = {"recipe": recipe.to_dict(), "device": "cpu", "store": str(cpus), "folder": "."}
        server = executors._idle[0]
        line = json.dumps(job | {"keep_weights": False, "environment": {}})
        server._process.stdin.write(line + "\n")
        server._process.stdin.flush()
        time.sleep(0.3)
        while turns.next() != 0.002:  # till the other run stands in the queue, and has the turn
            time.sleep(0.01)
        fcntl_free(turns)
        other.send_signal(signal.SIGKILL)
        record = json.loads(server._process.stdout.readline())
    executors.close_servers()
    assert record["status"] == "ok" and record["turns_seconds"] > 0.2
    assert record["waiting"] in ("spin", "sleep", None)


def fcntl_free(turns):
    """Who waits next must not be this test, which is busy reading."""
    os.close(turns._queue), os.close(turns._turn)
    turns.needed = False
