"""The loop: schedule, augmentation, early stopping, drawing of batches, checkpoints."""

from effml.training.loop import SCHEDULES, Diverged, History, predict, train

__all__ = ["SCHEDULES", "Diverged", "History", "predict", "train"]
