"""What every compressor asks of a model and its inputs, checked once, before anything is done. A
refusal says what to do."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

from effml.data import normalize

INPUTS = (
    "a batch of images as the model takes them, (N, C, H, W), or of vectors (N, D), sequences "
    "(N, T, D) or token ids (N, T)"
)
DIVERGED = "are not finite (a run that diverged?). Give a model whose training went well."


def check_model(name: str, model: Any) -> None:
    """Raises ValueError unless `model` is made of plain, dense, finite, floating-point tensors,
    each parameter in one place."""
    for problem in _of_model(model):
        raise ValueError(f"{name}: {problem}")


def _of_model(model: Any) -> Iterator[str]:
    """The problems of a model, each in the words of an error. Only the first is asked for."""
    kind = type(model).__name__
    if not isinstance(model, nn.Module):
        yield f"the first argument is a {kind}, not a model. Give effml.build_model(…)."
    if isinstance(model, torch.jit.ScriptModule):
        yield "the model is compiled by torch.jit. Give the model it was made from."
    if kind == "OptimizedModule":
        original = "the model it was made from, model._orig_mod"
        yield f"the model is compiled by torch.compile. Give {original}."
    for layer_name, layer in model.named_modules():
        yield from _of_layer(layer_name or "the model itself", layer)
    parameters = dict(model.named_parameters())
    for tensor_name, tensor in (*parameters.items(), *model.named_buffers()):
        yield from _of_tensor(tensor_name, tensor, tensor_name in parameters)
    if not parameters:
        yield f"{kind} has no parameters, so there is nothing to make smaller."
    first: dict[int, str] = {}
    for tensor_name, tensor in model.named_parameters(remove_duplicate=False):
        if (owner := first.setdefault(id(tensor), tensor_name)) != tensor_name:
            yield (
                f"{owner} and {tensor_name} are one tensor, and a compressed model is kept with a "
                "tensor for each. Give each layer weights of its own: "
                "layer.weight = torch.nn.Parameter(layer.weight.detach().clone())."
            )


def _of_layer(name: str, layer: nn.Module) -> Iterator[str]:
    """Its weights must be its own tensors: nothing computes or packs them."""
    if hasattr(layer, "parametrizations"):
        tensor = next(iter(layer.parametrizations))
        yield (
            f"the {tensor} of layer {name} is computed by a parametrization (weight or spectral "
            "norm, say), and a change of it would be lost. Call "
            f"torch.nn.utils.parametrize.remove_parametrizations(layer, {tensor!r}) first."
        )
    removers = {"WeightNorm": "remove_weight_norm", "SpectralNorm": "remove_spectral_norm"}
    for hook in layer._forward_pre_hooks.values():
        if remover := removers.get(kind := type(hook).__name__):
            yield (
                f"a hook ({kind}) computes the weights of layer {name} anew at each call, and a "
                f"change of them would be lost. Call torch.nn.utils.{remover}(layer) first."
            )
        if isinstance(hook, prune.BasePruningMethod):
            yield (
                f"a mask of torch.nn.utils.prune computes the weights of layer {name} anew at "
                "each call. Call torch.nn.utils.prune.remove(layer, 'weight') first."
            )
    if ".quantized" in type(layer).__module__ or ".qat" in type(layer).__module__:
        yield (
            f"layer {name} is quantised ({type(layer).__name__}). Compress the floating-point "
            "model, then quantise."
        )


def _of_tensor(name: str, tensor: torch.Tensor, learned: bool) -> Iterator[str]:
    if torch.nn.parameter.is_lazy(tensor):
        call = "Call the model once, model(example), before it is compressed."
        yield f"{name} has no shape yet (a lazy layer). {call}"
    if tensor.is_meta:
        yield f"{name} has no values (device meta). Load the weights first."
    if tensor.layout != torch.strided:
        yield f"{name} is stored sparse ({tensor.layout}). Make it dense first: tensor.to_dense()."
    if tensor.is_complex() or tensor.is_quantized or learned and not tensor.is_floating_point():
        yield (
            f"{name} is {tensor.dtype}, and parameters must be floating-point numbers. Compress "
            "the floating-point model."
        )
    finite = tensor.isfinite() if tensor.is_floating_point() else None
    if finite is not None and not finite.all():
        mask = not learned and (finite | tensor.isneginf()).all()  # an attention mask has -inf
        if not mask:
            yield f"{int((~finite).sum())} of the {tensor.numel()} numbers of {name} {DIVERGED}"


def check_inputs(name: str, model: nn.Module, example: Any, data: Any) -> tuple[Any, Any]:
    """`example` and `data` on the device of the model (in eval mode): images of uint8 normalised,
    numbers in the model's type, token ids as they are. Raises ValueError for what is no batch, is
    not finite, or is not taken by the model, and for a model that gives anything but one finite
    tensor."""
    weight = next(model.parameters())
    example = _prepared(name, "example", example, weight)
    data = None if data is None else _prepared(name, "data", data, weight)
    try:
        with torch.no_grad():
            outputs = model(example)
    except Exception as error:  # of many kinds: the model's own
        given = f"{tuple(example.shape)}, {str(example.dtype).removeprefix('torch.')}"
        raise ValueError(
            f"{name}: the model does not take this example ({given}); it says: {error} Give one "
            "that model(example) takes."
        ) from error
    if not isinstance(outputs, torch.Tensor):
        raise ValueError(
            f"{name}: the model gives a {type(outputs).__name__}, not one tensor. Wrap it so that "
            "it gives logits: a module whose forward returns that part of the answer."
        )
    if not outputs.is_floating_point() or not outputs.isfinite().all():
        raise ValueError(
            f"{name}: the model's answer to the example is {outputs.dtype} and not all finite "
            "numbers. Give a model that gives logits, and an example it was made for."
        )
    return example, data


def check_outputs(name: str, original: nn.Module, small: nn.Module, example: torch.Tensor) -> None:
    """Raises ValueError unless the compressed model runs and answers in the shape of the
    original."""
    with torch.no_grad():
        wanted = original(example).shape
        try:
            given = small(example).shape
        except Exception as error:  # of many kinds: the model's own
            raise ValueError(
                f"{name}: without what was removed {type(original).__name__} does not run "
                f"({error}): its forward takes a layer's weights or widths for granted. Choose "
                "magnitude, which changes neither."
            ) from error
    if given != wanted:
        raise ValueError(
            f"{name}: the compressed model answers {tuple(given)} instead of {tuple(wanted)}. "
            "Choose magnitude, which changes no widths."
        )


def _prepared(name: str, what: str, batch: Any, weight: torch.Tensor) -> torch.Tensor:
    if not isinstance(batch, torch.Tensor) or batch.ndim < 2 or len(batch) == 0:
        is_tensor = isinstance(batch, torch.Tensor)
        got = f"shape {tuple(batch.shape)}" if is_tensor else type(batch).__name__
        raise ValueError(
            f"{name}: {what} must be {INPUTS}; got {got}. Give "
            "normalize(dataset.train.images[:1]), say."
        )
    if batch.dtype == torch.uint8:
        batch = normalize(batch)
    if not batch.is_floating_point():
        return batch.to(weight.device)
    if not batch.isfinite().all():
        left_out = "Leave such images out."
        raise ValueError(f"{name}: {what} holds numbers that are not finite. {left_out}")
    return batch.to(weight)
