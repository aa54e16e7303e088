"""Performance per resource unit (Selvan et al. 2024): pure functions of columns.

`scores` the definitions · `published` what the authors drew and printed, from their tables · `regions` the same for Fig 1 ·
`repair` their tables put right · `audit` each defect, found by a check on the tables alone · `conclusions` what survives ·
`phantom` tables for a machine without theirs, and their defects put in on purpose.

Tables are a dict of DataFrames under the names of the authors' files, as `effml.data.published_tables()` gives them.
"""

from effml.pepr.audit import CHECKS, audit, summary
from effml.pepr.conclusions import (
    conclusions,
    constant_predictor,
    majority_rate,
    rank_intervals,
    rank_stability,
)
from effml.pepr.phantom import DEFECTS, phantom_tables
from effml.pepr.published import (
    COSTS,
    FULL,
    SMALL_BELOW,
    as_corrected,
    as_published,
    epoch_points,
    printed_table,
    three_set_mean,
)
from effml.pepr.regions import per_million, repair_regions
from effml.pepr.repair import repair
from effml.pepr.scores import (
    NORMALIZATIONS,
    Best,
    best_pepr,
    by_maximum,
    by_range,
    normalize,
    pareto_front,
    pepr_curve,
    pepr_score,
)

__all__ = [
    "CHECKS",
    "COSTS",
    "DEFECTS",
    "FULL",
    "NORMALIZATIONS",
    "SMALL_BELOW",
    "Best",
    "as_corrected",
    "as_published",
    "audit",
    "best_pepr",
    "by_maximum",
    "by_range",
    "conclusions",
    "constant_predictor",
    "epoch_points",
    "majority_rate",
    "normalize",
    "pareto_front",
    "pepr_curve",
    "pepr_score",
    "per_million",
    "phantom_tables",
    "printed_table",
    "rank_intervals",
    "rank_stability",
    "repair",
    "repair_regions",
    "summary",
    "three_set_mean",
]
