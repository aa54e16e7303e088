"""What a training step holds for its backward pass: activations in 8, 4 and 2 bits beside gradient
checkpointing and accumulation. Each way in a fresh process whose allocator gives freed memory back:
how much the process grows in a step. Then the ways by turns in one process: how long a step takes.
"""

import statistics
import time

from effml.metering.memory import give_back_freed_memory

MODELS = {"densenet121": 64, "resnet18": 64}
BATCH = 32


def main() -> None:
    from saved_memory import WAYS, Step, each_alone  # beside the notebooks

    for name, size in MODELS.items():
        found = {one["way"]: one for one in each_alone(WAYS, name, size, BATCH, 2)}
        give_back_freed_memory()
        net, times = Step(name, size, BATCH), {way: [] for way in WAYS}
        for turn in range(6):
            for way in WAYS:
                start = time.perf_counter()
                net.step(way)
                times[way] += [time.perf_counter() - start] * (turn > 0)
        plain, most = statistics.median(times["float32"]), found["float32"]["growth_mb"]
        for way, one in found.items():
            median = statistics.median(times[way])
            saved = one["float32_mb"] / one["saved_mb"] if "saved_mb" in one else float("nan")
            reach = f"{min(times[way]):.3f}–{max(times[way]):.3f}"
            print(
                f"{name:12} {way:14} step {median:6.3f} s ({reach}), {median / plain:5.2f}× float32"
                f"  the process grows by {one['growth_mb']:5.0f} MB, {most / one['growth_mb']:5.2f}× less"
                f"  saved: {saved:5.2f}× fewer bytes",
                flush=True,
            )
    print(
        "aims: 8 bits of densenet121: ≤ 1.6× the step of float32, ≥ 2.5× less growth, "
        "≥ 3.5× fewer bytes"
    )
