"""`Recipe` (what is asked of a run) and `Record` (what it reports)."""

import ast
import dataclasses
import hashlib
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from functools import cache, wraps
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill
from typing import Any, Self

NUMERICS = 4
"""Raised by hand when a change of effml may change results: older runs are then done again."""

FORMER_NAMES = {"features": "scores", "keep_unit": "budget"}
"""Fields that were renamed: ids are still those of the first names, and old records are read."""

PARTS = {
    "train_fraction": "selection",
    "channel_fraction": "prune",
    "neuron_fraction": "merge",
    "rank_fraction": "factorize",
}
"""Each fraction kept, and the field which says by what method."""


@dataclass(frozen=True)
class Range:
    """Numbers for which `holds` is true; `words` say which these are."""

    words: str
    holds: Callable[[float], bool]

    def __contains__(self, value: float) -> bool:
        return self.holds(value)

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True)
class Menu:
    """The names in `registry`, which may end in `suffix`, and those in `also`. No module is
    imported for them: a recipe needs no torch."""

    registry: str
    also: tuple[str, ...] = ()
    suffix: str = ""

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self.also, *_names(self.registry)]))

    def __contains__(self, name: str) -> bool:
        return name in self.also or name.removesuffix(self.suffix) in _names(self.registry)

    def __str__(self) -> str:
        more = f"; each also with {self.suffix} behind it" if self.suffix else ""
        return ", ".join(self) + more


class Repairs(Menu):
    """Names of the registry, several joined by +, in its order: one id for one thing."""

    def __contains__(self, name: str) -> bool:
        names, parts = list(_names(self.registry)), name.split("+")
        fits = parts == [one for one in names if one in parts] and "master+stochastic" not in name
        return name in self.also or fits

    def __str__(self) -> str:
        return f"{super().__str__()}; or several in this order, as in eps+batchnorm+master"


class Models(Menu):
    """The models of effml and timm, and those given to `effml.run(recipe, model=…)`, `own:…`."""

    def __contains__(self, name: str) -> bool:
        own = re.match("own:.", name)
        return name in _names(self.registry) or own or _of_timm(name.removeprefix("slices:"))

    def __str__(self) -> str:
        more = "a name of timm such as resnet18, for volumes slices:resnet18"
        return f"{super().__str__()}, or {more}"


class Proxies(Models):
    """A model, and after @ its epochs of training or `imagenet`."""

    def __contains__(self, name: str) -> bool:
        model, at, how = name.partition("@")
        trained = not at or how == "imagenet" or how.isdecimal()
        return name in self.also or trained and not model.startswith("own:") and model in MODELS

    def __str__(self) -> str:
        return f"{super().__str__()}; after @ the epochs, as in lenet5@5 (@0: random), or @imagenet"


class BitSchedules(Menu):
    """constant, or a name and its bits, as in uniform:4 and depth:8-2."""

    def __contains__(self, text: str) -> bool:
        name, _, bits = text.partition(":")
        two = r"[2-8]" if name == "uniform" else r"[2-8]-[2-8]"
        known = name in _names(self.registry) and re.fullmatch(two, bits)
        return text in self.also or bool(known)

    def __str__(self) -> str:
        return f"{super().__str__()}; bits are 2 to 8, as in uniform:4, depth:8-2, time:8-4"


def _names(registry: str) -> Iterable[str]:
    """The names in a registry: in the dict itself where its module is imported, else as its source
    file gives them."""
    module, _, name = f"effml.{registry}".rpartition(".")
    live = getattr(sys.modules.get(module), name, None)
    return _written(module, name) if live is None else live


@cache
def _written(module: str, name: str) -> dict[str, None]:
    path = Path(__file__).parent.joinpath(*module.split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            if isinstance(target, ast.Name) and target.id == name:
                return dict.fromkeys(key.value for key in node.value.keys)
    raise LookupError(f"{path} holds no dict literal {name}.")


def _of_timm(name: str) -> bool:
    """Whether timm has the model; a tag, as in resnet18.a1_in1k, names its weights. Importing timm
    takes seconds, so its files are read instead. Where it is not installed, every name passes."""
    return not (names := _timm_names()) or name.partition(".")[0] in names


@cache
def _timm_names() -> frozenset[str]:
    package = find_spec("timm")
    files = Path(package.origin).parent.glob("models/**/*.py") if package and package.origin else ()
    names: set[str] = set()
    for text in (file.read_text(encoding="utf-8") for file in files):
        names.update(re.findall(r"^@register_model\s*\ndef (\w+)", text, re.M))
        for former in re.findall(r"register_model_deprecations\(__name__, \{(.*?)\}", text, re.S):
            names.update(re.findall(r"""^\s*['"](\w+)[\w.]*['"]\s*:""", former, re.M))
    return frozenset(names)


COUNT = Range("0 or a number above it", lambda value: value >= 0)
THREADS = Range("0 to 1024", lambda value: 0 <= value <= 1024)
SEED = Range("0 or a number above it, below 2**63", lambda value: 0 <= value < 2**63)
ABOVE_0 = Range("a number above 0", lambda value: value > 0)
SHARE = Range("a number above 0 and at most 1", lambda value: 0 < value <= 1)
FEATURES, UNITS = ("none", "pixels", "embedding"), ("fraction", "params")
BLOCKS, ALLOCATORS = ("none", "blocks"), ("auto", "mmap", "system")
SAVED_BITS, SENT_BITS = (
    Range(f"{words}: codes that fill whole bytes", menu.__contains__)
    for words, menu in (("32, 8, 4 or 2", (2, 4, 8, 32)), ("32 or 8", (8, 32)))
)
MODELS, PROXIES = Models("models.MODELS"), Proxies("models.MODELS", ("none",))
SELECTION = Menu("selection.SELECTORS", ("none",), "_per_class")
PRUNERS, MERGERS, FACTORIZERS = (
    Menu(f"compression.{name}", ("none",)) for name in ("PRUNERS", "MERGERS", "FACTORIZERS")
)
TRAINING = "training.sampling.SAMPLERS training.schedules.SCHEDULES training.stopping.STOPPING"
SAMPLERS, SCHEDULES, STOPPING = map(Menu, TRAINING.split())
AUGMENTATIONS = Menu("training.augmentation.AUGMENTATIONS")
CLASS_WEIGHTS = Menu("training.losses.CLASS_WEIGHTS")
BIT_SCHEDULES = BitSchedules("compression.bit_width.BIT_SCHEDULES", ("constant",))
OPTIMIZERS = Menu("optimizers.OPTIMIZERS")
RUNTIMES = Menu("deployment.runtimes.RUNTIMES")
PRECISIONS = Menu("precision.PRECISIONS", ("auto",))
REPAIRS = Repairs("optimizers.half.HALF_REPAIRS", ("none",))
_CHOICE = r"(\d+x){3}\d+\*(\d+x){3}\d+/\S*([^?\s=]=[lp]{3}|\?=[lp])"
CONVOLUTIONS = Range(
    "auto (the fastest for each shape), library (torch's), or a record's convolutions_used",
    lambda text: (
        text in ("auto", "library") or bool(re.fullmatch(rf"{_CHOICE}( {_CHOICE})*", text))
    ),
)


def field(default: Any, meaning: str, values: Any = None) -> Any:
    """A field of Recipe. `values` is a Range, a Menu or a tuple; None: the meaning says it."""
    return dataclasses.field(default=default, metadata={"meaning": meaning, "values": values})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One run, asked for: what data, which model, what to save on, how to train. Every default
    means *untouched* and never changes: `id` hashes the fields that differ. Every "how much" is the
    fraction **kept** (of a pruning ratio p that is 1 - p).

    Raises:
        ValueError: A value is impossible, a name is on no menu, or fields contradict each other.

    Example:
        >>> recipe = effml.Recipe(model="mlp", selection="kcenter", train_fraction=0.2)
        >>> recipe.id, recipe.but(seed=1).changed["seed"]
        ('r1779a191bb', 1)

    Fields:
    """

    data: str = field("phantom-chest", "name of a set (MedMNIST, a phantom) or path of an .npz")
    size: int = field(28, "side of the images, pixels", ABOVE_0)
    model: str = field("lenet5", "what is trained", MODELS)
    weights: str = field("random", "its start: random, imagenet, a file, the id of an earlier run")
    selection: str = field("none", "how to choose the training images that stay", SELECTION)
    train_fraction: float = field(1.0, "fraction of the images that selection keeps", SHARE)
    features: str = field("none", "what selection compares; none: embeddings if it can", FEATURES)
    proxy: str = field("none", "small model that selects images on behalf of `model`", PROXIES)
    sampler: str = field("uniform", "how batches are drawn", SAMPLERS)
    trainable: str = field("all", "head: the last layer alone (linear probe)", ("all", "head"))
    prune: str = field("none", "how to remove channels or single weights", PRUNERS)
    channel_fraction: float = field(1.0, "fraction of them kept (1 - pruning ratio)", SHARE)
    merge: str = field("none", "how to merge similar neurons", MERGERS)
    neuron_fraction: float = field(1.0, "fraction of the neurons kept", SHARE)
    factorize: str = field("none", "how to make layers low-rank", FACTORIZERS)
    rank_fraction: float = field(1.0, "fraction of the rank kept", SHARE)
    keep_unit: str = field("fraction", "params: these three are of all parameters", UNITS)
    calibration_images: int = field(0, "training images that compression may look at", COUNT)
    teacher: str = field("none", "id of an earlier run in the same store to distil from, or none")
    temperature: float = field(4.0, "softmax temperature of distillation", ABOVE_0)
    teacher_share: float = field(0.9, "share of the loss that is the teacher's", SHARE)
    optimizer: str = field("adamw", "what takes the steps", OPTIMIZERS)
    precision: str = field("fp32", "number format; auto: fp32 or amp_bf16, the faster", PRECISIONS)
    half_repair: str = field("none", "what mends weights in 16 bits (bf16, fp16)", REPAIRS)
    convolutions: str = field("auto", "algorithms of training, last bits differ", CONVOLUTIONS)
    activation_bits: int = field(32, "of what is saved for the backward pass", SAVED_BITS)
    gradient_bits: int = field(32, "of the gradients, with error feedback", SENT_BITS)
    accumulate: int = field(1, "parts of a batch whose gradients are summed to a step", ABOVE_0)
    checkpointing: str = field("none", "blocks: compute activations again, save none", BLOCKS)
    allocator: str = field("auto", "mmap: freed memory goes back to the system", ALLOCATORS)
    bit_schedule: str = field("constant", "bits of the weights by depth or time", BIT_SCHEDULES)
    epochs: int = field(10, "passes through the training images; 0: the model as it comes", COUNT)
    batch_size: int = field(128, "images a step", ABOVE_0)
    learning_rate: float = field(1e-3, "the largest of the schedule", ABOVE_0)
    weight_decay: float = field(-1.0, "below 0: the optimizer's own (0.01 for AdamW, else 0)")
    schedule: str = field("cosine", "how the learning rate falls", SCHEDULES)
    patience: int = field(0, "epochs without a better one that end training; 0: never", COUNT)
    stopping: str = field("score", "a better epoch: by AUROC (Dice), or as written in", STOPPING)
    augment: str = field("none", "how images are varied in training", AUGMENTATIONS)
    class_weights: str = field("none", "balanced: rare classes weigh as much", CLASS_WEIGHTS)
    runtime: str = field("eager", "what runs the finished model on the test split", RUNTIMES)
    threads: int = field(0, "CPU threads; 0: as many as torch takes", THREADS)
    seed: int = field(0, "of everything random", SEED)

    def __post_init__(self) -> None:
        for one in fields(self):
            value = _as(one.type, one.name, getattr(self, one.name))
            object.__setattr__(self, one.name, value)
            _check(one.name, value, one.metadata["values"])
        for fraction, method in PARTS.items():
            kept, how = getattr(self, fraction), getattr(self, method)
            if (kept < 1) != (how != "none"):
                raise ValueError(
                    f"{method}={how!r} with {fraction}={kept}: give {method} a method and "
                    f"{fraction} a value below 1, or leave both ('none', 1.0)."
                )
        asked = self.changed.keys()
        for serving, needed in (
            (("keep_unit", "calibration_images"), ("prune", "merge", "factorize")),
            (("temperature", "teacher_share"), ("teacher",)),
            (("features", "proxy"), ("selection",)),
        ):
            idle = " and ".join(name for name in serving if name in asked)
            if idle and not asked & {*needed}:
                needed = " or ".join(needed)
                raise ValueError(f"{idle} has no effect without {needed}: give one, or leave it.")
        if self.features == "embedding" and self.proxy == "none":
            raise ValueError("features='embedding' is that of a proxy: give proxy='lenet5@5', say.")
        if self.teacher != "none" and not self.epochs:
            raise ValueError("teacher has no effect with epochs=0: give epochs, or leave teacher.")
        if self.half_repair != "none" and self.precision not in ("bf16", "fp16"):
            told = f"half_repair={self.half_repair!r} has no effect on precision={self.precision!r}"
            raise ValueError(f"{told}: give precision='bf16' (on a GPU fp16), or leave it.")
        if "eps" in self.half_repair and self.optimizer == "sgd":
            raise ValueError("half_repair='eps' is for Adam, and sgd has no eps: leave it out.")
        self._check_memory()
        if "|" in self.data:
            first = f"effml.at_hand({self.data!r}) gives the first that is on this machine"
            raise ValueError(f"data={self.data!r} names several sets, a run needs one: {first}.")

    def _check_memory(self) -> None:
        parts, size = self.accumulate, self.batch_size
        if parts > 1 and (size % parts or size < 2 * parts):
            told = (
                f"accumulate={parts} does not cut batch_size={size} into equal parts of two or more"
            )
            raise ValueError(f"{told} images: give a divisor of {size}, at most {size // 2}.")
        if self.checkpointing != "none" and self.activation_bits < 32:
            told = f"checkpointing={self.checkpointing!r} saves nothing that activation_bits="
            raise ValueError(f"{told}{self.activation_bits} could pack: give one of the two.")

    @property
    def changed(self) -> dict[str, Any]:
        """The fields which differ from their defaults."""
        values = ((one, getattr(self, one.name)) for one in fields(self))
        return {one.name: value for one, value in values if value != one.default}

    @property
    def id(self) -> str:
        """`r` and ten hexadecimal digits, the same on every machine."""
        named = {FORMER_NAMES.get(name, name): value for name, value in self.changed.items()}
        return "r" + hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:10]

    def but(self, **changes: Any) -> Self:
        """A copy with these fields changed: `base.but(seed=1)`."""
        _refuse_unknown(changes)
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
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


def explain_fields(indent: str = "    ") -> str:
    """Of each field of Recipe its default, its meaning, and in brackets what it may be."""
    lines = []
    for one in fields(Recipe):
        values = one.metadata["values"]
        told = f"{one.name}={one.default}: {one.metadata['meaning']}"
        told += f" [{_menu(values)}]" if values else ""
        lines.append(fill(told, 98, initial_indent=indent, subsequent_indent=indent + "    "))
    return "\n".join(lines)


class _Explained:
    """A docstring that ends with the fields, written when it is read."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __get__(self, instance: Any, owner: Any) -> str:
        return f"{self.text.rstrip()}\n{explain_fields(' ' * 8)}\n"


def _knowing(init: Callable[..., None]) -> Callable[..., None]:
    """`init`, whose error on an unknown field lists the fields."""

    @wraps(init)
    def made(self: Recipe, **given: Any) -> None:
        _refuse_unknown(given)
        init(self, **given)

    return made


Recipe.__init__ = _knowing(Recipe.__init__)
Recipe.__doc__ = _Explained(Recipe.__doc__)


def _menu(values: Any) -> str:
    return ", ".join(map(str, values)) if isinstance(values, tuple) else str(values)


def _check(name: str, value: Any, values: Any) -> None:
    """ValueError unless `value` is one of `values`."""
    if values is None or value in values:
        return
    if isinstance(values, Range):
        raise ValueError(f"{name}={value} is not allowed: give {values}.")
    known = [*values, *(_timm_names() if isinstance(values, Models) else ())]
    near = get_close_matches(str(value).partition("@")[0], map(str, known), n=5)
    hint = f". Did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(f"Unknown {name} {value!r}. Choose from: {_menu(values)}{hint}")


def _as(kind: type, name: str, value: Any) -> Any:
    """`value` as int, float or str, if nothing is lost: 1.0 and "1" are 1, True is not."""
    value = value.item() if hasattr(value, "item") else value  # numpy and torch scalars
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    if kind is str and isinstance(value, str) and value:
        return value
    if kind is not str and not isinstance(value, bool):
        try:
            value = int(value) if kind is int and isinstance(value, str) else value
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if kind is float and math.isfinite(number):
            return number
        if kind is int and number.is_integer():
            return value if isinstance(value, int) else int(number)
    if name in _IN_MEMORY and not isinstance(value, (str, int, float, type(None))):
        kind = type(value).__name__
        raise ValueError(f"{name} is a {kind}: a recipe takes a name. {_IN_MEMORY[name]}")
    wanted = {int: "whole number: give one, such as 3", float: "number: give one, such as 0.5"}
    raise ValueError(f"{name}={value!r} is no {wanted.get(kind, 'word: give one')}.")


_IN_MEMORY = {
    "data": "A Dataset in memory is for effml.train(model, dataset, …), which needs no recipe.",
    "model": "Give your own nn.Module as effml.run(recipe, model=…).",
    "optimizer": "effml.make_optimizer is for loops of your own.",
}
"""Fields for which people give the thing itself, and what to do instead."""


def _refuse_unknown(names: Iterable[str]) -> None:
    for name in names:
        if name not in (known := Recipe.__dataclass_fields__):
            near = get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            if not name:
                hint = " Write field=value without spaces, such as model=mlp."
            elif name.endswith(".npz") or Path(name).is_file():
                hint = f" For a file of images write data={name}."
            raise ValueError(f"Recipe has no field {name!r}.{hint} Choose from: {', '.join(known)}")


_DOING = {
    "prepare": "loading and selecting data, building and compressing a model",
    "train": "training, validation included",
    "infer": "predicting the test split once (a runtime but eager: in a fresh process, its start "
    "not counted)",
}
_COSTS = {
    "seconds": "wall clock of {}",
    "energy_j": "net energy of {}, J; NaN = unknown",
    "energy_low_j": "lower end of its range",
    "energy_high_j": "upper end of its range",
    "peak_memory_bytes": "peak resident memory (CPU) or allocated memory (CUDA) in {}",
}
_SCORES = {
    "n": "images in the test split",
    "prevalence": "fraction of positives (binary)",
    "majority_rate": "accuracy of always answering the most frequent class",
    "auroc": "area under the ROC curve; macro one-vs-rest for more than two classes",
    **dict.fromkeys(("auroc_low", "auroc_high"), "95 % interval (DeLong, logit scale)"),
    "accuracy": "",
    **dict.fromkeys(("accuracy_low", "accuracy_high"), "95 % interval (Wilson)"),
    "balanced_accuracy": "mean recall over the classes",
    "sensitivity": "of the positive class of the passport, at `threshold`",
    **dict.fromkeys(("sensitivity_low", "sensitivity_high"), "95 % interval (Wilson)"),
    "specificity": "of the rest, at `threshold`",
    **dict.fromkeys(("specificity_low", "specificity_high"), "95 % interval (Wilson)"),
    "threshold": "on the probability of the positive class",
    "average_precision": "stepwise area under the precision-recall curve; macro one-vs-rest",
    "brier": "mean squared error of the probabilities: binary 0…1, summed over classes 0…2",
    "ece": "expected calibration error, 15 bins: of the positive or (multi-class) the top class",
    "worst_class_recall": "lowest recall of a class; binary: of the two, at `threshold`",
    "worst_class": "index of that class, the first of equals",
    "n_empty": "test images whose true mask is empty",
    "n_one_empty": "test images of which one mask is empty, the other not",
    "dice": "mean over images; both masks empty: 1, one: 0",
    **dict.fromkeys(("dice_low", "dice_high"), "95 % interval (bootstrap)"),
    "dice_pooled": "over all pixels of all images together",
    "iou": "mean over images",
    "hausdorff95": "larger directed 95th percentile, pixels, mean over images with both masks",
    "hausdorff95_median": "the same, median",
    **dict.fromkeys(("pixel_sensitivity", "pixel_precision"), "pooled over images"),
}

COLUMNS: dict[str, str] = {
    "run_id": "recipe_id and eight random digits; names the arrays beside the record",
    "recipe_id": "Recipe.id",
    "status": "final: ok, unsupported, out of memory, diverged; else: not built, failed, data "
    "unavailable, weights unavailable, timed out (up to the same timeout_s final), "
    "over memory (of the adviser's budget)",
    "reason": "why the status is not ok",
    "notes": "why a score is NaN, where one is, and what else the reader should know",
    "started_utc": "ISO 8601",
    "finished_utc": "ISO 8601",
    "numerics": "NUMERICS of the effml that ran it",
    "timeout_s": "of a run that timed out: the seconds it was given",
    "together_peak_bytes": "of a run of advise: the most memory that it, its helper and the asker "
    "held together, shared pages counted once",
    **{f"{w}_{n}": text.format(_DOING[w]) for w in _DOING for n, text in _COSTS.items()},
    "energy_source": "where the joules come from, and the assumption behind them",
    "gross_energy_j": "all that this source saw in training, other programs too; NaN = unknown",
    "idle_w": "what it shows when nothing runs, taken off train_energy_j; NaN = unknown",
    "energy_measured": "1 if counters measured train_energy_j, 0 if it is declared or estimated",
    "energy_reason": "why the energy is unknown, or why no better source was used",
    "shared": "1 if other programs used over 10 % of the CPU in training, 0 if not",
    "shared_machine": "1 if another run of `effml.sweep` was on this machine meanwhile, 0 if not",
    "implied_watts": "train_energy_j / train_seconds: must be plausible for the machine",
    "lineage_seconds": "training time of the runs that this builds on, each once; NaN = unknown",
    "lineage_energy_j": "the same in joules",
    "params": "parameters",
    "nonzero_params": "parameters that are not zero",
    "macs": "multiply-accumulate operations of one image (1 MAC = 2 FLOPs)",
    "kept": "fraction that the last compression kept of what it removes (neurons, channels, …)",
    "params_before": "parameters before compression",
    "macs_before": "multiply-accumulate operations of one image before compression",
    "latency_s": "of one image here, median, after compression and before training",
    "latency_before_s": "the same before compression, measured by turns",
    "model_file_bytes": "size of the weights as safetensors",
    "val_score": "AUROC, or mean Dice for masks, on the validation split at best_epoch",
    "resumed_epoch": "epoch after which an interrupted training went on; 0: not interrupted",
    "ended_early": "1 if its deadline ended the training, which kept the epochs it had; 0 if not",
    "weights_dtype": "of the weights, as found in memory after the first step, commonest first",
    "activations_dtype": "of the model's outputs, the same way",
    "gradients_dtype": "of the weights' gradients, the same way",
    "optimizer_dtype": "of the optimiser's state, the same way",
    "optimizer_state_bytes": "of the optimiser's state, the same way",
    "optimizer_quantised": "fraction of the parameters whose optimiser state takes a byte a value",
    "weight_bits": "mean over the weights of linear and convolutional layers, by bit_schedule",
    "stored_bytes": "of a file with the weights in their bits, written and read back",
    "lost_updates": "16-bit weights: fraction of the updates (parameters with a gradient, every "
    "step) after which weight, or master copy, was the same; from 4096 weights of each tensor, "
    "on a GPU of every tenth step",
    "unmoved_weights": "16-bit weights: of those that ever had a gradient the fraction that ended "
    "where it began (master copies are looked at), before the best epoch was put back",
    "saved_bytes": "of the floating-point numbers saved for the backward pass of the first step",
    "saved_bytes_fp32": "of the same before they were packed",
    "saved_index_bytes": "of the whole numbers and masks saved with them",
    "saved_bits": "bits a value of what was packed, as found in memory",
    "gradient_bytes": "of the gradients of a step, codes and scales; NaN: not quantised",
    "allocator_used": "mmap: freed memory went back to the system at once; system: its own way",
    "train_start_memory_bytes": "resident memory when training began (CPU)",
    "best_epoch": "the epoch (from 1) whose weights were kept, chosen on validation",
    "epochs_run": "epochs trained",
    "val_auroc": "AUROC on the validation split at best_epoch",
    **{f"test_{name}": text for name, text in _SCORES.items()},
    "data_sha256": "SHA-256 of the data file, or of a phantom's name and drawing number",
    "data_phantom": "1 if the images are simulated, 0 if they are real",
    "weights_sha256": "SHA-256 of the file that weights stood for, or of your own model",
    "teacher_sha256": "SHA-256 of the file that teacher stood for",
    "kept_sha256": "SHA-256 of the weights that this run left, if they were to be kept",
    "runtime_precision": "of most layers that multiply, as the runtime executes them",
    "runtime_file_bytes": "of its files",
    "runtime_build_seconds": "export, calibration and, where it is part of it, training again",
    "train_n": "training images used",
    "train_rarest": "images of the smallest class among them",
    "importance_steps": "training steps whose batch was drawn by importance",
    "device": "cpu or cuda",
    "precision_used": "what really ran",
    "precision_why": "why it was used",
    "convolutions_used": "the algorithm of each shape in training, see effml.fast_convolutions",
    "precision_emulated": "1 if this hardware emulates it: time and energy then show no saving",
    "threads_used": "CPU threads",
    "waiting": "how they wait for each other: spin, or sleep once others keep the CPUs busy, or "
    "the setting that you gave; none: one thread",
    "turns_seconds": "of the run, in which it stood still while another of effml's had the CPUs; "
    "its other seconds contain them",
    "device_name": "CPU or GPU model",
    "cpu_flags": "instruction sets that matter here",
    **dict.fromkeys(("platform", "python", "torch", "timm", "effml"), ""),
    "git_commit": "of the effml checkout; + when its source was changed",
}


class Record(dict[str, Any]):
    """One run, reported: a flat row of the recipe's fields and COLUMNS, which read as attributes
    too; what is unknown is None (NaN in tables).

    Raises:
        ValueError: A name is neither a field nor a column.

    Example:
        >>> record = effml.Record(effml.Recipe(seed=4), test_auroc=0.9)
        >>> record.test_auroc, record["seed"], record.reason
        (0.9, 4, None)
    """

    def __init__(self, recipe: Recipe, **columns: Any) -> None:
        super().__init__(recipe.to_dict(), recipe_id=recipe.id)
        self.update(columns)

    def update(self, columns: dict[str, Any] | None = None, /, **more: Any) -> None:
        """Set these columns. ValueError for a name that is none."""
        for name, value in {**(columns or {}), **more}.items():
            if name not in COLUMNS and name not in Recipe.__dataclass_fields__:
                raise ValueError(f"{name!r} is no column: add it to COLUMNS with its meaning.")
            self[name] = value

    def __getattr__(self, name: str) -> Any:
        if name in self or name in COLUMNS:
            return self.get(name)
        raise AttributeError(f"A Record has no column {name!r}. Choose from: {', '.join(COLUMNS)}")
