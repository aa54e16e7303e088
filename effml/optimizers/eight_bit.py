"""Adam whose two moments take 8 bits each, in plain torch, for the CPU, after Dettmers et al. 2022
(arXiv 2110.02861, 2.1 and 2.3): the codes of a block share a scale; for a step they are widened to
float32, go through the kernel of `torch.optim.AdamW(fused=True)` and are narrowed again, a chunk at
a time. The paper's codes are looked up in a table; arithmetic ones are several times faster here:

- v, the mean of squares, spans decades. Its code is its own float32 bits, exponent and 3 bits of
  mantissa, counted from `base`: uint8, steps of 6 to 12 %, down to 2**-32 of the largest v of the
  block. v changes by 0.1 % a step, so the point of rounding moves from step to step: on average v
  is right.
- m, the mean of gradients, is seldom more than a few sqrt(v). Its code is m / root(v), linear in
  256 steps from the smallest to the largest of the block, so that the step m / sqrt(v) is kept to
  0.4 %. The root is rough (half the bits of a float), but widening multiplies by what narrowing
  divided by. torch packs and unpacks such rows, code and scale together, for embedding tables.

A step takes 1.3 to 2.2 times as long as the fused AdamW's (two cores, AVX2). That kernel alone, on
moments that lie in the cache, takes half of AdamW's time; widening and narrowing are 17 passes more
over a chunk, 40 to 100 ps a value each, and every operation costs 3 to 4 us to begin: a chunk that
fits the cache of a core (2**17) is a third slower than this one. float8 and sqrt, which could save
passes, are slower in torch than the passes they save (e4m3 to float32: 1 700 ps a value).
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
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
_PARTS = "exp_avg", "exp_avg_sq", "base"
_pack_cpu = torch.ops.quantized.embedding_bag_byte_prepack.default
_unpack = torch.ops.quantized.embedding_bag_byte_unpack.default

_Pair = tuple[Tensor, Tensor]  # a parameter and its gradient
_Row = tuple[Tensor, Tensor, dict[str, Any]]  # a parameter, its gradient, its state


class Adam8bit(torch.optim.Optimizer):
    """AdamW, and with `weight_decay` 0 Adam, in 2.05 bytes of state per parameter; 8 in tensors of
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
            pairs = [(p, self.state[p]) for p in group["params"] if p.grad is not None]
            fresh = [(p, state) for p, state in pairs if not state]
            for p, state in fresh:
                state.update(_start(p))
            _lay_side_by_side(state for _, state in fresh)
            alike = defaultdict(list)
            for p, state in pairs:
                state["step"] += 1
                alike[p.device, state["step"]].append((p, state))
            for together in alike.values():
                _step(together, group)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """torch's gives every tensor the dtype of its parameter; here each keeps its own."""
        super().load_state_dict(state_dict)
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        for number, p in zip(numbers, (p for group in self.param_groups for p in group["params"])):
            if saved := state_dict["state"].get(number):
                self.state[p] |= {n: saved[n].to(p.device, copy=True) for n in _PARTS if n in saved}
        _lay_side_by_side(self.state.values())


def _pack(rows: Tensor) -> Tensor:
    """Rows of float32, a byte a value, and behind them their step and smallest value in 8 bytes.
    On a GPU torch only unpacks such rows."""
    return _pack_cpu(rows) if rows.device.type == "cpu" else _pack_anywhere(rows)


def _pack_anywhere(rows: Tensor) -> Tensor:
    low, high = rows.aminmax(dim=1, keepdim=True)
    codes = ((rows - low) * (255 / (high - low + 1e-8))).round().to(torch.uint8)
    return torch.cat([codes, torch.cat([(high - low) / 255, low], 1).view(torch.uint8)], 1)


def _start(p: Tensor) -> dict[str, Any]:
    """Zero moments in the order (`layout`, strides) in which the values of `p` lie in memory."""
    if p.grad.is_sparse or p.is_complex():
        raise ValueError("8-bit Adam takes no complex parameters and needs sparse=False.")
    n, rows = p.numel(), -(-p.numel() // BLOCK)
    state: dict[str, Any] = {"step": 0, "layout": torch.empty_like(p).stride()}
    if n < SMALLEST:
        return state | {name: torch.zeros(n, device=p.device) for name in _PARTS[:2]}
    state["exp_avg"] = _pack(torch.zeros(rows, BLOCK, device=p.device))
    state["exp_avg_sq"] = torch.zeros(rows, BLOCK, dtype=torch.uint8, device=p.device)
    state["base"] = torch.full((rows, 1), _TINY, dtype=torch.int32, device=p.device)
    return state


def _lay_side_by_side(states: Iterable[dict[str, Any]]) -> None:
    """The codes of all in one tensor, of which each state keeps its rows: one operation for all."""
    alike = defaultdict(list)
    for state in states:
        if "base" in state:
            alike[state["base"].device].append(state)
    for name, group in itertools.product(_PARTS, alike.values()):
        parts = [state[name] for state in group]
        for state, part in zip(group, torch.cat(parts).split([len(part) for part in parts])):
            state[name] = part


def _step(pairs: list[tuple[Tensor, dict[str, Any]]], group: dict[str, Any]) -> None:
    """One step of these parameters, each with its state: on one device, all as old."""
    device, age = pairs[0][0].device, pairs[0][1]["step"]
    given = {name: group[name] for name in ("lr", "weight_decay", "eps")}
    given |= zip(("beta1", "beta2"), group["betas"])
    now = torch.tensor(float(age), device=device)

    def adam(params: Any, grads: Any, m: Any, v: Any) -> None:
        ages = [now] * len(params)
        torch._fused_adamw_(params, grads, m, v, [], ages, **given, amsgrad=False, maximize=False)

    laid = [(_laid(p, s["layout"]), _laid(p.grad, s["layout"]), s) for p, s in pairs]
    rows = [(_flat(p), _flat(g), s) for p, g, s in laid]
    plain = [(p, g, s["exp_avg"], s["exp_avg_sq"]) for p, g, s in rows if "base" not in s]
    if plain:
        adam(*zip(*plain))
    for run in _runs([row for row in rows if "base" in row[2]]):
        _advance(run, adam, _dither(age))
    for (p, _), (new, *_) in zip(pairs, laid):
        if new is not p:
            p.copy_(new)


def _runs(rows: list[_Row]) -> list[list[_Row]]:
    """Those whose codes lie side by side, together."""
    runs: list[list[_Row]] = []
    for row in rows:
        pairs = [(runs[-1][-1][2][name], row[2][name]) for name in _PARTS] if runs else []
        if pairs and all(a.data_ptr() + a.nbytes == b.data_ptr() for a, b in pairs):
            runs[-1].append(row)
        else:
            runs.append([row])
    return runs


def _advance(run: list[_Row], adam: Callable[..., None], dither: int) -> None:
    """One step of parameters whose codes lie side by side."""
    params, grads, states = zip(*run)
    n = sum(len(state["base"]) for state in states)
    codes = [states[0][name] for name in _PARTS]
    codes = [part.as_strided((n, part.shape[1]), part.stride()) for part in codes]
    work = torch.empty(2, min(CHUNK // BLOCK, n), BLOCK, device=params[0].device)
    start = 0
    for pieces, gradients in _chunks(zip(params, grads)):
        sizes = [piece.numel() for piece in pieces]
        rows = slice(start, start + sum(-(-size // BLOCK) for size in sizes))
        start = rows.stop
        m, v, base = (part[rows] for part in codes)
        second, root = work[:, : len(m)]
        first = _widen(m, v, base, second, root)
        (means, gaps), (squares, _) = _values(first, sizes), _values(second, sizes)
        if gaps:
            torch._foreach_zero_(gaps)  # so that they do not count in the scale of their block
        adam(pieces, gradients, means, squares)
        _narrow(m, v, base, first, second, root, dither)


def _values(blocks: Tensor, sizes: list[int]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Those of each tensor of a chunk, and what fills up the last block of each."""
    if not any(size % BLOCK for size in sizes):
        return blocks.view(-1).split(sizes), ()
    parts = blocks.view(-1).split([part for size in sizes for part in (size, -size % BLOCK)])
    return parts[::2], parts[1::2]


def _laid(t: Tensor, layout: tuple[int, ...]) -> Tensor:
    """`t` in float32 with these strides: itself, if it is so, or a copy."""
    if t.dtype == torch.float32 and t.stride() == layout:
        return t
    return torch.empty_strided(t.shape, layout, dtype=torch.float32, device=t.device).copy_(t)


def _flat(t: Tensor) -> Tensor:
    """The values in the order of memory: on a CPU the kernel copies what lies channels last, on a
    GPU it refuses what has not the shape of its moments."""
    as_it_is = t.is_contiguous() and (t.is_cpu or t.ndim == 1)
    return t if as_it_is else t.as_strided((t.numel(),), (1,))


def _chunks(pairs: Iterable[_Pair]) -> Iterator[tuple[Sequence[Tensor], Sequence[Tensor]]]:
    """Parameters and gradients, whole or in pieces that begin a block, as many as fill a chunk."""
    pieces, room = [], CHUNK
    for p, grad in pairs:
        n = p.numel()
        if n > room:
            p, grad = (t.as_strided((n,), (1,)) for t in (p, grad))
        while n > room:
            yield zip(*pieces, (p[:room], grad[:room]))
            p, grad, n = p[room:], grad[room:], n - room
            pieces, room = [], CHUNK
        pieces.append((p, grad))
        room -= -(-n // BLOCK) * BLOCK
        if not room:
            yield zip(*pieces)
            pieces, room = [], CHUNK
    if pieces:
        yield zip(*pieces)


def _dither(step: int) -> int:
    """What is added to the bits of v before they are cut: each number below 2**20 once in 2**20
    steps, neighbours far apart (a Weyl sequence)."""
    return step * 648055 & (1 << _SHIFT) - 1


def _widen(m: Tensor, v: Tensor, base: Tensor, second: Tensor, root: Tensor) -> Tensor:
    """The moments in float32, a block a row: v in `second`, m as it returns. `root` is lent."""
    bits = second.view(torch.int32)
    bits.copy_(v)
    torch.add(base, bits, alpha=1 << _SHIFT, out=bits)
    torch.bitwise_right_shift(bits, 1, out=root.view(torch.int32))
    return _unpack(m).mul_(root)


def _narrow(
    m: Tensor, v: Tensor, base: Tensor, first: Tensor, second: Tensor, root: Tensor, dither: int
) -> None:
    """The codes, in `m`, `v` and `base`, of the moments `first` and `second`, a block a row."""
    bits = second.view(torch.int32)
    torch.bitwise_right_shift(bits, 1, out=root.view(torch.int32))
    torch.amax(bits, 1, keepdim=True, out=base)
    base.sub_(_SPAN).clamp_(min=_TINY)
    v.copy_(bits.sub_(base - dither).bitwise_right_shift_(_SHIFT).clamp_(min=0))
    m.copy_(_pack(first.div_(root)))
