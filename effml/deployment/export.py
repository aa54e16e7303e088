"""A torch model as ONNX, which both engines read."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

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

    with warnings.catch_warnings():  # that it is the older exporter, and what a trace fixes:
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
