"""The loop: schedule, augmentation, early stopping, drawing of batches, checkpoints."""

from effml.training.history import Diverged, History, Step
from effml.training.loop import train
from effml.training.prediction import predict
from effml.training.schedules import SCHEDULES

__all__ = ["SCHEDULES", "Diverged", "History", "Step", "predict", "train"]
