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
    "params": "parameters",
    "macs": "multiplications",
    "latency_s": "time of an answer",
    "optimizer_state_bytes": "optimiser memory",
}
"""Columns of a record, and what is saved by a smaller one."""


@dataclass(frozen=True)
class Finding:
    """A strategy: two arms of a notebook's records, paired by seed.

    `arm` and `reference` name columns and their values, or a list of them; `where` holds for both.
    """

    strategy: str
    notebook: str
    use: str
    saves: Sequence[str] = ("train_seconds",)
    arm: Mapping[str, Any] = field(default_factory=dict)
    reference: Mapping[str, Any] = field(default_factory=dict)
    where: Mapping[str, Any] = field(default_factory=dict)


def judge(one: Finding, folder: Path = REFERENCE) -> dict[str, Any]:
    """What a finding saves (factors by column) and what it changes: mean, low and high of the paired
    differences. ValueError where an arm has no two seeds in common with the other, or two runs of
    one seed."""
    runs = load_runs(folder / f"runs-{one.notebook}.jsonl")
    runs = _rows(runs[runs.status == "ok"], one.where)
    before, after = (_rows(runs, side).set_index("seed") for side in (one.reference, one.arm))
    seeds = before.index.intersection(after.index)
    if len(seeds) < 2 or not (before.index.is_unique and after.index.is_unique):
        counts = f"{len(before)} and {len(after)} runs, {len(seeds)} seeds in common"
        raise ValueError(f"{one.strategy} ({one.notebook}): {counts}.")
    before, after = before.loc[seeds], after.loc[seeds]
    told = {"strategy": one.strategy, "notebook": one.notebook, "seeds": len(seeds)}
    told["measured on"] = f"{after.data.iloc[0].removesuffix('_reordered')}, {after.model.iloc[0]}"
    told["saved"] = {name: before[name].mean() / after[name].mean() for name in one.saves}
    for name in ("test_auroc", "test_worst_class_recall"):
        told[name] = interval(after[name].astype(float) - before[name].astype(float))
    return told


def _rows(runs: pandas.DataFrame, asked: Mapping[str, Any]) -> pandas.DataFrame:
    for name, value in asked.items():
        runs = runs[runs[name].isin(value if isinstance(value, list) else [value])]
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
    mean, low, high = (f"{x:+.3f}".replace("-", "−") for x in values)
    return f"{mean} [{low}, {high}]"


def _saved(factors: Mapping[str, float]) -> str:
    """3.1 × less training time; *more*, where the strategy costs instead."""
    told = []
    for name, x in factors.items():
        sign, x = ("less", x) if x >= 1 else ("*more*", 1 / x)
        near = f"{x:.0f}" if x >= 9.5 else f"{x:.1f}"
        told.append(f"{near} × {sign} {SAVINGS[name]}" if near != "1.0" else f"no {SAVINGS[name]}")
    return ", ".join(told)


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
    nets = {}
    for (model, _, rate), arm in runs.groupby(["model", "epochs", "learning_rate"]):
        best = nets.get(model)  # of several recipes the best on validation
        if best is None or arm.val_auroc.mean() > best.val_auroc.mean():
            nets[model] = arm
    small, large = nets["lenet5"], nets["resnet18"]
    ratio = large.train_seconds.mean() / small.train_seconds.mean()
    return (
        f"Start with a small net. On PneumoniaMNIST ({small.train_n.iloc[0]:,.0f} images of 28 px) "
        f"LeNet-5 reaches a test AUROC of {spread(small.test_auroc, 3, top=1)} in "
        f"{small.train_seconds.mean():.0f} s, ResNet-18 {spread(large.test_auroc, 3, top=1)} in "
        f"{large.train_seconds.mean():.0f} s ({ratio:.0f} times as long). Their worst classes are "
        f"found with a recall of {spread(small.test_worst_class_recall, 2, top=1)} and "
        f"{spread(large.test_worst_class_recall, 2, top=1)} at the threshold 0.5: choose the "
        "threshold on validation.\n"
    )


def hero(findings: Sequence[Finding], folder: Path = REFERENCE) -> Figure:
    """A line for each strategy: what it does to the AUROC, with its interval, and what it saves."""
    told = [judge(one, folder) for one in findings][::-1]
    figure, axes = subplots(width=8, height=0.9 + 0.3 * len(told))
    for y, row in enumerate(told):
        mean, low, high = row["test_auroc"]
        colour = COLOURS[1] if high < 0 else COLOURS[2] if low > 0 else "0.45"
        axes.errorbar(mean, y, xerr=[[mean - low], [high - mean]], color=colour, marker="o")
        saved = _saved(row["saved"]).replace("*", "")
        axes.annotate(saved, (1.02, y), xycoords=("axes fraction", "data"), va="center")
    axes.axvline(0, color="0.2", linewidth=1)
    axes.set_yticks(range(len(told)), [row["strategy"] for row in told])
    axes.grid(axis="y", visible=False)
    axes.set_ylim(-0.6, len(told) - 0.4)
    axes.set_xlabel(
        "change of the test AUROC by the strategy, with its 95 % interval over the seeds"
    )
    return figure


FINDINGS: list[Finding] = []


def tables() -> dict[str, str]:
    """What stands between the marks of the README, by mark."""
    found = {"findings": render_findings(FINDINGS), "answer": render_answer()}
    return found | {"results": render_results()}


def draw() -> None:
    """Write the README's figure."""
    hero(FINDINGS).savefig(REFERENCE / "findings.png", dpi=150)
