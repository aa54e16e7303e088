"""A compressed model on disk, without pickle: a JSON recipe of its structure beside its weights as
safetensors.

`model.json` holds, step by step, what was done to each layer: indices kept and sizes (`cut`),
scheme and rank (`svd`), or how many weights are not zero (`sparse`). It is made to be read and
compared. It begins with the name and build arguments of the base model; of an own model, whose
class the user gives, each step holds the shapes of all tensors before and after.
`model.safetensors` holds the tensors, and the SHA-256 of the recipe they belong to.
"""

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
from effml.models import build_model

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
        reports: The report of its compression, or of all of them, in their order; steps of an
            earlier recipe (`load_with_recipe`) may stand for reports.
        base: The name with which `build_model` made the model. None for a model of your own, whose
            class you give again to `load_compressed`.
        build: The in_channels, classes and size that `build_model` was given (default 1, 2, 28).

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
    weights, page = (_stem(path).with_suffix(end) for end in (".safetensors", ".json"))
    with whole_file(weights) as partial:
        partial.write_bytes(save(tensors, {"recipe_sha256": _digest(recipe)}))
    with whole_file(page) as partial:
        partial.write_text(json.dumps(recipe).replace('}, "', '},\n "') + "\n")  # a line per layer
    return page


def load_compressed(path: str | os.PathLike, model: nn.Module | None = None) -> nn.Module:
    """The model that `save_compressed` wrote, with the same outputs to the bit.

    The memory format, which decides in what order is summed, is the same too. Nothing in the files
    is executed.

    Args:
        path: The path given to `save_compressed`, with or without an ending.
        model: For a model of your own: a fresh instance of its class, made with the same arguments
            and not cut. It is left as it is; its weights play no part.

    Returns:
        The compressed model, in eval mode.

    Raises:
        FileNotFoundError: One of the two files is missing.
        ValueError: A file is something else (a pickle, say), was changed, or does not fit the
            other one or the `model`.

    Example:
        >>> from torch import nn, zeros
        >>> layers = nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 2)
        >>> mine = nn.Sequential(*layers)
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

    path = _stem(path)
    file, weights = path.with_suffix(".json"), path.with_suffix(".safetensors")
    for one in (file, weights):
        if not one.is_file():
            raise FileNotFoundError(
                f"There is no {one}. A compressed model is two files beside each other, .json and "
                ".safetensors: copy both."
            )
    anew = "If it is a pickle or something else: it was not opened. Save the model anew."
    try:
        recipe = json.loads(file.read_bytes().decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON recipe ({error}). {anew}") from error
    if not isinstance(recipe, dict) or recipe.get("format") != FORMAT:
        raise ValueError(
            f"{file} is no recipe of a compressed model: its format is not {FORMAT!r}. Save the "
            "model with save_compressed."
        )
    try:
        with safe_open(weights, "pt") as opened:
            signed = (opened.metadata() or {}).get("recipe_sha256")  # a clone is aligned in memory
            tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}
    except Exception as error:  # safetensors' own error is no public class
        raise ValueError(f"{weights} is no safetensors file ({error}). {anew}") from error
    if signed != _digest(recipe):
        raise ValueError(
            f"{file} is not the recipe with which {weights.name} was saved: one of them was "
            "changed or exchanged. Copy both files from where they come from again."
        )
    return _rebuilt(recipe, model, tensors, str(file)), recipe


def _stem(path: str | os.PathLike) -> Path:
    path = Path(path)
    return path.with_suffix("") if path.suffix in (".json", ".safetensors") else path


def _step(report: Report, base: str | None) -> Recipe:
    names = ("method", "keep", "keep_unit", "seed", "layers")
    step = {name: getattr(report, name) for name in names}
    return step if base else step | {"shapes": report.shapes}


def _digest(recipe: Recipe) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def _check_chain(recipe: Recipe, reached: dict[str, list[int]]) -> None:
    """Raises ValueError unless each step of an own model starts where the one before it ended, and
    the last ends at the shapes `reached`."""
    steps, hint = recipe["steps"], "Give the reports of all its compressions, in order."
    if not steps or recipe["build"] or not all("shapes" in step for step in steps):
        raise ValueError(
            "A model is saved without base= if it is one of your own, and then with at least one "
            "report and no build arguments. Give base=, the name for build_model, or the reports."
        )
    starts = [*(step["shapes"][0] for step in steps[1:]), reached]
    for step, start in zip(steps, starts):
        if told := _differences(start, step["shapes"][1]):
            lead = f"The report of {step['method']} does not lead to what comes after it"
            raise ValueError(f"What is to be saved does not fit together: {lead}: {told}. {hint}")


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
    hint = (
        "Give a fresh instance of the model that was compressed, as model=."
        if recipe.get("base", "") is None
        else "The base name and build arguments must be those the model was made with, and the "
        "reports all of its compressions, in order."
    )
    try:
        if (base := recipe["base"]) is None:
            model = _own(recipe, model)
        elif model is not None:
            raise ValueError(f"it is a {base} of build_model, so leave model= out")
        elif {*recipe["build"]} != {*BUILD} or not all(map(_whole, recipe["build"].values())):
            raise ValueError(f"build must be whole numbers for {', '.join(BUILD)}")
        else:
            model = build_model(base, **recipe["build"])
        for step in recipe["steps"]:
            for name, done in step["layers"].items():
                _KINDS[done["kind"]](model, name, done)
        _fill(model, tensors)
        if recipe.get("memory_format") == "channels_last":
            model.to(memory_format=torch.channels_last)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        reason = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{what} does not fit together: {reason}. {hint}") from error
    return model.eval()


def _own(recipe: Recipe, model: nn.Module | None) -> nn.Module:
    if model is None:
        raise ValueError("it holds the cuts of a model of your own, whose class is not in it")
    if told := _differences(shapes(model), recipe["steps"][0]["shapes"][0]):
        raise ValueError(f"the {type(model).__name__} given is not the one that was cut: {told}")
    return deepcopy(model)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _cut(model: nn.Module, name: str, done: dict[str, Any]) -> None:
    """The sizes that a layer has after the cut; its tensors come with the weights."""
    module = model.get_submodule(name)
    for key, value in done.get("set", {}).items():
        old, several = sizes(module).get(key), isinstance(value, list)
        new = value if several else [value]
        if old is None or several != isinstance(old, list) or not all(map(_whole, new)):
            raise ValueError(f"layer {name} has no {key} that could be {value!r}")
        if any(more > most for more, most in zip(new, old if several else [old], strict=True)):
            raise ValueError(f"layer {name} would grow: {key} from {old} to {value}")
        setattr(module, key, tuple(value) if several else value)
        if key == "channels" and "filt" in module._buffers:  # timm's blur pooling: equal filters
            module.filt = module.filt[:value]
    for owner, qkv in attentions(model.get_submodule(name.rpartition(".")[0])):
        if qkv is module:
            attention_scale(owner)


def _svd(model: nn.Module, name: str, done: dict[str, Any]) -> None:
    layer, rank, scheme = model.get_submodule(name), done["rank"], done["scheme"]
    fits = factorable(layer) and scheme in SCHEMES and _whole(rank)
    if not fits or rank > layer.weight.numel():
        raise ValueError(f"layer {name} cannot have rank {rank!r} by {scheme!r}")
    model.set_submodule(name, two_layers(layer, rank, scheme), strict=True)


def _sparse(model: nn.Module, name: str, done: dict[str, Any]) -> None:
    model.get_submodule(name)


_KINDS = {"cut": _cut, "svd": _svd, "sparse": _sparse}


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
            learned = module._parameters[child].requires_grad
            tensor = nn.Parameter(tensor, requires_grad=learned)
        setattr(module, child, tensor)
    for name, layer in model.named_modules():
        expected = None
        if isinstance(layer, nn.Linear):
            expected = (layer.out_features, layer.in_features)
        elif isinstance(layer, nn.Conv2d):
            expected = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.affine:
            expected = (layer.num_features,)
        if expected and (shape := tuple(layer.weight.shape)) != expected:
            raise ValueError(f"layer {name} should have weights of shape {expected}, not {shape}")
