"""Where a model in 8 bits loses: each layer's rounding, by ONNX Runtime's debugging tools (notebook
40)."""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas

from effml.deployment import int8
from effml.deployment.export import to_onnx
from effml.machine import optional

if TYPE_CHECKING:
    import torch


def layer_errors(model: "torch.nn.Module", calibration: Any, images: Any) -> pandas.DataFrame:
    """How many decibels the signal lies above the error, for each layer that multiplies, in order.

    `weights`: of its weights, rounded (NaN where it has none). `so far`: of what comes in, rounded,
    against the same in float32, so with all the errors of the layers before. 20 dB are an error of
    a tenth, 40 dB of a hundredth. `calibration` and `images` are float32 arrays (N, C, H, W),
    normalised."""
    import torch

    debug = optional("onnxruntime.quantization.qdq_loss_debug", "inference")
    onnx = optional("onnx", "inference")
    with tempfile.TemporaryDirectory() as folder, int8.logging_off():
        files = {name: Path(folder) / f"{name}.onnx" for name in ("float", "int8")}
        to_onnx(model.cpu().float().eval(), torch.as_tensor(calibration[:1]), files["float"])
        shutil.copy(files["float"], files["int8"])
        int8.by_onnxruntime(files["int8"], calibration)
        seen = {}
        for name, file in files.items():
            watched = str(file.with_stem(f"{name}-watched"))
            debug.modify_model_output_intermediate_tensors(file, watched)
            seen[name] = debug.collect_activations(
                watched, [{"images": x} for x in int8.some(images)]
            )
        pairs = debug.create_activation_matching(seen["int8"], seen["float"])
        pairs = {name: pair for name, pair in pairs.items() if "float" in pair}
        inputs = debug.compute_activation_error(pairs)
        weights = debug.compute_weight_error(
            debug.create_weight_matching(*map(str, files.values()))
        )
        nodes = onnx.load(files["float"]).graph.node
    rows = {
        node.name.strip("/"): (weights.get(node.input[1]), inputs[node.input[0]]["xmodel_err"])
        for node in nodes
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[0] in inputs
    }
    columns = ["weights", "so far"]
    table = pandas.DataFrame.from_dict(rows, orient="index", columns=columns, dtype=float)
    return table.rename_axis("layer")


def widths(model: "torch.nn.Module", images: "torch.Tensor") -> pandas.DataFrame:
    """The largest weight of each layer that multiplies, and the largest value that comes in, in
    units of the root mean square."""
    import torch

    rows, kinds = [], (torch.nn.Conv2d, torch.nn.Linear)

    def look(layer: "torch.nn.Module", given: tuple) -> None:
        both = layer.weight.detach(), given[0]
        rows.append([float(x.abs().max() / x.square().mean().sqrt()) for x in both])

    hooks = [m.register_forward_pre_hook(look) for m in model.modules() if isinstance(m, kinds)]
    with torch.inference_mode():
        model(images)
    for hook in hooks:
        hook.remove()
    return pandas.DataFrame(rows, columns=["weights", "incoming values"])
