"""What a cut model must be: its parent with the lost channels silenced."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from effml.compression.surface import Report

Layers = dict[str, dict[str, Any]]
"""By name of a layer, which of its channels are kept: "in" and "out", lists of indices."""


class Differs(RuntimeError):
    """A cut model that is not its parent with those channels silenced; `name` is the first layer
    that sees something else."""

    def __init__(self, name: str) -> None:
        super().__init__("it does not give what the model gives with those channels silenced")
        self.name = name


def silenced(model: nn.Module, small: nn.Module, report: Report) -> nn.Module:
    """A copy of the parent, in eval mode, where what the report does not keep is zero where it
    leaves a layer, and again where the next one reads it (behind an activation with f(0) ≠ 0); what
    normalises over channels sees the kept ones only."""
    parent = deepcopy(model).eval()
    silence(parent, small, report.layers)
    return parent


def silence(parent: nn.Module, small: nn.Module, layers: Layers) -> list[Any]:
    """`silenced` in place, by hooks, which are returned."""
    hooks = []
    for name, done in layers.items():
        layer = parent.get_submodule(name)
        if "in" in done:
            hooks.append(layer.register_forward_pre_hook(_mask_inputs(layer, done["in"])))
        if "out" in done and isinstance(layer, (nn.LayerNorm, nn.GroupNorm)):
            own = small.get_submodule(name)
            hooks.append(layer.register_forward_hook(_normalize_kept(layer, own, done["out"])))
        elif "out" in done:
            hooks.append(layer.register_forward_hook(_mask_outputs(layer, done["out"])))
    return hooks


def _axis(layer: nn.Module) -> int:
    """The axis of its channels."""
    last = (nn.Linear, nn.RNNBase, nn.Embedding, nn.LayerNorm, nn.MultiheadAttention)
    return -1 if isinstance(layer, last) and not type(layer).__name__.endswith("2d") else 1


def _masked(x: torch.Tensor, axis: int, kept: list[int]) -> torch.Tensor:
    index = torch.tensor(kept, device=x.device)
    return torch.zeros_like(x).index_copy(axis, index, x.index_select(axis, index))


def _mask_inputs(layer: nn.Module, kept: list[int]) -> Callable[..., Any]:
    return lambda module, inputs: (_masked(inputs[0], _axis(layer), kept), *inputs[1:])


def _mask_outputs(layer: nn.Module, kept: list[int]) -> Callable[..., Any]:
    def mask(module: nn.Module, inputs: Any, output: Any) -> Any:
        if isinstance(
            output, tuple
        ):  # of a recurrent layer or of attention: the outputs come first
            return _masked(output[0], _axis(layer), kept), *output[1:]
        return _masked(output, _axis(layer), kept)

    return mask


def _normalize_kept(layer: nn.Module, own: nn.Module, kept: list[int]) -> Callable[..., Any]:
    def norm(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        index, axis = torch.tensor(kept, device=output.device), _axis(layer)
        few = own(inputs[0].index_select(axis, index))
        return torch.zeros_like(output).index_copy(axis, index, few)

    return norm


class Likeness:
    """Whether cut models are `model` with those channels silenced. It compares the wiring: in
    float64 (float32 where a model does not run in it), on the first of the `example` and on a
    random input of its kind, in copies with random weights, since trained or fresh ones may hide a
    fault behind a scale of zero or a unit that never fires. Raises ValueError for a model that
    gives other outputs each time."""

    def __init__(self, model: nn.Module, example: torch.Tensor) -> None:
        errors, one = [], example[:1]
        for dtype, draw in (
            (torch.float64, True),
            (torch.float32, True),
            (torch.float64, False),
            (torch.float32, False),
        ):
            self.model = deepcopy(model).eval().to(dtype)
            self.tolerance = 1e-6 if dtype == torch.float64 else 1e-3
            generator = torch.Generator().manual_seed(0)
            if draw:
                _redraw(self.model, generator)
            self.inputs = torch.cat([one, _random_like(one, generator)])
            if one.is_floating_point():
                self.inputs = self.inputs.to(dtype)
            try:
                self.outputs = self._run(self.model)
            except (
                Exception
            ) as error:  # of many kinds: types that do not go together, no float64 here
                errors.append(error)
                continue
            if self.outputs.isfinite().all():
                break
        else:
            raise errors[0] if errors else ValueError("its outputs are not finite")
        if not self._alike(self._run(self.model), self.outputs):
            raise ValueError("in eval mode it gives other outputs each time for the same input")

    def check(self, small: nn.Module, layers: Layers) -> None:
        """Raises Differs if `small`, a cut copy of `self.model` that keeps `layers`, is not that
        model silenced."""
        seen: list[dict[str, list[torch.Tensor]]] = [{}, {}]
        hooks = silence(self.model, small, layers)
        try:
            for model, means in zip((self.model, small), seen):
                hooks += _watch(model, layers, means)
            expected, got = self._run(self.model), self._run(small)
        finally:
            for hook in hooks:
                hook.remove()
        for name, means in seen[1].items():  # in the order of the calls
            for theirs, ours in zip(seen[0].get(name, []), means):
                kept = layers[name].get("in")
                if kept and theirs.shape != ours.shape:
                    theirs = theirs[:, kept]
                if not self._alike(ours, theirs):
                    raise Differs(name)
        if not self._alike(got, expected):
            raise Differs("")

    def _run(self, model: nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return model.eval()(self.inputs)

    def _alike(self, a: torch.Tensor, b: torch.Tensor) -> bool:
        return a.shape == b.shape and bool(
            ((a - b).abs().max() <= self.tolerance * b.abs().max().clamp(min=1e-30)).all()
        )


def _watch(model: nn.Module, layers: Layers, means: dict[str, list[Any]]) -> list[Any]:
    """Hooks that write the mean of each channel (N, C) that a layer reads, call by call, to
    `means`."""

    def look(name: str) -> Callable[..., None]:
        def see(layer: nn.Module, inputs: Any) -> None:
            x = inputs[0].movedim(_axis(layer), 1)
            means.setdefault(name, []).append(x.flatten(2).mean(2) if x.ndim > 2 else x)

        return see

    names = [name for name, done in layers.items() if "in" in done]
    return [model.get_submodule(name).register_forward_pre_hook(look(name)) for name in names]


def _random_like(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random tensor of its shape, type and range: numbers of its mean and spread, token ids
    between its least and its most."""
    if x.is_floating_point():
        noise = torch.randn(x.shape, generator=generator).to(x)
        return x.mean() + noise * x.std().nan_to_num().clamp(min=0.1)
    return torch.randint(int(x.min()), int(x.max()) + 1, x.shape, generator=generator).to(x)


def _redraw(model: nn.Module, generator: torch.Generator) -> None:
    """Random weights of a spread that keeps the size of what goes through, in place; scales, shifts
    and variances about 1."""

    def draw(tensor: torch.Tensor) -> None:
        if tensor.ndim < 2:
            drawn = 0.5 + torch.rand(tensor.shape, generator=generator)
        else:
            drawn = torch.randn(tensor.shape, generator=generator) / tensor[0].numel() ** 0.5
        tensor.copy_(drawn)

    with torch.no_grad():
        for parameter in model.parameters():
            draw(parameter)
        for layer in model.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.track_running_stats:
                draw(layer.running_mean)
                draw(layer.running_var)


def alive(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """The model with scales, shifts and statistics of its own in every normalisation, as after training: in a fresh one many
    branches end in zeros, and what is wrong in them would not show."""

    from effml.compression.channels import reestimate

    for layer in model.modules():
        if (
            isinstance(layer, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm))
            and layer.weight is not None
        ):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
    reestimate(model, images)
    return model
