"""`Recipe` (what is asked of a run) and `Record` (what it reports)."""

import hashlib
import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

NUMERICS = 2
"""Raised by hand when a change of effml may change results: runs with an older number are done again."""

# a fraction kept, and the method which does the removing
_KEPT = {
    "train_fraction": "selection",
    "channel_fraction": "prune",
    "neuron_fraction": "merge",
    "rank_fraction": "factorize",
}
_POSITIVE = ("size", "batch_size", "learning_rate", "temperature")
_BITS = (2, 3, 4, 5, 6, 7, 8, 16, 32)


FORMER_NAMES = {"features": "scores", "keep_unit": "budget"}
"""Fields that were renamed: ids are still those of the first names, and old records are read."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One run, asked for. Every field is a plain scalar whose default means *untouched*, so that a recipe is a table
    row, a papermill parameter set and a command line. Every "how much" is the fraction **kept**.

    Raises ValueError at construction when a value is impossible or two fields contradict each other.
    Defaults never change: `id` hashes the fields that differ from them, so new fields leave old ids valid.
    """

    data: str = "phantom-chest"  # name (MedMNIST, a file at hand, a phantom) or path of an .npz
    size: int = 28  # pixels
    model: str = "lenet5"  # lenet5, lenet300_100, mlp, resnet18_medmnist or any name of timm
    weights: str = (
        "random"  # random, imagenet, a file, or the id of an earlier run in the same store
    )
    selection: str = "none"  # which training images to keep: a name of SELECTORS, or that with _per_class behind it …
    train_fraction: float = 1.0  # … and which fraction of them
    features: str = "none"  # what the selection looks at: pixels, embedding (of a proxy), none (the latter if it can)
    proxy: str = (
        "none"  # the small model which looks for a large one: lenet5@5 (epochs), @0, @imagenet
    )
    sampler: str = "uniform"  # how batches are drawn during training: uniform, importance
    trainable: str = "all"  # all, or head: the last layer alone on frozen embeddings (linear probe)
    prune: str = "none"  # which channels, or single weights, to remove before training: a name of COMPRESSORS …
    channel_fraction: float = 1.0  # … and which fraction of them stays
    merge: str = "none"  # the same for neurons that are merged …
    neuron_fraction: float = 1.0
    factorize: str = "none"  # … and for layers made low-rank
    rank_fraction: float = 1.0
    keep_unit: str = "fraction"  # of what these three fractions are: of what is removed, or params, of the parameters
    calibration_images: int = 0  # training images, without labels, that compression may look at
    teacher: str = "none"  # id of an earlier run in the same store to distil from …
    temperature: float = 4.0  # … at which softmax temperature …
    teacher_share: float = 0.9  # … and how much of the loss is the teacher's, the rest the labels'
    optimizer: str = "adamw"
    precision: str = "fp32"
    activation_bits: int = 32
    gradient_bits: int = 32
    bit_schedule: str = "constant"
    epochs: int = 10  # 0: the model is taken as it comes
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = -1.0  # below 0: the optimizer's own, 0.01 for AdamW, none for the others
    schedule: str = "cosine"
    patience: int = 0  # epochs without a better one before training stops; 0 = never
    stopping: str = (
        "score"  # what "better" means: score (AUROC, Dice), or selvan2023, as its authors wrote it
    )
    augment: str = "none"  # flip, flips, shift, flip_shift
    class_weights: str = "none"  # balanced: rare classes weigh as much as common ones
    runtime: str = "eager"  # what runs the finished model
    threads: int = 0  # CPU threads; 0 = as many as torch takes
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(
                self, field.name, _as(field.type, field.name, getattr(self, field.name))
            )
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"{name}={getattr(self, name)} is not allowed: give a number above 0."
                )
        for name in ("epochs", "patience", "threads", "seed", "calibration_images"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"{name}={getattr(self, name)} is not allowed: give 0 or a number above it."
                )
        for name in ("activation_bits", "gradient_bits"):
            if getattr(self, name) not in _BITS:
                raise ValueError(
                    f"{name}={getattr(self, name)} is not allowed. Choose from: {_BITS}"
                )
        for fraction, method in _KEPT.items():
            kept, how = getattr(self, fraction), getattr(self, method)
            if not 0 < kept <= 1:
                raise ValueError(
                    f"{fraction}={kept} is the fraction kept: give more than 0 and at most 1."
                )
            if (kept < 1) != (how != "none"):
                raise ValueError(
                    f"{method}={how!r} with {fraction}={kept} contradict each other: give {method} a method "
                    f"and {fraction} a value below 1, or leave both at their defaults ('none', 1.0)."
                )
        compressed = any(
            getattr(self, method) != "none" for method in ("prune", "merge", "factorize")
        )
        if self.keep_unit not in ("fraction", "params"):
            raise ValueError(
                f"keep_unit={self.keep_unit!r} is not allowed. Choose from: fraction, params"
            )
        if not compressed and (self.keep_unit != "fraction" or self.calibration_images):
            raise ValueError(
                f"keep_unit={self.keep_unit!r}, calibration_images={self.calibration_images} serve a compression: give "
                "prune, merge or factorize, or leave them."
            )
        if not 0 < self.teacher_share <= 1:
            raise ValueError(
                f"teacher_share={self.teacher_share} is a share of the loss: give more than 0 and at most 1."
            )
        if self.teacher == "none" and {"temperature", "teacher_share"} & self.changed.keys():
            raise ValueError(
                "temperature and teacher_share serve a teacher: give the id of an earlier run, or leave them."
            )
        if self.teacher != "none" and not self.epochs:
            raise ValueError(
                "epochs=0 trains nothing, so that no teacher is heard: give epochs above 0, or leave teacher."
            )
        if self.trainable not in ("all", "head"):
            raise ValueError(f"trainable={self.trainable!r} is not allowed. Choose from: all, head")
        if self.selection == "none" and (self.features != "none" or self.proxy != "none"):
            raise ValueError(
                f"features={self.features!r}, proxy={self.proxy!r} serve a selection: give selection, or leave them."
            )
        if "|" in self.data:
            raise ValueError(
                f"data={self.data!r} is a ladder; a run needs one name: effml.at_hand({self.data!r}) "
                "gives the first that is on this machine."
            )

    @property
    def changed(self) -> dict[str, Any]:
        """The fields which differ from their defaults."""
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if getattr(self, f.name) != f.default
        }

    @property
    def id(self) -> str:
        """`r` and ten hexadecimal digits; the same on every machine."""
        named = {FORMER_NAMES.get(name, name): value for name, value in self.changed.items()}
        return "r" + hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:10]

    def but(self, **changes: Any) -> Self:
        """A copy with these fields changed: `base.but(seed=1)`."""
        _refuse_unknown(changes)
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Self:
        """The recipe of a row (columns that are no fields are left out)."""
        row = {now: row[was] for now, was in FORMER_NAMES.items() if was in row} | row
        return cls(**{f.name: row[f.name] for f in fields(cls) if f.name in row})

    @classmethod
    def parse(cls, words: Iterable[str]) -> Self:
        """A recipe from command-line words such as `model=resnet18 epochs=3`."""
        pairs = dict(word.partition("=")[::2] for word in words)
        _refuse_unknown(pairs)
        return cls(**pairs)


def _as(kind: type, name: str, value: Any) -> Any:
    """`value` as int, float or str, if nothing is lost (1.0 is the int 1, a shell's "3" is 3, but 1.5 and True are no int)."""
    value = value.item() if hasattr(value, "item") else value  # numpy and torch scalars
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    if kind is str and isinstance(value, str) and value:
        return value
    if kind is not str and not isinstance(value, bool):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if kind is float and math.isfinite(number):
            return number
        if kind is int and number.is_integer():
            return value if isinstance(value, int) else int(number)
    words, example = {int: ("whole number", 3), float: ("number", 0.5), str: ("word", "'lenet5'")}[
        kind
    ]
    raise ValueError(f"{name}={value!r} is no {words}: give one, such as {example}.")


def _refuse_unknown(names: Iterable[str]) -> None:
    known = [f.name for f in fields(Recipe)]
    for name in names:
        if name not in known:
            raise ValueError(f"Recipe has no field {name!r}. Choose from: {', '.join(known)}")


def _windows() -> dict[str, str]:
    doing = {
        "prepare": "loading and selecting data, building and compressing a model",
        "train": "training, validation included",
        "infer": "predicting the test split once",
    }
    what = {
        "seconds": "wall clock of {}",
        "energy_j": "net energy of {}, J; NaN = unknown",
        "energy_low_j": "lower end of its range",
        "energy_high_j": "upper end of its range",
        "peak_memory_bytes": "peak resident memory (CPU) or allocated memory (CUDA) in {}",
    }
    return {
        f"{window}_{name}": text.format(doing[window])
        for window in doing
        for name, text in what.items()
    }


COLUMNS: dict[str, str] = {
    "run_id": "recipe_id and eight random digits; names the arrays beside the record",
    "recipe_id": "Recipe.id",
    "status": "ok | unsupported | out of memory | diverged (these four are final) | not built | data unavailable | "
    "weights unavailable | failed",
    "reason": "why the status is not ok",
    "notes": "why a score is NaN, where one is, and what else the reader should know",
    "started_utc": "ISO 8601",
    "finished_utc": "ISO 8601",
    "numerics": "NUMERICS of the effml that ran it",
    **_windows(),
    "energy_source": "where the joules come from, and the assumption behind them",
    "gross_energy_j": "all that the source of energy saw in training: idle power and other programs too; NaN = unknown",
    "idle_w": "what that source shows when nothing runs, taken off train_energy_j; NaN = not known, or an estimate",
    "energy_measured": "1 if counters measured train_energy_j, 0 if it is declared or estimated",
    "energy_reason": "why the energy is unknown, or why no better source was used",
    "shared": "1 if other programs used over 10 % of the CPU while this run was measured, 0 if not",
    "implied_watts": "train_energy_j / train_seconds: must be plausible for the machine",
    "lineage_seconds": "training seconds of the runs that this one started from or learned from, and of those before them, "
    "each once; NaN = unknown for one of them",
    "lineage_energy_j": "the same in joules",
    "params": "parameters",
    "nonzero_params": "parameters that are not zero",
    "macs": "multiply-accumulate operations of one image (1 MAC = 2 FLOPs)",
    "kept": "the fraction compression kept of what it removes (neurons, channels, ranks, weights); of the last, if several",
    "params_before": "parameters before compression",
    "macs_before": "multiply-accumulate operations of one image before compression",
    "latency_s": "of one image on this device, median, after compression and before training",
    "latency_before_s": "the same before compression, measured by turns",
    "model_file_bytes": "size of the weights as safetensors",
    "val_score": "AUROC, or mean Dice for masks, on the validation split at best_epoch",
    "resumed_epoch": "the epoch after which an interrupted training went on; 0 if it was not interrupted",
    "weights_dtype": "of the weights, as found in memory after the first step, commonest first",
    "activations_dtype": "of the model's outputs, the same way",
    "gradients_dtype": "of the weights' gradients, the same way",
    "optimizer_dtype": "of the optimiser's state, the same way",
    "optimizer_state_bytes": "of the optimiser's state, the same way",
    "optimizer_quantised": "the fraction of the parameters whose optimiser state takes a byte a value",
    "best_epoch": "the epoch (from 1) whose weights were kept, chosen on validation",
    "epochs_run": "epochs trained",
    "val_auroc": "AUROC on the validation split at best_epoch",
    **{
        f"test_{name}": text
        for name, text in {
            "n": "images in the test split",
            "prevalence": "fraction of positives (binary)",
            "majority_rate": "accuracy of always answering the most frequent class",
            "auroc": "area under the ROC curve; macro one-vs-rest for more than two classes",
            "auroc_low": "95 % interval (DeLong, logit scale)",
            "auroc_high": "95 % interval (DeLong, logit scale)",
            "accuracy": "",
            "accuracy_low": "95 % interval (Wilson)",
            "accuracy_high": "95 % interval (Wilson)",
            "balanced_accuracy": "mean recall over the classes",
            "sensitivity": "of the positive class of the passport, at `threshold`",
            "sensitivity_low": "95 % interval (Wilson)",
            "sensitivity_high": "95 % interval (Wilson)",
            "specificity": "of the rest, at `threshold`",
            "specificity_low": "95 % interval (Wilson)",
            "specificity_high": "95 % interval (Wilson)",
            "threshold": "on the probability of the positive class",
            "average_precision": "stepwise area under the precision-recall curve; macro one-vs-rest for more than two classes",
            "brier": "mean squared error of the probabilities: of the positive class (0…1), "
            "summed over classes (multi-class, 0…2)",
            "ece": "expected calibration error in 15 bins: of the positive class's probability, of the top class's (multi-class)",
            "worst_class_recall": "lowest recall of a class; binary: of the two, at `threshold`",
            "worst_class": "index of that class, the first of equals",
            "n_empty": "test images whose true mask is empty",
            "n_one_empty": "test images of which one mask is empty, the other not",
            "dice": "mean over images; both masks empty: 1, one: 0",
            "dice_low": "95 % interval (bootstrap)",
            "dice_high": "95 % interval (bootstrap)",
            "dice_pooled": "over all pixels of all images together",
            "iou": "mean over images",
            "hausdorff95": "larger directed 95th percentile, pixels, mean over images with both masks",
            "hausdorff95_median": "the same, median",
            "pixel_sensitivity": "pooled over images",
            "pixel_precision": "pooled over images",
        }.items()
    },
    "data_sha256": "SHA-256 of the data file, or of a phantom's name and drawing number",
    "data_phantom": "1 if the images are simulated, 0 if they are real",
    "weights_sha256": "SHA-256 of the file that weights stood for, where it was one",
    "teacher_sha256": "the same of teacher",
    "kept_sha256": "SHA-256 of the weights that this run left beside its record, if they were to be kept",
    "train_n": "training images used",
    "train_rarest": "images of the smallest class among them",
    "importance_steps": "training steps whose batch was drawn by importance",
    "device": "cpu or cuda",
    "precision_used": "what really ran",
    "precision_why": "why it was used",
    "precision_emulated": "1 if this hardware has no arithmetic for it, so that time and energy say nothing of a saving; else 0",
    "threads_used": "CPU threads",
    "device_name": "CPU or GPU model",
    "cpu_flags": "instruction sets that matter here",
    "platform": "",
    "python": "",
    "torch": "",
    "timm": "",
    "effml": "",
    "git_commit": "of the effml checkout; + when its source was changed",
}


class Record(dict[str, Any]):
    """One run, reported: a flat row of the recipe's fields and COLUMNS; what is unknown is None (NaN in tables).

    A name outside both is refused, so that a typo cannot become a column. Columns read as attributes too.
    """

    def __init__(self, recipe: Recipe, **columns: Any) -> None:
        super().__init__(recipe.to_dict(), recipe_id=recipe.id)
        self.update(columns)

    def update(self, columns: dict[str, Any] | None = None, /, **more: Any) -> None:
        for name, value in {**(columns or {}), **more}.items():
            if name not in COLUMNS and name not in Recipe.__dataclass_fields__:
                raise ValueError(
                    f"{name!r} is no column of a Record: add it to effml.recipe.COLUMNS with its meaning."
                )
            self[name] = value

    def __getattr__(self, name: str) -> Any:
        if name in self or name in COLUMNS:
            return self.get(name)
        raise AttributeError(
            f"A Record has no column {name!r}. Choose from: {', '.join([*self, *COLUMNS])}"
        )
