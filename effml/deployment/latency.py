"""What predictions take: each predictor in a fresh process of its own, by turns, its threads
sleeping while they wait for each other."""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np

from effml.deployment.predictor import Predictor, manifest
from effml.metering import measure

LEAST = 3
"""The fewest passes of a turn."""

SLEEPING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
"""A thread that waits takes no CPU time from the others."""
BUSY = 0.1


@dataclass(frozen=True, kw_only=True)
class Latency:
    """What `batch` images took at once. `turns_ms` are the medians of the turns, in order: the same
    turn of two predictors makes a pair. `images_per_s` is batch / median. `joules_per_1000` images
    with the ends of their range are net, NaN where unknown; `peak_memory_bytes` are those of the
    whole process, Python included; `others_cpu` is the largest share of the CPU time that other
    programs took, before or meanwhile: above BUSY the times say more of them."""

    runtime: str
    precision: str
    threads: int
    batch: int
    passes: int
    median_ms: float
    p95_ms: float
    turns_ms: tuple[float, ...]
    images_per_s: float
    file_bytes: int
    build_seconds: float
    peak_memory_bytes: float
    joules_per_1000: float
    joules_low: float
    joules_high: float
    energy_source: str
    others_cpu: float


class Worker:
    """A process with one predictor; `ask` gives it a command and waits for the answer."""

    def __init__(self, folder: Path, threads: int) -> None:
        env = {**os.environ, **SLEEPING, "OMP_NUM_THREADS": str(threads)}
        words = [sys.executable, "-m", "effml.deployment.worker", str(folder), str(threads)]
        self._errors = tempfile.TemporaryFile("w+")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._errors}
        self._process = subprocess.Popen(words, env=env, text=True, **pipes)

    def __enter__(self) -> Self:
        try:
            self._answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()  # the end of its commands ends it
        self._errors.close()

    def ask(self, do: str, **command: Any) -> dict[str, Any]:
        self._process.stdin.write(json.dumps({"do": do, **command}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        if line := self._process.stdout.readline():
            return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().strip().rpartition("\n")[2][-500:]  # not the trace
        raise RuntimeError(f"The process of a predictor ended ({self._process.returncode}): {said}")


@contextmanager
def images_file(images: Any) -> Iterator[Path]:
    """A file with them, as long as the block."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(file := Path(folder) / "images.npy", np.asarray(images))
        yield file


def predict_elsewhere(predictor: Predictor, images: Any) -> tuple[np.ndarray, dict[str, float]]:
    """Logits of images (N, …), uint8 or normalised, by a fresh process, and the columns of a record
    that say what that cost."""
    with images_file(images) as file, Worker(predictor.folder, predictor.threads) as worker:
        told = worker.ask("predict", images=str(file), logits=str(file.with_name("logits.npy")))
        logits = np.load(file.with_name("logits.npy"))
    return logits, {name: value for name, value in told.items() if name.startswith("infer_")}


def measure_latency(
    predictors: "Predictor | str | os.PathLike | Sequence[Any]",
    images: Any,
    *,
    batch: int | Sequence[int] = 1,
    threads: int | None = None,
    warmup: float = 0.5,
    seconds: float = 5.0,
    rounds: int = 5,
) -> "Latency | list[Latency]":
    """What predictions take on this machine: in a fresh process each, by turns, after a warm-up.

    Args:
        predictors: A Predictor, the folder of a saved one, or several, which are then measured by
            turns, so that what disturbs one disturbs all.
        images: Images (N, …), normalised or uint8; at least `batch`. Or a list of such arrays, one
            for each predictor.
        batch: Images at once: 1 for a latency, 32, say, for a throughput. Or one for each
            predictor.
        threads: CPU threads (default: as each was built).
        warmup: Seconds before, of each.
        seconds: Seconds of each, all turns together.
        rounds: Turns of each.

    Returns:
        A `Latency`, or a list of them, in order.

    Raises:
        ValueError: Fewer images than `batch`, a list that is too short or too long, no round, or
            something else that cannot be measured.
        RuntimeError: A process ended early; the message says what it said.

    Example:
        >>> import torch
        >>> model, image = effml.build_model("lenet5"), torch.zeros(1, 1, 28, 28)
        >>> predictor = effml.build_predictor(model, "openvino", image)
        >>> told = effml.measure_latency(predictor, image, seconds=0.1, warmup=0)
        >>> told.batch, told.median_ms <= told.p95_ms
        (1, True)
    """
    if one := not isinstance(predictors, (list, tuple)):
        predictors = [predictors]
    _refuse(predictors, threads, rounds, seconds, warmup)
    given, batches = _work(images, batch, len(predictors))
    folders = [p.folder if isinstance(p, Predictor) else Path(p) for p in predictors]
    built = _manifests(folders, given)
    used = [threads or getattr(p, "threads", c["threads"]) for p, c in zip(predictors, built)]
    before = _others_at_rest()
    with ExitStack() as stack:
        files = [str(stack.enter_context(images_file(array))) for array in given]
        workers = [stack.enter_context(Worker(*one)) for one in zip(folders, used)]
        work = [{"images": f, "batch": n, "least": LEAST} for f, n in zip(files, batches)]
        for worker, how in zip(workers, work):
            worker.ask("repeat", seconds=warmup, **how)
        turns = [
            [w.ask("repeat", seconds=seconds / rounds, **how) for w, how in zip(workers, work)]
            for _ in range(rounds)
        ]
    rows = [_latency(*given, before) for given in zip(folders, built, used, zip(*turns))]
    return rows[0] if one else rows


def _manifests(folders: Sequence[Path], images: Sequence[Any]) -> list[dict[str, Any]]:
    """Those of the folders; ValueError for one that takes other images."""
    built = [manifest(folder) for folder in folders]
    for card, array in zip(built, images):
        if list(np.shape(array)[1:]) != card["image_shape"]:
            told = f"images are {np.shape(array)}, and {card['runtime']} takes"
            raise ValueError(f"{told} (N, {', '.join(map(str, card['image_shape']))}).")
    return built


def _refuse(
    predictors: Sequence[Any], threads: Any, rounds: int, seconds: float, warmup: float
) -> None:
    for one in predictors:
        if not isinstance(one, (Predictor, str, os.PathLike)):
            advice = "give what effml.build_predictor makes, or the folder of a saved one"
            raise ValueError(f"{type(one).__name__} is no predictor: {advice}.")
    if not predictors or not (0 <= seconds < math.inf and 0 <= warmup < math.inf):
        given = f"{len(predictors)} predictors, {seconds=}, {warmup=}"
        raise ValueError(f"{given}: give one or more, and no seconds below 0 or without end.")
    for name, value in (("threads", 1 if threads is None else threads), ("rounds", rounds)):
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name}={value!r}: give a whole number of at least 1.")


def _work(images: Any, batch: int | Sequence[int], n: int) -> tuple[Sequence, Sequence[int]]:
    """Images and batch of each of n predictors."""
    arrays, batches = _for_each("images", images, n), _for_each("batch", batch, n)
    for one, array in zip(batches, arrays):
        if not isinstance(one, Integral) or not 1 <= one <= len(array):
            told = f"batch={one!r} of {len(array)} images"
            raise ValueError(f"{told}: give 1 to {len(array)}, a whole number.")
    return arrays, [int(one) for one in batches]


def _for_each(what: str, given: Any, n: int) -> Sequence[Any]:
    """One for each of n predictors: those of a list, else the same for all."""
    if not isinstance(given, (list, tuple)):
        return [given] * n
    if len(given) != n:
        raise ValueError(f"{what} is a list of {len(given)}: give {n}, one for each predictor.")
    return given


def _latency(
    folder: Path,
    card: dict[str, Any],
    threads: int,
    turns: Sequence[dict[str, Any]],
    before: float,
) -> Latency:
    taken = np.concatenate([turn["taken"] for turn in turns])
    batch = turns[0]["batch"]
    median = float(np.median(taken))
    low, middle, high = (
        1000 * sum(turn[name] for turn in turns) / (batch * len(taken))
        for name in ("energy_low_j", "energy_j", "energy_high_j")
    )
    return Latency(
        runtime=card["runtime"],
        precision=turns[-1]["precision"],
        threads=threads,
        batch=batch,
        passes=len(taken),
        median_ms=1000 * median,
        p95_ms=1000 * float(np.percentile(taken, 95)),
        turns_ms=tuple(1000 * float(np.median(turn["taken"])) for turn in turns),
        images_per_s=batch / median,
        file_bytes=sum((folder / name).stat().st_size for name in card["files"]),
        build_seconds=card["build_seconds"],
        peak_memory_bytes=turns[-1]["peak_memory_bytes"],
        joules_per_1000=middle,
        joules_low=low,
        joules_high=high,
        energy_source=turns[-1]["energy_source"],
        others_cpu=max(before, *(turn["others_cpu"] for turn in turns)),
    )


def _others_at_rest(seconds: float = 0.5) -> float:
    with measure() as cost:
        time.sleep(seconds)
    return cost.others_cpu
