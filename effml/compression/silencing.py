"""What a cut model must be: its parent with the lost channels silenced."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from effml.compression.compressor import Layers, Report
from effml.compression.tracing import Fault

LAST_AXIS = (nn.Linear, nn.RNNBase, nn.Embedding, nn.LayerNorm, nn.MultiheadAttention)


DIFFERS = "it does not give what the model gives with those channels silenced"


class Differs(Fault):
    """It is not the parent with those channels silenced; `name` is the first layer that sees
    something else."""


def silenced(model: nn.Module, small: nn.Module, report: Report) -> nn.Module:
    """A copy of the parent, in eval mode, where what the report does not keep is zero where it
    leaves a layer, and again where the next one reads it; what normalises over channels sees the
    kept ones only."""
    parent = deepcopy(model).eval()
    _silence(parent, small, report.layers)
    return parent


def _silence(parent: nn.Module, small: nn.Module, layers: Layers) -> list[Any]:
    """`silenced` in place, by hooks, which are returned."""
    hooks = []
    for name, done in layers.items():
        layer, own = parent.get_submodule(name), None
        if "in" in done:
            hooks.append(layer.register_forward_pre_hook(_mask_inputs(done["in"])))
        if "out" in done:
            if isinstance(layer, (nn.LayerNorm, nn.GroupNorm)):
                own = small.get_submodule(name)
            hooks.append(layer.register_forward_hook(_mask_outputs(done["out"], own)))
    return hooks


def _axis(layer: nn.Module) -> int:
    """The axis of its channels."""
    return -1 if isinstance(layer, LAST_AXIS) and not type(layer).__name__.endswith("2d") else 1


def _masked(x: torch.Tensor, axis: int, kept: list[int], own: nn.Module | None = None) -> Any:
    index = torch.tensor(kept, device=x.device)
    few = x.index_select(axis, index)
    return torch.zeros_like(x).index_copy(axis, index, own(few) if own else few)


def _mask_inputs(kept: list[int]) -> Callable[..., Any]:
    return lambda layer, inputs: (_masked(inputs[0], _axis(layer), kept), *inputs[1:])


def _mask_outputs(kept: list[int], own: nn.Module | None) -> Callable[..., Any]:
    """`own` is the small model's normalisation over channels, which takes the kept ones."""

    def mask(layer: nn.Module, inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):  # recurrent layers and attention give the outputs first
            return _masked(output[0], _axis(layer), kept), *output[1:]
        return _masked(inputs[0] if own else output, _axis(layer), kept, own)

    return mask


class Likeness:
    """Whether cut models are `model` with those channels silenced: in float64 (or float32), on the
    first of the `example` and a random input, with random weights (if a model runs with them),
    since others may hide a fault behind a scale of zero or a unit that never fires. Raises
    ValueError for a model that gives other outputs each time."""

    def __init__(self, model: nn.Module, example: torch.Tensor) -> None:
        errors, one = [], example[:1]
        for draw in (True, False):
            for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-3)):
                self.model, self.tolerance = deepcopy(model).eval().to(dtype), tolerance
                generator = torch.Generator().manual_seed(0)
                if draw:
                    _redraw(self.model, generator)
                self.inputs = torch.cat([one, _random_like(one, generator)])
                if one.is_floating_point():
                    self.inputs = self.inputs.to(dtype)
                try:
                    self.outputs = self._run(self.model)
                except Exception as error:  # types that do not go together, no float64 here, …
                    errors.append(error)
                    continue
                if self.outputs.isfinite().all():
                    if self._alike(self._run(self.model), self.outputs):
                        return
                    raise ValueError("in eval mode it gives other outputs each time")
        raise errors[0] if errors else ValueError("its outputs are not finite")

    def check(self, small: nn.Module, layers: Layers) -> None:
        """Raises Differs if `small`, a cut copy that keeps `layers`, is not the model silenced."""
        with _watched(self.model, small, layers) as (theirs, ours):
            expected, got = self._run(self.model), self._run(small)
        for name, means in ours.items():  # in the order of the calls
            for their, our in zip(theirs.get(name, []), means):
                kept = layers[name].get("in")
                if kept and their.shape != our.shape:
                    their = their[:, kept]
                if not self._alike(our, their):
                    raise Differs(name, DIFFERS)
        if not self._alike(got, expected):
            raise Differs("", DIFFERS)

    def _run(self, model: nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return model.eval()(self.inputs)

    def _alike(self, a: torch.Tensor, b: torch.Tensor) -> bool:
        if a.shape != b.shape:
            return False
        return bool((a - b).abs().max() <= self.tolerance * b.abs().max().clamp(min=1e-30))


@contextmanager
def _watched(parent: nn.Module, small: nn.Module, layers: Layers) -> Iterator[list[dict]]:
    """Within it the parent is silenced, and of both models the mean of each channel (N, C) that a
    layer reads is noted, by layer and call by call."""
    hooks, seen = _silence(parent, small, layers), [{}, {}]
    for model, means in zip((parent, small), seen):
        for name in (name for name, done in layers.items() if "in" in done):

            def note(layer: nn.Module, inputs: Any, name=name, means=means) -> None:
                x = inputs[0].movedim(_axis(layer), 1)
                means.setdefault(name, []).append(x.flatten(2).mean(2) if x.ndim > 2 else x)

            hooks.append(model.get_submodule(name).register_forward_pre_hook(note))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _random_like(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random tensor of its shape, type, mean and spread, or range of token ids."""
    if x.is_floating_point():
        noise = torch.randn(x.shape, generator=generator).to(x)
        return x.mean() + noise * x.std().nan_to_num().clamp(min=0.1)
    return torch.randint(int(x.min()), int(x.max()) + 1, x.shape, generator=generator).to(x)


def _redraw(model: nn.Module, generator: torch.Generator) -> None:
    """Random weights of a spread that keeps the size of what goes through, in place; scales, shifts
    and statistics about 1."""
    norms = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    norms = [layer for layer in norms if layer.track_running_stats]
    statistics = [tensor for layer in norms for tensor in (layer.running_mean, layer.running_var)]
    with torch.no_grad():
        for tensor in [*model.parameters(), *statistics]:
            if tensor.ndim < 2:
                drawn = 0.5 + torch.rand(tensor.shape, generator=generator)
            else:
                drawn = torch.randn(tensor.shape, generator=generator) / tensor[0].numel() ** 0.5
            tensor.copy_(drawn)
