"""How the learning rate changes from step to step."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
)


def _cosine(optimizer: Optimizer, steps: int) -> LRScheduler:
    """To 0 along half a cosine (Loshchilov & Hutter 2017, without restarts)."""
    return CosineAnnealingLR(optimizer, steps)


def _constant(optimizer: Optimizer, steps: int) -> LRScheduler:
    return ConstantLR(optimizer, factor=1.0)


def _step(optimizer: Optimizer, steps: int) -> LRScheduler:
    """A tenth after half, and again after three quarters, of the steps, as MedMNIST trains."""
    return MultiStepLR(optimizer, [steps // 2, 3 * steps // 4], gamma=0.1)


def _onecycle(optimizer: Optimizer, steps: int) -> LRScheduler:
    """Up to the learning rate in the first 30 %, then down to nothing (Smith & Topin 2018)."""
    return OneCycleLR(optimizer, optimizer.param_groups[0]["lr"], total_steps=steps + 1)


SCHEDULES = {"cosine": _cosine, "constant": _constant, "step": _step, "onecycle": _onecycle}
