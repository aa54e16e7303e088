"""Probabilities or masks in, clinical metrics with 95 % intervals out: fractions in [0, 1]; NaN is
undefined, and notes say why. The menu is below; `compare_predictions` puts the tests of two models
in one sheet, and `checks` looks at the input of all."""
# ruff: noqa: F401 (what the room offers)

from effml.evaluation.auroc import Difference, auroc_interval, paired_auroc
from effml.evaluation.breakdown import by_group, per_class
from effml.evaluation.calibration import (
    average_precision,
    ece,
    fit_temperature,
    reliability,
    with_temperature,
)
from effml.evaluation.checks import TASKS
from effml.evaluation.comparing import compare_predictions
from effml.evaluation.intervals import paired_bootstrap, wilson
from effml.evaluation.masks import MaskScores, evaluate_masks
from effml.evaluation.operating_points import (
    AIMS,
    OperatingPoint,
    achieved,
    operating_point,
    promise,
)
from effml.evaluation.overlap import dice_of_each
from effml.evaluation.paired import (
    McNemar,
    mcnemar,
    non_inferiority,
    paired_proportions,
    paired_scores,
)
from effml.evaluation.predictive import predictive_values
from effml.evaluation.scores import Scores, evaluate
