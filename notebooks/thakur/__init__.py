"""Thakur et al. 2025: its workloads on two cores, in all modes (notebooks 65 and 66)."""

from thakur.recipes import CLASSIFICATION, MODES, SEGMENTATION, WORKLOADS, grid, trained
from thakur.tables import (
    figure,
    measured,
    quiet,
    statements,
    table,
    threads_gain,
    trainings,
    unseen,
)

__all__ = [
    "CLASSIFICATION",
    "MODES",
    "SEGMENTATION",
    "WORKLOADS",
    "figure",
    "grid",
    "measured",
    "quiet",
    "statements",
    "table",
    "threads_gain",
    "trained",
    "trainings",
    "unseen",
]
