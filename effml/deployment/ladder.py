"""The ladder: the smallest and fastest version of a model that the gate lets pass."""

import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from effml.deployment.gate import Gate, Verdict
from effml.deployment.predict_template import probabilities
from effml.deployment.runtimes import RUNTIMES, Predictor
from effml.machine import choose

if TYPE_CHECKING:
    from torch import nn

LADDER = (
    "openvino_int8",
    "openvino_int8_half_range",
    "openvino_int8_transformer",
    "openvino_int8_control",
    "openvino_bf16",
    "openvino",
)
FP32 = ("eager", "channels_last", "onnxruntime", "openvino")
"""The float32 runtimes, of which the fastest here is what a rung must beat."""
BLOCK = 64  # images normalised at a time


@dataclass(frozen=True)
class Rung:
    """One step of the ladder: whether it ships, and why or why not."""

    runtime: str
    ships: bool
    reason: str
    verdict: Verdict | None = None
    milliseconds: float | None = None  # of one image, median
    fastest_fp32: str = ""
    fastest_fp32_milliseconds: float | None = None
    precision: str = ""
    file_bytes: int | None = None
    build_seconds: float | None = None


def climb(
    model: "nn.Module",
    example: Any,
    calibration: Any,
    images: Any,
    labels: Any,
    *,
    task: str,
    gate: Gate | None = None,
    rungs: Sequence[str] = LADDER,
    threads: int | None = None,
    **judged: Any,
) -> tuple[Predictor, list[Rung]]:
    """The first rung that is non-inferior to the model and, unless itself float32, faster than
    its fastest float32 runtime on this CPU.

    Args:
        model: the finished one, in float32.
        example: an image (1, C, H, W) as the model takes it; uint8 is normalised.
        calibration: training images for INT8, uint8 or float (M, C, H, W).
        images: *validation* images that the gate judges by, uint8 (N, C, H, W).
        labels: theirs, as in `evaluate`; of segmentation the masks.
        task: as in `evaluate`, or segmentation.
        gate: the margins (default: those of `Gate`).
        rungs: names of RUNTIMES, from the top.
        threads: CPU threads (default: OMP_NUM_THREADS, else the cores there are).
        judged: positive, thresholds and groups, as in `Gate.check`.

    Returns:
        The predictor, and a `Rung` for each that was tried; the last ships.

    Raises:
        ValueError: an unknown rung, or none that passes, and why.

    Example:
        >>> net, data = effml.build_model("lenet5"), effml.load_dataset("phantom-chest").val
        >>> images, how = data.images, dict(task="binary", positive=1, rungs=["openvino"])
        >>> effml.climb(net, images[:1], images, images, data.labels, **how)[1][-1].ships
        True
    """
    from effml.training import predict

    rungs = [choose("rung", name, RUNTIMES) for name in rungs]
    gate, reference, log = gate or Gate(), predict(model, images, task=task), []
    yardsticks = _yardsticks(model, example, threads)
    for name in rungs:
        try:
            build = partial(RUNTIMES[name], threads=threads)
            predictor = yardsticks.get(name) or build(model, example, calibration)
        except Exception as error:  # of many kinds: the quantiser's and the engines'
            log.append(Rung(name, False, f"it cannot be built: {error}"))
            continue
        p = predicted(predictor, images, task)
        verdict = gate.check(reference, p, labels, task=task, **judged)
        log.append(_judged(name, predictor, verdict, yardsticks, images[:1]))
        if log[-1].ships:
            return predictor, log
    told = "\n".join(f"  {rung.runtime}: {rung.reason}" for rung in log)
    raise ValueError(f"No rung passes the gate, and nothing is shipped:\n{told}")


def _yardsticks(model: "nn.Module", example: Any, threads: int | None) -> dict[str, Predictor]:
    """The float32 runtimes that this model can have here."""
    found = {}
    for name in FP32:
        with suppress(ValueError, ModuleNotFoundError):
            found[name] = RUNTIMES[name](model, example, threads=threads)
    return found


def _judged(
    name: str,
    predictor: Predictor,
    verdict: Verdict,
    yardsticks: dict[str, Predictor],
    image: Any,
) -> Rung:
    reason = verdict.reason
    known = {
        "verdict": verdict,
        "precision": predictor.precision,
        "file_bytes": predictor.file_bytes,
        "build_seconds": predictor.build_seconds,
    }
    if not verdict.passed:
        return Rung(name, False, f"refused by the gate: {reason}", **known)
    others = {other: one for other, one in yardsticks.items() if other != name}
    if not others:
        return Rung(name, True, reason, **known)
    mine, *theirs = (1e3 * x for x in latencies([predictor, *others.values()], as_floats(image)))
    fastest, least = min(zip(others, theirs), key=lambda pair: pair[1])
    known |= {"milliseconds": mine, "fastest_fp32": fastest, "fastest_fp32_milliseconds": least}
    told = f"{mine:.2f} ms an image, {fastest} in float32 {least:.2f}"
    if name in FP32 or mine < least:
        return Rung(name, True, f"{reason}; {told}", **known)
    return Rung(name, False, f"good enough ({reason}), but not faster: {told}", **known)


def latencies(predictors: Sequence[Predictor], image: np.ndarray, *, budget: float = 2.0) -> list:
    """Median seconds of one image for each predictor, in turns, after a warm-up."""
    for one in predictors:
        one(image), one(image)
    times: list[list[float]] = [[] for _ in predictors]
    end = time.perf_counter() + budget
    while len(times[0]) < 5 or (time.perf_counter() < end and len(times[0]) < 200):
        for one, own in zip(predictors, times):
            start = time.perf_counter()
            one(image)
            own.append(time.perf_counter() - start)
    return [statistics.median(own) for own in times]


def as_floats(images: Any) -> np.ndarray:
    """uint8 images as a model takes them, float32 −1…1."""
    return np.asarray(images).astype(np.float32) / np.float32(127.5) - 1


def predicted(predictor: Predictor, images: Any, task: str) -> np.ndarray:
    """Probabilities of uint8 images (N, …)."""
    parts = range(0, len(images), BLOCK)
    logits = [predictor(as_floats(images[i : i + BLOCK])) for i in parts]
    return probabilities(np.concatenate(logits), task)
