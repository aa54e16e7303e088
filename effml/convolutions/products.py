"""The work of a convolution on small maps, tap by tap, as matrix products and sums: the same
numbers as the library's, but for the order in which they are added."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

WHOLE = slice(None)


class Geometry(NamedTuple):
    """Sides of the map and of the kernel, and how the kernel moves over the map; each (rows,
    columns)."""

    sides: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


class Live(NamedTuple):
    """A tap of the kernel that sees the map: the outputs for which it does, from `first` up to
    `end`, and the input that the first of them sees through it."""

    tap: int
    first: int
    end: int
    sees: int


@lru_cache(maxsize=4096)
def live_taps(
    side: int, kernel: int, stride: int, padding: int, dilation: int
) -> tuple[int, list[Live]]:
    """Along one axis: the number of outputs, and the taps that see more than padding."""
    outputs = (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    found = []
    for tap in range(kernel):
        first_input = tap * dilation - padding
        first = max(0, -(first_input // stride))
        end = min(outputs, (side - 1 - first_input) // stride + 1)
        if first < end:
            found.append(Live(tap, first, end, first * stride + first_input))
    return outputs, found


@lru_cache(maxsize=4096)
def axes(where: Geometry) -> tuple[tuple[int, int], list[Live], list[Live]]:
    """The sides of the output, and the taps that see the map, of the rows and of the columns."""
    (rows, up), (columns, across) = (live_taps(*of_axis) for of_axis in zip(*where))
    return (rows, columns), up, across


@lru_cache(maxsize=4096)
def products(where: Geometry) -> list[tuple[int, int, int | slice, int | slice]]:
    """The matrix products that the convolution is: row and column of the tap, the output and the
    input pixel that it joins. A tap that joins each pixel with itself does so in one product."""
    (rows, columns), up, across = axes(where)
    found: list[tuple[int, int, int | slice, int | slice]] = []
    for i in up:
        for j in across:
            if (i, j) == (Live(i.tap, 0, rows, 0), Live(j.tap, 0, columns, 0)) and (
                where.sides == (rows, columns) and where.stride == (1, 1)
            ):
                found.append((i.tap, j.tap, WHOLE, WHOLE))
                continue
            for r in range(i.first, i.end):
                for c in range(j.first, j.end):
                    row = i.sees + (r - i.first) * where.stride[0]
                    column = j.sees + (c - j.first) * where.stride[1]
                    pixels = (r * columns + c, row * where.sides[1] + column)
                    found.append((i.tap, j.tap, *pixels))
    return found


@lru_cache(maxsize=4096)
def one_product_each(where: Geometry) -> tuple[bool, bool, bool]:
    """Whether each output, each input and each weight is the result of one product alone."""
    rows, columns, outputs, inputs = zip(*products(where)) if products(where) else ([],) * 4
    targets = [*map(str, outputs)], [*map(str, inputs)], [*zip(rows, columns)]
    alone = [len({*some}) == len(some) for some in targets]
    whole = len(targets[0]) > 1 and str(WHOLE) in targets[0]  # beside others, which it joins too
    return alone[0] and not whole, alone[1] and not whole, alone[2]


def forward(x: Tensor, w: Tensor, bias: Tensor | None, where: Geometry) -> Tensor:
    """The convolution of `x` (N, C, H, W) with `w` (K, C, …), as one product per tap and pixel."""
    sides, _, _ = axes(where)
    y = _new(x, w, (len(x), len(w), *sides))
    y.zero_() if bias is None else y.copy_(bias[:, None, None].expand(y.shape))
    inputs, outputs = _pixels(x), _pixels(y)
    for i, j, output, seen in products(where):
        _at(outputs, output).addmm_(_at(inputs, seen), w[:, :, i, j].t())
    return y if outputs.data_ptr() == y.data_ptr() else _back(outputs, y)


def input_gradient(g: Tensor, x: Tensor, w: Tensor, where: Geometry) -> Tensor:
    """The gradient of the input; `g` is that of the output."""
    found = torch.zeros_like(x)
    inputs, outputs = _pixels(found), _pixels(g)
    for i, j, output, seen in products(where):
        _at(inputs, seen).addmm_(_at(outputs, output), w[:, :, i, j])
    return found if inputs.data_ptr() == found.data_ptr() else _back(inputs, found)


def weight_gradient(g: Tensor, x: Tensor, w: Tensor, where: Geometry, groups: int) -> Tensor:
    """The gradient of the weights (K, C, …), or of depthwise ones."""
    if groups > 1:
        return _depthwise(g, x, w, where)
    found = torch.zeros_like(w)
    inputs, outputs = _pixels(x), _pixels(g)
    for i, j, output, seen in products(where):
        found[:, :, i, j].addmm_(_at(outputs, output).t(), _at(inputs, seen))
    return found


def _depthwise(g: Tensor, x: Tensor, w: Tensor, where: Geometry) -> Tensor:
    """The gradient of weights (C, 1, …) that see one channel each, as one sum per tap."""
    found, (down, right) = torch.zeros_like(w), where.stride
    _, up, across = axes(where)
    for i in up:
        rows = slice(i.sees, i.sees + (i.end - i.first - 1) * down + 1, down)
        for j in across:
            columns = slice(j.sees, j.sees + (j.end - j.first - 1) * right + 1, right)
            reached = g[:, :, i.first : i.end, j.first : j.end]
            torch.sum(x[:, :, rows, columns] * reached, (0, 2, 3), out=found[:, 0, i.tap, j.tap])
    return found


def _pixels(t: Tensor) -> Tensor:
    """(N, C, H, W) as contiguous (N, H·W, C): a view, if it lies channels last, else a copy."""
    return t.permute(0, 2, 3, 1).contiguous().flatten(1, 2)


def _back(pixels: Tensor, like: Tensor) -> Tensor:
    """`like` with these pixels in it."""
    n, c, h, w = like.shape
    return like.copy_(pixels.view(n, h, w, c).permute(0, 3, 1, 2))


def _at(pixels: Tensor, where: int | slice) -> Tensor:
    """One pixel of every image (N, C), or all of them (N·H·W, C)."""
    return pixels.flatten(0, 1) if isinstance(where, slice) else pixels[:, where]


def _new(x: Tensor, w: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Memory for the output in the layout that the library would give it."""
    last = lies_last(x) or lies_last(w)
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=x.dtype, memory_format=layout)


def lies_last(t: Tensor) -> bool:
    """Whether it is laid channels last, as the strides say even of a map of one pixel."""
    return t.stride(1) == 1 and t.stride(3) == t.shape[1]
