"""Many recipes, each in a fresh process, here or on a cluster."""

from effml.sweeping.executors import warm_up
from effml.sweeping.plan import forecast, grid, pending, sweep

__all__ = ["forecast", "grid", "pending", "sweep", "warm_up"]
