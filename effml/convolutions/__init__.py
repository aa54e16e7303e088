"""Convolutions that go the fastest exact way for their shapes on this CPU. On maps of a few pixels,
as small images have in deep layers, the library takes up to ten times as long as it needs for the
gradient of the weights, and multiplies by taps that see nothing but padding."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from effml.convolutions import products as ours
from effml.convolutions.choosing import LIBRARY, Choices, can_choose, library
from effml.convolutions.products import Geometry
from effml.recipe import CONVOLUTIONS

__all__ = ["fast_convolutions"]


@contextmanager
def fast_convolutions(
    model: nn.Module, choices: str | dict[str, str] = "auto", made: dict[str, str] | None = None
) -> Iterator[dict[str, str]]:
    """Inside, the convolutions (`nn.Conv2d`) of `model` go the fastest exact way on this CPU;
    outputs and gradients differ from the library's by round-off. `effml.train` does this. In
    bfloat16 (also by autocast) only work without sums of rounded numbers can go another way.

    Args:
        model: any module; it is changed in nothing that stays.
        choices: auto: measured when a shape is met first (milliseconds; remembered in
            `EFFML_CACHE`, else ~/.cache/effml, by CPU, torch version and threads); library: all as
            torch does it; or earlier choices, to repeat them exactly: what a block gave, or the
            column `convolutions_used` of a record (`name=way name=way`).
        made: a dict of earlier choices, which are kept; what is chosen is added to it.

    Yields:
        The choices by shape, filled as shapes are met: p for ours (products per tap), l for the
        library's, in the order output, gradient of the input, gradient of the weights.

    Raises:
        ValueError: `choices` is nothing of this.

    Example:
        >>> import torch
        >>> net = torch.nn.Conv2d(64, 64, 3, padding=1)
        >>> with effml.fast_convolutions(net, "library"):
        ...     net(torch.ones(8, 64, 1, 1)).sum().backward()
    """
    choices = choices if isinstance(choices, str) else text(choices)
    made = {} if made is None else made
    check(choices), check(text(made))
    if choices == "library":
        yield made
        return
    chooser, changed, ways = Choices(choices, made), [], {}
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and _is_plain(module):
            module._conv_forward = _Chosen(module, chooser, ways)
            changed.append(module)
    try:
        yield made
    finally:
        for module in changed:
            del module._conv_forward
        chooser.remember()


def check(choices: str) -> None:
    """ValueError for what is neither auto nor library nor a text of choices."""
    if choices not in CONVOLUTIONS:
        raise ValueError(f"Unknown choices {choices[:40]!r}. Choose from: {CONVOLUTIONS}")


def text(made: dict[str, str]) -> str:
    """Choices as one line, which `fast_convolutions` takes; library where nothing was to choose."""
    if not isinstance(made, dict):
        advice = "give a text, or the dict of earlier choices"
        raise ValueError(f"Choices are a {type(made).__name__}: {advice}.")
    return " ".join(f"{name}={way}" for name, way in made.items()) or "library"


def _is_plain(module: nn.Conv2d) -> bool:
    """Whether the forward is torch's own, and nobody has put another in its place."""
    own = vars(module).get("_conv_forward")
    copied = getattr(own, "func", None) is nn.Conv2d._conv_forward  # see _Chosen.__reduce__
    return (own is None or copied) and type(module)._conv_forward is nn.Conv2d._conv_forward


class _Chosen:
    """The forward of `module`, by the ways that are chosen."""

    def __init__(self, module: nn.Conv2d, chooser: Choices, ways: dict[Any, Any]) -> None:
        self.module, self.chooser, self.ways = module, chooser, ways

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy and a file of the model hold torch's own."""
        return partial, (nn.Conv2d._conv_forward, self.module)

    def __call__(self, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        module, ways = self.module, self.ways
        if _transformed():
            return nn.Conv2d._conv_forward(module, x, w, bias)
        cast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        learns = torch.is_grad_enabled() and (x.requires_grad or w.requires_grad)
        key = x.shape, x.dtype, x.device, x.layout, x.is_contiguous(), learns, cast
        key += w.shape, w.dtype, w.is_contiguous(), module.stride, module.padding
        key += module.padding_mode, module.dilation, module.groups
        if key not in ways:
            ways[key] = _look(module, self.chooser, _cast(x, cast), _cast(w, cast), learns)
        if ways[key] is None:
            return nn.Conv2d._conv_forward(module, x, w, bias)
        where, way = ways[key]
        x, w, bias = _cast(x, cast), _cast(w, cast), bias if bias is None else _cast(bias, cast)
        if not learns:
            return ours.forward(x, w, bias, where)
        return _Convolution.apply(x, w, bias, where, module.groups, way)


def _transformed() -> bool:
    """Whether torch traces, maps or differentiates the function itself: it knows its own best."""
    inside = torch.compiler.is_compiling() or torch.jit.is_tracing()
    inside = inside or forward_ad._current_level >= 0
    return inside or torch._C._functorch.peek_interpreter_stack() is not None


def _cast(t: Tensor, dtype: torch.dtype | None) -> Tensor:
    """As autocast does it."""
    return t.to(dtype) if dtype and t.dtype is torch.float32 else t


def _look(
    module: nn.Conv2d, chooser: Choices, x: Tensor, w: Tensor, learns: bool
) -> tuple[Geometry, str] | None:
    """How this shape is done; None: by the library alone."""
    if module.padding_mode != "zeros" or isinstance(module.padding, str) or x.ndim != 4:
        return None
    kernel, sides = (w.shape[2], w.shape[3]), (x.shape[2], x.shape[3])
    where = Geometry(sides, kernel, module.stride, module.padding, module.dilation)
    if not can_choose(x, w, where, module.groups):
        return None
    way = chooser.way(x, w, where, module.groups, learns)
    return None if {*way} == {LIBRARY} else (where, way)


class _Convolution(torch.autograd.Function):
    """A convolution whose three parts each go the way of their letter."""

    @staticmethod
    def forward(
        x: Tensor, w: Tensor, bias: Tensor | None, where: Geometry, groups: int, way: str
    ) -> Tensor:
        if way[0] == LIBRARY:
            return torch.conv2d(x, w, bias, where.stride, where.padding, where.dilation, groups)
        return ours.forward(x, w, bias, where)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, w, _, ctx.where, ctx.groups, ctx.way = inputs
        ctx.save_for_backward(x, w)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        wanted, found = ctx.needs_input_grad, [None, None, None]
        theirs = [want and letter == LIBRARY for want, letter in zip(wanted, ctx.way[1:])]
        if torch.is_grad_enabled():  # a gradient of the gradient will be asked for
            theirs = wanted[:2]
        if any(theirs):
            found[:2] = library(g, x, w, ctx.where, ctx.groups, *theirs)
        if wanted[0] and not theirs[0]:
            found[0] = ours.input_gradient(g, x, w, ctx.where)
        if wanted[1] and not theirs[1]:
            found[1] = ours.weight_gradient(g, x, w, ctx.where, ctx.groups)
        if wanted[2]:
            found[2] = g.sum((0, 2, 3))
        return *found, None, None, None
