"""Metering: what starting and stopping costs, and what another busy program does to the joules of the same work.

Every meter runs in a process of its own (notebooks/peers.py), offline, with ours around the same work inside it. The work is a
fixed number of matrix products on all CPUs; the load is one busy process for each two CPUs, alone and beside it in turn.
"""

import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

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


def median(rows: Sequence[dict[str, Any]], column: str) -> float:
    return statistics.median(row[column] for row in rows)


def halves(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows alone, rows beside the load."""
    return [row for row in rows if not row["load"]], [row for row in rows if row["load"]]


def main() -> None:
    times = []
    for _ in range(201):
        begun = time.perf_counter()
        with measure():
            pass
        times.append(time.perf_counter() - begun)
    print(
        f"measure(), start + stop around nothing: median {statistics.median(times) * 1e3:.2f} ms, worst {max(times) * 1e3:.2f} "
        "ms (aim < 1 ms)",
        flush=True,
    )
    print(
        f"{os.cpu_count()} CPUs; load: {RIVALS} busy process(es); OMP_WAIT_POLICY=passive; medians of 3 in turn"
    )
    for name in PEERS:
        if lack := lacking(name):
            print(f"{name:18} NOT MEASURED: {lack}")
            continue
        rows = metered(
            name,
            PRODUCTS.format(250),
            setup=SETUP,
            repeats=3,
            rivals=RIVALS,
            OMP_WAIT_POLICY="passive",
        )
        alone, beside = halves(rows)
        costs = [(row["start_s"] + row["stop_s"]) * 1e3 for row in rows]
        print(
            f"{name:18} start-up {rows[0]['startup_s']:.3f} s, first start + stop {costs[0]:.2f} ms, later "
            f"{statistics.median(costs[1:]):.2f} ms",
            flush=True,
        )
        if not all(row["energy_j"] == row["energy_j"] for row in rows):
            print(f"{'':18} no joules: {rows[0]['source']}", flush=True)
            continue
        joules = [median(half, "energy_j") for half in (alone, beside)]
        seconds = [median(half, "seconds") for half in (alone, beside)]
        print(
            f"{'':18} alone {joules[0]:6.1f} J in {seconds[0]:.1f} s, beside the load {joules[1]:6.1f} J in {seconds[1]:.1f} s "
            f"(others {median(beside, 'others_cpu'):.0%}): {joules[1] / joules[0]:.2f}×"
            f"{' (aim 0.85–1.15)' if name == 'effml' else ''}; {joules[0] / median(alone, 'ours_j'):.1f}× ours on the same "
            "work",
            flush=True,
        )
    print(
        "ours where threads wait: LeNet-5, 6 epochs on phantom-chest, and the products, as torch comes"
    )
    passive = {"OMP_WAIT_POLICY": "passive"}
    for what, setup, work, environment in (
        ("products, all threads, spinning", SETUP, PRODUCTS.format(100), {}),
        ("LeNet-5, all threads, spinning", TRAINING, EPOCHS, {}),
        ("LeNet-5, all threads, passive", TRAINING, EPOCHS, passive),
        ("LeNet-5, one thread", TRAINING + "torch.set_num_threads(1)", EPOCHS, {}),
    ):
        alone, beside = halves(
            metered("effml", work, setup=setup, repeats=3, rivals=RIVALS, **environment)
        )
        print(
            f"{what:34} alone {median(alone, 'energy_j'):5.1f} J, {median(alone, 'seconds'):.2f} s; beside the load "
            f"{median(beside, 'energy_j'):5.1f} J, {median(beside, 'seconds'):.2f} s: "
            f"{median(beside, 'energy_j') / median(alone, 'energy_j'):.2f}×",
            flush=True,
        )
