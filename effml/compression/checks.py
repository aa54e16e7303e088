"""What every compressor asks of a model and its inputs, checked before anything is done."""

from typing import Any

import numpy
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.prune import BasePruningMethod

from effml.data import normalize


def check_model(name: str, model: Any) -> None:
    """Raises ValueError unless `model` is made of plain, dense, finite, floating-point tensors,
    each parameter in one place."""
    kind, changed = type(model).__name__, isinstance(model, torch.jit.ScriptModule)
    if not isinstance(model, nn.Module) or changed or kind == "OptimizedModule":
        advice = "Give an nn.Module as it was before torch.compile or torch.jit."
        raise ValueError(f"{name}: {kind} is no plain model. {advice}")
    if not any(True for _ in model.parameters()):
        raise ValueError(f"{name}: {kind} has no parameters, so there is nothing to make smaller.")
    first: dict[int, str] = {}
    problems = [_of_layer(*named) for named in model.named_modules()]
    for tensor_name, tensor in model.named_parameters(remove_duplicate=False):
        problems.append(_of_tensor(tensor_name, tensor, True))
        if (owner := first.setdefault(id(tensor), tensor_name)) != tensor_name:
            problems.append(
                f"{owner} and {tensor_name} are one tensor. Give each layer its own: "
                "layer.weight = torch.nn.Parameter(layer.weight.detach().clone())."
            )
    problems += [_of_tensor(*named, False) for named in model.named_buffers()]
    if problem := next(filter(None, problems), None):
        raise ValueError(f"{name}: {problem}")


def _of_layer(name: str, layer: nn.Module) -> str:
    hooks = layer._forward_pre_hooks.values()
    masked = any(isinstance(hook, BasePruningMethod) for hook in hooks)
    normed = any(type(hook).__name__ in ("WeightNorm", "SpectralNorm") for hook in hooks)
    if hasattr(layer, "parametrizations") or masked or normed:
        return (
            f"the weights of layer {name} are computed at each call (a parametrization, weight or "
            "spectral norm, a mask), and a change of them would be lost. Make them plain first: "
            "torch.nn.utils.parametrize.remove_parametrizations, remove_weight_norm, "
            "remove_spectral_norm or prune.remove."
        )
    quantised = any(part in type(layer).__module__ for part in (".quantized", ".qat"))
    advice = "Compress the floating-point model, then quantise."
    return f"layer {name} is quantised. {advice}" if quantised else ""


def _of_tensor(name: str, tensor: torch.Tensor, learned: bool) -> str:
    if is_lazy(tensor) or tensor.is_meta:
        return f"{name} has no values yet. Load the weights, and call a lazy model once."
    odd = tensor.is_complex() or tensor.is_quantized or learned and not tensor.is_floating_point()
    if odd or tensor.layout != torch.strided:
        dense = "and parameters must be dense floating-point numbers."
        return f"{name} is {tensor.dtype} ({tensor.layout}), {dense}"
    if not tensor.is_floating_point() or (finite := tensor.isfinite()).all():
        return ""
    if not learned and (finite | tensor.isneginf()).all():  # an attention mask
        return ""
    advice = "are not finite (a run that diverged?). Give a model whose training went well."
    return f"{int((~finite).sum())} of the {tensor.numel()} numbers of {name} {advice}"


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
            f"{name}: the model does not take this example ({given}); it says: {error}"
        ) from error
    kind = getattr(outputs, "dtype", f"a {type(outputs).__name__}")
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise ValueError(f"{name}: the model gives {kind}, not one tensor. Wrap it: give logits.")
    if not outputs.isfinite().all():
        raise ValueError(f"{name}: the model's answer to the example is not all finite numbers.")
    return example, data


def check_outputs(name: str, original: nn.Module, small: nn.Module, example: torch.Tensor) -> None:
    """Raises ValueError unless the compressed model runs and answers in the shape of the
    original."""
    advice = "Choose magnitude, which changes no widths."
    with torch.no_grad():
        wanted = original(example).shape
        try:
            given = small(example).shape
        except Exception as error:  # of many kinds: the model's own
            kind = type(original).__name__
            raise ValueError(
                f"{name}: without what was removed {kind} does not run ({error}). {advice}"
            ) from error
    if given != wanted:
        told = f"answers {tuple(given)} instead of {tuple(wanted)}"
        raise ValueError(f"{name}: the compressed model {told}. {advice}")


def _prepared(name: str, what: str, batch: Any, weight: torch.Tensor) -> torch.Tensor:
    if isinstance(batch, numpy.ndarray) and batch.dtype.kind in "biuf":
        batch = torch.from_numpy(batch)
    if not isinstance(batch, torch.Tensor) or batch.ndim < 2 or len(batch) == 0:
        got = f"shape {tuple(batch.shape)}" if hasattr(batch, "shape") else type(batch).__name__
        raise ValueError(
            f"{name}: {what} must be a batch as the model takes it, images (N, C, H, W), vectors "
            f"(N, D), sequences (N, T, D) or token ids (N, T); got {got}. Give "
            "images[:1], say: a tensor or an array, of uint8 or −1 to 1."
        )
    if batch.dtype == torch.uint8:
        batch = normalize(batch)
    if not batch.is_floating_point():
        return batch.to(weight.device)
    if not batch.isfinite().all():
        raise ValueError(f"{name}: {what} holds numbers that are not finite.")
    return batch.to(weight)
