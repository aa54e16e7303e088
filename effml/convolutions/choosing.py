"""Which way is the faster for a shape on this CPU: measured once, in milliseconds, and kept."""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from typing import Any

import torch
from torch import Tensor

from effml.convolutions import products as ours
from effml.convolutions.products import Geometry
from effml.machine import cache_file, cpu, whole_file

PARTS = 3
"""A way has a letter for each part: the output, the gradient of the input, that of the weights."""
LIBRARY, OURS = "l", "p"
_WAYS = {*map("".join, product(LIBRARY + OURS, repeat=PARTS)), LIBRARY, OURS}
MOST_PRODUCTS, MOST_PIXELS, FEWEST_CHANNELS = 100, 64, 8
"""Beyond these ours was never the faster, so nothing is measured."""
DTYPES = torch.float32, torch.bfloat16
GAIN = 1.05
"""Ours is taken for a part only if it is so many times as fast, …"""
CALL_S = 1e-4
"""… and only if it spares in all more than a function of Python's costs in torch's autograd."""


def library(g: Tensor, x: Tensor, w: Tensor, where: Geometry, groups: int, *mask: bool) -> Any:
    """The library's gradients of input and weights, those that the mask asks for."""
    how = where.stride, where.padding, where.dilation, False, (0, 0), groups, (*mask, False)
    return torch.ops.aten.convolution_backward(g, x, w, None, *how)[:2]


class Choices:
    """The ways by the names of shapes: those met (`made`), and where they come from."""

    def __init__(self, asked: str, made: dict[str, str]) -> None:
        self.made, self.fixed = made, asked != "auto"
        self.known = dict(pair.split("=") for pair in asked.split()) if self.fixed else {}
        self.file = cache_file("convolutions", *cpu(), torch.__version__, _instructions())
        self.measured: dict[str, str] = {}

    def way(self, x: Tensor, w: Tensor, where: Geometry, groups: int, learns: bool) -> str:
        """The way of a convolution which `can_choose`; `learns`: gradients will be asked for."""
        name = shape_name(x, w, where, learns)
        if name not in self.made:
            plain = LIBRARY * (PARTS if learns else 1)
            way = self.known.get(name)
            if way is None and not self.fixed:
                self.known = self._remembered() | self.measured
                way = self.known.get(name)
            if way is None and not self.fixed:
                way = self.measured[name] = measure(x, w, where, groups, learns)
            way = way if way and len(way) == len(plain) else plain
            can = can_be_ours(where, groups, x.dtype)
            ways = (letter if ours_can else LIBRARY for letter, ours_can in zip(way, can))
            self.made[name] = "".join(ways)
        return self.made[name]

    def remember(self) -> None:
        """Keep what was measured for later processes; nothing is lost where that cannot be."""
        if self.measured:
            with suppress(OSError), whole_file(self.file) as partial:
                partial.write_text(json.dumps(self._remembered() | self.measured, indent=0))

    def _remembered(self) -> dict[str, str]:
        with suppress(OSError, ValueError, AttributeError):  # absent, cut short, somebody else's
            kept = json.loads(self.file.read_text()).items()
            return {name: way for name, way in kept if way in _WAYS}
        return {}


def _instructions() -> str:
    """What this process lets the libraries use, and by how many threads."""
    most = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    return f"{torch.backends.cpu.get_cpu_capability()} {most} {torch.get_num_threads()}"


def can_choose(x: Tensor, w: Tensor, where: Geometry, groups: int) -> bool:
    """Whether there is another way than the library's, which may be the faster."""
    plain = x.dtype is w.dtype and x.dtype in DTYPES and x.layout is torch.strided
    if not plain or x.device.type != "cpu" or w.device != x.device or not len(x):
        return False
    high, wide = where.sides
    if high * wide > MOST_PIXELS or min(ours.axes(where)[0]) < 1:
        return False
    if groups == 1:
        few = len(ours.products(where)) <= MOST_PRODUCTS
        return few and x.shape[1] == w.shape[1] and min(w.shape[:2]) >= FEWEST_CHANNELS
    return groups == len(w) == x.shape[1]


def can_be_ours(where: Geometry, groups: int, dtype: torch.dtype) -> tuple[bool, bool, bool]:
    """Whether ours can do each part. Sums of bfloat16 numbers round at every step, so in it each
    number must come from one product."""
    if groups > 1:
        return False, False, dtype is torch.float32
    return (True, True, True) if dtype is torch.float32 else ours.one_product_each(where)


def shape_name(x: Tensor, w: Tensor, where: Geometry, learns: bool) -> str:
    """Such as 128x512x1x1*512x512x3x3/1x1+1x1: batch (up to a power of two), channels and sides;
    weights; stride; padding; what is unusual behind it. Without gradients it ends in `?`."""
    batch = 1 << (len(x) - 1).bit_length()
    sizes = (batch, *x.shape[1:]), w.shape, where.stride, where.padding, where.dilation
    images, weights, stride, padding, dilation = ("x".join(map(str, size)) for size in sizes)
    name = f"{images}*{weights}/{stride}+{padding}"
    name += f"@{dilation}" if where.dilation != (1, 1) else ""
    name += "" if x.dtype is torch.float32 else ":bfloat16"
    layouts = "".join("l" if ours.lies_last(t) else "f" for t in (x, w))
    return name + ("" if layouts == "ll" else f"!{layouts}") + ("" if learns else "?")


def measure(x: Tensor, w: Tensor, where: Geometry, groups: int, learns: bool) -> str:
    """The faster way of each part of this convolution."""
    x, w = x.detach(), w.detach()
    how = where.stride, where.padding, where.dilation, groups
    with torch.no_grad():
        g = torch.conv2d(x, w, None, *how)
        theirs = (
            lambda: torch.conv2d(x, w, None, *how),
            lambda: library(g, x, w, where, groups, True, False),
            lambda: library(g, x, w, where, groups, False, True),
        )
        mine = (
            lambda: ours.forward(x, w, None, where),
            lambda: ours.input_gradient(g, x, w, where),
            lambda: ours.weight_gradient(g, x, w, where, groups),
        )
        parts = range(PARTS if learns else 1)
        can = can_be_ours(where, groups, x.dtype)
        spared = [seconds_spared(theirs[part], mine[part]) if can[part] else 0.0 for part in parts]
    if sum(spared) < (CALL_S if learns else CALL_S / 5):
        return LIBRARY * len(parts)
    return "".join(OURS if gain else LIBRARY for gain in spared)


def seconds_spared(theirs: Callable[[], Any], mine: Callable[[], Any]) -> float:
    """What `mine` takes less, by the best of three, by turns; 0 where that is not GAIN. Two turns
    are enough where the difference is large; one is not, since the process may have had to wait."""
    best = [float("inf"), float("inf")]
    mine(), theirs()  # the first call prepares what the later ones find
    for turn in range(3):
        for which, work in enumerate((theirs, mine)):
            start = time.perf_counter()
            work()
            best[which] = min(best[which], time.perf_counter() - start)
        if turn == 1 and not 0.5 < best[0] / best[1] < 2:
            break
    return best[0] - best[1] if best[0] > GAIN * best[1] else 0.0
