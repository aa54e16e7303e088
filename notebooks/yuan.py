"""Yuan 2025, sentence by sentence (notebook 80): the experiment beside each, and what the sentence
leaves out. From records alone, without torch."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from matplotlib.figure import Figure

from effml.claims import Estimate, edges, ledger, verdicts
from effml.evaluation import paired_bootstrap
from effml.figures import COLOURS, subplots
from effml.results import load_runs
from effml.seeds import interval
from findings import REFERENCE, pairs

SENTENCES: dict[str, tuple[str, str, str]] = {
    "yuan-selection-noise": (
        "10",
        "selection leaves out wrong labels",
        "which selection: others keep more wrong labels than chance does",
    ),
    "yuan-core-set-cost": (
        "10",
        "a core set lowers the cost",
        "the cost of choosing, and that equal passes over fewer images are fewer steps",
    ),
    "yuan-core-set-quality": ("10", "… better than chance", "the baseline: images by chance"),
    "yuan-importance-cifar10": (
        "12",
        "importance sampling, CIFAR-10",
        "relative to the error; at equal wall clock; the images are not here",
    ),
    "yuan-importance-cifar100": (
        "12",
        "importance sampling, CIFAR-100",
        "the same; the images are not here",
    ),
    "yuan-importance-mnist": (
        "12",
        "… here: MNIST",
        "that scoring costs time: a small net could take more uniform steps instead",
    ),
    "coleman-fifth-natural": (
        "11",
        "a fifth removed by a proxy, CIFAR-10",
        "absolute points; text, not images; the images are not here",
    ),
    "coleman-fifth-medical": (
        "11",
        "… here: malaria cells",
        "what the proxy costs, and what images by chance would do",
    ),
    "yuan-pretrained-few": (
        "13",
        "pretrained weights, few images",
        "the cost of the first training; a better net from scratch",
    ),
    "srinivas-mnist-whole": ("20", "LeNet before merging", "nothing: absolute"),
    "srinivas-mnist-merged": (
        "20",
        "… with the parameters removed",
        "dense layers hold them: multiplications and time hardly fall",
    ),
    "srinivas-mnist-lost": ("20", "… accuracy lost", "absolute points; the worst digit loses more"),
    "yuan-low-rank-2.4": (
        "22",
        "low rank, least compression",
        "absolute; tuned again, which takes images and time",
    ),
    "yuan-low-rank-13.4": (
        "22",
        "low rank, most compression",
        "the same; that the time falls less than the weights",
    ),
    "yuan-low-precision-time": ("40", "INT8 inference, time", "over which runtime in 32 bits"),
    "yuan-low-precision-memory": (
        "40",
        "INT8 inference, memory",
        "the file shrinks, the process need not",
    ),
    "yuan-low-precision-training": (
        "32",
        "16-bit weights in training",
        "that rounding at random or copies in 32 bits mend it",
    ),
    "yuan-splice-batch": ("41", "spliced as a plain batch", "no number; the source is unknown"),
    "yuan-splice-canvas": (
        "41",
        "… on one canvas",
        "no number; that a canvas kept apart takes longer",
    ),
    "yuan-splice-output": (
        "41",
        "… and split again",
        "that images touch along their edges",
    ),
    "yuan-mixed-time-low": (
        "30",
        "mixed precision, least time saved",
        "physics-informed nets on a GPU, not images; which layers",
    ),
    "yuan-mixed-time-high": ("30", "mixed precision, most time saved", "the same"),
    "yuan-mixed-error": (
        "30",
        "mixed precision, error",
        "relative; of the solution of an equation",
    ),
    "yuan-mixed-pinn-error": ("30", "… of the Burgers equation", "the error in 32 bits beside it"),
    "yuan-bit-width-memory": (
        "34",
        "bits that fall with depth, memory",
        "with depth, not with time; beside 4 bits everywhere, not 32",
    ),
    "yuan-bit-width-quality": (
        "34",
        "… quality",
        "that fewer bits everywhere do as well",
    ),
}
"""For each claim of the ledger: the notebook that ran it, a label, what the sentence leaves out."""

LATER = [
    "yuan-selection-noise",
    "yuan-core-set-cost",
    "yuan-core-set-quality",
    "yuan-importance-mnist",
    "yuan-pretrained-few",
    "yuan-low-precision-time",
    "yuan-low-precision-memory",
    "yuan-low-precision-training",
]
"""What counts for these was named when the runs were there."""

PNEUMONIA = ["pneumoniamnist", "pneumoniamnist_reordered"]
SKIN = {"data": "ham10000_28", "model": "mlp"}
FIFTH = {"train_fraction": 0.2, "epochs": 50}
MNIST = {"data": "mnist", "model": "mlp"}
LENET = {"data": "mnist", "model": "lenet_srinivas", "neuron_fraction": [0.165, 1.0]}
RESNET = {"data": PNEUMONIA, "model": "resnet18"}
BITS = {"data": "malaria_28", "model": "test_resnet", "weights": "random"}
ARMS: dict[str, tuple[str, Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]] = {
    "k-means": (
        "10",
        FIFTH | {"selection": "kmeans_per_class"},
        FIFTH | {"selection": "random"},
        SKIN,
    ),
    "passes": ("10", {"selection": "random"}, {"selection": "none"}, SKIN | {"epochs": 10}),
    "proxy": (
        "11",
        {"selection": "entropy"},
        {"selection": "none"},
        {"data": "malaria_28", "model": "lenet_srinivas", "epochs": 5},
    ),
    "pretrained": (
        "13",
        {"weights": "imagenet", "trainable": "all"},
        {"weights": "random"},
        {"data": "lidc_nodules_64", "model": "mobilenetv2_100", "train_fraction": 0.1},
    ),
    "merged": ("20", {"merge": "merge"}, {"merge": "none", "epochs": 1}, LENET),
    "half rank": (
        "22",
        {"factorize": "svd_spatial", "rank_fraction": 0.5},
        {"factorize": "none"},
        RESNET,
    ),
    "least rank": ("22", {"factorize": "svd_spatial", "epochs": 6}, {"factorize": "none"}, RESNET),
    "mixed": (
        "30",
        {"precision": "amp_bf16"},
        {"precision": "fp32"},
        RESNET | {"epochs": 2, "batch_size": 64, "train_fraction": 1.0, "optimizer": "adamw"},
    ),
    "bf16": (
        "32",
        {"precision": "bf16", "half_repair": "none"},
        {"precision": "fp32"},
        {"data": PNEUMONIA, "model": "test_resnet", "optimizer": "adam"},
    ),
    "falling": ("34", {"bit_schedule": "depth:4-2"}, {"bit_schedule": "uniform:4"}, BITS),
}
"""Two arms of a notebook's runs: the notebook, the arm, what it is compared with, and both."""

Runs = pandas.DataFrame


def both(name: str, store: str | os.PathLike) -> tuple[Runs, Runs]:
    """The runs without and with it, by seed, all of one machine: your own where the store has two
    seeds of both arms, else the reference's."""
    notebook, arm, reference, where = ARMS[name]
    for place in (store, REFERENCE / f"runs-{notebook}.jsonl"):
        runs = load_runs(place)
        try:
            before, after = pairs(runs, arm, reference, where)
        except (AttributeError, KeyError, ValueError):  # it lacks these runs, or their columns
            continue
        machines = pandas.concat([before, after])[["device_name", "cpu_flags", "threads_used"]]
        if len(machines.drop_duplicates()) == 1:
            return before, after
    raise FileNotFoundError(f"No runs of {name}: run notebook {notebook}.")


def ours(store: str | os.PathLike) -> dict[str, Sequence[float] | Estimate]:
    """For each of SENTENCES our values, a seed or a round each, or an estimate; empty where we have
    no such images."""
    told: dict[str, Sequence[float] | Estimate] = dict.fromkeys(SENTENCES, [])
    told |= _data(store) | _model(store) | _inference() | _computing(store)
    return told


def _data(store: str | os.PathLike) -> dict[str, Sequence[float] | Estimate]:
    chance, chosen = both("k-means", store)
    everything, fewer = both("passes", store)
    seeds = chosen.index.intersection(fewer.index)
    short = (chosen.prepare_seconds + fewer.train_seconds).loc[seeds]
    long = (everything.prepare_seconds + everything.train_seconds).loc[seeds]
    # rows of one drawing of wrong labels follow each other: chance, clean, el2n
    wrong = _kept("10-wrong-labels").groupby("selection")["share of the wrong labels removed"]
    clean, random = (wrong.get_group(name).to_numpy() for name in ("clean", "random"))
    whole, proxy = both("proxy", store)
    scratch, pretrained = both("pretrained", store)
    return {
        "yuan-selection-noise": clean - random,
        "yuan-core-set-cost": 1 - short / long,
        "yuan-core-set-quality": chosen.test_auroc - chance.test_auroc,
        "yuan-importance-mnist": _importance(),
        "coleman-fifth-medical": whole.test_accuracy - proxy.test_accuracy,
        "yuan-pretrained-few": pretrained.test_auroc - scratch.test_auroc,
    }


def _importance() -> list[float]:
    """By which part importance sampling lowers the error of each seed, at equal seconds: uniform
    training is read off between its own runs, over the logarithm of the seconds (notebook 12)."""
    runs, found = load_runs(REFERENCE / "runs-12.jsonl"), []
    runs = runs[(runs.data == MNIST["data"]) & (runs.model == MNIST["model"])]
    for _, of in runs.assign(error=1 - runs.test_accuracy).groupby("seed"):
        uniform = of[of.sampler == "uniform"].sort_values("train_seconds")
        longest = of[of.sampler == "importance"].sort_values("epochs").iloc[-1]
        seconds = np.log(uniform.train_seconds)
        equal = np.interp(np.log(longest.train_seconds), seconds, uniform.error)
        found.append(1 - longest.error / equal)
    return found


def _model(store: str | os.PathLike) -> dict[str, Sequence[float] | Estimate]:
    parent, merged = both("merged", store)
    found = {
        "srinivas-mnist-whole": parent.test_accuracy,
        "srinivas-mnist-merged": merged.test_accuracy,
        "srinivas-mnist-lost": parent.test_accuracy - merged.test_accuracy,
    }
    for claim, arms in (("yuan-low-rank-2.4", "half rank"), ("yuan-low-rank-13.4", "least rank")):
        parent, smaller = both(arms, store)
        found[claim] = smaller.test_accuracy - parent.test_accuracy
    return found


def _inference() -> dict[str, Sequence[float] | Estimate]:
    laps = _kept("40-latency").set_index(["model", "batch", "runtime"])
    ms, peak = (laps[name].unstack() for name in ("median_ms", "peak_memory_bytes"))
    time = (1 - ms.openvino_int8 / ms[["eager", "onnxruntime", "openvino"]].min(axis=1)).min()
    memory = (1 - peak.openvino_int8 / peak.openvino).min()
    laps = _kept("41-time")
    laps = laps[laps.format == "openvino_int8"].pivot(index="round", columns="way", values="ms")
    dice = _kept("41-quality")
    dice = dice[dice.format == "openvino_int8"].pivot(index="image", columns="way", values="dice")
    canvas, alone, plain = "canvas, no gutter", "one by one", "plain batch"
    change = (dice[canvas] - dice[alone]).to_numpy()
    return {
        "yuan-low-precision-time": Estimate(time, time, time),
        "yuan-low-precision-memory": Estimate(memory, memory, memory),
        "yuan-splice-batch": Estimate(*interval(1 - laps[plain] / laps[alone])),
        "yuan-splice-canvas": Estimate(*interval(1 - laps[canvas] / laps[plain])),
        "yuan-splice-output": Estimate(*paired_bootstrap(np.mean, change)),
    }


def _computing(store: str | os.PathLike) -> dict[str, Sequence[float] | Estimate]:
    laps = _kept("30-time")
    saved = 1 - laps[laps.batch == laps.batch.max()].set_index("model")["time ratio"]
    burgers = _kept("30-burgers")
    plain, mixed = both("mixed", store)
    full, half = both("bf16", store)
    uniform, falling = both("falling", store)
    return {
        "yuan-low-precision-training": full.test_auroc - half.test_auroc,
        "yuan-mixed-time-low": saved["mobilenetv3_small_100"],
        "yuan-mixed-time-high": saved["resnet18"],
        "yuan-mixed-error": mixed.test_auroc / plain.test_auroc - 1,
        "yuan-mixed-pinn-error": burgers[burgers.precision == "amp_bf16"].error,
        "yuan-bit-width-memory": 1 - falling.stored_bytes / uniform.stored_bytes,
        "yuan-bit-width-quality": falling.test_auroc - uniform.test_auroc,
    }


def _kept(name: str) -> pandas.DataFrame:
    return pandas.read_csv(Path(REFERENCE) / f"{name}.csv", comment="#")


def beyond(given: Mapping[str, Sequence[float] | Estimate]) -> pandas.DataFrame:
    """Ours minus theirs in points of 0.01, with the interval; above 0 it is more than was claimed.

    A row for each claim: value, low, high, verdict, and from where to where an interval agrees
    (`bottom`, `top`), in the same points.
    """
    book, found = ledger().set_index("id"), verdicts(given).set_index("claim")
    book = book.loc[found.index]
    ends = pandas.DataFrame([edges(claim)[:2] for _, claim in book.iterrows()], found.index)
    table = found[["ours", "low", "high"]].assign(bottom=ends[0], top=ends[1])
    table = 100 * table.sub(book.theirs, axis=0)
    turned = (book.better == "lower").to_numpy()
    table.loc[turned] = -table.loc[turned, ["ours", "high", "low", "top", "bottom"]].to_numpy()
    return table.rename(columns={"ours": "value"}).assign(verdict=found.verdict)


def figure(table: pandas.DataFrame) -> Figure:
    """A row for each claim: grey where it would agree, theirs at 0, ours with its interval."""
    picture, axes = subplots(width=8.5, height=0.9 + 0.25 * len(table))
    kinds = {"agrees": (COLOURS[2], "o"), "better than claimed": (COLOURS[0], "^")}
    kinds |= {"inconclusive": (COLOURS[4], "s"), "differs": (COLOURS[1], "D")}
    wide = 200
    for y, row in enumerate(table[::-1].itertuples()):
        bottom, top = max(row.bottom, -wide), min(row.top, wide)
        axes.barh(y, top - bottom, left=bottom, height=0.7, color="0.9")
        axes.plot(0, y, "|", color="k", markersize=10)
        if row.value == row.value:
            colour, marker = kinds[row.verdict]
            ends = [[row.value - row.low], [row.high - row.value]]
            axes.errorbar(row.value, y, xerr=ends, color=colour, marker=marker, markersize=5)
        axes.annotate(row.verdict, (1.01, y), xycoords=("axes fraction", "data"), va="center")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xticks([-100, -10, -1, 0, 1, 10, 100], ["−100", "−10", "−1", "0", "1", "10", "100"])
    axes.set(xlim=(-wide, wide), ylim=(-0.6, len(table) - 0.4))
    axes.set_yticks(range(len(table)), [SENTENCES[name][1] for name in table.index[::-1]])
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("ours minus theirs, points of 0.01; right of 0: as much as claimed, or more")
    return picture
