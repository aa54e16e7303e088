"""Optimisers by name."""
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def _adamw(parameters: Iterable["torch.nn.Parameter"], learning_rate: float) -> "torch.optim.Optimizer":
    """AdamW (Loshchilov & Hutter 2019), fused: one pass over the parameters, the strong fp32 baseline."""
    import torch
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01, fused=True)


def _adam(parameters: Iterable["torch.nn.Parameter"], learning_rate: float) -> "torch.optim.Optimizer":
    """Adam (Kingma & Ba 2015), fused, without weight decay."""
    import torch
    return torch.optim.Adam(parameters, lr=learning_rate, fused=True)


def _sgd(parameters: Iterable["torch.nn.Parameter"], learning_rate: float) -> "torch.optim.Optimizer":
    """Stochastic gradient descent with momentum 0.9, fused, without weight decay."""
    import torch
    return torch.optim.SGD(parameters, lr=learning_rate, momentum=0.9, fused=True)


OPTIMIZERS = {"adamw": _adamw, "adam": _adam, "sgd": _sgd}


def make_optimizer(name: str, parameters: Iterable["torch.nn.Parameter"], learning_rate: float) -> "torch.optim.Optimizer":
    if name not in OPTIMIZERS:
        raise ValueError(f"Unknown optimizer {name!r}. Choose from: {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name](parameters, learning_rate)
