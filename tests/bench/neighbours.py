"""Neighbours: two sweeps at once, each beside the other and alone, and a sweep beside a program that
is always busy. Each sweeps one run at a time from a process of its own, as a notebook does.

Medians of three; the aim is for two sweeps, and the shorter of two runs has the other beside it all
the time. How the threads waited beside the busy program is told in brackets.
"""

import json
import statistics
import subprocess
import sys

ROUNDS = 3
PAIRS = (
    (("lenet5", 28, 20), ("lenet5", 28, 20)),
    (("resnet18", 28, 1), ("mobilenetv2_050", 28, 3)),
    (("mlp", 28, 30), ("mobilenetv2_050", 64, 1)),
)
"""Two models, their pixels and epochs."""

SWEEPER = """
import json, sys, tempfile, time
from effml import Recipe, sweep
model, size, epochs = sys.argv[1], *map(int, sys.argv[2:])
with tempfile.TemporaryDirectory() as store:
    base = Recipe(model=model, data="phantom-chest", size=size, epochs=epochs, batch_size=128)
    sweep([base.but(epochs=1)], store)  # starts the server, measures what is measured once
    print(flush=True)
    for seed, _ in enumerate(sys.stdin, 1):
        start = time.perf_counter()
        row = sweep([base.but(seed=seed)], store).iloc[0]
        seconds = time.perf_counter() - start
        assert row.status == "ok", row.reason
        print(json.dumps([seconds, row.train_energy_j, row.waiting]), flush=True)
"""
BUSY = "while True: pass"


def start(what):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", SWEEPER, *map(str, what)]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL, **pipes)
    child.stdout.readline()
    return child


def together(*children):
    """Seconds, joules and way of waiting of a run of each, begun at the same time."""
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    return [json.loads(child.stdout.readline()) for child in children]


def main() -> None:
    for pair in PAIRS:
        both = [start(what) for what in pair]
        alone, beside, loaded = [], [], []
        for _ in range(ROUNDS):
            alone.append([together(child)[0] for child in both])
            beside.append(together(*both))
            with subprocess.Popen([sys.executable, "-c", BUSY]) as busy:
                loaded.append([together(child)[0] for child in both])
                busy.kill()
        for child in both:
            child.stdin.close()
            child.wait()
        for i, (model, size, _) in enumerate(pair):
            (s, j), (s2, j2), (s3, j3) = (
                [statistics.median(one[i][column] for one in rounds) for column in (0, 1)]
                for rounds in (alone, beside, loaded)
            )
            print(
                f"{model:16} {size:3} px  alone {s:6.2f} s; beside {pair[1 - i][0]} {s2 / s:.2f}× "
                f"(aim ≤ 2.5), {j2 / j:.2f}× the joules; beside a busy program {s3 / s:.2f}× "
                f"({loaded[0][i][2]}), {j3 / j:.2f}× the joules",
                flush=True,
            )
