"""What the command line prints of a run."""

import pytest

import effml
from effml import Recipe, Record
from effml.summary import summary

COSTS = {
    "train_seconds": 12.345,
    "train_energy_j": 250.0,
    "train_energy_low_j": 100.0,
    "train_energy_high_j": 600.0,
    "train_peak_memory_bytes": 1.5e9,
    "infer_seconds": 0.4,
    "infer_energy_j": 2.0,
    "infer_energy_low_j": 1.0,
    "infer_energy_high_j": 4.0,
    "infer_peak_memory_bytes": 7e8,
    "energy_source": "cpu-time × TDP, estimated (5 W a busy CPU, range 2–12)",
    "energy_reason": "rapl: no package; battery: none",
}
BINARY = {
    "test_n": 400,
    "test_majority_rate": 0.625,
    "test_auroc": 0.9,
    "test_auroc_low": 0.85,
    "test_auroc_high": 0.94,
    "test_accuracy": 0.8,
    "test_accuracy_low": 0.75,
    "test_accuracy_high": 0.84,
    "test_sensitivity": 0.7,
    "test_sensitivity_low": 0.6,
    "test_sensitivity_high": 0.8,
    "test_specificity": 0.95,
    "test_specificity_low": 0.9,
    "test_specificity_high": 0.98,
    "test_threshold": 0.5,
}
SIZES = {"params": 11_171_266, "macs": 33_006_848, "model_file_bytes": 44_734_376}
WHERE = {
    "precision_used": "amp_bf16",
    "precision_why": "asked for",
    "threads_used": 2,
    "device_name": "AMD EPYC",
    "torch": "2.13.0+cpu",
    "finished_utc": "2026-11-26T21:21:23.793+00:00",
}
RUN = {"train_n": 1200, "best_epoch": 7, "epochs_run": 10, "resumed_epoch": 0}


def record(recipe=Recipe(model="resnet18", epochs=12, seed=3), **columns):
    made = Record(recipe, run_id=f"{recipe.id}-c138bf80", status="ok")
    made.update({**COSTS, **BINARY, **SIZES, **WHERE, **RUN, **columns})
    return made


def told(row, store="results/local"):
    """The entries of a summary by name, each in one line again; no line is too long."""
    lines = "\n".join(summary(row, store)).splitlines()
    assert max(map(len, lines)) <= 100
    entries, last = {}, ""
    for line in lines:
        name, text = line[:12].strip(), line[12:].strip()
        last = name or last
        entries[last] = f"{entries.get(last, '')} {text}".strip()
    return entries


def test_a_run_in_ten_lines_says_what_was_asked_quality_costs_place_and_what_next():
    row = record()
    assert len(summary(row, "s")) == 10
    said = told(row)
    assert said["run"] == f"{row.run_id}: ok, ended 2026-11-26 21:21 UTC, stored in results/local"
    asked = "data=phantom-chest model=resnet18 epochs=12 seed=3, all else by default"
    assert said["asked"] == asked and Recipe.parse(asked.split(",")[0].split()).id == row.recipe_id
    assert said["data"].startswith("1200 training and 400 test images; 62.5 % of these")
    for part in (
        "AUROC 0.900 [0.850, 0.940]",
        "accuracy 0.800 [0.750, 0.840]",
        "sensitivity 0.700 [0.600, 0.800]",
        "specificity 0.950 [0.900, 0.980] at threshold 0.5",
    ):
        assert part in said["quality"]
    assert said["training"] == (
        "12.3 s, 250 J (100 J to 600 J), peak memory 1.5 GB, best epoch 7 of 10"
    )
    assert said["energy"] == COSTS["energy_source"]
    assert said["inference"] == "1 ms, 5 mJ (2.5 mJ to 10 mJ) an image, peak memory 700 MB"
    assert said["size"].startswith("11.2 M parameters, 33 M mult") and "44.7 MB" in said["size"]
    assert said["computed"].startswith("in amp_bf16, asked for; 2 threads of AMD EPYC, torch 2.13")
    assert said["next"].startswith("python -m effml show;") and "--all" in said["next"]
    assert "predict" in said["next"]


def test_a_model_that_was_kept_can_predict():
    row = record(kept_sha256="ab")
    assert told(row, "my runs")["next"] == (
        f"python -m effml predict {row.run_id} FOLDER --store 'my runs'"
    )
    masks = record(kept_sha256="ab", test_dice=0.5)
    assert told(masks)["next"].startswith(f"effml.load_run('{masks.run_id}', 'results/local')")


def test_masks_have_dice_instead():
    missing = dict.fromkeys(BINARY)
    dice = {"test_dice": 0.61, "test_dice_low": 0.5, "test_dice_high": 0.7, "test_iou": 0.45}
    said = told(record(**missing | dice | {"test_n": 20}, data_phantom=1))
    assert said["quality"] == "Dice 0.610 [0.500, 0.700], IoU 0.450"
    assert said["data"] == "1200 training and 20 test images, simulated"
    assert said["inference"].startswith("20 ms, 100 mJ ")


@pytest.mark.parametrize("unknown", [None, float("nan")])
def test_what_a_resumed_run_cost_is_unknown_and_says_why(unknown):
    names = ("seconds", "energy_j", "energy_low_j", "energy_high_j")
    why = "interrupted and resumed after epoch 4"
    lost = {f"train_{name}": unknown for name in names}
    said = told(record(**lost, resumed_epoch=4, energy_reason=why))
    assert said["training"] == (
        f"unknown s, unknown J, peak memory 1.5 GB, best epoch 7 of 10, {why}"
    )
    assert said["energy"] == f"unknown: {why}"


def test_unknown_energy_has_its_reason_and_a_busy_machine_is_told():
    lost = {name: None for name in COSTS if "energy_" in name and name.endswith("_j")}
    busy = {"shared": 1, "shared_machine": 1}
    said = told(record(**lost, **busy, energy_reason="nvml: not installed"))
    assert said["energy"] == "unknown: nvml: not installed"
    assert said["training"].startswith("12.3 s, unknown J, ") and "over 10 %" in said["training"]
    assert "another run was on this machine" in said["training"]
    assert "unknown J an image" in said["inference"]
    assert "0 J" not in f"{said}"


def test_a_run_that_builds_on_others_adds_them_and_notes_are_whole():
    note = "of class 3 there is no test image: " * 9
    said = told(record(lineage_seconds=300.0, lineage_energy_j=5000.0, notes=note))
    assert said["built on"].startswith("5.0 min and 5 kJ of training")
    assert said["notes"] == note.strip()


@pytest.mark.parametrize(
    "status, advice",
    [
        ("unsupported", "change the recipe"),
        ("out of memory", "change the recipe"),
        ("failed", "the same command"),
        ("data unavailable", "the same command"),
    ],
)
def test_a_run_that_failed_says_its_reason_whole_and_no_figures(status, advice):
    reason = "ValueError: " + "why " * 80 + '\nTraceback:\n  File "a.py", line 3, in f\n    g()'
    row = Record(Recipe(model="mlp"), status=status, reason=reason, finished_utc="2026-11-26T21:21")
    said = told(row)
    assert said["reason"].split() == reason.split() and advice in said["next"]
    mine = Record(Recipe(data="mine.npz"), status=status, reason="ValueError: mine holds NaN")
    assert "change the data or" in told(mine)["next"] or advice == "the same command"
    assert not {"quality", "training", "energy", "inference", "size", "computed"} & said.keys()
    assert '\n              File "a.py", line 3, in f\n' in "\n".join(summary(row, "s"))


def test_a_real_record_and_the_row_of_a_table_say_the_same(tmp_path):
    row = effml.run(Recipe(model="mlp", epochs=1))
    with effml.results.RecordWriter(tmp_path) as writer:
        writer.append(row)
    read = effml.load_runs(tmp_path).iloc[0].to_dict()
    assert summary(row, tmp_path) == summary(read, tmp_path)
    assert "unknown" not in "\n".join(summary(row, tmp_path))


def test_amounts_have_three_digits_and_a_prefix():
    for seconds, words in (
        (0.0000019996, "2 µs"),
        (0.00099996, "1 ms"),
        (0.9999, "1 s"),
        (119.0, "119 s"),
        (7500, "125.0 min"),
        (0.0, "0 s"),
    ):
        assert told(record(train_seconds=seconds))["training"].startswith(f"{words}, ")


def test_the_convolutions_are_counted():
    for used, words in (
        ("a=ppp b=lll c?=p d=llp", "; 3 of 4 convolution shapes by effml's algorithms"),
        ("library", ""),
        (None, ""),
    ):
        computed = told(record(convolutions_used=used))["computed"]
        assert computed == told(record())["computed"] + words
