"""What a sweep will take, its order, its budgets and its shards. Runs are made up but for a few."""

import math
import random
import shutil
from collections import Counter
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta

import pytest

from conftest import seeds
from effml import NUMERICS, Recipe, forecast, grid, load_runs, sweep
from effml.__main__ import main
from effml.machine import cpu
from effml.results import RecordWriter
from effml.sweeping import expected, order, pending, plan
from effml.sweeping.expected import Forecast, cheapest_first, pilots
from effml.sweeping.order import share

QUICK = Recipe(model="mlp", data="phantom-chest", epochs=1, threads=1)
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def record(recipe, train_s, rest_s=0.0, watts=10.0, megabytes=100, **more):
    """A record of a run on this machine that took `train_s` and, outside training, `rest_s`."""
    seconds = {"prepare": rest_s, "train": train_s, "infer": 0.0}
    made = recipe.to_dict() | {"recipe_id": recipe.id, "run_id": f"{recipe.id}-{more}"}
    made |= {"status": "ok", "device": "cpu", "device_name": cpu()[0], "numerics": NUMERICS}
    made |= {"threads_used": 1, "params": 1000, "epochs_run": recipe.epochs, "shared": 0}
    made |= {"data_sha256": plan._sha256(recipe), "started_utc": BEGAN.isoformat()}
    made["finished_utc"] = (BEGAN + timedelta(seconds=train_s + rest_s)).isoformat()
    for window, spent in seconds.items():
        made |= {f"{window}_seconds": spent, f"{window}_peak_memory_bytes": megabytes * 1e6}
        for end, factor in (("", 1), ("_low", 0.5), ("_high", 2)):
            made[f"{window}_energy{end}_j"] = factor * watts * spent
    return made | more


def test_a_line_through_records_foretells_seconds_joules_and_memory():
    rows = [
        record(QUICK.but(epochs=2), train_s=5.0, rest_s=0.5, megabytes=90),
        record(QUICK.but(epochs=6, seed=3, learning_rate=0.1), train_s=9.0, rest_s=0.5),
    ]
    told = Forecast(rows, "cpu").of(QUICK.but(epochs=10))
    assert told.seconds == pytest.approx(0.5 + 3 + 10 * 1) and told.source == "2 records"
    assert told.joules == pytest.approx(135) and told.memory == (90e6, 100e6)
    shown, (low, high) = told.columns(), expected.SPREAD["records"]
    assert shown["minutes"] == pytest.approx((13.5 + expected.RUN_S) / 60)
    assert shown["kwh_low"] == pytest.approx(low * 135 / 2 / 3.6e6)
    assert shown["kwh_high"] == pytest.approx(high * 135 * 2 / 3.6e6)
    half = Forecast(rows, "cpu").of(QUICK.but(epochs=10, selection="random", train_fraction=0.5))
    assert half.seconds == pytest.approx(0.5 + 3 + 10 * 0.55 / 1.05)
    assert Forecast(rows, "cpu").of(QUICK.but(batch_size=8)) is None
    assert Forecast(rows, "cuda").of(QUICK) is None
    kept = QUICK.but(selection="kcenter", train_fraction=0.5)  # which takes time of its own
    assert Forecast(rows, "cpu").of(kept) is None


def test_one_epoch_is_a_pilot_and_a_record_without_training_says_nothing_of_it():
    told = Forecast([record(QUICK, 2.0, 1.0)], "cpu").of(QUICK.but(epochs=5))
    assert told.seconds == pytest.approx(11) and told.source == told.basis == "pilot"
    bare = Forecast([record(QUICK.but(epochs=0), 0.0, 1.0)], "cpu")
    assert bare.of(QUICK) is None and bare.of(QUICK.but(epochs=0)).seconds == pytest.approx(1)


def test_which_records_count():
    good = record(QUICK.but(epochs=5), 5.0)
    for wrong in (
        {"status": "failed"},
        {"numerics": NUMERICS - 1},
        {"resumed_epoch": 2},
        {"train_seconds": None},
        {"started_utc": None},
    ):
        assert Forecast([good | wrong], "cpu").of(QUICK) is None, wrong
    busy = record(QUICK.but(epochs=5), 50.0, shared=1)
    assert Forecast([good, busy], "cpu").of(QUICK).seconds == pytest.approx(1)
    assert Forecast([busy], "cpu").of(QUICK).seconds == pytest.approx(10)
    stood = record(QUICK.but(epochs=5), 10.0, turns_seconds=5.0)
    assert Forecast([stood], "cpu").of(QUICK).seconds == pytest.approx(1)
    elsewhere = record(QUICK.but(epochs=5), 5.0, device_name="a supercomputer")
    told = Forecast([elsewhere], "cpu").of(QUICK)
    assert told.basis == "guess" and "other CPUs" in told.source
    assert Forecast([elsewhere, good], "cpu").of(QUICK).source == "1 record"
    assert Forecast([elsewhere], "cpu", anyones=True).of(QUICK).basis == "records"


def test_unknown_joules_stay_unknown_and_seconds_do_not():
    told = Forecast([record(QUICK, 2.0, train_energy_j=None)], "cpu").of(QUICK)
    assert told.seconds == pytest.approx(2) and math.isnan(told.joules)


def test_cheapest_first_by_records_and_else_by_parameters_and_pixels():
    small, large = QUICK.but(model="lenet5"), QUICK.but(model="resnet18")
    big = small.but(size=64)
    assert cheapest_first([large, big, small], Forecast([], "cpu")) == [small, big, large]
    slow = record(small, 100.0)
    known = Forecast([slow], "cpu")
    assert known.of(small).seconds == 100 and known.guess(large).seconds > 1000
    assert cheapest_first([large, small.but(epochs=9), small], known)[0] == small
    same = [QUICK.but(seed=seed) for seed in (3, 1, 2)]
    assert cheapest_first(same, known) == same


def test_pilots_are_of_one_epoch_and_of_three_where_that_was_short():
    asked = grid(QUICK.but(epochs=20, weights="r0123456789"), seed=[0, 1])
    [first] = pilots(asked, Forecast([], "cpu")).values()
    assert first == QUICK.but(weights="random")  # the same work, and at hand
    for seconds, epochs in ((1.0, [3]), (expected.SHORT_S + 1, [])):
        found = pilots(asked, Forecast([record(first, seconds)], "cpu"))
        assert [pilot.epochs for pilot in found.values()] == epochs
    assert pilots([QUICK.but(epochs=0)], Forecast([record(first, 1.0)], "cpu")) == {}


def test_shards_are_disjoint_complete_balanced_and_keep_families_together():
    recipes = grid(QUICK, model=["mlp", "lenet5", "resnet18"], seed=range(8), epochs=[1, 10])
    heads = [r.but(weights=r.id, trainable="head", epochs=2) for r in recipes[:9]]
    recipes += heads
    for n in (1, 2, 3, 7):
        shards = [share(recipes, f"{i}/{n}") for i in range(1, n + 1)]
        assert Counter(r.id for shard in shards for r in shard) == Counter(r.id for r in recipes)
        for shard in shards:
            ids = {recipe.id for recipe in shard}
            assert all(head.weights in ids for head in heads if head.id in ids)
            for model in ("lenet5", "resnet18"):  # of 16 each
                assert abs(sum(r.model == model for r in shard) - 16 / n) <= 2
        mixed = random.Random(n).sample(recipes, len(recipes))
        assert {r.id for r in share(mixed, f"1/{n}")} == {r.id for r in shards[0]}
    for wrong in ("0/2", "3/2", "1", "a/b", "1/0", "-1/2"):
        with pytest.raises(ValueError, match="such as 1/4"):
            share(recipes, wrong)


class Clock:
    """Time that goes on only while a run is done."""

    def __init__(self):
        self.now = 1000.0
        self.monotonic = self.time = lambda: self.now

    def sleep(self, seconds):
        self.now += seconds


class Made:
    """An executor whose runs take what `seconds` says, and what `watts` draw."""

    def __init__(self, clock, seconds, watts=100.0):
        self.clock, self.seconds, self.watts, self.did = clock, seconds, watts, []

    def submit(self, function, job):
        recipe, future = Recipe.from_dict(job["recipe"]), Future()
        self.did.append((recipe, self.clock.now))
        took = self.seconds(recipe)
        self.clock.sleep(took)
        made = record(recipe, took, watts=self.watts, run_id=f"{recipe.id}-{len(self.did)}")
        future.set_result(made | {"finished_utc": (BEGAN + timedelta(seconds=took)).isoformat()})
        return future


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(order, "time", clock)
    monkeypatch.setattr(plan, "time", clock)
    return clock


def test_budgets_are_kept_within_a_run_and_nothing_starts_once_they_are_spent(tmp_path, clock):
    rng = random.Random(0)
    for attempt in seeds(5, 30):
        noise = {seed: rng.uniform(0.7, 1.4) for seed in range(8)}

        def seconds(recipe):
            return noise[recipe.seed] * recipe.epochs * 10.0

        recipes = grid(QUICK, epochs=[1, 3, 8, 20], seed=range(8))
        budget = rng.uniform(0.05, 1.1) * sum(map(seconds, recipes))
        for limits in ({"max_hours": budget / 3600}, {"max_kwh": budget * 100 / 3.6e6}):
            store, made = tmp_path / f"{attempt}-{next(iter(limits))}", Made(clock, seconds)
            began = clock.now
            table = sweep(recipes, store, executor=made, in_flight=1, device="cpu", **limits)
            spent = clock.now - began
            longest = max(seconds(recipe) for recipe, _ in made.did)
            assert spent <= max(1.05 * budget, budget + longest)
            assert all(when < began + budget for _, when in made.did)
            left = set(table.attrs["left_out"])
            assert len(load_runs(store)) == len(made.did) == len(table) == 32 - len(left)
            assert left == {r.id for r in pending(recipes, store, device="cpu")}
            epochs = [recipe.epochs for recipe, _ in made.did]
            assert epochs == sorted(epochs)
            dearest = (
                max(noise.values()) * 10 * (min([r.epochs for r in recipes if r.id in left] or [0]))
            )
            assert budget - spent <= 1.5 * dearest or not left  # nor is it left unused


def test_a_run_that_would_not_fit_is_not_begun_and_said(tmp_path, clock, capfd):
    with RecordWriter(tmp_path) as writer:
        writer.append(record(QUICK.but(epochs=2), 100.0))
    made = Made(clock, lambda recipe: 50.0 * recipe.epochs)
    recipes = grid(QUICK, epochs=[1, 4, 8])
    table = sweep(recipes, tmp_path, executor=made, device="cpu", max_hours=0.08)  # 288 s
    assert table.epochs.tolist() == [1, 4] and [recipe.epochs for recipe, _ in made.did] == [1, 4]
    told = capfd.readouterr().err
    assert "1 of 3 runs left out" in told and "needs about 6.67 min" in told and "0.633 min" in told
    assert len(sweep(recipes, tmp_path, executor=made, device="cpu")) == 3


def test_joules_that_nobody_measures_end_a_sweep_with_a_budget_of_them(tmp_path, clock, capfd):
    made = Made(clock, lambda recipe: 1.0, watts=math.nan)
    recipes = grid(QUICK, seed=range(4))
    table = sweep(recipes, tmp_path, executor=made, in_flight=1, device="cpu", max_kwh=1.0)
    assert len(table) == 1 and "max_kwh cannot be kept" in capfd.readouterr().err
    for wrong in ({"max_hours": 0}, {"max_kwh": -1.0}, {"max_hours": math.inf}):
        with pytest.raises(ValueError, match="is no budget"):
            sweep(recipes, tmp_path, **wrong)


def test_a_run_waits_for_those_it_builds_on_and_is_left_out_with_them(tmp_path, clock):
    parent = QUICK.but(epochs=30)
    child = QUICK.but(weights=parent.id, teacher=QUICK.but(seed=7).id)
    teacher = QUICK.but(seed=7, epochs=1)
    running = []

    class Parallel(Made):
        def submit(self, function, job):
            recipe = Recipe.from_dict(job["recipe"])
            running.append(recipe.id)
            if recipe == child:
                known = set(load_runs(tmp_path).recipe_id)
                assert {parent.id, teacher.id} <= known
            answer = super().submit(function, job)
            ended = iter([False, False, True])
            answer.done = lambda: next(ended, True)
            return answer

    made = Parallel(clock, lambda recipe: 1.0)
    sweep([child, parent, teacher], tmp_path, executor=made, device="cpu")
    assert running == [parent.id, teacher.id, child.id]
    with RecordWriter(tmp_path / "b") as writer:
        writer.append(record(QUICK.but(epochs=20), 1e5))
    made = Made(clock, lambda recipe: 1.0)
    asked = dict(executor=made, device="cpu", max_hours=1.0)
    table = sweep([child, parent, teacher], tmp_path / "b", **asked)
    assert {*table.attrs["left_out"]} == {parent.id, child.id, teacher.id} - {*table.recipe_id}
    assert parent.id in table.attrs["left_out"][child.id]


def test_the_command_plans_shards_and_tells_how_far_it_is(tmp_path, capsys):
    words = ["model=mlp", "epochs=1,2", "threads=1", "seed=0,1", "--device", "cpu"]
    store = tmp_path / "store"
    with RecordWriter(store) as writer:
        writer.append(record(QUICK.but(seed=5), 60.0))
        writer.append(record(QUICK.but(seed=5, epochs=3), 180.0))
    assert main(["sweep", *words, "--store", str(store), "--plan"]) == 0
    said = capsys.readouterr().out
    assert "2 records" in said and "4 of 4 runs to do" in said and "minutes 6.1 (" in said
    assert len(load_runs(store)) == 2  # no pilot was needed
    for i in (1, 2):
        into = tmp_path / f"pc{i}"
        assert main(["sweep", *words, "--store", str(into), "--shard", f"{i}/2"]) == 0
        assert len(load_runs(into)) == 2
        for file in into.iterdir():
            shutil.copy(file, store)
    assert main(["status", str(store), *words]) == 0
    said = capsys.readouterr().out
    assert "4 ok" in said and "0 of 4 runs" in said
    table = sweep(grid(QUICK, epochs=[1, 2], seed=[0, 1]), store, device="cpu")
    assert (table.status == "ok").all() and len(load_runs(store)) == 6  # each once, two made up


def test_a_forecast_does_the_pilots_that_it_needs_once(tmp_path):
    asked = grid(QUICK, epochs=[10, 20], precision=["fp32", "fp16"])
    for _ in range(2):
        table = forecast(asked, tmp_path, device="cpu")
        runs = load_runs(tmp_path)
        assert sorted(runs.epochs[runs.status == "ok"]) == [1, 3]
        assert len(runs) == 3 and runs.status.tolist().count("unsupported") == 1
    of = table.set_index(["precision", "epochs"])
    assert of.source["fp32"].tolist() == ["pilot"] * 2
    assert of.source["fp16"].tolist() == ["pilot: unsupported"] * 2
    assert of.minutes["fp16"].isna().all() and of.minutes["fp32", 20] > of.minutes["fp32", 10] > 0
    assert (of.memory_mb["fp32"] > 50).all() and of.kwh_low["fp32", 10] < of.kwh["fp32", 10]


def told(capsys, *words):
    words = ["sweep", "model=mlp", "threads=1", *map(str, words), "--device", "cpu"]
    assert main(words) == 0
    return " ".join(capsys.readouterr().out.split())


def test_a_plan_says_what_fits_and_counts_the_start(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(order, "available_memory_bytes", lambda: 50e6)
    with RecordWriter(tmp_path) as writer:
        writer.append(record(QUICK.but(seed=5), 60.0))
        writer.append(record(QUICK.but(seed=5, epochs=3), 180.0))
    asked = ("epochs=1,2,4", "--store", tmp_path, "--plan")
    said = told(capsys, *asked, "--max-hours", 3.2 / 60, "--max-kwh", 1)
    assert "2 of these 3 fit in max_hours=0.0533333 and max_kwh=1" in said
    assert "3 need more than the 50 MB" in said
    minutes = 7 + (3 * expected.RUN_S + expected.START_S[0]) / 60
    assert f"minutes {minutes:.2g} (" in said
    said = told(capsys, *asked, "--max-kwh", 130 * 10 / 3.6e6)
    assert "1 of these 3 fit in max_kwh=" in said and "may start" not in said
    said = told(capsys, "epochs=1", "seed=5", "--store", tmp_path, "--plan")
    assert said.startswith("nothing left to do") and "unknown" not in said


def test_a_plan_does_no_pilot_of_what_has_timed_out(tmp_path, capsys):
    late = QUICK.but(epochs=9)
    lost = {"status": "timed out", "timeout_s": 30.0, "train_seconds": None}
    with RecordWriter(tmp_path) as writer:
        writer.append(record(late, 1.0) | lost)
    asked = ("epochs=9", "--store", tmp_path, "--plan", "--max-kwh", 1)
    assert "nothing left" in told(capsys, *asked, "--timeout-minutes", 0.5)
    said = told(capsys, *asked)
    assert "timed out after 30 s" in said and "1 without a forecast may start" in said
    assert len(load_runs(tmp_path)) == 1


def test_max_kwh_is_kept_by_measured_joules_and_runs_without_a_forecast_are_told(tmp_path, capfd):
    first = sweep(QUICK, tmp_path, device="cpu").iloc[0]  # one recipe is a list of one
    joules = sum(first[f"{window}_energy_j"] for window in expected.WINDOWS)
    if math.isnan(joules):
        pytest.skip("nothing measures energy here")
    budget = 4.5 * joules / 3.6e6
    recipes = grid(QUICK, seed=range(1, 12))
    table = sweep(recipes, tmp_path, device="cpu", max_kwh=budget)
    runs = sum(table[f"{window}_energy_j"] for window in expected.WINDOWS)
    assert runs.sum() / 3.6e6 <= max(1.05 * budget, budget + runs.max() / 3.6e6)
    assert 0 < len(table) < 11 and len(table.attrs["left_out"]) == 11 - len(table)
    assert "no forecast" not in capfd.readouterr().err
    sweep(QUICK.but(model="lenet5"), tmp_path, device="cpu", max_kwh=budget)
    assert "1 of 1 runs have no forecast" in capfd.readouterr().err


def test_what_cannot_be_asked_of_a_sweep_is_refused_with_advice(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    for words, advice in (
        (["--plan", "--status"], "not both"),
        (["--timeout-minutes=0"], "--timeout-minutes 0 is no time: give minutes"),
        (["--store", str(file)], "is a file: give a folder"),
        (["--plan", "--store", str(file)], "is a file: give a folder"),
    ):
        assert main(["sweep", "model=mlp", *words]) == 2
        assert advice in capsys.readouterr().err, words
    with pytest.raises(ValueError, match="recipes holds a str: give effml.Recipe"):
        sweep(["mlp"], tmp_path)
