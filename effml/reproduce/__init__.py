"""`make reproduce`: run the notebooks of a profile, skip what is up to date, and sum up."""

from effml.reproduce.collection import reproduce
from effml.reproduce.plan import PROFILES, declared_parameters, make_plan, passport
from effml.reproduce.rewrite import rewrite_notebooks, rewrite_smoke_reference

__all__ = [
    "PROFILES",
    "declared_parameters",
    "make_plan",
    "passport",
    "reproduce",
    "rewrite_notebooks",
    "rewrite_smoke_reference",
]
