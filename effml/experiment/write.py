"""The last step of a run: what is kept beside its record, all of it before the record."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from effml.compression import save_compressed
from effml.data import Dataset, Split
from effml.evaluation import operating_point
from effml.experiment.lineage import shape
from effml.experiment.prepare import Prepared
from effml.machine import seeded
from effml.models import weights_bytes
from effml.recipe import Record
from effml.results import CARD, file_sha256, save_arrays, save_file
from effml.training import predict

AIMS = {"youden": "Youden", "screening": "sensitivity ≥ 0.95"}
"""The two operating points of a finished model, as `effml.operating_point` names them."""


def write(
    ready: Prepared, arrays: dict[str, Any], record: Record, store: Path, keep_weights: bool
) -> None:
    """Probabilities and curves; where the weights are to be kept also these and their card."""
    save_arrays(store, record.run_id, arrays)
    if not keep_weights:
        return
    weights, data = store / f"{record.run_id}.safetensors", ready.data
    steps = [*ready.steps, *ready.reports]
    if steps:
        own = ready.recipe.model.startswith("own:")  # its class is not for us to build
        build = {} if own else {"base": ready.recipe.model, **shape(data)}
        save_compressed(weights, ready.model, steps, **build)
    else:
        save_file(weights, weights_bytes(ready.model))
    record.update(kept_sha256=file_sha256(weights))
    thresholds, notes = thresholds_of(data, arrays)
    if (runtime := ready.recipe.runtime) != "eager":
        notes.append(
            f"scores and thresholds are those of runtime={runtime}; the weights are torch's"
        )
    card = {
        "run_id": record.run_id,
        "recipe": {**ready.recipe.changed, "precision": record.precision},
        "precision_used": record.precision_used,
        "device": record.device,
        "kept_sha256": record.kept_sha256,
        "started_utc": record.started_utc,
        "data_sha256": record.data_sha256,
        "compressed": bool(steps),
        "task": data.task,
        "classes": list(map(str, data.classes)),
        "positive": data.positive,
        "build": shape(data),
        "image_shape": list(data.train.images.shape[1:]),
        "preprocessing": data.passport.get("preprocessing"),
        "thresholds": {name: x if math.isfinite(x) else None for name, x in thresholds.items()},
        "notes": notes,
        "fingerprint": None,
    }
    if ready.recipe.model.startswith("own:"):  # its forward is not in the weights
        how = data.task, record.precision_used
        card["fingerprint"] = fingerprint(ready.model, card["image_shape"], *how).tolist()
    text = json.dumps(card, ensure_ascii=False, indent=1, allow_nan=False)
    save_file(store / f"{record.run_id}{CARD}", f"{text}\n".encode())


def fingerprint(model: nn.Module, shape: Sequence[int], task: str, precision: str) -> np.ndarray:
    """Probabilities of two images of noise, the same in every run."""
    noise = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    with seeded(0):
        return predict(model, Split(torch.from_numpy(noise)), task=task, precision=precision)


def thresholds_of(data: Dataset, arrays: dict[str, Any]) -> tuple[dict[str, float], list[str]]:
    """The operating points of AIMS on the validation split, NaN where there are none; notes."""
    unknown = dict.fromkeys(AIMS, math.nan)
    if data.task != "binary":
        return unknown, [f"no thresholds: they are for a binary task, and this is {data.task}"]
    if data.val is None:
        return unknown, [f"no thresholds: {data.name} has no validation split to choose them on"]
    given = arrays["val_probabilities"], arrays["val_labels"]
    try:
        points = {aim: operating_point(*given, positive=data.positive, aim=aim) for aim in AIMS}
    except ValueError as error:  # a class without a case
        return unknown, [f"no thresholds: {error}"]
    notes = [f"{AIMS[aim]}: {note}" for aim, point in points.items() for note in point.notes]
    return {aim: point.threshold for aim, point in points.items()}, notes
