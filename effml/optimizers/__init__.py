"""Optimisers by name, and what their state weighs in memory."""

from collections.abc import Callable, Iterable
from typing import Any

import torch

from effml.optimizers.eight_bit import adam8bit

Parameters = Iterable[torch.nn.Parameter]


def _adamw(parameters: Parameters, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), fused: one pass over the parameters, the strong fp32 baseline."""
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01, fused=True)


def _adam(parameters: Parameters, learning_rate: float) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015), fused, without weight decay."""
    return torch.optim.Adam(parameters, lr=learning_rate, fused=True)


def _sgd(parameters: Parameters, learning_rate: float) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum 0.9, fused, without weight decay."""
    sgd = torch.optim.SGD(parameters, lr=learning_rate, momentum=0.9, fused=True)
    sgd.register_step_pre_hook(_from_rest)
    return sgd


def _from_rest(sgd: torch.optim.Optimizer, *_: Any) -> None:
    """Momentum begins at 0. torch's fused SGD takes memory as it finds it, and keeps that where the
    loss scale skips the first step."""
    for p in (p for group in sgd.param_groups for p in group["params"]):
        if p.grad is not None and "momentum_buffer" not in sgd.state[p]:
            sgd.state[p]["momentum_buffer"] = torch.zeros_like(p, requires_grad=False)


def _adam8bit(parameters: Parameters, learning_rate: float) -> torch.optim.Optimizer:
    """Adam in 2 bytes of state per parameter instead of 8 (Dettmers et al. 2022): ours on a CPU, bitsandbytes' on a GPU."""
    return _eight_bit(parameters, learning_rate, 0.0)


def _adamw8bit(parameters: Parameters, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW, weight decay 0.01, in 2 bytes of state per parameter instead of 8: ours on a CPU, bitsandbytes' on a GPU."""
    return _eight_bit(parameters, learning_rate, 0.01)


def _adam8bit_bnb(parameters: Parameters, learning_rate: float) -> torch.optim.Optimizer:
    """Adam8bit of bitsandbytes as it is, on any device, to compare with."""
    return _bitsandbytes().Adam8bit(parameters, lr=learning_rate)


def _eight_bit(parameters: Parameters, learning_rate: float, decay: float) -> torch.optim.Optimizer:
    ours = adam8bit()(parameters, lr=learning_rate, weight_decay=decay)
    if ours.param_groups[0]["params"][0].is_cuda:
        return _bitsandbytes().AdamW8bit(ours.param_groups, lr=learning_rate, weight_decay=decay)
    return ours


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes.optim
    except ImportError as error:
        raise ImportError(
            "This optimizer is that of bitsandbytes, which is not here: pip install bitsandbytes==0.50.2 "
            "(before 0.50 it had none for the CPU). On a CPU 'adam8bit' needs none."
        ) from error
    return bitsandbytes.optim


OPTIMIZERS: dict[str, Callable[[Parameters, float], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adam": _adam,
    "sgd": _sgd,
    "adam8bit": _adam8bit,
    "adamw8bit": _adamw8bit,
    "adam8bit_bnb": _adam8bit_bnb,
}


def make_optimizer(
    name: str, parameters: Parameters, learning_rate: float, weight_decay: float = -1.0
) -> torch.optim.Optimizer:
    """The optimizer of that name for `parameters`, tensors or param groups; a weight decay below 0
    means its own. torch's fused ones (adamw, adam, sgd) read a gradient in the order of its
    parameter in memory, as autograd lays it: one that is set by hand in another memory format gives
    wrong steps. Raises ValueError for a name that is not there, ImportError for bitsandbytes' where
    that is not installed."""
    if name not in OPTIMIZERS:
        raise ValueError(f"Unknown optimizer {name!r}. Choose from: {', '.join(OPTIMIZERS)}")
    optimizer = OPTIMIZERS[name](parameters, learning_rate)
    for group in optimizer.param_groups if weight_decay >= 0 else ():
        group["weight_decay"] = weight_decay
    return optimizer


def state_report(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The state of any torch optimiser as it lies in memory: its storages are counted, each once, whatever is said of them.

    `bytes`; `parameters`, how many have state, and `bytes_per_parameter`; `tensors`, how many hold these parameters, and
    `tensors_quantised`, for how many of them one byte per value was found; `fraction_quantised`, of the parameters;
    `dtypes`, the bytes of each dtype. Raises ValueError before the first step, when there is no state yet.
    """
    if not optimizer.state:
        raise ValueError(
            f"{type(optimizer).__name__} has no state yet. Give it gradients and take one step() before the report."
        )
    kept = {
        p: [value for value in state.values() if torch.is_tensor(value)]
        for p, state in optimizer.state.items()
    }
    quantised = [
        p
        for p, values in kept.items()
        if any(v.element_size() == 1 and v.numel() == p.numel() for v in values)
    ]
    storages = {
        v.untyped_storage().data_ptr(): (
            v.untyped_storage().nbytes(),
            str(v.dtype).removeprefix("torch."),
        )
        for values in kept.values()
        for v in values
    }
    dtypes: dict[str, int] = {}
    for size, dtype in storages.values():
        dtypes[dtype] = dtypes.get(dtype, 0) + size
    parameters, total = sum(p.numel() for p in kept), sum(dtypes.values())
    return {
        "bytes": total,
        "parameters": parameters,
        "bytes_per_parameter": total / parameters,
        "tensors": len(kept),
        "tensors_quantised": len(quantised),
        "fraction_quantised": sum(p.numel() for p in quantised) / parameters,
        "dtypes": dtypes,
    }
