"""The finished model on the runtime that a recipe asks for, in fresh processes."""

from typing import Any

import numpy as np
import torch
from torch import nn

from effml.data import Split, normalize
from effml.deployment import RUNTIMES
from effml.deployment.int8 import MOST
from effml.deployment.latency import predict_elsewhere
from effml.experiment.prepare import Prepared
from effml.recipe import Record
from effml.training import probabilities_of
from effml.training.loop import carry_out as train


class OnRuntime:
    """Probabilities of a split by `recipe.runtime`; `costs` are the columns of the last one. It is
    calibrated on training images; a runtime that trains again does so as the recipe says."""

    def __init__(self, ready: Prepared, record: Record) -> None:
        recipe, images = ready.recipe, ready.data.train.images
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(recipe.seed))
        seen = normalize(images[order[:MOST]])
        self._task, self.costs = ready.data.task, {}
        self._predictor = RUNTIMES[recipe.runtime](
            ready.model,
            seen[:1],
            seen,
            threads=record.threads_used,
            fine_tune=lambda model: self._again(model, ready),
        )
        ready.notes += self._predictor.notes
        record.update(
            runtime_precision=self._predictor.precision,
            runtime_file_bytes=self._predictor.file_bytes,
            runtime_build_seconds=self._predictor.build_seconds,
        )

    def __call__(self, split: Split) -> np.ndarray:
        logits, self.costs = predict_elsewhere(self._predictor, split.images)
        return probabilities_of(torch.from_numpy(logits), split.images, self._task)

    def _again(self, model: nn.Module, ready: Prepared) -> Any:
        return train(model, ready.data, ready.recipe)
