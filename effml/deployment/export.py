"""A torch model as ONNX, which both engines read."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    import torch

OPSET = 17


def to_onnx(
    model: "torch.nn.Module", example: "torch.Tensor", file: Path, opset: int = OPSET
) -> None:
    """Write the graph that one image takes, for any number of images: input `images`, output
    `logits`.

    By the TorchScript exporter: 0.3 to 2.5 s a model, 10 to 20 by the one that comes after it. By
    ONNX rather than OpenVINO's own converter, so that one file serves both engines."""
    import torch

    name, functional = "adaptive_avg_pool2d", torch.nn.functional
    pooling = patch.object(functional, name, partial(_pool, getattr(functional, name)))
    with (
        pooling,
        warnings.catch_warnings(),
    ):  # that it is the older exporter, and what a trace fixes:
        warnings.simplefilter("ignore")  # `agree` looks whether the numbers are the model's
        torch.onnx.export(
            model,
            (example.clone(),),
            file,
            dynamo=False,
            opset_version=opset,
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
        )


def _pool(plain: Callable[..., "torch.Tensor"], images: "torch.Tensor", size: Any) -> Any:
    """`plain`, adaptive_avg_pool2d. ONNX has none to a larger size, which VGG needs for small
    images: by whole factors that only repeats pixels."""
    import torch

    sides = [int(side) for side in images.shape[-2:]]
    wanted = [size] * 2 if isinstance(size, int) else list(size)
    grows = None not in wanted and wanted != sides
    if grows and all(new % old == 0 for new, old in zip(wanted, sides)):
        return torch.nn.functional.interpolate(images, size=wanted, mode="nearest")
    return plain(images, size)
