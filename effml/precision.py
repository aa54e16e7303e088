"""Number formats of training and inference: what is asked, what this machine can do, and why."""

import json
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from effml import machine
from effml.machine import BF16, cpu, seeded
from effml.metering import measure

NO_BF16 = ("sse41", "avx", "avx2", "avx2_vnni", "avx2_vnni_2", "avx512_core", "avx512_core_vnni")
"""Values of ONEDNN_MAX_CPU_ISA under which bfloat16 is emulated, whatever the CPU can."""

DEVICES = ("cpu", "cuda", "mps", "xpu", "meta")


@dataclass(frozen=True)
class Arithmetic:
    """How a model computes on `device` (cpu, cuda, cuda:1): the dtype of its weights, that of its
    matrix products, whether the loss is scaled."""

    device: str
    weights: str = "float32"
    products: str = "float32"
    scaled: bool = False

    def __post_init__(self) -> None:
        on_cpu = self.device.partition(":")[0] == "cpu"
        if on_cpu and "float16" in (self.weights, self.products):
            others = ", ".join(name for name in PRECISIONS if not name.endswith("fp16"))
            raise ValueError(
                "float16 on a CPU is 4 to 500 times slower than float32, so it is refused. "
                f"Choose from: {others}, or device='cuda'."
            )

    def context(self) -> AbstractContextManager:
        """Autocast where products and weights differ, else nothing."""
        if self.products == self.weights:
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, getattr(torch, self.products))

    def prepare(self, model: nn.Module, half_repair: str = "none") -> nn.Module:
        """The model's weights in their dtype, in place. With the repair batchnorm those of its
        normalisation layers are float32, which also compute in it."""
        dtype = getattr(torch, self.weights)
        if "batchnorm" not in half_repair:
            return model.to(dtype)
        for module in model.modules():
            if isinstance(module, BATCHNORMS + NORMS):
                module.float()
                if isinstance(module, NORMS):  # unlike batch norms these take one dtype only
                    module.register_forward_pre_hook(_widen)
                    module.register_forward_hook(_narrow)
                continue
            for p in module.parameters(recurse=False):
                p.data = p.data.to(dtype)
            for name, buffer in module.named_buffers(recurse=False):
                if buffer.is_floating_point():
                    setattr(module, name, buffer.to(dtype))
        return model

    def cast(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images in the dtype of the weights."""
        return images.to(getattr(torch, self.weights))

    def scaler(self) -> torch.amp.GradScaler:
        """Scales the loss so that fp16 gradients do not vanish (Micikevicius et al. 2018, §3.2);
        does nothing for the others."""
        return torch.amp.GradScaler(torch.device(self.device).type, enabled=self.scaled)


BATCHNORMS = nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d
NORMS = nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.InstanceNorm1d, nn.InstanceNorm2d


def _widen(module: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    module.given_dtype = given[0].dtype
    return given[0].to(torch.float32 if module.weight is None else module.weight.dtype), *given[1:]


def _narrow(module: nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
    return output.to(module.given_dtype)


PRECISIONS: dict[str, Callable[[str], Arithmetic]] = {
    "fp32": Arithmetic,
    # mixed: bfloat16 has the exponents of float32, so the loss need not be scaled
    "amp_bf16": partial(Arithmetic, products="bfloat16"),
    # mixed, with loss scaling (Micikevicius et al. 2018)
    "amp_fp16": partial(Arithmetic, products="float16", scaled=True),
    # also gradients and optimiser state: half the memory; updates below 1/256 of a weight are lost
    "bf16": partial(Arithmetic, weights="bfloat16", products="bfloat16"),
    # the same without loss scaling (`model.half()` in Selvan et al. 2023)
    "fp16": partial(Arithmetic, weights="float16", products="float16"),
}


def arithmetic(precision: str, device: str) -> Arithmetic:
    """How a model computes in a number format, for your own loop.

    Args:
        precision: a name of PRECISIONS.
        device: cpu, cuda, or cuda:1.

    Returns:
        An Arithmetic: `prepare(model)` gives the weights their dtype, `cast(images)` the images
        theirs; inside `context()` products are computed in the format; `scaler()` scales the loss.

    Raises:
        ValueError: unknown name, or fp16 on a CPU.

    Example:
        >>> import torch
        >>> number_format = effml.arithmetic("amp_bf16", "cpu")
        >>> net = number_format.prepare(torch.nn.Linear(4, 2))
        >>> with number_format.context():
        ...     print(net(number_format.cast(torch.ones(1, 4))).dtype)
        torch.bfloat16
    """
    if precision not in PRECISIONS:
        advice = "; for the faster on this machine give precision=effml.native_precision()"
        machine.choose("precision", precision, PRECISIONS, advice)
    machine.choose("device", f"{device}".partition(":")[0], DEVICES)
    return PRECISIONS[precision](device)


def emulated(precision: str, device: str) -> bool:
    """Whether `precision` (a name of PRECISIONS) has products in bfloat16 on hardware without such
    arithmetic: the numbers are right, but time and energy say nothing of what the format saves."""
    return arithmetic(precision, "cuda").products == "bfloat16" and not has_bf16(device)


def has_bf16(device: str) -> bool:
    """Whether this GPU (compute capability 8.0 and newer) or CPU computes in bfloat16, and oneDNN,
    which does it, is not told otherwise."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability() >= (8, 0)
    found = torch.cpu.get_capabilities()
    flags = cpu()[1].split() or [name for name, have in found.items() if have]
    most = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    return bool(BF16 & set(flags)) and most.lower() not in NO_BF16


def tf32(device: str) -> bool:
    """Whether torch may compute convolutions of float32 in TF32 here, with 10 bits of mantissa: its
    default on GPUs of compute capability 8.0 and newer."""
    cudnn = torch.backends.cudnn
    may = cudnn.conv.fp32_precision == "tf32" if hasattr(cudnn, "conv") else cudnn.allow_tf32
    return device.startswith("cuda") and may and has_bf16(device)


def label(precision: str, device: str) -> str:
    """The name of a precision for tables and figures: `amp_bf16 (emulated)` where it is."""
    return f"{precision} (emulated)" if emulated(precision, device) else precision


def choose(precision: str, device: str) -> tuple[str, str]:
    """The precision to use and why. `auto` is amp_bf16 where the hardware has bfloat16 arithmetic
    and `probe` does not find it slower here; what was asked by name is used as it is."""
    here = f"this {device.upper()}"
    if precision != "auto":
        why = (
            f"asked for; emulated: {here} does not compute in bf16, so its time and energy say "
            "nothing of a saving"
        )
        return precision, why if emulated(precision, device) else "asked for"
    if not has_bf16(device):
        slow = "does not compute in bfloat16 here, and emulates it up to 500 times slower"
        return "fp32", f"auto: {here} {slow}"
    if (gain := probe(device)) is None:
        why = "has bfloat16 arithmetic; not probed, since other programs were using the machine"
        return "amp_bf16", f"auto: {here} {why}"
    why = f"auto: amp_bf16 runs the probe {gain:.1f}× as fast as fp32 on {here}"
    return "amp_bf16" if gain > 1 else "fp32", why


def native_precision(device: str = "auto") -> str:
    """The faster of fp32 and amp_bf16 on this machine, measured once (at most 2 s, see `probe`),
    for most convolutional nets; depthwise ones (MobileNet) may lose by it.

    Args:
        device: cpu, cuda, or auto (a GPU if there is one).

    Returns:
        `amp_bf16` or `fp32`.

    Example:
        >>> effml.native_precision("cpu") in ("fp32", "amp_bf16")
        True
    """
    there = device != "cpu" and torch.cuda.is_available()
    where = "cuda" if there else "cpu"
    return machine.answer("native precision", lambda: choose("auto", where)[0])


def probe(device: str = "cpu") -> float | None:
    """How many times as fast as fp32 a training step of three convolutions is in amp_bf16 (at most
    2 s); None where other programs took more than a tenth of the CPU. Remembered by CPU flags (GPU
    name), torch version and threads in `EFFML_CACHE`, else ~/.cache/effml."""
    where = torch.cuda.get_device_name() if device == "cuda" else " ".join(cpu())
    threads = str(torch.get_num_threads())
    file = machine.cache_file(f"probe-{device}", where, torch.__version__, threads)
    with suppress(OSError, ValueError, TypeError):
        return float(json.loads(file.read_text()))
    with measure() as cost:
        seconds = _probe(device)
    if not cost.others_cpu < 0.1:
        return None
    gain = seconds["fp32"] / seconds["amp_bf16"]
    with suppress(OSError):  # nowhere to remember it
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(round(gain, 3)))
    return gain


def _probe(device: str, seconds: float = 1.5) -> dict[str, float]:
    """The fastest training step of three convolutions, in both formats by turns."""
    with seeded(0):
        convs = nn.Conv2d(3, 64, 3, stride=2), nn.Conv2d(64, 128, 3), nn.Conv2d(128, 128, 3)
        last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 2)]
        model = nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.ReLU(), convs[2], *last)
        model = model.to(device, memory_format=torch.channels_last)
        images = torch.randn(32, 3, 32, 32, device=device).to(memory_format=torch.channels_last)
    times: dict[str, list[float]] = {"fp32": [], "amp_bf16": []}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["amp_bf16"]) < 2:
        for name, taken in times.items():
            start = time.perf_counter()
            with arithmetic(name, device).context():
                loss = model(images).float().square().mean()
            loss.backward()
            if device == "cuda":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
    return {name: min(taken[1:]) for name, taken in times.items()}
