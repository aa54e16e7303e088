"""Probabilities or masks in, clinical metrics with 95 % intervals out: fractions in [0, 1]; NaN is undefined, and notes say why.

`scores` one model on one split · `breakdown` the same by class, site, year · `points` thresholds chosen on validation ·
`predictive` what an answer is worth at a prevalence · `masks` segmentation · `paired` two models on the same images.
`auroc`, `calibration` and `intervals` are what they are made of.
"""

from effml.evaluation.auroc import Difference, delong, paired_auroc
from effml.evaluation.breakdown import by_group, per_class
from effml.evaluation.calibration import average_precision, ece, reliability
from effml.evaluation.intervals import paired_bootstrap, wilson
from effml.evaluation.masks import MaskScores, evaluate_masks
from effml.evaluation.paired import (
    McNemar,
    agreement,
    mcnemar,
    non_inferiority,
    paired_proportions,
    paired_scores,
)
from effml.evaluation.points import AIMS, OperatingPoint, achieved, operating_point, promise
from effml.evaluation.predictive import predictive_values
from effml.evaluation.scores import TASKS, Scores, evaluate

__all__ = [
    "AIMS",
    "TASKS",
    "Difference",
    "MaskScores",
    "McNemar",
    "OperatingPoint",
    "Scores",
    "achieved",
    "agreement",
    "average_precision",
    "by_group",
    "delong",
    "ece",
    "evaluate",
    "evaluate_masks",
    "mcnemar",
    "non_inferiority",
    "operating_point",
    "paired_auroc",
    "paired_bootstrap",
    "paired_proportions",
    "paired_scores",
    "per_class",
    "predictive_values",
    "promise",
    "reliability",
    "wilson",
]
