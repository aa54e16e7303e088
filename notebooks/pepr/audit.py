"""What is wrong with the published tables, each defect found by a check on the tables alone.

A check takes the tables and returns its findings, one row each: model, dataset, column, found,
expected (NaN where the tables do not say), why. No finding means that nothing is wrong.
"""

import numpy as np
import pandas

from effml.pepr import pepr_score
from pepr.published import (
    ACCURACIES,
    COSTS,
    POINTS,
    RUNS,
    Tables,
    as_corrected,
    as_published,
    plausible_watts,
    printed_table,
    right_row,
)
from pepr.repair import WATTS, copied, copied_from_elsewhere, grid, off_grid, repeated

Findings = pandas.DataFrame
COLUMNS = ["model", "dataset", "column", "found", "expected", "why"]


def audit(tables: Tables) -> Findings:
    """The findings of every check, with the check's name in the column `check`.

    Where the tables hold no `points` and `table1`, they are what the paper drew and printed. Raises
    ValueError where a table that a check needs is missing.
    """
    if missing := [
        name
        for name in (RUNS, "full_data_pepr_imagenet", "results-imagenet", "model_names")
        if name not in tables
    ]:
        raise ValueError(
            f"The table {missing[0]!r} is missing. Pass what published_tables() or repair(…) gives."
        )
    tables = {"points": as_published(tables), "table1": printed_table(), **tables}
    parts = [check(tables).assign(check=name) for name, check in CHECKS.items()]
    return pandas.concat(parts, ignore_index=True)[["check", *COLUMNS]]


def summary(findings: Findings) -> pandas.DataFrame:
    """For each check, also those without findings: findings, models and where they are."""
    rows = {}
    for name in CHECKS:
        of = findings[findings.check == name]
        counts = of.dataset.value_counts(sort=False)
        rows[name] = {
            "findings": len(of),
            "models": of.model[of.model != "all"].nunique(),
            "where": ", ".join(f"{where} {count}" for where, count in counts.items()) or "nowhere",
        }
    return pandas.DataFrame(rows).T.rename_axis("check")


def copied_rows(tables: Tables) -> Findings:
    """Rows equal to another variant of the same model in every measured column, whose accuracies
    belong to the other."""
    runs = tables[RUNS]
    rows = runs[copied_from_elsewhere(runs)]
    both = runs[copied(runs)].groupby("model").dataset.agg(set)
    why = [
        f"equals {', '.join(sorted(both[model] - {dataset}))} in every measured column"
        for model, dataset in zip(rows.model, rows.dataset)
    ]
    return _findings(rows, "all measured", rows.test_09, np.nan, why)


def impossible_accuracies(tables: Tables) -> Findings:
    """Accuracies that are no multiple of one over the test images counted: 1984, 3008 or 608."""
    runs = tables[RUNS]
    row, epoch = np.nonzero(off_grid(runs).to_numpy())
    rows = runs.iloc[row]
    return _findings(
        rows,
        np.array(ACCURACIES)[epoch],
        runs[ACCURACIES].to_numpy()[row, epoch],
        np.nan,
        [f"is no multiple of 1/{images}" for images in grid(rows.dataset)],
    )


def repeated_energies(tables: Tables) -> Findings:
    """Energies equal to those of another variant of the same model in every digit."""
    runs = tables[RUNS]
    rows = runs[repeated(runs)]
    group = rows.groupby(["model", "energy"]).dataset.transform(
        lambda names: ", ".join(sorted(names))
    )
    return _findings(
        rows, "energy", rows.energy, np.nan, [f"the same in {names}" for names in group]
    )


def implied_watts(tables: Tables) -> Findings:
    """Energies that, over ten epochs of the time stated, mean a power outside 450 to 650 W."""
    runs = tables[RUNS]
    watts = plausible_watts(runs)
    out = watts.notna() & ~watts.between(*WATTS)
    return _findings(
        runs[out], "energy", runs.energy[out], np.nan, [f"implies {w:.0f} W" for w in watts[out]]
    )


def carbon_intensity(tables: Tables) -> Findings:
    """Variants in which a kWh of one model made more CO2e than a kWh of another: one finding each,
    g/kWh."""
    runs = tables[RUNS]
    range_ = (runs.co2 / runs.energy).groupby(runs.dataset).agg(["min", "max"])
    range_ = range_[range_["max"] > 1.02 * range_["min"]]
    table = pandas.DataFrame({"model": "all", "dataset": range_.index})
    return _findings(
        table,
        "co2 / energy",
        range_["max"].to_numpy(),
        range_["min"].to_numpy(),
        "differs from model to model",
    )


def stored_scores(tables: Tables) -> Findings:
    """Stored scores that do not follow from the columns beside them (R from the least to the
    largest cost of the variant)."""
    runs, parts = tables[RUNS], []
    for score, cost in COSTS.items():
        right = pandas.concat(
            [pepr_score(rows.test_09, rows[cost]) for _, rows in runs.groupby("dataset")]
        ).reindex(runs.index)
        wrong = (runs[score] - right).abs() > 1e-9
        parts.append(
            _findings(
                runs[wrong],
                score,
                runs[score][wrong],
                right[wrong],
                "does not follow from its columns",
            )
        )
    return pandas.concat(parts, ignore_index=True)


def imagenet_names(tables: Tables) -> Findings:
    """Top-1 accuracies that are those of another model, whose name contains this model's."""
    table = tables["full_data_pepr_imagenet"]
    right = right_row(table.model, tables["results-imagenet"])
    wrong = (table.top1 > 0) & ((table.top1 - right.top1).abs() > 1e-9)
    return _findings(
        table[wrong].assign(dataset="imagenet"),
        "top1",
        table.top1[wrong],
        right.top1[wrong],
        [f"is not the accuracy of {row}" for row in right.row[wrong]],
    )


def imagenet_zeros(tables: Tables) -> Findings:
    """Models that got a top-1 accuracy of 0 because their name is not in timm's table."""
    table = tables["full_data_pepr_imagenet"]
    right, zero = right_row(table.model, tables["results-imagenet"]), table.top1 == 0
    why = [
        f"timm calls it {row}" if isinstance(row, str) else "has no row in timm's table"
        for row in right.row[zero]
    ]
    return _findings(
        table[zero].assign(dataset="imagenet"), "top1", table.top1[zero], right.top1[zero], why
    )


def eight_variant_mean(tables: Tables) -> Findings:
    """Plotted values (Figs 3c, 3d, A.2) that are no mean over the three data sets: one finding per
    column, the worst model's."""
    drawn, right = (
        table.set_index("model")[POINTS] for table in (tables["points"], as_corrected(tables))
    )
    off = (drawn - right).abs()
    worst = off.idxmax()[off.max() > 1e-9]
    table = pandas.DataFrame({"model": worst.to_numpy(), "dataset": "points"})
    return _findings(
        table,
        worst.index.to_numpy(),
        [drawn.loc[m, c] for c, m in worst.items()],
        [right.loc[m, c] for c, m in worst.items()],
        "is the mean over all variants",
    )


def markers_by_position(tables: Tables) -> Findings:
    """Plotted markers (efficient or not) that are not the model's own."""
    points = tables["points"].merge(
        tables["model_names"][["model", "efficient"]], on="model", validate="one_to_one"
    )
    wrong = points[points.marker != points.efficient].assign(dataset="points")
    return _findings(wrong, "marker", wrong.marker, wrong.efficient, "was joined by position")


def table1_normalization(tables: Tables) -> Findings:
    """PePR-E in Table 1 that is not that of the text (min-max), and what E / E_max would give."""
    table, runs = table1_rows(tables), _beside(tables)[1]
    wrong = (table.pepr_e - runs.pepr_e).abs() > 1e-4
    return _findings(
        table[wrong],
        "pepr_e",
        table.pepr_e[wrong],
        runs.pepr_e[wrong],
        [f"E / E_max gives {score:.4f}" for score in table.by_maximum[wrong]],
    )


def table1_one_epoch(tables: Tables) -> Findings:
    """Times in Table 1 that, with the energy beside them, mean more than 1 kW: they are those of
    one epoch, not of ten."""
    table, runs = _beside(tables)
    watts = table.energy_wh * 3600 / table.seconds
    wrong = watts > 1000
    return _findings(
        table[wrong],
        "seconds",
        table.seconds[wrong],
        10 * runs.train_time[wrong],
        [f"implies {w:.0f} W" for w in watts[wrong]],
    )


def table1_slips(tables: Tables) -> Findings:
    """Other numbers in Table 1 that differ from the tables by more than a slip of rounding (1.5
    units of their last digit)."""
    table, runs = _beside(tables)
    parts = []
    for column, right, unit in (
        ("performance", runs.test_09, 1e-4),
        ("energy_wh", runs.energy * 1000, 0.1),
        ("memory_gb", runs.memR, 0.1),
        ("params_m", runs.num_param / 1e6, 0.1),
    ):
        wrong = (table[column] - right).abs() > 1.5 * unit
        parts.append(
            _findings(
                table[wrong],
                column,
                table[column][wrong],
                right[wrong],
                "is not the value of the table",
            )
        )
    return pandas.concat(parts, ignore_index=True)


def table1_rows(tables: Tables) -> pandas.DataFrame:
    """Table 1 (that of the tables, else the printed one) with PePR-E recomputed from the runs:
    `by_range` as the text says it, `by_maximum` with E / E_max."""
    table, runs = _beside({"table1": printed_table(), **tables})
    largest = table.dataset.map(tables[RUNS].groupby("dataset").energy.max())
    return table.assign(by_range=runs.pepr_e, by_maximum=runs.test_09 / (1 + runs.energy / largest))


def _beside(tables: Tables) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Table 1 and, row by row, the runs it is about."""
    table, runs = tables["table1"].reset_index(drop=True), tables[RUNS]
    return table, table[["dataset", "model"]].merge(
        runs, on=["dataset", "model"], how="left", validate="one_to_one"
    )


def _findings(
    rows: pandas.DataFrame, column: object, found: object, expected: object, why: object
) -> Findings:
    columns = {
        "model": rows.model,
        "dataset": rows.dataset,
        "column": column,
        "found": found,
        "expected": expected,
        "why": why,
    }
    return pandas.DataFrame(
        {
            name: np.asarray(value, dtype=float if name in ("found", "expected") else object)
            if np.ndim(value)
            else np.full(len(rows), value)
            for name, value in columns.items()
        },
        columns=COLUMNS,
    )


CHECKS = {
    "copied rows": copied_rows,
    "impossible accuracies": impossible_accuracies,
    "repeated energies": repeated_energies,
    "implied watts": implied_watts,
    "carbon intensity": carbon_intensity,
    "stored scores": stored_scores,
    "ImageNet names": imagenet_names,
    "ImageNet zeros": imagenet_zeros,
    "eight-variant mean": eight_variant_mean,
    "markers by position": markers_by_position,
    "Table 1 normalisation": table1_normalization,
    "Table 1 one-epoch times": table1_one_epoch,
    "Table 1 slips": table1_slips,
}
