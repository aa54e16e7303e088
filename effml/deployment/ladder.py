"""The ladder: the smallest and fastest version of a model that the gate lets pass."""

import sys
from collections.abc import Sequence
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
    "openvino_int8_half_range",
    "openvino_int8_transformer",
    "openvino_int8_control",
    "openvino_bf16",
    "openvino",
)
FP32 = ("onnxruntime", "openvino")
"""The float32 runtimes that predict.py may use: the fastest here is what a rung must beat."""
GAIN, SECONDS, WARMUP = 1.05, 1.0, 0.3
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
    on this CPU. Where there is none, the first that is non-inferior and faster than OpenVINO in
    float32, else that one, and its reason says so. How far it is stands on stderr.

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
        ValueError: an unknown rung, a margin that this task has not, or no rung that passes, and
            why.

    Example:
        >>> net, data = effml.build_model("lenet5"), effml.load_dataset("phantom-chest").val
        >>> images, how = data.images, dict(task="binary", positive=1, rungs=["openvino"])
        >>> effml.climb(net, images[:1], images, images, data.labels, **how)[1][-1].ships
        True
    """
    from effml.training import predict

    rungs, gate, log = [choose("rung", name, RUNTIMES) for name in rungs], gate or Gate(), []
    if not isinstance(gate, Gate):
        raise ValueError(f"gate={gate!r}: give one of effml.Gate(…).")
    gate.fits(task)
    reference, yardsticks = predict(model, images, task=task), _yardsticks(model, example, threads)
    second: tuple[Predictor, Rung] | None = None
    for number, name in enumerate(rungs, 1):
        print(f"effml: rung {number} of {len(rungs)}, {name} …", file=sys.stderr, flush=True)
        try:
            build = partial(RUNTIMES[name], threads=threads)
            predictor = yardsticks.get(name) or build(model, example, calibration)
        except Exception as error:  # of many kinds: the quantiser's and the engines'
            told = str(error).removesuffix(" Choose eager.")
            log.append(Rung(name, False, f"it cannot be built: {told}"))
            continue
        p = predicted(predictor, images, task)
        verdict = gate.check(reference, p, labels, task=task, **judged)
        rung, beaten = _judged(name, predictor, verdict, yardsticks, images[:1])
        log.append(rung)
        if rung.ships:
            return predictor, log
        exact = verdict.passed and predictor.precision == "f32"
        if verdict.passed and second is None and (exact or "openvino" in beaten):
            second = predictor, rung
        if exact:
            break
    if second:
        predictor, rung = second
        told = f"it ships, as none is clearly faster than {rung.fastest_fp32} in float32"
        if rung.fastest_fp32 == "onnxruntime":
            told += ", which predict.py takes where openvino is not installed"
        log[log.index(rung)] = replace(rung, ships=True, reason=f"{rung.reason}; {told}")
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
) -> tuple[Rung, list[str]]:
    """The rung, and which of the yardsticks it is faster than."""
    reason = "; ".join([verdict.reason, *predictor.notes])
    known = {
        "verdict": verdict,
        "precision": predictor.precision,
        "file_bytes": predictor.file_bytes,
        "build_seconds": predictor.build_seconds,
    }
    if not verdict.passed:
        return Rung(name, False, f"refused by the gate: {reason}", **known), []
    others = {other: one for other, one in yardsticks.items() if other != name}
    if not others:
        return Rung(name, True, reason, **known), []
    rows = measure_latency([predictor, *others.values()], image, warmup=WARMUP, seconds=SECONDS)
    mine, fastest = rows[0], min(rows[1:], key=lambda row: row.median_ms)
    beaten = [row.runtime for row in rows[1:] if _faster(mine, row)]
    known |= {
        "milliseconds": mine.median_ms,
        "fastest_fp32": fastest.runtime,
        "fastest_fp32_milliseconds": fastest.median_ms,
        "others_cpu": (busy := max(row.others_cpu for row in rows)),
    }
    told = f"{mine.median_ms:.2g} ms an image, {fastest.runtime} in float32 {fastest.median_ms:.2g}"
    if busy > BUSY:
        told += f"; others took {busy:.0%} of the CPU: these times may be theirs"
    if len(beaten) == len(others):
        return Rung(name, True, f"{reason}; {told}", **known), beaten
    return Rung(name, False, f"good enough ({reason}), but not faster: {told}", **known), beaten


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
