"""The README's tables, on records whose numbers are known."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import thakur
from composing import design
from effml import Recipe
from findings import (
    Change,
    Finding,
    Told,
    adviser,
    composed,
    found,
    hero,
    int8,
    render_answer,
    render_findings,
    render_machines,
    render_results,
    screening,
)


def row(seed, auroc, worst, seconds, params=100, **fields):
    recipe = Recipe(data="pneumoniamnist", seed=seed, **fields)
    made = recipe.to_dict() | {
        "recipe_id": recipe.id,
        "run_id": f"{recipe.id}-{seed}",
        "status": "ok",
    }
    made |= {"data_phantom": 0, "train_n": 4708, "test_auroc": auroc, "train_seconds": seconds}
    made |= {"train_energy_j": 5 * seconds, "energy_source": "a meter"}
    made |= {
        "test_worst_class_recall": worst,
        "train_peak_memory_bytes": params,
        "val_auroc": auroc,
        "test_accuracy": 0.8,
    }
    made |= {
        "test_majority_rate": 0.625,
        "threads_used": 2,
        "device_name": "a CPU",
        "cpu_flags": "avx2",
    }
    return made | {"numerics": 1, "device": "cpu", "data_sha256": "x", "precision_used": "fp32"}


@pytest.fixture
def folder(tmp_path):
    rows = [row(s, 0.95 + 0.001 * s, 0.60, 20.0, 400, model="resnet18") for s in (0, 1, 2)]
    rows += [row(s, 0.93 + 0.002 * s, 0.64, 2.0, model="lenet5") for s in (2, 0, 1)]
    rows.append(row(7, 0.99, 0.99, 2.0, model="lenet5"))  # has no partner
    rows += [row(s, 0.94, 0.6, 8.0, model="lenet5", epochs=40) for s in (0, 1)]
    rows.append({**row(0, 0.5, 0.5, 9.0, model="lenet5"), "status": "failed", "run_id": "f"})
    (tmp_path / "runs-00.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return tmp_path


SMALL = Finding(
    "a small net",
    "00",
    "first",
    arm={"model": "lenet5"},
    reference={"model": ["resnet18", "resnet34"]},
    where={"epochs": 10},
)
TURNED = Finding("x", "00", "", arm=SMALL.reference, reference=SMALL.arm, where=SMALL.where)


def test_a_finding_is_the_paired_change_of_two_arms(folder):
    told = SMALL(folder)
    assert told.where == "pneumoniamnist, lenet5, 3 seeds"
    assert told.time == [pytest.approx((-0.9, -0.9, -0.9, "training"))]
    assert told.memory == [pytest.approx((-0.75, -0.75, -0.75, "process"))]
    differences = [-0.02, -0.019, -0.018]
    low, high = stats.t.interval(0.95, 2, -0.019, stats.sem(differences))
    assert told.quality[:3] == pytest.approx((-0.019, low, high))
    assert told.worst[:3] == pytest.approx((0.04, 0.04, 0.04))
    line = render_findings([told]).splitlines()[-1].split(" | ")
    assert line[1] == "training **−90 %** [−90, −90]" and line[4].startswith("**−0.019** [−0.021")
    assert "](00_start_here.ipynb)" in line[8]
    short = render_findings([told], whole=False, links="notebooks/").splitlines()[-1].split(" | ")
    assert short[1] == "training −90 %, process −75 %, joules −90 %"
    assert "](notebooks/00_start_here.ipynb)" in short[4]
    assert TURNED(folder).time[0].value == pytest.approx(9)


def test_an_arm_that_is_not_there_or_a_cost_that_is_unknown_is_an_error(folder):
    for wrong in ({"model": "mlp"}, {"model": ["lenet5", "resnet18"]}):
        with pytest.raises(ValueError, match=r"x \(00\): .* runs, . seeds in common"):
            Finding("x", "00", "", arm=wrong, reference=SMALL.reference)(folder)
    with pytest.raises(ValueError, match="model_file_bytes is not known for both arms"):
        replace(SMALL, memory=("model_file_bytes",))(folder)


def test_a_share_is_that_of_logarithms_with_what_was_prepared_and_latencies_of_one_run(tmp_path):
    before = [row(s, 0.9, 0.6, seconds, model="mlp") for s, seconds in ((0, 10.0), (1, 40.0))]
    after = [row(s, 0.9, 0.6, 5.0, model="mlp", teacher=f"{s}", epochs=3) for s in (0, 1)]
    before = [one | {"prepare_seconds": 0.0, "latency_s": 70.0} for one in before]
    measured = (
        {"latency_before_s": 6.0, "latency_s": 2.0},
        {"latency_before_s": 6.0, "latency_s": 3.0},
    )
    after = [one | {"prepare_seconds": 5.0} | times for one, times in zip(after, measured)]

    lost = {"status": "failed", "device_name": "another CPU", "run_id": "f"}
    after.append(after[0] | lost)  # of a machine of its own: no other record replaces it

    def told(*time, rows=(*before, *after)):
        (tmp_path / "runs-00.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
        sides = {"arm": {"teacher": "a run"}, "reference": {"teacher": "none"}}
        return Finding("x", "00", "", time=time, **sides)(tmp_path).time

    trained, whole, answer = told("train_seconds", "whole_seconds", "latency_s")
    assert trained.value == pytest.approx((0.5 * 0.125) ** 0.5 - 1)
    logs = np.log([0.5, 0.125])
    ends = np.expm1(stats.t.interval(0.95, 1, logs.mean(), stats.sem(logs)))
    assert (trained.low, trained.high) == pytest.approx(tuple(ends))
    assert whole.value == pytest.approx((1 * 0.25) ** 0.5 - 1)
    assert answer.value == pytest.approx((2 * 3) ** 0.5 / 6 - 1)
    with pytest.raises(ValueError, match="2 and 1 runs, 1 seeds in common"):
        told("train_seconds", rows=[*before, after[0]])
    twice = row(0, 0.9, 0.6, 10.0, model="mlp", epochs=99)
    with pytest.raises(ValueError, match="3 and 2 runs, 2 seeds in common"):
        told("train_seconds", rows=[*before, twice, *after])


OPEN = Told(
    "x",
    "00",
    "use",
    "where",
    [Change(-0.5, -0.8, 0.1, "training"), Change(0.001, 0.0005, 0.0015, "a step")],
    [Change(0.2, math.nan, math.nan, "process")],
    "no meter",
    Change(0.0001, 0.00005, 0.0002, "Dice"),
    "not measured",
)


def test_what_is_not_shown_or_not_known_says_so():
    cells = render_findings([OPEN]).splitlines()[-1].split(" | ")
    assert cells[1] == "training −50 % [−80, +10]<br>a step 0 % [0, 0]"
    assert cells[2:4] == ["process +20 % (once)", "– (no meter)"]
    assert cells[4:6] == ["Dice 0.000 [0.000, 0.000]", "– (not measured)"]
    assert (
        render_findings([OPEN], whole=False).splitlines()[-1].split(" | ")[1]
        == "no sure change of cost"
    )


def test_int8_is_compared_with_the_fastest_32_bits_and_its_quality_where_it_loses_most(tmp_path):
    names, laps, losses = list(thakur.CLASSIFICATION)[:2], [], []
    for slow, name in enumerate(names):
        for mode, ms in {"eager": 8.0, "openvino": 4.0 + slow, "openvino_int8": 2.0}.items():
            lap = {"workload": name, "mode": mode, "threads": 1, "median_ms": ms}
            lap |= {"file_bytes": 10 / ms, "peak_memory_bytes": 1e8, "joules_per_1000": ms}
            laps.append(lap)
            loss = 0.01 * (1 + slow) * (mode == "openvino_int8")
            row = {"workload": name, "mode": mode, "loss": loss, "worst_reference": 0.7}
            row |= {"worst": 0.7 - loss, "loss_low": loss - 0.005, "loss_high": loss + 0.005}
            losses.append(row)
    pd.DataFrame(laps).to_csv(tmp_path / "grid-65-latency.csv", index=False)
    pd.DataFrame(losses).to_csv(tmp_path / "grid-65-utility.csv", index=False)
    told = int8("INT8", "65", "", "CLASSIFICATION", "AUROC")(tmp_path)
    assert told.time[0].value == pytest.approx((2 / 4 * 2 / 5) ** 0.5 - 1)
    assert told.memory[0].value == pytest.approx((4 / 2 * 5 / 2) ** 0.5 - 1)
    assert told.quality == pytest.approx((-0.02, -0.025, -0.015, "AUROC"))
    assert told.worst.value == pytest.approx(-0.02) and told.where == "2 workloads, one thread"


def test_half_of_the_channels_is_told_at_the_threshold_for_screening_where_it_works(tmp_path):
    rows = [row(s, 0.9, 0.6, 4.0, 100, weights="random") for s in (0, 1)]
    half = {"prune": "channels", "channel_fraction": 0.5, "weights": "r1"}
    rows += [row(s, 0.9, 0.6, 1.0, 60, **half) for s in (0, 1)]
    for one in rows:
        whole = one["prune"] == "none"
        one |= {"infer_seconds": 2.0 if whole else 1.0, "infer_energy_j": 9.0 if whole else 3.0}
        one["model_file_bytes"] = 100 if whole else 25
    (tmp_path / "runs-51.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    keys = ["arm", "seed", "source", "aim", "auroc", "sensitivity", "specificity"]
    scores = [("uncompressed", s, "new site", "screening", 0.9, 0.95, 0.70) for s in (0, 1)]
    scores += [("half the channels", 0, "new site", "screening", 0.88, 0.90, 0.60)]
    scores += [("half the channels", 1, "new site", "screening", 0.84, 0.40, 0.80)]
    scores += [(arm, s, "home", "screening", 0.1, 0.1, 0.1) for arm, s, *_ in scores[:4]]
    scores += [(arm, s, "new site", "confirmation", 0.2, 0.2, 0.2) for arm, s, *_ in scores[:4]]
    pd.DataFrame(scores, columns=keys).to_csv(tmp_path / "51-judged.csv", index=False)
    how = {"data": "pneumoniamnist", "epochs": 10, "table": "51-judged"}
    told = screening("x", "51", "", **how)(tmp_path)
    assert told.quality.value == pytest.approx(-0.04)
    assert told.worst.value == pytest.approx(-0.2)  # 0.70 to 0.60, and 0.70 to 0.40
    costs = [told.time[0], told.memory[0], told.joules[0]]
    assert [one.value for one in costs] == pytest.approx([-0.5, -0.75, -2 / 3])
    table = [("uncompressed", s, 0.9, 0.7) for s in (0, 1)]
    table += [("half the channels", 0, 0.8, 0.7), ("half the channels", 1, 0.8, 0.5)]
    table = pd.DataFrame(table, columns=["arm", "seed", "AUROC", "worst class"])
    table.to_csv(tmp_path / "51-scores.csv", index=False)
    told = screening("x", "51", "", **how | {"table": "51-scores"})(tmp_path)
    assert (told.quality.value, told.worst.value) == pytest.approx((-0.1, -0.1))


def test_all_strategies_at_once_are_what_their_effects_multiply_to_without_mere_teachers(tmp_path):
    uses = {"images": {"selection": "random", "train_fraction": 0.1}}
    uses |= {"channels": {"prune": "channels", "channel_fraction": 0.5}, "taught": {"teacher": "r"}}
    uses |= {"rank": {"factorize": "svd_spatial", "rank_fraction": 0.5}}
    uses |= {"bf16": {"precision": "amp_bf16"}, "8 bits": {"optimizer": "adamw8bit"}}
    times = dict(zip(uses, (0.5, 0.4, 1.2, 0.9, 1.1, 1.3)))
    words = [["images", "channels", "taught", "bf16"], ["channels", "taught", "rank", "8 bits"]]
    rows = []
    for one in design([*uses], [0, 1, 2], words).to_dict("records"):
        on = [name for name in uses if one[name]]
        fields = {"selection": "random", "train_fraction": 0.2}
        for name in on:
            fields |= uses[name]
        seconds = (1 + one["seed"]) * math.prod(times[name] for name in on)
        auroc = 0.9 - 0.01 * len(on)
        rows.append(row(one["seed"], auroc, 0.7 - 0.02 * len(on), seconds, 500, **fields))
    lone = row(1, 0.1, 0.1, 999.0, selection="random", train_fraction=0.2)  # a teacher, no more
    text = "\n".join(map(json.dumps, [*rows, lone])) + "\n"
    (tmp_path / "runs-90.jsonl").write_text(text)
    told = composed(tmp_path)
    assert told.time[0][:3] == pytest.approx([math.prod(times.values()) - 1] * 3)
    assert told.joules[0].value == pytest.approx(told.time[0].value)
    assert told.memory[0][:3] == pytest.approx((0, 0, 0))
    assert told.quality[:3] == pytest.approx([-0.06] * 3)
    assert told.worst.value == pytest.approx(-0.12) and told.where.endswith(", 48 runs")


def test_the_advisers_pick_is_told_beside_the_default_recipe_of_its_own_search(tmp_path):
    keys = ["strategy", "search", "rank", "role", "seconds", "memory_mb", "joules"]
    runs = [("climb", s, 1.0, "candidate", 8.0, 300.0, 12.0) for s in (0, 1)]
    runs += [("climb", s, 4.0, "default recipe", 2.0, 200.0, 4.0) for s in (1, 0)]
    runs += [("climb", 0, 2.0, "candidate", 99.0, 99.0, 99.0)]
    runs += [("random", s, 1.0, "candidate", 77.0, 77.0, 77.0) for s in (0, 1)]
    pd.DataFrame(runs, columns=keys).to_csv(tmp_path / "91-runs.csv", index=False)
    test = [("climb", 0, 0.9, 0.6), ("climb", 1, 0.8, 0.7), ("random", 0, 0.1, 0.9)]
    test = pd.DataFrame(test, columns=["strategy", "seed", "test_pick", "test_default"])
    test.to_csv(tmp_path / "91-searches.csv", index=False)
    answers = {"breastmnist|phantom-nodule at 28 px": "cells"}
    (tmp_path / "answers.json").write_text(json.dumps(answers))
    told = adviser(tmp_path)
    costs = [told.time[0].value, told.memory[0].value, told.joules[0].value]
    assert costs == pytest.approx([3, 0.5, 2]) and told.where == "cells, 2 searches"
    assert told.quality.value == pytest.approx(0.2)
    low, high = stats.t.interval(0.95, 1, 0.2, stats.sem([0.3, 0.1]))
    assert told.quality[1:3] == pytest.approx((low, high))


def test_the_machine_is_named_with_its_meter(folder):
    told = render_machines([SMALL(folder)], folder)
    assert told == "Measured on two threads or one of: a CPU (avx2). Joules: a meter.\n"


def test_the_results_have_seven_columns_and_the_answer_its_numbers(folder):
    store = folder / "runs-00.jsonl"
    lines = render_results(store).splitlines()
    assert {line.count(" | ") for line in lines[:4]} == {6}
    assert "0.951 [0.949, 0.953]" in lines[4] and "20.0 [20.0, 20.0]" in lines[4]
    answer = render_answer(store)
    assert "4,708 images" in answer and ": 10 times as long. With four times the passes" in answer
    assert "0.951 [0.949, 0.953] in 20 s" in answer


def test_the_figure_says_what_its_colours_mean(folder):
    figure = hero([SMALL(folder), TURNED(folder), OPEN])
    legend = dict(zip(*(figure.legends[0].get_texts(), figure.legends[0].legend_handles)))
    colour = {text.get_text(): handle.get_color() for text, handle in legend.items()}
    lower, higher, none = (colour[name] for name in colour)
    assert list(colour) == ["lower AUROC or Dice", "higher AUROC or Dice", "no change shown"]
    drawn = [bars.lines[0].get_color() for bars in figure.axes[0].containers]
    assert drawn == [none, higher, lower]  # from below
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[-1] == "training −90 %, process −75 %"


def test_the_pages_tell_of_every_strategy():
    assert {one.notebook for one in found()} >= set(
        "00 10 11 12 13 20 21 22 23 30 31 32 33 34 41 42 51 52 65 66 90 91".split()
    )
    assert len({one.strategy for one in found()}) == len(found())
    assert not [
        one.use
        for one in found()
        if any(c.isdigit() for c in one.use.replace("8-bit", "").replace("bf16", ""))
    ]
