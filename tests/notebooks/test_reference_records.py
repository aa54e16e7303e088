"""What conclusions stand on: the records behind all laptop outputs, looked at together."""

import json
from pathlib import Path

import pandas
import pytest

from effml import Recipe, load_runs
from effml.seeds import interval

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "results" / "reference"
NOT_COMPARED = (
    *("precision", "convolutions", "seed", "epochs", "batch_size", "learning_rate", "schedule"),
    "augment",
)
"""Fields in which two notebooks may differ and still say the same of a model."""

MARGIN = 0.03
"""Of AUROC: what lies between two notebooks' best recipes for a model that both train well."""

SHOWN_AS_FAILURES: dict[str, str] = {
    "60 {'data': 'lidc_nodules_64', 'size': np.int64(32), 'model': 'efficientnet_b0', "
    "'optimizer': 'adam', 'batch_size': np.int64(32)}": "61: one of four pilots, not chosen",
}
"""Runs that are constant predictors, by notebook and recipe, and what the notebook says of them."""

AT_CHANCE = {"foot_ulcer_128": 0.1}
"""Below this AUROC (of masks the Dice) an arm predicts a constant; elsewhere below 0.55. Ulcers fill
1 % of a picture: with all of its pixels called the Dice is 0.02."""

MARKS_THEM = {"76": "one training of seconds for each of 131 models: it counts those that learned"}
"""Notebooks that mark every constant predictor themselves, and compare no groups with it."""


@pytest.fixture(scope="module")
def every():
    """Of every notebook's file, with its number. Of masks, the Dice stands for the AUROC."""
    parts = []
    for path in sorted(REFERENCE.glob("runs-*.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        parts.append(pandas.DataFrame(lines).assign(notebook=path.stem[-2:], file=path.stem))
    every = pandas.concat(parts, ignore_index=True)
    return every.fillna({"test_auroc": every.test_dice})


@pytest.fixture(scope="module")
def runs(every):
    """Of the CPU, which all laptop outputs come from."""
    return every[every.device == "cpu"]


def plain(runs):
    """Whole trainings of a model as it is, on all images of a set."""
    known = [name for name in Recipe.__dataclass_fields__ if name in runs]
    defaults = Recipe().to_dict()
    free = {"data", "size", "model", "weights", *NOT_COMPARED}
    full = runs.fillna({n: defaults[n] for n in known})  # older records lack newer fields
    same = [full[name] == defaults[name] for name in known if name not in free]
    trained = runs.epochs > 0
    kind = runs.weights.isin(["random", "imagenet"])
    return runs[pandas.concat([*same, trained, kind, runs.status == "ok"], axis=1).all(axis=1)]


def together(runs):
    """Same data, same model, same size: the best recipe of each notebook, chosen on validation."""
    rows = []
    by = ["data", "size", "model", "weights", "notebook"]
    for key, group in plain(runs).groupby(by):
        recipes = ["epochs", "batch_size", "learning_rate", "precision", "schedule"]
        best = max(
            (part for _, part in group.groupby(recipes)),
            key=lambda part: part.val_auroc.fillna(0).mean(),  # MNIST has no validation split
        )
        mean, low, high = interval(best.test_auroc)
        row = dict(zip(by, key)) | {"seeds": len(best), "auroc": mean, "low": low, "high": high}
        rows.append(row | {"steps": (best.epochs * best.train_n / best.batch_size).mean()})
    return pandas.DataFrame(rows)


def test_no_notebook_contradicts_another(runs):
    for _, same in together(runs).groupby(["data", "size", "model", "weights"]):
        gap = same.auroc.max() - same.auroc.min()
        low, high = same.low.max(), same.high.min()
        assert gap <= MARGIN or low <= high, same.to_string()


def test_no_arm_is_a_constant_predictor(runs):
    """Means over seeds: an AUROC at chance, or a class that is never found."""
    known = [name for name in Recipe.__dataclass_fields__ if name in runs and name != "seed"]
    defaults, runs = Recipe().to_dict(), runs[~runs.notebook.isin(MARKS_THEM)]
    for name in ("weights", "teacher"):  # each seed has a parent of its own
        runs = runs.assign(**{name: runs[name].str.replace(r"^r[0-9a-f]{10}$", "run", regex=True)})
    found = {}
    for _, arm in runs[runs.status == "ok"].groupby(["notebook", *known], dropna=False):
        at_chance = arm.test_auroc.mean() < AT_CHANCE.get(arm.data.iloc[0], 0.55)
        missed = (arm.test_worst_class_recall == 0).all()
        if at_chance or missed:
            first = arm.iloc[0]
            changed = {n: first[n] for n in known if first[n] != defaults[n]}
            found[f"{first.notebook} {changed}"] = arm
    told = [
        f"{k}: {a.data.iloc[0]} {a.model.iloc[0]} {a.test_auroc.mean():.2f}"
        for k, a in found.items()
    ]
    assert set(found) <= set(SHOWN_AS_FAILURES), "\n".join(told)


def mixed(runs):
    """Where the costs of two CPUs could be laid beside each other: in a file, in the files of a
    notebook, or of a recipe that `runs-more-NN`, which may come from another CPU, has with these."""
    runs = runs.assign(cpu=runs.device_name.fillna("unknown") + ", " + runs.cpu_flags.fillna(""))
    more = runs.file.str.startswith("runs-more-")
    found = [name for name, of in runs.groupby("file") if of.cpu.nunique() > 1]
    for notebook, of in runs[~more].groupby("notebook"):
        other = runs[more & (runs.notebook == notebook)]
        found += [f"{notebook}: {of.file.unique().tolist()}"] * (of.cpu.nunique() > 1)
        found += [f"{notebook}: {one}" for one in {*of.recipe_id} & {*other.recipe_id}]
    return found


def test_costs_are_compared_within_one_machine(runs):
    assert not mixed(runs)


def test_two_machines_in_one_comparison_are_found(runs):
    """The check itself, on records changed by hand."""
    runs = runs[runs.file != "runs-more-76"]
    other = runs[runs.file == "runs-76"].assign(device_name="another")
    rest = runs[runs.file != "runs-76"]
    assert mixed(pandas.concat([rest, other])) == ["76: ['runs-grid-76', 'runs-76']"]
    assert mixed(pandas.concat([runs, other])) == ["runs-76", "76: ['runs-76', 'runs-grid-76']"]
    alike, new = other.head(1).assign(file="runs-more-76"), other.head(1).assign(recipe_id="rnew")
    assert mixed(pandas.concat([runs, alike])) == [f"76: {alike.recipe_id.iloc[0]}"]
    assert not mixed(pandas.concat([runs, new.assign(file="runs-more-76")]))
    assert mixed(pandas.concat([runs, new.assign(file="runs-grid-76")]))[0] == "runs-grid-76"
    flags = runs.cpu_flags.where(runs.file != "runs-76", "avx2")
    assert mixed(runs.assign(cpu_flags=flags)) == ["76: ['runs-76', 'runs-grid-76']"]


def test_threads_are_the_same_where_costs_are_compared(runs):
    asked = runs[runs.threads.fillna(0) > 0]  # by the recipe: these are compared with each other
    assert set(asked.notebook) == {"65"} and (asked.threads_used == asked.threads).all()
    one_thread = runs[(runs.threads_used != 2) & ~runs.index.isin(asked.index)]
    one_thread = one_thread[one_thread.status == "ok"]
    assert set(one_thread.notebook) == {"60"}, one_thread[["notebook", "model"]]  # it says which
    by = ["notebook", "model", "epochs", "learning_rate", "seed"]
    alike = runs[runs.status == "ok"].groupby(by, dropna=False).threads_used.nunique()
    assert (alike == 1).all(), alike[alike > 1]  # costs are compared with the same seed


def test_records_of_a_gpu_have_files_and_one_machine_of_their_own(every):
    gpu = every[every.device == "cuda"]
    assert len(gpu) and gpu.device_name.nunique() == 1 and gpu.torch.nunique() == 1
    for path in REFERENCE.glob("runs-*.jsonl"):
        devices = {json.loads(line)["device"] for line in path.read_text().splitlines()}
        assert devices == ({"cuda"} if path.stem.startswith("runs-gpu-") else {"cpu"}), path.name


def test_every_notebook_that_trains_left_its_records():
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        code = "".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        if "sweep(" in code and "effml.sweep" not in code.split("sweep(")[0][-6:]:
            assert (REFERENCE / f"runs-{path.name[:2]}.jsonl").is_file(), path.name


def test_the_table_together_finds_a_contradiction(runs):
    """The check itself: a notebook whose net does not start."""
    rows = [row for _, row in plain(runs).head(3).iterrows()]
    bad = pandas.DataFrame(rows).assign(notebook="99", test_auroc=0.5, val_auroc=0.5)
    good = pandas.DataFrame(rows)
    with pytest.raises(AssertionError):
        test_no_notebook_contradicts_another(pandas.concat([good, bad]))


def test_load_runs_reads_the_reference():
    assert len(load_runs(REFERENCE)) > 0
