"""A finished model on this CPU: runtimes, their export and INT8, and what they take."""

from effml.deployment.latency import Latency, measure_latency
from effml.deployment.predictor import Predictor, load_predictor
from effml.deployment.runtimes import RUNTIMES, build_predictor

__all__ = [
    "RUNTIMES",
    "Latency",
    "Predictor",
    "build_predictor",
    "load_predictor",
    "measure_latency",
]
