"""When an epoch is `better` by its validation `score`, `loss` and `accuracy`, and when training has
had `enough`. The state of a rule is plain numbers, so that it can be saved."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class ByScore:
    """As it should be: the epoch with the best score (AUROC, Dice) is kept, the later of equals;
    training stops when `patience` epochs in a row brought no better one. NaN is no better: where
    there is no other, as without a validation split, the last epoch is kept."""

    patience: int
    best: float = -math.inf
    counter: int = 0

    def better(self, found: dict[str, float]) -> bool:
        score = found["score"]
        self.counter = 0 if score > self.best else self.counter + 1
        kept = score >= self.best or math.isnan(score) and self.best == -math.inf
        self.best = max(self.best, score)  # max keeps its first argument if the second is NaN
        return kept

    def enough(self) -> bool:
        return 0 < self.patience <= self.counter


@dataclass
class Selvan2023:
    """As Selvan et al. 2023 wrote it: the counter is reset when validation accuracy exceeds its
    best *or* loss is under its best, but the best loss is only updated when accuracy did not
    improve, so training may go on longer than meant; the epoch of the best accuracy is kept.
    (Theirs looks at the test images along the way, in every second epoch; ours once, at the end.)"""

    patience: int
    accuracy: float = -math.inf
    loss: float = math.inf
    counter: int = 0

    def better(self, found: dict[str, float]) -> bool:
        if found["accuracy"] > self.accuracy:
            self.accuracy, self.counter = found["accuracy"], 0
            return True
        if found["loss"] < self.loss:
            self.loss, self.counter = found["loss"], 0
        else:
            self.counter += 1
        return math.isnan(found["accuracy"]) and self.accuracy == -math.inf

    def enough(self) -> bool:
        return 0 < self.patience <= self.counter


STOPPING: dict[str, Callable[[int], Any]] = {"score": ByScore, "selvan2023": Selvan2023}
