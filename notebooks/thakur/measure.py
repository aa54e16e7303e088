"""What the committed tables of notebooks 65 and 66 are made by: `python -m thakur.measure`, in
notebooks/. Trains, runs the grid and measures; most of an hour on two
cores that do nothing else."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch

import effml
from effml.data import normalize
from effml.deployment.int8 import MOST
from effml.evaluation import auroc_interval, dice_of_each, paired_bootstrap
from effml.results import ASKED, copy_records
from effml.training import probabilities_of
from thakur.recipes import MODES, PLAIN, UNSEEN, WORKLOADS, grid, trained

REFERENCE = "eager"
"""The mode that the others are compared with: the trained model itself in float32."""


def main(store: str, built: str, out: str) -> None:
    """Do what the store and the folder of built models lack, then write the tables."""
    Path(out).mkdir(parents=True, exist_ok=True)
    runs = [effml.sweep(trained(), store, keep_weights=True), effml.sweep(grid().values(), store)]
    build(store, Path(built))
    save(latencies(Path(built), store), Path(out) / "grid-65-latency.csv")
    save(utilities(store), Path(out) / "grid-65-utility.csv")
    save(unseen(Path(built), store), Path(out) / "grid-66-unseen.csv")
    copy_records(pandas.concat(runs).run_id, store, Path(built))
    (Path(built) / ASKED).replace(Path(out) / "runs-grid-65.jsonl")


def save(table: pandas.DataFrame, file: Path) -> None:
    table.to_csv(file, index=False, float_format="%.6g")


def utilities(store: str) -> pandas.DataFrame:
    """By workload and mode: AUROC or mean Dice of the test images, and what is lost against the
    trained model on the same images, with 95 % intervals by a bootstrap over patients (of patches:
    over photographs); whether `effml.Gate` passes, and why."""
    recipes = grid()
    runs = effml.sweep(recipes.values(), store)
    arrays = {pair: effml.load_arrays(store, run) for pair, run in zip(recipes, runs.run_id)}
    rows = []
    for workload in WORKLOADS:
        model, test = _data(workload, store)
        for mode in MODES:
            if (workload, mode) in arrays:
                both = (arrays[workload, one]["test_probabilities"] for one in (REFERENCE, mode))
                row = {"workload": workload, "mode": mode}
                rows.append(row | _compared(*both, model, test))
    return pandas.DataFrame(rows)


def _data(workload: str, store: str) -> tuple[Any, Any]:
    """The trained model and the test split."""
    of = WORKLOADS[workload]
    return effml.load_run(of.id, store), effml.load_dataset(of.data, size=of.size).test


def _compared(p: np.ndarray, q: np.ndarray, model: Any, test: Any) -> dict[str, Any]:
    masks = model.task == "segmentation"
    truth = (test.masks if masks else test.labels).numpy()
    groups = test.groups
    how = {"groups": groups} if masks else {"thresholds": {"youden": model.thresholds["youden"]}}
    verdict = effml.Gate().check(p, q, truth, task=model.task, positive=model.positive, **how)
    found = {row.measure: row for row in verdict.rows}
    same = found["agreement" if masks else "agreement at youden"]
    worst = found["dice of the worst tenth" if masks else "recall of the worst class"]
    groups = np.arange(len(p)) if groups is None else np.asarray(groups)
    a, b = (dice_of_each(x >= 0.5, truth == 1) if masks else x[:, model.positive] for x in (p, q))
    true = None if masks else truth == model.positive

    def measure(values: np.ndarray, rows: np.ndarray) -> float:
        return values.mean() if masks else auroc_interval(values, true[rows])[0]

    return {
        **_paired(measure, a, b, groups),
        "patients": len(np.unique(groups)),
        "agreement": same.value,
        "worst_reference": worst.reference,
        "worst": worst.value,
        "passed": verdict.passed,
        "reason": verdict.reason,
    }


def _paired(
    measure: Callable[..., float], p: np.ndarray, q: np.ndarray, groups: np.ndarray
) -> dict[str, float]:
    """`measure(values, rows)` of both, and what q loses, with 95 % intervals over groups."""
    members = [np.flatnonzero(groups == one) for one in np.unique(groups)]

    def both(drawn: np.ndarray) -> np.ndarray:
        rows = np.concatenate([members[i] for i in drawn])
        before, after = measure(p[rows], rows), measure(q[rows], rows)
        return np.array([before, after, before - after])

    names = ["reference", "value", "loss"]
    found = paired_bootstrap(both, np.arange(len(members)))
    ends = zip(("", "_low", "_high"), found)
    return {name + end: x for end, of in ends for name, x in zip(names, of)}


def build(store: str, folder: Path) -> None:
    """The models in all modes, as folders that `effml.load_predictor` reads. Where a mode trains
    again, so does this, without the two epochs before: a CPU takes as long for any weights."""
    for (workload, mode), recipe in grid().items():
        if (into := folder / workload / mode).exists():
            continue
        data = effml.load_dataset(recipe.data, size=recipe.size)
        order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
        seen = normalize(data.train.images[order[:MOST]])  # as a run has them
        tuned = recipe.but(precision=effml.native_precision())  # what auto is in a run
        how = {"threads": 1, "fine_tune": partial(effml.train, data=data, recipe=tuned)}
        model = effml.load_run(recipe.weights, store).model
        effml.build_predictor(model, mode, seen[:1], seen, **how).save(into)


def latencies(folder: Path, store: str) -> pandas.DataFrame:
    """At batch 1 with one and two threads: the modes of a workload by turns, in processes of their
    own. Two threads help only where two cores are free."""
    rows = []
    for workload, of in WORKLOADS.items():
        images = effml.load_dataset(of.data, size=of.size).test.images
        modes = [mode for name, mode in grid() if name == workload]
        for threads in (1, 2):
            folders = [folder / workload / mode for mode in modes]
            how = {"threads": threads, "warmup": 0.3, "seconds": 1.0}
            told = effml.measure_latency(folders, images, **how)
            rows += [{"workload": workload, "mode": one.runtime, **asdict(one)} for one in told]
    return pandas.DataFrame(rows).drop(columns=["runtime", "build_seconds"])


def unseen(folder: Path, store: str) -> pandas.DataFrame:
    """Dice of the ulcers of UNSEEN, by mode."""
    of = WORKLOADS["RGB, ulcer"]
    test, rows = effml.load_dataset(UNSEEN, size=of.size).test, []
    for mode in PLAIN:
        predictor = effml.load_predictor(folder / "RGB, ulcer" / mode)
        logits = torch.from_numpy(predictor(normalize(test.images).numpy()))
        p = probabilities_of(logits, test.images, "segmentation")
        found = effml.evaluate_masks(p, test.masks.numpy(), groups=test.groups)
        rows.append({"mode": mode, **asdict(found)})
    return pandas.DataFrame(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
