"""Adam whose two moments take 8 bits each, in plain torch, for the CPU, after Dettmers et al. 2022
(arXiv 2110.02861, 2.1 and 2.3): the codes of a block share a scale; for a step they are widened to
float32, go through the kernel of `torch.optim.AdamW(fused=True)` and are narrowed again, a chunk at
a time. The paper's codes are looked up in a table; arithmetic ones are several times faster here:

- v, the mean of squares, spans decades. Its code is its own float32 bits, exponent and 3 bits of
  mantissa, counted from `base`: uint8, steps of 6 to 12 %, down to 2**-32 of the largest v of the
  block. v changes by 0.1 % a step, so the point of rounding moves from step to step: on average v
  is right.
- m, the mean of gradients, is seldom more than a few sqrt(v). Its code is m / root(v) / `scale`:
  int8, linear, the largest of the block at 127, so that the step m / sqrt(v) is kept to 0.4 %. The
  root is rough (half the bits of a float), but widening multiplies by what narrowing divided by.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

BLOCK = 256
"""Values that share a scale, as in bitsandbytes; 2048 in the paper."""
SMALLEST = 4096
"""Tensors of fewer values keep float32 moments, as in bitsandbytes."""
CHUNK = 2**19
"""Values worked on at a time, in three float32 buffers of 2 MB."""
_SHIFT = 20  # bits of mantissa that v goes without
_SPAN = 255 << _SHIFT  # between the smallest and the largest v of a block, in float32 bits
_TINY = 0x0DA24260  # 1e-30 in float32 bits: v is never less. Its root, 1e-15, vanishes beside eps
_PARTS = "exp_avg", "exp_avg_sq", "scale", "base"
_Tensors = list[Tensor]


class Adam8bit(torch.optim.Optimizer):
    """AdamW, and with `weight_decay` 0 Adam, in 2.03 bytes of state per parameter; 8 in tensors of
    fewer than SMALLEST. Gradients more than 65 536 times smaller than the largest of their block
    move their weights less than in Adam. The arithmetic is float32, whatever the parameters are. A
    saved state continues exactly. ValueError for sparse gradients and complex parameters."""

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = None
        if closure:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            ready = [p for p in group["params"] if p.grad is not None]
            for p in ready:
                self.state[p] = self.state[p] or _start(p)
            for device in {p.device for p in ready}:
                _step([(p, self.state[p]) for p in ready if p.device == device], group)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """torch's gives every tensor the dtype of its parameter; here each keeps its own."""
        super().load_state_dict(state_dict)
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        for number, p in zip(numbers, (p for group in self.param_groups for p in group["params"])):
            if saved := state_dict["state"].get(number):
                self.state[p] |= {n: saved[n].to(p.device, copy=True) for n in _PARTS if n in saved}


def _start(p: Tensor) -> dict[str, Any]:
    """Zero moments in the order (`layout`, strides) in which the values of `p` lie in memory."""
    if p.grad.is_sparse or p.is_complex():
        raise ValueError("8-bit Adam takes no complex parameters and needs sparse=False.")
    n, rows, device = p.numel(), -(-p.numel() // BLOCK), p.device
    codes = (torch.float32,) * 2 if n < SMALLEST else (torch.int8, torch.uint8)
    state = {"step": torch.zeros((), device=device), "layout": torch.empty_like(p).stride()}
    for name, dtype in zip(_PARTS, codes):
        state[name] = torch.zeros(n, dtype=dtype, device=device)
    if n >= SMALLEST:
        state["scale"] = torch.zeros(rows, 1, device=device)
        state["base"] = torch.full((rows, 1), _TINY, dtype=torch.int32, device=device)
    return state


def _step(pairs: list[tuple[Tensor, dict[str, Any]]], group: dict[str, Any]) -> None:
    """One step of these parameters, each with its state, all on one device."""
    given = {name: group[name] for name in ("lr", "weight_decay", "eps")}
    given |= zip(("beta1", "beta2"), group["betas"])
    kernel = functools.partial(torch._fused_adamw_, **given, amsgrad=False, maximize=False)
    torch._foreach_add_([state["step"] for _, state in pairs], 1)
    work = torch.empty(3, CHUNK, device=pairs[0][0].device)
    plain, coded = [], []
    for p, state in pairs:
        new, grad = _laid(p, state["layout"]), _laid(p.grad, state["layout"])
        row = [t.as_strided((p.numel(),), (1,)) for t in (new, grad)]
        row += [state[name] for name in _PARTS if name in state]
        (coded if "scale" in state else plain).append((row, state["step"], p, new))
    if plain:
        kernel(*map(list, zip(*[row for row, *_ in plain])), [], [step for _, step, *_ in plain])
    chunks = _chunks([(row, step) for row, step, *_ in coded])
    for params, grads, m, v, scale, base, steps in chunks:
        wide = _widen(m, v, scale, base, work)
        kernel(params, grads, *wide, [], steps)
        _narrow(m, v, scale, base, wide, work, _dither(int(steps[0])))
    for _, _, p, new in plain + coded:
        if new is not p:
            p.copy_(new)


def _laid(t: Tensor, layout: tuple[int, ...]) -> Tensor:
    """`t` in float32 with these strides: itself, if it is so, or a copy."""
    if t.dtype == torch.float32 and t.stride() == layout:
        return t
    return torch.empty_strided(t.shape, layout, dtype=torch.float32, device=t.device).copy_(t)


def _chunks(rows: list[tuple[_Tensors, Tensor]]) -> Iterator[tuple[_Tensors, ...]]:
    """Whole tensors or pieces of them, each beginning a block, as many as fill a chunk."""
    pieces, room = [], CHUNK
    for row, step in rows:
        start, n = 0, row[0].numel()
        while start < n:
            stop = min(n, start + room)
            blocks = slice(start // BLOCK, -(-stop // BLOCK))
            pieces.append([t[start:stop] for t in row[:4]] + [t[blocks] for t in row[4:]] + [step])
            room -= BLOCK * (blocks.stop - blocks.start)
            start = stop
            if not room:
                yield tuple(map(list, zip(*pieces)))
                pieces, room = [], CHUNK
    if pieces:
        yield tuple(map(list, zip(*pieces)))


def _dither(step: int) -> int:
    """What is added to the bits of v before they are cut: each number below 2**20 once in 2**20
    steps, neighbours far apart (a Weyl sequence)."""
    return step * 648055 & (1 << _SHIFT) - 1


def _widen(
    m: _Tensors, v: _Tensors, scale: _Tensors, base: _Tensors, work: Tensor
) -> tuple[_Tensors, _Tensors]:
    """The moments in float32, as views of `work`, in which each tensor begins a block."""
    pairs = [(len(code), BLOCK * len(rows) - len(code)) for code, rows in zip(m, scale)]
    sizes = [size for pair in pairs for size in pair]
    if any(sizes[1::2]):
        work[:2, : sum(sizes)].zero_()  # what fills up a last block must not count in its scale
    wide = tuple(list(row.split(sizes)[::2]) for row in work[:2, : sum(sizes)])
    torch._foreach_copy_(wide[0], m)
    torch._foreach_copy_([x.view(torch.int32) for x in wide[1]], v)
    first, second, root = work[:, : sum(sizes)].view(3, -1, BLOCK)
    bits = second.view(torch.int32)
    torch.add(torch.cat(base), bits, alpha=1 << _SHIFT, out=bits)
    torch.bitwise_right_shift(bits, 1, out=root.view(torch.int32))
    first.mul_(torch.cat(scale)).mul_(root)
    return wide


def _narrow(
    m: _Tensors,
    v: _Tensors,
    scale: _Tensors,
    base: _Tensors,
    wide: tuple[_Tensors, _Tensors],
    work: Tensor,
    dither: int,
) -> None:
    """The codes of `wide`, which lies in `work`, into the first four."""
    lengths = [len(rows) for rows in scale]
    first, second, root = work[:, : BLOCK * sum(lengths)].view(3, -1, BLOCK)
    bits = second.view(torch.int32)
    torch.bitwise_right_shift(bits, 1, out=root.view(torch.int32))
    first.div_(root)
    units = torch.maximum(first.amax(1, keepdim=True), -first.amin(1, keepdim=True))
    units.div_(127).clamp_(min=1e-30)
    first.mul_(units.reciprocal()).round_()
    floors = second.amax(1, keepdim=True).view(torch.int32).sub_(_SPAN).clamp_(min=_TINY)
    bits.sub_(floors - dither).bitwise_right_shift_(_SHIFT).clamp_(min=0)
    torch._foreach_copy_(m, wide[0])
    torch._foreach_copy_(v, [x.view(torch.int32) for x in wide[1]])
    torch._foreach_copy_(scale, list(units.split(lengths)))
    torch._foreach_copy_(base, list(floors.split(lengths)))
