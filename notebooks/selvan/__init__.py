"""Selvan, Schön, Dam 2023: its grid of runs, their tables and figures (notebooks 60 to 63)."""

from selvan.drawing import curves, differences_figure, paper_ranges, radars
from selvan.runs import (
    AMP_SEEDS,
    DENSENET_SEEDS,
    MODELS,
    NAMES,
    SEEDS,
    STATEMENT_SEEDS,
    grid,
    grid_runs,
    paired_by_model,
)
from selvan.tables import (
    above_others,
    amp_costs,
    changes,
    constant,
    results,
    saved,
    size_baseline,
    statements,
    statements_by_seed,
    told,
)

__all__ = [
    "AMP_SEEDS",
    "DENSENET_SEEDS",
    "MODELS",
    "NAMES",
    "SEEDS",
    "STATEMENT_SEEDS",
    "above_others",
    "amp_costs",
    "changes",
    "constant",
    "curves",
    "differences_figure",
    "grid",
    "grid_runs",
    "paired_by_model",
    "paper_ranges",
    "radars",
    "results",
    "saved",
    "size_baseline",
    "statements",
    "statements_by_seed",
    "told",
]
