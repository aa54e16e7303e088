"""Performance per resource unit (Selvan et al. 2024): pure functions of columns.

`scores` the definitions.
"""
from effml.pepr.scores import NORMALIZATIONS, Best, best_pepr, by_maximum, by_range, normalize, pareto_front, pepr_curve, pepr_score

__all__ = ["NORMALIZATIONS", "Best", "best_pepr", "by_maximum", "by_range", "normalize", "pareto_front", "pepr_curve", "pepr_score"]
