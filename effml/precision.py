"""Number formats of training and inference: what is asked, what this machine can do with it, what was used, and why."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from effml.machine import BF16, cpu, seeded
from effml.metering import measure

NO_BF16 = ("sse41", "avx", "avx2", "avx2_vnni", "avx2_vnni_2", "avx512_core", "avx512_core_vnni")
"""Values of ONEDNN_MAX_CPU_ISA under which torch's library of convolutions emulates bfloat16,
whatever the CPU can."""


@dataclass(frozen=True)
class Arithmetic:
    """How a model computes on `device` (cpu, cuda, cuda:1): the dtype of its weights, that of its
    matrix products, whether the loss is scaled."""

    device: str
    weights: str = "float32"
    products: str = "float32"
    scaled: bool = False

    def context(self) -> AbstractContextManager:
        """Autocast where products and weights differ, else nothing."""
        return (
            nullcontext()
            if self.products == self.weights
            else torch.autocast(torch.device(self.device).type, getattr(torch, self.products))
        )

    def prepare(self, model: nn.Module) -> nn.Module:
        """The model's weights in their dtype, in place."""
        return model.to(getattr(torch, self.weights))

    def cast(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images in the dtype of the weights."""
        return images.to(getattr(torch, self.weights))

    def scaler(self) -> torch.amp.GradScaler:
        """Scales the loss so that fp16 gradients do not vanish (Micikevicius et al. 2018, §3.2); does nothing for the others."""
        return torch.amp.GradScaler(torch.device(self.device).type, enabled=self.scaled)


def _fp32(device: str) -> Arithmetic:
    return Arithmetic(device)


def _amp_bf16(device: str) -> Arithmetic:
    """Mixed precision: float32 weights, products in bfloat16, whose exponent is as long as float32's: no loss scaling."""
    return Arithmetic(device, products="bfloat16")


def _amp_fp16(device: str) -> Arithmetic:
    """Mixed precision with loss scaling (Micikevicius et al. 2018), on a GPU."""
    return Arithmetic(device, products=_not_on_cpu("float16", device), scaled=True)


def _bf16(device: str) -> Arithmetic:
    """Weights, gradients and optimiser state in bfloat16: half the memory, and updates below 1/256 of a weight are lost."""
    return Arithmetic(device, weights="bfloat16", products="bfloat16")


def _fp16(device: str) -> Arithmetic:
    """Weights in float16 without loss scaling, as in Selvan et al. 2023 (`model.half()`), on a GPU."""
    return Arithmetic(device, weights="float16", products=_not_on_cpu("float16", device))


def _not_on_cpu(dtype: str, device: str) -> str:
    if device == "cpu":
        raise ValueError(
            f"{dtype} on a CPU is 4 to 500 times slower than float32, so it is refused. Choose from: "
            f"{', '.join(name for name in PRECISIONS if not name.endswith('fp16'))}, or device='cuda'."
        )
    return dtype


PRECISIONS: dict[str, Callable[[str], Arithmetic]] = {
    "fp32": _fp32,
    "amp_bf16": _amp_bf16,
    "amp_fp16": _amp_fp16,
    "bf16": _bf16,
    "fp16": _fp16,
}


def arithmetic(precision: str, device: str) -> Arithmetic:
    """The entry of PRECISIONS for a device. ValueError for an unknown name, and for fp16 on a CPU."""
    if precision not in PRECISIONS:
        raise ValueError(
            f"Unknown precision {precision!r}. Choose from: auto, {', '.join(PRECISIONS)}"
        )
    return PRECISIONS[precision](device)


def emulated(precision: str, device: str) -> bool:
    """Whether `precision` (a name of PRECISIONS) has its products computed in bfloat16 on hardware
    that has no such arithmetic: the numbers are right, but time and energy say nothing of what the
    format saves. ValueError: unknown name."""
    return arithmetic(precision, "cuda").products == "bfloat16" and not has_bf16(device)


def has_bf16(device: str) -> bool:
    """Whether this GPU (compute capability 8.0 and newer) or CPU computes in bfloat16, and torch is
    not told otherwise. ATEN_CPU_CAPABILITY changes nothing: products and convolutions are oneDNN's."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability() >= (8, 0)
    flags = cpu()[1].split() or [
        name for name, have in torch.cpu.get_capabilities().items() if have
    ]
    most = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    return bool(BF16 & set(flags)) and most.lower() not in NO_BF16


def label(precision: str, device: str) -> str:
    """The name of a precision for tables and figures: `amp_bf16 (emulated)` where it is."""
    return f"{precision} (emulated)" if emulated(precision, device) else precision


def choose(precision: str, device: str) -> tuple[str, str]:
    """The precision to use and why. `auto` is amp_bf16 where the hardware has bfloat16 arithmetic
    and `probe` does not find it slower here; what was asked by name is used as it is, and where it
    is emulated the words say so. ValueError: unknown."""
    if precision != "auto":
        if not emulated(precision, device):
            return precision, "asked for"
        return precision, (
            f"asked for; emulated: this {device.upper()} does not compute in bf16, so its time and energy say nothing of a "
            "saving"
        )
    if not has_bf16(device):
        return (
            "fp32",
            f"auto: this {device.upper()} does not compute in bfloat16 here, and emulates it up to 500 times slower",
        )
    gain = probe(device)
    if gain is None:
        return (
            "amp_bf16",
            f"auto: this {device.upper()} has bfloat16 arithmetic; not probed, since others were using the machine",
        )
    faster = "amp_bf16" if gain > 1 else "fp32"
    return (
        faster,
        f"auto: amp_bf16 runs the probe {gain:.1f}× as fast as fp32 on this {device.upper()}",
    )


def native_precision(device: str = "auto") -> str:
    """`amp_bf16` where this GPU or CPU has bfloat16 arithmetic worth using, else `fp32`; measured once (see `probe`).

    It is the faster of the two for most convolutional nets, not for all: depthwise ones (MobileNet) may lose by it."""
    return choose("auto", "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")[0]


def probe(device: str = "cpu") -> float | None:
    """How many times as fast as fp32 a training step of three convolutions is in amp_bf16: the fastest of interleaved repeats,
    at most 2 s in all. None where other programs took more than a tenth of the CPU, which tells nothing.

    Remembered by CPU flags (GPU name), torch version and threads in `EFFML_CACHE`, else ~/.cache/effml."""
    where = torch.cuda.get_device_name() if device == "cuda" else " ".join(cpu())
    key = hashlib.sha256(
        f"{where} {torch.__version__} {torch.get_num_threads()}".encode()
    ).hexdigest()[:12]
    file = (
        Path(os.environ.get("EFFML_CACHE") or Path.home() / ".cache" / "effml").expanduser()
        / f"probe-{device}-{key}.json"
    )
    try:
        return float(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
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
    """Training steps of three convolutions, in both formats by turns after a warm-up; the fastest counts, since what others
    do on the machine only ever adds."""
    with seeded(0):
        model = nn.Sequential(
            nn.Conv2d(3, 64, 3, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 128, 3),
            nn.ReLU(),
            nn.Conv2d(128, 128, 3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(128, 2),
        )
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
