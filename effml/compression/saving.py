"""A compressed model on disk, without pickle: `model.json`, a readable recipe of what was done to
each layer (`cut`, `svd`, `sparse`), beside its weights, `model.safetensors`, which hold the SHA-256
of the recipe they belong to."""

import hashlib
import json
import os
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from effml.compression.compressor import Report, attention_scale, is_channels_last, shapes, sizes
from effml.compression.dependencies import attentions
from effml.compression.factorization import SCHEMES, factorable, two_layers
from effml.machine import whole_file
from effml.models import build_model, first_weight

FORMAT = "effml-compressed-1"
BUILD = {"in_channels": 1, "classes": 2, "size": 28}  # what shapes a model of build_model
Recipe = dict[str, Any]


def save_compressed(
    path: str | os.PathLike,
    model: nn.Module,
    reports: Report | Sequence[Report | dict[str, Any]],
    *,
    base: str | None = None,
    **build: int,
) -> Path:
    """Write a compressed model as `path`.json (what was cut) and `path`.safetensors (the weights).

    Args:
        path: Where to; an ending .json or .safetensors is left out.
        model: The compressed model, perhaps trained since.
        reports: The report of its compression, or of all, in order (or the steps of a recipe).
        base: The name that `build_model` was given; None for a model of your own, which you give
            to `load_compressed`.
        build: The in_channels, classes and size that `build_model` was given, if not 1, 2, 28.

    Returns:
        The path of the .json file.

    Raises:
        ValueError: The reports do not lead to this model. Nothing is written then.

    Example:
        >>> model = effml.build_model("lenet5", classes=3)
        >>> example = effml.load_dataset("phantom-chest").val.images[:1]
        >>> small, report = effml.compress(model, "channels", 0.5, example=example)
        >>> effml.save_compressed("small", small, report, base="lenet5", classes=3).name
        'small.json'
    """
    from safetensors.torch import save

    first_weight(model, "model (the second argument, behind the path)")
    reports = [reports] if isinstance(reports, Report) else reports
    steps = [step if isinstance(step, dict) else _step(step, base) for step in reports]
    recipe = {"format": FORMAT, "base": base, "build": BUILD | build if base else build}
    recipe |= {"steps": steps}
    if is_channels_last(model):
        recipe["memory_format"] = "channels_last"
    recipe = json.loads(json.dumps(recipe))
    state = model.state_dict().items()
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state}
    if base:
        _rebuilt(recipe, None, tensors, "What is to be saved")
    else:
        _check_chain(recipe, shapes(model))
    page, weights = _files(path)
    with whole_file(weights) as partial:
        partial.write_bytes(save(tensors, {"recipe_sha256": _digest(recipe)}))
    with whole_file(page) as partial:
        partial.write_text(json.dumps(recipe).replace('}, "', '},\n "') + "\n")  # a line per layer
    return page


def load_compressed(path: str | os.PathLike, model: nn.Module | None = None) -> nn.Module:
    """The model that `save_compressed` wrote, with the same outputs to the bit.

    Nothing in the files is executed.

    Args:
        path: The path given to `save_compressed`, with or without an ending.
        model: For a model of your own: a fresh instance, not cut, whose weights play no part.

    Returns:
        The compressed model, in eval mode.

    Raises:
        FileNotFoundError: One of the two files is missing.
        ValueError: A file is something else, was changed, or does not fit.

    Example:
        >>> from torch import nn, zeros
        >>> mine = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 2))
        >>> small, report = effml.compress(mine, "merge", 0.25, example=zeros(1, 1, 28, 28))
        >>> path = effml.save_compressed("mine", small, report)
        >>> effml.load_compressed(path, model=mine)[1]
        Linear(in_features=784, out_features=16, bias=True)
    """
    return load_with_recipe(path, model)[0]


def load_with_recipe(
    path: str | os.PathLike, model: nn.Module | None = None
) -> tuple[nn.Module, Recipe]:
    """What `load_compressed` gives, and the recipe of it: `base`, `build` and `steps`."""
    from safetensors import safe_open

    if model is not None:
        first_weight(model)
    page, weights = _files(path)
    try:
        recipe = json.loads(page.read_bytes())
        if recipe["format"] != FORMAT:
            raise ValueError(f"its format is not {FORMAT!r}")
        with safe_open(weights, "pt") as opened:
            signed = (opened.metadata() or {}).get("recipe_sha256")  # a clone is aligned in memory
            tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}
    except OSError:
        raise
    except Exception as error:  # safetensors' own error is no public class
        kind = type(error).__name__
        raise ValueError(
            f"{page} and {weights.name} are no compressed model ({kind}: {error}). If one is a "
            "pickle, it was not opened. Save the model anew with save_compressed."
        ) from error
    if signed != _digest(recipe):
        raise ValueError(
            f"{page} is not the recipe with which {weights.name} was saved: one of them was "
            "changed or exchanged. Copy both files from where they come from again."
        )
    return _rebuilt(recipe, model, tensors, str(page)), recipe


def _files(path: str | os.PathLike) -> tuple[Path, Path]:
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".json", ".safetensors") else path
    return stem.with_suffix(".json"), stem.with_suffix(".safetensors")


def _step(report: Report, base: str | None) -> Recipe:
    names = ("method", "keep", "keep_unit", "seed", "layers")
    step = {name: getattr(report, name) for name in names}
    return step if base else step | {"shapes": report.shapes}


def _digest(recipe: Recipe) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def _check_chain(recipe: Recipe, reached: dict[str, list[int]]) -> None:
    """Raises ValueError unless each step of an own model starts where the one before it ended, and
    the last ends at the shapes `reached`."""
    steps = recipe["steps"]
    if not steps or recipe["build"] or not all("shapes" in step for step in steps):
        raise ValueError(
            "A model of your own is saved with at least one report and no build arguments; one of "
            "build_model with its name, base=."
        )
    starts = [*(step["shapes"][0] for step in steps[1:]), reached]
    for step, start in zip(steps, starts):
        if told := _differences(start, step["shapes"][1]):
            raise ValueError(
                f"What is to be saved does not fit together: the report of {step['method']} does "
                f"not lead to what comes after it: {told}. Give all reports, in order."
            )


def _differences(given: dict[str, list[int]], wanted: dict[str, list[int]]) -> str:
    """Which tensors are of other shapes, or on one side only; "" where all are the same."""
    names = [name for name in {**wanted, **given} if given.get(name) != wanted.get(name)]
    told = [f"{name} is {given.get(name)} and not {wanted.get(name)}" for name in names[:4]]
    return "; ".join(told).replace("None", "missing")


def _rebuilt(
    recipe: Recipe, model: nn.Module | None, tensors: dict[str, torch.Tensor], what: str
) -> nn.Module:
    """The base, or a copy of the own `model`, with the structure of the recipe and these tensors;
    ValueError where that is not possible."""
    try:
        model = _start(recipe, model)
        for step in recipe["steps"]:
            for name, done in step["layers"].items():
                _apply(model, name, done)
        _fill(model, tensors)
        if recipe.get("memory_format") == "channels_last":
            model.to(memory_format=torch.channels_last)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        reason = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{what} does not fit together: {reason}. Give the base name and build arguments, or "
            "a fresh instance (model=), and the reports of all compressions, in order."
        ) from error
    return model.eval()


def _start(recipe: Recipe, model: nn.Module | None) -> nn.Module:
    """The model as it was before the first step."""
    if (base := recipe["base"]) is None:
        if model is None:
            raise ValueError("it holds the cuts of a model of your own, whose class is not in it")
        if told := _differences(shapes(model), recipe["steps"][0]["shapes"][0]):
            kind = type(model).__name__
            raise ValueError(f"the {kind} given is not the one that was cut: {told}")
        return deepcopy(model)
    if model is not None:
        raise ValueError(f"it is a {base} of build_model, so leave model= out")
    build = recipe["build"]
    if build.keys() != BUILD.keys() or {*map(type, build.values())} != {int}:
        raise ValueError(f"build must be whole numbers for {', '.join(BUILD)}")
    return build_model(base, **build)


def _apply(model: nn.Module, name: str, done: dict[str, Any]) -> None:
    """Give a layer the structure that it has after a step; its tensors come with the weights."""
    module = model.get_submodule(name)
    if (kind := done["kind"]) == "svd":
        rank, scheme = done["rank"], done["scheme"]
        if not factorable(module) or scheme not in SCHEMES or rank > module.weight.numel():
            raise ValueError(f"layer {name} cannot have rank {rank} by {scheme!r}")
        model.set_submodule(name, two_layers(module, rank, scheme), strict=True)
    elif kind not in ("cut", "sparse"):
        raise ValueError(f"there is no step {kind!r}")
    for key, value in done.get("set", {}).items():
        if type(value) is not type(sizes(module).get(key)):
            raise ValueError(f"layer {name} has no {key} that could be {value!r}")
        setattr(module, key, tuple(value) if isinstance(value, list) else value)
        if key == "channels" and "filt" in module._buffers:  # timm's blur pooling: equal filters
            module.filt = module.filt[:value]
    for owner, qkv in attentions(model.get_submodule(name.rpartition(".")[0])):
        if qkv is module and kind == "cut":
            attention_scale(owner)


def _fill(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """These tensors as parameters and buffers: the same names, of the same shape or smaller, and as
    wide as each layer says it is."""
    own = model.state_dict()
    if own.keys() != tensors.keys():
        names = ", ".join(sorted(own.keys() ^ tensors.keys())[:4])
        raise ValueError(f"tensors {names} are on one side only")
    for name, tensor in tensors.items():
        old, new = own[name].shape, tensor.shape
        if len(old) != len(new) or any(more > most for more, most in zip(new, old)):
            raise ValueError(f"{name} has shape {tuple(new)}, which is no part of {tuple(old)}")
        parent, _, child = name.rpartition(".")
        module = model.get_submodule(parent)
        if child in module._parameters:
            tensor = nn.Parameter(tensor, requires_grad=module._parameters[child].requires_grad)
        setattr(module, child, tensor)
    for name, layer in model.named_modules():
        expected = ()
        if isinstance(layer, nn.Linear):
            expected = (layer.out_features, layer.in_features)
        elif isinstance(layer, nn.Conv2d):
            expected = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.affine:
            expected = (layer.num_features,)
        if expected and (shape := tuple(layer.weight.shape)) != expected:
            raise ValueError(f"layer {name} should have weights of shape {expected}, not {shape}")
