"""What was found, strategy by strategy, and the runs of notebook 00: tables and the figure of the
README, from the reference (`python -m effml readme`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas
from matplotlib.figure import Figure

from effml.figures import COLOURS, subplots
from effml.machine import ROOT
from effml.results import load_runs, of_each_seed, seed_groups
from effml.seeds import interval, spread

REFERENCE = ROOT / "results" / "reference"
SAVINGS = {
    "train_seconds": "training time",
    "whole_seconds": "time to choose and to train",
    "params": "parameters",
    "macs": "multiplications",
    "latency_s": "time of an answer",
    "optimizer_state_bytes": "optimiser memory",
    "train_n": "labelled images",
}
"""Columns of a record, and what is saved by a smaller one."""
PILOT = 100
"""From this seed on runs are pilots, which choose how many seeds an experiment has."""


@dataclass(frozen=True)
class Finding:
    """A strategy: two arms of a notebook's records, paired by seed.

    `arm` and `reference` name columns and their values, a list of them, or "a run" for whatever is
    not "none"; `where` holds for both.
    """

    strategy: str
    notebook: str
    use: str
    saves: Sequence[str] = ("train_seconds",)
    arm: Mapping[str, Any] = field(default_factory=dict)
    reference: Mapping[str, Any] = field(default_factory=dict)
    where: Mapping[str, Any] = field(default_factory=dict)


def judge(one: Finding, folder: Path = REFERENCE) -> dict[str, Any]:
    """What a finding saves (factors by column) and what it changes: mean, low and high of the
    paired differences. ValueError where an arm has no two seeds in common with the other, or two
    runs of one seed."""
    runs = load_runs(folder / f"runs-{one.notebook}.jsonl")
    runs = _rows(runs[(runs.status == "ok") & (runs.seed < PILOT)], one.where)
    before, after = (_rows(runs, side).set_index("seed") for side in (one.reference, one.arm))
    seeds = before.index.intersection(after.index)
    if len(seeds) < 2 or not (before.index.is_unique and after.index.is_unique):
        counts = f"{len(before)} and {len(after)} runs, {len(seeds)} seeds in common"
        raise ValueError(f"{one.strategy} ({one.notebook}): {counts}.")
    before, after = before.loc[seeds], after.loc[seeds]
    told = {"strategy": one.strategy, "notebook": one.notebook, "seeds": len(seeds)}
    told["measured on"] = f"{after.data.iloc[0].removesuffix('_reordered')}, {after.model.iloc[0]}"
    told["saved"] = {name: _factor(before, after, name) for name in one.saves}
    for name in ("test_auroc", "test_worst_class_recall"):
        told[name] = interval(after[name].astype(float) - before[name].astype(float))
    return told


def _factor(before: pandas.DataFrame, after: pandas.DataFrame, name: str) -> float:
    """How many times smaller it became. Latencies are measured side by side, in the later run."""
    if name == "whole_seconds":
        parts = ["prepare_seconds", "train_seconds"]
        before, after = (
            arm.assign(whole_seconds=arm[parts].sum(axis=1)) for arm in (before, after)
        )
    first = after.latency_before_s if name == "latency_s" else before[name]
    factor = float(first.mean() / after[name].mean())
    if not factor > 0:
        raise ValueError(f"{name} is not known for both arms.")
    return factor


def _rows(runs: pandas.DataFrame, asked: Mapping[str, Any]) -> pandas.DataFrame:
    for name, value in asked.items():
        fits = runs[name].isin(value if isinstance(value, list) else [value])
        runs = runs[~runs[name].eq("none") if value == "a run" else fits]
    return runs


def render_findings(findings: Sequence[Finding], folder: Path = REFERENCE) -> str:
    """The first table of the README."""
    head = ["strategy", "saves", "test AUROC", "worst class", "measured on", "use it", "notebook"]
    lines = [head, ["---"] * len(head)]
    for one in findings:
        told = judge(one, folder)
        path = next((ROOT / "notebooks").glob(f"{one.notebook}_*.ipynb"))
        changes = [_signed(told[name]) for name in ("test_auroc", "test_worst_class_recall")]
        where = f"{told['measured on']}, {told['seeds']} seeds"
        link = f"[{one.notebook}](notebooks/{path.name})"
        lines.append([one.strategy, _saved(told["saved"]), *changes, where, one.use, link])
    return _table(lines)


def _signed(values: Sequence[float]) -> str:
    told = (f"{x:+.3f}".replace("-", "−") for x in values)
    mean, low, high = ("0.000" if one[1:] == "0.000" else one for one in told)
    return f"{mean} [{low}, {high}]"


def _saved(factors: Mapping[str, float]) -> str:
    """3.1 × less training time; where it costs instead: *costs* 3.1 × the training time."""
    told = []
    for name, x in factors.items():
        what, most = SAVINGS[name], max(x, 1 / x)
        near = f"{most:.0f}" if most >= 9.5 else f"{most:.1f}"
        less = f"{near} × {'fewer' if what.endswith('s') else 'less'} {what}"
        more = f"*costs* {near} × the {what}"
        told.append(f"{what} as before" if near == "1.0" else less if x > 1 else more)
    return ", ".join(told) or "nothing: equal steps"


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


def hero(findings: Sequence[Finding], folder: Path = REFERENCE) -> Figure:
    """A line for each strategy: what it does to the AUROC, with its interval, and what it saves."""
    told = [judge(one, folder) for one in findings][::-1]
    figure, axes = subplots(width=8, height=0.9 + 0.3 * len(told))
    kinds = {"lower AUROC": COLOURS[1], "higher AUROC": COLOURS[2], "no difference shown": "0.45"}
    less, more, open_ = kinds.values()
    for y, row in enumerate(told):
        mean, low, high = row["test_auroc"]
        colour = less if high < 0 else more if low > 0 else open_
        colour = colour if abs(mean) >= 0.0005 else open_  # MNIST's, which is near 1 anyway
        axes.errorbar(mean, y, xerr=[[mean - low], [high - mean]], color=colour, marker="o")
        saved = _saved(row["saved"]).replace("*", "")
        axes.annotate(saved, (1.02, y), xycoords=("axes fraction", "data"), va="center")
    for kind, colour in kinds.items():
        axes.plot([], [], "o", color=colour, label=kind)
    figure.legend(loc="outside upper left", ncols=3)
    axes.axvline(0, color="0.2", linewidth=1)
    axes.set_yticks(range(len(told)), [row["strategy"] for row in told])
    axes.grid(axis="y", visible=False)
    axes.set_ylim(-0.6, len(told) - 0.4)
    axes.set_xlabel(
        "change of the test AUROC by the strategy, with its 95 % interval over the seeds"
    )
    return figure


PNEUMONIA = ["pneumoniamnist", "pneumoniamnist_reordered"]
RATE = {"data": PNEUMONIA, "learning_rate": 0.001}
FINDINGS = [
    Finding(
        "a small net (LeNet-5 for ResNet-18)",
        "00",
        "first: it is the yardstick",
        saves=("train_seconds", "params"),
        arm={"model": "lenet5", "epochs": 4},
        reference={"model": "resnet18", "epochs": 4},
        where=RATE,
    ),
    Finding(
        "the small net, four times the passes",
        "00",
        "minutes count, two points of AUROC do not",
        saves=("train_seconds", "params"),
        arm={"model": "lenet5", "epochs": 16},
        reference={"model": "resnet18", "epochs": 4},
        where=RATE,
    ),
    Finding(
        "a class-balanced fifth, equal steps",
        "10",
        "labels are dear, or classes are rare",
        saves=("train_n", "train_seconds"),
        arm={"selection": "class_balanced", "epochs": 50},
        reference={"selection": "none", "epochs": 10},
        where={"model": "mlp"},
    ),
    Finding(
        "a class-balanced fifth, equal passes",
        "10",
        "a first look",
        saves=("train_n", "train_seconds"),
        arm={"selection": "class_balanced", "epochs": 10},
        reference={"selection": "none", "epochs": 10},
        where={"model": "mlp"},
    ),
    Finding(
        "a fifth of the images removed by a proxy",
        "11",
        "not once: random images save more",
        saves=("whole_seconds",),
        arm={"selection": "entropy"},
        reference={"selection": "none", "epochs": 5},
        where={"model": "lenet_srinivas"},
    ),
    Finding(
        "importance sampling, equal steps",
        "12",
        "not for small nets: take more uniform steps",
        arm={"sampler": "importance", "epochs": 6},
        reference={"sampler": "uniform", "epochs": 6},
        where={"data": "mnist"},
    ),
    Finding(
        "ImageNet weights, 105 images",
        "13",
        "few labels, and a net that does not learn alone",
        saves=(),
        arm={"weights": "imagenet", "trainable": "all"},
        reference={"weights": "random"},
        where={"model": "mobilenetv2_100", "train_fraction": 0.1},
    ),
    Finding(
        "distillation, equal steps",
        "23",
        "a small net must answer, and a teacher is there",
        arm={"teacher": "a run", "teacher_share": 0.9},
        reference={"teacher": "none"},
        where={"model": "mlp", "selection": "none", "epochs": 10},
    ),
    Finding(
        "neurons merged, without an image",
        "20",
        "no images, no time to train again",
        saves=("params", "macs"),
        arm={"merge": "merge", "neuron_fraction": 0.165},
        reference={"merge": "none", "epochs": 1},
        where={"data": "mnist"},
    ),
    Finding(
        "half of the channels cut, tuned again",
        "21",
        "a model that will answer often",
        saves=("params", "latency_s"),
        arm={"prune": "channels", "teacher": "none", "epochs": 6},
        reference={"prune": "none", "epochs": 4},
        where={"data": PNEUMONIA},
    ),
    Finding(
        "low-rank layers, 13 × fewer weights",
        "22",
        "a small file, a faster answer; needs images to tune",
        saves=("params", "latency_s"),
        arm={"factorize": "svd_spatial", "epochs": 6},
        reference={"factorize": "none"},
    ),
    Finding(
        "mixed precision (bf16)",
        "30",
        "a CPU or GPU with bf16, large dense nets",
        arm={"precision": "amp_bf16"},
        reference={"precision": "fp32"},
        where={"model": "resnet18"},
    ),
    Finding(
        "8-bit optimiser",
        "31",
        "memory is short, time is not",
        saves=("optimizer_state_bytes", "train_seconds"),
        arm={"optimizer": "adamw8bit"},
        reference={"optimizer": "adamw"},
    ),
]


def tables() -> dict[str, str]:
    """What stands between the marks of the README, by mark."""
    found = {"findings": render_findings(FINDINGS), "answer": render_answer()}
    return found | {"results": render_results()}


def draw() -> None:
    """Write the README's figure."""
    hero(FINDINGS).savefig(REFERENCE / "findings.png", dpi=150)
