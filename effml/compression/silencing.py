"""What a cut model must be: its parent with the lost channels silenced."""

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from effml.compression.channels import reestimate
from effml.compression.surface import Report

if TYPE_CHECKING:
    import torch
    from torch import nn


def silenced(model: "nn.Module", small: "nn.Module", report: Report) -> "nn.Module":
    """The parent with every output zero that the report does not keep; what normalises over channels sees the kept ones only."""
    import torch
    from torch import nn

    parent = deepcopy(model).eval()
    for name, done in report.layers.items():
        layer, kept = parent.get_submodule(name), torch.tensor(done.get("out", []))
        if isinstance(layer, (nn.LayerNorm, nn.GroupNorm)) and "out" in done:

            def norm(
                module: "nn.Module",
                inputs: Any,
                output: "torch.Tensor",
                own: "nn.Module" = small.get_submodule(name),
                kept: "torch.Tensor" = kept,
            ) -> "torch.Tensor":
                axis = (
                    1
                    if isinstance(module, nn.GroupNorm) or type(module).__name__.endswith("2d")
                    else -1
                )
                return torch.zeros_like(output).index_copy(
                    axis, kept, own(inputs[0].index_select(axis, kept))
                )

            layer.register_forward_hook(norm)
        elif "out" in done and getattr(layer, "weight", None) is not None:
            gone = [n for n in range(len(layer.weight)) if n not in set(done["out"])]
            layer.weight.data[gone] = 0
            if layer.bias is not None:
                layer.bias.data[gone] = 0
    return parent


def alive(model: "nn.Module", images: "torch.Tensor") -> "nn.Module":
    """The model with scales, shifts and statistics of its own in every normalisation, as after training: in a fresh one many
    branches end in zeros, and what is wrong in them would not show."""
    from torch import nn

    for layer in model.modules():
        if (
            isinstance(layer, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm))
            and layer.weight is not None
        ):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
    reestimate(model, images)
    return model
