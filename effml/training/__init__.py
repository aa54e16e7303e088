"""The loop: schedule, augmentation, early stopping, checkpoints."""
from effml.training.loop import SCHEDULES, Diverged, History, predict, train

__all__ = ["SCHEDULES", "Diverged", "History", "predict", "train"]
