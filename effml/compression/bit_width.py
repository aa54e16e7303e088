"""Quantisation-aware training of weights (Jacob et al. 2018): a layer computes with its weights
rounded to few bits, and the gradient passes the rounding as if there were none (straight through).

The codes of an output channel are whole numbers from -q to q = 2**(bits - 1) - 1, times a step of
the channel's own. The step is the one with the least squared error for a Laplace distribution of
the channel's spread (Banner et al. 2019), or a smaller one if that reaches the largest weight. It
is rounded to bfloat16, so that it is stored in two bytes and code times step is exact in float32.
Weights beyond the last code have no gradient until the spread of their channel reaches them."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from effml.compression.bit_file import Stored, packed, unpacked
from effml.machine import choose, whole_file
from effml.models import first_weight
from effml.recipe import BIT_SCHEDULES as MENU

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
STEPS = {2: 1.4142, 3: 0.8217, 4: 0.4869, 5: 0.2875, 6: 0.1679, 7: 0.0967, 8: 0.0550}
"""The step by bits, in units of the root mean square of the weights. One bit has no code for 0."""
ENDS, SMALL = 8, 0.1
"""Bits that the first and the last layer keep, where they hold at most this share of the weights:
one sees the image, the other gives the answer."""


class _StraightThrough(torch.autograd.Function):
    """torch.fake_quantize_per_channel_affine, to the bit, in a quarter of its time on a CPU."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, step: Tensor, q: int) -> Tensor:
        whole = (weight * (1 / step)).round_()
        ctx.save_for_backward(whole.abs() <= q)
        return whole.clamp_(-q, q).mul_(step)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient * ctx.saved_tensors[0], None, None


class Rounded(nn.Module):
    """The parametrisation of a weight: what its codes of `bits` bits give back."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        step = self.step(weight).view(-1, *[1] * (weight.ndim - 1))
        return _StraightThrough.apply(weight, step, 2 ** (self.bits - 1) - 1)

    @torch.no_grad()
    def step(self, weight: Tensor) -> Tensor:
        """That of each channel (N,), float32 with the precision of bfloat16."""
        axes, values = tuple(range(1, weight.ndim)), weight[0].numel()
        best = torch.linalg.vector_norm(weight, 2, axes) * (STEPS[self.bits] / values**0.5)
        largest = torch.maximum(weight.amax(axes), -weight.amin(axes))
        step = torch.minimum(best, largest / (2 ** (self.bits - 1) - 1))
        return step.clamp(min=1e-30).bfloat16().float()


def _uniform(layers: int, first: int, last: int, epoch: int, epochs: int) -> list[int]:
    return [last] * layers


def _depth(layers: int, first: int, last: int, epoch: int, epochs: int) -> list[int]:
    """Linear from the first layer to the last (Chu et al. 2019)."""
    parts = max(layers - 1, 1)
    return [int(first + (last - first) * i / parts + 0.5) for i in range(layers)]


def _time(layers: int, first: int, last: int, epoch: int, epochs: int) -> list[int]:
    """Each width for equally many epochs, the last one in the last epoch in any case."""
    way = 1 if last > first else -1
    widths = range(first, last + way, way)
    return [widths[(epoch * len(widths) - 1) // epochs]] * layers


BIT_SCHEDULES: dict[str, Callable[[int, int, int, int, int], list[int]]] = {
    "uniform": _uniform,
    "depth": _depth,
    "time": _time,
}
"""How the bits go from the first number to the last, over layers or epochs: `depth:8-2`."""


def bits_at(model: nn.Module, schedule: str, epoch: int = 1, epochs: int = 1) -> dict[str, int]:
    """The bits of each linear and convolutional layer, in the order in which the model lists them.
    Small first and last layers keep ENDS. ValueError for what is no schedule."""
    if schedule == "constant":
        return {}
    widths, how = _widths(schedule), BIT_SCHEDULES[schedule.partition(":")[0]]
    sizes = {name: module.weight.numel() for name, module in _layers(model).items()}
    ends = [n for n in dict.fromkeys([*sizes][:1] + [*sizes][-1:])]
    ends = [n for n in ends if sizes[n] <= SMALL * sum(sizes.values())]
    inner = [n for n in sizes if n not in ends]
    bits = dict(zip(inner, how(len(inner), *widths, epoch, epochs)))
    return {n: bits.get(n, ENDS) for n in sizes}


def _widths(schedule: str) -> tuple[int, int]:
    if schedule not in MENU:
        raise ValueError(f"Unknown bit_schedule {schedule!r}. Choose from: {MENU}")
    first, _, last = schedule.partition(":")[2].partition("-")
    return int(first), int(last or first)


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    return {name: m for name, m in model.named_modules() if isinstance(m, LAYERS)}


def quantize_aware(model: nn.Module, bits: int | str | Mapping[str, int]) -> nn.Module:
    """Let linear and convolutional layers compute with weights of few bits, for your own loop: the
    optimizer still moves the float32 weights beneath. Call it again to change the bits.

    Args:
        model: Any model with float32 weights; it is changed in place.
        bits: 2 to 8, for all layers but a small first and last one, which keep 8; or a schedule
            over the layers, `depth:8-2`; or the bits of each layer by its name, 32 (as those that
            are not named) for none of this. Attention's in_proj_weight and transposed
            convolutions stay as they are.

    Returns:
        The model. `effml.finish_quantized` ends it, `effml.save_bits` writes the codes.

    Raises:
        ValueError: Other bits, names that are no such layers, weights that are not float32, or
            layers that share a weight and not its bits.

    Example:
        >>> import torch
        >>> net = effml.quantize_aware(effml.build_model("lenet5"), 2)
        >>> optimizer = torch.optim.Adam(net.parameters(), 1e-3)
        >>> net(torch.ones(1, 1, 28, 28)).sum().backward()
        >>> optimizer.step()
        >>> effml.finish_quantized(net).layers["3"]
        2
    """
    first_weight(model)
    layers = _layers(model)
    if isinstance(bits, str) and bits.startswith("time:"):
        raise ValueError(f"{bits!r} goes by epochs: call quantize_aware again as the bits change.")
    if not layers:
        kinds = ", ".join(kind.__name__ for kind in LAYERS)
        raise ValueError(f"{type(model).__name__} has no layer to quantise. It takes {kinds}.")
    if not isinstance(bits, Mapping):
        bits = bits_at(model, bits if isinstance(bits, str) else f"uniform:{bits}")
    for name, width in bits.items():
        weight = (layer := layers[choose("layer", name, layers)]).weight
        if not isinstance(width, int) or width not in (*STEPS, 32):
            raise ValueError(f"{name}: {width!r} bits. Give 2 to 8, or 32: as it is.")
        if weight.dtype is not torch.float32:
            kind = str(weight.dtype).removeprefix("torch.")
            advice = "give float32 weights (precision fp32 or amp_…)"
            raise ValueError(
                f"{name} has {kind} weights, too coarse for code times step: {advice}."
            )
        if parametrize.is_parametrized(layer, "weight") and not _rounded(layer):
            raise ValueError(f"{name} has a weight with a parametrisation of its own: remove it.")
    _check_shared(layers, bits)
    _set(layers, bits)
    return model


def _check_shared(layers: Mapping[str, nn.Module], bits: Mapping[str, int]) -> None:
    owners: dict[Tensor, str] = {}
    for name, layer in layers.items():
        owner = owners.setdefault(_beneath(layer), name)
        if bits.get(owner, 32) != bits.get(name, 32):
            advice = "give both the same bits, by their names or as in uniform:4"
            raise ValueError(f"{owner} and {name} share a weight: {advice}.")


def _beneath(layer: nn.Module) -> Tensor:
    """The float32 weight that an optimizer moves."""
    return layer.parametrizations.weight.original if _rounded(layer) else layer.weight


def _rounded(layer: nn.Module) -> Rounded | None:
    """The parametrisation of its weight, if it is ours."""
    own = parametrize.is_parametrized(layer, "weight") and layer.parametrizations.weight[0]
    return own if isinstance(own, Rounded) else None


def _set(layers: Mapping[str, nn.Module], bits: Mapping[str, int]) -> None:
    """Each layer's weight in its bits: a new parametrisation, the old one changed, or, at 32, none:
    the weight is what it was rounded to (once, if layers share it), a plain parameter, listed
    before the bias."""
    done: set[Tensor] = set()
    for name, layer in layers.items():
        width, rounded = bits.get(name, 32), _rounded(layer)
        if rounded and width < 32:
            rounded.bits = width
        elif width < 32:
            parametrize.register_parametrization(layer, "weight", Rounded(width))
        elif rounded:
            again = (weight := _beneath(layer)) in done
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=not again)
            done.add(weight)
            if "bias" in layer._parameters:
                layer._parameters["bias"] = layer._parameters.pop("bias")


def codes_of(model: nn.Module) -> dict[str, tuple[Tensor, Tensor, int]]:
    """Of each quantised layer its codes (whole numbers), steps and bits."""
    found = {}
    for name, layer in _layers(model).items():
        if rounded := _rounded(layer):
            step, weight = rounded.step(layer.parametrizations.weight.original), layer.weight
            codes = (weight.detach() / step.view(-1, *[1] * (weight.ndim - 1))).round()
            found[name] = codes.to(torch.int8).cpu(), step.cpu(), rounded.bits
    return found


def save_bits(path: str | os.PathLike, model: nn.Module) -> Stored:
    """Write a model of `quantize_aware` with each weight in its bits, and all else as it is.

    Args:
        path: The file.
        model: The model, not finished yet.

    Returns:
        A Stored: `stored_bytes` of the file, `weight_bits` (mean over the weights of linear and
        convolutional layers), bits of the `layers`.

    Raises:
        ValueError: No layer is quantised.

    Example:
        >>> net = effml.quantize_aware(effml.build_model("lenet5"), "depth:8-2")
        >>> effml.save_bits("net.bits", net).stored_bytes < 40_000
        True
        >>> images = effml.load_dataset("phantom-chest").val.images
        >>> same = effml.load_bits("net.bits", effml.build_model("lenet5"))
        >>> bool((effml.predict(same, images) == effml.predict(net, images)).all())
        True
    """
    content, told = packed(model, codes_of(model), _layers(model))
    with whole_file(Path(path)) as partial:
        partial.write_bytes(content)
    return told


def finish_quantized(model: nn.Module) -> Stored:
    """End `quantize_aware`: plain layers, whose weights are exactly what the codes give.

    Args:
        model: A model of `quantize_aware`; it is changed in place.

    Returns:
        What a file of `save_bits` would hold, see there: its bytes were made and read back.

    Raises:
        ValueError: No layer is quantised.
        RuntimeError: What was read back is not what the model holds.

    Example:
        >>> net = effml.quantize_aware(effml.build_model("mlp"), 4)
        >>> effml.finish_quantized(net).weight_bits < 4.1
        True
    """
    content, told = packed(model, codes_of(model), _layers(model))
    strip(model)
    kept, back = model.state_dict(), unpacked(content, model)
    if wrong := [name for name in kept if not torch.equal(kept[name].cpu(), back[name])]:
        raise RuntimeError(f"{', '.join(wrong[:4])}: the codes do not give the weights back.")
    return told


def strip(model: nn.Module) -> None:
    """Plain layers again, with the weights as they were rounded."""
    _set(_layers(model), {})


class WeightBits:
    """The bit schedule of a training: inside, the weights are quantised; at the end they stay as
    the codes give them, and `stored` holds what these take. `constant` does nothing."""

    def __init__(self, model: nn.Module, schedule: str, epochs: int) -> None:
        self.model, self.schedule, self.epochs = model, schedule, max(epochs, 1)
        self.stored: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.begin(1)
        return self

    def begin(self, epoch: int) -> bool:
        """The bits of an epoch. Whether they are the last: only then may an epoch be the best."""
        if self.schedule == "constant":
            return True
        now, end = (
            bits_at(self.model, self.schedule, at, self.epochs) for at in (epoch, self.epochs)
        )
        quantize_aware(self.model, now)
        return now == end

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None:
            strip(self.model)
        elif self.schedule != "constant":
            self.stored = vars(finish_quantized(self.model))
