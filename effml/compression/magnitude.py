"""Unstructured magnitude pruning: small weights become zeros. The model does not get smaller or
faster, and the report says so."""

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from effml.compression.compressor import Job, Outcome, compressor

NOTE = (
    "Zeros are stored and multiplied like other numbers: parameters, file, MACs and latency stay. "
    "Only a sparse format would gain."
)


@compressor(counts="nonzero_params")
def magnitude(model: nn.Module, keep: float, job: Job) -> Outcome:
    """The smallest weights of each linear layer and convolution are set to zero, the fraction
    `keep` of each is left (Han et al. 2015). Biases and normalisation stay. With
    keep_unit="params" the parameters that are not zero are counted."""
    layers = _weights(model)
    return _zeroed(model, {name: _smallest(w.flatten(), keep) for name, w in layers.items()})


@compressor(counts="nonzero_params")
def magnitude_global(model: nn.Module, keep: float, job: Job) -> Outcome:
    """`magnitude` with one threshold for all layers, so that layers of small weights lose more."""
    layers = _weights(model)
    going = _smallest(torch.cat([weight.flatten() for weight in layers.values()]), keep)
    parts = going.split([weight.numel() for weight in layers.values()])
    return _zeroed(model, dict(zip(layers, parts)))


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    kinds = (nn.Linear, _ConvNd)
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, kinds)}
    if not layers:
        raise ValueError(f"{type(model).__name__} has no linear layer and no convolution to prune.")
    return {name: layer.weight.detach() for name, layer in layers.items()}


def _smallest(weights: torch.Tensor, keep: float) -> torch.Tensor:
    """Which of `weights` (n,) go, as bool (n,): as many as `keep` asks, and of equal sizes the
    first."""
    sizes = weights.abs()
    gone = len(sizes) - max(1, round(keep * len(sizes)))
    largest = sizes.kthvalue(max(1, gone)).values  # of those that go
    going = sizes < largest
    equal = (sizes == largest).nonzero()
    going[equal[: gone - int(going.sum())]] = True
    return going


def _zeroed(model: nn.Module, going: dict[str, torch.Tensor]) -> Outcome:
    layers, total = {}, sum(map(len, going.values()))
    for name, flat in going.items():
        weight = model.get_submodule(name).weight.data
        weight[flat.view_as(weight)] = 0
        layers[name] = {"kind": "sparse", "nonzero": int(weight.count_nonzero())}
    kept = sum(layer["nonzero"] for layer in layers.values())
    return Outcome(model, kept / total, layers, [NOTE])
