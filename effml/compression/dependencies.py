"""Which channels must go together, and how they go: groups of Torch-Pruning, cut out of a copy of the model all at once.

Torch-Pruning finds the groups by tracing one forward pass. Where the trace does not follow a model (a reshape by fixed numbers, a
table as wide as a layer), a cut breaks the forward pass. Such groups then keep their width and the others are cut: see `fitted`.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from effml.compression.surface import attention_scale
from effml.compression.tracing import Runaway, exact, kind_around, walled

if TYPE_CHECKING:
    import torch
    from torch import nn

    Group = dict[tuple[str, str], "Loss"]
    """What a group loses: by (name of a module or parameter, "out" or "in")."""
    Loss = tuple[Callable[..., Any], int, list[int]]
    """The function of Torch-Pruning that cuts it, the dimension (of a parameter), and the indices that go."""


def plan(
    model: "nn.Module",
    keep: float,
    example: "torch.Tensor",
    importance: "Callable[[Any], torch.Tensor]",
    whole: "nn.Module",
) -> "list[Group]":
    """The groups to cut so that each keeps the fraction `keep` of its channels, those of least importance gone; the outputs of
    the layer `whole` stay. The model is not changed: all indices are those of its own channels. Where groups run in circles,
    the trace is done anew with the modules of that kind as walls."""
    walls: set[type] = set()
    while True:
        try:
            with walled(model, walls) as wall:
                return _groups(model, keep, example, importance, whole, wall)
        except Runaway as error:
            if (kind := kind_around(model, error.name, walls)) is None:
                raise
            walls.add(kind)


def _groups(
    model: "nn.Module",
    keep: float,
    example: "torch.Tensor",
    importance: "Callable[[Any], torch.Tensor]",
    whole: "nn.Module",
    wall: dict[type, Any],
) -> "list[Group]":
    import torch
    import torch_pruning

    names = {module: name for name, module in model.named_modules()}
    blurs = {
        type(module): _blur_pruner() for module in names if type(module).__name__ == "BlurPool2d"
    }
    heads = {layer: module.num_heads for module, layer in attentions(model)}

    def scored(group: Any) -> "torch.Tensor | None":
        if any(type(dep.target.module) in wall for dep, _ in group):
            return None
        try:
            values = importance(group)
        except (IndexError, RuntimeError):  # traced wrongly: the group keeps its width
            return None
        return None if values is None or len(values) % pruner._get_channel_groups(group) else values

    with torch.enable_grad(), exact():
        pruner = torch_pruning.BasePruner(
            model,
            example,
            importance=scored,
            pruning_ratio=1 - keep,
            ignored_layers=[whole],
            in_channel_groups={},
            out_channel_groups={},
            num_heads=heads,
            customized_pruners=blurs | wall,
        )
        parameters, found = dict(pruner.DG._param_to_name), []
        for group in pruner.step(interactive=True):
            losses: "Group" = {}
            for dep, indices in group:
                target, handler = dep.target.module, dep.handler
                name = names.get(target) or (
                    parameters.get(target) if isinstance(target, torch.nn.Parameter) else None
                )
                if name and not isinstance(handler.__self__, torch_pruning.ops.DummyPruner):
                    way = "out" if pruner.DG.is_out_channel_pruning_fn(handler) else "in"
                    old = losses.get((name, way), (handler, 0, []))[2]
                    losses[name, way] = handler, dep.target.pruning_dim, sorted({*old, *indices})
            found.append(losses)
    return found


def attentions(model: "nn.Module") -> "Iterator[tuple[nn.Module, nn.Module]]":
    """Attention modules and their linear layer `qkv`, whose outputs are queries, keys and values of all heads."""
    from torch import nn

    for module in model.modules():
        if isinstance(getattr(module, "qkv", None), nn.Linear) and hasattr(module, "num_heads"):
            yield module, module.qkv


def _blur_pruner() -> Any:
    """timm's blur pooling: a fixed filter per channel."""
    from torch_pruning.pruner.function import BasePruningFunc

    class Blur(BasePruningFunc):
        def prune_out_channels(self, layer: "nn.Module", idxs: list[int]) -> "nn.Module":
            if layer.channels is not None:
                layer.channels -= len(idxs)
                layer.filt = layer.filt[[n for n in range(len(layer.filt)) if n not in set(idxs)]]
            return layer

        prune_in_channels = prune_out_channels

        def get_out_channels(self, layer: "nn.Module") -> int | None:
            return layer.channels

        get_in_channels = get_out_channels

    return Blur()


class _Misfit(RuntimeError):
    """A cut that the layer `name` cannot have."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def carve(model: "nn.Module", groups: "list[Group]") -> "nn.Module":
    """A copy of the model without what the groups lose."""
    from torch import nn

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


def together(groups: "list[Group]") -> "Group":
    """What all groups lose (a layer behind a concatenation loses inputs by several)."""
    lost: "Group" = {}
    for key, (handler, dim, gone) in (item for group in groups for item in group.items()):
        lost[key] = handler, dim, sorted({*gone, *lost.get(key, (handler, dim, []))[2]})
    return lost


def width(module: "nn.Module", way: str, handler: Callable[..., Any]) -> int:
    """Channels of a module on that side."""
    pruner = handler.__self__
    return pruner.get_out_channels(module) if way == "out" else pruner.get_in_channels(module)


def _check(name: str, layer: Any, way: str, gone: list[int]) -> None:
    """Torch-Pruning takes for granted that a grouped convolution loses the same inputs of each of its groups, and as many
    outputs; a group normalisation, too. What it does to the outputs of an LSTM is wrong (1.6.1)."""
    if type(layer).__name__ == "LSTM" and way == "out":
        raise _Misfit(name, f"the outputs of {name}, an LSTM, cannot be cut")
    parts, width = getattr(layer, "groups", getattr(layer, "num_groups", 1)), 0
    if parts == 1:
        return
    width = getattr(layer, "num_channels", None) or (
        layer.out_channels if way == "out" else layer.in_channels
    )
    if parts == width:  # depthwise
        return
    each = width // parts
    places = [[index % each for index in gone if index // each == part] for part in range(parts)]
    if any(way == "in" and place != places[0] or len(place) != len(places[0]) for place in places):
        raise _Misfit(name, f"the {parts} groups of {name} would lose different channels")


def fitted(
    model: "nn.Module", groups: "list[Group]", example: "torch.Tensor"
) -> "tuple[nn.Module, list[Group]]":
    """The model without what the groups lose, and the groups that were cut: those in whose absence the model does not run are
    left at full width.

    Where the forward pass fails, the groups that touch the failing module are put back: first one by one, the smallest first,
    then all, then all in the module around it, and so on, until the failure is gone from there. Raises the first error if
    nothing is left to cut.
    """
    small, error, place = _attempt(model, groups, example)
    first = error
    while error:
        for rest in _smaller(groups, place):
            small, error, now = _attempt(model, rest, example)
            if error is None or now != place:
                break
        groups, place = rest, now
    if first and not groups:
        raise first
    return small, groups


def _attempt(
    model: "nn.Module", groups: "list[Group]", example: "torch.Tensor"
) -> "tuple[nn.Module | None, Exception | None, str]":
    import torch

    small = None
    try:
        small = carve(model, groups)
        with torch.no_grad():
            small.eval()(example)
        return small, None, ""
    except Exception as error:  # of many kinds: shapes, asserts, indices
        return None, error, _place(error, small)


def _place(error: Exception, model: "nn.Module | None") -> str:
    """The innermost module of the model in which the error was raised."""
    if isinstance(error, _Misfit):
        return error.name
    names = {id(module): name for name, module in model.named_modules()} if model else {}
    place, trace = "", error.__traceback__
    while trace:
        place = names.get(id(trace.tb_frame.f_locals.get("self")), place)
        trace = trace.tb_next
    error.__traceback__ = None  # it would keep the model alive
    return place


def _smaller(groups: "list[Group]", place: str) -> "Iterator[list[Group]]":
    """The groups less some that touch `place`; at last none."""

    def touches(group: "Group", scope: str) -> bool:
        return any(not scope or name == scope or name.startswith(scope + ".") for name, _ in group)

    for group in sorted((group for group in groups if place and touches(group, place)), key=len):
        yield [other for other in groups if other is not group]
    while place:
        yield [group for group in groups if not touches(group, place)]
        place = place.rpartition(".")[0]
    yield []
