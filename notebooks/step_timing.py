"""Seconds of a training step, one number format beside the other."""

import time
from collections.abc import Callable, Sequence
from copy import deepcopy

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from effml.optimizers import make_optimizer
from effml.precision import arithmetic
from effml.training.prediction import channels_last, forward

WARM_UP = 2  # steps: the first makes the optimiser's state and chooses the kernels


def step_seconds(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    precisions: Sequence[str] = ("fp32", "amp_bf16"),
    repeats: int = 7,
    optimizer: str = "adamw",
) -> dict[str, list[float]]:
    """Seconds of whole training steps (cast, forward, cross-entropy, backward, update) per
    precision: `repeats` of each, by turns after a warm-up, so that what other programs do meets all
    alike. Take medians and their ratios.

    `images` is uint8 (N, C, H, W) and `labels` long (N,), on the device of `model`, which is copied
    and left as it is. ValueError for an unknown precision, for fp16 on a CPU, and for less than one
    repeat."""
    if repeats < 1:
        raise ValueError(f"repeats={repeats} measures nothing: give 1 or more (7 for a median).")
    given = images, labels, optimizer
    steps = {name: _stepper(deepcopy(model), name, *given) for name in precisions}
    taken: dict[str, list[float]] = {name: [] for name in precisions}
    for _ in range(WARM_UP + repeats):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            taken[name].append(time.perf_counter() - start)
    return {name: seconds[WARM_UP:] for name, seconds in taken.items()}


def _stepper(
    model: nn.Module, precision: str, images: Tensor, labels: Tensor, optimizer: str
) -> Callable[[], float]:
    number_format = arithmetic(precision, str(images.device))
    number_format.prepare(channels_last(model)).train()
    updates, scaler = make_optimizer(optimizer, model.parameters(), 1e-4), number_format.scaler()

    def step() -> float:
        loss = cross_entropy(forward(model, images, number_format).float(), labels)
        updates.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(updates)
        scaler.update()
        first = updates.param_groups[0]["params"][0]
        return first.flatten()[0].item()  # a GPU is waited for here, after the update

    return step
