"""Torch-Pruning 1.6.1 follows channels by guesses and by recursion, anew for every group: within
`exact` by the shapes autograd knows, and once."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import accumulate, pairwise
from math import prod
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

MOST = 64  # visits of a group to one side of a layer with other indices: beyond, it runs in circles


class Fault(RuntimeError):
    """A cut that cannot be; it shows in the layer `name`."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(name, message)
        self.name = name

    def __str__(self) -> str:
        return self.args[1]


class Runaway(Fault):
    """A group that runs in circles."""


@contextmanager
def exact() -> Iterator[None]:
    """Within it, Torch-Pruning finds groups by true shapes, and nothing may be cut."""
    from torch_pruning.dependency import Group, index_mapping, shape_infer

    update, add, known = index_mapping.update_index_mapping, Group.add_dep, set()
    merge = Group.add_and_merge

    def bounded(group: Any, dep: Any, idxs: Any) -> None:
        met = vars(group).setdefault("met", Counter())
        met[dep.target, dep.handler] += 1
        if met[dep.target, dep.handler] > MOST:
            names = (node._name for (node, _), _ in met.most_common())
            name = next((name for name in names if isinstance(name, str)), "")
            raise Runaway(name, f"The channels of {name} cannot be followed.")
        add(group, dep, idxs)

    def remembered(group: Any, dep: Any, idxs: Any) -> None:
        links = vars(group).setdefault("links", {})
        links.setdefault((dep.target, dep.handler), []).append(idxs)
        merge(group, dep, idxs)

    def once(graph: Any) -> None:
        if graph not in known:
            known.add(graph)
            _along_channels(graph)
            update(graph)

    with ExitStack() as patches:
        for module, name, ours in (
            (index_mapping, "update_index_mapping", once),
            (Group, "add_dep", bounded),
            (Group, "add_and_merge", remembered),
            (index_mapping, "update_split_index_mapping", _split),
            (index_mapping, "update_concat_index_mapping", _concat),
            (index_mapping, "update_reshape_index_mapping", _reshape),
            (shape_infer, "init_shape_information", lambda graph: None),
        ):
            patches.enter_context(patch.object(module, name, ours))
        yield


class Wall(nn.Module):
    """What the trace sees in place of a module it cannot follow: outputs made of all inputs."""

    def forward(self, outputs: torch.Tensor, *inputs: Any) -> torch.Tensor:
        tensors = (x for x in inputs if isinstance(x, torch.Tensor) and x.requires_grad)
        return outputs + 0 * sum(x.mean() for x in tensors)


class WallPruner:
    """Torch-Pruning's entry for walls, which are never cut and have no known width."""

    pruning_dim = 1

    def prune_out_channels(self, layer: nn.Module, idxs: list[int]) -> nn.Module:
        return layer

    def get_out_channels(self, layer: nn.Module) -> int | None:
        return getattr(layer, "channels", None)

    def get_out_channel_groups(self, layer: nn.Module) -> int:
        return 1

    prune_in_channels, get_in_channels = prune_out_channels, get_out_channels
    get_in_channel_groups = get_out_channel_groups


@contextmanager
def walled(model: nn.Module, kinds: set[type]) -> Iterator[dict[type, WallPruner]]:
    """Within it, modules of these kinds are walls for the trace: what leads to one or from one is
    not to be cut. Yields Torch-Pruning's entry."""

    def blind(module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def see(*args: Any) -> torch.Tensor:
            with torch.no_grad():
                outputs = forward(*args)
            return module.wall(outputs, *args)

        return see

    modules = [module for module in model.modules() if type(module) in kinds]
    for module in modules:
        module.wall, module.forward = Wall(), blind(module, module.forward)
    try:
        yield {Wall: WallPruner()}
    finally:
        for module in modules:
            del module.wall, module.forward


def kind_around(model: nn.Module, name: str, known: set[type]) -> type | None:
    """The kind of the innermost module around a layer that is not torch's and not known yet."""
    while name := name.rpartition(".")[0]:
        kind = type(model.get_submodule(name))
        if kind not in known and not kind.__module__.startswith("torch.nn"):
            return kind
    return None


def makers(graph: Any) -> list[Any]:
    """The layers whose channels are the model's outputs, and what lies behind them: back from the
    outputs to the first layers that mix channels."""
    from torch_pruning import ops

    mixing = (ops.TORCH_CONV, ops.TORCH_LINEAR, ops.TORCH_LSTM)
    found, ahead = [], [node for node in graph.module2node.values() if not node.outputs]
    while ahead:
        node = ahead.pop()
        if not any(node.module is module for module in found):
            found.append(node.module)
            depthwise = getattr(node.module, "groups", 1) > 1
            if not isinstance(node.module, mixing) or depthwise:
                ahead.extend(node.inputs)
    return found


def inseparable(group: Any, values: torch.Tensor, parts: int) -> tuple[torch.Tensor, int]:
    """`values` (n,), the importance of the channels of a group, as ranks where some must go
    together (the two halves of a gate, say): these have the mean of the values and follow each
    other, so that the least ranks are whole sets. And how many there are in the largest set. Where
    the channels lie in `parts`, the same of each part go anyway."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    each, pairs = len(values) // parts, set()
    for visits in vars(group).get("links", {}).values():
        first: dict[int, int] = {}
        for index, root in (pair for visit in visits for pair in visit):
            if (known := first.setdefault(index, root % each)) != root % each:
                pairs.add((known, root % each))
    if not pairs:
        return values, 1
    ones, (a, b) = [1] * len(pairs), zip(*pairs)
    _, labels = connected_components(coo_array((ones, (a, b)), (each, each)), directed=False)
    sets = torch.from_numpy(labels).long()
    counts = sets.bincount()
    means = torch.zeros(len(counts), dtype=torch.double)
    means.index_add_(0, sets, values.detach().double().cpu().view(parts, each).mean(0))
    place = (means / counts).argsort(stable=True).argsort()
    ranks = (place[sets] * each + torch.arange(each)).to(torch.double).argsort().argsort()
    return ranks.to(torch.double).repeat(parts).to(values.device), int(counts.max())


def _along_channels(graph: Any) -> None:
    """A convolution of one channel along the channels (ECA) only hands their numbers on."""
    from torch_pruning import ops

    def one(node: Any) -> bool:
        layer = node.module
        return isinstance(layer, nn.Conv1d) and layer.in_channels == layer.out_channels == 1

    through = graph.REGISTERED_PRUNERS[ops.OPTYPE.ELEMENTWISE].prune_out_channels
    for node in graph.module2node.values():
        for dependency in node.dependencies:
            if one(dependency.source):
                dependency.trigger = through
            if one(dependency.target):
                dependency.handler = through


def _shape(function: Any, output: int = 0) -> tuple[int, ...]:
    """The shape of an output of an autograd function."""
    if hasattr(function, "variable"):
        return tuple(function.variable.shape)
    return tuple(function._input_metadata[output].shape)


def _channel_axis(function: Any, axes: int) -> int | None:
    """The axis along which it splits or joins, if it is that of channels: the last of (N, T, C), or
    of any where it was called so, else the first after N."""
    axis = function._saved_dim
    axis -= 2**64 if axis >= 2**63 else 0
    return axis if axis == -1 or axis == (2 if axes == 3 else 1) else None


def _link(node: Any, other: Any, slot: int, mappings: Any) -> None:
    """Indices from `node` to `other` go through the first of each pair of mappings, back through
    the second."""
    for place, (source, target) in enumerate(((node, other), (other, node))):
        ours = (d for d in source.dependencies if d.target is target)
        for dependency, pair in zip(ours, mappings):
            dependency.index_mapping[slot] = pair[place]


def _split(graph: Any, node: Any) -> None:
    from torch_pruning.dependency.index_mapping import _SplitIndexMapping as Part

    function = node.grad_fn
    axis = _channel_axis(function, len(_shape(function)))
    if axis is None or not node.enable_index_mapping:
        return
    outputs = range(len(function._input_metadata))
    parts = [*pairwise(accumulate((_shape(function, n)[axis] for n in outputs), initial=0))]
    for user in dict.fromkeys(node.outputs):
        used = [n for source, n in user.grad_fn.next_functions if source is function]
        ways = [[Part(offset=[*parts[n]], reverse=way) for way in (False, True)] for n in used]
        _link(node, user, 0, ways)


def _concat(graph: Any, node: Any) -> None:
    from torch_pruning.dependency.index_mapping import _ConcatIndexMapping as Part

    function = node.grad_fn
    axis = _channel_axis(function, len(_shape(function)))
    if axis is None or not node.enable_index_mapping:
        return
    sources = function.next_functions
    if len(sources) != len(node.inputs) or any(source is None for source, _ in sources):
        return  # an input without gradient, whose width nobody knows
    parts = [*pairwise(accumulate((_shape(*source)[axis] for source in sources), initial=0))]
    for user in dict.fromkeys(node.inputs):
        used = [part for part, source in zip(parts, node.inputs) if source is user]
        ways = [[Part(offset=[*part], reverse=way) for way in (True, False)] for part in used]
        _link(node, user, 1, ways)


def _reshape(graph: Any, node: Any) -> None:
    """(N, C, H, W) to (N, C·H·W) and back; other reshapes leave channels' numbers as they are."""
    from torch_pruning.dependency.index_mapping import _FlattenIndexMapping as Flat

    source, output = node.grad_fn.next_functions[0]
    if source is None:
        return
    before, after = _shape(source, output), _shape(node.grad_fn)
    for wide, flat, users in ((before, after, node.inputs), (after, before, node.outputs)):
        channels_too = len(wide) > 3 and len(flat) == 2 and wide[1] > 1  # (N, 1, 1, C) are tokens
        if channels_too and flat[1] == prod(wide[1:]) > wide[1]:
            step = flat[1] // wide[1]
            for user in dict.fromkeys(users):
                _link(node, user, 0, [(Flat(step, reverse=True), Flat(step, reverse=False))] * 9)
