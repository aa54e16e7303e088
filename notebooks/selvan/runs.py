"""The grid of Selvan et al. 2023, models × settings × seeds: its recipes and its records."""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import pandas

import effml
from effml import Recipe
from effml.machine import ROOT, choose
from effml.results import MACHINE
from effml.settings import PROTOCOL

NAMES = {
    "baseline": "Baseline",
    "amp": "AMP",
    "8bit": "8-bit",
    "8bit_half": "8-bit + half",
    "amp_8bit": "AMP + 8-bit",
}
"""The paper's five settings, in the order of its tables."""

ALIKE = ["data_sha256", "weights_sha256", *MACHINE]
"""In what runs of one table must agree."""

SEEDS = (1, 10, 100)

AMP_SEEDS = (201, 202, 203, 204)
"""Of ResNet with and without AMP: as many as a pilot with SEEDS asked for (notebook 60)."""

STATEMENT_SEEDS = tuple(range(301, 311))
"""Of the statements of the paper that three seeds could not judge: at least as many as a pilot with
SEEDS asked for (notebook 60)."""

PROTOCOLS: dict[str, dict[str, Any]] = {
    "small": {"size": 32, "batch_size": 32, "epochs": 5, "learning_rate": 3e-4},
    "gpu": {"size": 64, **PROTOCOL, "learning_rate": 3e-4},
    "paper": {"size": 256, "weights": "imagenet", **PROTOCOL},
}
"""How all are trained: as the reference was, in minutes on two cores; by `python -m tests.gpu`, as
in the paper but for small images and random first weights; or as in the paper."""

OF_MODEL: dict[str, dict[str, dict[str, Any]]] = {
    "small": {
        "MLP": {"learning_rate": 1e-3},
        "DenseNet": {"epochs": 3},
        "Swin": {"epochs": 3},
        "EfficientNet": {"epochs": 3},
    },
    "gpu": {"MLP": {"learning_rate": 1e-3}},
    "paper": {},
}
"""What a model has of its own: the slow ones trained for fewer epochs."""

DEVICES = {"small": "cpu", "gpu": "cuda", "paper": "cuda"}

SMALL = {
    "DenseNet": "densenet121",
    "ViT": "vit_tiny_patch16_224",
    "Swin": "swin_tiny_patch4_window7_224",
    "MLP": "mlp",
    "EfficientNet": "efficientnet_b0",
}

MODELS: dict[str, dict[str, str]] = {
    "small": SMALL | {"ResNet": "resnet18"},
    "gpu": SMALL,
    "paper": {
        "DenseNet": "densenet121",
        "ViT": "vit_base_patch32_plus_256",
        "Swin": "swinv2_base_window8_256",
        "MLP": "mlp",
        "EfficientNet": "efficientnet_b0",
    },
}
"""Which network stands for a name of the paper. It does not say which EfficientNet it took."""


def grid(
    models: Iterable[str],
    settings: Iterable[str] = tuple(NAMES),
    *,
    seeds: Iterable[int] = SEEDS,
    protocol: str = "small",
    device: str = "",
    data: str = "lidc_nodules_64",
    **fields: Any,
) -> list[Recipe]:
    """The recipes of a part of the grid, for `effml.sweep`: each model in each setting with each
    seed.

    Args:
        models: names of MODELS, such as "MLP".
        settings: names of NAMES, such as "8bit_half".
        seeds: one run for each.
        protocol: small; paper: 50 epochs at 256 px from ImageNet weights on a CUDA device; gpu: the
            same at 64 px from random weights.
        device: whose low precision the settings take, cpu or cuda; by default the protocol's.
        data: a data set, or the folder that `effml.import_folder` wrote, of RSNA say.
        fields: other fields of the recipes, such as `size=64`.
    """
    models, settings, seeds = list(models), list(settings), list(seeds)
    known = MODELS[choose("protocol", protocol, MODELS)]
    recipes = []
    for model in models:
        own = OF_MODEL[protocol].get(model, {})
        of = Recipe(data=data, model=known[choose("model", model, known)])
        of = of.but(**PROTOCOLS[protocol] | own | fields)
        for one in settings:
            of_setting = of.but(**effml.setting(one, device or DEVICES[protocol]))
            recipes += [of_setting.but(seed=seed) for seed in seeds]
    return recipes


def grid_runs(
    store: str | os.PathLike,
    models: Iterable[str],
    settings: Iterable[str] = tuple(NAMES),
    **how: Any,
) -> pandas.DataFrame:
    """The records of a part of the grid, in the order of `grid`: for each model your own where the
    store has all of them, from one machine and the same images, else the reference's. A model of
    which neither has all is left out; `.attrs["lacking"]` names these.

    Beside the columns of `effml.load_runs` it has `net` and `arm` (the names for people), `whose`,
    `peak_mb`, `state_mb`, `best_s` and `best_j`: the seconds and the joules of training up to the
    best epoch. `how` is what `grid` takes; its protocol may be a ladder, "paper|small": the first
    that has a model. Raises FileNotFoundError where none has one, with the call that makes it.
    """
    settings, models, parts = list(settings), list(models), []
    tables = {"yours": effml.load_runs(store)}
    tables["reference"] = effml.load_runs(ROOT / "results" / "reference")
    for protocol in how.pop("protocol", "small").split("|"):
        if not parts:
            arms = {model: _arms(model, settings, protocol=protocol, **how) for model in models}
            found = {model: _of_model(tables, model, of) for model, of in arms.items()}
            parts = [part for part in found.values() if part is not None]
            lacking = [model for model, part in found.items() if part is None]
    if not parts:
        raise FileNotFoundError(
            f"Neither {store} nor results/reference has all {len(arms[models[0]])} runs of "
            f"{models[0]}, of one machine. effml.sweep(selvan.grid({models}, …), store) makes them."
        )
    runs = pandas.concat(parts, ignore_index=True)
    best = runs.best_epoch / runs.epochs_run
    peak, state = runs.train_peak_memory_bytes / 1e6, runs.optimizer_state_bytes / 1e6
    runs = runs.assign(best_s=runs.train_seconds * best, best_j=runs.train_energy_j * best)
    runs = runs.assign(peak_mb=peak, state_mb=state)
    runs.attrs["lacking"] = lacking
    return runs


def _arms(model: str, settings: Sequence[str], **how: Any) -> dict[str, str]:
    """For each recipe's id the name of its setting."""
    return {recipe.id: NAMES[one] for one in settings for recipe in grid([model], [one], **how)}


def _of_model(
    tables: dict[str, pandas.DataFrame], model: str, arms: dict[str, str]
) -> pandas.DataFrame | None:
    for whose, table in tables.items():
        rows = table[(table.status == "ok") & (table.numerics == effml.NUMERICS)]
        rows = rows[rows.recipe_id.isin(arms)]
        for _, alike in rows.groupby(ALIKE, dropna=False, sort=False):
            if set(arms) <= set(alike.recipe_id):
                alike = alike.set_index("recipe_id").loc[list(arms)].reset_index()
                return alike.assign(net=model, arm=list(arms.values()), whose=whose)
    return None


def paired_by_model(
    runs: pandas.DataFrame, column: str, *, reference: str = "Baseline"
) -> pandas.DataFrame:
    """`effml.paired_differences` of the settings, by seed, for each model by itself: the intervals
    of one model hold together (Bonferroni over its settings)."""
    how = {"arm": "arm", "reference": reference, "within": ["net"]}
    by_net = runs.groupby("net", sort=False)
    return pandas.concat([effml.paired_differences(of, column, **how) for _, of in by_net])
