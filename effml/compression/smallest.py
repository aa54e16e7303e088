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
    bisection to 1 / 2**steps.

    `compress` is an entry of COMPRESSORS; `score(model) -> float`, higher is better, must look at
    validation only, and may fine-tune the model before it looks. `example`, `data` and `seed` go
    to `compress`. The notes of the report say what was tried. If nothing comes within the
    tolerance, a copy of the model is returned, with keep=1.

    The bisection takes scores to rise with `keep`; where they wobble it still ends at a keep whose
    score is good enough, but a smaller one may be too. Raises ValueError for a score that is not
    finite, a negative tolerance, or fewer than 1 step.
    """
    if not tolerance >= 0 or steps < 1:
        raise ValueError(
            f"tolerance={tolerance}, steps={steps}: give the loss of score that you accept, 0 or "
            "more, and at least 1 step."
        )
    given = {"example": example, "data": data, "seed": seed}
    least = _scored(score, model, 1.0) - tolerance
    low, high, tried, best = 0, 2**steps, [], None
    while high - low > 1:
        keep = (middle := (low + high) // 2) / 2**steps
        small, report = compress(model, keep, **given)
        found = _scored(score, small, keep)
        tried.append(f"{found:.4f} at {keep:g}")
        if found >= least:
            high, best = middle, (small, report)
        else:
            low = middle
    small, report = best or compress(model, 1.0, **given)
    said = f"no keep below 1 gives a score of {least:.4f}"
    if best:
        said = f"smallest keep whose score is at least {least:.4f}"
    return small, replace(report, notes=(*report.notes, f"{said}; scores: {', '.join(tried)}"))


def _scored(score: Callable[[nn.Module], float], model: nn.Module, keep: float) -> float:
    if not math.isfinite(found := float(score(model))):
        raise ValueError(
            f"The score of the model at keep={keep:g} is {found}: give a function that returns a "
            "finite number, such as the AUROC on validation images of both classes."
        )
    return found
