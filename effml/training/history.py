"""What is told of a training: its history, each step to a hook, and why it failed."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn


class Diverged(RuntimeError):
    """The loss is no longer a number."""


@dataclass
class History:
    """What happened, epoch by epoch; the model is left with the weights of `best_epoch`.
    `val_score` is the AUROC, or for masks the mean Dice; `steps` counts those the optimizer took;
    of weights in 16 bits `updates` are counted, those lost and weights unmoved (`LostUpdates`);
    `dtypes`, `optimizer_state` and what was `saved` for the backward pass were found in memory
    after the first of them; `convolutions` are the choices of `effml.fast_convolutions`; `stored`
    is what `effml.finish_quantized` told; `epoch_seconds` hold validation too."""

    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    val_score: list[float] = field(default_factory=list)
    epoch_seconds: list[float] = field(default_factory=list, compare=False)
    best_epoch: int = 0
    ended_early: bool = False
    resumed_epoch: int = 0
    steps: int = 0
    importance_steps: int = 0
    updates: int = 0
    updates_lost: int = 0
    unmoved: float | None = None
    dtypes: dict[str, str] = field(default_factory=dict)
    optimizer_state: dict[str, Any] = field(default_factory=dict)
    saved: dict[str, Any] = field(default_factory=dict)
    stored: dict[str, Any] = field(default_factory=dict)
    convolutions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a hook gets after each step: the `number` of the step and of its `epoch` (from 1, also
    when resumed); the `model` with its gradients; and the `loss` of the batch before the update."""

    number: int
    epoch: int
    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: float


def dtypes_in_memory(
    model: nn.Module, outputs: torch.Tensor, optimizer: torch.optim.Optimizer
) -> dict[str, str]:
    """The dtypes of weights, outputs, gradients and optimiser state, commonest first."""
    states = (value for state in optimizer.state.values() for value in state.values())
    return {
        "weights": _dtypes(model.parameters()),
        "activations": _dtypes([outputs]),
        "gradients": _dtypes(p.grad for p in model.parameters()),
        "optimizer": _dtypes(states),
    }


def _dtypes(things: Iterable[Any]) -> str:
    sizes: Counter[str] = Counter()
    for thing in things:
        if torch.is_tensor(thing) and thing.numel() > 1:  # a step counter is no state to speak of
            sizes[str(thing.dtype).removeprefix("torch.")] += thing.numel()
    return "+".join(name for name, _ in sizes.most_common()) or "none"


def zero_weights(model: nn.Module) -> int:
    """How many weights (of two dimensions and more) are zero; 0 where it is less than a tenth."""
    weights = [p.detach() for p in model.parameters() if p.ndim > 1]
    zeros = sum(p.numel() - int(p.count_nonzero()) for p in weights)
    return zeros if 10 * zeros >= sum(p.numel() for p in weights) else 0
