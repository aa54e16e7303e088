"""Thakur et al. 2025: its workloads on two cores, in all modes (notebooks 65 and 66)."""

from thakur.recipes import (
    CLASSIFICATION,
    MODES,
    RETRAINED,
    SEGMENTATION,
    TUNED,
    WORKLOADS,
    grid,
    trained,
)
from thakur.tables import (
    FP32,
    INT8,
    REFERENCE,
    busy,
    figure,
    measured,
    place,
    statements,
    table,
    threads_gain,
    trainings,
    unseen,
)

__all__ = [
    "CLASSIFICATION",
    "FP32",
    "INT8",
    "MODES",
    "REFERENCE",
    "RETRAINED",
    "SEGMENTATION",
    "TUNED",
    "WORKLOADS",
    "figure",
    "grid",
    "measured",
    "place",
    "busy",
    "statements",
    "table",
    "threads_gain",
    "trained",
    "trainings",
    "unseen",
]
