"""The adviser: what it foretells, what it tries next, what it picks, and that it keeps to a budget."""

import math
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

import effml
from effml import Recipe
from effml.advice import _recipes, memory_bytes, ranking, search
from effml.advice.costs import Budget, Costs, Parts
from effml.advice.ranking import MARGIN, Quality, judged, ranked
from effml.advice.search import MENUS, STRATEGIES, Search
from effml.metering.memory import held_bytes
from effml.results import RecordWriter, save_arrays
from effml.sweeping import plan, server
from effml.sweeping.executors import Here, run_fresh

ARRAYS = {"test_labels": np.zeros(100), "val_labels": np.zeros(100)}


def ran(recipe, *, image=1e-3, forward=2e-4, whole=1000, **more):
    """The record and arrays of a run that follows the law: 0.5 s before it, 0.25 s once, 0.3 after."""
    n = round(whole * recipe.train_fraction)
    epoch = n * image + 100 * forward
    ends = {"started_utc": "2026-01-01T00:00:00+00:00"}
    seconds = 0.5 + 0.25 + recipe.epochs * epoch + 0.3
    row = recipe.to_dict() | ends | {"status": "ok", "recipe_id": recipe.id, "train_n": n}
    row |= {"prepare_seconds": 0.5, "train_seconds": 0.25 + recipe.epochs * epoch}
    row |= {"infer_seconds": 100 * forward}
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(1767225600 + int(seconds)))
    row["finished_utc"] = f"{stamp}.{round(seconds % 1 * 1e6):06d}+00:00"
    for window in ("prepare", "train", "infer"):
        row |= {f"{window}_{n}": row[f"{window}_seconds"] * w for n, w in WATTS.items()}
        row[f"{window}_peak_memory_bytes"] = 4e8
    first = epoch + 0.25
    return row | more, ARRAYS | {"epoch_seconds": [first] + [epoch] * (recipe.epochs - 1)}


def learn(costs, row, arrays):
    costs.learn(row, Parts.of(row, arrays))


WATTS = {"energy_j": 10.0, "energy_low_j": 5.0, "energy_high_j": 20.0}


def test_a_pilot_foretells_other_epochs_and_shares_exactly_where_the_law_holds():
    costs = Costs()
    pilot = Recipe(selection="random_per_class", train_fraction=0.2, epochs=2)
    learn(costs, *ran(pilot))
    told = costs.of(Recipe(epochs=7, seed=3, learning_rate=0.1))
    assert told.seconds == pytest.approx(0.5 + 0.25 + 7 * (1000 * 1e-3 + 0.02) + 0.3, rel=1e-5)
    assert told.joules == pytest.approx(10 * told.seconds) and told.memory == (4e8, 4e8)
    assert costs.of(Recipe(model="mlp")) is None and costs.of(Recipe(batch_size=64)) is None


def test_a_cut_epoch_tells_nothing_and_what_read_the_data_first_is_no_rule():
    costs = Costs()
    learn(costs, *ran(Recipe(epochs=1), ended_early=1))
    assert costs.of(Recipe()) is None
    row, arrays = ran(Recipe(epochs=2))
    learn(costs, row | {"prepare_seconds": 20.0}, arrays)
    assert costs.of(Recipe()).seconds > 20
    learn(costs, *ran(Recipe(model="mlp", epochs=2)))
    assert costs.of(Recipe()).seconds < 12


def test_of_two_runs_of_a_kind_the_nearer_then_the_later_foretells_and_the_larger_bounds():
    costs = Costs()
    for image, held in ((1e-3, 5e8), (2e-3, 4e8)):
        learn(costs, *ran(Recipe(epochs=2), image=image, together_peak_bytes=held))
    assert costs.epoch(Recipe()) == pytest.approx(1000 * 2e-3 + 0.02)
    assert costs.of(Recipe()).memory == (4e8, 5e8)
    few = Recipe(epochs=2, selection="random", train_fraction=0.1)
    learn(costs, *ran(few, image=3e-3, together_peak_bytes=3e8))
    assert costs.epoch(Recipe()) == pytest.approx(1000 * 2e-3 + 0.02)
    assert costs.epoch(few) == pytest.approx(100 * 3e-3 + 0.02)


def test_what_does_not_fit_gets_fewer_epochs_down_to_a_share_of_them():
    costs = Costs()
    learn(costs, *ran(Recipe(epochs=2)))
    assert costs.within(Recipe(), 100, 0.5) == Recipe()
    fewer = costs.within(Recipe(), 7.5, 0.5)
    assert (
        fewer.epochs == 6 and costs.of(fewer).seconds <= 7.5 < costs.of(fewer.but(epochs=7)).seconds
    )
    assert costs.within(Recipe(), 5, 0.5) is None and costs.within(Recipe(), 5, 0).epochs == 3
    assert costs.within(Recipe(), 0.5, 0) is None


def test_watt_hours_limit_the_time_by_the_most_watts_of_a_run():
    budget = Budget(3600, wh=0.1)
    free = budget.left
    assert free == pytest.approx(3600 - 1 - 36, abs=0.1)  # for the ranking and the test split
    budget.ended(ran(Recipe())[0])
    assert budget.left == pytest.approx(free - 3600 + 36, abs=0.1)
    budget.ended(ran(Recipe())[0] | {"train_energy_j": 0.0})
    assert budget.left == pytest.approx(free - 3600 + 36, abs=0.1)
    unknown = {f"{w}_energy_j": None for w in ("prepare", "train", "infer")}
    with pytest.raises(ValueError, match="wh=0.1 cannot be kept"):
        budget.ended(ran(Recipe())[0] | unknown)


def test_sizes_of_memory_are_read_as_people_write_them():
    asked = ["2GB", "2 gb", "2GiB", "500MB", "7000000", 1e6, None]
    assert [*map(memory_bytes, asked)] == [2e9, 2e9, 2**31, 5e8, 7e6, 1e6, None]


@pytest.mark.parametrize("wrong", ["2 gigs", "GB", "-1GB", "nan", 0, "1.2.3GB", "2", 2])
def test_no_size_is_told_what_one_is(wrong):
    with pytest.raises(ValueError, match="is no size for a run: give a number with B, kB, MB"):
        memory_bytes(wrong)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"minutes": 0}, "minutes=0 is no budget"),
        ({"minutes": -1}, "minutes=-1 is no budget"),
        ({"minutes": math.nan}, "minutes=nan is no budget"),
        ({"minutes": 1, "wh": 0}, "wh=0 is no budget"),
        ({"minutes": 1, "aim": "best"}, "Choose from: screening, confirmation, balanced"),
        ({"minutes": 1, "strategy": "best"}, "Choose from: climb, halving, random"),
        ({"minutes": 1, "menu": ["lenet5"]}, "The menu holds 'lenet5': give effml.Recipe"),
        ({"minutes": 1, "menu": []}, "The menu is empty: give effml.Recipe"),
        ({"minutes": 1, "spent_s": math.nan}, "spent_s=nan is no time"),
        ({"minutes": 1, "spent_s": -1}, "spent_s=-1 is no time"),
        ({"minutes": 1, "store": __file__}, "test_advice.py' is a file: give a folder"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(asked, told, monkeypatch):
    monkeypatch.setattr(search, "run_fresh", None)
    with pytest.raises(ValueError, match=told):
        effml.advise("phantom-chest", **asked)


def test_unknown_data_say_where_they_were_looked_for():
    with pytest.raises(FileNotFoundError, match="was not found in"):
        effml.advise("no-such-set", 1)


def test_a_folder_of_pictures_is_told_how_to_become_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"data import {tmp_path} mine.npz"):
        effml.advise(tmp_path, 1)
    assert not [*tmp_path.iterdir()]


def test_one_recipe_is_a_menu_of_one():
    base = Recipe(data="phantom-skin", threads=1)
    assert _recipes(Recipe(model="mlp"), base) == [base.but(model="mlp")]


def test_a_search_that_found_nothing_leaves_no_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search, "run_fresh", lambda job: {"status": "failed", "reason": "No."})
    table = effml.advise("phantom-chest", 1)
    assert table.attrs["pick"] is None and table.status.tolist() == ["failed"]
    assert not [*tmp_path.rglob("advice-*")]
    assert len([*effml.advise("phantom-chest", 1, store="mine").status]) == 1
    assert len([*tmp_path.glob("mine/*.jsonl")]) == 1


QUALITY = {
    "mlp": 0.6,
    "lenet5": 0.7,
    "resnet10t": 0.9,
    "resnet18": 0.8,
    "mobilenetv3_small_050": 0.5,
}
MODELS_3D = {"resnet18_3d": 0.7, "slices:mobilenetv3_small_050": 0.6, "slices:resnet10t": 0.8}
QUALITY |= MODELS_3D
IMAGE = {"mlp": 1e-5, "lenet5": 1e-4, "resnet10t": 4e-3, "resnet18": 9e-3}


class Clock:
    """Time that only runs pass."""

    def __init__(self):
        self.now = 1000.0

    def time(self):
        return self.now


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """A search whose runs take the time of a law, and whose quality is that of the model."""

    def made(seconds, memory=None, menu=None, does=None):
        clock = Clock()
        monkeypatch.setattr("effml.advice.costs.time", clock)
        monkeypatch.setattr("effml.advice.search.time", clock)
        noise = np.random.default_rng(0).normal(0, 0.5, 100)
        labels = np.arange(100) % 2

        card = '{"task": "binary", "positive": 1, "classes": ["well", "ill"]}'

        def run(job):
            recipe = Recipe.from_dict(job["recipe"])
            if does and (answer := does(recipe, job, clock)):
                return answer
            row, arrays = ran(recipe, image=IMAGE.get(recipe.model, 1e-3))
            took = row["prepare_seconds"] + row["train_seconds"] + 0.3
            if clock.now + took > job["deadline"]:
                clock.now = job["deadline"]
                return {"status": "left out", "reason": "max_hours is over"}
            clock.now += took
            quality = QUALITY[recipe.model] - 0.2 / recipe.epochs
            p = np.clip(0.5 + (labels - 0.5) * quality + noise, 0.01, 0.99)
            p = np.stack([1 - p, p], 1)
            name = f"{recipe.id}-run"
            given = {"val_probabilities": p, "val_labels": labels, "test_labels": labels}
            save_arrays(tmp_path, name, arrays | given | {"test_probabilities": p})
            (tmp_path / f"{name}.card.json").write_text(card)
            kept = {n: x for n, x in row.items() if n not in ("recipe_id", "train_fraction")}
            return kept | {"run_id": name, "val_auroc": quality, "test_auroc": quality}

        monkeypatch.setattr(search, "run_fresh", run)
        budget = Budget(seconds, memory, began=clock.now)
        return Search(Recipe(), budget, tmp_path, "balanced", menu), clock

    return made


def searched(one, strategy="climb"):
    with one:
        one.pilots()
        one.baselines()
        for recipe in STRATEGIES[strategy](one):
            one.run(recipe, "candidate")
    return ranked(one)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_keeps_to_the_time_and_tries_the_baselines(fake, strategy):
    one, clock = fake(150)
    table = searched(one, strategy)
    assert clock.now - 1000 <= 150 and clock.now - 1000 > 75
    assert {"default recipe", "random subset", "small net"} <= set(table.role)
    assert table.attrs["pick"] in set(table.run_id)
    assert table.recipe_id[table.role != "pilot"].is_unique
    ok = table[table.told_seconds.notna() & (table.role != "pilot")]
    assert np.allclose(ok.seconds, ok.told_seconds, rtol=0.05)


def test_climbing_takes_the_menu_in_its_order_then_neighbours_of_the_best(fake):
    one, _ = fake(1000)
    table = searched(one).sort_values("began_s")
    runs = table[table.role == "candidate"]
    assert runs.model.tolist()[:4] == ["lenet5", "resnet10t", "resnet18", "mobilenetv3_small_050"]
    assert runs.model.iloc[-1] == "resnet10t" and runs.learning_rate.iloc[-1] != 4e-3
    assert table.attrs["told"][0].startswith(table.attrs["pick"])


def piloted(one):
    with one:
        one.pilots()
        one.baselines()
        yield from STRATEGIES["climb"](one)


def test_what_is_open_comes_cheapest_first_and_each_once(fake):
    one, _ = fake(400)
    first = next(piloted(one))
    told = [one.costs.of(recipe).seconds for recipe in one.open(one.menu)]
    assert told == sorted(told) and len({*told}) > 3 and first in one.open(one.menu)
    assert not {recipe.id for recipe in one.open(one.menu)} & {
        row["recipe_id"] for row in one.tried
    }


def test_none_of_the_menu_takes_more_than_three_quarters_of_the_time_left(fake):
    one, shares = fake(100)[0], []
    with one:
        one.pilots()
        one.baselines()
        for recipe in STRATEGIES["climb"](one):
            if recipe.learning_rate == 4e-3:
                shares.append(one.costs.of(recipe).seconds / one.budget.left)
            one.run(recipe, "candidate")
    assert 0.6 < max(shares) <= 0.75


def test_climbing_goes_on_as_long_as_neighbours_bring_something_better(fake):
    table = searched(fake(20000)[0])
    near = ~table.recipe_id.isin([Recipe(**one).id for one in MENUS["images"]])
    near &= table.role == "candidate"
    assert near.sum() > search.PATIENCE  # each doubling of the epochs does
    assert table.model[near].unique().tolist() == ["resnet10t"]


def test_halving_does_all_with_a_quarter_of_the_epochs_half_with_half_and_a_quarter_with_all(fake):
    one, _ = fake(4000)
    table = searched(one, "halving").sort_values("began_s")
    epochs = {}
    for row in table[table.role == "candidate"].itertuples():
        epochs.setdefault(row.model, []).append(row.epochs)
    n = len(one.menu)
    assert sum(map(len, epochs.values())) <= n + n // 2 + n // 4 + 2
    assert epochs["mobilenetv3_small_050"] == [5, 1]  # the worst: 20 and 5, with a quarter
    assert max(epochs["resnet10t"]) == 15


def test_training_ends_early_enough_for_what_comes_after_it(fake):
    def does(recipe, job, clock):
        asked.append((one.costs.of(recipe), job["deadline"] - job["until"]))

    asked, (one, _) = [], fake(150, does=does)
    searched(one)
    kept = [seconds for told, seconds in asked if told]
    assert len(kept) > 5 and kept == pytest.approx([1.3 * (0.3 + 0.02)] * len(kept), abs=1e-3)


def test_a_budget_too_small_for_the_default_says_what_it_needs_and_gives_what_it_has(fake):
    one, clock = fake(5.5)
    table = searched(one)
    assert clock.now - 1000 <= 5.5 and table.attrs["pick"]
    (said,) = (line for line in table.attrs["told"] if "did not fit" in line)
    needs = float(said.split("about ")[1].split()[0]) * 60
    again = searched(fake(needs)[0])
    assert "default recipe" in set(again.role) and "default recipe" not in set(table.role)


def test_nothing_at_all_ends_and_the_table_says_why(fake):
    one, clock = fake(1.5)
    table = searched(one)
    assert table.attrs["pick"] is None and table.status.tolist() == ["timed out"]
    assert clock.now - 1000 <= 1.5 and "0 recipes in" in table.attrs["told"][-1]
    assert "nothing was found: timed out: It did not answer" in table.attrs["told"][0]


def test_a_validation_split_without_a_class_is_refused_after_the_first_run(fake, tmp_path):
    one, clock = fake(100)
    (tmp_path / "r.card.json").write_text('{"task": "binary", "classes": ["well", "ill"]}')
    with pytest.raises(ValueError, match="no validation image of ill: no recipe can be chosen"):
        one._look("r", {0})


def test_one_that_hangs_and_one_that_diverges_are_records_with_a_reason(fake):
    hangs, diverges = Recipe(learning_rate=0.5), Recipe(learning_rate=0.7)

    def does(recipe, job, clock):
        if recipe.learning_rate == 0.5:
            clock.now = job["deadline"]
            return {"status": "left out", "reason": "max_hours is over"}
        if recipe.learning_rate == 0.7:
            return {"status": "diverged", "reason": "Diverged: The loss became nan in epoch 1."}
        return None

    one, clock = fake(100, menu=[hangs, diverges], does=does)
    table = searched(one).set_index("learning_rate")
    assert clock.now - 1000 <= 100 and table.attrs["pick"]
    assert "did not answer in" in table.reason[0.5] and "loss became nan" in table.reason[0.7]
    assert table.status[0.5] == "timed out" and math.isnan(table["rank"][0.7])


def test_what_would_hold_too_much_memory_is_not_started(fake):
    one, _ = fake(100, memory=3e8)
    table = searched(one)
    assert set(table.role) <= {"pilot", "default recipe", "random subset", "small net"}
    assert "400 MB of 300 (over budget, which only" in table.attrs["told"][-1]


def test_a_first_pilot_that_takes_all_watt_hours_is_remarked(fake):
    one, _ = fake(100)
    one.budget.wh = 1e-3
    told = searched(one).attrs["told"]
    assert "Wh of 0.001 (over budget, which only the first run could tell)" in told[-1]
    assert told[0] == "nothing was found: the pilots took all of the budget"
    assert not any("over budget" in line for line in searched(fake(100)[0]).attrs["told"])


def test_what_decides_is_said_once_with_the_class_that_an_aim_is_about(fake):
    one, _ = fake(150)
    one.aim = "screening"
    told = searched(one).attrs["told"]
    assert "positive is 'ill', class 1 of the data" in told
    (line,) = (line for line in told if line.startswith("best, better: by"))
    assert "specificity at sensitivity ≥ 0.95; as good: ΔAUROC" in line
    one, _ = fake(150)
    assert not any(line.startswith("positive") for line in searched(one).attrs["told"])


def test_data_without_a_class_to_tell_are_refused_in_their_own_words(fake):
    def does(recipe, job, clock):
        return {"status": "unsupported", "reason": f"These do not fit {recipe.model}."}

    one, _ = fake(100, does=does)
    with pytest.raises(ValueError, match="do not fit lenet5. advise ranks classifiers"):
        searched(one)


def test_of_volumes_the_table_has_no_pilot_of_pictures(fake):
    def does(recipe, job, clock):
        unfit = {"status": "unsupported", "reason": "Choose resnet18_3d."}
        return unfit if recipe.model == "lenet5" else None

    one, _ = fake(100, does=does)
    table = searched(one)
    assert set(table.status) == {"ok"} and set(table.model) <= {*MODELS_3D}


def test_aims_are_those_of_the_operating_points(tmp_path):
    rng = np.random.default_rng(1)
    y = np.arange(300) % 2
    p = np.clip(y * 0.3 + rng.uniform(0, 0.7, 300), 0, 1)
    arrays = {"val_probabilities": np.stack([1 - p, p], 1), "val_labels": y}
    point = effml.operating_point(p, y, positive=1)
    for aim, value in (("screening", point.specificity), ("balanced", None)):
        one = SimpleNamespace(task={"task": "binary", "positive": 1}, aim=aim, store=tmp_path)
        found = judged(one, {}, arrays)
        assert found.quality == (found.auroc if value is None else value)
        assert found.low < found.quality < found.high
    one.aim = "confirmation"
    point = effml.operating_point(p, y, positive=1, aim="confirmation")
    assert judged(one, {}, arrays).quality == point.sensitivity
    assert Quality(0.9, 0.8, 0, 1) > Quality(0.9, 0.7, 0, 1) > Quality(0.8, 0.99, 0, 1)


def test_a_run_that_its_deadline_ends_keeps_its_best_epoch_and_is_not_done(tmp_path):
    recipe = Recipe(epochs=200, threads=1)
    record = effml.run(recipe, store=tmp_path, until=time.time() + 1.5, device="cpu")
    assert record.status == "ok" and record.ended_early and 0 < record.epochs_run < 200
    assert "its deadline ended it in epoch" in record.notes and 0 < record.val_auroc <= 1
    scores = effml.load_arrays(tmp_path, record.run_id)["val_score"]
    assert record.val_auroc == scores.max() == scores[record.best_epoch - 1]
    with RecordWriter(tmp_path) as writer:
        writer.append(record)
    from effml.sweeping import pending

    assert pending([recipe], tmp_path, device="cpu") == [recipe]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_over_the_memory_of_all_is_ended_and_done_again_by_a_sweep(tmp_path):
    recipe = Recipe(epochs=50)
    with RecordWriter(tmp_path) as writer:
        job = {"recipe": recipe.to_dict(), "store": str(tmp_path), "device": "cpu"}
        job |= {"folder": os.getcwd(), "records": writer.begin().name, "environment": {}}
        job |= {"keep_weights": False, "timeout_s": 60, "memory_bytes": 2e8}
        future = Here().submit(run_fresh, job)
        record = plan.recorded(recipe, future, tmp_path, "cpu")
        writer.append(record)
    assert record.status == "over memory" and "200 MB were allowed" in record.reason
    assert record.together_peak_bytes > 2e8 and plan.pending([recipe], tmp_path) == [recipe]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_pages_that_a_fork_shares_count_once():
    """Two that hold the same 200 MB hold 200; the child's own 100 come on top."""
    code = """if True:
        import os, sys
        kept = bytearray(os.urandom(1)) * 200_000_000
        if child := os.fork():
            os.waitpid(child, 0)
        else:
            own = bytearray(os.urandom(1)) * int(sys.argv[1])
            print(os.getpid(), flush=True), sys.stdin.readline()"""
    held = []
    for own in (1, 100_000_000):
        asked = [sys.executable, "-c", code, str(own)]
        with subprocess.Popen(asked, stdin=-1, stdout=-1, text=True) as parent:
            child = int(parent.stdout.readline())
            held.append(held_bytes(parent.pid, child))
            parent.communicate("\n")
    assert 2e8 < held[0] < 2.3e8 and 0.98e8 < held[1] - held[0] < 1.02e8
    assert held_bytes(child) == 0


def test_memory_is_looked_at_closely_only_where_it_may_matter(monkeypatch):
    looks, rss, held, now = [], [100], [1000.0], [0.0]
    monkeypatch.setattr(server, "held_bytes", lambda *pids: looks.append(pids) or held[0])
    monkeypatch.setattr(server.Held, "_child", lambda self: rss[0])
    monkeypatch.setattr(server, "time", SimpleNamespace(monotonic=lambda: now[0]))
    one = server.Held(7, most=math.inf)
    steps = [(0, 100, 1), (1, 105, 1), (1.05, 106, 2), (1.1, 120, 2), (1.2, 120, 3)]
    steps += [(1.4, 90, 3), (1.6, 125, 3), (3.3, 90, 4), (3.5, 125, 4)]  # it had as much before
    for now[0], rss[0], times in steps:
        assert not one.too_much() and len(looks) == times and looks[0][2] == 7
    assert one.peak == 1000 + 125 - 90
    now[0], rss[0], one = 0.0, 100, server.Held(7, most=1004.0)
    for now[0], rss[0], times in ((0, 100, 5), (0.2, 104, 5), (0.25, 105, 6), (0.3, 106, 6)):
        assert not one.too_much() and len(looks) == times and one.peak <= 1004  # 1000, not 1005
    now[0], held[0] = 0.5, 1005.0
    rss[0] = 110
    assert one.too_much() and one.column() == {"together_peak_bytes": 1005}


def test_a_helper_without_an_answer_in_time_is_given_up(tmp_path):
    with RecordWriter(tmp_path) as writer:
        job = {"recipe": Recipe(epochs=9999).to_dict(), "store": str(tmp_path), "device": "cpu"}
        job |= {"folder": os.getcwd(), "records": writer.begin().name, "environment": {}}
        for _ in range(2):  # one that has a child, and one that still imports torch
            began = time.time()
            with pytest.raises(RuntimeError, match="has ended"):
                run_fresh(job | {"keep_weights": False, "answer_by": began + 0.5})
            assert time.time() - began < 3


def test_the_menu_is_of_recipes_and_begins_with_the_default():
    for menu in MENUS.values():
        recipes = [Recipe(**fields) for fields in menu]
        assert len({*recipes}) == len(recipes) and recipes[0].epochs == Recipe().epochs
    assert MENUS["images"][0] == {}


def test_the_pick_is_the_cheapest_whose_interval_on_validation_excludes_a_loss(tmp_path):
    """Not one whose difference alone is small, nor one that only test would choose."""
    rng, y = np.random.default_rng(6), np.arange(120) % 2
    good = 0.3 * y + rng.uniform(0, 0.7, 120)
    shaken = np.where(rng.random(120) < 0.7, 0.3 * y + rng.uniform(0, 0.7, 120), good)
    scores = {"best": (good, good), "twin": (good, 1 - good), "cheaper": (good, 1 - good)}
    scores |= {"shaken": (shaken, good)}
    runs = []
    for name, took in zip(scores, (9.0, 6.0, 3.0, 1.0)):
        pairs = zip(("val", "test"), scores[name])
        arrays = {f"{split}_probabilities": np.stack([1 - p, p], 1) for split, p in pairs}
        save_arrays(tmp_path, name, arrays | {"val_labels": y, "test_labels": y})
        quality = Quality(0.9 if name == "best" else 0.8, 0.9, 0.8, 1.0)
        runs.append({"run_id": name, "recipe_id": name, "seconds": took, "judged": quality})
    one = SimpleNamespace(task={"task": "binary", "positive": 1}, store=tmp_path)
    pick, wide = ranking._pick(one, runs), runs[-1]
    assert wide["difference_low"] < -MARGIN < wide["difference"]
    assert pick["run_id"] == "cheaper" and pick["reason"].startswith("the pick: ")


def test_the_cheapest_of_many_must_be_as_good_by_an_interval_for_all_of_them(monkeypatch):
    """A lower end 1.96 errors below its difference; of five together it is 2.58 errors below."""
    ends = {"a": (0.0, 0.0051), "b": (0.0, 0.003), "c": (-0.02, 0.001)}
    ends |= {"d": (-0.02, 0.001), "e": (0.0, 0.0)}

    def paired(search, best, row, split):
        value, error = ends[row["run_id"]]
        low, high = value - 1.959964 * error, value + 1.959964 * error
        return effml.evaluation.Difference(0.9, 0.9 + value, value, low, high)

    monkeypatch.setattr(ranking, "paired", paired)
    runs = [{"run_id": name, "seconds": 1.0 + i} for i, name in enumerate(ends)]
    best = {"run_id": "best", "seconds": 9.0}
    assert ranking._as_good(None, best, runs[:1])["run_id"] == "a"  # 0.00999
    assert ranking._as_good(None, best, [*runs, best])["run_id"] == "b"  # 0.0131, 0.0077
    assert ranking._as_good(None, best, runs[2:4]) is None
    assert ranking._as_good(None, runs[0], runs) is None


def test_on_test_the_pick_less_the_default_and_only_the_rate_that_was_to_be_kept(tmp_path):
    rng, y = np.random.default_rng(6), np.arange(400) % 2
    good = 0.5 * y + rng.uniform(0, 0.5, 400)
    bad, worse = 0.2 * y + rng.uniform(0, 0.7, 400), 0.2 * y + rng.uniform(0, 0.7, 400) - 0.15
    for name, val, test in (("pick", bad, np.clip(worse, 0, 1)), ("default", good, good)):
        pairs = (("val", val), ("test", test))
        arrays = {f"{split}_probabilities": np.stack([1 - p, p], 1) for split, p in pairs}
        save_arrays(tmp_path, name, arrays | {"val_labels": y, "test_labels": y})
    task = {"task": "binary", "positive": 1}
    one, told = SimpleNamespace(task=task, aim="screening", store=tmp_path), []
    pick, default = {"run_id": "pick", "test_auroc": 0.7}, {"run_id": "default", "test_auroc": 1.0}
    found = ranking._tested(one, pick, default, told)
    asked = effml.evaluation.paired_auroc(good, np.clip(worse, 0, 1), y, positive=1)
    assert (found["difference"], found["low"]) == (asked.difference, asked.low) and asked.high < 0
    assert found["verdict"] == "inferior" and "inferior at 0.01" in told[-1]
    rates = told[0].split(", ", 2)[-1]
    assert rates.startswith("sensitivity 0.") and found["pick"]["sensitivity"] < 0.95
    assert "below the 0.95" in rates.split("specificity")[0]
    assert "below" not in rates.split("specificity")[1] and found["pick"]["specificity"] < 0.95
    assert "below" not in told[1]


def test_the_list_goes_from_the_pick_to_the_worst_with_the_pilots_last(fake):
    table = searched(fake(400)[0])
    runs = table[table.role != "pilot"]
    assert table.role[len(runs) :].eq("pilot").all() and runs["rank"].tolist() == [
        *range(1, len(runs) + 1)
    ]
    dominated = runs.reason.str.startswith("dominated").tolist()
    assert dominated == sorted(dominated)
    for part in (False, True):
        quality = runs.quality[1:][np.array(dominated[1:]) == part].tolist()
        assert quality == sorted(quality, reverse=True) and len(quality) > 1
