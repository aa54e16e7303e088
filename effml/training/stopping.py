"""When an epoch counts as better, and when training stops."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from effml.recipe import Recipe


class Stopping(Protocol):
    """Told of every epoch's validation `score`, `loss` and `accuracy`; plain numbers as state, so that it can be saved."""

    def better(self, found: dict[str, float]) -> bool: ...
    def enough(self, since_best: int) -> bool: ...


@dataclass
class ByScore:
    """As it should be: the epoch with the best score (AUROC, Dice) is kept, the later of equals; training stops when
    `patience` epochs brought none. Without a validation split the last epoch is kept."""

    patience: int
    best: float = -math.inf

    def better(self, found: dict[str, float]) -> bool:
        score = found["score"]
        if math.isnan(score):
            return True
        better = score >= self.best
        self.best = max(self.best, score)
        return better

    def enough(self, since_best: int) -> bool:
        return 0 < self.patience <= since_best


@dataclass
class Selvan2023:
    """As Selvan et al. 2023 wrote it: the counter is reset when validation accuracy exceeds its best *or* loss is under its
    best, but the best loss is only updated when accuracy did not improve in the same epoch; the epoch of the best accuracy is
    kept. A better loss beside a better accuracy does not lower the bar, so training may go on longer than meant."""

    patience: int
    accuracy: float = -math.inf
    loss: float = math.inf
    counter: int = 0

    def better(self, found: dict[str, float]) -> bool:
        if found["accuracy"] > self.accuracy or math.isnan(found["accuracy"]):
            self.accuracy, self.counter = found["accuracy"], 0
            return True
        if found["loss"] < self.loss:
            self.loss, self.counter = found["loss"], 0
        else:
            self.counter += 1
        return False

    def enough(self, since_best: int) -> bool:
        return 0 < self.patience <= self.counter


STOPPING: dict[str, Callable[[int], Stopping]] = {"score": ByScore, "selvan2023": Selvan2023}


def make_stopping(recipe: Recipe) -> Stopping:
    """The rule of `recipe.stopping` with `recipe.patience`, 0 = never. ValueError for an unknown name."""
    if recipe.stopping not in STOPPING:
        raise ValueError(
            f"Unknown stopping {recipe.stopping!r}. Choose from: {', '.join(STOPPING)}"
        )
    return STOPPING[recipe.stopping](recipe.patience)
