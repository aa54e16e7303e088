"""Training in amp_bf16 beside a fair fp32: channels-last, fused AdamW, the same weights and images, steps by turns.

What is saved depends on the model, the batch and the CPU: without bf16 arithmetic (see the flags printed) all ratios fall below 1.
"""

import statistics
from math import prod

import torch

from effml import build_model
from effml.machine import cpu
from effml.precision import BF16
from step_timing import step_seconds

SIZE = 64
MODELS = ("resnet18", "densenet121", "vit_tiny_patch16_224", "mobilenetv3_small_100")


def main() -> None:
    flags = cpu()[1]
    native = (
        "bf16 arithmetic"
        if BF16 & set(flags.split())
        else "no bf16 arithmetic: it is emulated here"
    )
    print(f"{SIZE} px, 1 channel, {torch.get_num_threads()} threads, {flags} ({native})")
    for batch, repeats in ((32, 9), (1, 25)):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(
            0, 256, (batch, 1, SIZE, SIZE), dtype=torch.uint8, generator=generator
        )
        labels, ratios = torch.arange(batch) % 2, []
        for name in MODELS:
            seconds = step_seconds(build_model(name, size=SIZE), images, labels, repeats=repeats)
            medians = {
                precision: statistics.median(values) for precision, values in seconds.items()
            }
            ratios.append(medians["fp32"] / medians["amp_bf16"])
            spread = {
                precision: f"{1e3 * min(values):.0f}–{1e3 * max(values):.0f}"
                for precision, values in seconds.items()
            }
            print(
                f"{name:24} batch {batch:2}   fp32 {1e3 * medians['fp32']:6.1f} ms ({spread['fp32']})   amp_bf16 "
                f"{1e3 * medians['amp_bf16']:6.1f} ms ({spread['amp_bf16']})   {ratios[-1]:5.2f}×",
                flush=True,
            )
        print(
            f"geometric mean over the four, batch {batch:2}: {prod(ratios) ** (1 / len(ratios)):.2f}×",
            flush=True,
        )
