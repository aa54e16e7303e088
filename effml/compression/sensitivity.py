"""Which layers stand to lose channels: a scan of one layer at a time (Li et al. 2017, section
3.2)."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.nn import Conv1d, Conv2d, Conv3d, Linear
from torch.nn.modules.batchnorm import _BatchNorm

from effml.compression.dependencies import output_layers


def sensitivity(
    model: nn.Module,
    score: Callable[[nn.Module], float],
    *,
    keeps: Sequence[float] = (0.75, 0.5, 0.25),
) -> list[dict[str, Any]]:
    """Rows {layer, keep, score}: what `score(model)`, of the validation split, is when one
    convolution or linear layer alone keeps the fraction `keep` of its channels. Those with the
    smallest weights (sum of sizes) are silenced in a copy in eval mode, with their scale and shift
    in a batch normalisation that follows at once. Layers that make the outputs are left out.
    Raises ValueError for an impossible keep."""
    if wrong := [keep for keep in keeps if not 0 < keep <= 1]:
        raise ValueError(f"keeps={wrong[0]} is the fraction kept: give more than 0, at most 1.")
    model, rows, outputs = deepcopy(model).eval(), [], []
    seen: list[torch.Tensor] = []
    hook = model.register_forward_pre_hook(
        lambda module, inputs: None if seen else seen.append(inputs[0])
    )
    modules = list(model.named_modules())
    for place, (name, layer) in enumerate(modules):
        if seen and not outputs:
            hook.remove()
            outputs = output_layers(model, seen[0][:2].clone())
        if not isinstance(layer, (Conv1d, Conv2d, Conv3d, Linear)) or name in outputs:
            continue
        behind = _normalization([module for _, module in modules[place + 1 :]], len(layer.weight))
        tensors = [t.data for t in (layer.weight, layer.bias, *behind) if t is not None]
        whole = [tensor.clone() for tensor in tensors]
        order = whole[0].abs().flatten(1).sum(1).argsort(descending=True, stable=True)
        for keep in keeps:
            for tensor in tensors:
                tensor[order[max(1, round(keep * len(order))) :]] = 0
            rows.append({"layer": name, "keep": keep, "score": float(score(model))})
            for tensor, old in zip(tensors, whole):
                tensor.copy_(old)
    return [row for row in rows if row["layer"] not in outputs]


def _normalization(rest: list[nn.Module], width: int) -> list[Any]:
    """Those of the batch normalisation that follows at once, if it is as wide."""
    ends = (module for module in rest if isinstance(module, _BatchNorm) or not [*module.children()])
    found = next(ends, None)
    follows = isinstance(found, _BatchNorm) and found.num_features == width
    return [found.weight, found.bias] if follows else []
