"""The loop: schedule, augmentation, early stopping, checkpoints; and what one of its steps takes."""

from effml.training.loop import SCHEDULES, Diverged, History, predict, train
from effml.training.proxy import select
from effml.training.timing import step_seconds

__all__ = ["SCHEDULES", "Diverged", "History", "predict", "select", "step_seconds", "train"]
