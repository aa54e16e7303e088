"""A compressed model on disk, without pickle: a JSON recipe of its structure beside its weights as safetensors.

`model.json` holds the base model's name and build arguments and, step by step, what was done to each layer: indices kept and
sizes (`cut`), scheme and rank (`svd`), or how many weights are not zero (`sparse`). It is made to be read and compared.
`model.safetensors` holds the tensors, and the SHA-256 of the recipe they belong to.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from effml.compression.dependencies import attentions
from effml.compression.factorization import SCHEMES, factorable, two_layers
from effml.compression.surface import SIZES, Report, attention_scale, is_channels_last
from effml.machine import whole_file
from effml.models import build_model

FORMAT = "effml-compressed-1"
BUILD = {
    "in_channels": 1,
    "classes": 2,
    "size": 28,
}  # the arguments of build_model that shape a model


def save_compressed(
    path: str | os.PathLike,
    model: nn.Module,
    reports: Report | Sequence[Report | dict[str, Any]],
    *,
    base: str,
    **build: int,
) -> Path:
    """Write `path`.json and `path`.safetensors of a model that was made by `build_model(base, **build)` and then compressed as
    the reports say, in their order (and perhaps fine-tuned); steps of an earlier recipe may stand for their reports. Returns the
    path of the recipe. Raises ValueError, and writes nothing, if base and reports do not lead to this model."""
    from safetensors.torch import save

    steps = [
        report
        if isinstance(report, dict)
        else {
            "method": report.method,
            "keep": report.keep,
            "keep_unit": report.keep_unit,
            "seed": report.seed,
            "layers": report.layers,
        }
        for report in ([reports] if isinstance(reports, Report) else reports)
    ]
    recipe = {
        "format": FORMAT,
        "base": base,
        "build": BUILD | build,
        "steps": steps,
        **({"memory_format": "channels_last"} if is_channels_last(model) else {}),
    }
    recipe = json.loads(json.dumps(recipe))
    tensors = {
        name: tensor.detach().cpu().clone().contiguous()
        for name, tensor in model.state_dict().items()
    }
    _rebuild(recipe, tensors, "What is to be saved")
    weights, page = (_stem(path).with_suffix(end) for end in (".safetensors", ".json"))
    with whole_file(weights) as partial:
        partial.write_bytes(save(tensors, {"recipe_sha256": _digest(recipe)}))
    with whole_file(page) as partial:
        partial.write_text(_text(recipe))
    return page


def load_compressed(path: str | os.PathLike) -> nn.Module:
    """The model of `load_with_recipe`, without its recipe."""
    return load_with_recipe(path)[0]


def load_with_recipe(path: str | os.PathLike) -> tuple[nn.Module, dict[str, Any]]:
    """The model that `save_compressed` wrote, in eval mode, with the same outputs to the bit (and the same memory format, which
    decides in what order is summed). Nothing in the files is executed.

    Raises FileNotFoundError for a missing file, ValueError for a recipe or weights that are something else (a pickle, say),
    that were changed, or that do not fit each other."""
    from safetensors import safe_open

    path = _stem(path)
    for suffix in (".json", ".safetensors"):
        if not path.with_suffix(suffix).is_file():
            raise FileNotFoundError(
                f"There is no {path.with_suffix(suffix)}. A compressed model is two files beside each "
                "other, .json and .safetensors: copy both."
            )
    file, weights = path.with_suffix(".json"), path.with_suffix(".safetensors")
    try:
        recipe = json.loads(file.read_bytes().decode("utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{file} is no JSON recipe ({error}). If it is a pickle or something else: it was not opened. Save "
            "the model anew with save_compressed."
        ) from error
    if not isinstance(recipe, dict) or recipe.get("format") != FORMAT:
        raise ValueError(
            f"{file} is no recipe of a compressed model: its format is not {FORMAT!r}. Save the model with "
            "save_compressed."
        )
    try:
        with safe_open(weights, "pt") as opened:
            signed = (opened.metadata() or {}).get("recipe_sha256")
            tensors = {
                name: opened.get_tensor(name).clone() for name in opened.keys()
            }  # a clone is aligned in memory
    except Exception as error:  # safetensors' own error is no public class
        raise ValueError(
            f"{weights} is no safetensors file ({error}). If it is a pickle: it was not opened. Save the model "
            "anew with save_compressed."
        ) from error
    if signed != _digest(recipe):
        raise ValueError(
            f"{file} is not the recipe with which {weights.name} was saved: one of them was changed or exchanged. "
            "Copy both files from where they come from again."
        )
    return _rebuild(recipe, tensors, str(file)), recipe


def _stem(path: str | os.PathLike) -> Path:
    path = Path(path)
    return path.with_suffix("") if path.suffix in (".json", ".safetensors") else path


def _text(recipe: dict[str, Any]) -> str:
    """The recipe as JSON with a line per layer, so that differences show."""

    def block(pairs: dict[str, str], indent: int) -> str:
        return (
            "{\n"
            + ",\n".join(
                f"{' ' * indent}{json.dumps(key)}: {value}" for key, value in pairs.items()
            )
            + "}"
        )

    steps = [
        block(
            {key: json.dumps(value) for key, value in step.items()}
            | {
                "layers": block(
                    {name: json.dumps(done) for name, done in step["layers"].items()}, 4
                )
            },
            2,
        )
        for step in recipe["steps"]
    ]
    return (
        block(
            {key: json.dumps(value) for key, value in recipe.items()}
            | {"steps": "[" + ", ".join(steps) + "]"},
            0,
        )
        + "\n"
    )


def _digest(recipe: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def _rebuild(recipe: dict[str, Any], tensors: dict[str, torch.Tensor], what: str) -> nn.Module:
    """The base with the structure of the recipe and these tensors; ValueError where that is not possible."""
    try:
        if set(recipe["build"]) != set(BUILD) or not all(
            _whole(value) for value in recipe["build"].values()
        ):
            raise ValueError(f"build must be whole numbers for {', '.join(BUILD)}")
        model = build_model(recipe["base"], **recipe["build"])
        for step in recipe["steps"]:
            for name, done in step["layers"].items():
                _KINDS[done["kind"]](model, name, done)
        _fill(model, tensors)
        _verify(model, recipe["steps"])
        if recipe.get("memory_format") == "channels_last":
            model.to(memory_format=torch.channels_last)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        reason = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{what} does not fit together: {reason}. The base name and build arguments must be those the model "
            "was made with, and the reports all of its compressions, in order."
        ) from error
    return model.eval()


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _cut(model: nn.Module, name: str, done: dict[str, Any]) -> None:
    """Sizes of a module; its tensors come with the weights."""
    module = model.get_submodule(name)
    for key, value in done.get("set", {}).items():
        old = vars(module).get(key)
        values = value if isinstance(value, list) else [value]
        if (
            key not in SIZES
            or old is None
            or isinstance(old, tuple) != isinstance(value, list)
            or not all(map(_whole, values))
        ):
            raise ValueError(f"layer {name} has no {key} that could be {value!r}")
        if not all(
            new <= was
            for new, was in zip(values, old if isinstance(old, tuple) else [old], strict=True)
        ):
            raise ValueError(f"layer {name} would grow from {key}={old} to {value}")
        setattr(module, key, tuple(value) if isinstance(value, list) else value)
        if (
            key == "channels" and "filt" in module._buffers
        ):  # timm's blur pooling: the same filter for each
            module.filt = module.filt[:value]
    for owner, qkv in attentions(model.get_submodule(name.rpartition(".")[0])):
        if qkv is module:
            attention_scale(owner)


def _svd(model: nn.Module, name: str, done: dict[str, Any]) -> None:
    layer = model.get_submodule(name)
    if (
        not factorable(layer)
        or done["scheme"] not in SCHEMES
        or not _whole(done["rank"])
        or done["rank"] > layer.weight.numel()
    ):
        raise ValueError(f"layer {name} cannot have rank {done['rank']!r} by {done['scheme']!r}")
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, two_layers(layer, done["rank"], done["scheme"]))


def _sparse(model: nn.Module, name: str, done: dict[str, Any]) -> None:
    model.get_submodule(name)


_KINDS = {"cut": _cut, "svd": _svd, "sparse": _sparse}


def _fill(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """These tensors as parameters and buffers: the same names, of the same shape or smaller."""
    own = model.state_dict()
    if own.keys() != tensors.keys():
        raise ValueError(
            f"tensors {', '.join(sorted(own.keys() ^ tensors.keys())[:4])} are on one side only"
        )
    for name, tensor in tensors.items():
        old = own[name]
        if old.ndim != tensor.ndim or any(new > was for new, was in zip(tensor.shape, old.shape)):
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}, which is no part of {tuple(old.shape)}"
            )
        parent, _, child = name.rpartition(".")
        module = model.get_submodule(parent)
        if child in module._parameters:
            setattr(module, child, nn.Parameter(tensor, requires_grad=tensor.is_floating_point()))
        else:
            setattr(module, child, tensor)


def _verify(model: nn.Module, steps: list[dict[str, Any]]) -> None:
    """Each layer's tensors have the sizes the layer says, and the indices kept are as many."""
    for name, layer in model.named_modules():
        expected: tuple[int, ...] | None = None
        if isinstance(layer, nn.Linear):
            expected = (layer.out_features, layer.in_features)
        elif isinstance(layer, nn.Conv2d):
            expected = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.affine:
            expected = (layer.num_features,)
        if expected and tuple(layer.weight.shape) != expected:
            raise ValueError(
                f"layer {name} should have weights of shape {expected}, not {tuple(layer.weight.shape)}"
            )
    last = steps[-1]["layers"] if steps else {}
    for name, done in last.items():
        layer = model.get_submodule(name)
        if (
            "out" in done
            and isinstance(layer, (nn.Linear, nn.Conv2d))
            and len(done["out"]) != len(layer.weight)
        ):
            raise ValueError(
                f"layer {name} keeps {len(done['out'])} outputs, but its weights have {len(layer.weight)}"
            )
