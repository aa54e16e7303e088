"""What a training step holds for its backward pass: activations in 8, 4 and 2 bits beside gradient checkpointing and fp32.
Each way in a fresh process whose allocator gives freed memory back: how much the process grows in a step. Then the ways by
turns in one process: how long a step takes."""

import json
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext

import torch

from effml import build_model, pack_activations, recompute_blocks
from effml.metering.memory import give_back_freed_memory, peak_bytes, reset_peak, resident_bytes

MODELS = {"densenet121": 64, "resnet18": 64}
WAYS = ("fp32", "8 bits", "4 bits", "2 bits", "checkpointing")
BATCH = 32


class Net:
    """A model and a batch, and one step of gradients in one of WAYS."""

    def __init__(self, name: str, size: int) -> None:
        self.model = build_model(name, size=size, seed=0).train()
        self.model.to(memory_format=torch.channels_last)
        draw = torch.Generator().manual_seed(0)
        images = torch.randn(BATCH, 1, size, size, generator=draw)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels, self.number = torch.arange(BATCH) % 2, 0

    def step(self, way: str):
        self.number += 1
        around = recompute_blocks(self.model) if way == "checkpointing" else nullcontext()
        within, bits = nullcontext(), way.split()[0]
        if bits.isdecimal():
            within = pack_activations(self.model, bits=int(bits), seed=self.number)
        with around:
            with within as saved:
                loss = torch.nn.functional.cross_entropy(self.model(self.images), self.labels)
            loss.backward()
        self.model.zero_grad()
        return saved


def grown(name: str, way: str) -> None:
    """Prints by how much this process grows in a step, and what was saved."""
    gives_back, net = give_back_freed_memory(), Net(name, MODELS[name])
    net.step(way)
    reset_peak()
    start = resident_bytes()
    saved = net.step(way)
    found = {"growth": peak_bytes() - start, "gives back": gives_back}
    print(json.dumps(found | (vars(saved) if saved else {})))


def main() -> None:
    for name in MODELS:
        found = {}
        for way in WAYS:
            code = f"from tests.bench.memory import grown; grown({name!r}, {way!r})"
            done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
            found[way] = json.loads(done.stdout.splitlines()[-1])
        give_back_freed_memory()
        net, times = Net(name, MODELS[name]), {way: [] for way in WAYS}
        for turn in range(6):
            for way in WAYS:
                start = time.perf_counter()
                net.step(way)
                times[way] += [time.perf_counter() - start] * (turn > 0)
        plain, most = statistics.median(times["fp32"]), found["fp32"]["growth"]
        for way, one in found.items():
            median, after = statistics.median(times[way]), one.get("after")
            told = f"saved {one['before'] / after:5.2f}× fewer bytes" if after else ""
            print(
                f"{name:12} {way:13} step {median:6.3f} s ({min(times[way]):.3f}–{max(times[way]):.3f}), {median / plain:5.2f}× fp32;"
                f"  the process grows by {one['growth'] / 1e6:6.0f} MB, {most / one['growth']:5.2f}× less;  {told}",
                flush=True,
            )
    print(
        "aims: 8 bits of densenet121: ≤ 1.6× the step of fp32, ≥ 2.5× less growth, ≥ 3.5× fewer bytes"
    )
