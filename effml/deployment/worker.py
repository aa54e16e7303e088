"""A fresh process for one predictor: python -m effml.deployment.worker FOLDER THREADS. It reads
commands as lines of JSON and answers each with a line; torch comes in only with a torch runtime."""

import json
import sys
import time
from typing import Any

import numpy as np

from effml.deployment.predictor import Predictor, load_predictor
from effml.metering import measure
from effml.metering.memory import peak_bytes


def main(folder: str, threads: str) -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # an engine may print
    predictor = load_predictor(folder, int(threads))
    told: dict[str, Any] = {}
    while True:
        print(json.dumps({**told, "peak_memory_bytes": peak_bytes()}), file=answers, flush=True)
        if not (line := sys.stdin.readline()):
            return
        command = json.loads(line)
        told = COMMANDS[command.pop("do")](predictor, **command)


def predict(predictor: Predictor, images: str, logits: str) -> dict[str, Any]:
    """Logits of a file of images, uint8 or normalised, to another; what that cost."""
    array = np.load(images, mmap_mode="r")
    with measure() as cost:
        parts = range(0, len(array), predictor.step)
        given = [predictor(_floats(array[i : i + predictor.step])) for i in parts]
    np.save(logits, np.concatenate(given))
    return cost.as_columns("infer")


def repeat(
    predictor: Predictor, images: str, batch: int, seconds: float, least: int
) -> dict[str, Any]:
    """The engine alone, batch after batch, for some seconds and at least some times."""
    array = _floats(np.load(images, mmap_mode="r")[: max(batch, 8)])
    parts = [array[i : i + batch] for i in range(0, len(array) - batch + 1, batch)]
    taken, end = [], time.perf_counter() + seconds
    with measure() as cost:
        while len(taken) < least or time.perf_counter() < end:
            start = time.perf_counter()
            predictor.engine(parts[len(taken) % len(parts)])
            taken.append(time.perf_counter() - start)
    energy = {name: value for name, value in vars(cost).items() if name.startswith("energy")}
    said = {"batch": batch, "precision": predictor.precision, "others_cpu": cost.others_cpu}
    return {**said, "taken": taken, **energy}


COMMANDS = {"predict": predict, "repeat": repeat}


def _floats(images: np.ndarray) -> np.ndarray:
    """Images in memory of their own; those of uint8 normalised, as effml.data.normalize does."""
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(127.5) - np.float32(1)
    return np.array(images, dtype=np.float32, order="C")  # OpenVINO copies a read-only one anew


if __name__ == "__main__":
    main(*sys.argv[1:3])
