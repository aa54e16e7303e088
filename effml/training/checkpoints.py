"""What a training needs to go on after a power cut as if there had been none."""

import os
import secrets
import time
from pathlib import Path
from typing import Any

SECONDS = 30.0
"""Between two checkpoints at least, since epochs are often shorter and writing costs energy too. EFFML_CHECKPOINT_SECONDS
changes it; 0 writes one after each epoch."""


class Checkpoint:
    """Saves and restores everything that moves: weights, the best weights, optimiser, schedule, scaler, stopping, history and
    the random numbers. Without a file it keeps the best weights only."""

    def __init__(
        self,
        file: Path | None,
        model: Any,
        optimizer: Any,
        schedule: Any,
        scaler: Any,
        order: Any,
        stopping: Any,
        history: Any,
        sampler: Any,
    ) -> None:
        self.file, self.best, self.saved = file, None, time.monotonic()
        self.parts = {
            "model": model,
            "optimizer": optimizer,
            "schedule": schedule,
            "scaler": scaler,
        }
        self.order, self.plain = (
            order,
            {"stopping": stopping, "history": history, "sampler": sampler},
        )

    def resume(self) -> int:
        """The epoch after which to go on, 0 without a file. A file that does not fit is an error, not a fresh start."""
        if self.file is None or not self.file.is_file():
            return 0
        import torch

        state = torch.load(self.file, weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        for name, thing in self.plain.items():
            vars(thing).update(state[name])
        self.best = state["best"]
        self.order.set_state(state["order"])
        torch.set_rng_state(state["random"])
        if state["cuda"] is not None:
            torch.cuda.set_rng_state_all(state["cuda"])
        self.plain["history"].resumed_epoch = state["epoch"]
        return state["epoch"]

    def save(self, epoch: int) -> None:
        """After an epoch, if the last checkpoint is old enough; the file is replaced whole."""
        least = float(os.environ.get("EFFML_CHECKPOINT_SECONDS") or SECONDS)
        if self.file is None or time.monotonic() - self.saved < least:
            return
        import torch

        state = {name: part.state_dict() for name, part in self.parts.items()}
        state |= {name: dict(vars(thing)) for name, thing in self.plain.items()}
        state |= {
            "epoch": epoch,
            "best": self.best,
            "order": self.order.get_state(),
            "random": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None,
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.file.with_name(f".{self.file.name}.{secrets.token_hex(4)}")
        torch.save(state, partial)
        partial.replace(self.file)
        self.saved = time.monotonic()

    def remove(self) -> None:
        if self.file is not None:
            self.file.unlink(missing_ok=True)
