"""A smaller copy of a model.

Each entry of COMPRESSORS is `compress(model, keep, *, example, data=None, seed=0, keep_unit="fraction") -> (model, Report)`;
what its arguments mean is said once, in `surface.compressor`.
"""

from collections.abc import Callable

from torch import nn

from effml.compression import channels, factorization, magnitude, merging
from effml.compression.choice import smallest_keep
from effml.compression.merging import data_free_fraction
from effml.compression.saving import load_compressed, save_compressed
from effml.compression.sensitivity import sensitivity
from effml.compression.surface import Report

Compressor = Callable[..., tuple[nn.Module, Report]]


COMPRESSORS: dict[str, Compressor] = {
    "merge": merging.merge,
    "merge_conv": merging.merge_conv,
    "merge_random": merging.merge_random,
    "merge_smallest": merging.merge_smallest,
    "magnitude": magnitude.magnitude,
    "magnitude_global": magnitude.magnitude_global,
    "svd": factorization.svd,
    "svd_spatial": factorization.svd_spatial,
    "svd_energy": factorization.svd_energy,
    "svd_spatial_energy": factorization.svd_spatial_energy,
    "channels": channels.channels,
    "channels_bn": channels.channels_bn,
    "channels_taylor": channels.channels_taylor,
    "channels_random": channels.channels_random,
}
__all__ = [
    "COMPRESSORS",
    "Report",
    "data_free_fraction",
    "get_compressor",
    "load_compressed",
    "save_compressed",
    "sensitivity",
    "smallest_keep",
]


RECIPE = {
    "merge": (merging,),
    "prune": (channels, magnitude),
    "factorize": (factorization,),
}  # field of a recipe: what serves it


def get_compressor(name: str, field: str | None = None) -> Compressor:
    """The entry of COMPRESSORS. Raises ValueError for a name that is not there, or that does not serve this field of a recipe."""
    rooms = [room.__name__ for room in RECIPE[field]] if field else []
    fitting = [
        key for key, compress in COMPRESSORS.items() if not field or compress.__module__ in rooms
    ]
    if name not in fitting:
        raise ValueError(
            f"Unknown compression {name!r}{f' for {field}' if field else ''}. Choose from: {', '.join(fitting)}"
        )
    return COMPRESSORS[name]
