"""By how much a process grows in a training step, and how long the step takes: each way to save
memory in a process of its own (notebook 33 and `make bench`)."""

import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_all_start_methods, get_context
from typing import Any

import torch

from effml import build_model, pack_activations, recompute_blocks
from effml.machine import import_timm
from effml.metering.memory import give_back_freed_memory, peak_bytes, reset_peak, resident_bytes

import_timm()  # here, and not in each child
WAYS = ("float32", "8 bits", "4 bits", "2 bits", "computed again", "2 parts", "4 parts")


class Step:
    """A model and a batch of noise; `step(way)` computes its gradients once, in one of WAYS."""

    def __init__(self, model: str, size: int, batch: int) -> None:
        self.model = build_model(model, size=size, seed=0).train()
        self.model.to(memory_format=torch.channels_last)
        draw = torch.Generator().manual_seed(0)
        images = torch.randn(batch, 1, size, size, generator=draw)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels, self.number = torch.arange(batch) % 2, 0

    def step(self, way: str, *, count: bool = False) -> Any:
        """One step; what it saved for the backward pass, where that is packed or to be counted."""
        self.number += 1
        number, _, unit = way.partition(" ")
        again, parts = way == "computed again", int(number) if unit == "parts" else 1
        for images, labels in zip(self.images.chunk(parts), self.labels.chunk(parts)):
            packing, bits = nullcontext(), int(number) if unit == "bits" else 32
            if bits < 32 or count and not again:
                packing = pack_activations(self.model, bits=bits, seed=self.number)
            with recompute_blocks(self.model) if again else nullcontext():
                with packing as saved:
                    loss = torch.nn.functional.cross_entropy(self.model(images), labels) / parts
                loss.backward()
        self.model.zero_grad()
        return saved


def measured(way: str, model: str, size: int, batch: int, rounds: int) -> dict[str, Any]:
    """Of this process, which has done nothing else: its growth and the median time of a step."""
    gives_back, work, seconds = give_back_freed_memory(), Step(model, size, batch), []
    saved = work.step(way, count=True)
    reset_peak()
    start = resident_bytes() or float("nan")
    for _ in range(rounds):
        begun = time.perf_counter()
        work.step(way)
        seconds.append(time.perf_counter() - begun)
    grown = {"growth_mb": (peak_bytes() - start) / 1e6, "step_s": statistics.median(seconds)}
    sizes = {"saved_mb": saved.after / 1e6, "float32_mb": saved.before / 1e6} if saved else {}
    return {"way": way} | grown | sizes | {"gives_back": gives_back}


def each_alone(ways: list[str], model: str, size: int, batch: int, rounds: int) -> list[dict]:
    """`measured` for each way, in a fresh process: forked, where that can be, from one that has
    imported this file and computed nothing."""
    context = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as alone:
        tasks = [alone.submit(measured, way, model, size, batch, rounds) for way in ways]
        return [task.result() for task in tasks]
