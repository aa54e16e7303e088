"""`run`: the verbs of the house in their order. One recipe in, one record out, also when it fails."""

import dis
import errno
import os
import secrets
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from effml import machine
from effml.compression import FACTORIZERS, MERGERS, PRUNERS, Report, save_compressed
from effml.data import Dataset, load_dataset, normalize
from effml.evaluation import evaluate, evaluate_masks
from effml.experiment.lineage import (
    UNKNOWN,
    ancestor,
    build_for,
    find_teacher,
    from_a_file,
    lineage,
    shape,
)
from effml.metering import Cost, measure
from effml.models import SEGMENTING, WeightsUnavailable, count, head, weights_bytes
from effml.precision import choose, emulated
from effml.recipe import NUMERICS, Recipe, Record
from effml.results import file_sha256, save_arrays, save_file, weights_sha256
from effml.selection.proxy import select_images
from effml.training import Diverged, predict, train
from effml.training.checkpoints import checkpoint_file

PACKAGE = Path(machine.__file__).parent

# strategies a recipe can name and no room offers yet; each leaves this list when its room is built
_NOT_BUILT = ("activation_bits", "gradient_bits", "bit_schedule", "runtime")


def run(
    recipe: Recipe,
    *,
    device: str = "auto",
    store: str | os.PathLike | None = None,
    keep_weights: bool = False,
) -> Record:
    """Do what the recipe says, here and now; `effml.sweep` does it in a fresh process, which costs can be compared from.

    With a `store` the probabilities and epoch curves are written beside its records (and the weights, if they are to be
    kept). The record itself is returned, not written. It never raises for what the recipe asks: see Record.status.
    """
    record = Record(
        recipe,
        run_id=f"{recipe.id}-{secrets.token_hex(4)}",
        status="failed",
        started_utc=_now(),
        numerics=NUMERICS,
        **machine.provenance(),
    )
    threads = torch.get_num_threads()
    try:
        record.update(device=_device(device, torch))
        if record.device == "cuda":
            record.update(device_name=torch.cuda.get_device_name())
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        record.update(threads_used=torch.get_num_threads())
        _refuse_what_is_not_built(recipe)
        _do(recipe, record, Path(store) if store is not None else None, keep_weights)
        record.update(status="ok")
    except Exception as error:
        status = _status(error)
        record.update(status=status, reason=_reason(error, status))
        if status == "failed":
            traceback.print_exc()
        elif store is not None:
            with suppress(OSError):  # where this ended, nobody goes on
                checkpoint_file(Path(store), record).unlink(missing_ok=True)
    finally:
        torch.set_num_threads(threads)
    record.update(finished_utc=_now())
    return record


def _do(recipe: Recipe, record: Record, store: Path | None, keep_weights: bool) -> None:
    precision = _precision(recipe, record)  # may time a probe, which is no preparation
    record.update(
        weights_sha256=weights_sha256(recipe.weights, store),
        teacher_sha256=weights_sha256(recipe.teacher, store),
    )
    lost: list[str] = []
    with measure(record.device) as prepare:
        data = load_dataset(recipe.data, size=recipe.size)
        record.update(
            data_sha256=data.passport["sha256"], data_phantom=int(data.passport["phantom"])
        )
        _refuse_data(data, recipe)
        asked = recipe.but(precision=precision)
        chosen = (
            None if recipe.selection == "none" else select_images(data, asked, device=record.device)
        )
        if chosen is not None:
            whole, data = data, data.only(chosen)
            lost = _lost(whole, data)
        weights, parent = ancestor(recipe.weights, store)
        model, steps = build_for(recipe.model, data, weights, recipe.seed)
        teacher, master = find_teacher(recipe, data, store)
        record.update(UNKNOWN if from_a_file(recipe, parent) else lineage(store, parent, master))
        if recipe.trainable == "head":
            model.requires_grad_(False)
            head(model, normalize(data.train.images[:1])).requires_grad_(True)
        model.to(record.device)
        model, reports = _compress(model, data, recipe)
        record.update(_achieved(reports))
    unfinished = store and checkpoint_file(store, record)
    with measure(record.device) as training:
        history = train(
            model,
            data,
            recipe=asked,
            teacher=teacher,
            checkpoint=unfinished,
        )
    with measure(record.device) as infer:
        probabilities = predict(model, data.test, task=data.task, precision=precision)
    if data.task == "segmentation":
        scores, truth = (
            evaluate_masks(probabilities, data.test.masks.numpy(), groups=data.test.groups),
            {},
        )
    else:
        scores = evaluate(
            probabilities, data.test.labels.numpy(), task=data.task, positive=data.positive
        )
        truth = {"test_labels": data.test.labels.numpy()}
        if data.val is not None:
            truth |= {
                "val_labels": data.val.labels.numpy(),
                "val_probabilities": predict(model, data.val, task=data.task, precision=precision),
            }
    cut = [note for report in reports for note in report.notes]
    remarks = [data.passport.get("labels"), *lost, *cut, *scores.notes, *history.notes]
    record.update(scores.as_columns("test_"), notes="; ".join(filter(None, remarks)) or None)
    example = normalize(data.train.images[:1].to(record.device)).to(next(model.parameters()).dtype)
    if data.task in ("binary", "multi-class", "ordinal"):
        record.update(
            train_rarest=int(data.train.labels.bincount(minlength=len(data.classes)).min())
        )
    record.update(
        count(model, example), train_n=len(data.train), model_file_bytes=len(weights_bytes(model))
    )
    at_best = history.val_score[history.best_epoch - 1]
    record.update(
        best_epoch=history.best_epoch,
        epochs_run=len(history.train_loss),
        resumed_epoch=history.resumed_epoch,
        val_score=at_best,
        **({} if data.task == "segmentation" else {"val_auroc": at_best}),
        **{f"{name}_dtype": dtype for name, dtype in history.dtypes.items()},
        importance_steps=history.importance_steps,
        optimizer_state_bytes=history.optimizer_state.get("bytes"),
        optimizer_quantised=history.optimizer_state.get("fraction_quantised"),
    )
    _account(record, prepare, training, infer)
    if store is not None:
        curves = {
            name: getattr(history, name)
            for name in ("train_loss", "val_loss", "val_accuracy", "val_score")
        }
        picked = {} if chosen is None else {"train_index": chosen.numpy()}
        save_arrays(
            store, record.run_id, {"test_probabilities": probabilities, **truth, **curves, **picked}
        )
        if keep_weights and (steps or reports):
            save_compressed(
                store / record.run_id, model, [*steps, *reports], base=recipe.model, **shape(data)
            )
        elif keep_weights:
            save_file(store / f"{record.run_id}.safetensors", weights_bytes(model))
        record.update(kept_sha256=file_sha256(store / f"{record.run_id}.safetensors"))


def _lost(whole: Dataset, chosen: Dataset) -> list[str]:
    """The classes of which a selection left no image, in words."""
    if whole.task not in ("binary", "multi-class", "ordinal"):
        return []
    before, after = (d.train.labels.bincount(minlength=len(d.classes)) for d in (whole, chosen))
    names = [str(whole.classes[i]) for i in ((before > 0) & (after == 0)).nonzero().flatten()]
    return [f"the selection left no training image of {', '.join(names)}"] if names else []


def _precision(recipe: Recipe, record: Record) -> str:
    """The precision to use, on record with why it is used and whether it is emulated."""
    precision, why = choose(recipe.precision, record.device)
    slow = emulated(precision, record.device)
    record.update(precision_used=precision, precision_why=why, precision_emulated=int(slow))
    return precision


def _account(record: Record, prepare: Cost, training: Cost, infer: Cost) -> None:
    """What each window cost, and where the joules come from."""
    for window, cost in (("prepare", prepare), ("train", training), ("infer", infer)):
        record.update(cost.as_columns(window))
    known = training.others_cpu == training.others_cpu
    record.update(
        gross_energy_j=training.gross_energy_j,
        idle_w=training.idle_w,
        energy_measured=int(training.measured),
        energy_reason=training.reason or None,
        energy_source=training.energy_source,
        implied_watts=training.energy_j / training.seconds,
        shared=int(training.others_cpu > 0.1) if known else None,
    )
    if record.resumed_epoch:  # what the first part cost was never reported: unknown, not small
        names = ("seconds", "energy_j", "energy_low_j", "energy_high_j")
        record.update(
            dict.fromkeys([f"train_{name}" for name in names] + ["gross_energy_j"]),
            energy_reason=f"interrupted and resumed after epoch {record.resumed_epoch}",
        )


def _refuse_what_is_not_built(recipe: Recipe) -> None:
    for name in _NOT_BUILT:
        if name in recipe.changed:
            default = Recipe.__dataclass_fields__[name].default
            raise NotImplementedError(
                f"{name}={getattr(recipe, name)!r} is not built yet. Choose from: {default!r}"
            )


def _refuse_data(data: Dataset, recipe: Recipe) -> None:
    if data.train is None or data.test is None:
        raise ValueError(
            f"{data.name} has only {', '.join(data.passport['counts'])}: a run needs a train and a test split."
        )
    *_, height, width = data.train.images.shape
    axes, masks = data.train.images.ndim - 2, data.task == "segmentation"
    if masks != (recipe.model in SEGMENTING) or masks and axes != 2 + recipe.model.endswith("3d"):
        fits = f"unet{'3d' * (axes == 3)}" if masks else "a classifier, such as resnet18"
        raise ValueError(
            f"{data.name} ({data.task}, {axes}-D) does not fit model={recipe.model!r}. Choose {fits}."
        )
    if axes == 3 and not masks:
        raise NotImplementedError(
            f"{data.name} holds volumes; the classifiers so far take 2-D images."
        )
    if recipe.prune == "channels_taylor" and data.task == "multi-label":
        raise ValueError(
            f"{data.name} has several labels an image, and channels_taylor is for one (it draws it from a softmax). "
            "Choose prune='channels', 'channels_bn' or 'channels_random'."
        )
    if height != width and not masks:
        raise ValueError(f"{data.name} has images of {height}×{width} px; give square ones.")


def _compress(model: nn.Module, data: Dataset, recipe: Recipe) -> tuple[nn.Module, list[Report]]:
    """Merge, prune, factorise as the recipe says, looking at some training images but at no label."""
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(recipe.seed))
    seen = (
        data.train.take(order[: recipe.calibration_images]) if recipe.calibration_images else None
    )
    reports = []
    how = {"example": data.train.images[:1], "data": seen, "seed": recipe.seed}
    for field, registry, keep in (
        ("merge", MERGERS, recipe.neuron_fraction),
        ("prune", PRUNERS, recipe.channel_fraction),
        ("factorize", FACTORIZERS, recipe.rank_fraction),
    ):
        if (method := getattr(recipe, field)) == "none":
            continue
        if method not in registry:
            menu = ", ".join(registry)
            raise ValueError(f"Unknown compressor {method!r} for {field}. Choose from: {menu}")
        model, report = registry[method](model, keep, **how, keep_unit=recipe.keep_unit)
        reports.append(report)
    return model, reports


def _achieved(reports: list[Report]) -> dict[str, float]:
    if not reports:
        return {}
    before, after = reports[0].before, reports[-1].after
    return {
        "kept": reports[-1].kept,
        "params_before": before["params"],
        "macs_before": before["macs"],
        "latency_s": after["latency_s"],
        "latency_before_s": before["latency_s"],
    }


def _device(device: str, torch: Any) -> str:
    if device not in DEVICES:
        raise ValueError(f"Unknown device {device!r}. Choose from: {', '.join(DEVICES)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            "device='cuda' was asked for, but torch finds no CUDA GPU here. Choose from: auto, cpu"
        )
    return device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


DEVICES = ("auto", "cpu", "cuda")


def _status(error: Exception) -> str:
    """A word for what went wrong. `unsupported` is what asking again cannot change, and only effml
    itself says so: what numpy, torch or a fault of effml brings about may be gone next time."""
    text = str(error).lower()
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return "out of memory"
    if isinstance(error, RuntimeError) and ("out of memory" in text or "allocate memory" in text):
        return "out of memory"
    kinds = {
        WeightsUnavailable: "weights unavailable",
        Diverged: "diverged",
        FileNotFoundError: "data unavailable",
        NotImplementedError: "not built",
        ValueError: "unsupported",
    }
    status = next((kinds[kind] for kind in kinds if isinstance(error, kind)), "failed")
    return status if _on_purpose(error) else "failed"


def _on_purpose(error: Exception) -> bool:
    """Whether a `raise` of effml brought it about, and no call that went wrong in one of its
    lines."""
    at = error.__traceback__
    while at.tb_next:
        at = at.tb_next
    code = at.tb_frame.f_code
    ours = Path(code.co_filename).is_relative_to(PACKAGE)
    return ours and dis.opname[code.co_code[at.tb_lasti]] == "RAISE_VARARGS"


def _reason(error: Exception, status: str) -> str:
    """What was raised and, of a fault, where: the last calls, without this machine's folders."""
    said = f"{type(error).__name__}: {error}"[:1000]
    if status != "failed":
        return said
    calls = [
        f'  File "{"/".join(Path(call.filename).parts[-3:])}", line {call.lineno}, '
        f"in {call.name}\n    {call.line}"
        for call in traceback.extract_tb(error.__traceback__)[-6:]
    ]
    return "\n".join([said, "Traceback (most recent call last):", *calls])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
