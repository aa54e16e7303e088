"""Unstructured magnitude pruning: small weights become zeros. The model does not get smaller or faster, and the report says
so."""

from typing import TYPE_CHECKING

from effml.compression.surface import Job, Outcome, compressor

if TYPE_CHECKING:
    import torch
    from torch import nn

NOTE = (
    "Zeros are stored and multiplied like other numbers: parameters, file, MACs and latency stay. Only a sparse format "
    "would gain."
)


@compressor(counts="nonzero_params")
def magnitude(model: "nn.Module", keep: float, job: Job) -> Outcome:
    """The smallest weights of each linear layer and convolution are set to zero, the fraction `keep` of each is left (Han et
    al. 2015). Biases and normalisation stay. A budget of parameters counts those that are not zero."""
    layers = _weights(model)
    return _zeroed(
        model, {name: _threshold(weight.abs().flatten(), keep) for name, weight in layers.items()}
    )


@compressor(counts="nonzero_params")
def magnitude_global(model: "nn.Module", keep: float, job: Job) -> Outcome:
    """`magnitude` with one threshold for all layers, so that layers of small weights lose more."""
    import torch

    layers = _weights(model)
    threshold = _threshold(torch.cat([weight.abs().flatten() for weight in layers.values()]), keep)
    return _zeroed(model, dict.fromkeys(layers, threshold))


def _weights(model: "nn.Module") -> "dict[str, torch.Tensor]":
    from torch.nn import Linear
    from torch.nn.modules.conv import _ConvNd

    found = {
        name: layer.weight.detach()
        for name, layer in model.named_modules()
        if isinstance(layer, (Linear, _ConvNd))
    }
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no linear layer and no convolution, so no weights to set to zero."
        )
    return found


def _threshold(sizes: "torch.Tensor", keep: float) -> float:
    """The largest of the sizes that go; −1 if none goes."""
    gone = len(sizes) - max(1, round(keep * len(sizes)))
    return float(sizes.kthvalue(gone).values) if gone else -1.0


def _zeroed(model: "nn.Module", thresholds: dict[str, float]) -> Outcome:
    kept = total = 0
    layers = {}
    for name, threshold in thresholds.items():
        weight = model.get_submodule(name).weight.data
        weight[weight.abs() <= threshold] = 0
        left = int(weight.count_nonzero())
        layers[name] = {"kind": "sparse", "nonzero": left}
        kept, total = kept + left, total + weight.numel()
    return Outcome(model, kept / total, layers, [NOTE])
