"""`RUNTIMES`: by name, what makes a predictor of a finished model."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from effml.deployment import export, int8
from effml.deployment.engines import ENGINES
from effml.deployment.job import (
    ONE_BRANCH,
    ROUNDED,
    TOLERANCE,
    Job,
    Runtime,
    agree,
    calibration_of,
    fine_tune_of,
    lost,
    runtime,
    said,
)
from effml.deployment.predictor import Predictor, load_predictor
from effml.machine import choose, optional

if TYPE_CHECKING:
    import torch

__all__ = ["RUNTIMES", "Predictor", "build_predictor", "load_predictor"]

COMPILED = {"layout": "channels_last", "dtype": "float32", "compile": True}


def _pickled(job: Job) -> dict[str, bool]:
    import torch

    try:
        torch.save(job.model, job.folder / "model.pt")
    except Exception as error:  # of many kinds: a hook that is a lambda, a compiled module
        kind, advice = type(job.model).__name__, "Choose openvino, or take hooks off"
        raise ValueError(f"{kind} cannot be pickled ({error}). {advice}.") from error
    rooms = {type(module).__module__.partition(".")[0] for module in job.model.modules()}
    return {"timm": bool(rooms & {"timm", "torchvision"})}  # which is imported in a way of its own


@runtime("torch", layout="contiguous", dtype="float32", compile=False)
def eager(job: Job) -> dict[str, bool]:
    """torch as it is, layer after layer."""
    return _pickled(job)


@runtime("torch", layout="channels_last", dtype="float32", compile=False)
def channels_last(job: Job) -> dict[str, bool]:
    """torch with the channels of a pixel side by side, as `train` and `predict` have it."""
    return _pickled(job)


@runtime("torch", layout="channels_last", dtype="bfloat16", compile=False)
def bf16(job: Job) -> dict[str, bool]:
    """torch with weights and images in bfloat16, on CPUs that compute in it."""
    _needs_bf16(job)
    return _pickled(job)


@runtime("torch", **COMPILED)
def compile(job: Job) -> dict[str, bool]:
    """torch.compile with frozen weights, which needs a C++ compiler."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        advice = "Install one (g++, clang or MSVC), or choose openvino"
        raise ValueError(
            f"{job.name} needs a C++ compiler, and there is none. {advice}."
        ) from error
    more = _pickled(job)
    agree(job, ENGINES["torch"](job.folder, COMPILED | more, job.threads))
    return more


def _exported(job: Job) -> Path:
    """The model as ONNX. ValueError for one that cannot be exported."""
    job.notes += [ONE_BRANCH] * job.one_branch
    file = job.folder / "model.onnx"
    optional("onnx", "inference")
    try:
        export.to_onnx(job.model, job.example, file)
    except Exception as error:  # of many kinds: torch's and the model's own
        raise ValueError(lost(job, said(error))) from error
    return file


@runtime("onnxruntime")
def onnxruntime(job: Job) -> dict[str, Any]:
    """ONNX Runtime in float32."""
    return _onnx_options(job, _exported(job), exact=True)


def _onnx_options(job: Job, file: Path, exact: bool = False) -> dict[str, Any]:
    """What was found in the graph that is executed; where it must be `exact`, whether it is."""
    from effml.deployment.onnx_graph import layers

    options = {"layers": layers(file, job.threads)}
    if exact:
        agree(job, ENGINES["onnxruntime"](job.folder, options, job.threads))
    return options


@runtime("onnxruntime")
def onnxruntime_int8(job: Job) -> dict[str, Any]:
    """ONNX Runtime in 8 bits: whole numbers from 0 for activations, signed ones for weights, a
    scale per channel, and on CPUs without VNNI weights of 7 bits, so that sums cannot overflow."""
    images, file = calibration_of(job), _exported(job)
    _onnx_options(job, file, exact=True)
    job.notes += int8.by_onnxruntime(file, images)
    return _onnx_options(job, file)


def _openvino_model(job: Job, tolerance: float = TOLERANCE) -> Any:
    """An ov.Model that computes what the model does."""
    ov, file = optional("openvino", "inference"), _exported(job)
    core = ov.Core()
    try:
        model = core.read_model(file.read_bytes())
    except RuntimeError as error:
        raise ValueError(lost(job, said(error))) from error
    file.unlink()
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    agree(job, lambda images: compiled(images)[0], tolerance)
    return model


def _save(job: Job, model: Any) -> None:
    """In the weights' own types: OpenVINO would write float16 by itself."""
    ov = optional("openvino", "inference")
    ov.save_model(model, job.folder / "model.xml", compress_to_fp16=False)


@runtime("openvino", hint="f32")
def openvino(job: Job) -> None:
    """OpenVINO in float32."""
    _save(job, _openvino_model(job))


@runtime("openvino", hint="bf16")
def openvino_bf16(job: Job) -> None:
    """OpenVINO in bfloat16, on CPUs that compute in it."""
    _needs_bf16(job)
    _save(job, _openvino_model(job))


def _needs_bf16(job: Job) -> None:
    from effml.machine import cpu
    from effml.precision import has_bf16

    if not has_bf16("cpu"):
        flags = cpu()[1] or "no known instructions"
        raise ValueError(
            f"{job.name}: this CPU ({flags}) has no bfloat16 arithmetic. Choose openvino."
        )


@runtime("openvino", hint="f32")
def openvino_int8(job: Job) -> None:
    """OpenVINO in 8 bits by NNCF with its defaults; what stays is float32."""
    _quantized(job)


@runtime("openvino", hint="f32")
def openvino_int8_half_range(job: Job) -> None:
    """The same with weights of 7 bits everywhere, not in the first layer alone: without VNNI sums
    of products of 8 bits overflow. No setting wins everywhere."""
    _quantized(job, half_range=True)


@runtime("openvino", hint="f32")
def openvino_int8_minmax(job: Job) -> None:
    """The same with no activation of the calibration images clipped: by itself NNCF takes the mean
    of each image's largest, and cuts those of many images off."""
    _quantized(job, minmax=True)


@runtime("openvino", hint="f32")
def openvino_int8_transformer(job: Job) -> None:
    """The same with NNCF's preset for transformers, whose activations have outliers."""
    _quantized(job, transformer=True)


@runtime("openvino", hint="f32")
def openvino_int8_control(job: Job) -> None:
    """The same with NNCF's accuracy control: layers go back to float32, the worst first, until the
    logits of the calibration images are at most int8.CONTROL off."""
    _quantized(job, control=True)


@runtime("openvino", hint="f32")
def openvino_int8_qat(job: Job) -> None:
    """The same, where `fine_tune` trains the model with its rounding in place before the export."""
    images, train = calibration_of(job), fine_tune_of(job)
    with int8.rounding(job.model, images) as model:
        train(model)
        job.model = model.eval()
        _save(job, _openvino_model(job, ROUNDED))


@runtime("openvino", hint="f32")
def openvino_int8_pruned40(job: Job) -> None:
    """40 % of the channels cut, trained again by `fine_tune`, then in 8 bits."""
    _pruned(job, keep=0.6)


@runtime("openvino", hint="f32")
def openvino_int8_pruned60(job: Job) -> None:
    """The same with 60 % of them cut."""
    _pruned(job, keep=0.4)


def _pruned(job: Job, keep: float) -> None:
    import torch

    from effml.compression import compress

    images, train = torch.from_numpy(calibration_of(job)), fine_tune_of(job)
    small, report = compress(job.model, "channels", keep, example=job.example, data=images)
    job.notes += [f"{1 - report.ratios['params']:.0%} of the parameters cut", *report.notes]
    train(small)
    job.model = small.eval()
    _quantized(job)


def _quantized(job: Job, **how: bool) -> None:
    images = calibration_of(job)
    _save(job, int8.by_nncf(_openvino_model(job), images, **how))
    _steady(job, images[:4])


def _steady(job: Job, images: np.ndarray) -> None:
    """ValueError where OpenVINO gives an image alone other logits than among others, with one
    thread or as many as asked: a graph of 8 bits was seen that is wrong for one image on one."""
    for threads in {1, job.threads}:
        engine = ENGINES["openvino"](job.folder, {"hint": "f32"}, threads)
        together, alone = engine(images), np.concatenate([engine(x[None]) for x in images])
        off = np.abs(together - alone).max()
        if not off <= ROUNDED * max(np.abs(together).max(), 1e-3):
            raise ValueError(
                f"{job.name}: with {threads} thread(s) OpenVINO gives an image alone logits that "
                f"are {off:.3g} off those among {len(images)} images. Choose another runtime, "
                "openvino_int8_minmax, say."
            )


RUNTIMES: dict[str, Runtime] = {
    "eager": eager,
    "channels_last": channels_last,
    "bf16": bf16,
    "compile": compile,
    "onnxruntime": onnxruntime,
    "onnxruntime_int8": onnxruntime_int8,
    "openvino": openvino,
    "openvino_bf16": openvino_bf16,
    "openvino_int8": openvino_int8,
    "openvino_int8_half_range": openvino_int8_half_range,
    "openvino_int8_minmax": openvino_int8_minmax,
    "openvino_int8_transformer": openvino_int8_transformer,
    "openvino_int8_control": openvino_int8_control,
    "openvino_int8_qat": openvino_int8_qat,
    "openvino_int8_pruned40": openvino_int8_pruned40,
    "openvino_int8_pruned60": openvino_int8_pruned60,
}
"""What the field `runtime` of a recipe can ask for: `build(model, example, calibration)`."""


def build_predictor(
    model: "torch.nn.Module",
    name: str,
    example: Any,
    calibration: Any = None,
    *,
    threads: int | None = None,
    fine_tune: Callable[["torch.nn.Module"], Any] | None = None,
) -> Predictor:
    """A finished model on one of RUNTIMES.

    Args:
        model: Gives logits (N, …) for images (N, C, H, W) or (N, C, D, H, W). It is left as it is.
        name: A key of RUNTIMES, such as "onnxruntime" or "openvino_int8".
        example: An image (1, C, H, W) as the model takes it; uint8 is normalised.
        calibration: *Training* images (N, …), for the INT8 ones; some 300, never labels, in the
            range of `example`.
        threads: CPU threads (default: OMP_NUM_THREADS, else the cores there are).
        fine_tune: Trains a model in place, for those that prune or train with rounding.

    Returns:
        A `Predictor`: call it with float32 images, `save` it to a folder.

    Raises:
        ValueError: What was asked cannot be done; the message says what can.
        ModuleNotFoundError: The engine is not installed.

    Example:
        >>> import torch
        >>> model, images = effml.build_model("lenet5"), torch.zeros(5, 1, 28, 28)
        >>> predictor = effml.build_predictor(model, "openvino", images)
        >>> predictor(images).shape, predictor.precision
        ((5, 2), 'f32')
    """
    build = RUNTIMES[choose("runtime", name, RUNTIMES)]
    return build(model, example, calibration, threads=threads, fine_tune=fine_tune)
