"""The second step of a run: training, and what it cost."""

import math
from pathlib import Path

from effml.convolutions import text
from effml.experiment.prepare import Prepared
from effml.metering import measure
from effml.metering.memory import resident_bytes
from effml.recipe import Record
from effml.training import History
from effml.training.checkpoints import checkpoint_file
from effml.training.loop import carry_out as train


def fit(ready: Prepared, record: Record, store: Path | None, until: float = math.inf) -> History:
    """Train the model in place. With a store an interrupted training goes on where it stopped."""
    how = {"teacher": ready.teacher, "checkpoint": store and checkpoint_file(store, record)}
    how["until"] = until
    if record.device == "cpu":
        record.update(train_start_memory_bytes=resident_bytes())
    with measure(record.device) as cost:
        history = train(ready.model, ready.data, ready.recipe, **how)
    state = history.optimizer_state
    known = cost.others_cpu == cost.others_cpu
    record.update(
        {f"{name}_dtype": dtype for name, dtype in history.dtypes.items()},
        convolutions_used=text(ready.convolutions | history.convolutions),
        best_epoch=history.best_epoch,
        epochs_run=len(history.train_loss),
        resumed_epoch=history.resumed_epoch,
        ended_early=int(history.ended_early),
        importance_steps=history.importance_steps,
        optimizer_state_bytes=state.get("bytes"),
        lost_updates=history.updates_lost / history.updates if history.updates else None,
        unmoved_weights=history.unmoved,
        optimizer_quantised=state.get("fraction_quantised"),
        **history.saved,
        weight_bits=history.stored.get("weight_bits"),
        stored_bytes=history.stored.get("stored_bytes"),
        **cost.as_columns("train"),
        gross_energy_j=cost.gross_energy_j,
        idle_w=cost.idle_w,
        energy_measured=int(cost.measured),
        energy_reason=cost.reason or None,
        energy_source=cost.energy_source,
        implied_watts=cost.energy_j / cost.seconds,
        shared=int(cost.others_cpu > 0.1) if known else None,
    )
    if record.resumed_epoch:  # what the first part cost was never reported: unknown, not small
        names = ("seconds", "energy_j", "energy_low_j", "energy_high_j")
        record.update(
            dict.fromkeys([f"train_{name}" for name in names] + ["gross_energy_j"]),
            energy_reason=f"interrupted and resumed after epoch {record.resumed_epoch}",
        )
    return history
