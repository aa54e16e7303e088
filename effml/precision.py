"""Number formats of training and inference."""
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from effml.machine import cpu

if TYPE_CHECKING:
    import torch


def _fp32(device: str) -> AbstractContextManager:
    return nullcontext()


def _amp_bf16(device: str) -> AbstractContextManager:
    """Mixed precision: float32 weights, matrix products in bfloat16. It needs no loss scaling (Micikevicius et al. 2018
    scale the loss for fp16, whose exponent is shorter)."""
    import torch
    return torch.autocast(device, torch.bfloat16)


PRECISIONS = {"fp32": _fp32, "amp_bf16": _amp_bf16}


def autocast(precision: str, device: str) -> AbstractContextManager:
    """The context in which a model computes. ValueError for an unknown name, with the cost of the one people try."""
    if precision in PRECISIONS:
        return PRECISIONS[precision](device)
    why = " fp16 on a CPU is 4 to 500 times slower than fp32." if "16" in precision and device == "cpu" else ""
    raise ValueError(f"Unknown precision {precision!r}.{why} Choose from: {', '.join(PRECISIONS)}")


def native_precision(device: str = "auto") -> str:
    """`amp_bf16` on a GPU or a CPU with bfloat16 arithmetic, else `fp32`: emulated, bf16 is up to 500 times slower.

    It is the faster of the two for most convolutional nets, not for all: depthwise ones (MobileNet) may lose by it."""
    import torch
    if device != "cpu" and torch.cuda.is_available():
        return "amp_bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp32"
    have = set(cpu()[1].split())
    return "amp_bf16" if have & {"avx512_bf16", "amx_bf16", "bf16"} else "fp32"


def dtype_of(outputs: "torch.Tensor") -> str:
    """What really ran, read off the outputs of a model under `autocast`."""
    return {"torch.float32": "fp32", "torch.bfloat16": "amp_bf16"}.get(str(outputs.dtype), str(outputs.dtype))
