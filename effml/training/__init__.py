"""The loop: schedule, augmentation, early stopping, drawing of batches, checkpoints."""

from effml.training.history import Diverged, History, Step
from effml.training.loop import train
from effml.training.prediction import predict, probabilities_of
from effml.training.recomputing import recompute_blocks
from effml.training.saved import ErrorFeedback, pack_activations
from effml.training.schedules import SCHEDULES

__all__ = [
    "SCHEDULES",
    "Diverged",
    "ErrorFeedback",
    "History",
    "Step",
    "pack_activations",
    "predict",
    "probabilities_of",
    "recompute_blocks",
    "train",
]
