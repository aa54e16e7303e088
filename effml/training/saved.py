"""What training keeps for the backward pass, in 8, 4 or 2 bits (ActNN, Chen et al. 2021), and
gradients in 8 bits with error feedback (Seide et al. 2014, Karimireddy et al. 2019), in torch.

A group of GROUP values, in the order of memory, shares its smallest value and a step. Each value
becomes one of the two codes beside it, by chance, so that it is right on average. Where no value of
a chunk is negative (after a ReLU), code 0 is for exact zeros alone: signs that the backward pass
of a ReLU asks for stay exact. The random numbers are pieces of one table, since drawing a new one
for each value would take longer than all the rest.
"""

import math
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef

from effml.machine import choose

BITS = (8, 4, 2)
GROUP = 256
"""Values that share a smallest value and a step, 8 bytes."""
SMALLEST = 1024
"""Tensors of fewer values stay as they are."""
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_LITTLE = 2.0**-20  # of a step


class Packed:
    """The values of a tensor in `bits` bits each. `draw(n)` gives a number below n: where in the
    table of noise to begin; without it each value becomes the nearest code."""

    def __init__(
        self, x: Tensor, bits: int = 8, group: int = GROUP, draw: Callable[[int], int] | None = None
    ) -> None:
        self.n, self.dtype, self.bits = x.numel(), x.dtype, bits
        self.uses, self.open = 0, None  # how often it will be asked for, and what it then gave
        rows = -(-self.n // group)
        self.codes = torch.empty(rows, group * bits // 8, dtype=torch.uint8, device=x.device)
        self.step, self.base = torch.empty(2, rows, 1, device=x.device)
        self.chunks = []
        for at, part in _groups(in_memory_order(x), group):
            self.chunks.append((at, self._narrow(at, part.float(), draw)))

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.step.nbytes + self.base.nbytes

    def _narrow(self, at: slice, x: Tensor, draw: Callable[[int], int] | None) -> bool:
        """The codes of a chunk of groups; whether code 0 is for exact zeros alone."""
        low, reach = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
        masked, n = float(low.amin()) >= 0, x.numel()
        top = 2**self.bits - 1 - masked
        torch.div(reach.sub_(low), top, out=self.step[at])
        whole, y, sign = _scratch(x.device, threading.get_ident())
        whole, y, sign = (t[:n].view(x.shape) for t in (whole, y, sign))
        up: Any = 0.5 + masked  # to the nearest
        if draw:
            noise = _noise(x.device)[int(masked)]
            up = noise[draw(len(noise) - n) :][:n].view(x.shape)
        torch.sub(x, low, out=y).mul_((1 - _LITTLE) * top / reach.clamp_(min=1e-35))
        y.add_(torch.sign(x, out=sign).mul_(up) if masked else up)
        parts = whole.copy_(y).chunk(8 // self.bits, 1)  # through int16, as torch vectorises it
        for number, part in enumerate(parts[1:], 1):
            parts[0].bitwise_or_(part << number * self.bits)
        self.codes[at].copy_(parts[0])
        torch.sub(low, self.step[at], alpha=(1 - _LITTLE) * masked, out=self.base[at])
        return masked

    def values(self) -> Tensor:
        """All of them, in the order of memory, in their dtype."""
        each = 8 // self.bits
        out = torch.empty(len(self.codes), self.codes.shape[1] * each, device=self.codes.device)
        for at, masked in self.chunks:
            codes, values = self.codes[at], out[at]
            for number, part in enumerate(values.chunk(each, 1)):
                shifted = codes >> number * self.bits if number else codes
                part.copy_(shifted & 2**self.bits - 1 if each > 1 else codes)
            values.mul_(self.step[at]).add_(self.base[at])
            if masked:
                values.clamp_(min=0)  # code 0 is below
        return out.view(-1)[: self.n].to(self.dtype)

    def take(self) -> Tensor:
        """`values`, kept until all who packed it have asked: widened once."""
        self.uses -= 1
        values = self.values() if self.open is None else self.open
        self.open = values if self.uses > 0 else None
        return values


def _groups(flat: Tensor, group: int) -> Iterator[tuple[slice, Tensor]]:
    """Groups, a row each, as many as fill a chunk; the last is filled up with its last value."""
    whole, size = len(flat) // group, max(1, _chunk(flat.device) // group)
    for start in range(0, whole, size):
        end = min(whole, start + size)
        yield slice(start, end), flat[start * group : end * group].view(-1, group)
    if rest := len(flat) - whole * group:
        row = flat[-1:].repeat(group)
        row[:rest] = flat[-rest:]
        yield slice(whole, whole + 1), row.view(1, group)


def in_memory_order(x: Tensor) -> Tensor:
    """The values of a tensor (N,) as they lie in memory, a view where they lie side by side."""
    return x.as_strided((x.numel(),), (1,)) if is_dense(x) else x.reshape(-1)


def is_dense(x: Tensor) -> bool:
    """Whether the values lie side by side, each once, in whatever order of the axes."""
    end = 1
    for stride, size in sorted(zip(x.stride(), x.shape)):
        if size != 1 and stride != end:
            return False
        end *= size
    return True


def _chunk(device: torch.device) -> int:
    """Values worked on at a time: on a CPU what its cache holds."""
    return 2**19 if device.type == "cpu" else 2**20


@cache
def _noise(device: torch.device) -> Tensor:
    """Numbers 0…1 (below 1 by 2**-16, so that no code overflows), and in the second row 1 more."""
    draw, n = torch.Generator().manual_seed(0), 2 * _chunk(device)
    noise = torch.randint(2**15, (n,), generator=draw, dtype=torch.float32)
    noise.add_(0.5).div_(2**15)
    return torch.stack([noise, noise + 1]).to(device)


@cache
def _scratch(device: torch.device, thread: int) -> tuple[Tensor, Tensor, Tensor]:
    """Room for the values of a chunk, three times."""
    kinds, n = (torch.int16, torch.float32, torch.float32), max(_chunk(device), GROUP)
    return tuple(torch.empty(n, dtype=kind, device=device) for kind in kinds)


@dataclass
class Saved:
    """What was saved for the backward pass, each tensor once: the bytes of floating-point numbers
    `before` and `after` packing (`kept` of them left as they are), of `index` tensors (integers
    and masks), `tensors` packed, and their `bits` a value, found in memory. Parameters are not
    counted: they are there anyway."""

    bits: float = math.nan
    before: int = 0
    after: int = 0
    kept: int = 0
    index: int = 0
    tensors: int = 0

    def columns(self) -> dict[str, float]:
        """As a record has them."""
        told = {"bytes": self.after, "bytes_fp32": self.before, "index_bytes": self.index}
        return {f"saved_{name}": value for name, value in (told | {"bits": self.bits}).items()}


class _Hooks:
    """Packs what autograd saves, each tensor once, and gives it back."""

    def __init__(self, model: nn.Module, bits: int, group: int, seed: int) -> None:
        own = [*model.parameters(), *model.buffers()]
        self.own = {t.untyped_storage().data_ptr() for t in own}
        self.cast = {tuple(shape) for t in own if t.ndim > 1 for shape in (t.shape, t.mT.shape)}
        self.bits, self.group, self.draw = bits, group, random.Random(seed).randrange
        self.report = Saved()
        self.packed: WeakValueDictionary[Any, Packed] = WeakValueDictionary()
        self.seen: dict[Any, StorageWeakRef] = {}  # alive, so that no other storage gets its number

    def pack(self, t: Tensor) -> Any:
        t, storage = t.detach(), t.untyped_storage()
        weight = t.dtype in FLOATS[1:] and tuple(t.shape) in self.cast  # as autocast made it
        if storage.data_ptr() in self.own or weight:
            return t
        ref, dense = StorageWeakRef(storage), is_dense(t)
        key = ref.cdata, t._version, t.storage_offset(), t.numel(), t.dtype
        key += () if dense else (t.shape, t.stride())
        known = key in self.seen
        self.seen.setdefault(key, ref)
        small = t.numel() < SMALLEST or storage.nbytes() < t.nbytes  # or expanded
        if t.dtype not in FLOATS or small or self.bits == 32:
            known or self._count(t, min(t.nbytes, storage.nbytes()))
            return t
        packed = self.packed.get(key)
        if packed is None:
            packed = Packed(t, self.bits, self.group, self.draw)
            self.packed[key] = packed
            self._count_packed(t, packed)
        packed.uses += 1
        return packed, t.shape, t.stride() if dense else None

    def _count(self, t: Tensor, size: int) -> None:
        report = self.report
        if not t.is_floating_point():
            report.index += size
            return
        report.before, report.after = report.before + size, report.after + size
        report.kept += size

    def _count_packed(self, t: Tensor, packed: Packed) -> None:
        report = self.report
        report.before, report.after = report.before + t.nbytes, report.after + packed.nbytes
        report.tensors += 1
        report.bits = 8 * packed.codes.nbytes / (len(packed.codes) * self.group)


def _unpack(saved: Any) -> Tensor:
    if isinstance(saved, Tensor):
        return saved
    packed, shape, stride = saved
    values = packed.take()
    return values.view(shape) if stride is None else values.as_strided(shape, stride)


@contextmanager
def pack_activations(
    model: nn.Module, *, bits: int = 8, group: int = GROUP, seed: int = 0
) -> Iterator[Saved]:
    """Inside, what the forward pass saves for the backward pass takes `bits` bits a value. The
    backward pass may come after it. Give another seed in each step.

    Args:
        model: whose parameters and buffers are left alone.
        bits: 8, 4 or 2; 32: nothing is packed, only counted.
        group: values that share a smallest value and a step, a multiple of 4.
        seed: of the rounding.

    Returns:
        A Saved: the bytes before and after.

    Raises:
        ValueError: other bits, or a group that fills no whole bytes.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU())
        >>> with effml.pack_activations(net, bits=8) as saved:
        ...     loss = net(torch.ones(32, 64)).sum()
        >>> loss.backward()
        >>> saved.before, saved.after
        (40960, 10560)
    """
    choose("bits", bits, (*BITS, 32))
    if group < 4 or group % 4:
        raise ValueError(f"group={group} fills no whole bytes: give a multiple of 4, such as 256.")
    hooks = _Hooks(model, bits, group, seed)
    with saved_tensors_hooks(hooks.pack, _unpack):
        yield hooks.report


class ErrorFeedback:
    """Gradients in 8 bits, whose error is added to those of the next step: g' = Q(g + e), then
    e ← g + e − g'. For what is sent between machines: in one process the errors take more memory.

    Args:
        parameters: those that the optimiser steps.
        bits: 8, 4 or 2; 32: the gradients stay as they are.

    Raises:
        ValueError: other bits; in `step`, a sparse gradient.

    Example:
        >>> import torch
        >>> net = torch.nn.Linear(64, 64)
        >>> feedback = effml.ErrorFeedback(net.parameters(), bits=8)
        >>> net(torch.ones(8, 64)).square().sum().backward()
        >>> feedback.step()  # before the optimiser's
        >>> feedback.sent_bytes, net.weight.grad.nbytes + net.bias.grad.nbytes
        (4480, 16640)
    """

    def __init__(self, parameters: Iterable[Tensor], bits: int = 8) -> None:
        choose("bits", bits, (*BITS, 32))
        self.parameters, self.bits = list(parameters), bits
        self.errors: dict[int, Tensor] = {}
        self.sent_bytes = 0

    @torch.no_grad()
    def step(self) -> None:
        """Put the quantised gradients in place of the gradients. Where one is not finite, as with
        a scaled loss that overflowed, all are left as they are."""
        grads = {i: p.grad for i, p in enumerate(self.parameters) if p.grad is not None}
        if any(g.layout != torch.strided for g in grads.values()):
            raise ValueError("A gradient is sparse: build the embedding with sparse=False.")
        if self.bits == 32 or not all(bool(g.isfinite().all()) for g in grads.values()):
            return
        self.sent_bytes = 0
        for number, grad in grads.items():
            if grad.numel() < SMALLEST:
                self.sent_bytes += grad.nbytes
                continue
            if number in self.errors:
                grad.add_(self.errors[number])
            packed = Packed(grad, self.bits)
            sent = packed.values()
            sent = (
                sent.as_strided(grad.shape, grad.stride()) if is_dense(grad) else sent.view_as(grad)
            )
            self.errors[number] = grad - sent
            grad.copy_(sent)
            self.sent_bytes += packed.nbytes

    def state_dict(self) -> dict[int, Tensor]:
        """The errors, by the number of their parameter."""
        return dict(self.errors)

    def load_state_dict(self, state: dict[int, Tensor]) -> None:
        """Go on with these errors."""
        self.errors = {i: error.to(self.parameters[i].device) for i, error in state.items()}
