"""What the tables of notebooks 60 to 63 show."""

import pandas

from effml import spread
from effml.claims import Estimate
from effml.evaluation import wilson
from effml.machine import ROOT
from effml.results import data_label, emulated
from selvan.runs import paired_by_model

SIZE = ROOT / "results" / "reference" / "13-area.csv"
"""How well the area of a nodule alone tells its class: computed by notebook 13."""


def results(runs: pandas.DataFrame, by: tuple[str, ...] = ("net", "arm")) -> pandas.DataFrame:
    """Quality and cost of each model in each setting: means over seeds with 95 % intervals."""
    of, shares = runs.groupby(list(by), sort=False), {"digits": 2, "top": 1}
    majority = "/".join(f"{rate:.2f}" for rate in sorted(set(runs.test_majority_rate)))
    table = of.test_auroc.apply(spread, 3, top=1).to_frame("test AUROC")
    table["worst class"] = of.test_worst_class_recall.apply(spread, **shares)
    table[f"accuracy (majority {majority})"] = of.test_accuracy.apply(spread, **shares)
    table["peak memory, MB"] = of.peak_mb.apply(spread, 0)
    table["state, MB"] = of.state_mb.mean().map("{:.1f}".format)
    table["time to best epoch, s"] = of.best_s.apply(spread, 1)
    return table.rename_axis([{"net": "model", "arm": "setting"}.get(n, n) for n in by])


def changes(runs: pandas.DataFrame) -> pandas.DataFrame:
    """Each setting minus the baseline, paired by seed, the intervals of one model corrected for its
    settings; memory and time in per cent of the model's baseline."""
    base = runs[runs.arm == "Baseline"].groupby("net", sort=False)
    table = {}
    for column, name in {"test_auroc": "AUROC", "test_worst_class_recall": "worst class"}.items():
        found = paired_by_model(runs, column)
        digits = 3 if column == "test_auroc" else 2
        table[name] = [
            f"{d:+.{digits}f} [{a:+.{digits}f}, {b:+.{digits}f}]" for d, a, b in ends(found)
        ]
    for column, name in {"peak_mb": "peak memory", "best_s": "time to best epoch"}.items():
        found = paired_by_model(runs, column)
        share = found[["difference", "low", "high"]].div(base[column].mean(), axis=0, level="net")
        table[name] = [f"{d:+.0%} [{a:+.0%}, {b:+.0%}]" for d, a, b in ends(share)]
    return pandas.DataFrame(table, found.index.set_names(["model", "setting"]))


def ends(found: pandas.DataFrame) -> list[list[float]]:
    return found[["difference", "low", "high"]].to_numpy().tolist()


def saved(runs: pandas.DataFrame, column: str, arm: str) -> list[float]:
    """The share of `column` that `arm` saves over the baseline, for each model and seed; none where
    16 bits are emulated, of which time and energy say nothing."""
    if column.endswith(("_s", "_j")) and emulated(runs[runs.arm == arm]).any():
        return []
    of = runs.pivot(index=["net", "seed"], columns="arm", values=column)
    return (1 - of[arm] / of["Baseline"]).tolist()


def told(runs: pandas.DataFrame) -> str:
    """Whose runs these are, of which models and images, and whether 16 bits were computed."""
    kinds = dict.fromkeys(zip(runs.net, runs.model, runs.epochs))
    models = [f"{net} ({name}, {epochs} epochs)" for net, name, epochs in kinds]
    whose = "; ".join(f"{of.net.iloc[0]} {who}" for (who, _), of in runs.groupby(["whose", "net"]))
    whose = runs.whose.iloc[0] if runs.whose.nunique() == 1 else whose
    slow = "emulated: times say nothing" if emulated(runs).any() else "computed, not emulated"
    seeds = ", ".join(map(str, sorted(set(runs.seed))))
    lacking = f"\nnot there: {', '.join(of)}" if (of := runs.attrs.get("lacking")) else ""
    return (
        f"runs: {whose}; {data_label(runs).iloc[0]}, seeds {seeds}\n"
        f"{', '.join(models)}; 16 bits are {slow}{lacking}"
    )


def constant(runs: pandas.DataFrame, by: tuple[str, ...] = ("net", "arm")) -> str:
    """Which arms hold a constant predictor: runs that never find one of the classes."""
    runs = runs.assign(never=runs.test_worst_class_recall == 0)
    counts = runs.groupby(list(by), sort=False).never.agg(["sum", "size"])
    counts = counts[counts["sum"] > 0]
    told = [f"{', '.join(map(str, i))} ({n} of {of} runs)" for i, n, of in counts.itertuples()]
    return "; ".join(told) or "none"


def size_baseline(data: str = "lidc_nodules_64") -> str:
    """The AUROC of the nodule's area alone on the same test images, with its interval."""
    table = pandas.read_csv(SIZE, comment="#").set_index("data")
    if data not in table.index:
        return "not known for these data"
    row = table.loc[data]
    return f"{row['AUROC of the area']:.3f} [{row.low:.3f}, {row.high:.3f}]"


def statements(runs: pandas.DataFrame, amp: pandas.DataFrame) -> dict[str, list[float] | Estimate]:
    """What three of the paper's statements come to, for `effml.report`: of `runs` of all models in
    all settings, and of `amp`, a CNN with and without AMP. A model of which a baseline never finds
    one of the classes has learned too little to speak of quality.
    """
    idle = set(runs.net[(runs.arm == "Baseline") & (runs.test_worst_class_recall == 0)])
    auroc = _auroc(runs[~runs.net.isin(idle)])
    gap = amp.pivot(index="seed", columns="arm", values="test_auroc")
    better = (auroc["8-bit"] > auroc["Baseline"]).drop("ViT", level="net", errors="ignore")
    return {
        "selvan-amp-cnn": (gap["AMP"] - gap["Baseline"]).tolist(),
        "selvan-8bit-memory": saved(runs, "peak_mb", "8-bit"),
        "selvan-8bit-better": Estimate(*wilson(better)),
    }


def statements_by_seed(runs: pandas.DataFrame) -> dict[str, list[float]]:
    """What the other four come to with each seed: of `runs` of DenseNet and Swin in all settings,
    and of ViT in the baseline, 8-bit and 8-bit + half. Time is that of the CPU, as other programs
    ran beside: the joules of the meter `cpu-time × TDP` are the run's own busy seconds × watts."""
    auroc = _auroc(runs)
    lost = (auroc["Baseline"] - auroc["8-bit + half"]).unstack("net")
    more = lost[["ViT", "Swin"]].mean(axis=1) - lost["DenseNet"]
    ours = {"selvan-8bit-time": saved(runs, "best_j", "8-bit"), "selvan-transformers": list(more)}
    for net, arm in {"DenseNet": "8-bit", "Swin": "8-bit + half"}.items():
        ours[f"selvan-best-{net.lower()}"] = above_others(runs[runs.net == net], arm)
    return ours


def amp_costs(runs: pandas.DataFrame) -> dict[str, list[float]]:
    """What AMP saves of memory and of the CPU time of an epoch, of one model with each seed. What
    counts was named when these runs were there, by the rules of the 8-bit statements."""
    runs = runs.assign(epoch_j=runs.train_energy_j / runs.epochs_run)
    columns = {"selvan-amp-memory": "peak_mb", "selvan-amp-time": "epoch_j"}
    return {claim: saved(runs, column, "AMP") for claim, column in columns.items()}


def above_others(runs: pandas.DataFrame, arm: str) -> list[float]:
    """The AUROC of a setting minus the mean of the others, of one model with each seed."""
    auroc = _auroc(runs)
    return (auroc[arm] - auroc.drop(columns=arm).mean(axis=1)).tolist()


def _auroc(runs: pandas.DataFrame) -> pandas.DataFrame:
    return runs.pivot(index=["net", "seed"], columns="arm", values="test_auroc")
