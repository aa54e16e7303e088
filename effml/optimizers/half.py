"""Weights in 16 bits: what rounding loses in training, counted, and what mends it."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from effml.machine import choose

HALF_REPAIRS: dict[str, str] = {
    "eps": "Adam's eps is 1e-4: 1e-8 is 0 in float16",
    "batchnorm": "normalisation layers stay in float32, with their statistics",
    "master": "a float32 copy of the weights takes the steps; the model holds it rounded",
    "stochastic": "steps are taken in float32, then each weight is rounded up or down by chance",
}
"""Repairs of training with weights in 16 bits. `effml.repair_half` gives an optimizer those that
are its own; `effml.arithmetic(…).prepare(model, repair)` gives a model batchnorm."""

EPS = 1e-4
CUT = {torch.bfloat16: 16, torch.float16: 13}
"""Bits of a float32 that these formats go without (below float16's smallest normal: more)."""


def round_stochastically(tensor: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Round each value to one of its two neighbours in `dtype`, to the nearer one the more often:
    the mean of many roundings is the value itself.

    Args:
        tensor: of float32.
        dtype: torch.bfloat16 or torch.float16.
        generator: what draws; on the device of `tensor`.

    Returns:
        A tensor of that dtype, in the same order in memory. What is not finite stays as it is; what
        is beyond the largest value of `dtype` becomes that.

    Raises:
        ValueError: another dtype.

    Example:
        >>> import torch
        >>> draw = torch.Generator().manual_seed(0)
        >>> x = torch.full((10_000,), 1 + 2**-9)  # bfloat16 goes from 1 to 1 + 2**-7
        >>> rounded = effml.round_stochastically(x, torch.bfloat16, draw)
        >>> rounded.unique().tolist(), round(rounded.double().mean().item(), 3)
        ([1.0, 1.0078125], 1.002)
    """
    if dtype not in CUT or tensor.dtype != torch.float32:
        raise ValueError(
            f"{tensor.dtype} to {dtype}: give a tensor of float32, and torch.bfloat16 or "
            "torch.float16."
        )
    facts, cut = torch.finfo(dtype), CUT[dtype]
    lift = 0.0
    if dtype == torch.float16:  # what is small gets the equal steps of the smallest normal numbers
        lift = torch.where(tensor.abs() < facts.tiny, facts.tiny, 0.0).copysign_(tensor)
    bits = (tensor + lift).view(torch.int32)
    bits = bits + torch.empty_like(bits).random_(1 << cut, generator=generator)
    found = (bits >> cut << cut).view(torch.float32) - lift
    found = found.clamp_(facts.min, facts.max)
    return torch.where(tensor.isfinite(), found, tensor).to(dtype)


def repairs(repair: str) -> set[str]:
    """The names in `repair`; ValueError for one that is unknown or given twice, and for master
    together with stochastic."""
    names = [] if repair == "none" else repair.split("+")
    for name in names:
        choose("half_repair", name, HALF_REPAIRS, "; join several by +")
    if len({*names}) < len(names) or {"master", "stochastic"} <= {*names}:
        raise ValueError(f"half_repair={repair!r}: each once, and master or stochastic, not both.")
    return {*names}


def repair_half(optimizer: Optimizer, repair: str, *, seed: int = 0) -> Optimizer:
    """Mend what an optimizer loses where weights are in 16 bits.

    Args:
        optimizer: any of torch, before its first step; its parameters of bfloat16 or float16.
        repair: names of HALF_REPAIRS, joined by +; none: nothing is changed. batchnorm is nothing
            that an optimizer can do: `effml.arithmetic(…).prepare(model, repair)` does it.
        seed: of stochastic rounding.

    Returns:
        The same optimizer. With master or stochastic it steps in float32, its state is float32, and
        the weights are rounded after each step; master copies are part of its state. A saved state
        continues exactly. Steps take no closure.

    Raises:
        ValueError: an unknown repair, an optimizer without eps, one that has stepped or is
            repaired already, or one without a parameter in 16 bits.

    Example:
        >>> import torch
        >>> net = torch.nn.Linear(9, 2).bfloat16()
        >>> adam = effml.repair_half(effml.make_optimizer("adam", net.parameters(), 1e-5), "master")
        >>> net(torch.ones(1, 9).bfloat16()).sum().backward()
        >>> adam.step()
        >>> net.weight.dtype, adam.state[net.weight]["master"].dtype
        (torch.bfloat16, torch.float32)
    """
    names = repairs(repair)
    if optimizer.state:
        raise ValueError("The optimizer has state already: call repair_half before its first step.")
    if already := vars(optimizer).get("half_repair"):
        raise ValueError(f"The optimizer is repaired already ({already}): join repairs by +.")
    for group in optimizer.param_groups if "eps" in names else ():
        if "eps" not in group:
            raise ValueError(f"{type(optimizer).__name__} has no eps: leave that repair.")
        group["eps"] = EPS
    if names & {"master", "stochastic"}:
        if not any(p.dtype in CUT for group in optimizer.param_groups for p in group["params"]):
            advice = "cast the model first, or leave the repair"
            raise ValueError(f"No parameter of this optimizer has 16 bits: {advice}.")
        _InFloat32(optimizer, seed if "stochastic" in names else None)
    if names:
        optimizer.half_repair = repair
    return optimizer


class _InFloat32:
    """Gives an optimizer weights and gradients in float32 for the time of a step, by its hooks.
    `seed`: of stochastic rounding; None: master copies are kept instead."""

    def __init__(self, optimizer: Optimizer, seed: int | None) -> None:
        device = optimizer.param_groups[0]["params"][0].device
        self.draw = None if seed is None else torch.Generator(device).manual_seed(seed)
        self.depth, self.was = 0, {}
        optimizer.register_step_pre_hook(self.before)
        optimizer.register_step_post_hook(self.after)
        optimizer.register_state_dict_post_hook(self.save)
        optimizer.register_load_state_dict_pre_hook(self.load)
        optimizer.register_load_state_dict_post_hook(self.loaded)
        if hasattr(optimizer, "non_castable_tensor_keys"):  # bitsandbytes', whose load has no hooks
            optimizer.non_castable_tensor_keys.add("master")
            optimizer.load_state_dict = partial(self.load_theirs, optimizer.load_state_dict)

    def before(self, optimizer: Optimizer, args: tuple, kwargs: dict[str, Any]) -> None:
        if any(callable(x) for x in (*args[1:], kwargs.get("closure"))):  # would miss the repair
            raise ValueError("A repaired optimizer takes no closure: call backward, then step().")
        self.depth += 1  # a class whose step calls its parent's has hooks called twice
        self.widen(optimizer)

    def after(self, optimizer: Optimizer, *_: Any) -> None:
        self.depth -= 1
        if self.depth:
            return
        for p, (dtype, gradient) in self.was.items():
            wide, p.grad = p.data, None
            if self.draw is not None:
                p.data = round_stochastically(wide, dtype, self.draw)
            else:
                p.data, optimizer.state[p]["master"] = wide.to(dtype), wide
            p.grad = gradient
        self.was.clear()

    def widen(self, optimizer: Optimizer, all_of_them: bool = False) -> None:
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            if p.dtype in CUT and (all_of_them or p.grad is not None):
                gradient, p.grad = p.grad, None
                self.was[p] = p.dtype, gradient
                p.data = accumulated(p, optimizer).float()
                p.grad = None if gradient is None else gradient.float()

    def save(self, _: Optimizer, state: dict[str, Any]) -> None:
        if self.draw is not None:
            state["rounding"] = self.draw.get_state()

    def load(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        """torch gives a loaded state the dtype of its parameter: float32, meanwhile."""
        self.go_on(state)
        self.widen(optimizer, all_of_them=True)

    def load_theirs(self, load: Callable[..., None], state: dict[str, Any], *more: Any) -> None:
        self.go_on(state)
        load(state, *more)

    def go_on(self, state: dict[str, Any]) -> None:
        if self.draw is not None and "rounding" in state:
            self.draw.set_state(state["rounding"])

    def loaded(self, _: Optimizer) -> None:
        for p, (dtype, gradient) in self.was.items():
            p.grad = None
            p.data, p.grad = p.data.to(dtype), gradient  # exact: it was of that dtype
        self.was.clear()


def accumulated(p: Tensor, optimizer: Optimizer | None) -> Tensor:
    """Where the updates of a parameter add up: its master copy, or itself."""
    state = optimizer.state.get(p, {}) if optimizer is not None else {}
    return state.get("master", p.detach())


def _share(some: float, of: float) -> float:
    return some / of if of else math.nan


class LostUpdates:
    """Count the updates that round to nothing: of the parameters whose gradient is not 0, those
    whose weight is the same after the step. Where there is a master copy, that is looked at.

    Args:
        model: as it is before the first step.
        optimizer: of your own loop, else its master copies are not seen;
            `effml.train(…, after_step=lost)` tells it.
        most: of each tensor so many values, evenly spread, are looked at and stand for the others;
            0: all of them, which takes a few passes over the weights and two copies of them.
        every: of so many steps the first is counted. On a GPU it is the number of operations that
            takes time: with DenseNet-121 a count has 2 900, a training step 3 500.

    Returns:
        What to call after each step: (updates lost, updates). `fraction` of all updates that were
        lost; `unmoved`, of the weights that ever had a gradient the fraction that stands where it
        began; `steps`, the fraction lost in each step; `layers`, both fractions of each parameter,
        and `totals` and `still` the pairs of numbers that they are made of. A fraction of no
        updates is NaN.

    Raises:
        ValueError: nothing to train, or, after a step, no gradient to look at.

    Example:
        >>> import torch
        >>> net = torch.nn.Linear(9, 2).bfloat16()
        >>> sgd, lost = torch.optim.SGD(net.parameters(), lr=1e-9), effml.LostUpdates(net)
        >>> net(torch.ones(1, 9).bfloat16()).sum().backward()
        >>> sgd.step()
        >>> lost()
        (20, 20)
        >>> lost.fraction, lost.unmoved
        (1.0, 1.0)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | None = None,
        *,
        most: int = 0,
        every: int = 1,
    ) -> None:
        self.weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
        if not self.weights:
            raise ValueError(f"{type(model).__name__} has no parameter that is trained.")
        self.optimizer, self.steps, self.every, self.number = optimizer, [], every, 0
        self.looked = {
            name: torch.arange(0, p.numel(), -(-p.numel() // most), device=p.device)
            for name, p in self.weights.items()
            if 0 < most < p.numel()
        }
        self.totals = dict.fromkeys(self.weights, (0, 0))
        self.first = {name: self._seen(name, p.detach()) for name, p in self.weights.items()}
        self.last, self.learned = dict(self.first), {}

    def __call__(self, step: Any = None) -> tuple[int, int]:
        """After a step: how many updates it lost, of how many."""
        self.optimizer = getattr(step, "optimizer", self.optimizer)
        if all(p.grad is None for p in self.weights.values()):
            raise ValueError("No parameter has a gradient: count after step(), before zero_grad().")
        skipped, self.number = self.number % self.every, self.number + 1
        if skipped:
            if self.number % self.every == 0:
                self.renew()  # the next one is counted
            return 0, 0
        counts = {name: count for name, *count in self._step()}
        found = torch.stack([one for pair in counts.values() for one in pair]).view(-1, 2)
        together = 0, 0
        for name, pair in zip(counts, found.tolist()):
            scaled = [round(count * self._stands_for(name)) for count in pair]
            self.totals[name], together = (
                tuple(map(sum, zip(scaled, before))) for before in (self.totals[name], together)
            )
        self.steps.append(_share(*together))
        return together

    def _step(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        for name, p in self.weights.items():
            now = self._seen(name, accumulated(p, self.optimizer))
            if p.grad is not None:
                last, learned = self.last[name], self._seen(name, p.grad) != 0
                last = last.to(p.dtype) if last is self.first[name] else last  # a model cast since
                self.learned[name] = self.learned.get(name, learned) | learned
                yield name, (learned & (now == last)).sum(), learned.sum()
            self.last[name] = now

    def _seen(self, name: str, values: Tensor) -> Tensor:
        """A copy of the values that are looked at."""
        index = self.looked.get(name)
        return values.clone() if index is None else values.take(index)

    def _stands_for(self, name: str) -> float:
        index = self.looked.get(name)
        return 1 if index is None else self.weights[name].numel() / len(index)

    def renew(self) -> None:
        """What was done to the weights since the last step is no update: a checkpoint, say."""
        for name, p in self.weights.items():
            self.last[name] = self._seen(name, accumulated(p, self.optimizer))

    @property
    def fraction(self) -> float:
        return _share(*map(sum, zip(*self.totals.values())))

    @property
    def unmoved(self) -> float:
        return _share(*map(sum, zip(*self.still.values())))

    @property
    def layers(self) -> dict[str, tuple[float, float]]:
        pairs = {name: (self.totals[name], still) for name, still in self.still.items()}
        return {name: tuple(_share(*pair) for pair in both) for name, both in pairs.items()}

    @property
    def still(self) -> dict[str, tuple[float, float]]:
        """Of each parameter the weights that stand where they began, of those with a gradient."""
        found = {}
        for name, p in self.weights.items():
            now = self._seen(name, accumulated(p, self.optimizer))
            learned = self.learned.get(name, torch.zeros_like(now, dtype=torch.bool))
            still = learned & (now == self.first[name].to(p.dtype))
            times = self._stands_for(name)
            found[name] = int(still.sum()) * times, int(learned.sum()) * times
        return found
