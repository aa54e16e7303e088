"""Many recipes, each in a fresh process, here or on a cluster."""

import sys
from types import ModuleType

from effml.sweep.executors import warm_up
from effml.sweep.plan import grid, pending, sweep

__all__ = ["grid", "pending", "sweep", "warm_up"]


class _Room(ModuleType):
    """The room is named like its verb, so `effml.sweep(…)` works whichever of the two was imported last."""

    __call__ = staticmethod(sweep)


sys.modules[__name__].__class__ = _Room
