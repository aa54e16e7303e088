"""The ladder: the smallest and fastest version of a model that the gate lets pass."""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from effml.deployment.gate import Gate, Verdict
from effml.deployment.latency import BUSY, Latency, measure_latency
from effml.deployment.predict_template import probabilities
from effml.deployment.runtimes import RUNTIMES, Predictor
from effml.machine import choose

if TYPE_CHECKING:
    from torch import nn

LADDER = (
    "openvino_int8",
    "openvino_int8_minmax",
    "openvino_int8_half_range",
    "openvino_int8_transformer",
    "openvino_int8_control",
    "openvino_bf16",
    "openvino",
)
FP32 = ("onnxruntime", "openvino")
"""The float32 runtimes that predict.py may use: the fastest here is what a rung must beat."""
GAIN, SECONDS, WARMUP = 1.05, 0.6, 0.2
"""Faster: by this factor, in each of five turns; by chance all five agree once in 32 times. The
seconds are those of each predictor."""
BLOCK = 64  # images normalised at a time


@dataclass(frozen=True)
class Rung:
    """One step of the ladder: whether it ships, and why or why not."""

    runtime: str
    ships: bool
    reason: str
    verdict: Verdict | None = None
    milliseconds: float | None = None  # of one image, median
    fastest_fp32: str = ""  # of the others
    fastest_fp32_milliseconds: float | None = None
    others_cpu: float | None = None  # the share that other programs took meanwhile
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
    """The first rung that is non-inferior to the model and faster than its fastest float32 runtime
    here; else the first such that is faster than OpenVINO in float32, or that, as its reason says.

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
        The predictor, and a `Rung` for each that was tried; one ships.

    Raises:
        ValueError: an unknown rung, a margin that the task has not, or no rung that passes.

    Example:
        >>> net, data = effml.build_model("lenet5"), effml.load_dataset("phantom-chest").val
        >>> images, how = data.images, dict(task="binary", positive=1, rungs=["openvino"])
        >>> effml.climb(net, images[:1], images, images, data.labels, **how)[1][-1].ships
        True
    """
    from effml.training import predict

    rungs, gate = [choose("rung", name, RUNTIMES) for name in rungs], gate or Gate()
    if not isinstance(gate, Gate):
        raise ValueError(f"gate={gate!r}: give one of effml.Gate(…).")
    gate.fits(task)
    log, second = [], None
    reference, yardsticks = predict(model, images, task=task), _yardsticks(model, example, threads)
    judge = partial(gate.check, reference, labels=labels, task=task, **judged)
    for number, name in enumerate(rungs, 1):
        print(f"effml: rung {number} of {len(rungs)}, {name} …", file=sys.stderr, flush=True)
        build = partial(RUNTIMES[name], model, example, calibration, threads=threads)
        predictor, rung, good = _tried(name, build, judge, yardsticks, images, task)
        log.append(rung)
        if rung.ships:
            return predictor, log
        second = second or ((predictor, rung) if good else None)
        if good and predictor.precision == "f32":
            break
    return _second(second, log)


def _tried(
    name: str,
    build: Callable[[], Predictor],
    judge: Callable[[np.ndarray], Verdict],
    yardsticks: dict[str, Predictor],
    images: Any,
    task: str,
) -> tuple[Predictor | None, Rung, bool]:
    """The predictor of a rung, and as `_judged`."""
    try:
        predictor = yardsticks.get(name) or build()
    except Exception as error:  # of many kinds: the quantiser's and the engines'
        told = str(error).removesuffix(" Choose eager.")
        return None, Rung(name, False, f"it cannot be built: {told}"), False
    verdict = judge(predicted(predictor, images, task))
    return predictor, *_judged(name, predictor, verdict, yardsticks, images[:1])


def _second(best: tuple[Predictor, Rung] | None, log: list[Rung]) -> tuple[Predictor, list[Rung]]:
    """What ships where no rung is faster than all of float32; ValueError where none passed."""
    if best is None:
        told = "\n".join(f"  {rung.runtime}: {rung.reason}" for rung in log)
        raise ValueError(f"No rung passes the gate, and nothing is shipped:\n{told}")
    predictor, rung = best
    told = f"it ships, as none is clearly faster than {rung.fastest_fp32} in float32"
    if rung.fastest_fp32 == "onnxruntime":
        told += ", which predict.py takes where openvino is not installed"
    log[log.index(rung)] = replace(rung, ships=True, reason=f"{rung.reason}; {told}")
    return predictor, log


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
) -> tuple[Rung, bool]:
    """The rung, and whether it may ship if none is faster than all yardsticks."""
    reason = "; ".join([verdict.reason, *predictor.notes])
    known = {
        "verdict": verdict,
        "precision": predictor.precision,
        "file_bytes": predictor.file_bytes,
        "build_seconds": predictor.build_seconds,
    }
    if not verdict.passed:
        return Rung(name, False, f"refused by the gate: {reason}", **known), False
    others = {other: one for other, one in yardsticks.items() if other != name}
    if not others:
        return Rung(name, True, reason, **known), True
    rows = measure_latency([predictor, *others.values()], image, warmup=WARMUP, seconds=SECONDS)
    mine, fastest = rows[0], min(rows[1:], key=lambda row: row.median_ms)
    faster = {row.runtime: _faster(mine, row) for row in rows[1:]}
    known |= {
        "milliseconds": mine.median_ms,
        "fastest_fp32": fastest.runtime,
        "fastest_fp32_milliseconds": fastest.median_ms,
        "others_cpu": (busy := max(row.others_cpu for row in rows)),
    }
    told = f"{mine.median_ms:.2g} ms an image, {fastest.runtime} in float32 {fastest.median_ms:.2g}"
    if busy > BUSY:
        told += f"; others took {busy:.0%} of the CPU: these times may be theirs"
    if all(faster.values()):
        return Rung(name, True, f"{reason}; {told}", **known), True
    good = predictor.precision == "f32" or faster.get("openvino", False)
    return Rung(name, False, f"good enough ({reason}), but not faster: {told}", **known), good


def _faster(mine: Latency, theirs: Latency) -> bool:
    return all(GAIN * one < other for one, other in zip(mine.turns_ms, theirs.turns_ms))


def as_floats(images: Any) -> np.ndarray:
    """uint8 images as a model takes them, float32 −1…1."""
    return np.asarray(images).astype(np.float32) / np.float32(127.5) - 1


def predicted(predictor: Predictor, images: Any, task: str) -> np.ndarray:
    """Probabilities of uint8 images (N, …)."""
    parts = range(0, len(images), BLOCK)
    logits = [predictor(as_floats(images[i : i + BLOCK])) for i in parts]
    return probabilities(np.concatenate(logits), task)
