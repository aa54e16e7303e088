"""What the authors drew and printed, made again from their tables as their code did it, and as the
text says it.

The two ways differ in three places: which variants are averaged, by what the markers are joined,
and where an ImageNet accuracy comes from.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas

Tables = Mapping[str, pandas.DataFrame]

RUNS = "full_data_pepr_dataset_level"
COSTS = {"pepr_e": "energy", "pepr_c": "co2", "pepr_m": "memR", "pepr_t": "train_time"}
"""The cost in each published score: kWh, g CO2e, GB reserved, s."""
FULL = {"Derma": "derma_pt", "LIDC": "lidc", "Pneumonia": "pneumonia"}
"""The three data sets: the variant with all training images and pretrained weights."""
SMALL = {"Derma": "derma_small", "LIDC": "lidc_small", "Pneumonia": "pneumonia_small"}
"""The same with a tenth of the training images."""
SMALL_BELOW = 24.6e6
"""Parameters below which the paper calls a model small."""
DRAWN_OVERHEAD_WH = 1.905
"""What Fig 4a leaves out of every training's energy before it divides it over the epochs, read off
its marks."""
ACCURACIES = [f"test_{epoch:02}" for epoch in range(10)]
POINTS = ["test_09", *COSTS]


def as_published(tables: Tables) -> pandas.DataFrame:
    """The points of Figs 2c, 3c, 3d and A.2 as the authors' code draws them, one row per model in
    alphabetical order: columns model, num_param, energy, test_09, pepr_e, pepr_c, pepr_m, pepr_t,
    marker (efficient or not).

    Each is the mean over all eight variants, and the marker is taken from `model_names` at the same
    *position*, where the models stand in the order of their size.
    """
    runs = tables[RUNS]
    points = runs.groupby("model")[["num_param", "energy", *POINTS]].mean().reset_index()
    return points.assign(marker=tables["model_names"].efficient.to_numpy()[: len(points)])


def as_corrected(tables: Tables) -> pandas.DataFrame:
    """The same points as the captions describe them: the mean over the three data sets, the marker
    joined by name.

    A model without a value in one of the three gets NaN: a mean over two data sets cannot be
    compared with one over three.
    """
    points = three_set_mean(tables, ["num_param", "energy", *POINTS]).reset_index()
    names = tables["model_names"][["model", "efficient"]]
    return points.merge(names, on="model", validate="one_to_one").rename(
        columns={"efficient": "marker"}
    )


def three_set_mean(
    tables: Tables, columns: list[str], variants: Mapping[str, str] = FULL
) -> pandas.DataFrame:
    """Mean of `columns` over the three data sets, indexed by model; NaN where one of the three is
    missing."""
    runs = tables[RUNS]
    runs = runs[runs.dataset.isin(variants.values())]
    mean, count = (getattr(runs.groupby("model")[columns], how)() for how in ("mean", "count"))
    return mean.where(count == len(variants))


def epoch_points(
    runs: pandas.DataFrame, *, overhead_wh: float = 0.0, best_so_far: bool = False
) -> pandas.DataFrame:
    """Every row of `runs` after each of its ten epochs (Figs 2b and 4a): model, dataset, epoch 1 to
    10, energy, performance.

    An approximation: only the energy of all ten epochs is published, so epoch k gets k tenths of it
    (kWh), less `overhead_wh` first (as in the paper's drawing: `DRAWN_OVERHEAD_WH`). `best_so_far`
    draws the running maximum, as the paper does: a choice on the test images, which no training
    could have made. What was not measured is left out.
    """
    values = runs[ACCURACIES].to_numpy(dtype=float)
    values = np.fmax.accumulate(values, axis=1) if best_so_far else values
    energy = np.outer((runs.energy - overhead_wh / 1000).clip(lower=0), np.arange(1, 11) / 10)
    points = pandas.DataFrame(
        {
            "model": runs.model.repeat(10),
            "dataset": runs.dataset.repeat(10),
            "epoch": np.tile(np.arange(1, 11), len(runs)),
            "energy": energy.ravel(),
            "performance": values.ravel(),
        }
    )
    return points.dropna().reset_index(drop=True)


def printed_table() -> pandas.DataFrame:
    """The paper's Table 1 as it is printed: 24 rows; params in millions, memory in GB, energy in
    Wh, seconds, fractions."""
    return pandas.read_csv(Path(__file__).with_name("table1.csv"))


def right_row(models: pandas.Series, results: pandas.DataFrame) -> pandas.DataFrame:
    """For each model the row of timm's ImageNet table that is its own: columns row, top1, top5 (per
    cent), index of `models`.

    A row is named model.tag; of several tags the first, which is the most accurate. timm renamed
    gluon_x (and gluon_x_v1b) to x.gluon_in1k and adv_x to x.tf_adv_in1k. A model without a row has
    NaN.
    """
    results = results.drop_duplicates("model").assign(base=results.model.str.partition(".")[0])
    first = results.drop_duplicates("base").set_index("base").model
    renamed = models.str.replace(r"^gluon_(.*?)(_v1b)?$", r"\1.gluon_in1k", regex=True)
    renamed = renamed.str.replace(r"^adv_(.*)$", r"\1.tf_adv_in1k", regex=True)
    row = models.map(first).where(
        models.isin(first.index), renamed.where(renamed.isin(results.model))
    )
    found = results.set_index("model")[["top1", "top5"]].reindex(row).set_axis(models.index)
    return found.assign(row=row.to_numpy())[["row", "top1", "top5"]]


def plausible_watts(runs: pandas.DataFrame) -> pandas.Series:
    """Power that a row's energy implies, in W: kWh over the ten epochs of which `train_time` is
    one."""
    return runs.energy * 3.6e6 / (10 * runs.train_time.replace(0, np.nan))
