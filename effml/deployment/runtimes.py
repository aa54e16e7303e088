"""`RUNTIMES`: by name, what makes a predictor of a finished model."""

import functools
import inspect
import shutil
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from effml.deployment import export, int8
from effml.deployment.engines import ENGINES
from effml.deployment.predictor import (
    Predictor,
    default_threads,
    finish,
    load_predictor,
    own_folder,
    owned,
)
from effml.machine import choose, optional, seeded

if TYPE_CHECKING:
    import torch

__all__ = ["RUNTIMES", "Predictor", "build_predictor", "load_predictor"]

TOLERANCE, ROUNDED = 1e-3, 0.1
"""Of the logits' largest value: more, and an exported graph does not compute what the model does.
The second: of a model trained with its rounding, where a value at an edge may step further."""


ONE_BRANCH = (
    "forward decides by values (an if on them, .item()): only the branch that the example takes is "
    "in the graph, and images that take another get wrong answers in silence"
)
COMPILED = {"layout": "channels_last", "dtype": "float32", "compile": True}


@dataclass
class Job:
    """What a runtime makes files of: a copy of the model in eval mode, one image, and where it is
    given images to calibrate on. `notes` are for the reader."""

    name: str
    model: "torch.nn.Module"
    example: "torch.Tensor"
    calibration: np.ndarray | None
    fine_tune: Callable[["torch.nn.Module"], Any] | None
    folder: Path
    threads: int
    one_branch: bool = False
    notes: list[str] = field(default_factory=list)


Runtime = Callable[..., Predictor]


def runtime(engine: str, **options: Any) -> Callable[[Callable[[Job], dict | None]], Runtime]:
    """Makes `method(job)`, which writes the files that `engine` reads, an entry of RUNTIMES. What
    it returns joins the engine's `options`."""

    def decorate(method: Callable[[Job], dict | None]) -> Runtime:
        def build(model, example, calibration=None, *, threads=None, fine_tune=None):
            start, folder = time.perf_counter(), own_folder()
            try:
                with seeded(0):  # a model may draw in its forward pass, and so may a calibration
                    job = _job(build.name, model, example, calibration, fine_tune, folder, threads)
                    how = {**options, **(method(job) or {})}
                finish(
                    folder,
                    build.name,
                    engine,
                    tuple(job.example.shape[1:]),
                    options=how,
                    threads=job.threads,
                    build_seconds=time.perf_counter() - start,
                    notes=job.notes,
                )
                predictor = _really(owned(Predictor(folder)))
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            return predictor

        signature = inspect.signature(build)
        functools.update_wrapper(build, method).__signature__ = signature
        build.name = method.__name__
        return build

    return decorate


def _really(predictor: Predictor) -> Predictor:
    """The same. ValueError where its name says another number format than what runs here."""
    wanted = next((how for how in ("int8", "bf16") if how in predictor.name), None)
    if wanted and predictor.layers and wanted not in predictor.layers:
        told = f"{predictor.name}: here no layer that multiplies runs in {wanted}"
        raise ValueError(f"{told} ({predictor.layers}). Choose openvino.")
    return predictor


def _job(
    name: str,
    model: Any,
    example: Any,
    calibration: Any,
    fine_tune: Any,
    folder: Path,
    threads: Any,
) -> Job:
    import torch

    from effml.models import answer, as_input, first_weight, takes_values

    if first_weight(model).is_meta:
        raise ValueError("The model's weights are on 'meta', without numbers: load them first.")
    threads = default_threads() if threads is None else threads
    if not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads={threads!r}: give a whole number of at least 1, or leave it.")
    model, example = deepcopy(model).cpu().float().eval(), as_input(example)[:1].cpu().float()
    example = example.clone()  # a model may change its input in place
    with torch.inference_mode():
        logits = answer(model, example.clone())
    if example.ndim not in (4, 5) or len(example) != 1 or logits.shape[:1] != (1,):
        given = f"{tuple(example.shape)} → {tuple(logits.shape)}"
        wanted = "example must be images (1, C, H, W) or (1, C, D, H, W) and give logits (1, …)"
        raise ValueError(f"{wanted}; got {given}.")
    _alone(model, example)
    if calibration is not None:
        calibration = as_input(calibration).cpu().float().numpy()
        if calibration.shape[1:] != example.shape[1:] or not len(calibration):
            told = f"calibration holds {calibration.shape}, and example {tuple(example.shape)}"
            raise ValueError(f"{told}: give images of one shape, one or more.")
    one_branch = takes_values(model, example)
    return Job(name, model, example, calibration, fine_tune, folder, threads, one_branch)


def _alone(model: "torch.nn.Module", example: "torch.Tensor") -> None:
    """ValueError for a model that gives an image other logits in other company. One that draws
    (twice the same images, twice other logits) is not judged."""
    import torch

    from effml.models import answer

    noise = _noise(example)
    with torch.inference_mode():
        wanted, again = (answer(model, noise.clone()) for _ in range(2))
        alone = torch.cat([answer(model, image.clone()) for image in noise.split(1)])
    allowed = TOLERANCE * max(wanted.abs().max().item(), 1e-3)
    off, drawn = ((x - wanted).abs().max().item() for x in (alone, again))
    if off > allowed >= drawn:
        advice = "batch norm without running statistics does this, or a mean over the first axis"
        raise ValueError(
            f"{type(model).__name__} mixes the images of a batch: beside two others an image's "
            f"logits are {off:.3g} off, so it has no answer of its own ({advice})."
        )


def _noise(example: "torch.Tensor") -> "torch.Tensor":
    import torch

    return torch.randn(3, *example.shape[1:], generator=torch.Generator().manual_seed(0))


def _calibration(job: Job) -> np.ndarray:
    if job.calibration is None:
        raise ValueError(f"{job.name} needs calibration=…: {int8.MOST} training images, say.")
    return job.calibration


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
    _agree(job, ENGINES["torch"](job.folder, COMPILED | more, job.threads))
    return more


def _agree(job: Job, engine: Any, tolerance: float = TOLERANCE) -> None:
    """ValueError unless the engine gives the model's logits, for one image and for three, bright
    and dark: what depends on values or on the number of images is lost in a traced graph."""
    import torch

    noise = _noise(job.example)
    for images in (job.example, noise, 1 + noise, -1 - noise):
        with torch.inference_mode():
            wanted = job.model(images.clone()).numpy()
        try:
            got = engine(images.numpy())
        except Exception as error:  # of many kinds, of two engines
            told = f"it fails on {len(images)} images: {_said(error)}"
            raise ValueError(_lost(job, told)) from error
        apart = np.abs(got - wanted).max() if got.shape == wanted.shape else np.inf
        if not apart <= tolerance * max(np.abs(wanted).max(), 1e-3):
            told = f"for {len(images)} images its logits are {apart:.3g} off"
            raise ValueError(_lost(job, told))


def _lost(job: Job, told: str) -> str:
    kind = type(job.model).__name__
    return (
        f"{job.name} does not compute what {kind} does: {told}. Its forward depends on values, on "
        "the number of images or on chance, or uses what ONNX lacks. Choose eager."
    )


def _said(error: Exception) -> str:
    """In one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _exported(job: Job) -> Path:
    """The model as ONNX. ValueError for one that cannot be exported."""
    job.notes += [ONE_BRANCH] * job.one_branch
    file = job.folder / "model.onnx"
    optional("onnx", "inference")
    try:
        export.to_onnx(job.model, job.example, file)
    except Exception as error:  # of many kinds: torch's and the model's own
        raise ValueError(_lost(job, _said(error))) from error
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
        _agree(job, ENGINES["onnxruntime"](job.folder, options, job.threads))
    return options


@runtime("onnxruntime")
def onnxruntime_int8(job: Job) -> dict[str, Any]:
    """ONNX Runtime in 8 bits: whole numbers from 0 for activations, signed ones for weights, a
    scale per channel, and on CPUs without VNNI weights of 7 bits, so that sums cannot overflow."""
    images, file = _calibration(job), _exported(job)
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
        raise ValueError(_lost(job, _said(error))) from error
    file.unlink()
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    _agree(job, lambda images: compiled(images)[0], tolerance)
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
    images, train = _calibration(job), _fine_tune(job)
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

    images, train = torch.from_numpy(_calibration(job)), _fine_tune(job)
    small, report = compress(job.model, "channels", keep, example=job.example, data=images)
    job.notes += [f"{1 - report.ratios['params']:.0%} of the parameters cut", *report.notes]
    train(small)
    job.model = small.eval()
    _quantized(job)


def _fine_tune(job: Job) -> Callable[["torch.nn.Module"], Any]:
    if job.fine_tune is None:
        advice = "a function that trains the model it is given, in place"
        raise ValueError(f"{job.name} trains the model again: give fine_tune, {advice}.")
    return job.fine_tune


def _quantized(job: Job, **how: bool) -> None:
    images = _calibration(job)
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
        calibration: *Training* images (N, …), for the INT8 ones; some 300, never labels.
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
