"""Runs that are ended: by a time-out, by a budget, by kill -9; and what tells of them meanwhile."""

import io
import os
import signal
import subprocess
import sys
import time

import pytest
from test_plan import Clock, record

from effml import Recipe, load_runs, sweep
from effml.__main__ import main
from effml.recipe import Record
from effml.sweeping import executors, pending, progress
from effml.sweeping.expected import Forecast
from effml.sweeping.progress import Progress
from effml.sweeping.status import status

QUICK = Recipe(model="mlp", data="phantom-chest", epochs=1, threads=1)
LONG = QUICK.but(epochs=3000)


@pytest.fixture(params=[True, False], ids=["fork", "no-fork"])
def forks(request, monkeypatch):
    if request.param and not executors.FORKS:
        pytest.skip("there is no fork on this system")
    monkeypatch.setattr(executors, "FORKS", request.param)
    monkeypatch.setattr(executors, "_idle", [])
    yield request.param
    executors.close_servers()


def test_a_time_out_is_a_record_final_up_to_its_limit_and_the_run_goes_on(
    tmp_path, monkeypatch, forks
):
    monkeypatch.setenv("EFFML_CHECKPOINT_SECONDS", "0")
    recipe, limit = LONG, 1.5
    row = sweep([recipe], tmp_path, device="cpu", timeout_s=limit).iloc[0]
    assert row.status == "timed out" and row.timeout_s == limit and "timeout_s" in row.reason
    for given, left in ((limit, []), (limit / 2, []), (2 * limit, [recipe]), (None, [recipe])):
        assert pending([recipe], tmp_path, device="cpu", timeout_s=given) == left
    if forks:
        again = sweep([recipe], tmp_path, device="cpu", timeout_s=2 * limit).iloc[0]
        assert again.status == "timed out" and again.timeout_s == 2 * limit
        assert len(list(tmp_path.glob("*.checkpoint"))) == 1
    assert sweep([QUICK], tmp_path, device="cpu", timeout_s=60).status.tolist() == ["ok"]
    with pytest.raises(ValueError, match="timeout_s=0"):
        sweep([QUICK], tmp_path, timeout_s=0)


def test_a_run_beyond_max_hours_is_ended_and_is_no_record(tmp_path, monkeypatch, forks, capfd):
    seconds = 2.0
    begun = time.monotonic()
    asked = [QUICK, LONG, LONG.but(seed=1)]
    table = sweep(asked, tmp_path, device="cpu", max_hours=seconds / 3600)
    took = time.monotonic() - begun
    assert took < 30  # of processes that start, mostly; the two need minutes each
    assert len(table) == len(load_runs(tmp_path)) <= 1 and (table.status == "ok").all()
    assert {LONG.id, LONG.but(seed=1).id} <= set(table.attrs["left_out"])
    assert "runs left out" in capfd.readouterr().err


def test_a_sweep_that_is_killed_is_told_and_its_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("EFFML_CHECKPOINT_SECONDS", "0")
    recipe, other = QUICK.but(epochs=150), QUICK.but(seed=1)
    asked = f"[effml.Recipe(**{recipe.changed}), effml.Recipe(**{other.changed})]"
    code = f"import effml; effml.sweep({asked}, {str(tmp_path)!r}, device='cpu')"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not list(tmp_path.glob("*.checkpoint")) and time.monotonic() < end:
        time.sleep(0.01)
    told = status(tmp_path, [recipe, other], [recipe, other], "cpu")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert "running" in told and "0 of 2 runs done" in told and f"process {process.pid}" in told
    assert recipe.id in told and "left        2 of 2 runs" in told
    told = status(tmp_path, None, [], "cpu")
    assert "interrupted" in told and "the same command goes on" in told and "running" not in told
    table = sweep([recipe, other], tmp_path, device="cpu")
    assert table.status.tolist() == ["ok", "ok"]
    assert 0 < table.resumed_epoch[0] < 150 and table.resumed_epoch[1] == 0
    assert not [*tmp_path.glob("*.sweep"), *tmp_path.glob("*.checkpoint")]
    assert "interrupted" not in status(tmp_path, None, [], "cpu")


def test_status_tells_failures_with_their_reasons_and_the_time_left(tmp_path):
    sweep([QUICK, QUICK.but(precision="fp16")], tmp_path, device="cpu")
    asked = [QUICK, QUICK.but(precision="fp16"), QUICK.but(seed=3), QUICK.but(model="lenet5")]
    told = status(tmp_path, asked, pending(asked, tmp_path, device="cpu"), "cpu")
    assert "1 ok, 1 unsupported" in told and "slower" in told
    assert "left        2 of 4 runs, about 0.0 min left, 1 of unknown length" in told


def test_status_tells_of_no_folder_of_torn_lines_and_of_its_shard(tmp_path, capsys):
    said = " ".join(status(tmp_path / "no", None, [], "cpu").split())
    assert f"none: there is no folder {tmp_path / 'no'}" in said
    (tmp_path / "runs-1.jsonl").write_text('{"torn\n{"again\n')
    assert "2 torn lines" in status(tmp_path, None, [], "cpu")
    words = f"sweep model=mlp seed=0,1,2 --store {tmp_path} --status --shard 1/3"
    assert main(words.split()) == 0 and "1 of 1 runs" in capsys.readouterr().out


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("screen", [True, False])
def test_a_bar_in_a_terminal_and_lines_in_a_file(monkeypatch, screen):
    stream = Screen() if screen else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    recipes = [QUICK.but(seed=seed) for seed in range(3)]
    with Progress(recipes, Forecast([], "cpu")) as progress:
        for recipe, state in zip(recipes, ("ok", "failed", "ok")):
            progress.start(recipe)
            progress.end(Record(recipe, status=state, reason="why"), 60.0)
    said = stream.getvalue()
    assert ("now mlp on phantom-chest" in said) == screen
    assert ("[1/3] mlp on phantom-chest, fp32, seed 0: ok" in said) != screen
    assert "[2/3] mlp on phantom-chest, fp32, seed 1: failed (why)" in said


def test_the_start_of_the_process_is_not_expected_of_every_run(monkeypatch, capsys):
    """0.5 s a run, and five more of the first for the process that does it."""
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    recipes = [QUICK.but(seed=seed) for seed in range(241)]
    with Progress(recipes, Forecast([], "cpu")) as told:
        for recipe, seconds in zip(recipes, (5.5, 0.5)):
            clock.sleep(seconds)
            ends = {name: record(recipe, 0.4)[name] for name in ("started_utc", "finished_utc")}
            told.end(Record(recipe, status="ok", **ends), seconds)
    assert "2.0 min left" in capsys.readouterr().err.splitlines()[0]
