"""Channel pruning along the dependencies between layers, by Torch-Pruning (Fang et al. 2023)."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from effml.compression.compressor import Job, Outcome, compressor
from effml.compression.dependencies import fitted, kept, plan
from effml.compression.silencing import Likeness
from effml.compression.tracing import Fault
from effml.models import visiting


@compressor()
def channels(model: nn.Module, keep: float, job: Job) -> Outcome:
    """Channels with small weights (Euclidean norm over all layers that share the channel) are cut;
    each group of layers keeps the fraction `keep` of its channels, the head keeps all classes. With
    `data`, batch-norm statistics are then re-estimated on them, without labels."""
    import torch_pruning

    return _cut(model, keep, job, torch_pruning.importance.GroupMagnitudeImportance(p=2))


@compressor()
def channels_bn(model: nn.Module, keep: float, job: Job) -> Outcome:
    """`channels` where the scale of batch normalisation says how important a channel is (Liu et al.
    2017). Groups of layers without any keep all their channels."""
    import torch_pruning

    if not any(isinstance(layer, _BatchNorm) and layer.affine for layer in model.modules()):
        kind = type(model).__name__
        raise ValueError(f"{kind} has no batch normalisation to go by. Choose channels.")
    return _cut(model, keep, job, torch_pruning.importance.BNScaleImportance())


@compressor()
def channels_taylor(model: nn.Module, keep: float, job: Job) -> Outcome:
    """`channels` where the loss says how important a channel is: the first-order change |w·dL/dw|
    if a weight went to 0, summed over the weights of each layer that go with the channel and
    averaged over the layers (Molchanov et al. 2019). The loss is the cross-entropy of `data` with
    labels drawn from the model's own softmax (see `_gradients`): one label an image."""
    import torch_pruning

    if job.data is None:
        raise ValueError(
            "channels_taylor looks at images and was given none: give data= (in a recipe "
            "calibration_images=512) or choose channels."
        )
    gradients = job.once("gradients", lambda: _gradients(model, job.data, job.seed))
    for parameter, gradient in zip(model.parameters(), gradients):
        parameter.grad = gradient
    return _cut(model, keep, job, torch_pruning.importance.GroupTaylorImportance(normalizer=None))


@compressor()
def channels_random(model: nn.Module, keep: float, job: Job) -> Outcome:
    """Baseline: random channels."""
    generator = torch.Generator().manual_seed(job.seed)

    def importance(group: Any) -> torch.Tensor:
        return torch.rand(len(group[0].idxs), generator=generator)

    return _cut(model, keep, job, importance)


def _cut(
    model: nn.Module, keep: float, job: Job, importance: Callable[[Any], torch.Tensor]
) -> Outcome:
    wanted = [p.requires_grad for p in model.parameters()]
    model.requires_grad_(True)  # the dependencies are found by tracing gradients
    try:
        with warnings.catch_warnings():  # position embeddings: its default is right
            warnings.filterwarnings("ignore", message="Unwrapped parameters")
            groups, widths, walls = plan(model, keep, job.example[:2], importance)
        likeness = job.once("likeness", lambda: Likeness(model, job.example))
        small, groups, whole = fitted(model, groups, likeness)
    except Exception as error:  # Torch-Pruning stumbles in many ways over models it cannot trace
        kind = "" if isinstance(error, (Fault, ValueError)) else f"{type(error).__name__}: "
        raise ValueError(
            f"Torch-Pruning cannot prune {type(model).__name__} ({kind}{error}). Choose svd, "
            "which changes no widths, or another model."
        ) from error
    for parameter, grad in zip(small.parameters(), wanted):
        parameter.requires_grad_(grad)
    layers, modules = kept(model, groups), dict(model.named_modules())
    outs = {name: len(done["out"]) for name, done in layers.items() if "out" in done}
    cut = [name for name in outs if isinstance(modules[name], (nn.Conv2d, nn.Linear))]
    total = sum(len(modules[name].weight) for name in cut)
    share = sum(outs[name] for name in cut) / total if total else 1.0
    if job.data is not None:
        reestimate(small, job.data)
    notes, count = [], len(groups) + sum(map(len, whole.values()))
    if not groups:
        notes.append("Nothing was cut: no group of layers has a channel to spare at this keep.")
    for reason, some in whole.items():
        names = [next(name for name, way in group if way == "out") for group in some]
        widths = {name: n for name, n in widths.items() if name not in names}
        told = f"{len(some)} of {count} groups of layers keep their width: {reason}"
        notes.append(f"{told} ({_listed(names)}).")
    left = {name: (outs.get(name, n), n) for name, n in widths.items()}
    told = [f"{name} {k} of {n}" for name, (k, n) in left.items() if _deviates(k, n, keep)]
    if groups and told:
        notes.append(f"Another share than asked for, by first layer of a group: {_listed(told)}.")
    if walls:
        kinds = ", ".join(dict.fromkeys(walls))
        notes.append(f"Nothing inside {kinds} is cut: channels cannot be followed through it.")
    return Outcome(small, share, layers, notes)


def _deviates(left: int, n: int, keep: float) -> bool:
    """Is it more than a channel, and a tenth of the channels, off?"""
    return left == n or abs(left - keep * n) >= 1 and abs(left - keep * n) > n / 10


def _listed(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def reestimate(model: nn.Module, data: torch.Tensor, batch: int = 64) -> None:
    """Batch-norm means and variances anew, as averages over the batches of `data` (M, C, H, W), in
    place and without labels: after a cut the old ones belong to channels that saw more."""
    norms = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    if not (norms := [layer for layer in norms if layer.track_running_stats]):
        return
    momenta = [layer.momentum for layer in norms]
    with visiting(model), torch.no_grad():
        for layer in norms:
            layer.reset_running_stats()
            layer.train().momentum = None  # cumulative average
        for part in data.split(batch):
            if len(part) > 1:
                model(part)
    for layer, momentum in zip(norms, momenta):
        layer.momentum = momentum


def _gradients(
    model: nn.Module, data: torch.Tensor, seed: int, batch: int = 16
) -> list[torch.Tensor]:
    """Per parameter, the root mean square over batches of `data` (M, C, H, W) of the gradient of
    the cross-entropy; without labels.

    Where a model is sure, the gradient of its own answers as labels vanishes. That of labels drawn
    from its softmax does not: its mean square is the diagonal of the Fisher information over
    `batch`. One output is taken for the logit of the second of two classes."""
    generator = torch.Generator().manual_seed(seed)
    parameters, parts = list(model.parameters()), data.split(batch)
    squares = [torch.zeros_like(p) for p in parameters]
    with visiting(model), torch.enable_grad():
        model.requires_grad_(True)
        for part in parts:
            logits = model(part).movedim(1, -1).flatten(0, -2)
            if logits.shape[1] == 1:
                logits = torch.cat([torch.zeros_like(logits), logits], 1)
            shares = logits.detach().softmax(1).cpu()
            drawn = torch.multinomial(shares, 1, generator=generator)[:, 0].to(logits.device)
            loss = functional.cross_entropy(logits, drawn)
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            for square, gradient in zip(squares, found):
                if gradient is not None:
                    square += gradient.detach() ** 2
    return [(square / len(parts)).sqrt() for square in squares]
