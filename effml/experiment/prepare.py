"""The first step of a run: device and precision, the data and which of them, the model and its
compression."""

import copy
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from effml.compression import FACTORIZERS, MERGERS, PRUNERS, Report
from effml.data import Dataset, load_dataset, normalize
from effml.experiment.lineage import ancestor, build_for, find_teacher, lineage
from effml.machine import choose as choose_from
from effml.machine import seeded
from effml.metering import measure
from effml.metering.memory import give_back_freed_memory
from effml.models import SEGMENTING, head, takes_volumes, weights_bytes
from effml.precision import choose, emulated, tf32
from effml.recipe import Recipe, Record
from effml.results import weights_sha256 as sha256
from effml.selection.proxy import select_images

DEVICES = ("auto", "cpu", "cuda")
LOOKED_THROUGH = 64 * 2**20  # bytes of images: a moment
ONE_LABEL = ("binary", "multi-class", "ordinal")


@dataclass(kw_only=True)
class Prepared:
    """What training needs: `recipe` with the precision that is used, `steps` of compression of an
    earlier run, `reports` of this one, `convolutions` of the proxy."""

    recipe: Recipe
    data: Dataset
    model: nn.Module
    teacher: nn.Module | None = None
    chosen: torch.Tensor | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    convolutions: dict[str, str] = field(default_factory=dict)


def settle(recipe: Recipe, record: Record, device: str) -> None:
    """Device, threads and precision, on record."""
    choose_from("device", device, DEVICES)
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("device='cuda', but torch finds no CUDA GPU here. Choose auto or cpu.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    record.update(device=device)
    if device == "cuda":
        record.update(device_name=torch.cuda.get_device_name())
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    record.update(threads_used=torch.get_num_threads())
    saves = {"activation_bits", "accumulate", "checkpointing"} & recipe.changed.keys()
    asked = recipe.allocator == "mmap" or recipe.allocator == "auto" and saves
    given_back = bool(device == "cpu" and asked and give_back_freed_memory())
    record.update(allocator_used="mmap" if given_back else "system")
    used, why = choose(recipe.precision, device)
    if used == "fp32" and tf32(device):
        why += "; torch computes convolutions in TF32 on this GPU"
    record.update(precision_used=used, precision_why=why)
    record.update(precision_emulated=int(emulated(used, device)))


def prepare(recipe: Recipe, record: Record, store: Path | None, own: nn.Module | None) -> Prepared:
    """Load the data and select from them; build the model, or copy your own, and compress it."""
    if own is None and recipe.model.startswith("own:"):
        raise ValueError(f"{recipe.model} is your own model: effml.run(recipe, model=…) takes it.")
    start = sha256(recipe.weights, store, model=recipe.model)
    if own is not None:
        start = _own_sha256(own)
    record.update(weights_sha256=start, teacher_sha256=sha256(recipe.teacher, store))
    with measure(record.device) as cost:
        recipe = recipe.but(precision=record.precision_used)
        data = load_dataset(recipe.data, size=recipe.size)
        passport = data.passport
        record.update(data_sha256=passport["sha256"], data_phantom=int(passport["phantom"]))
        check_data(data, recipe)
        notes, chosen, convolutions = [passport.get("labels")], None, {}
        if recipe.selection != "none":
            chosen, convolutions = select_images(data, recipe, device=record.device)
            whole, data = data, data.only(chosen)
            notes += lost_classes(whole, data)
        weights, _ = ancestor(recipe.weights, store)
        if own is None:
            model, steps = build_for(recipe.model, data, weights, recipe.seed)
        else:
            (model, told), steps = _copy(own, data, recipe), []
            notes.append(told)
        teacher = find_teacher(recipe, data, store)
        record.update(lineage(store, recipe.weights, recipe.teacher))
        if recipe.trainable == "head":
            model.requires_grad_(False)
            head(model, normalize(data.train.images[:1])).requires_grad_(True)
        model.to(record.device)
        model, reports = compress(model, data, recipe)
        record.update(_achieved(reports))
    record.update(cost.as_columns("prepare"))
    notes += remarks(data, recipe)
    return Prepared(
        recipe=recipe,
        data=data,
        model=model,
        teacher=teacher,
        chosen=chosen,
        steps=steps,
        reports=reports,
        convolutions=convolutions,
        notes=notes + [note for report in reports for note in report.notes],
    )


def check_data(data: Dataset, recipe: Recipe) -> None:
    """ValueError where the data have no split to train or test on, or do not fit the model."""
    if data.train is None or data.test is None:
        has = ", ".join(data.passport["counts"])
        raise ValueError(f"{data.name} has only {has}: a run needs a train and a test split.")
    *_, height, width = data.train.images.shape
    axes, masks = data.train.images.ndim - 2, data.task == "segmentation"
    own, volumes = recipe.model.startswith("own:"), takes_volumes(recipe.model)
    if masks != (recipe.model in SEGMENTING) or volumes != (axes == 3) and not own:
        fits = f"unet{'3d' * (axes == 3)}" if masks else "a classifier, such as resnet18"
        if axes == 3 and not masks:
            fits = "resnet18_3d, or a name of timm slice by slice, such as slices:resnet18"
        what = f"{data.name} ({data.task}, {axes}-D)"
        raise ValueError(f"{what} does not fit model={recipe.model!r}. Choose {fits}.")
    if recipe.prune == "channels_taylor" and data.task == "multi-label":
        raise ValueError(
            f"{data.name} has several labels an image, and channels_taylor is for one. Choose "
            "prune='channels'."
        )
    if height != width and not masks:
        raise ValueError(f"{data.name} has images of {height}×{width} px; give square ones.")


def lost_classes(whole: Dataset, chosen: Dataset) -> list[str]:
    """The classes of which a selection left no image, in words."""
    if whole.task not in ONE_LABEL:
        return []
    before, after = (d.train.labels.bincount(minlength=len(d.classes)) for d in (whole, chosen))
    names = [str(whole.classes[i]) for i in ((before > 0) & (after == 0)).nonzero().flatten()]
    return [f"the selection left no training image of {', '.join(names)}"] if names else []


def remarks(data: Dataset, recipe: Recipe) -> list[str]:
    """What a reader should know of the images: their pixels, grey values, copies, validation."""
    side, splits = data.train.images.shape[-1], ("train", "val", "test")
    parts = {name: part for name in splits if (part := getattr(data, name)) is not None}
    told = []
    if side != recipe.size:
        told.append(f"images of {side} px: size={recipe.size} takes them as they are")
    if data.val is None and recipe.epochs:
        told.append("no validation images to choose an epoch by: the last is kept")
    some = {name: part.take(slice(0, 256)) for name, part in parts.items()}
    ranges = {name: int(x.max()) - int(x.min()) for name, x in some.items()}
    if min(ranges.values()) <= 2 or max(ranges.values()) >= 10 * min(ranges.values()):
        seen = ", ".join(f"{name} {int(x.min())} to {int(x.max())}" for name, x in some.items())
        told.append(f"grey values of 0 to 255: {seen}. Scale all images alike before the cast")
    train, test = data.train.images, data.test.images
    if train.nbytes + test.nbytes > LOOKED_THROUGH:
        return [*told, "too many pixels to look for copies of training images in test"]
    known = {image.tobytes() for image in train.numpy()}
    if copies := sum(image.tobytes() in known for image in test.numpy()):
        told.append(f"{copies} of {len(test)} test images are in train too, to the byte")
    return told


def compress(model: nn.Module, data: Dataset, recipe: Recipe) -> tuple[nn.Module, list[Report]]:
    """Merge, prune, factorise as the recipe says, looking at some training images but no label."""
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(recipe.seed))
    seen, reports = recipe.calibration_images, []
    options = {
        "example": data.train.images[:1],
        "data": data.train.take(order[:seen]) if seen else None,
        "seed": recipe.seed,
        "keep_unit": recipe.keep_unit,
    }
    for method, registry, keep in (
        (recipe.merge, MERGERS, recipe.neuron_fraction),
        (recipe.prune, PRUNERS, recipe.channel_fraction),
        (recipe.factorize, FACTORIZERS, recipe.rank_fraction),
    ):
        if method != "none":
            model, report = registry[method](model, keep, **options)
            reports.append(report)
    return model, reports


def _achieved(reports: list[Report]) -> dict[str, float]:
    if not reports:
        return {}
    before, after = reports[0].before, reports[-1].after
    latency = {"latency_s": after["latency_s"], "latency_before_s": before["latency_s"]}
    sizes = {"params_before": before["params"], "macs_before": before["macs"]}
    return {"kept": reports[-1].kept, **sizes, **latency}


def check_own(model: Any) -> str:
    """The name of its class. ValueError for what is no model with something to train."""
    if not isinstance(model, nn.Module) or not any(True for _ in model.parameters()):
        given = type(model).__name__
        raise ValueError(f"model is a {given}: give an nn.Module that has parameters to train.")
    return type(model).__name__


def _own_sha256(own: nn.Module) -> str:
    """Of its weights, its parts as `print` shows them, and its own forward passes: two models of
    one class name, or one set of weights, must not go on with each other's checkpoint."""
    digest = hashlib.sha256(weights_bytes(own) + repr(own).encode())
    for kind in dict.fromkeys(map(type, own.modules())):
        code = getattr(kind.forward, "__code__", None)
        if code and not kind.__module__.startswith("torch."):
            plain = [value for value in code.co_consts if not hasattr(value, "co_code")]
            digest.update(code.co_code + repr((code.co_names, plain)).encode())
    return digest.hexdigest()


def _copy(own: nn.Module, data: Dataset, recipe: Recipe) -> tuple[nn.Module, str]:
    """A copy of your own model, and what is odd in its outputs. ValueError unless it gives these
    data's classes a logit each."""
    if recipe.weights != "random":
        raise ValueError(
            f"weights={recipe.weights!r}: a model of your own is trained from the weights it has. "
            "Load them into it yourself, and leave weights."
        )
    model, images = copy.deepcopy(own).cpu().float(), normalize(data.train.images[:2])
    wanted = (len(images), len(data.classes))
    try:
        with torch.no_grad(), seeded(recipe.seed):
            given = model.eval()(images)
        got = tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
    except Exception as error:  # of many kinds: the model's own
        got = f"{type(error).__name__}: {error}"
    if got != wanted:
        raise ValueError(
            f"{recipe.model} must give logits {wanted} for images {tuple(images.shape)} of "
            f"{data.name}; it gives {got}."
        )
    if (given >= 0).all() and torch.allclose(given.sum(1), torch.ones(len(given)), atol=1e-4):
        return model, f"{recipe.model} gives probabilities, not logits: leave out its last softmax"
    return model, ""
