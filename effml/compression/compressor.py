"""What all compressors share: checks, the copy they work on, the unit of `keep`, the report."""

import functools
import inspect
import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from effml.compression.checks import check_inputs, check_model, check_outputs
from effml.machine import choose, seeded
from effml.models import count, weights_bytes

REPEATS = 5  # of each latency, by turns, after one warm-up
Layers = dict[str, dict[str, Any]]
"""By name of a layer, what was done to it, in the words of a recipe file (see `saving`)."""


@dataclass(frozen=True)
class Job:
    """What a method may look at besides the model; `memo` is for what the steps of a bisection need
    again."""

    example: torch.Tensor
    data: torch.Tensor | None
    seed: int
    memo: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        if key not in self.memo:
            self.memo[key] = make()
        return self.memo[key]


@dataclass
class Outcome:
    """What a method hands over."""

    model: nn.Module
    kept: float
    layers: Layers
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was asked, what was achieved, and the measures before and after.

    `kept` is the fraction kept of what the method removes. `before` and `after` hold `params`,
    `nonzero_params`, `macs` (of one image), `file_bytes` (as safetensors) and `latency_s` (median
    on the `example`). `layers` says what was done to each layer, `notes` what a reader must know;
    `shapes` are those of the tensors before and after, by name."""

    method: str
    keep: float
    keep_unit: str
    seed: int
    kept: float
    before: dict[str, float]
    after: dict[str, float]
    layers: Layers
    notes: tuple[str, ...] = ()
    shapes: tuple[dict[str, list[int]], ...] = field(default=(), repr=False)

    @property
    def ratios(self) -> dict[str, float]:
        """After / before of each measure: below 1 is smaller or faster."""
        return {name: self.after[name] / old for name, old in self.before.items() if old}

    def __str__(self) -> str:
        asked = f"{self.method}, keep={self.keep:g} ({self.keep_unit}): {self.kept:.3f} kept"
        rows = [
            f"{name:15} {self.before[name]:14.6g} → {self.after[name]:14.6g}   × {ratio:.3f}"
            for name, ratio in self.ratios.items()
        ]
        return "\n".join([asked, *rows, *self.notes])


Compressor = Callable[..., tuple[nn.Module, Report]]


def compressor(counts: str = "params") -> Callable[[Callable[..., Outcome]], Compressor]:
    """Makes `method(copy of the model, keep, job) -> Outcome` an entry of COMPRESSORS, with the
    arguments of `effml.compress` but the name. `counts` says which number stands for the
    parameters with `keep_unit="params"`; the largest `keep` that fits is found by bisection."""

    def decorate(method: Callable[..., Outcome]) -> Compressor:
        def compress(model, keep, *, example, data=None, seed=0, keep_unit="fraction"):
            name = method.__name__
            _check_arguments(name, keep, keep_unit)
            check_model(name, model)
            with seeded(seed):  # a model may draw in its forward pass
                original = deepcopy(model).eval()
                job = Job(*check_inputs(name, original, example, data), seed)
                work = functools.partial(method, job=job)
                if keep == 1:
                    outcome = Outcome(deepcopy(original), 1.0, {}, ["keep=1: nothing was removed."])
                elif keep_unit == "fraction":
                    outcome = work(deepcopy(original), keep)
                else:
                    outcome = _fit(name, work, original, keep, counts)
                small = outcome.model.eval()
                if is_channels_last(original):
                    small.to(memory_format=torch.channels_last)
                check_outputs(name, original, small, job.example)
                before, after = _measure([original, small], job.example)
            layers = _with_sizes(original, small, outcome.layers)
            asked = {"method": name, "keep": keep, "keep_unit": keep_unit, "seed": seed}
            found = {"kept": outcome.kept, "before": before, "after": after, "layers": layers}
            shaped = (shapes(original), shapes(small))
            report = Report(**asked, **found, notes=tuple(outcome.notes), shapes=shaped)
            return _in_modes_of(model, small), report

        signature = inspect.signature(compress)  # show_source shows the method, help this
        functools.update_wrapper(compress, method).__signature__ = signature
        return compress

    return decorate


def is_channels_last(model: nn.Module) -> bool:
    """Were its weights put into torch's memory format channels_last?"""
    weights = [p for p in model.parameters() if p.ndim == 4 and not p.is_contiguous()]
    return any(p.is_contiguous(memory_format=torch.channels_last) for p in weights)


def shapes(model: nn.Module) -> dict[str, list[int]]:
    """Of its parameters and buffers, by name."""
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


def sizes(module: nn.Module) -> dict[str, Any]:
    """What a cut may change on a module besides its tensors: its whole numbers, such as
    `out_features`, and tuples of them, as lists (as JSON has them)."""
    found = {key: value for key, value in vars(module).items() if not key.startswith("_")}
    several = {k: [*v] for k, v in found.items() if type(v) is tuple and {*map(type, v)} == {int}}
    return {k: v for k, v in found.items() if type(v) is int} | several


def attention_scale(module: nn.Module, parent: nn.Module | None = None) -> None:
    """After a cut of `module.qkv`: the sizes and the scale (d**-0.5, as in torch's fused attention)
    of its narrower heads. With the `parent` the queries make up for the other scale, so that the
    products of queries and keys are the parent's."""
    new = max(1, module.qkv.out_features // (3 * module.num_heads))
    old = parent.qkv.out_features // (3 * parent.num_heads) if parent is not None else new
    for name, size in (("head_dim", new), ("attn_dim", new * module.num_heads)):
        if name in vars(module):
            setattr(module, name, size)
    if isinstance(getattr(module, "scale", None), float) and getattr(module, "fused_attn", False):
        module.scale = new**-0.5
        with torch.no_grad():
            for tensor in (module.qkv.weight, module.qkv.bias):
                if tensor is not None:
                    tensor[: len(tensor) // 3] *= (new / old) ** 0.5


def _with_sizes(original: nn.Module, small: nn.Module, layers: Layers) -> Layers:
    """`layers` with the new sizes (`set`) of every module that a cut has changed."""
    old = dict(original.named_modules())
    for name, module in small.named_modules():
        if type(module) is type(old.get(name)):
            before = sizes(old[name])
            if new := {key: n for key, n in sizes(module).items() if n != before.get(key)}:
                layers.setdefault(name, {"kind": "cut"})["set"] = new
    return layers


def _check_arguments(name: str, keep: Any, keep_unit: str) -> None:
    if isinstance(keep, bool) or not isinstance(keep, (int, float)) or not 0 < keep <= 1:
        hint = "is the fraction kept: give more than 0 and at most 1, such as 0.5."
        raise ValueError(f"{name}: keep={keep!r} {hint}")
    choose("keep_unit", keep_unit, ("fraction", "params"))


def _in_modes_of(model: nn.Module, small: nn.Module) -> nn.Module:
    """`small` with each module in the mode it has in the model; a new one as the module around."""
    modes = {name: module.training for name, module in model.named_modules()}
    for name, module in small.named_modules():
        module.training = modes.setdefault(name, modes[name.rpartition(".")[0]] if name else False)
    return small


def _fit(
    name: str, work: Callable[..., Outcome], model: nn.Module, share: float, counts: str
) -> Outcome:
    """The outcome with the largest `keep` whose size is at most the `share` of the model's: ten
    steps of bisection (to a thousandth)."""

    def size_of(model: nn.Module) -> int:
        nonzero = counts == "nonzero_params"
        return sum(int(p.count_nonzero()) if nonzero else p.numel() for p in model.parameters())

    whole = size_of(model)
    low, high, best, smallest = 0.0, 1.0, None, float("inf")
    for step in range(11):  # the last resort: as small as the method can
        keep = (low + high) / 2 if step < 10 or best is not None else 1e-9
        outcome = work(deepcopy(model), keep)
        smallest = min(smallest, size := size_of(outcome.model))
        if size <= share * whole:
            low, best = keep, outcome
        else:
            high = keep
    if best is None:
        raise ValueError(
            f"{name} cannot bring this model to {share * whole:.0f} parameters: {smallest} is the "
            f"smallest it gets to. Give a keep of at least {smallest / whole:.4f}."
        )
    return best


def _measure(models: list[nn.Module], example: torch.Tensor) -> list[dict[str, float]]:
    layout = torch.channels_last if example.ndim == 4 else torch.contiguous_format
    timed = [deepcopy(model).to(memory_format=layout) for model in models]
    images = example.to(memory_format=layout)  # as train and predict have it
    seconds: list[list[float]] = [[] for _ in models]
    with torch.inference_mode():
        for _ in range(1 + REPEATS):
            for model, taken in zip(timed, seconds):
                start = time.perf_counter()
                model(images).sum().item()  # a GPU is waited for
                taken.append(time.perf_counter() - start)
    costs = [count(model, example[:1]) for model in models]
    for cost, model, taken in zip(costs, models, seconds):
        cost |= {"file_bytes": len(weights_bytes(model)), "latency_s": statistics.median(taken[1:])}
    return costs
