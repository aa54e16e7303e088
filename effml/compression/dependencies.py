"""Which channels must go together, and how they go: groups of Torch-Pruning, cut out of a copy of
the model all at once.

Torch-Pruning finds the groups by tracing one forward pass. Where the trace does not follow a model
(a reshape by fixed numbers, a table as wide as a layer, a shuffle of channels), a cut breaks the
forward pass or, worse, wires the channels wrongly. Such groups then keep their width and the others
are cut: see `fitted`.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
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


@dataclass
class Plan:
    """The groups to cut, and of every group that may be cut by the name of its first layer: how
    many channels it has, and how many go together at least; and the kinds of modules through which
    channels could not be followed."""

    groups: list[Group]
    widths: dict[str, tuple[int, int]]
    walls: list[str]

    def deviations(self, keep: float, groups: list[Group]) -> dict[str, tuple[int, int]]:
        """Where these groups are cut: by first layer, how many channels are kept of how many, if
        that is not what was asked: the fraction `keep` to a whole number of channels, or of sets
        that go together, if that is no more than a tenth of the channels off."""
        lost, found = together(groups), {}
        for name, (n, unit) in self.widths.items():
            kept = n - len(lost[name, "out"][2]) if (name, "out") in lost else n
            off = abs(kept - keep * n)
            if kept == n or off >= unit + 1e-6 or unit > 1 and off > n / 10:
                found[name] = kept, n
        return found


Importance = Callable[[Any], torch.Tensor]


def plan(model: nn.Module, keep: float, example: torch.Tensor, importance: Importance) -> Plan:
    """The groups to cut so that each keeps the fraction `keep` of its channels, those of least
    importance gone; what makes the model's outputs keeps its width. The model is not changed: all
    indices are those of its own channels. Where groups run in circles, the trace is done anew with
    the modules of that kind as walls."""
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
    widths: dict[str, tuple[int, int]] = {}

    def counted(group: Any) -> bool:
        outs = (dep.target.module for dep, _ in group if out(dep) and dep.target.module in names)
        if (root := next(outs, None)) is not None and (n := pruner.DG.get_out_channels(root)) > 1:
            widths[names[root]] = n, pruner._get_channel_groups(group)
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
        for name in {names.get(dep.target.module) for dep, _ in group if out(dep)} & {*widths}:
            n, least = widths[name]
            widths[name] = n, max(least, unit)
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
    return Plan(found, widths, [type(m).__name__ for m in names if hasattr(m, "wall")])


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
    """The names of the layers whose channels are the model's outputs, and of what lies behind
    them."""
    import torch_pruning

    traced = deepcopy(model).requires_grad_(True)
    with torch.enable_grad(), tracing.exact():
        graph = torch_pruning.DependencyGraph().build_dependency(
            traced, example, forward_fn=lambda net, batch: net(batch)
        )
    found = tracing.makers(graph)
    return [name for name, layer in traced.named_modules() if any(layer is one for one in found)]


def attentions(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Attention modules and their linear layer `qkv`, whose outputs are queries, keys and values of
    all heads."""
    for module in model.modules():
        if isinstance(getattr(module, "qkv", None), nn.Linear) and hasattr(module, "num_heads"):
            yield module, module.qkv


class BlurPruner(tracing.WallPruner):
    """Torch-Pruning's entry for timm's blur pooling, a fixed filter per channel."""

    def prune_out_channels(self, layer: nn.Module, idxs: list[int]) -> nn.Module:
        if layer.channels is not None:
            layer.channels -= len(idxs)
            layer.filt = layer.filt[[n for n in range(len(layer.filt)) if n not in set(idxs)]]
        return layer

    prune_in_channels = prune_out_channels

    def get_out_channels(self, layer: nn.Module) -> int | None:
        return layer.channels

    get_in_channels = get_out_channels


class Misfit(tracing.Fault):
    """A cut that the layer `name` cannot have."""


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
    """Torch-Pruning takes for granted that a grouped convolution loses the same inputs of each of
    its groups, and as many outputs; a group normalisation, too. What it does to the outputs of an
    LSTM is wrong (1.6.1)."""
    if type(layer).__name__ == "LSTM" and way == "out":
        raise Misfit(name, f"the outputs of {name}, an LSTM, cannot be cut")
    parts = getattr(layer, "groups", getattr(layer, "num_groups", 1))
    if parts == 1:
        return
    side = "num_channels" if hasattr(layer, "num_channels") else f"{way}_channels"
    if (width := getattr(layer, side)) == parts:  # depthwise
        return
    each = width // parts
    places = [[index % each for index in gone if index // each == part] for part in range(parts)]
    if any(way == "in" and place != places[0] or len(place) != len(places[0]) for place in places):
        raise Misfit(name, f"the {parts} groups of {name} would lose different channels")


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
    channels silenced.

    Where that is so, the groups that touch the module where it shows are put back: first one by
    one, the smallest first, then all, then all in the module around it, and so on, until the
    failure is gone from there; at last all are tried one by one. Raises the first error if nothing
    is left to cut.
    """
    whole: dict[str, list[Group]] = {}
    error, place = _fault(likeness, groups)
    first = error
    while error:
        for rest in _smaller(groups, place):
            left, now = _fault(likeness, rest)
            if left is None or now != place:
                break
        else:
            rest, left, now = [], None, ""
            for group in groups:
                if _fault(likeness, [*rest, group])[0] is None:
                    rest.append(group)
        out = [group for group in groups if not any(group is one for one in rest)]
        whole.setdefault(DIFFERS if isinstance(error, Differs) else STOPS, []).extend(out)
        groups, error, place = rest, left, now
    if first and not groups:
        raise first
    return carve(model, groups), groups, whole


def _fault(likeness: Likeness, groups: list[Group]) -> tuple[Exception | None, str]:
    """What is wrong with this cut, if anything, and the innermost module in which it shows."""
    small = None
    try:
        small = carve(likeness.model, groups)
        likeness.check(small, kept(likeness.model, groups))
        return None, ""
    except Exception as error:  # of many kinds: shapes, asserts, indices
        return error, _place(error, small)


def _place(error: Exception, model: nn.Module | None) -> str:
    """The innermost module of the model in which the error was raised."""
    if isinstance(error, tracing.Fault):
        return error.name
    names = {id(module): name for name, module in model.named_modules()} if model else {}
    place, trace = "", error.__traceback__
    while trace:
        place = names.get(id(trace.tb_frame.f_locals.get("self")), place)
        trace = trace.tb_next
    error.__traceback__ = None  # it would keep the model alive
    return place


def _smaller(groups: list[Group], place: str) -> Iterator[list[Group]]:
    """The groups less some that touch `place`."""

    def touches(group: Group, scope: str) -> bool:
        return any(not scope or name == scope or name.startswith(scope + ".") for name, _ in group)

    for group in sorted((group for group in groups if place and touches(group, place)), key=len):
        yield [other for other in groups if other is not group]
    while place:
        if rest := [group for group in groups if not touches(group, place)]:
            yield rest
        place = place.rpartition(".")[0]
