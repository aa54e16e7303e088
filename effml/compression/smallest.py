"""How much to keep: the least that validation finds good enough."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from effml.compression.compressor import Compressor, Report


def smallest_keep(
    compress: Compressor,
    model: nn.Module,
    score: Callable[[nn.Module], float],
    *,
    tolerance: float,
    example: torch.Tensor,
    data: torch.Tensor | None = None,
    seed: int = 0,
    steps: int = 5,
) -> tuple[nn.Module, Report]:
    """The smallest `keep` whose score is at least the model's own minus `tolerance`, found by
    bisection to 1 / 2**steps, as if scores rose with `keep`.

    `compress` is an entry of COMPRESSORS, which `example`, `data` and `seed` go to; `score(model)
    -> float`, higher is better, must look at validation only, and may fine-tune the model before.
    The notes of the report say what was tried. If nothing comes within the tolerance, a copy of the
    model is returned, with keep=1. Raises ValueError for a score that is not finite, a negative
    tolerance, or fewer than 1 step.
    """
    if not tolerance >= 0 or steps < 1:
        hint = "give the loss of score that you accept, 0 or more, and at least 1 step."
        raise ValueError(f"tolerance={tolerance}, steps={steps}: {hint}")

    def scored(model: nn.Module, keep: float) -> float:
        if math.isfinite(found := float(score(model))):
            return found
        hint = "give a function that returns a finite number, such as the AUROC on validation."
        raise ValueError(f"The score of the model at keep={keep:g} is {found}: {hint}")

    given = {"example": example, "data": data, "seed": seed}
    least = scored(model, 1.0) - tolerance
    low, high, tried, best = 0, 2**steps, [], None
    while high - low > 1:
        keep = (middle := (low + high) // 2) / 2**steps
        small, report = compress(model, keep, **given)
        found = scored(small, keep)
        tried.append(f"{found:.4f} at {keep:g}")
        if found >= least:
            high, best = middle, (small, report)
        else:
            low = middle
    small, report = best or compress(model, 1.0, **given)
    said = "smallest keep whose score is at least" if best else "no keep below 1 gives a score of"
    note = f"{said} {least:.4f}; scores: {', '.join(tried)}"
    return small, replace(report, notes=(*report.notes, note))
