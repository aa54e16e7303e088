import hashlib
import json
import math

import numpy as np
import pandas
import pytest

import effml
from effml.recipe import Recipe
from effml.results import (
    Record,
    RecordWriter,
    load_arrays,
    load_runs,
    own_or_reference,
    save_arrays,
)


def record(seed=0, status="ok", finished="2026-01-01", **more):
    return Record(
        Recipe(seed=seed),
        status=status,
        finished_utc=finished,
        device="cpu",
        numerics=1,
        data_sha256="ab",
        **more,
    )


def test_what_is_written_is_read(tmp_path):
    with RecordWriter(tmp_path) as writer:
        writer.append(record(1, test_auroc=np.float32(0.5), train_energy_j=math.nan, reason=None))
        writer.append(record(2))
    line = next(tmp_path.glob("runs-*.jsonl")).read_text().splitlines()[0]
    assert json.loads(line)["train_energy_j"] is None and "NaN" not in line
    runs = load_runs(tmp_path)
    assert list(runs.seed) == [1, 2]
    assert runs.test_auroc[0] == 0.5
    assert math.isnan(runs.train_energy_j[0])
    assert runs.recipe_id[0] == Recipe(seed=1).id and runs.attrs["unreadable"] == 0


def test_every_writer_has_a_file_of_its_own_and_an_idle_one_has_none(tmp_path):
    with RecordWriter(tmp_path) as a, RecordWriter(tmp_path) as b, RecordWriter(tmp_path):
        a.append(record(1)), b.append(record(2)), a.append(record(3))
    assert sorted(len(path.read_text().splitlines()) for path in tmp_path.glob("runs-*.jsonl")) == [
        1,
        2,
    ]


def test_every_record_is_on_the_disk_before_the_next(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("effml.results.sync_folder", lambda folder: told.append(folder))
    monkeypatch.setattr("os.fsync", lambda number: told.append(len(load_runs(tmp_path))))
    with RecordWriter(tmp_path) as writer:
        writer.append(record(1)), writer.append(record(2))
    assert told == [tmp_path, 1, 2]


def test_words_for_no_run_are_no_files(tmp_path, monkeypatch):
    from effml.results import weights_sha256

    monkeypatch.chdir(tmp_path)
    for name in ("none", "random", "imagenet", "mine"):
        (tmp_path / name).write_bytes(b"weights")
        digest = hashlib.sha256(b"weights").hexdigest() if name == "mine" else None
        assert weights_sha256(name, None) == weights_sha256(name, tmp_path) == digest
    assert weights_sha256(None, None) is weights_sha256("absent", tmp_path) is None


def test_of_two_runs_of_a_recipe_the_newest_with_weights_is_the_start(tmp_path):
    from effml.results import weights_sha256

    rows = [
        {
            "recipe_id": "r1",
            "status": "ok",
            "run_id": f"r1-{day}",
            "finished_utc": f"2026-01-0{day}",
        }
        for day in (2, 1, 3)
    ]
    for day in (1, 2):
        (tmp_path / f"r1-{day}.safetensors").write_bytes(b"%d" % day)
    assert weights_sha256("r1", tmp_path, rows) == hashlib.sha256(b"2").hexdigest()


def test_torn_and_foreign_lines_are_skipped_and_counted(tmp_path):
    with RecordWriter(tmp_path) as writer:
        writer.append(record(1)), writer.append(record(2))
    path = next(tmp_path.glob("runs-*.jsonl"))
    whole = path.read_bytes()
    for cut in [*range(whole.index(b"\n") + 1, len(whole) - 1, 29), len(whole) - 2]:
        path.write_bytes(whole[:cut])
        runs = load_runs(tmp_path)
        assert list(runs.seed) == [1] and runs.attrs["unreadable"] == (cut > whole.index(b"\n") + 1)
    path.write_bytes(whole + b"\xff\xfe\n[1]\n{}\nnull\n")
    assert load_runs(tmp_path).attrs["unreadable"] == 4 and len(load_runs(tmp_path)) == 2


def test_the_newest_ok_wins_over_newer_failures_and_merging_is_copying(tmp_path):
    for i, row in enumerate(
        [
            record(1, finished="2026-01-03", test_auroc=0.3),
            record(1, finished="2026-01-02", test_auroc=0.2),
            record(1, status="failed", finished="2026-01-09"),
            record(2, status="failed", finished="2026-01-01"),
            record(2, status="out of memory", finished="2026-01-02"),
        ]
    ):
        with RecordWriter(tmp_path / str(i)) as writer:
            writer.append(row)
    merged = tmp_path / "merged"
    merged.mkdir()
    for path in tmp_path.glob("?/runs-*.jsonl"):
        (merged / path.name).write_bytes(path.read_bytes())
    runs = load_runs(merged).set_index("seed")
    assert len(runs) == 2 and runs.test_auroc[1] == 0.3 and runs.status[2] == "out of memory"


def test_an_absent_store_is_empty_and_has_the_columns(tmp_path):
    runs = load_runs(tmp_path / "nothing")
    assert len(runs) == 0 and "test_auroc" in runs and "model" in runs


def test_own_runs_come_before_the_reference(tmp_path, monkeypatch):
    with RecordWriter(tmp_path / "results" / "reference") as writer:
        writer.append(record(7))
    monkeypatch.setattr("effml.results.ROOT", tmp_path)
    assert own_or_reference(tmp_path / "mine", lambda runs: runs).attrs["whose"] == "reference"
    with RecordWriter(tmp_path / "mine") as writer:
        writer.append(record(8)), writer.append(record(9, status="failed"))
    mine = own_or_reference(tmp_path / "mine", lambda runs: runs)
    assert mine.attrs["whose"] == "yours" and list(mine.seed) == [8]
    with pytest.raises(FileNotFoundError, match="Run the notebook"):
        own_or_reference(tmp_path / "mine", lambda runs: runs[runs.seed == 5])


def test_own_or_reference_picks_by_fields(tmp_path, monkeypatch):
    for folder, seeds in (("results/reference", (0, 1)), ("mine", (1, 2, 3))):
        with RecordWriter(tmp_path / folder) as writer:
            for seed in seeds:
                writer.append(record(seed))
    monkeypatch.setattr("effml.results.ROOT", tmp_path)
    for fields, whose, seeds in (
        ({"seed": 2}, "yours", [2]),
        ({"seed": [0, 1]}, "yours", [1]),
        ({"seed": (0,)}, "reference", [0]),
        ({"seed": [1, 3], "data": "phantom-chest"}, "yours", [1, 3]),
        ({}, "yours", [1, 2, 3]),
        ({"want": lambda runs: runs[runs.seed > 1], "seed": [1, 2]}, "yours", [2]),
    ):
        runs = own_or_reference(tmp_path / "mine", **fields)
        assert (runs.attrs["whose"], sorted(runs.seed)) == (whose, seeds)
    with pytest.raises(FileNotFoundError):
        own_or_reference(tmp_path / "mine", seed=2, data="another")
    with pytest.raises(ValueError, match="Unknown column 'sede'. Choose from: .*seed"):
        own_or_reference(tmp_path / "mine", sede=2)


def test_arrays_stand_beside_the_records_whole(tmp_path):
    save_arrays(tmp_path, "r1-ab", {"p": np.arange(3.0)})
    assert load_arrays(tmp_path, "r1-ab")["p"].tolist() == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["r1-ab.npz"]


def test_joules_say_whether_counters_measured_them():
    from effml.results import heading

    runs = pandas.DataFrame({"energy_measured": [1.0, 0.0, float("nan")]})
    assert heading("train_energy_j", runs[:1]) == "training energy, J"
    assert heading("train_energy_j", runs) == "training energy, J (partly estimated)"
    assert (
        heading("train_energy_j", runs[1:])
        == heading("train_energy_j", runs[["energy_measured"]].drop(columns="energy_measured"))
        == "training energy, J (estimated)"
    )
    assert heading("test_auroc", runs) == "test AUROC" and heading("macs", runs) == "macs"


BF16_RUNS = pandas.DataFrame(
    {
        "data": "d",
        "model": "m",
        "precision": ["fp32", "amp_bf16", "bf16", "amp_bf16"],
        "precision_used": ["fp32", *["amp_bf16"] * 3],
        "precision_emulated": [0, 1, 1, 0],
        "cpu_flags": "avx2",
        "device": "cpu",
        "status": "ok",
        "data_phantom": 0,
        "seed": range(4),
        "train_seconds": 1.0,
        "train_energy_j": 1.0,
        "energy_measured": 1,
        "test_auroc": 0.5,
    }
)


def test_every_table_says_which_precision_was_emulated():
    from effml.results import heading, precision_label

    said = ["fp32", "amp_bf16 (emulated)", "bf16 (emulated)", "amp_bf16"]
    assert precision_label(BF16_RUNS).tolist() == said
    assert precision_label(BF16_RUNS[["precision"]]).tolist() == BF16_RUNS.precision.tolist()
    assert precision_label(BF16_RUNS[:0]).tolist() == []
    table = effml.over_seeds(BF16_RUNS, ["train_seconds", "test_auroc"])
    assert table.index.get_level_values("precision").tolist() == said
    assert "training time, s (partly emulated bf16)" in table
    with pytest.raises(ValueError, match=r"in precision \(fp32, amp_bf16 \(emulated\)"):
        effml.over_seeds(BF16_RUNS, ["train_energy_j"], by=["model"])
    assert heading("train_seconds", BF16_RUNS[1:3]) == "training time, s (emulated bf16)"
    assert heading("train_seconds", BF16_RUNS[3:4]) == "training time, s"
    assert heading("test_auroc", BF16_RUNS) == "test AUROC"


def test_the_readme_and_the_command_line_say_what_was_emulated(monkeypatch, tmp_path, capsys):
    from effml.__main__ import main
    from findings import render_results

    monkeypatch.setattr("effml.precision.cpu", lambda: ("an old CPU", "avx2"))
    record = effml.run(Recipe(model="mlp", epochs=0, precision="amp_bf16"), device="cpu")
    record.update(data_phantom=0)  # the README shows no phantoms
    with RecordWriter(tmp_path) as writer:
        writer.append(record)
    assert "steps, amp_bf16 (emulated) |" in render_results(tmp_path)
    assert main(["show", "--store", str(tmp_path)]) == 0
    assert "(emulated)" in capsys.readouterr().out
    assert (
        main(["run", "model=mlp", "epochs=0", "precision=amp_bf16", "--store", str(tmp_path)]) == 0
    )
    told = capsys.readouterr().out
    assert "amp_bf16 (emulated)" in told and "asked for; emulated" in told
    assert max(map(len, told.splitlines())) <= 100


def test_the_cost_of_a_training_that_was_interrupted_is_unknown_not_small(monkeypatch):
    from effml import experiment
    from effml.experiment import fit

    plain = fit.train

    def resumed(*args, **options):
        history = plain(*args, **options)
        history.resumed_epoch = 1
        return history

    monkeypatch.setattr(fit, "train", resumed)
    record = experiment.run(Recipe(model="mlp", epochs=2))
    assert record.status == "ok"
    assert record.train_seconds is None
    assert record.train_energy_high_j is None
    assert "interrupted" in record.energy_reason
    assert record.infer_seconds > 0
    assert record.train_peak_memory_bytes > 0


def test_foreign_rows_are_counted_and_disturb_nobody(tmp_path):
    from effml.results import read_records
    from effml.sweeping import pending

    good = json.dumps({**record(1), "run_id": "r1", "train_seconds": 1.0})
    odd = [
        {**record(2), "finished_utc": 20260101},
        {**record(2), "run_id": ["r"]},
        {**record(2), "data_sha256": {"a": 1}},
        {**record(2), "numerics": "1"},
        {**record(2), "seed": "two"},
        {**record(2), "epochs": True},
        {**record(2), "model": 5},
        {**record(2), "train_seconds": "3 s"},
        {**record(2), "recipe_id": None},
        {"recipe_id": "r2"},
        {"status": "ok"},
        {"recipe_id": 5, "status": "ok"},
        [],
        "ok",
    ]
    lines = [good, *map(json.dumps, odd), "[" * 100_000]
    (tmp_path / "runs-a.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "runs-b.jsonl").mkdir()
    bare = {"recipe_id": Recipe().id, "status": "ok"}  # an older record, say, without most columns
    (tmp_path / "runs-c.jsonl").write_text(json.dumps(bare))
    rows, unreadable = read_records(tmp_path)
    assert len(rows) == 2 and unreadable == len(odd) + 2
    runs = load_runs(tmp_path)
    assert len(runs) == 2 and runs.attrs["unreadable"] == unreadable
    assert len(pending([Recipe(), Recipe(seed=2)], tmp_path, keep_weights=True)) == 2
    assert own_or_reference(tmp_path, lambda runs: runs[runs.seed == 1]).run_id.tolist() == ["r1"]
    former = {**bare, "budget": "params", "scores": "pixels"}  # what these fields were once called
    (tmp_path / "runs-c.jsonl").write_text(json.dumps(former))
    named = [(row.get("keep_unit"), row.get("features")) for row in read_records(tmp_path)[0]]
    assert ("params", "pixels") in named


def here(seed, name="laptop", threads=2, run_id=None, score=0.8, **fields):
    row = Record(
        Recipe(seed=seed, **fields),
        status="ok",
        finished_utc=f"2026-01-0{seed + 1}",
        device="cpu",
        numerics=1,
        data_sha256="ab",
        data_phantom=1,
        train_n=100,
        run_id=run_id or f"{name}-{threads}-{seed}-{Recipe(**fields).id}",
        device_name=name,
        cpu_flags="avx2",
        threads_used=threads,
        precision_used="fp32",
        energy_source="TDP",
        test_auroc=score,
    )
    values = dict.fromkeys(("test_accuracy", "test_majority_rate", "test_worst_class_recall"), 0.5)
    costs = ("train_seconds", "train_energy_j", "train_energy_low_j", "train_energy_high_j")
    row.update(values | dict.fromkeys(costs, 10.0 if name == "laptop" else 1.0))
    return row


def stored(folder, *records):
    with RecordWriter(folder) as writer:
        for row in records:
            writer.append(row)
    return load_runs(folder)


def test_machines_stand_beside_each_other_and_are_not_averaged(tmp_path):
    from effml.results import over_seeds
    from findings import render_results

    rows = [here(s, name) for s in range(3) for name in ("laptop", "server")]
    for row in rows:
        row.update(data_phantom=0)  # the README shows no phantoms
    runs = stored(tmp_path, *rows)
    assert len(runs) == 6
    table = over_seeds(runs, ["train_seconds"], digits=0)
    assert table.index.names == ["data", "model", "precision", "machine"]
    assert table["training time, s"].tolist() == ["10 [10, 10]", "1 [1, 1]"]
    assert table.seeds.tolist() == [3, 3]
    lines = render_results(tmp_path).splitlines()
    assert "machine" in lines[0]
    times = [line.split(" | ")[-1].removesuffix(" |") for line in lines[2:4]]
    assert sorted(times) == ["1.0 [1.0, 1.0]", "10.0 [10.0, 10.0]"]
    one, two = stored(tmp_path / "t", here(0), here(0, threads=4)).threads_used
    assert {one, two} == {2, 4}
    apart = over_seeds(load_runs(tmp_path / "t"), ["test_auroc"])
    assert [name[-1] for name in apart.index] == [
        "laptop (avx2, 2 threads)",
        "laptop (avx2, 4 threads)",
    ]


def test_a_table_over_seeds_refuses_what_else_differs(tmp_path):
    from effml.results import over_seeds
    from findings import render_results

    rates = [here(s, learning_rate=rate, batch_size=32) for s in range(3) for rate in (1e-3, 1.0)]
    runs = stored(tmp_path, *rates)
    with pytest.raises(
        ValueError, match=r"in learning_rate \(0.001, 1.0\).*Add learning_rate to by"
    ):
        over_seeds(runs, ["test_auroc"])
    other = [here(s, "laptop", weight_decay=decay) for s in range(2) for decay in (0.1, 0.2)]
    for row in other:
        row.update(data_phantom=0)
    stored(tmp_path / "decay", *other)
    with pytest.raises(ValueError, match="weight_decay"):
        render_results(tmp_path / "decay")
    by = ["data", "learning_rate"]
    assert over_seeds(runs, ["test_auroc"], by=by).seeds.tolist() == [3, 3]
    own = runs.assign(rate=runs.learning_rate.map({1e-3: "low", 1.0: "high"}))
    assert over_seeds(own, ["test_auroc"], by="rate").seeds.tolist() == [3, 3]
    for name, values in (
        ("data_sha256", "aab"),
        ("numerics", (1, 2, 2)),
        ("precision_used", ("fp32", "fp32", "amp_fp16")),
        ("weights", ("a.safetensors", "b.safetensors", "c.safetensors")),
        ("weights_sha256", "aab"),
    ):
        with pytest.raises(ValueError, match=f"in {name} "):
            over_seeds(runs[runs.learning_rate == 1].assign(**{name: list(values)}), ["test_auroc"])


def test_rows_of_a_table_are_named_by_what_was_asked_and_by_the_machine_only_where_several(
    tmp_path,
):
    from effml.results import data_label, over_seeds

    one = stored(tmp_path / "1", *(here(s, data=d) for s in range(2) for d in ("b", "a")))
    assert data_label(one.assign(data_phantom=[0, 1, 0, 1])).tolist() == [*("b", "a (phantom)") * 2]
    table = over_seeds(one, ["test_auroc"])
    assert table.index.names == ["data", "model", "precision"]
    assert table.index.get_level_values("data").tolist() == ["b (phantom)", "a (phantom)"]
    assert over_seeds(one.drop(columns="seed"), ["test_auroc"]).seeds.tolist() == [2, 2]
    two = stored(tmp_path / "2", *(here(s, name) for s in range(2) for name in ("new", "old")))
    own = two.assign(machine=two.device_name.map({"new": "lab", "old": "home"}))
    table = over_seeds(own, ["test_auroc"], by=["machine", "model"])
    assert table.index.tolist() == [("lab", "lenet5"), ("home", "lenet5")]


def test_seeds_are_counted_not_rows(tmp_path):
    from effml.results import over_seeds

    runs = stored(tmp_path, *(here(s, score=0.7 + s / 10) for s in range(3)))
    once = over_seeds(runs, ["test_auroc"])
    assert once.seeds.tolist() == [3]
    assert over_seeds(pandas.concat([runs, runs[runs.seed == 2]]), ["test_auroc"]).equals(once)
    children = runs.assign(weights=[f"r{s:010x}" for s in range(3)], weights_sha256=list("abc"))
    assert over_seeds(children, ["test_auroc"]).equals(once)  # each seed begins with its own parent
    other = pandas.concat([children, children[:1].assign(weights=f"r{9:010x}")])
    with pytest.raises(ValueError, match="in weights "):
        over_seeds(other, ["test_auroc"])
    with_a_gap = runs.assign(train_seconds=[1.0, 2.0, math.nan])
    assert over_seeds(with_a_gap, ["train_seconds"]).iloc[0, 1] == "nan (1 of 3 unknown)"
    losses = runs.assign(test_loss=[2.1, 2.2, 2.3])  # no score: is not cut to 1
    assert over_seeds(losses, ["test_loss"]).iloc[0, 1].startswith("2.200 [1.952, 2.448]")
