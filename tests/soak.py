"""`python -m tests.soak [KILLS]`: sweeps are killed (kill -9) at random moments, and then no record
that was finished may be lost, none may be there twice, and no torn line may be read.

One sweep alone, two at once on one store, and two shards whose files are copied together meanwhile;
of each, every fifth with real runs, the others with runs that take a hundredth of a second, so that
the moments are near the writing.
"""

import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from effml.results import load_runs, read_records

SWEEP = """
import sys, effml
from effml.sweeping import executors, plan

store, shard, server, runs = sys.argv[1:]
recipes = effml.grid(effml.Recipe(model="mlp", epochs=1, threads=1), seed=range(int(runs)))
if server:
    answer = {"status": "ok", "data_sha256": plan._sha256(recipes[0]), "device": "cpu"}
    executors.SERVER[:] = [sys.executable, "-c", server, effml.machine.json.dumps(answer)]
effml.sweep(recipes, store, device="cpu", shard=shard)
"""

SERVER = """
import os, sys, time
for line in sys.stdin:
    time.sleep(0.01)
    try:
        print(sys.argv[1], flush=True)
    except BrokenPipeError:  # the sweep was killed
        os._exit(1)
"""

COPY = """
import shutil, sys
from pathlib import Path

*stores, to = map(Path, sys.argv[1:])
to.mkdir(exist_ok=True)
for store in stores:
    for file in store.glob("*.jsonl"):
        shutil.copy(file, to)
"""

RUNS = {True: 12, False: 150}
"""Of a sweep: real ones, and fast ones."""

LAST = {True: 6.0, False: 2.0}
"""Seconds after which a kill comes at the latest."""


class Store:
    """A folder with what is known of it."""

    def __init__(self, folder: Path, real: bool, shard: str = "1/1") -> None:
        self.folder, self.real, self.shard = folder, real, shard
        self.finished: set[int] = set()
        self.killed = 0

    def sweep(self) -> subprocess.Popen:
        words = [str(self.folder), self.shard, "" if self.real else SERVER, str(RUNS[self.real])]
        command = [sys.executable, "-c", SWEEP, *words]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def check(self, *ended: subprocess.Popen) -> None:
        """What these sweeps told is there, and all that was there before; each once."""
        for process in ended:
            told = process.communicate()[1]
            assert "Traceback" not in told, told
            self.finished |= {int(seed) for seed in re.findall(r"seed (\d+): ok", told)}
            self.killed += process.returncode != 0
        rows, unreadable = read_records(self.folder)
        seeds = [row["seed"] for row in rows]
        assert len({*seeds}) == len(seeds), (
            f"twice: {sorted(s for s in seeds if seeds.count(s) > 1)}"
        )
        assert self.finished <= {*seeds}, f"lost: {self.finished - {*seeds}}"
        assert unreadable <= self.killed, f"{unreadable} torn lines after {self.killed} kills"
        assert all(row["status"] == "ok" and row["finished_utc"] for row in rows)
        self.finished = {*seeds}

    def complete(self, expected: set[int]) -> None:
        """Nobody kills the last sweep."""
        self.check(last := self.sweep())
        assert last.returncode == 0 and self.finished == expected


def alone(folder: Path, real: bool, kills: int, rng: random.Random) -> None:
    """One sweep after the other."""
    store = Store(folder, real)
    for _ in range(kills):
        process = store.sweep()
        _wait(rng, real)
        process.kill()
        store.check(process)
    store.complete({*range(RUNS[real])})


def two(folder: Path, real: bool, kills: int, rng: random.Random) -> None:
    """Two at once on one store; the second kill comes while the next is beside it."""
    store = Store(folder, real)
    first, second = store.sweep(), store.sweep()
    for _ in range(kills):
        _wait(rng, real)
        first.kill()
        store.check(first)
        first, second = second, store.sweep()
    store.check(first, second)
    store.complete({*range(RUNS[real])})


def merge(folder: Path, real: bool, kills: int, rng: random.Random) -> None:
    """Two shards, each with its store, and their files copied into a third; one of the three is
    killed."""
    stores = [Store(folder / name, real, shard) for name, shard in (("a", "1/2"), ("b", "2/2"))]
    command = [sys.executable, "-c", COPY, *(str(store.folder) for store in stores)]
    copies = Store(folder / "c", real)
    for _ in range(kills):
        sweeps = [store.sweep() for store in stores]
        _wait(rng, real)
        copy = subprocess.Popen([*command, str(copies.folder)])
        time.sleep(0.05 * rng.random())  # a Python that starts, and one that copies
        rng.choice([*sweeps, copy]).kill()
        copy.wait()
        for process in sweeps:
            process.kill()
        for store, process in zip(stores, sweeps):
            store.check(process)
        copies.killed += 3
        copies.finished = set()  # a copy that was killed may lack what it had: it is made again
        copies.check()
    for store in stores:
        store.check(store.sweep())
    subprocess.run([*command, str(copies.folder)], check=True)
    copies.check()
    assert copies.finished == {*range(RUNS[real])} == {*load_runs(copies.folder).seed}


def _wait(rng: random.Random, real: bool) -> None:
    time.sleep(LAST[real] * rng.random())


CASES = (alone, two, merge)


def soak(kills: int, seed: int = 0, real: bool = True) -> None:
    """So many kills, a third of them of each case; a store is new after a few."""
    rng, done = random.Random(seed), 0
    while done < kills:
        for case in CASES:
            some = min(4, kills - done)
            with tempfile.TemporaryDirectory() as folder:
                slow = real and done % 20 >= 16
                case(Path(folder), slow, some, rng)
            done += some
            print(f"{done} of {kills} kills: {case.__name__}{', real runs' * slow}: ok", flush=True)


if __name__ == "__main__":
    began = time.monotonic()
    soak(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
    print(f"nothing lost, nothing twice, no torn line read; {time.monotonic() - began:.0f} s")
