"""Runs that take turns."""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pandas
import pytest

from effml.metering.waiting import SETTINGS
from effml.sweeping import executors

pytestmark = pytest.mark.skipif(not executors.FORKS, reason="turns are for Linux")


def stopped(process):
    return Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


def becomes(condition):
    """Signals take a moment."""
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


@pytest.fixture
def sleepers(monkeypatch, tmp_path):
    """Three processes that do nothing, and locks that no other test has."""
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    with ExitStack() as stack:
        ends = [stack.enter_context(subprocess.Popen(["sleep", "60"])) for _ in range(3)]
        yield ends
        for end in ends:
            end.kill()


def test_one_runs_at_a_time_each_gets_its_turn_and_at_the_end_all_run(sleepers):
    from effml.sweeping.turns import SLICE_S, Turns

    with ExitStack() as stack:
        everyone = [stack.enter_context(Turns(p.pid, True)) for p in sleepers]
        # none begins before it has a turn
        assert becomes(lambda: all(map(stopped, sleepers)))
        seen = []
        for _ in range(30):
            for turns, process in zip(everyone, sleepers):
                if turns.next() == SLICE_S:
                    seen.append(process)
                    assert becomes(lambda: [p for p in sleepers if not stopped(p)] == [process])
        assert {*seen} == {*sleepers} and max(map(seen.count, seen)) < 0.6 * len(seen)
    assert becomes(lambda: not any(map(stopped, sleepers)))
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
        assert becomes(lambda: stopped(sleepers[1]))
        holder.kill(), holder.wait()
        assert [turns.next() for _ in range(4)] == [SLICE_S] * 4
        assert becomes(lambda: not stopped(sleepers[1]))
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


@pytest.fixture
def own_server(monkeypatch, tmp_path):
    """A server whose locks no other test has."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(executors, "_idle", [])
    yield
    executors.close_servers()


def test_a_run_that_waited_says_so_and_its_numbers_are_the_same(tmp_path, monkeypatch, own_server):
    """The choice is each run's own: the same server did a run of one thread before."""
    from effml import Recipe, sweep
    from effml.sweeping.turns import open_locks

    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    base = Recipe(model="mlp", data="phantom-chest", epochs=1)
    full = base.but(threads=len(os.sched_getaffinity(0)) + 1)
    turn, queue = open_locks()
    fcntl.flock(turn, fcntl.LOCK_EX)  # as another run has it
    one = sweep([base.but(threads=1)], tmp_path / "a").iloc[0]
    assert one.turns_seconds == 0 and pandas.isna(one.waiting)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(sweep, [full], tmp_path / "a")
        end = time.monotonic() + 60
        while _free(queue) and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.3)
        assert not waiting.done()
        fcntl.flock(turn, fcntl.LOCK_UN)
        row = waiting.result(timeout=120).iloc[0]
    os.close(turn), os.close(queue)
    alone = sweep([full], tmp_path / "b").iloc[0]
    assert row.status == "ok" and row.turns_seconds > 0.3
    assert row.test_auroc == alone.test_auroc and row.waiting in ("spin", "sleep")


def _free(lock):
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(lock, fcntl.LOCK_UN)
    return True


def test_runs_that_were_on_a_machine_together_know_it_both(monkeypatch, tmp_path):
    """A process each: one begins before, in the middle or after the other, or dies."""
    code = (
        "import sys, tempfile; from effml.sweeping.turns import Company\n"
        f"tempfile.gettempdir = lambda: {str(tmp_path)!r}\n"
        "with Company() as company:\n"
        "    print(company.met(), flush=True); sys.stdin.readline(); print(company.met())\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}

    def begin():
        run = subprocess.Popen([sys.executable, "-c", code], **pipes)
        return run, run.stdout.readline().strip()

    def end(run):
        return run.communicate("\n")[0].strip()

    first, alone = begin()
    assert alone == "False"
    second, met = begin()
    assert met == "True" and end(second) == "True"
    third, met = begin()  # the second has gone
    assert met == "True"
    assert end(first) == "True" and end(third) == "True"
    fourth, alone = begin()
    assert alone == "False" and end(fourth) == "False"
    killed, _ = begin()
    killed.kill(), killed.communicate()
    fifth, alone = begin()
    assert alone == "False" and end(fifth) == "False"


def test_a_record_says_whether_another_run_was_on_its_machine(tmp_path, own_server):
    """Beside a run that never ends; then alone."""
    from effml import Recipe, sweep
    from effml.results import had_company

    hold = (
        "import sys; from effml.sweeping.turns import Company\n"
        "with Company(): print(flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    recipe = Recipe(model="mlp", data="phantom-chest", epochs=1, threads=1)
    with subprocess.Popen([sys.executable, "-c", hold], **pipes) as other:
        other.stdout.readline()
        beside = sweep([recipe], tmp_path / "a")
        other.communicate()
    alone = sweep([recipe], tmp_path / "b")
    assert beside.shared_machine.tolist() == [1] and alone.shared_machine.tolist() == [0]
    idle = pandas.concat([beside, alone]).assign(shared=0)
    assert had_company(idle).tolist() == [True, False]
    assert had_company(alone.assign(shared=1)).tolist() == [True]
    assert had_company(alone[["model"]]).tolist() == [False]  # an old record does not say
