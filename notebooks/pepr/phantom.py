"""Tables like the authors', drawn from a seed, for machines without theirs: the same names and
columns, no defect in them.

`DEFECTS` puts in what is wrong with the published ones, one kind at a time. Nothing here is
measured; the names are made up.
"""

from collections.abc import Collection

import numpy as np
import pandas

from effml.pepr import normalize, pepr_score
from pepr.published import (
    ACCURACIES,
    COSTS,
    FULL,
    RUNS,
    Tables,
    as_corrected,
    as_published,
    right_row,
)
from pepr.repair import MEASURED, grid

_VARIANTS = {
    "derma": 1.0,
    "derma_pt": 1.0,
    "derma_small": 0.25,
    "derma_smallest": 0.15,
    "lidc": 1.3,
    "lidc_small": 0.35,
    "pneumonia": 0.62,
    "pneumonia_small": 0.12,
}  # relative length of an epoch
_LEVEL = {"derma": 0.80, "lidc": 0.64, "pneumonia": 0.90}
_MAJORITY = {"derma": 1328, "lidc": 1573, "pneumonia": 381}


def phantom_tables(
    *, models: int = 24, seed: int = 0, defects: Collection[str] = ()
) -> dict[str, pandas.DataFrame]:
    """Tables of `models` made-up models (at least 12) in the authors' eight variants, with
    `defects`, names in `DEFECTS`.

    Small models get less energy, time and memory and the same accuracy; the energy of every row is
    550 to 600 W × time. Raises ValueError for fewer than 12 models and an unknown defect.
    """
    if models < 12:
        raise ValueError(f"models={models} are too few to rank. Give 12 or more.")
    rng = np.random.default_rng(seed)
    names = _names(models, rng)
    runs = _runs(names, rng)
    results, imagenet = _imagenet(names, runs, rng)
    tables = {
        "all_results": runs.iloc[:, :25].copy(),
        RUNS: runs,
        "full_data_pepr_imagenet": imagenet,
        "model_names": names,
        "results-imagenet": results,
        "regions_papers_data_2013": _regions(rng, 1),
        "regions_papers_data_2023": _regions(rng, 2),
    }
    tables["points"], tables["table1"] = as_corrected(tables), _table1(runs)
    if unknown := [defect for defect in defects if defect not in DEFECTS]:
        raise ValueError(f"Unknown defect {unknown[0]!r}. Choose from: {', '.join(DEFECTS)}")
    for defect in defects:
        tables = DEFECTS[defect](tables)
    return tables


def _names(models: int, rng: np.random.Generator) -> pandas.DataFrame:
    """In the order of their size, as the authors' list; three of them under timm's old names."""
    name = rng.permutation(
        [f"gluon_net{i:02}_v1b" if i % 8 == 5 else f"net{i:02}" for i in range(models)]
    )
    return pandas.DataFrame(
        {
            "model": name,
            "num_param": np.geomspace(1.1e6, 130e6, models).astype(int),
            "type": np.where(rng.random(models) < 0.6, "CNN", "Other"),
            "efficient": (rng.random(models) < 0.3).astype(int),
            "link": "made up",
        }
    )


def _runs(names: pandas.DataFrame, rng: np.random.Generator) -> pandas.DataFrame:
    n, parts = len(names), []
    size, watts = np.log10(names.num_param / 1e6).to_numpy(), rng.normal(577, 6, n)
    seconds = 8 * 10 ** (0.45 * size + rng.normal(0, 0.15, n))
    memory = 1.5 * 10 ** (0.4 * size + rng.normal(0, 0.12, n))
    for variant, length in _VARIANTS.items():
        base = variant.partition("_")[0]
        images = int(grid(pandas.Series([variant])).iloc[0])
        level = _LEVEL[base] - (0.06 if "_small" in variant or variant == "derma" else 0)
        accuracy = (
            level
            + rng.normal(0, 0.02, (n, 1))
            + np.linspace(-0.05, 0, 10)
            + rng.normal(0, 0.008, (n, 10))
        )
        hits = np.round(accuracy * images)
        if "_small" in variant:
            hits[rng.random(n) < 0.25] = _MAJORITY[
                base
            ]  # a training that found nothing: one class for all
        time = seconds * length * rng.normal(1, 0.01, n)
        energy = 10 * time * watts * rng.normal(1, 0.005, n) / 3.6e6
        part = {
            "model": names.model,
            "num_param": names.num_param,
            "memT": 25.4,
            "memR": memory * rng.normal(1, 0.01, n),
            "memA": memory * 0.1,
            "memM": memory * 0.9,
            "energy": energy,
            "co2": energy * 69.0,
            "train_time": time,
            "infer_time": 0,
            "inf_time": time * 0.08,
            "tr_acc": np.clip(accuracy[:, -1] + 0.08, 0, 1),
            **{name: hits[:, i] / images for i, name in enumerate(ACCURACIES)},
            "type": names.type,
            "efficient": names.efficient,
            "dataset": variant,
        }
        parts.append(pandas.DataFrame(part))
    runs = pandas.concat(parts, ignore_index=True)
    return scored(runs.assign(cnn=runs.type == "CNN"))


def scored(runs: pandas.DataFrame) -> pandas.DataFrame:
    """The rows with scores and normalised costs computed from their other columns."""
    runs = runs.copy()
    for score, cost in COSTS.items():
        runs[f"{score[-1].upper()}_n"] = runs.groupby("dataset")[cost].transform(normalize)
        runs[score] = pepr_score(runs.test_09, runs[f"{score[-1].upper()}_n"], normalized=True)
    return runs


def _imagenet(
    names: pandas.DataFrame, runs: pandas.DataFrame, rng: np.random.Generator
) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """timm's table, best first, with rows whose names contain others', and the authors' table of
    it."""
    rows = []
    for i, name in enumerate(names.model):
        top1 = float(np.round(76 + 2 * np.log10(names.num_param[i] / 1e6) + rng.normal(0, 2), 3))
        own = (
            name.removeprefix("gluon_").removesuffix("_v1b") + ".gluon_in1k"
            if name.startswith("gluon_")
            else f"{name}.a1_in1k"
        )
        rows += [(own, top1)] + ([(f"{name}b.a1_in1k", top1 + 1.5)] if i % 4 == 0 else [])
    results = pandas.DataFrame(rows, columns=["model", "top1"]).sort_values(
        "top1", ascending=False, ignore_index=True
    )
    results = results.assign(img_size=224, top5=100 - (100 - results.top1) / 4)
    table = runs[runs.dataset == "derma_pt"].reset_index(drop=True)
    table = table[["model", "num_param", "memT", "memR", "memA", "efficient", "type", "cnn", "M_n"]]
    table = table.join(right_row(table.model, results)[["top1", "top5"]])
    return results, table.assign(pepr_m=pepr_score(table.top1 / 100, table.M_n, normalized=True))


def _regions(rng: np.random.Generator, factor: int) -> pandas.DataFrame:
    region = [f"Region {i // 3 + 1}" for i in range(36)]
    return pandas.DataFrame(
        {
            "name": [f"Country {i + 1}" for i in range(36)],
            "num_papers": rng.integers(10, 5000, 36) * factor,
            "Region": region,
            "pop": rng.integers(10**6, 10**8, 36),
            "Region_updated": region,
        }
    )


def _table1(runs: pandas.DataFrame) -> pandas.DataFrame:
    """The five best of four variants by PePR-E, and the best by accuracy."""
    parts = []
    for variant in ("derma", *FULL.values()):
        rows = runs[runs.dataset == variant]
        best = rows.nlargest(5, "pepr_e")
        top = rows[~rows.model.isin(best.model)].nlargest(1, "test_09")
        parts.append(pandas.concat([best, top]).assign(best_performance=[0] * 5 + [1]))
    rows = pandas.concat(parts, ignore_index=True)
    return pandas.DataFrame(
        {
            "experiment": rows.dataset,
            "dataset": rows.dataset,
            "model": rows.model,
            "best_performance": rows.best_performance,
            "params_m": rows.num_param / 1e6,
            "memory_gb": rows.memR,
            "energy_wh": rows.energy * 1000,
            "seconds": rows.train_time * 10,
            "performance": rows.test_09,
            "pepr_e": rows.pepr_e,
        }
    )


def _rows(
    tables: Tables, variant: str, column: str = "energy"
) -> tuple[pandas.DataFrame, pandas.Index]:
    """A copy of the runs, and the index of a variant's rows, in the order of the models, which were
    measured."""
    runs = tables[RUNS].copy()
    rows = runs[(runs.dataset == variant) & runs[column].notna() & runs.model.isin(_whole(runs))]
    return runs, rows.sort_values("model").index


def _whole(runs: pandas.DataFrame) -> pandas.Index:
    """Models with nothing missing."""
    return (
        runs.groupby("model").filter(lambda rows: rows[MEASURED].notna().all().all()).model.unique()
    )


def _copied_rows(tables: Tables) -> dict[str, pandas.DataFrame]:
    runs, to = _rows(tables, "derma_pt")
    _, source = _rows(tables, "lidc")
    runs.loc[to[:2], MEASURED] = runs.loc[source[:2], MEASURED].to_numpy()
    return {**tables, RUNS: scored(runs)}


def _impossible_accuracies(tables: Tables) -> dict[str, pandas.DataFrame]:
    runs, to = _rows(tables, "derma_small")
    runs.loc[to[0], "test_05"] += 0.3 / 1984
    return {**tables, RUNS: runs}


def _repeated_energies(tables: Tables) -> dict[str, pandas.DataFrame]:
    runs, to = _rows(tables, "derma")
    _, source = _rows(tables, "derma_pt")
    runs.loc[to[3], ["energy", "co2"]] = runs.loc[source[3], ["energy", "co2"]].to_numpy()
    return {**tables, RUNS: scored(runs)}


def _implied_watts(tables: Tables) -> dict[str, pandas.DataFrame]:
    runs, to = _rows(tables, "pneumonia")
    runs.loc[to[2:6], ["energy", "co2"]] *= 1.64
    return {**tables, RUNS: scored(runs)}


def _carbon_intensity(tables: Tables) -> dict[str, pandas.DataFrame]:
    runs, to = _rows(tables, "lidc")
    runs.loc[to, "co2"] *= np.linspace(0.6, 1.4, len(to))
    return {**tables, RUNS: scored(runs)}


def _stored_scores(tables: Tables) -> dict[str, pandas.DataFrame]:
    runs, to = _rows(tables, "lidc")
    runs.loc[to[0], "pepr_t"] += 0.01
    return {**tables, RUNS: runs}


def _imagenet_names(tables: Tables) -> dict[str, pandas.DataFrame]:
    """The accuracy of the first row whose name contains the model's, as in the authors' code."""
    table, results = tables["full_data_pepr_imagenet"].copy(), tables["results-imagenet"]
    for at, name in table.model.items():
        hit = results[results.model.str.contains(name, regex=False)]
        table.loc[at, "top1"] = hit.top1.iloc[0] if len(hit) else table.top1[at]
    return {
        **tables,
        "full_data_pepr_imagenet": table.assign(pepr_m=table.top1 / 100 / (1 + table.M_n)),
    }


def _imagenet_zeros(tables: Tables) -> dict[str, pandas.DataFrame]:
    table = tables["full_data_pepr_imagenet"].copy()
    table.loc[table.model.str.startswith("gluon_"), ["top1", "top5", "pepr_m"]] = 0
    return {**tables, "full_data_pepr_imagenet": table}


def _eight_variant_mean(tables: Tables) -> dict[str, pandas.DataFrame]:
    return {
        **tables,
        "points": as_published(tables).assign(marker=tables["points"].marker.to_numpy()),
    }


def _markers_by_position(tables: Tables) -> dict[str, pandas.DataFrame]:
    return {
        **tables,
        "points": tables["points"].assign(marker=as_published(tables).marker.to_numpy()),
    }


def _table1_normalization(tables: Tables) -> dict[str, pandas.DataFrame]:
    table = tables["table1"]
    largest = table.dataset.map(tables[RUNS].groupby("dataset").energy.max() * 1000)
    return {
        **tables,
        "table1": table.assign(pepr_e=table.performance / (1 + table.energy_wh / largest)),
    }


def _table1_one_epoch(tables: Tables) -> dict[str, pandas.DataFrame]:
    return {**tables, "table1": tables["table1"].assign(seconds=tables["table1"].seconds / 10)}


def _table1_slips(tables: Tables) -> dict[str, pandas.DataFrame]:
    table = tables["table1"].copy()
    table.loc[table.index[1], "energy_wh"] -= 10
    return {**tables, "table1": table}


DEFECTS = {
    "carbon intensity": _carbon_intensity,
    "copied rows": _copied_rows,
    "impossible accuracies": _impossible_accuracies,
    "repeated energies": _repeated_energies,
    "implied watts": _implied_watts,
    "stored scores": _stored_scores,
    "ImageNet names": _imagenet_names,
    "ImageNet zeros": _imagenet_zeros,
    "eight-variant mean": _eight_variant_mean,
    "markers by position": _markers_by_position,
    "Table 1 normalisation": _table1_normalization,
    "Table 1 one-epoch times": _table1_one_epoch,
    "Table 1 slips": _table1_slips,
}
"""Ways to spoil tables, each `spoil(tables) -> tables`, under the names of the checks in
`audit.CHECKS` that must find them."""
