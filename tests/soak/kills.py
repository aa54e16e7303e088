"""`python -m tests.soak kills [KILLS [SEED]]`: sweeps are killed (kill -9) at random moments, and then no record
that was finished may be lost, none may be there twice, and no torn line may be read.

One sweep alone, two at once on one store, and two shards whose files are copied together meanwhile;
of each, every fifth with real runs, the others with runs that take a hundredth of a second, so that
the moments are near the writing.
"""

import json
import multiprocessing
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from multiprocessing import Process
from pathlib import Path

from effml import Recipe, grid, load_runs, sweep
from effml.results import read_records
from effml.sweeping import executors, plan

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

QUICK = Recipe(model="mlp", epochs=1, threads=1)

RUNS = {True: 12, False: 120}
"""Of a sweep: real ones, and fast ones."""

LAST = {True: 6.0, False: 1.0}
"""Seconds after which a kill comes at the latest."""


class Store:
    """A folder with what is known of it."""

    def __init__(self, folder: Path, real: bool, shard: str = "1/1") -> None:
        self.folder, self.real, self.shard = folder, real, shard
        self.finished: set[int] = set()
        self.killed = self.torn = 0

    def sweep(self) -> Process:
        """A fork sweeps: importing torch would take it longer than all else."""
        process = multiprocessing.get_context("fork").Process(target=self._sweep)
        process.start()
        return process

    def _sweep(self) -> None:
        recipes = grid(QUICK, seed=range(RUNS[self.real]))
        if not self.real:
            answer = {"status": "ok", "data_sha256": plan._sha256(QUICK), "device": "cpu"}
            executors.SERVER[:] = [sys.executable, "-c", SERVER, json.dumps(answer)]
        self.folder.parent.mkdir(exist_ok=True)
        with open(self._told(os.getpid()), "w", encoding="utf-8", buffering=1) as sys.stderr:
            sweep(recipes, self.folder, device="cpu", shard=self.shard)

    def _told(self, pid: int) -> Path:
        return self.folder.with_name(f"{self.folder.name}-{pid}.txt")

    def check(self, *ended: Process) -> None:
        """What these sweeps told is there, and all that was there before; each once."""
        for process in ended:
            process.join()
            told = self._told(process.pid)
            text = told.read_text(encoding="utf-8") if told.exists() else ""
            self.finished |= {int(seed) for seed in re.findall(r"seed (\d+): ok", text)}
            assert process.exitcode in (0, -9), text
            self.killed += process.exitcode == -9
        rows, unreadable = read_records(self.folder)
        seeds = [row["seed"] for row in rows]
        assert len({*seeds}) == len(seeds), (
            f"twice: {sorted(s for s in seeds if seeds.count(s) > 1)}"
        )
        assert self.finished <= {*seeds}, f"lost: {self.finished - {*seeds}}"
        assert unreadable <= self.torn + self.killed, f"{unreadable} torn lines"
        assert all(row["status"] == "ok" and row["finished_utc"] for row in rows)
        self.finished = {*seeds}

    def complete(self, expected: set[int]) -> None:
        """Nobody kills the last sweep."""
        self.check(last := self.sweep())
        assert last.exitcode == 0 and self.finished == expected


def alone(folder: Path, real: bool, kills: int, rng: random.Random) -> int:
    """One sweep after the other. Returns, as the others do, how many it killed."""
    store = Store(folder, real)
    for _ in range(kills):
        process = store.sweep()
        _wait(rng, real)
        process.kill()
        store.check(process)
    store.complete({*range(RUNS[real])})
    return store.killed


def two(folder: Path, real: bool, kills: int, rng: random.Random) -> int:
    """Two at once on one store."""
    store = Store(folder, real)
    first, second = store.sweep(), store.sweep()
    for _ in range(kills):
        _wait(rng, real)
        first.kill()
        store.check(first)
        first, second = second, store.sweep()
    store.check(first, second)
    store.complete({*range(RUNS[real])})
    return store.killed


def merge(folder: Path, real: bool, kills: int, rng: random.Random) -> int:
    """Two shards, each with its store, and their files copied into a third; all three are
    killed, in any order."""
    stores = [Store(folder / name, real, shard) for name, shard in (("a", "1/2"), ("b", "2/2"))]
    command = [sys.executable, "-c", COPY, *(str(store.folder) for store in stores)]
    copies = Store(folder / "c", real)
    killed = 0
    for _ in range(kills):
        sweeps = [store.sweep() for store in stores]
        _wait(rng, real)
        copy = subprocess.Popen([*command, str(copies.folder)])
        time.sleep(0.05 * rng.random())  # a Python that starts, and one that copies
        for process in rng.sample([*sweeps, copy], 3):
            process.kill()
            time.sleep(0.02 * rng.random())
        killed += copy.wait() == -9
        for store, process in zip(stores, sweeps):
            store.check(process)
        copies.torn += 3
        copies.finished = set()  # a copy that was killed may lack what it had: it is made again
        copies.check()
    for store in stores:
        store.check(store.sweep())
    subprocess.run([*command, str(copies.folder)], check=True)
    copies.check()
    assert copies.finished == {*range(RUNS[real])} == {*load_runs(copies.folder).seed}
    return killed + sum(store.killed for store in stores)


def _wait(rng: random.Random, real: bool) -> None:
    time.sleep(LAST[real] * rng.random())


CASES = (alone, two, merge)


def soak(kills: int, seed: int = 0) -> int:
    """So many kills at least, a new store after a few. Returns how many stores lost something."""
    rng, done, turn, wrong, begun = random.Random(seed), 0, 0, 0, time.monotonic()
    while done < kills:
        case, real = CASES[turn % 3], turn % 5 == 4
        with tempfile.TemporaryDirectory() as folder:
            try:
                done, told = done + case(Path(folder, "s"), real, 4, rng), "ok"
            except AssertionError as error:
                done, wrong, told = done + 4, wrong + 1, f"FAULT {error}"
        print(f"{done} kills; {case.__name__}{', real runs' * real}: {told}", flush=True)
        turn += 1
    found = f"{wrong} stores with a record lost, there twice, or a torn line read"
    print(f"{done} kills in {turn} stores: {found}; {time.monotonic() - begun:.0f} s")
    return wrong
