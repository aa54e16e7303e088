"""What a runtime makes its files of, and what is asked of a model and its images before."""

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

from effml.deployment import int8
from effml.deployment.predictor import (
    ADVICE,
    Predictor,
    default_threads,
    finish,
    in_range,
    own_folder,
    owned,
)
from effml.machine import seeded

if TYPE_CHECKING:
    import torch

TOLERANCE, ROUNDED = 1e-3, 0.1
"""Of the logits' largest value: more, and an exported graph does not compute what the model does.
The second: of a model trained with its rounding, where a value at an edge may step further."""
SHIFTED, LARGER = 0.25, 50
"""Calibration images are of another range than the example where none goes below 0 and the example
is below them by this part of their range, or where the largest value of one is this many times that
of the other and of 1."""
POSITIVE = (
    "no calibration image goes below 0 (they lie in {}): right where the model learned from such "
    "images, wrong where from normalised ones, −1…1"
)


ONE_BRANCH = (
    "forward decides by values (an if on them, .item()): only the branch that the example takes is "
    "in the graph, and images that take another get wrong answers in silence"
)


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
    _no_softmax(model, torch.cat([logits, _alone(model, example)]))
    job = Job(name, model, example, None, fine_tune, folder, threads)
    if calibration is not None:
        job.calibration = _seen(calibration, job)
    job.one_branch = takes_values(model, example)
    return job


def _seen(given: Any, job: Job) -> np.ndarray:
    """Images to calibrate on. ValueError where they are of another range than the example, by which
    INT8 would find wrong scales; a note where they may be."""
    from effml.models import as_input

    images, one = as_input(given).cpu().float().numpy(), job.example.numpy()
    if images.shape[1:] != one.shape[1:] or not len(images):
        told = f"calibration holds {images.shape}, and example {one.shape}"
        raise ValueError(f"{told}: give images of one shape, one or more.")
    if str(getattr(given, "dtype", "")).endswith("uint8"):
        return images  # normalised here
    low, high = (float(x) for x in (in_range(images).min(), images.max()))
    least, most = float(one.min()), float(one.max())
    shifted = 0 <= low < high and least < most and low - least > SHIFTED * (high - low)
    sizes = sorted([max(-low, high, 1), max(-least, most, 1)])
    if shifted or sizes[1] > LARGER * sizes[0]:
        raise ValueError(
            f"calibration lies in {low:.3g}…{high:.3g}, and example in {least:.3g}…{most:.3g}: "
            f"give both as the model takes its images, the example from the same set ({ADVICE})."
        )
    if low >= 0:
        job.notes.append(POSITIVE.format(f"{low:.3g}…{high:.3g}"))
    return images


def _no_softmax(model: "torch.nn.Module", outputs: "torch.Tensor") -> None:
    """ValueError for outputs that are probabilities: everyone here would apply softmax again."""
    if outputs.shape[1:2].numel() > 1 and (outputs >= 0).all():
        if (outputs.sum(1) - 1).abs().max() < 1e-4:
            told = f"{type(model).__name__} gives probabilities (none below 0, their sum is 1)"
            raise ValueError(f"{told}, and logits are asked for: take the softmax at its end off.")


def _alone(model: "torch.nn.Module", example: "torch.Tensor") -> "torch.Tensor":
    """Logits of noise. ValueError for a model that gives an image other logits in other company;
    one that draws (twice the same images, twice other logits) is not judged."""
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
    return wanted


def _noise(example: "torch.Tensor") -> "torch.Tensor":
    import torch

    return torch.randn(3, *example.shape[1:], generator=torch.Generator().manual_seed(0))


def calibration_of(job: Job) -> np.ndarray:
    if job.calibration is None:
        raise ValueError(f"{job.name} needs calibration=…: {int8.MOST} training images, say.")
    return job.calibration


def fine_tune_of(job: Job) -> Callable[["torch.nn.Module"], Any]:
    if job.fine_tune is None:
        advice = "a function that trains the model it is given, in place"
        raise ValueError(f"{job.name} trains the model again: give fine_tune, {advice}.")
    return job.fine_tune


def agree(job: Job, engine: Any, tolerance: float = TOLERANCE) -> None:
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
            told = f"it fails on {len(images)} images: {said(error)}"
            raise ValueError(lost(job, told)) from error
        apart = np.abs(got - wanted).max() if got.shape == wanted.shape else np.inf
        if not apart <= tolerance * max(np.abs(wanted).max(), 1e-3):
            told = f"for {len(images)} images its logits are {apart:.3g} off"
            raise ValueError(lost(job, told))


def lost(job: Job, told: str) -> str:
    kind = type(job.model).__name__
    return (
        f"{job.name} does not compute what {kind} does: {told}. Its forward depends on values, on "
        "the number of images or on chance, or uses what ONNX lacks. Choose eager."
    )


def said(error: Exception) -> str:
    """In one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
