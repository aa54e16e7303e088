"""Runs on clusters: Dask's workers, of which some are killed, and submitit's jobs."""

import json
import os
import subprocess
import sys
from argparse import Namespace
from collections import Counter
from concurrent.futures import Future

import pytest

from effml import Recipe, grid, load_runs, sweep
from effml.__main__ import main
from effml.results import read_records
from effml.sweeping import clusters, executors, pending, plan
from effml.sweeping.clusters import executor_of, slurm
from soak import kills

QUICK = Recipe(model="mlp", data="phantom-chest", epochs=1)
FORKS = pytest.mark.skipif(not executors.FORKS, reason="there is no fork on this system")

SERVER = """
import json, os, signal, sys

for line in sys.stdin:
    job = json.loads(line)
    seed = job["recipe"]["seed"]
    with open("started", "a") as file:
        file.write(f"{seed}\\n")
    times = open("started").read().split().count(str(seed))
    if seed == 5 and times == 1 or seed == 39:  # in the middle of a run, the worker is killed
        os.kill(os.getppid(), signal.SIGKILL)
        sys.stdin.read()
        os._exit(1)
    print(json.dumps(job["answer"] | {"run_id": f"{seed}-{times}"}), flush=True)
"""

DASK = """
import dask, distributed, effml, json, sys
from effml.sweeping import executors, plan

class Fake(distributed.WorkerPlugin):  # all is real but the run itself
    def setup(self, worker):
        executors.SERVER[:] = [sys.executable, "server.py"]

def told(function, job, answer=json.loads(sys.argv[1])):
    return function({**job, "answer": answer})

class Teller:
    def __init__(self, client):
        self.client = client

    def submit(self, function, job):
        return self.client.submit(told, function, job)

if __name__ == "__main__":
    dask.config.set({"distributed.scheduler.allowed-failures": 1})
    how = dict(n_workers=3, threads_per_worker=1, dashboard_address=None, memory_limit=0)
    with distributed.LocalCluster(**how) as cluster, distributed.Client(cluster) as client:
        client.register_plugin(Fake())
        recipes = effml.grid(effml.Recipe(), seed=range(40))
        for part in recipes[:39], recipes:
            effml.sweep(part, "store", executor=Teller(client), device="cpu", in_flight=3)
"""


@FORKS
def test_of_40_runs_on_three_dask_workers_that_are_killed_each_is_recorded_once(tmp_path):
    """The run that ends its worker once is done elsewhere; one that always does is a failure."""
    pytest.importorskip("distributed", reason="pip install 'effml[cluster]'")
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "d.py").write_text(DASK)
    asked = Recipe().but(seed=39)
    answer = {"status": "ok", "data_sha256": plan._sha256(asked), "device": "cpu"}
    command = [sys.executable, "d.py", json.dumps(answer)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    rows, unreadable = read_records(tmp_path / "store")
    assert sorted(row["seed"] for row in rows) == list(range(40)) and unreadable == 0
    by_seed = {row["seed"]: row for row in rows}
    assert by_seed.pop(39)["reason"].startswith("KilledWorker: ")
    assert {row["status"] for row in by_seed.values()} == {"ok"}
    times = Counter((tmp_path / "started").read_text().split())
    assert times["5"] == 2 and by_seed[5]["run_id"] == "5-2" and times["39"] == 2
    assert pending([asked, asked.but(seed=5)], tmp_path / "store", device="cpu") == [asked]


@FORKS
def test_two_shards_into_one_folder_are_the_whole(tmp_path, monkeypatch, capsys):
    words = f"sweep model=mlp,lenet5 seed=0,1,2,3,4 --store {tmp_path / 's'} --device cpu --shard"
    answer = {"status": "ok", "data_sha256": plan._sha256(Recipe()), "device": "cpu"}
    fast = [sys.executable, "-c", kills.SERVER, json.dumps(answer)]
    monkeypatch.setattr(executors, "SERVER", fast)
    monkeypatch.setattr(executors, "_idle", [])
    for shard in ("1/2", "2/2"):
        assert main([*words.split(), shard]) == 0
    executors.close_servers()
    runs = load_runs(tmp_path / "s")
    asked = grid(Recipe(), model=["mlp", "lenet5"], seed=range(5))
    assert sorted(runs.recipe_id) == sorted(recipe.id for recipe in asked)
    assert pending(asked, tmp_path / "s", device="cpu") == []


def test_jobs_are_cancelled_when_their_sweep_is_interrupted(tmp_path):
    class Never(Future):
        def done(self):
            if len(submitted) == 3:
                raise KeyboardInterrupt
            return False

    class Slow:
        def submit(self, function, job):
            submitted.append(Never())
            return submitted[-1]

    submitted = []
    with pytest.raises(KeyboardInterrupt):
        sweep(grid(QUICK, seed=range(5)), tmp_path, executor=Slow(), device="cpu")
    assert len(submitted) == 3 and all(future.cancelled() for future in submitted)
    assert list(tmp_path.iterdir()) == []  # no empty file, no lock


def test_a_worker_without_the_store_is_told(tmp_path, monkeypatch):
    class Elsewhere:
        """Its workers see another disk."""

        def submit(self, function, job):
            return executors.Here().submit(function, {**job, "store": str(tmp_path / "mine")})

    (tmp_path / "mine").mkdir()  # a folder of that name is there, too
    row = sweep([QUICK], tmp_path / "store", executor=Elsewhere(), device="cpu").iloc[0]
    assert row.status == "failed" and "lacks the store" in row.reason
    assert "use a disk that all share" in row.reason
    assert list((tmp_path / "mine").iterdir()) == []


def test_each_job_of_slurm_is_a_run(tmp_path, monkeypatch, capsys):
    """By submitit's executor of this machine."""
    pytest.importorskip("submitit", reason="pip install 'effml[cluster]'")
    monkeypatch.chdir(tmp_path)
    words = "sweep model=mlp epochs=1 --store s --device cpu --slurm cluster=local,time=5"
    assert main(words.split()) == 0
    assert load_runs("s").status.tolist() == ["ok"] and list((tmp_path / "s/slurm").glob("*.out"))


def test_what_is_wrong_with_a_cluster_is_told(tmp_path, monkeypatch):
    def asked(**flags):
        with executor_of(Namespace(store=str(tmp_path), **flags)) as how:
            return how

    assert asked() == {}
    with pytest.raises(ValueError, match="Give --workers or --slurm, not both"):
        asked(workers=2, slurm="time=5")
    with pytest.raises(ValueError, match="give 1 or more"):
        asked(workers=0)
    monkeypatch.setenv("PATH", "")
    for words, error, told in (
        ("partition=gpu", ValueError, "give time=MINUTES"),
        ("time=1h", ValueError, "time=1h: give a whole number"),
        ("hours=1", ValueError, "Unknown part of --slurm 'hours'. Choose from: time, partition"),
        ("time=60", FileNotFoundError, "needs sbatch"),
    ):
        with pytest.raises(error, match=told):
            slurm(words, tmp_path)


def test_a_scheduler_that_does_not_answer_is_said_soon(tmp_path, monkeypatch, capsys):
    pytest.importorskip("distributed", reason="pip install 'effml[cluster]'")
    monkeypatch.setattr(clusters, "ANSWER_S", 1)
    given = Namespace(store=str(tmp_path), scheduler="tcp://127.0.0.1:9")
    with pytest.raises(OSError, match="none answers there .*dask scheduler"), executor_of(given):
        pass
    assert "waiting for the scheduler tcp://127.0.0.1:9, 1 s" in capsys.readouterr().err


@FORKS
def test_the_words_for_slurm_are_those_of_submitit(tmp_path, monkeypatch):
    submitit = pytest.importorskip("submitit", reason="pip install 'effml[cluster]'")
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho Submitted batch job 1\n")
    for name in ("srun", "sbatch"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    words = "time=60,partition=gpu,cpus=4,gpus=1,memory=16,account=lab,qos=low,jobs=3"
    how = slurm(words, tmp_path / "logs")
    assert how["in_flight"] == 3 and isinstance(how["executor"], submitit.AutoExecutor)
    how["executor"].submit(print)
    [script] = (tmp_path / "logs").glob("*submission.sh")
    lines = script.read_text()
    for line in (
        "--time=60",
        "--partition=gpu",
        "--cpus-per-task=4",
        "--gpus-per-node=1",
        "--mem=16GB",
        "--account=lab",
        "--qos=low",
        "--job-name=effml",
    ):
        assert f"#SBATCH {line}\n" in lines, lines
