"""Metering: what starting and stopping costs, and what another busy program does to the joules of
the same work.

Every meter runs in a process of its own (notebooks/peers.py), offline, with ours around the same
work inside it. The work is a fixed number of matrix products on all CPUs; the load is one busy
process for each two CPUs, alone and beside it in turn.
"""

import os
import statistics
import time

from effml.metering import measure
from peers import PEERS, lacking, metered

SETUP = "import torch; torch.manual_seed(0); a = torch.randn(1024, 1024) / 32"
PRODUCTS = "b = a\nfor _ in range({}): b = b @ a"
TRAINING = """
import torch
from effml import Recipe, build_model, load_dataset
from effml.training import train
data = load_dataset("phantom-chest")
"""
EPOCHS = "train(build_model('lenet5'), data, recipe=Recipe(epochs=6))"
RIVALS = max(1, (os.cpu_count() or 1) // 2)
PASSIVE = {"OMP_WAIT_POLICY": "passive"}
WAYS = (
    ("products, all threads, spinning", SETUP, PRODUCTS.format(100), {}),
    ("LeNet-5, all threads, spinning", TRAINING, EPOCHS, {}),
    ("LeNet-5, all threads, passive", TRAINING, EPOCHS, PASSIVE),
    ("LeNet-5, one thread", TRAINING + "torch.set_num_threads(1)", EPOCHS, {}),
)


def measured(name, work, setup, environment):
    """Rows of a meter, and its medians in words: alone, beside the load, their ratio."""
    rows = metered(name, work, setup=setup, repeats=3, rivals=RIVALS, **environment)
    middle = {}
    for load in (False, True):
        half = [row for row in rows if row["load"] == load]
        names = ("energy_j", "seconds", "ours_j", "others_cpu")
        middle[load] = {name: statistics.median(row[name] for row in half) for name in names}
    told = [f"{one['energy_j']:6.1f} J in {one['seconds']:.2f} s" for one in middle.values()]
    ratio = middle[True]["energy_j"] / middle[False]["energy_j"]
    others = f"(others {middle[True]['others_cpu']:.0%})"
    text = f"alone {told[0]}, beside the load {told[1]} {others}: {ratio:.2f}×"
    return rows, text, middle[False]["energy_j"] / middle[False]["ours_j"]


def main() -> None:
    times = []
    for _ in range(201):
        begun = time.perf_counter()
        with measure():
            pass
        times.append((time.perf_counter() - begun) * 1e3)
    middle, worst = statistics.median(times), max(times)
    print(f"measure() around nothing: median {middle:.2f} ms (aim < 1), worst {worst:.2f} ms")
    print(f"{os.cpu_count()} CPUs; load: {RIVALS} busy process(es); passive waits; medians of 3")
    for name in PEERS:
        if lack := lacking(name):
            print(f"{name:18} NOT MEASURED: {lack}", flush=True)
            continue
        rows, text, factor = measured(name, PRODUCTS.format(250), SETUP, PASSIVE)
        first, *later = [(row["start_s"] + row["stop_s"]) * 1e3 for row in rows]
        print(
            f"{name:18} start-up {rows[0]['startup_s']:.3f} s, first start + stop {first:.2f} ms, "
            f"later {statistics.median(later):.2f} ms\n{'':18} "
            + (f"{text}; {factor:.1f}× ours on the same work" if factor == factor else "no joules"),
            flush=True,
        )
    print("ours (aim 0.85–1.15×) where threads wait: LeNet-5, 6 epochs, and the products")
    for what, setup, work, environment in WAYS:
        print(f"{what:34} {measured('effml', work, setup, environment)[1]}", flush=True)
