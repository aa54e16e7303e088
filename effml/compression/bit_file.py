"""Weights of few bits in a file: a safetensors file in which the codes of a layer are one row of
bits, beside the step of each channel in bfloat16, and every other tensor is as it is."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

CODES, STEP, ORIGINAL = "weight.codes", "weight.step", "parametrizations.weight.original"


@dataclass(frozen=True)
class Stored:
    """What a model of few bits takes: `stored_bytes` of its file, `weight_bits` (mean over the
    weights of linear and convolutional layers; one that is not quantised has 32), and the bits of
    each quantised layer."""

    stored_bytes: int
    weight_bits: float
    layers: dict[str, int]


def to_bits(codes: Tensor, bits: int) -> Tensor:
    """Whole numbers that fit `bits` bits (-2 for 2: 10) as one row of bits, in bytes."""
    shifted = (codes.flatten().numpy().astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
    return torch.from_numpy(np.packbits(np.unpackbits(shifted[:, None], axis=1)[:, 8 - bits :]))


def from_bits(row: Tensor, bits: int, values: int) -> Tensor:
    """The whole numbers that `to_bits` packed, int16."""
    parts = np.unpackbits(row.numpy(), count=values * bits).reshape(values, bits)
    shifted = np.packbits(parts, axis=1)[:, 0] >> (8 - bits)
    return torch.from_numpy(shifted.astype(np.int16) - 2 ** (bits - 1))


def _of(layer: str, tensor: str) -> str:
    """Its name in the state dict; a model that is one layer has no name before it."""
    return f"{layer}.{tensor}" if layer else tensor


def packed(
    model: nn.Module,
    codes: Mapping[str, tuple[Tensor, Tensor, int]],
    layers: Mapping[str, nn.Module],
) -> tuple[bytes, Stored]:
    """The file of a model, as bytes, and what it takes. ValueError where no layer has codes."""
    from safetensors.torch import save

    if not codes:
        advice = "call effml.quantize_aware(model, bits) first"
        raise ValueError(f"No layer of this {type(model).__name__} is quantised: {advice}.")
    tensors = {name: t for name, t in model.state_dict().items() if not name.endswith(ORIGINAL)}
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    for name, (whole, step, bits) in codes.items():
        tensors |= {_of(name, CODES): to_bits(whole, bits), _of(name, STEP): step.bfloat16()}
    widths = {name: bits for name, (_, _, bits) in codes.items()}
    content = save(tensors, {"bits": json.dumps(widths)})
    sizes = {name: layer.weight.numel() for name, layer in layers.items()}
    total = sum(size * widths.get(name, 32) for name, size in sizes.items())
    return content, Stored(len(content), total / sum(sizes.values()), widths)


def unpacked(content: bytes, model: nn.Module) -> dict[str, Tensor]:
    """The state dict that a file holds, for a plain model of these shapes."""
    from safetensors.torch import load

    start = int.from_bytes(content[:8], "little")
    widths = json.loads(json.loads(content[8 : 8 + start])["__metadata__"]["bits"])
    tensors = load(content)
    for name, bits in widths.items():
        shape = model.get_submodule(name).weight.shape
        whole = from_bits(tensors.pop(_of(name, CODES)), bits, shape.numel()).view(shape)
        step = tensors.pop(_of(name, STEP)).float().view(-1, *[1] * (len(shape) - 1))
        tensors[_of(name, "weight")] = whole * step
    return tensors


def load_bits(path: str | os.PathLike, model: nn.Module) -> nn.Module:
    """Fill a plain model with the weights of a file of `effml.save_bits`, exactly.

    Args:
        path: The file.
        model: A model of the same build; it is changed in place.

    Returns:
        The model.

    Raises:
        ValueError: The file is something else, or of a model of other layers.

    Example:
        >>> net = effml.quantize_aware(effml.build_model("mlp"), 3)
        >>> told = effml.save_bits("mlp.bits", net)
        >>> effml.load_bits("mlp.bits", effml.build_model("mlp"))[1].weight.unique().numel() > 7
        True
    """
    content = Path(path).read_bytes()
    try:
        model.load_state_dict(unpacked(content, model))
    except Exception as error:  # safetensors' own, and torch's for other names and shapes
        kind = type(model).__name__
        advice = "Give a file of effml.save_bits and a model of the same build, not quantised."
        raise ValueError(f"{path} does not fit this {kind}: {error}. {advice}") from error
    return model
