"""The authors' tables put right, as far as the tables themselves allow: what cannot be known
becomes NaN, not a guess.

One guess is made and marked: an energy which belongs to another variant is replaced by time × the
model's own power, and the column `energy_from` says so.
"""

import numpy as np
import pandas

from effml.pepr import normalize, pepr_score
from pepr.published import (
    ACCURACIES,
    COSTS,
    RUNS,
    Tables,
    as_corrected,
    plausible_watts,
    printed_table,
    right_row,
)

TEST_IMAGES = {"derma": 2005, "lidc": 3020, "pneumonia": 624}
"""Images in the test split; batches of 32, the last incomplete one dropped."""
MEASURED = [
    "memT",
    "memR",
    "memA",
    "memM",
    "energy",
    "co2",
    "train_time",
    "inf_time",
    "tr_acc",
    *ACCURACIES,
]
WATTS = (450.0, 650.0)
"""What a training can have drawn: in derma, derma_pt and lidc every row implies 555 to 600 W, for
every model."""


def repair(tables: Tables) -> dict[str, pandas.DataFrame]:
    """New tables without the defects that `audit` looks for, with two more: `points` (Figs 2c, 3c,
    3d, A.2) and `table1`.

    Rows copied from another variant and accuracies that cannot occur become NaN. Energies that
    repeat another variant's, or imply an impossible power, become time × power (`energy_from`).
    CO2e uses one carbon intensity, the mean one. ImageNet accuracies come from the model's own row,
    or are NaN. Scores are computed again. Table 1 gets min-max scores, energies and accuracies from
    the tables, and the time of ten epochs. The tables given are not changed.
    """
    runs = tables[RUNS].copy()
    runs[MEASURED] = runs[MEASURED].mask(copied_from_elsewhere(runs))
    runs[ACCURACIES] = runs[ACCURACIES].mask(off_grid(runs))
    runs["energy"], runs["energy_from"] = _energies(runs)
    runs["co2"] = runs.energy * tables[RUNS].co2.sum() / tables[RUNS].energy.sum()
    for score, cost in COSTS.items():
        by_variant = [pepr_score(rows.test_09, rows[cost]) for _, rows in runs.groupby("dataset")]
        runs[score] = pandas.concat(by_variant)
        runs[f"{score[-1].upper()}_n"] = runs.groupby("dataset")[cost].transform(normalize)
    out = {**tables, RUNS: runs}
    if "all_results" in tables:
        out["all_results"] = runs[[*tables["all_results"].columns, "energy_from"]].copy()
    if "full_data_pepr_imagenet" in tables:
        out["full_data_pepr_imagenet"] = _imagenet(out)
    if "model_names" in tables:
        out["points"] = as_corrected(out)
    out["table1"] = _table1(runs, tables.get("table1", printed_table()))
    return out


def grid(datasets: pandas.Series) -> pandas.Series:
    """How many test images were counted in each row: accuracies are multiples of one over it."""
    return datasets.str.split("_").str[0].map(TEST_IMAGES) // 32 * 32


def off_grid(runs: pandas.DataFrame) -> pandas.DataFrame:
    """Which accuracies (rows × ten epochs) are no whole number of test images."""
    hits = runs[ACCURACIES].mul(grid(runs.dataset), axis=0)
    return (hits - hits.round()).abs() > 1e-6


def copied(runs: pandas.DataFrame) -> pandas.Series:
    """Rows that equal another variant of the same model in every measured column."""
    return runs.duplicated(["model", *MEASURED], keep=False) & runs.energy.notna()


def copied_from_elsewhere(runs: pandas.DataFrame) -> pandas.Series:
    """Of copied rows those that do not belong where they stand: their accuracies cannot occur in
    this data set. Where that cannot be told, all of them."""
    alike, foreign = copied(runs), off_grid(runs).mean(axis=1) > 0.5
    settled = (alike & foreign).groupby(runs.model).transform("any")
    return alike & (foreign | ~settled)


def repeated(runs: pandas.DataFrame) -> pandas.Series:
    """Rows whose energy equals that of another variant of the same model in every digit."""
    return runs.duplicated(["model", "energy"], keep=False) & runs.energy.notna()


def _energies(runs: pandas.DataFrame) -> tuple[pandas.Series, pandas.Series]:
    """Energy (kWh) and where it comes from.

    Of rows with one energy the one whose power is nearest the model's own keeps it.
    """
    watts = plausible_watts(runs)
    possible = watts.between(*WATTS)
    typical = (
        watts.where(possible).groupby(runs.dataset).transform("median")
    )  # short epochs draw less
    share = (watts / typical).where(possible & ~runs.dataset.str.contains("_small"))
    own = share.groupby(runs.model).transform("median").fillna(1.0)
    distance = (watts / typical / own - 1).abs().where(possible, np.inf)
    nearest = distance.groupby([runs.model, runs.energy]).rank(method="first") == 1
    trusted = possible & nearest
    guess = 10 * runs.train_time * own * typical / 3.6e6
    source = pandas.Series(np.where(trusted, "published", "time × power"), runs.index).where(
        runs.energy.notna()
    )
    return runs.energy.where(trusted, guess), source


def _imagenet(tables: Tables) -> pandas.DataFrame:
    table, runs = tables["full_data_pepr_imagenet"].copy(), tables[RUNS]
    right = right_row(table.model, tables["results-imagenet"])
    table[["top1", "top5"]] = right[["top1", "top5"]]
    memory = (
        runs[runs.dataset == "derma_pt"]
        .set_index("model")
        .memR.reindex(table.model)
        .set_axis(table.index)
    )
    return table.assign(M_n=normalize(memory), pepr_m=pepr_score(table.top1 / 100, memory))


def _table1(runs: pandas.DataFrame, printed: pandas.DataFrame) -> pandas.DataFrame:
    """The same models with the values of the tables: Wh and s of ten epochs, accuracy of the last
    one, min-max PePR-E."""
    rows = printed[["dataset", "model"]].merge(
        runs, on=["dataset", "model"], how="left", validate="one_to_one"
    )
    return printed.assign(
        params_m=rows.num_param / 1e6,
        memory_gb=rows.memR,
        energy_wh=rows.energy * 1000,
        seconds=rows.train_time * 10,
        performance=rows.test_09,
        pepr_e=rows.pepr_e,
    )
