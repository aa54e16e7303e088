"""The third step of a run: how good and how large the model is. The test split is touched once."""

from functools import partial
from typing import Any

from effml.data import normalize
from effml.evaluation import evaluate, evaluate_masks
from effml.experiment.on_runtime import OnRuntime
from effml.experiment.prepare import ONE_LABEL, Prepared
from effml.metering import measure
from effml.models import count, weights_bytes
from effml.recipe import Record
from effml.training import History, predict


def assess(ready: Prepared, history: History, record: Record) -> dict[str, Any]:
    """Scores and sizes, on record. Returns the arrays to keep: probabilities, labels, curves."""
    data, model = ready.data, ready.model
    ask = partial(predict, model, task=data.task, precision=ready.recipe.precision)
    if ready.recipe.runtime != "eager":
        ask = OnRuntime(ready, record)
    with measure(record.device) as cost:
        probabilities = ask(data.test)
    record.update(ask.costs if isinstance(ask, OnRuntime) else cost.as_columns("infer"))
    arrays = {"test_probabilities": probabilities}
    if masks := data.task == "segmentation":
        truth = data.test.masks.numpy()
        scores = evaluate_masks(probabilities, truth, groups=data.test.groups)
    else:
        arrays["test_labels"] = truth = data.test.labels.numpy()
        scores = evaluate(probabilities, truth, task=data.task, positive=data.positive)
        if data.val is not None:
            arrays["val_labels"] = data.val.labels.numpy()
            arrays["val_probabilities"] = ask(data.val)
    notes = [*ready.notes, *scores.notes, *history.notes]
    example = normalize(data.train.images[:1].to(record.device)).to(next(model.parameters()).dtype)
    at_best = history.val_score[history.best_epoch - 1]
    record.update(
        scores.as_columns("test_"),
        **count(model, example),
        notes="; ".join(filter(None, notes)) or None,
        train_n=len(data.train),
        model_file_bytes=len(weights_bytes(model)),
        val_score=at_best,
        **({} if masks else {"val_auroc": at_best}),
    )
    if data.task in ONE_LABEL:
        images = data.train.labels.bincount(minlength=len(data.classes))
        record.update(train_rarest=int(images.min()))
    for name in ("train_loss", "val_loss", "val_accuracy", "val_score", "epoch_seconds"):
        arrays[name] = getattr(history, name)
    return arrays if ready.chosen is None else {**arrays, "train_index": ready.chosen.numpy()}
