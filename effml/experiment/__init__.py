"""`run`: one recipe in, one record out, also when it fails. Its four steps, each on one screen, are
`prepare`, `fit`, `assess` and `write`; `load_run` gives the model back."""

import math
import os
import secrets
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from effml import machine
from effml.experiment import assess, fit, prepare, write
from effml.experiment.failure import is_fault, now, reason_of, status_of
from effml.experiment.trained_model import TrainedModel, load_run
from effml.metering.waiting import Waiting
from effml.recipe import NUMERICS, Recipe, Record
from effml.training.checkpoints import checkpoint_file

__all__ = ["TrainedModel", "load_run", "run"]


def run(
    recipe: Recipe,
    *,
    device: str = "auto",
    model: nn.Module | None = None,
    store: str | os.PathLike | None = None,
    keep_weights: bool = False,
    until: float = math.inf,
) -> Record:
    """Do what the recipe says, here and now (`effml.sweep`: in a fresh process, to compare costs).

    Args:
        recipe: What to do.
        device: auto, cpu or cuda; on cuda a run repeats up to round-off alone.
        model: Your own classifier of images (N, C, H, W), float32 from -1 to 1; it gives logits
            (N, K). A copy is trained, from the weights it has; recipe.model: `own:ClassName`.
        store: Folder for the probabilities and epoch curves (default: they are not kept).
        keep_weights: Write the weights there too, for `load_run` and for runs that build on them.
        until: By `time.time()`, when training ends with what it has: ended_early, and not done.

    Returns:
        The record, which is not written. Its status and reason say what went wrong.

    Raises:
        ValueError: `recipe` is none; keep_weights without a store; `model` is no nn.Module.

    Example:
        >>> record = effml.run(effml.Recipe(model="mlp", epochs=1))
        >>> record.status, record.params
        ('ok', 100738)
    """
    if not isinstance(recipe, Recipe):
        advice = "effml.Recipe(model='mlp', epochs=1), say; of a dict effml.Recipe.from_dict(…)"
        raise ValueError(f"recipe is a {type(recipe).__name__}: give {advice}.")
    if keep_weights and store is None:
        raise ValueError("keep_weights=True needs a folder to keep them in: give store.")
    store = None if store is None else Path(store)
    if model is not None:
        recipe = recipe.but(model=f"own:{prepare.check_own(model)}")
    record = Record(
        recipe,
        run_id=f"{recipe.id}-{secrets.token_hex(4)}",
        status="failed",
        started_utc=now(),
        numerics=NUMERICS,
        **machine.provenance(),
    )
    threads = torch.get_num_threads()
    try:
        prepare.settle(recipe, record, device)
        ready, arrays = _work(recipe, record, store, model, until)
        if store is not None:
            write.write(ready, arrays, record, store, keep_weights)
        record.update(status="ok")
    except Exception as error:
        _failed(error, record, store)
    finally:
        torch.set_num_threads(threads)
    record.update(finished_utc=now())
    return record


def _work(
    recipe: Recipe, record: Record, store: Path | None, model: nn.Module | None, until: float
) -> tuple[prepare.Prepared, dict[str, Any]]:
    """All that takes long."""
    with Waiting(record.threads_used) as waiting:
        ready = prepare.prepare(recipe, record, store, model)
        history = fit.fit(ready, record, store, until)
        arrays = assess.assess(ready, history, record)
    record.update(waiting=waiting.way)
    return ready, arrays


def _failed(error: Exception, record: Record, store: Path | None) -> None:
    status = status_of(error)
    record.update(status=status, reason=reason_of(error, status))
    if is_fault(error, status):
        traceback.print_exc()
    elif status != "failed" and store is not None:
        with suppress(OSError):  # where this ended, nobody goes on
            checkpoint_file(store, record).unlink(missing_ok=True)
