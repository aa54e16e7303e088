"""How batches are drawn during training: uniformly, or by importance."""

from collections.abc import Callable

import torch

Scorer = Callable[[torch.Tensor], torch.Tensor]
Draw = tuple[torch.Tensor, torch.Tensor | None]


class Uniform:
    """Every image once an epoch, in random order."""

    def __init__(self, n: int, batch_size: int) -> None:
        self.n, self.batch_size = n, batch_size

    def draw(self, index: torch.Tensor, score: Scorer, order: torch.Generator) -> Draw:
        """The images of the next step and the weight of each one's loss (None: all 1), given the
        uniform batch `index`."""
        return index, None

    def observe(self, scores: torch.Tensor) -> None:
        """Scores of a uniform batch that was trained on, a gift of its forward pass."""


class Importance(Uniform):
    """Importance sampling (Katharopoulos & Fleuret 2018, algorithm 1). The score of an image is
    ‖p − y‖₂, an upper bound of its gradient's norm up to a constant. With g the scores of B images
    as shares, τ = √(B Σ g²) says how much more a batch by importance is worth than a uniform one.
    While its moving average is above `threshold` = (B + 3b) / 3b, where scoring is repaid,
    PRESAMPLE × batch_size images are scored each step, in eval mode, and the batch is drawn from
    them by g, with weights 1 / (B g) that leave the gradient unbiased."""

    PRESAMPLE, MOMENTUM = 3, 0.9

    def __init__(self, n: int, batch_size: int) -> None:
        super().__init__(n, batch_size)
        self.pool = min(n, self.PRESAMPLE * batch_size)
        self.threshold = (self.pool + 3 * batch_size) / (3 * batch_size)
        self.tau = 0.0

    def draw(self, index: torch.Tensor, score: Scorer, order: torch.Generator) -> Draw:
        if self.tau <= self.threshold:
            return index, None
        pool = torch.randperm(self.n, generator=order)[: self.pool].to(index.device)
        scores = score(pool)
        self.observe(scores)
        if not scores.sum() > 0:  # every image is learned already, or the scores are no numbers
            return index, None
        share = (scores / scores.sum()).cpu()
        chosen = torch.multinomial(share, len(index), replacement=True, generator=order)
        return pool[chosen.to(index.device)], (1 / (len(pool) * share[chosen])).to(index.device)

    def observe(self, scores: torch.Tensor) -> None:
        self.tau += (1 - self.MOMENTUM) * (tau(scores) - self.tau)


def tau(scores: torch.Tensor) -> float:
    """√(B Σ g²) of B scores with shares g: 1 where all are equal (or 0), √B where one has
    everything."""
    total = float(scores.sum())
    return float((len(scores) * (scores / total).square().sum()).sqrt()) if total > 0 else 1.0


def gradient_norm(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """‖p − y‖₂, (N,): the norm of the gradient of cross-entropy with respect to the logits."""
    return (logits.softmax(1) - torch.nn.functional.one_hot(labels, logits.shape[1])).norm(dim=1)


SAMPLERS = {"uniform": Uniform, "importance": Importance}
