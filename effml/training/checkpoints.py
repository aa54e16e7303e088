"""What a training needs to go on after a power cut as if there had been none."""

import hashlib
import json
import os
import sys
import time
import zipfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from effml.machine import whole_file
from effml.recipe import Record

SECONDS = 30.0
"""Between two checkpoints at least, since epochs are often shorter and writing costs energy too.
EFFML_CHECKPOINT_SECONDS changes it; 0 writes one after each epoch."""

DEPENDS = (
    "recipe_id data_sha256 weights_sha256 teacher_sha256 numerics precision_used device "
    "device_name cpu_flags threads_used torch timm"
).split()
"""Columns of a record that the numbers of a training depend on."""

LOADED = "model", "optimizer", "schedule", "scaler", "feedback"
PLAIN = "stopping", "history", "sampler"
"""Parts of a training that have a state dict, and those whose attributes are their state."""


def checkpoint_file(store: Path, record: Record) -> Path:
    """Where the training of this record keeps its state: by DEPENDS."""
    made = json.dumps([record.get(name) for name in DEPENDS])
    digest = hashlib.sha256(made.encode()).hexdigest()[:12]
    return store / f"{record['recipe_id']}-{digest}.checkpoint"


class Checkpoint:
    """Saves and restores all parts of a `training` that move. Without a file it keeps the best
    weights only. Two processes with one file do the same training, and each replaces it whole."""

    def __init__(self, file: Path | None, training: Any) -> None:
        self.file, self.training, self.best = file, training, None
        self.saved = time.monotonic()
        devices = (p.device for p in training.model.parameters())
        self.cuda = next((device for device in devices if device.type == "cuda"), None)

    def resume(self) -> int:
        """The epoch after which to go on; 0 without a file or, with a note, one of no use."""
        if self.file is None or not self.file.is_file():
            return 0
        try:
            with zipfile.ZipFile(self.file) as parts:
                if parts.testzip() is not None:  # torch.load does not look at checksums
                    return self._note("is damaged")
            state = torch.load(self.file, map_location="cpu", weights_only=True)
        except Exception:  # zipfile, pickle and torch each have errors of their own for such a file
            return self._note("is empty, damaged or no checkpoint")
        before = deepcopy(self._state(0))
        try:
            if state["run"] != self._run():
                return self._note("is of another recipe or other images")
            self._restore(state)
        except Exception:  # what torch raises for other shapes and names, and a missing part
            self._restore(before)
            return self._note("does not fit this model, optimizer and sampler")
        self.training.history.resumed_epoch = state["epoch"]
        return state["epoch"]

    def save(self, epoch: int) -> None:
        """After an epoch, if the last checkpoint is old enough; the file is replaced whole."""
        least = float(os.environ.get("EFFML_CHECKPOINT_SECONDS") or SECONDS)
        if self.file is None or time.monotonic() - self.saved < least:
            return
        with whole_file(self.file) as partial:
            torch.save(self._state(epoch), partial)
        self.saved = time.monotonic()

    def remove(self) -> None:
        if self.file is not None:
            self.file.unlink(missing_ok=True)

    def _run(self) -> list[Any]:
        """Whose state it is."""
        images = self.training.data.passport.get("sha256")
        return [self.training.recipe.id, vars(self.training.sampler).get("n"), images]

    def _state(self, epoch: int) -> dict[str, Any]:
        return {
            **{name: getattr(self.training, name).state_dict() for name in LOADED},
            **{name: dict(vars(getattr(self.training, name))) for name in PLAIN},
            "run": self._run(),
            "epoch": epoch,
            "best": self.best,
            "order": self.training.order.get_state(),
            "random": torch.get_rng_state(),
            "cuda": self.cuda and torch.cuda.get_rng_state(self.cuda),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        """Put a state back. KeyError where something is missing."""
        for name in LOADED:
            getattr(self.training, name).load_state_dict(state[name])
        for name in PLAIN:
            part = vars(getattr(self.training, name))
            part.update({known: state[name][known] for known in part})
        self.best = state["best"]
        self.training.order.set_state(state["order"])
        torch.set_rng_state(state["random"])
        if self.cuda:
            torch.cuda.set_rng_state(state["cuda"], self.cuda)

    def _note(self, why: str) -> int:
        text = f"{self.file.name} {why}: training began anew"
        print(f"effml: {text}", file=sys.stderr)
        self.training.history.notes.append(text)
        return 0
