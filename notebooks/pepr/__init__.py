"""What the figure notebooks 70 to 77 share: the tables that the authors of PePR published, audited,
repaired and drawn.

`tables` finds, checks and fetches them · `published` what the authors drew and printed · `regions`
the same for Fig 1 · `repair` their tables put right · `audit` each defect, found by a check on the
tables alone · `conclusions` what survives · `phantom` tables for a machine without theirs, and
their defects put in on purpose · `drawing` what several figures share · `own` the recipes of our
own runs, `own_figures` what notebook 76 makes of their records.

Tables are a dict of DataFrames under the names of the authors' files. The scores themselves are in
`effml.pepr`.
"""

from pepr.audit import CHECKS, audit, summary
from pepr.conclusions import (
    conclusions,
    constant_predictor,
    majority_rate,
    rank_intervals,
    rank_stability,
)
from pepr.drawing import both_ways, by_size, constant_line, pepr_shading, rank_moves
from pepr.phantom import DEFECTS, phantom_tables
from pepr.published import (
    ACCURACIES,
    COSTS,
    DRAWN_OVERHEAD_WH,
    FULL,
    RUNS,
    SMALL,
    SMALL_BELOW,
    as_corrected,
    as_published,
    epoch_points,
    printed_table,
    three_set_mean,
)
from pepr.regions import per_million, repair_regions
from pepr.repair import repair
from pepr.tables import AUTHORS, kept, published_table, published_tables, tables_at_hand

__all__ = [
    "ACCURACIES",
    "AUTHORS",
    "CHECKS",
    "COSTS",
    "DEFECTS",
    "DRAWN_OVERHEAD_WH",
    "FULL",
    "RUNS",
    "SMALL",
    "SMALL_BELOW",
    "as_corrected",
    "as_published",
    "audit",
    "both_ways",
    "by_size",
    "conclusions",
    "constant_line",
    "constant_predictor",
    "epoch_points",
    "kept",
    "majority_rate",
    "pepr_shading",
    "per_million",
    "phantom_tables",
    "printed_table",
    "published_table",
    "published_tables",
    "rank_intervals",
    "rank_moves",
    "rank_stability",
    "repair",
    "repair_regions",
    "summary",
    "tables_at_hand",
    "three_set_mean",
]
