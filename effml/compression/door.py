"""What every compressor asks of a model and its inputs, checked once, before anything is done. A
refusal says what to do."""

from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

INPUTS = (
    "a batch of images as the model takes them, (N, C, H, W), or of vectors (N, D), sequences "
    "(N, T, D) or token ids (N, T)"
)


def check_model(name: str, model: Any) -> None:
    """Raises ValueError unless `model` is made of plain, dense, finite, floating-point tensors,
    each parameter in one place."""
    if not isinstance(model, torch.nn.Module):
        raise ValueError(
            f"{name}: the first argument is a {type(model).__name__}, not a model. Give effml.build_model(…)."
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(
            f"{name}: the model is compiled by torch.jit. Give the model it was made from."
        )
    if type(model).__name__ == "OptimizedModule":
        raise ValueError(
            f"{name}: the model is compiled by torch.compile. Give the model it was made from, model._orig_mod."
        )
    for layer_name, layer in model.named_modules():
        _check_layer(name, layer_name or "the model itself", layer)
    parameters = dict(model.named_parameters())
    for tensor_name, tensor in (*parameters.items(), *model.named_buffers()):
        _check_tensor(name, tensor_name, tensor, tensor_name in parameters)
    if not parameters:
        raise ValueError(
            f"{name}: {type(model).__name__} has no parameters, so there is nothing to make smaller."
        )
    first: dict[int, str] = {}
    for tensor_name, tensor in model.named_parameters(remove_duplicate=False):
        owner = first.setdefault(id(tensor), tensor_name)
        if owner != tensor_name:
            raise ValueError(
                f"{name}: {owner} and {tensor_name} are one tensor, and a compressed model is kept with a tensor "
                "for each. Give each layer weights of its own: "
                "layer.weight = torch.nn.Parameter(layer.weight.detach().clone())."
            )


def _check_layer(name: str, layer_name: str, layer: nn.Module) -> None:
    """Its weights are its own tensors: nothing computes or packs them."""
    hooks = [type(hook).__name__ for hook in layer._forward_pre_hooks.values()]
    if hasattr(layer, "parametrizations"):
        tensor = next(iter(layer.parametrizations))
        raise ValueError(
            f"{name}: the {tensor} of layer {layer_name} is computed by a parametrization (weight or spectral "
            "norm, say), and a change of it would be lost. Call torch.nn.utils.parametrize.remove_parametrizations"
            f"(layer, {tensor!r}) first."
        )
    for kind, remove in (
        ("WeightNorm", "remove_weight_norm"),
        ("SpectralNorm", "remove_spectral_norm"),
    ):
        if kind in hooks:
            raise ValueError(
                f"{name}: a hook ({kind}) computes the weights of layer {layer_name} anew at each call, and a "
                f"change of them would be lost. Call torch.nn.utils.{remove}(layer) first."
            )
    if any(isinstance(hook, prune.BasePruningMethod) for hook in layer._forward_pre_hooks.values()):
        raise ValueError(
            f"{name}: a mask of torch.nn.utils.prune computes the weights of layer {layer_name} anew at each "
            "call. Call torch.nn.utils.prune.remove(layer, 'weight') first."
        )
    if ".quantized" in type(layer).__module__ or ".qat" in type(layer).__module__:
        raise ValueError(
            f"{name}: layer {layer_name} is quantised ({type(layer).__name__}). Compress the "
            "floating-point model, then quantise."
        )


def _check_tensor(name: str, tensor_name: str, tensor: torch.Tensor, learned: bool) -> None:
    if torch.nn.parameter.is_lazy(tensor):
        raise ValueError(
            f"{name}: {tensor_name} has no shape yet (a lazy layer). Call the model once, model(example), "
            "before it is compressed."
        )
    if tensor.is_meta:
        raise ValueError(
            f"{name}: {tensor_name} has no values (device meta). Load the weights first."
        )
    if tensor.layout != torch.strided:
        raise ValueError(
            f"{name}: {tensor_name} is stored sparse ({tensor.layout}). Make it dense first: tensor.to_dense()."
        )
    if tensor.is_complex() or tensor.is_quantized or learned and not tensor.is_floating_point():
        raise ValueError(
            f"{name}: {tensor_name} is {tensor.dtype}, and parameters must be floating-point numbers. Compress the "
            "floating-point model."
        )
    if tensor.is_floating_point() and not tensor.isfinite().all():
        wrong = int((~tensor.isfinite()).sum())
        if learned or not _marks(tensor):
            raise ValueError(
                f"{name}: {wrong} of the {tensor.numel()} numbers of {tensor_name} are not finite (a run that "
                "diverged?). Give a model whose training went well."
            )


def _marks(tensor: torch.Tensor) -> bool:
    """Whether the infinities are those of an attention mask: minus infinity, nothing else that is
    not finite."""
    return bool((tensor.isfinite() | tensor.isneginf()).all())


def check_inputs(name: str, model: nn.Module, example: Any, data: Any) -> tuple[Any, Any]:
    """`example` and `data` on the device of the model (in eval mode): images of uint8 normalised,
    numbers in the model's type, token ids as they are. Raises ValueError for what is no batch, is
    not finite, or is not taken by the model, and for a model that gives anything but one finite
    tensor."""
    weight = next(model.parameters())
    example, data = (
        None if what == "data" and batch is None else _prepared(name, what, batch, weight)
        for what, batch in (("example", example), ("data", data))
    )
    try:
        with torch.no_grad():
            outputs = model(example)
    except Exception as error:  # of many kinds: the model's own
        given = f"{tuple(example.shape)}, {str(example.dtype).removeprefix('torch.')}"
        raise ValueError(
            f"{name}: the model does not take this example ({given}); it says: {error} Give one that "
            "model(example) takes."
        ) from error
    if not isinstance(outputs, torch.Tensor):
        raise ValueError(
            f"{name}: the model gives a {type(outputs).__name__}, not one tensor. Wrap it so that it gives "
            "logits: a module whose forward returns that part of the answer."
        )
    if not outputs.is_floating_point() or not outputs.isfinite().all():
        raise ValueError(
            f"{name}: the model's answer to the example is {outputs.dtype} and not all finite numbers. Give a "
            "model that gives logits, and an example it was made for."
        )
    return example, data


def check_outputs(name: str, original: nn.Module, small: nn.Module, example: torch.Tensor) -> None:
    """Raises ValueError unless the compressed model runs and answers in the shape of the original."""
    with torch.no_grad():
        wanted = original(example).shape
        try:
            given = small(example).shape
        except Exception as error:  # of many kinds: the model's own
            raise ValueError(
                f"{name}: without what was removed {type(original).__name__} does not run ({error}): its forward "
                "takes a layer's weights or widths for granted. Choose magnitude, which changes neither."
            ) from error
    if given != wanted:
        raise ValueError(
            f"{name}: the compressed model answers {tuple(given)} instead of {tuple(wanted)}. Choose magnitude, "
            "which changes no widths."
        )


def _prepared(name: str, what: str, batch: Any, weight: torch.Tensor) -> torch.Tensor:
    from effml.data import normalize

    if not isinstance(batch, torch.Tensor) or batch.ndim < 2 or len(batch) == 0:
        got = (
            f"shape {tuple(batch.shape)}"
            if isinstance(batch, torch.Tensor)
            else type(batch).__name__
        )
        raise ValueError(
            f"{name}: {what} must be {INPUTS}; got {got}. Give normalize(dataset.train.images[:1]), say."
        )
    if batch.dtype == torch.uint8:
        batch = normalize(batch)
    if not batch.is_floating_point():
        return batch.to(weight.device)
    if not batch.isfinite().all():
        raise ValueError(
            f"{name}: {what} holds numbers that are not finite. Leave such images out."
        )
    return batch.to(weight)
