"""effml: efficient deep learning for medical imaging where resources are scarce.

`import effml` costs milliseconds: each name below is imported from its room when it is first used,
so the rooms that need no torch (results, claims, figures) also work where torch is not installed.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_ROOMS = {
    "Recipe": "recipe",
    "Record": "recipe",
    "NUMERICS": "recipe",
    "load_dataset": "data",
    "at_hand": "data",
    "Split": "data",
    "Dataset": "data",
    "fetch": "data",
    "import_folder": "importing",
    "preprocess": "importing",
    "build_model": "models",
    "embed": "models",
    "measure": "metering",
    "co2e_g": "metering",
    "evaluate": "evaluation",
    "evaluate_masks": "evaluation",
    "operating_point": "evaluation",
    "per_class": "evaluation",
    "by_group": "evaluation",
    "non_inferiority": "evaluation",
    "compare_predictions": "evaluation",
    "achieved": "evaluation",
    "predictive_values": "evaluation",
    "fit_temperature": "evaluation",
    "with_temperature": "evaluation",
    "COMPRESSORS": "compression",
    "compress": "compression",
    "save_compressed": "compression",
    "load_compressed": "compression",
    "quantize_aware": "compression",
    "finish_quantized": "compression",
    "save_bits": "compression",
    "load_bits": "compression",
    "compare": "comparison",
    "fast_convolutions": "convolutions",
    "OPTIMIZERS": "optimizers",
    "make_optimizer": "optimizers",
    "HALF_REPAIRS": "optimizers.half",
    "repair_half": "optimizers.half",
    "round_stochastically": "optimizers.half",
    "LostUpdates": "optimizers.half",
    "SETTINGS": "settings",
    "setting": "settings",
    "PRECISIONS": "precision",
    "arithmetic": "precision",
    "train": "training",
    "predict": "training",
    "pack_activations": "training",
    "ErrorFeedback": "training",
    "recompute_blocks": "training",
    "RUNTIMES": "deployment",
    "build_predictor": "deployment",
    "load_predictor": "deployment",
    "measure_latency": "deployment",
    "SELECTORS": "selection",
    "select": "selection",
    "architectures": "zoo",
    "pepr_score": "pepr",
    "pepr_curve": "pepr",
    "best_pepr": "pepr",
    "pareto_front": "pepr",
    "load_runs": "results",
    "load_arrays": "results",
    "own_or_reference": "results",
    "native_precision": "precision",
    "run": "experiment",
    "load_run": "experiment",
    "deploy": "experiment.deploy",
    "Gate": "deployment.gate",
    "climb": "deployment.ladder",
    "grid": "sweeping",
    "forecast": "sweeping",
    "sweep": "sweeping",
    "warm_up": "sweeping",
    "advise": "advice",
    "show_source": "notebook",
    "check": "notebook",
    "data_passport": "notebook",
    "live": "notebook",
    "kept": "notebook",
    "spread": "seeds",
    "seeds_needed": "seeds",
    "paired_differences": "seeds",
    "data_label": "results",
    "over_seeds": "results",
    "report": "claims",
    "roc": "figures",
    "save_figure": "figures",
}
__all__ = sorted(_ROOMS)


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"effml has no {name!r}. Choose from: {', '.join(__all__)}")
    value = getattr(import_module(f"effml.{_ROOMS[name]}"), name)
    globals()[name] = value  # the next use costs nothing
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
