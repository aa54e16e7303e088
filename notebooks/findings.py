"""What was found, strategy by strategy, and the runs of notebook 00: tables and the figure of the
READMEs, from the reference (`python -m effml readme`)."""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas
from matplotlib.figure import Figure

from effml.evaluation import paired_bootstrap
from effml.figures import COLOURS, subplots
from effml.machine import ANSWERS, ROOT
from effml.results import load_runs, of_each_seed, seed_groups
from effml.seeds import interval, paired_differences, spread

REFERENCE = ROOT / "results" / "reference"
NAMES = {
    "train_seconds": "training",
    "whole_seconds": "choosing and training",
    "latency_s": "an answer",
    "train_peak_memory_bytes": "process",
    "model_file_bytes": "file",
    "optimizer_state_bytes": "optimiser",
    "saved_bytes": "kept activations",
    "stored_bytes": "stored weights",
    "train_energy_j": "training",
    "whole_energy_j": "choosing and training",
    "infer_energy_j": "the test images",
    "infer_seconds": "the test images",
}
"""Columns of a record, and what they are the cost of."""
BEFORE = {"latency_s": "latency_before_s", "saved_bytes": "saved_bytes_fp32"}
"""Measured side by side, in the later run: where that holds what it was without the strategy."""
PARTS = {
    "whole_seconds": ["prepare_seconds", "train_seconds"],
    "whole_energy_j": ["prepare_energy_j", "train_energy_j"],
}
PILOT = 100
"""From this seed on runs are pilots, which choose how many seeds an experiment has."""


class Change(NamedTuple):
    """What a strategy changes, with its 95 % interval (NaN where it was measured once): of a cost
    the share, of a quality the difference; `what` it is the cost or the quality of."""

    value: float
    low: float
    high: float
    what: str = ""

    def sure(self, least: float = 0.005) -> bool:
        """Whether the interval leaves 0 out, and the value does not round to it."""
        return abs(self.value) >= least and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Told:
    """A row of the page. What is not known is a text that says why."""

    strategy: str
    notebook: str
    use: str
    where: str
    time: list[Change] | str
    memory: list[Change] | str
    joules: list[Change] | str
    quality: Change | str
    worst: Change | str


@dataclass(frozen=True)
class Finding:
    """A strategy: two arms of a notebook's records, paired by seed.

    `arm` and `reference` name columns and their values, a list of them, or "a run" for whatever is
    not "none"; `where` holds for both. `time`, `memory` and `joules` are columns, or a text that
    says why there is none.
    """

    strategy: str
    notebook: str
    use: str
    time: Sequence[str] | str = ("train_seconds",)
    memory: Sequence[str] | str = ("train_peak_memory_bytes",)
    joules: Sequence[str] | str = ("train_energy_j",)
    arm: Mapping[str, Any] = field(default_factory=dict)
    reference: Mapping[str, Any] = field(default_factory=dict)
    where: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, folder: Path = REFERENCE) -> Told:
        """Its row; ValueError as `pairs`, and where a cost is not known in both arms."""
        runs = load_runs(folder / f"runs-{self.notebook}.jsonl")
        try:
            both = pairs(runs, self.arm, self.reference, self.where)
        except ValueError as error:
            raise ValueError(f"{self.strategy} ({self.notebook}): {error}") from None
        costs = [
            asked if isinstance(asked, str) else [_share(*both, name) for name in asked]
            for asked in (self.time, self.memory, self.joules)
        ]
        first, seeds = both[1].iloc[0], len(both[1])
        where = f"{first.data.removesuffix('_reordered')}, {first.model}, {seeds} seeds"
        quality = Change(*_difference(*both, "test_auroc"), "AUROC")
        worst = Change(*_difference(*both, "test_worst_class_recall"))
        return Told(self.strategy, self.notebook, self.use, where, *costs, quality, worst)


Row = Callable[[Path], Told]


def pairs(
    runs: pandas.DataFrame,
    arm: Mapping[str, Any],
    reference: Mapping[str, Any],
    where: Mapping[str, Any],
) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """The runs without and with a strategy, by seed, of the seeds that both have. ValueError where
    these are not two, or where two runs claim one seed."""
    runs = _rows(runs[(runs.status == "ok") & (runs.seed < PILOT)], where)
    before, after = (_rows(runs, side).set_index("seed") for side in (reference, arm))
    seeds = before.index.intersection(after.index).sort_values()
    if len(seeds) < 2 or not (before.index.is_unique and after.index.is_unique):
        counts = f"{len(before)} and {len(after)} runs, {len(seeds)} seeds in common"
        raise ValueError(f"{counts}.")
    return before.loc[seeds], after.loc[seeds]


def _rows(runs: pandas.DataFrame, asked: Mapping[str, Any]) -> pandas.DataFrame:
    for name, value in asked.items():
        fits = runs[name].isin(value if isinstance(value, list) else [value])
        runs = runs[~runs[name].eq("none") if value == "a run" else fits]
    return runs


def _difference(before: pandas.DataFrame, after: pandas.DataFrame, column: str) -> list[float]:
    both = pandas.concat([before.assign(arm="without"), after.assign(arm="with")]).reset_index()
    found = paired_differences(both, column, arm="arm", reference="without")
    return found.loc["with", ["difference", "low", "high"]].tolist()


def _share(before: pandas.DataFrame, after: pandas.DataFrame, name: str) -> Change:
    """By which share a cost changed: the mean of the logarithms of its ratios."""
    if name in PARTS:
        before, after = (x.assign(**{name: x[PARTS[name]].sum(axis=1)}) for x in (before, after))
    if name in BEFORE:
        before = after.assign(**{name: after[BEFORE[name]]})
    logs = [side.assign(log=np.log(side[name].astype(float))) for side in (before, after)]
    if not np.isfinite([side.log for side in logs]).all():
        raise ValueError(f"{name} is not known for both arms.")
    return Change(*np.expm1(_difference(*logs, "log")).tolist(), NAMES[name])


def _ratio(ratios: Iterable[float], what: str = "an answer") -> Change:
    """The same of ratios that are there, with over without; of one there is no interval."""
    return Change(*np.expm1(interval(np.log([*ratios]))).tolist(), what)


def int8(strategy: str, notebook: str, use: str, workloads: str, what: str) -> Row:
    """INT8 of OpenVINO beside the fastest 32-bit runtime, on one thread: its costs over the
    workloads, its quality in the one that loses most."""

    def told(folder: Path = REFERENCE) -> Told:
        import thakur

        found = thakur.measured(getattr(thakur, workloads), folder)
        found = found[found.threads == 1].set_index("workload")
        plain = found[found["mode"].isin(thakur.FP32)]
        best = plain.reset_index().sort_values("median_ms").groupby("workload").first()
        short = found[found["mode"] == thakur.INT8]
        ratio = {
            name: short[name] / best[name].reindex(short.index)
            for name in ("median_ms", "file_bytes", "peak_memory_bytes", "joules_per_1000")
        }
        memory = [
            _ratio(ratio["file_bytes"], "file"),
            _ratio(ratio["peak_memory_bytes"], "process"),
        ]
        most = short.loc[short.loss_high.idxmax()]
        quality = Change(-most.loss, -most.loss_high, -most.loss_low, what)
        worst = Change(float((short.worst - short.worst_reference).min()), math.nan, math.nan)
        where = f"{len(short)} workloads, one thread"
        time, joules = [_ratio(ratio["median_ms"])], [_ratio(ratio["joules_per_1000"])]
        return Told(strategy, notebook, use, where, time, memory, joules, quality, worst)

    return told


def mixed(folder: Path = REFERENCE) -> Told:
    """Of mixed precision also the time of a step with larger images, measured by itself."""
    told = Finding(
        "mixed precision (bf16)",
        "30",
        "arithmetic in bf16 and large dense layers; time a step first",
        arm={"precision": "amp_bf16"},
        reference={"precision": "fp32"},
        where={"model": "resnet18"},
    )(folder)
    laps = _kept(folder, "30-time")
    laps = laps[(laps.model == "resnet18") & (laps.batch == laps.batch.max())]
    step = _ratio(laps["time ratio"], "a step with larger images")
    return replace(told, time=[*told.time, step])


def activations(folder: Path = REFERENCE) -> Told:
    """Of activations in 8 bits also by how much a process grows in a step of a deep net."""
    told = Finding(
        "activations kept in 8 bits",
        "33",
        "the backward pass does not fit; try smaller batches first",
        memory=("saved_bytes", "train_peak_memory_bytes"),
        arm={"activation_bits": 8},
        reference={"activation_bits": 32, "gradient_bits": 32},
    )(folder)
    growth = _kept(folder, "33-memory").set_index("way").growth_mb
    step = _ratio([growth["8 bits"] / growth["float32"]], "growth in a deep net's step")
    return replace(told, memory=[*told.memory, step])


def splicing(folder: Path = REFERENCE) -> Told:
    """A canvas without gutter beside a plain batch, in INT8."""
    runs = load_runs(folder / "runs-41.jsonl").iloc[0]
    laps, dice = (_kept(folder, f"41-{name}") for name in ("time", "quality"))
    laps = laps[laps.format == "openvino_int8"].pivot(
        index="round", columns="way", values=["ms", "mb"]
    )
    dice = dice[dice.format == "openvino_int8"].pivot(index="image", columns="way", values="dice")
    canvas, plain = "canvas, no gutter", "plain batch"
    time, memory = (
        _ratio(laps[name][canvas] / laps[name][plain], "a batch") for name in ("ms", "mb")
    )
    quality = paired_bootstrap(np.mean, (dice[canvas] - dice["one by one"]).to_numpy())
    return Told(
        "images spliced on one canvas (INT8)",
        "41",
        "where a rim of wrong pixels does no harm",
        f"{runs.data}, {runs.model}, {len(laps)} rounds",
        [time],
        [memory._replace(what="process")],
        "not measured",
        Change(*quality, "Dice"),
        "not measured",
    )


def threads(folder: Path = REFERENCE) -> Told:
    """A second thread for a finished model in INT8, one image at once."""
    laps = _kept(folder, "42-latency")
    laps = laps[(laps.runtime == "openvino_int8") & (laps.batch == 1) & (laps.model == "resnet18")]
    wide = laps.pivot(index="turn", columns="threads", values=["turn_ms", "mb", "joules"])
    once = {
        name: _ratio([wide[name][2].median() / wide[name][1].median()]) for name in ("mb", "joules")
    }
    return Told(
        "a second thread (INT8)",
        "42",
        "a person waits for one answer, and the core is free",
        f"resnet18, one image, {len(wide)} turns",
        [_ratio(wide["turn_ms"][2] / wide["turn_ms"][1])],
        [once["mb"]._replace(what="process")],
        [once["joules"]],
        "the same model",
        "the same model",
    )


def screening(strategy: str, notebook: str, use: str, data: str, epochs: int, table: str) -> Row:
    """Half of the channels beside the whole net, each at its own threshold for screening: its costs
    on the test images of `data`, its scores of a kept table; the worst class at that threshold."""

    def told(folder: Path = REFERENCE) -> Told:
        costs = {name: ANSWER[name] for name in ("memory", "joules")} | {"time": ["infer_seconds"]}
        plain = {"prune": "none", "weights": "random", "epochs": epochs, "factorize": "none"}
        plain |= {"sampler": "uniform", "precision": "fp32", "optimizer": "adamw"}
        arm = {"prune": "channels", "teacher": "none"}
        where = {"data": data, "selection": ["none", "random_per_class"]}
        row = Finding(strategy, notebook, use, **costs, arm=arm, reference=plain, where=where)
        scores = _kept(folder, table)
        if "source" in scores:
            scores = scores[(scores.source == "new site") & (scores.aim == "screening")]
            worst = scores[["sensitivity", "specificity"]].min(axis=1)
            scores = scores.assign(**{"AUROC": scores.auroc, "worst class": worst})
        both = [
            scores[scores.arm == arm].set_index("seed")
            for arm in ("uncompressed", "half the channels")
        ]
        quality = Change(*_difference(*both, "AUROC"), "AUROC")
        return replace(
            row(folder), quality=quality, worst=Change(*_difference(*both, "worst class"))
        )

    return told


def composed(folder: Path = REFERENCE) -> Told:
    """The six strategies of training in the factorial's first set: all used, none used."""
    from composing import ALL, effects

    runs = load_runs(folder / "runs-90.jsonl")
    runs = runs[(runs.status == "ok") & runs.data.isin(PNEUMONIA)]
    uses = {
        "images": runs.train_fraction < runs.train_fraction.max(),
        "bf16": runs.precision != "fp32",
        "8 bits": runs.optimizer == "adamw8bit",
    }
    uses |= {name: runs[name] != "none" for name in ("prune", "factorize", "teacher")}
    runs = runs.assign(**uses)
    runs = runs[runs[[*uses]].any(axis=1) | (runs.seed == 0)]  # the others are teachers alone

    def change(name: str, cost: bool = True) -> Change:
        found = effects(runs.assign(y=np.log(runs[name]) if cost else runs[name]), "y", [*uses])
        ends = found.loc[ALL, ["change", "low", "high"]]
        return Change(*(np.expm1(ends) if cost else ends), NAMES.get(name, "AUROC"))

    time, memory, joules = (
        [change(f"train_{name}")] for name in ("seconds", "peak_memory_bytes", "energy_j")
    )
    first = runs.iloc[0]
    return Told(
        "six strategies of training at once",
        "90",
        "take the few that save alone: with all, the worst class falls",
        f"{first.data.removesuffix('_reordered')}, {first.model}, {len(runs)} runs",
        time,
        memory,
        joules,
        change("test_auroc", cost=False),
        change("test_worst_class_recall", cost=False),
    )


def adviser(folder: Path = REFERENCE) -> Told:
    """What the adviser picks in its seconds, beside the default recipe, search by search."""
    runs, searches = (_kept(folder, f"91-{name}") for name in ("runs", "searches"))
    runs, searches = (table[table.strategy == "climb"] for table in (runs, searches))
    runs = runs.set_index("search")
    pick, default = runs[runs["rank"] == 1], runs[runs.role == "default recipe"]
    ratio = {
        name: _ratio(pick[name] / default[name], what)
        for name, what in (("seconds", "a run"), ("memory_mb", "memory"), ("joules", "a run"))
    }
    change = interval(searches.test_pick - searches.test_default)
    data = json.loads((folder / ANSWERS).read_text())["breastmnist|phantom-nodule at 28 px"]
    return Told(
        "the budget adviser's pick, for the default recipe",
        "91",
        "you can name a budget, and no recipe",
        f"{data}, {len(searches)} searches",
        [ratio["seconds"]],
        [ratio["memory_mb"]],
        [ratio["joules"]],
        Change(*change, "AUROC"),
        "not measured",
    )


def _kept(folder: Path, name: str) -> pandas.DataFrame:
    return pandas.read_csv(folder / f"{name}.csv", comment="#")


def render_findings(told: Sequence[Told], *, whole: bool = True, links: str = "") -> str:
    """The rows as a Markdown table: the whole of it, or in five columns what is sure to change.
    `links` is the way to the notebooks."""
    head = ["strategy", "time", "memory", "joules", "AUROC or Dice", "worst class", "measured on"]
    head = [*(head if whole else ["strategy", "changes", "AUROC or Dice"]), "use it", "notebook"]
    lines = [head, ["---"] * len(head)]
    for one in told:
        path = next((ROOT / "notebooks").glob(f"{one.notebook}_*.ipynb"))
        cells = [_costs(x) for x in (one.time, one.memory, one.joules)] if whole else [_sure(one)]
        cells += [_quality(one.quality)] + whole * [_quality(one.worst), one.where]
        lines.append([one.strategy, *cells, one.use, f"[{one.notebook}]({links}{path.name})"])
    return _table(lines)


def render_machines(told: Sequence[Told], folder: Path = REFERENCE) -> str:
    """On what the rows were measured, and by which meter of energy."""
    names = sorted({one.notebook for one in told})
    files = [path for name in names for path in folder.glob(f"runs-*{name}.jsonl")]
    runs = pandas.concat([load_runs(path) for path in files if "gpu" not in path.name])
    runs = runs[runs.status == "ok"]
    found = runs[["device_name", "cpu_flags"]].drop_duplicates().values
    meters = ", ".join(runs.energy_source.dropna().unique())
    machines = "; ".join(f"{name} ({flags})" for name, flags in found)
    return f"Measured on two threads or one of: {machines}. Joules: {meters}.\n"


def _costs(found: list[Change] | str) -> str:
    return f"– ({found})" if isinstance(found, str) else "<br>".join(map(_percent, found))


def _percent(change: Change) -> str:
    """training **−94 %** [−95, −92]: bold where the interval leaves 0 out."""
    mean, low, high = (_signed(100 * x, 0) for x in change[:3])
    mean = f"**{mean} %**" if change.sure() else f"{mean} %"
    return f"{change.what} {mean} " + (f"[{low}, {high}]" if change.low == change.low else "(once)")


def _quality(change: Change | str) -> str:
    if isinstance(change, str):
        return f"– ({change})"
    mean, low, high = (_signed(x, 3) for x in change[:3])
    mean = f"**{mean}**" if change.sure(0.0005) else mean
    what = f"{change.what} " if change.what.startswith("Dice") else ""
    return f"{what}{mean} " + (f"[{low}, {high}]" if change.low == change.low else "(no interval)")


def _signed(value: float, digits: int) -> str:
    """With a true minus, and no sign where it rounds to 0."""
    told = f"{value:+.{digits}f}"
    return told.replace("-", "−") if float(told) else told[1:]


def _sure(one: Told) -> str:
    """The costs that surely change."""
    joules = [x._replace(what="joules") for x in one.joules if not isinstance(x, str)]
    found = [x for x in (*one.time, *one.memory, *joules) if not isinstance(x, str) and x.sure()]
    told = (f"{x.what} {_signed(100 * x.value, 0)} %" for x in found)
    return ", ".join(told) or "no sure change of cost"


def _table(lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def render_results(store: Path = REFERENCE / "runs-00.jsonl") -> str:
    """The runs of a store on real images as a Markdown table, in seven columns; ValueError as
    `effml.over_seeds`."""
    runs = load_runs(store)
    runs = runs[(runs.status == "ok") & (runs.data_phantom != 1)]
    by = ["data", "model", "epochs", "batch_size", "learning_rate", "precision"]
    levels, groups = seed_groups(runs.sort_values([*by, "seed"]), by)
    head = ["data (images)", "model, passes", *levels[len(by) :], "seeds", "test AUROC"]
    head += ["recall of the worst class", "accuracy (majority rate)", "training, s"]
    lines = [head, ["---"] * len(head)]
    for (data, model, epochs, batch, rate, precision, *where), group in groups.items():
        what = f"{model}, {epochs:g} × {group.train_n.iloc[0] / batch:.0f} steps"
        what += f", rate {rate:g}" * (len(set(runs[runs.model == model].learning_rate)) > 1)
        what += f", {precision}" * (precision != "fp32")
        lines.append([f"{data} ({group.train_n.iloc[0]:.0f})", what, *where])
        scores = [
            of_each_seed(group, f"test_{n}") for n in ("auroc", "worst_class_recall", "accuracy")
        ]
        told = [spread(score, digits, top=1) for score, digits in zip(scores, (3, 2, 2))]
        told[2] += f" ({group.test_majority_rate.iloc[0]:.2f})"
        lines[-1] += [str(group.seed.nunique()), *told]
        lines[-1].append(spread(of_each_seed(group, "train_seconds"), 1))
    machines = runs[["threads_used", "device_name", "cpu_flags"]].drop_duplicates()
    named = ", ".join(f"{n:.0f} threads of {name} ({flags})" for n, name, flags in machines.values)
    return (
        f"{_table(lines)}\n{len(runs)} runs, {named}; in brackets 95 % intervals over the seeds.\n"
    )


def render_answer(store: Path = REFERENCE / "runs-00.jsonl") -> str:
    """What a laptop with some 4,000 images should do first, with the numbers of notebook 00."""
    runs = load_runs(store)
    runs = runs[(runs.status == "ok") & runs.data.str.startswith("pneumoniamnist")]
    runs = runs[runs.learning_rate == 0.001]
    passes = runs[runs.model == "resnet18"].epochs.iloc[0]
    large, small, longer = (
        runs[(runs.model == model) & (runs.epochs == epochs)]
        for model, epochs in (("resnet18", passes), ("lenet5", passes), ("lenet5", 4 * passes))
    )
    ratio = large.train_seconds.mean() / small.train_seconds.mean()
    quick, slow, four = (
        f"{spread(arm.test_auroc, 3, top=1)} in {arm.train_seconds.mean():.0f} s"
        for arm in (small, large, longer)
    )
    recalls = [spread(arm.test_worst_class_recall, 2, top=1) for arm in (small, large)]
    return (
        f"Start with a small net. On PneumoniaMNIST ({small.train_n.iloc[0]:,.0f} images of 28 px, "
        f"{passes} passes over them) LeNet-5 reaches a test AUROC of {quick}, ResNet-18 {slow}: "
        f"{ratio:.0f} times as long. With four times the passes LeNet-5 gets to {four}. "
        f"The worse of the two classes is found with a recall of {recalls[0]} by LeNet-5 "
        f"and {recalls[1]} by ResNet-18 at the threshold 0.5: choose the threshold on validation.\n"
    )


def hero(told: Sequence[Told]) -> Figure:
    """A line for each strategy: its change of quality, with the interval, and of the costs."""
    told = [one for one in told if isinstance(one.quality, Change)][::-1]
    figure, axes = subplots(width=9.5, height=0.9 + 0.28 * len(told))
    looks = {"lower": (COLOURS[1], "v"), "higher": (COLOURS[2], "^"), "open": ("0.45", "o")}
    for y, row in enumerate(told):
        mean, low, high = row.quality[:3]
        kind = "open" if not row.quality.sure(0.0005) else "lower" if high < 0 else "higher"
        colour, marker = looks[kind]
        axes.errorbar(mean, y, xerr=[[mean - low], [high - mean]], color=colour, marker=marker)
        axes.annotate(
            _sure(replace(row, joules="")),
            (1.02, y),
            xycoords=("axes fraction", "data"),
            va="center",
        )
    labels = {name: f"{name} AUROC or Dice" for name in looks} | {"open": "no change shown"}
    for kind, (colour, marker) in looks.items():
        axes.plot([], [], marker, color=colour, label=labels[kind])
    figure.legend(loc="outside upper left", ncols=3)
    axes.axvline(0, color="0.2", linewidth=1)
    axes.set_yticks(range(len(told)), [row.strategy for row in told])
    axes.grid(axis="y", visible=False)
    axes.set_ylim(-0.6, len(told) - 0.4)
    axes.set_xscale("symlog", linthresh=0.01)  # one row's interval is wider than all others'
    axes.set_xticks([-0.1, -0.01, 0, 0.01, 0.1], ["−0.1", "−0.01", "0", "0.01", "0.1"])
    axes.set_xlabel(
        "change of the test AUROC or Dice, with its 95 % interval (logarithmic beyond ±0.01)"
    )
    return figure


PNEUMONIA = ["pneumoniamnist", "pneumoniamnist_reordered"]
RATE = {"data": PNEUMONIA, "learning_rate": 0.001}
ANSWER = {"time": ("latency_s",), "memory": ("model_file_bytes",), "joules": ("infer_energy_j",)}
"""The costs of a finished model."""
WHOLE = {"time": ("whole_seconds",), "joules": ("whole_energy_j",)}
FEW = {"selection": "class_balanced", "train_fraction": 0.2}
HALF = {"optimizer": "adam", "precision": "bf16"}
FINDINGS: list[Row] = [
    Finding(
        "a small net (LeNet-5 for ResNet-18)",
        "00",
        "first: it is the yardstick",
        memory=("train_peak_memory_bytes", "model_file_bytes"),
        arm={"model": "lenet5", "epochs": 4},
        reference={"model": "resnet18", "epochs": 4},
        where=RATE,
    ),
    Finding(
        "the small net, four times the passes",
        "00",
        "minutes count more than the last points of AUROC",
        memory=("train_peak_memory_bytes", "model_file_bytes"),
        arm={"model": "lenet5", "epochs": 16},
        reference={"model": "resnet18", "epochs": 4},
        where=RATE,
    ),
    Finding(
        "a class-balanced fifth, equal steps",
        "10",
        "classes are rare",
        **WHOLE,
        arm=FEW | {"epochs": 50},
        reference={"selection": "none", "epochs": 10},
        where={"model": "mlp"},
    ),
    Finding(
        "a class-balanced fifth, equal passes",
        "10",
        "a first look",
        **WHOLE,
        arm=FEW | {"epochs": 10},
        reference={"selection": "none", "epochs": 10},
        where={"model": "mlp"},
    ),
    Finding(
        "a fifth of the images removed by a proxy",
        "11",
        "one choice serves many trainings; try random images first",
        **WHOLE,
        arm={"selection": "entropy"},
        reference={"selection": "none", "epochs": 5},
        where={"model": "lenet_srinivas"},
    ),
    Finding(
        "importance sampling, equal steps",
        "12",
        "steps are dear beside scoring; try more uniform steps first",
        arm={"sampler": "importance", "epochs": 6},
        reference={"sampler": "uniform", "epochs": 6},
        where={"data": "mnist"},
    ),
    Finding(
        "ImageNet weights, a tenth of the images",
        "13",
        "labels are few; try it beside a net that learns from scratch",
        arm={"weights": "imagenet", "trainable": "all"},
        reference={"weights": "random"},
        where={"model": "mobilenetv2_100", "train_fraction": 0.1},
    ),
    Finding(
        "neurons merged, without an image",
        "20",
        "no images, no time to train again, large dense layers",
        **ANSWER,
        arm={"merge": "merge", "neuron_fraction": 0.165},
        reference={"merge": "none", "epochs": 1},
        where={"data": "mnist"},
    ),
    Finding(
        "half of the channels cut, tuned again",
        "21",
        "a model that will answer often",
        **ANSWER,
        arm={"prune": "channels", "teacher": "none", "epochs": 6},
        reference={"prune": "none", "epochs": 4},
        where={"data": PNEUMONIA},
    ),
    Finding(
        "low-rank layers, fewest weights, tuned again",
        "22",
        "a small file; there are images to tune with",
        **ANSWER,
        arm={"factorize": "svd_spatial", "epochs": 6},
        reference={"factorize": "none"},
    ),
    Finding(
        "distillation, equal steps",
        "23",
        "a small net must answer, and a teacher is there",
        arm={"teacher": "a run", "teacher_share": 0.9},
        reference={"teacher": "none"},
        where={"model": "mlp", "selection": "none", "epochs": 10},
    ),
    mixed,
    Finding(
        "8-bit optimiser",
        "31",
        "memory is short, time is not",
        memory=("optimizer_state_bytes", "train_peak_memory_bytes"),
        arm={"optimizer": "adamw8bit"},
        reference={"optimizer": "adamw"},
    ),
    Finding(
        "all weights in bf16",
        "32",
        "not without a repair",
        memory=("model_file_bytes", "train_peak_memory_bytes"),
        arm=HALF | {"half_repair": "none"},
        reference={"precision": "fp32"},
    ),
    Finding(
        "all weights in bf16, rounded at random",
        "32",
        "weights must take half the memory",
        memory=("model_file_bytes", "train_peak_memory_bytes"),
        arm=HALF | {"half_repair": "stochastic"},
        reference={"precision": "fp32"},
    ),
    activations,
    Finding(
        "4 to 2 bits by depth, for 4 bits everywhere",
        "34",
        "a file must be small; try the same few bits everywhere",
        memory=("stored_bytes",),
        arm={"bit_schedule": "depth:4-2"},
        reference={"bit_schedule": "uniform:4", "weights": "random"},
    ),
    int8(
        "INT8 inference, classifiers",
        "65",
        "a CPU with 8-bit instructions; look at the sensitivity",
        "CLASSIFICATION",
        "AUROC",
    ),
    int8(
        "INT8 inference, U-Nets",
        "66",
        "a CPU with 8-bit instructions",
        "SEGMENTATION",
        "Dice",
    ),
    splicing,
    threads,
    screening(
        "half of the channels, at a new site (simulated)",
        "51",
        "look at both rates where the model will work",
        data="phantom-chest:shift=1",
        epochs=10,
        table="51-judged",
    ),
    screening(
        "half of the channels, for screening",
        "52",
        "sensitivity is fixed by the threshold; look at what pays for it",
        data="malaria_28",
        epochs=4,
        table="52-scores",
    ),
    composed,
    adviser,
]


@cache
def found() -> list[Told]:
    """The rows, from the reference."""
    return [row(REFERENCE) for row in FINDINGS]


def pages() -> dict[str, dict[str, str]]:
    """What stands between the marks of each page, by path and mark."""
    first = {"findings": render_findings(found(), whole=False, links="notebooks/")}
    first |= {"answer": render_answer(), "results": render_results()}
    first["doors"] = render_doors((REFERENCE.parents[1] / "CITATION.cff").read_text("utf-8"))
    machines = render_machines(found())
    page = {"findings": render_findings(found()), "machines": machines}
    return {"README.md": first | {"machines": machines}, "notebooks/README.md": page}


def render_doors(citation: str) -> str:
    """Binder and Colab: badges where CITATION.cff tells where the repository lies on GitHub."""
    first = "notebooks/00_start_here.ipynb"
    where = re.search(
        r"^repository-code: *[\"']?https://github.com/([\w.-]+/[\w.-]+)", citation, re.M
    )
    if where:
        binder, colab = "https://mybinder.org", "https://colab.research.google.com"
        badges = (
            f"[![Binder]({binder}/badge_logo.svg)]"
            f"({binder}/v2/gh/{where[1]}/HEAD?urlpath=lab/tree/{first})",
            f"[![Colab]({colab}/assets/colab-badge.svg)]"
            f"({colab}/github/{where[1]}/blob/HEAD/{first})",
        )
        return (
            " ".join(badges) + " On Colab first run the cell in [colab.py](notebooks/colab.py).\n"
        )
    return (
        "[Binder](https://mybinder.org) makes its machine from `environment.yml`: give it the "
        "address of your copy.\nOn Colab run the cell that stands in "
        "[colab.py](notebooks/colab.py), with that address.\n"
    )


def draw() -> None:
    """Write the README's figure."""
    hero(found()).savefig(REFERENCE / "findings.png", dpi=150)
