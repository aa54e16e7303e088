"""Optimisers by name, and what their state weighs in memory."""

import math
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from numbers import Real
from typing import Any

import torch
from torch.optim import Optimizer

from effml.machine import choose
from effml.optimizers.eight_bit import Adam8bit

Parameters = Iterable[torch.nn.Parameter]


def _adamw(parameters: Parameters, learning_rate: float) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2019), fused: the strong fp32 baseline."""
    return AdamW(parameters, lr=learning_rate, weight_decay=0.01, fused=True)


def _adam(parameters: Parameters, learning_rate: float) -> Optimizer:
    """Adam (Kingma & Ba 2015), fused, without weight decay."""
    return Adam(parameters, lr=learning_rate, fused=True)


def _sgd(parameters: Parameters, learning_rate: float) -> Optimizer:
    """Stochastic gradient descent with momentum 0.9, fused, without weight decay."""
    return SGD(parameters, lr=learning_rate, momentum=0.9, fused=True)


class _Laid:
    """A fused optimizer of torch: its kernels read gradients in the order in which their parameter
    lies in memory. One that was set by hand in another is laid so first; torch would take it
    wrongly, without a word."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for p in (p for group in self.param_groups for p in group["params"]):
            if p.grad is not None and p.grad.stride() != p.stride():
                p.grad = torch.empty_like(p).copy_(p.grad)
        super().step()
        return loss


class Adam(_Laid, torch.optim.Adam):
    """torch's."""


class AdamW(_Laid, torch.optim.AdamW):
    """torch's, which on a CPU copies every gradient that lies channels last at each step. Here its
    kernel gets the values in the order in which they lie in memory: the same numbers."""

    def _init_group(self, group: dict[str, Any], *lists: list[torch.Tensor]) -> bool:
        found = super()._init_group(group, *lists)
        for i, p in enumerate(lists[0]):
            if p.ndim == 4 and p.device.type == "cpu" and not p.is_contiguous():
                parts = [one[i] for one in lists[:4]]  # itself, gradient, mean, mean of squares
                if _one_order(parts):
                    for one, part in zip(lists, parts):
                        one[i] = part.as_strided((part.numel(),), (1,))
        return found


def _one_order(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether all lie channels last, without gaps."""
    last = torch.channels_last
    return len({t.stride() for t in tensors}) == 1 and tensors[0].is_contiguous(memory_format=last)


class SGD(_Laid, torch.optim.SGD):
    """torch's, whose momentum begins at 0. The fused one takes memory as it finds it, and keeps
    that where the loss scale skips the first step."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        for p in (p for group in self.param_groups for p in group["params"]):
            if p.grad is not None and "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p, requires_grad=False)
        return super().step(closure)


def _adam8bit(parameters: Parameters, learning_rate: float) -> Optimizer:
    """Adam in 2 bytes of state per parameter instead of 8 (Dettmers et al. 2022): ours on a CPU,
    on a GPU bitsandbytes' where it is installed."""
    return _eight_bit(parameters, learning_rate, 0.0)


def _adamw8bit(parameters: Parameters, learning_rate: float) -> Optimizer:
    """AdamW, weight decay 0.01, the same way."""
    return _eight_bit(parameters, learning_rate, 0.01)


def _adam8bit_bnb(parameters: Parameters, learning_rate: float) -> Optimizer:
    """Adam8bit of bitsandbytes as it is, on any device, to compare with."""
    return _bitsandbytes().Adam8bit(parameters, lr=learning_rate)


def _eight_bit(parameters: Parameters, learning_rate: float, decay: float) -> Optimizer:
    ours = Adam8bit(parameters, lr=learning_rate, weight_decay=decay)
    if ours.param_groups[0]["params"][0].is_cuda and find_spec("bitsandbytes"):
        return _bitsandbytes().AdamW8bit(ours.param_groups, lr=learning_rate, weight_decay=decay)
    return ours


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes.optim
    except ImportError as error:
        raise ImportError(
            "This optimizer needs bitsandbytes: pip install bitsandbytes==0.50.2 (before 0.50 it "
            "had none for the CPU). 'adam8bit' needs none."
        ) from error
    return bitsandbytes.optim


OPTIMIZERS: dict[str, Callable[[Parameters, float], Optimizer]] = {
    "adamw": _adamw,
    "adam": _adam,
    "sgd": _sgd,
    "adam8bit": _adam8bit,
    "adamw8bit": _adamw8bit,
    "adam8bit_bnb": _adam8bit_bnb,
}


def make_optimizer(
    name: str, parameters: Parameters, learning_rate: float, weight_decay: float = -1.0
) -> Optimizer:
    """The optimizer of that name, for your own loop.

    Args:
        name: a name of OPTIMIZERS.
        parameters: tensors, or param groups as torch takes them.
        learning_rate: the step size.
        weight_decay: 0 or more; below 0 means the optimizer's own (0.01 for AdamW, else none).

    Returns:
        A torch.optim.Optimizer.

    Raises:
        ValueError: unknown name, or numbers or parameters that cannot be.
        ImportError: adam8bit_bnb needs bitsandbytes, and it is not installed.

    Example:
        >>> import torch
        >>> net = torch.nn.Linear(100, 100)
        >>> optimizer = effml.make_optimizer("adam8bit", net.parameters(), 1e-3)
        >>> net(torch.ones(1, 100)).sum().backward()
        >>> optimizer.step()
    """
    make = OPTIMIZERS[choose("optimizer", name, OPTIMIZERS)]
    if isinstance(parameters, torch.nn.Module):
        raise ValueError("parameters is a model: give model.parameters().")
    if not isinstance(learning_rate, Real | torch.Tensor) or not 0 <= learning_rate < math.inf:
        raise ValueError(f"learning_rate={learning_rate!r} must be a number from 0, 0.001, say.")
    if not isinstance(weight_decay, Real) or math.isnan(weight_decay):
        raise ValueError(f"weight_decay={weight_decay!r} must be a number, 0.01, say.")
    optimizer = make(parameters, learning_rate)
    for group in optimizer.param_groups if weight_decay >= 0 else ():
        group["weight_decay"] = weight_decay
    return optimizer


def state_report(optimizer: Optimizer) -> dict[str, Any]:
    """The state of any torch optimizer in memory, each storage counted once: `bytes`, and those of
    each of `dtypes`; `parameters` that have state; `tensors` that hold these, and how many have one
    byte per value (`tensors_quantised`, `fraction_quantised` of the parameters). All are 0 where
    there is no state, as before the first step and with plain SGD."""
    kept = {
        p: list(filter(torch.is_tensor, state.values())) for p, state in optimizer.state.items()
    }
    stored = {v.untyped_storage().data_ptr(): v for values in kept.values() for v in values}
    dtypes: dict[str, int] = {}
    for v in stored.values():
        name = str(v.dtype).removeprefix("torch.")
        dtypes[name] = dtypes.get(name, 0) + v.untyped_storage().nbytes()
    one_byte = {
        p: any(v.element_size() == 1 and v.numel() >= p.numel() for v in kept[p]) for p in kept
    }
    parameters, total = sum(p.numel() for p in kept), sum(dtypes.values())
    return {
        "bytes": total,
        "parameters": parameters,
        "bytes_per_parameter": total / max(parameters, 1),
        "tensors": len(kept),
        "tensors_quantised": sum(one_byte.values()),
        "fraction_quantised": sum(p.numel() for p in kept if one_byte[p]) / max(parameters, 1),
        "dtypes": dtypes,
    }
