"""What notebooks 65 and 66 show, from the committed tables alone (no torch)."""

import os
from collections.abc import Iterable
from pathlib import Path

import pandas
from matplotlib.figure import Figure

import effml
from effml.claims import Estimate
from effml.figures import COLOURS, MARKERS, subplots
from effml.machine import ROOT
from effml.results import had_company
from thakur.recipes import MODES, WORKLOADS

FP32 = ("eager", "channels_last", "onnxruntime", "openvino")
INT8 = "openvino_int8"
"""The mode that the paper's sentences are judged by, named before it was measured."""

REFERENCE = ROOT / "results" / "reference"
AT = ["workload", "threads"]
MOST_OTHERS = 0.1
"""Times say less where other programs took a larger share of the CPU time: these have a star."""


def place(store: str | os.PathLike) -> Path:
    """Your folder where `thakur.measure` has written its tables there, else the reference."""
    own = Path(store) / "grid-65-latency.csv"
    return own.parent if own.is_file() else REFERENCE


def measured(workloads: Iterable[str], folder: str | os.PathLike = REFERENCE) -> pandas.DataFrame:
    """A row for each workload, mode and number of threads: the columns of the committed tables of
    latencies and utilities, and `over_pytorch` and `over_fp32`, the speed-ups over PyTorch and over
    the fastest mode in float32 with as many threads."""
    laps = pandas.read_csv(Path(folder) / "grid-65-latency.csv")
    laps = laps.merge(
        pandas.read_csv(Path(folder) / "grid-65-utility.csv"), on=["workload", "mode"]
    )
    laps = laps[laps.workload.isin(list(workloads))]
    eager = laps[laps["mode"] == "eager"].set_index(AT).median_ms
    best = laps[laps["mode"].isin(FP32)].groupby(AT).median_ms.min()
    laps = laps.set_index(AT)
    laps["over_pytorch"] = eager.reindex(laps.index) / laps.median_ms
    laps["over_fp32"] = best.reindex(laps.index) / laps.median_ms
    return laps.reset_index()


def trainings(workloads: Iterable[str], folder: str | os.PathLike = REFERENCE) -> pandas.DataFrame:
    """How each workload's model was trained, and how good it is on the test images: its score with
    the interval over patients, and the worst of what is behind the mean."""
    runs = effml.load_runs(folder)
    runs = runs[runs.status == "ok"].drop_duplicates("recipe_id", keep="last")
    runs = runs.set_index("recipe_id")
    scores = pandas.read_csv(Path(folder) / "grid-65-utility.csv")
    scores, rows = scores[scores["mode"] == "eager"].set_index("workload"), {}
    for name in workloads:
        of, score = WORKLOADS[name], scores.loc[name]
        masks = of.model.startswith("unet")
        rows[name] = {
            "data": of.data.partition(":")[0],
            "px": of.size,
            "training images": int(runs.train_n[of.id]),
            "model": of.model,
            "parameters, millions": round(runs.params[of.id] / 1e6, 2),
            "epochs": of.epochs,
            "minutes, one thread": round(runs.train_seconds[of.id] / 60, 1),
            "test Dice" if masks else "test AUROC": f"{score.reference:.3f} "
            f"[{score.reference_low:.3f}, {score.reference_high:.3f}]",
            "patients or photographs": int(score.patients),
            "worst tenth" if masks else "worst class": round(score.worst_reference, 3),
        }
    return pandas.DataFrame.from_dict(rows, "index").rename_axis("workload")


def table(found: pandas.DataFrame, score: str) -> pandas.DataFrame:
    """In the form of the paper's: workload × mode, with one and two threads in a cell. `score` is
    what the test images are scored by, Dice or AUROC."""
    rows = {}
    for (workload, mode), of in found.groupby(["workload", "mode"], sort=False):
        of = of.sort_values("threads")
        first = of.iloc[0]
        loss = f"{first.loss:+.4f} [{first.loss_low:+.4f}, {first.loss_high:+.4f}]"
        rows[workload, MODES[mode]] = {
            "ms": _each(
                of.median_ms.map("{:.2f}".format)
                + (of.others_cpu > MOST_OTHERS).map({True: "*", False: ""})
            ),
            "× PyTorch": _each(of.over_pytorch, "{:.1f}"),
            "× best fp32": _each(of.over_fp32, "{:.2f}"),
            "memory, MB": _each(of.peak_memory_bytes / 1e6, "{:.0f}"),
            "file, MB": f"{first.file_bytes / 1e6:.1f}",
            f"{score} lost": "–" if mode == "eager" else loss,
            "gate": "–" if mode == "eager" else "passes" if first.passed else "fails",
        }
    return pandas.DataFrame.from_dict(rows, "index").rename_axis(["workload", "mode"])


def _each(values: pandas.Series, form: str = "{}") -> str:
    return " / ".join(map(form.format, values))


def figure(found: pandas.DataFrame, score: str) -> Figure:
    """Speed-ups over PyTorch (filled: one thread, hollow: two), and what is lost of the score with
    its interval; a row for each workload and mode."""
    rows = found[found["mode"] != "eager"].groupby(["workload", "mode"], sort=False)
    figure, axes = subplots(1, 2, sharey=True, height=1.0 + 0.17 * len(rows))
    names, heights, y = [], [], 0.0
    for i, ((workload, mode), of) in enumerate(rows):
        y += 1 if i and names[-1][0] == workload else 1.8
        names, heights = [*names, (workload, MODES[mode])], [*heights, y]
        place = list(MODES).index(mode)
        look = {"color": COLOURS[place % 7], "marker": MARKERS[place % 7], "linestyle": "none"}
        for one in of.itertuples():
            fill = look["color"] if one.threads == 1 else "white"
            axes[0].plot(one.over_pytorch, y, **look, markerfacecolor=fill, markersize=5)
        low, middle, high = of[["loss_low", "loss", "loss_high"]].iloc[0]
        axes[1].errorbar(middle, y, xerr=[[middle - low], [high - middle]], **look, markersize=4)
    axes[0].set(xscale="log", xlabel="speed-up over PyTorch")
    axes[0].axvline(1, color="k", linewidth=0.8)
    axes[1].set_xlabel(f"test {score} lost")
    for edge in (-0.01, 0, 0.01):
        axes[1].axvline(edge, color="k", linewidth=0.8, linestyle="-" if edge == 0 else ":")
    axes[0].set_yticks(heights, [f"{workload}: {mode}" for workload, mode in names], fontsize=7)
    axes[0].invert_yaxis()
    return figure


def statements(found: pandas.DataFrame, task: str) -> dict[str, Estimate]:
    """The sentences of the abstract, for `effml.report`: INT8 with one thread, in the workload
    where each is true the least. `task` is the end of their ids."""
    one = found[(found["mode"] == INT8) & (found.threads == 1)]
    eager = found[(found["mode"] == "eager") & (found.threads == 1)].set_index("workload")
    memory = 1 - one.peak_memory_bytes / one.workload.map(eager.peak_memory_bytes)
    worst = one.loc[one.loss_high.idxmax()]
    exact = {"speed": one.over_pytorch.min(), "fp32": one.over_fp32.min(), "memory": memory.min()}
    ours = {f"thakur-{name}-{task}": Estimate(x, x, x) for name, x in exact.items()}
    loss = Estimate(worst.loss, worst.loss_low, worst.loss_high)
    return ours | {f"thakur-utility-{task}": loss}


def yardsticks(found: pandas.DataFrame, task: str) -> dict[str, Estimate | list[float]]:
    """What others state of INT8, and the authors' own notebook, for `effml.report`; empty where it
    takes another machine or model. Sizes and times are over OpenVINO in 32 bits, on one thread."""
    at = found[found.threads == 1].set_index(["workload", "mode"])
    files = at.file_bytes.unstack()
    smaller = files["openvino"] / files[INT8]
    if task == "segmentation":
        net, laps = "MRI, brain 3-D", at.median_ms.unstack()
        same = at.loc[net, "openvino"]
        return {
            "thakur-brainmage-speed": [],
            "thakur-brainmage-dice": Estimate(same.loss, same.loss_low, same.loss_high),
            "qu-int8-size": Estimate(*[smaller[net]] * 3),
            "qu-int8-latency": Estimate(*[laps["openvino"][net] / laps[INT8][net]] * 3),
        }
    least, slowest = smaller.min(), 1 / found[found["mode"] == INT8].over_fp32.min()
    ours = dict.fromkeys(
        ("edge-xray-arm", "gram-stain-quantised-time", "gram-stain-pruned-size"), []
    )
    sizes = {
        name: Estimate(*[least] * 3) for name in ("edge-xray-size", "gram-stain-quantised-size")
    }
    auroc = statements(found, task)[f"thakur-utility-{task}"]
    return ours | sizes | {"edge-xray-auroc": auroc, "edge-xray-x86": Estimate(*[slowest] * 3)}


def busy(found: pandas.DataFrame) -> str:
    """How much of the CPU time other programs took in the measurements, in words."""
    others = found.others_cpu
    more = f"in {(others > MOST_OTHERS).sum()} of {len(others)} (*) over {MOST_OTHERS:.0%}"
    return f"other programs took {others.min():.0%} to {others.max():.0%} of the CPU time, {more}"


def threads_gain(found: pandas.DataFrame) -> pandas.DataFrame:
    """What two threads gain over one, by workload and mode."""
    by = found.pivot(index=["workload", "mode"], columns="threads", values="median_ms")
    gain = (by[1] / by[2]).unstack("workload")
    return gain.reindex(MODES).dropna(how="all").rename(MODES).rename_axis("mode").round(2)


def unseen(folder: str | os.PathLike = REFERENCE) -> pandas.DataFrame:
    """Dice of the ulcers of a source that the model did not see, by mode."""
    of = pandas.read_csv(Path(folder) / "grid-66-unseen.csv").set_index("mode")
    ends = of[["dice", "dice_low", "dice_high"]].to_numpy()
    told = {
        "Dice": [f"{x:.3f} [{low:.3f}, {high:.3f}]" for x, low, high in ends],
        "images": of.n,
        "of them one mask empty": of.n_one_empty,
        "pixels found": of.pixel_sensitivity.round(2),
        "of the called ones right": of.pixel_precision.round(2),
    }
    return pandas.DataFrame(told, of.index).rename(MODES).rename_axis("mode")


def longer(folder: str | os.PathLike = REFERENCE) -> pandas.DataFrame:
    """Three trainings each of the nets for volumes: AUROC with the 95 % interval over seeds. No
    minutes of those that shared their machine."""
    runs, rows = effml.load_runs(folder), []
    runs = runs[(runs.data == "adrenalmnist3d") & runs.epochs.isin([8, 16])]
    for (model, epochs), of in runs.groupby(["model", "epochs"]):
        row = {"model": model, "epochs": epochs, "seeds": len(of)}
        row |= {
            f"{split} AUROC": effml.spread(of[f"{split}_auroc"], 3) for split in ("test", "val")
        }
        row["worst class"] = of.test_worst_class_recall.mean().round(2)
        alone = of.train_seconds[~had_company(of)]
        row |= {"minutes": round(alone.mean() / 60, 1), "CPU": of.device_name.iloc[0]}
        rows.append(row)
    return pandas.DataFrame(rows).set_index(["model", "epochs"])
