"""Which channels must go together, and how they go: groups of Torch-Pruning, cut out of a copy of
the model all at once. Where its trace does not follow a model, a cut breaks it or wires it wrongly:
such groups keep their width, and the others are cut (`fitted`)."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from effml.compression import tracing
from effml.compression.compressor import Layers, attention_scale
from effml.compression.silencing import Differs, Likeness

Loss = tuple[Callable[..., Any], int, list[int]]
"""The function of Torch-Pruning that cuts it, the dimension (of a parameter), and the indices that
go."""
Group = dict[tuple[str, str], Loss]
"""What a group loses: by (name of a module or parameter, "out" or "in")."""
STOPS = "without their channels the model does not run"
DIFFERS = "cut, they are not what the model is with their channels silenced"


Plan = tuple[list[Group], dict[str, int], list[str]]
"""The groups to cut; of every group that may be cut the number of its channels, by first layer; and
the kinds of modules through which channels could not be followed."""
Importance = Callable[[Any], torch.Tensor]


def plan(model: nn.Module, keep: float, example: torch.Tensor, importance: Importance) -> Plan:
    """The groups to cut so that each keeps the fraction `keep` of its channels, those of least
    importance gone; what makes the model's outputs keeps its width. Where groups run in circles,
    the trace is done anew with the modules of that kind as walls."""
    walls: set[type] = set()
    while True:
        try:
            with tracing.walled(model, walls) as wall:
                return _groups(model, keep, example, importance, wall)
        except tracing.Runaway as error:
            if (kind := tracing.kind_around(model, error.name, walls)) is None:
                raise
            walls.add(kind)


def _groups(
    model: nn.Module,
    keep: float,
    example: torch.Tensor,
    importance: Importance,
    wall: dict[type, tracing.WallPruner],
) -> Plan:
    import torch_pruning

    names = {module: name for name, module in model.named_modules()}
    blurs = {type(m): BlurPruner() for m in names if type(m).__name__ == "BlurPool2d"}
    widths: dict[str, int] = {}

    def counted(group: Any) -> bool:
        outs = (dep.target.module for dep, _ in group if out(dep) and dep.target.module in names)
        if (root := next(outs, None)) is not None and (n := pruner.DG.get_out_channels(root)) > 1:
            widths[names[root]] = n
        return can_be_cut(group)

    def scored(group: Any) -> torch.Tensor | None:
        parts = pruner._get_channel_groups(group)
        if any(type(dep.target.module) in wall for dep, _ in group):
            return None
        try:
            values = importance(group)
        except (IndexError, RuntimeError):  # traced wrongly: the group keeps its width
            return None
        if values is None or len(values) % parts:
            return None
        values, unit = tracing.inseparable(group, values, parts)
        one = unit / max(len(values) // parts, unit)  # a group that would keep none stays whole
        pruner.per_step_pruning_ratio[pruner.current_step] = 1 - max(keep, one * (1 + 1e-6))
        return values

    def out(dep: Any) -> bool:
        return pruner.DG.is_out_channel_pruning_fn(dep.handler)

    with torch.enable_grad(), tracing.exact():
        pruner = torch_pruning.BasePruner(
            model,
            example,
            importance=scored,
            pruning_ratio=1 - keep,
            forward_fn=lambda net, batch: net(batch),
            in_channel_groups={},
            out_channel_groups={},
            num_heads={layer: module.num_heads for module, layer in attentions(model)},
            customized_pruners=blurs | wall,
        )
        pruner.ignored_layers = tracing.makers(pruner.DG)
        can_be_cut, pruner._check_pruning_ratio = pruner._check_pruning_ratio, counted
        found = [_losses(pruner.DG, names, group) for group in pruner.step(interactive=True)]
    return found, widths, [type(m).__name__ for m in names if hasattr(m, "wall")]


def _losses(graph: Any, names: dict[nn.Module, str], group: Any) -> Group:
    """What a group of Torch-Pruning loses, by the names of modules and parameters."""
    import torch_pruning

    losses: Group = {}
    for dep, indices in group:
        target, handler = dep.target.module, dep.handler
        is_parameter = isinstance(target, nn.Parameter)
        name = graph._param_to_name.get(target) if is_parameter else names.get(target)
        if name and not isinstance(handler.__self__, torch_pruning.ops.DummyPruner):
            way = "out" if graph.is_out_channel_pruning_fn(handler) else "in"
            old = losses.get((name, way), (handler, 0, []))[2]
            losses[name, way] = handler, dep.target.pruning_dim, sorted({*old, *indices})
    return losses


def output_layers(model: nn.Module, example: torch.Tensor) -> list[str]:
    """The layers whose channels are the model's outputs, and what lies behind them, by name."""
    import torch_pruning

    traced = deepcopy(model).requires_grad_(True)
    with torch.enable_grad(), tracing.exact():
        graph = torch_pruning.DependencyGraph().build_dependency(
            traced, example, forward_fn=lambda net, batch: net(batch)
        )
    found = tracing.makers(graph)
    return [name for name, layer in traced.named_modules() if any(layer is one for one in found)]


def attentions(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Attention modules and their linear layer of queries, keys and values of all heads."""
    for module in model.modules():
        if isinstance(getattr(module, "qkv", None), nn.Linear) and hasattr(module, "num_heads"):
            yield module, module.qkv


class BlurPruner(tracing.WallPruner):
    """Torch-Pruning's entry for timm's blur pooling, the same fixed filter for each channel."""

    def prune_out_channels(self, layer: nn.Module, idxs: list[int]) -> nn.Module:
        if layer.channels is not None:
            layer.channels -= len(idxs)
            layer.filt = layer.filt[: layer.channels]
        return layer

    prune_in_channels = prune_out_channels


def carve(model: nn.Module, groups: list[Group]) -> nn.Module:
    """A copy of the model without what the groups lose."""
    small = deepcopy(model)
    for (name, way), (handler, dim, gone) in together(groups).items():
        owner, _, child = name.rpartition(".")
        target = getattr(small.get_submodule(owner), child)
        _check(name, target, way, gone)
        handler.__self__.pruning_dim = dim
        result = handler(target, gone)
        if isinstance(target, nn.Parameter):
            setattr(small.get_submodule(owner), child, result)
    for (module, qkv), (parent, _) in zip(attentions(small), attentions(model)):
        if qkv.out_features != parent.qkv.out_features:
            attention_scale(module, parent)
    return small


def together(groups: list[Group]) -> Group:
    """What all groups lose (a layer behind a concatenation loses inputs by several)."""
    lost: Group = {}
    for key, (handler, dim, gone) in (item for group in groups for item in group.items()):
        lost[key] = handler, dim, sorted({*gone, *lost.get(key, (handler, dim, []))[2]})
    return lost


def _check(name: str, layer: Any, way: str, gone: list[int]) -> None:
    """Torch-Pruning takes for granted that a grouped layer loses the same inputs of each of its
    groups, and as many outputs. What it does to the outputs of an LSTM is wrong (1.6.1)."""
    if type(layer).__name__ == "LSTM" and way == "out":
        raise tracing.Fault(name, f"the outputs of {name}, an LSTM, cannot be cut")
    parts = getattr(layer, "groups", getattr(layer, "num_groups", 1))
    if parts == 1:
        return
    side = "num_channels" if hasattr(layer, "num_channels") else f"{way}_channels"
    if (width := getattr(layer, side)) == parts:  # depthwise
        return
    each = width // parts
    places = [[index % each for index in gone if index // each == part] for part in range(parts)]
    if any(way == "in" and place != places[0] or len(place) != len(places[0]) for place in places):
        raise tracing.Fault(name, f"the {parts} groups of {name} would lose different channels")


def kept(model: nn.Module, groups: list[Group]) -> Layers:
    """By module, the indices of its channels that are kept, "in" and "out"."""
    layers: Layers = {}
    modules = dict(model.named_modules())
    for (name, way), (handler, _, gone) in together(groups).items():
        if name in modules:
            width = getattr(handler.__self__, f"get_{way}_channels")(modules[name])
            left = sorted({*range(width)} - {*gone})
            layers.setdefault(name, {"kind": "cut"})[way] = left
    return layers


def fitted(
    model: nn.Module, groups: list[Group], likeness: Likeness
) -> tuple[nn.Module, list[Group], dict[str, list[Group]]]:
    """The model without what the groups lose, the groups that were cut, and by reason those that
    keep their width: without their channels the model does not run, or is not the model with those
    channels silenced. Large groups come first, halves of them at a time. Raises the first error if
    nothing is left to cut."""
    cut: list[Group] = []
    faults: dict[int, Exception] = {}

    def add(some: list[Group]) -> None:
        try:
            small = carve(likeness.model, [*cut, *some])
            likeness.check(small, kept(likeness.model, [*cut, *some]))
            cut.extend(some)
        except Exception as error:  # of many kinds: shapes, asserts, indices
            if len(some) == 1:
                faults[id(some[0])] = error.with_traceback(None)  # it would keep the model alive
            else:
                add(some[: len(some) // 2])
                add(some[len(some) // 2 :])

    if groups:
        add(sorted(groups, key=len, reverse=True))
    if faults and not cut:
        raise next(iter(faults.values()))
    whole: dict[str, list[Group]] = {}
    for group in groups:
        if error := faults.get(id(group)):
            reason = DIFFERS if isinstance(error, Differs) else STOPS
            whole.setdefault(reason, []).append(group)
    cut = [group for group in groups if id(group) not in faults]
    return carve(model, cut), cut, whole
