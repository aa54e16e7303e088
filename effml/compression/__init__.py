"""A smaller copy of a model: `compress`, by an entry of COMPRESSORS, which takes the same arguments
but the name."""

import torch
from torch import nn

from effml.compression import channels, factorization, magnitude, merging
from effml.compression.bit_file import Stored, load_bits
from effml.compression.bit_width import (
    BIT_SCHEDULES,
    finish_quantized,
    quantize_aware,
    save_bits,
)
from effml.compression.compressor import Compressor, Report
from effml.compression.merging import data_free_fraction
from effml.compression.saving import load_compressed, save_compressed
from effml.compression.sensitivity import sensitivity
from effml.compression.smallest import smallest_keep
from effml.machine import choose

MERGERS: dict[str, Compressor] = {
    "merge": merging.merge,
    "merge_conv": merging.merge_conv,
    "merge_random": merging.merge_random,
    "merge_smallest": merging.merge_smallest,
}
"""What the field `merge` of a recipe can ask for."""
PRUNERS: dict[str, Compressor] = {
    "magnitude": magnitude.magnitude,
    "magnitude_global": magnitude.magnitude_global,
    "channels": channels.channels,
    "channels_bn": channels.channels_bn,
    "channels_taylor": channels.channels_taylor,
    "channels_random": channels.channels_random,
}
"""What the field `prune` of a recipe can ask for."""
FACTORIZERS: dict[str, Compressor] = {
    "svd": factorization.svd,
    "svd_spatial": factorization.svd_spatial,
    "svd_energy": factorization.svd_energy,
    "svd_spatial_energy": factorization.svd_spatial_energy,
}
"""What the field `factorize` of a recipe can ask for."""
COMPRESSORS: dict[str, Compressor] = {**MERGERS, **PRUNERS, **FACTORIZERS}
__all__ = [
    "BIT_SCHEDULES",
    "COMPRESSORS",
    "FACTORIZERS",
    "MERGERS",
    "PRUNERS",
    "Report",
    "Stored",
    "compress",
    "data_free_fraction",
    "finish_quantized",
    "load_bits",
    "load_compressed",
    "quantize_aware",
    "save_bits",
    "save_compressed",
    "sensitivity",
    "smallest_keep",
]


def compress(
    model: nn.Module,
    name: str,
    keep: float,
    *,
    example: torch.Tensor,
    data: torch.Tensor | None = None,
    seed: int = 0,
    keep_unit: str = "fraction",
) -> tuple[nn.Module, Report]:
    """A smaller copy of any model that gives one tensor, and a report of what was done to it.

    Args:
        model: Any nn.Module whose forward takes one tensor and gives one. It is left as it is.
        name: A key of COMPRESSORS, such as "merge", "channels", "magnitude" or "svd".
        keep: The fraction that stays (`1 - keep` is also called amount, sparsity or pruning ratio),
            above 0 and at most 1, of neurons, channels, weights or ranks.
        example: A batch as the model takes it: images (N, C, H, W; uint8 is normalised), vectors
            (N, D), sequences (N, T, D) or token ids (N, T).
        data: More of the kind (M, …), for methods that look at data; never labels.
        seed: Of what a method draws, such as random channels.
        keep_unit: "fraction", or "params": then `keep` is the fraction of the parameters, and the
            largest fraction of the above that fits is found by bisection.

    Returns:
        The smaller model, each module in training or eval mode as in `model`, and a `Report`.

    Raises:
        ValueError: What was asked cannot be done; the message says what can.

    Example:
        >>> model = effml.build_model("lenet5")
        >>> images = effml.load_dataset("phantom-chest").val.images
        >>> small, report = effml.compress(model, "channels", 0.5, example=images[:1])
        >>> report.kept, round(report.ratios["params"], 2)
        (0.5, 0.25)
    """
    method = COMPRESSORS[choose("compressor", name, COMPRESSORS)]
    return method(model, keep, example=example, data=data, seed=seed, keep_unit=keep_unit)
