"""Optimisers by name."""
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def _adamw(parameters: Iterable["torch.nn.Parameter"], learning_rate: float) -> "torch.optim.Optimizer":
    """AdamW (Loshchilov & Hutter 2019), fused: one pass over the parameters, the strong fp32 baseline."""
    import torch
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01, fused=True)


OPTIMIZERS = {"adamw": _adamw}


def make_optimizer(name: str, parameters: Iterable["torch.nn.Parameter"], learning_rate: float) -> "torch.optim.Optimizer":
    if name not in OPTIMIZERS:
        raise ValueError(f"Unknown optimizer {name!r}. Choose from: {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name](parameters, learning_rate)
