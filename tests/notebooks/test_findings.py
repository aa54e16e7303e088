"""The README's tables, on records whose numbers are known."""

import json

import pytest
from scipy import stats

from effml import Recipe
from findings import FINDINGS, Finding, judge, render_answer, render_findings, render_results


def row(seed, auroc, worst, seconds, params=100, **fields):
    recipe = Recipe(data="pneumoniamnist", seed=seed, **fields)
    made = recipe.to_dict() | {
        "recipe_id": recipe.id,
        "run_id": f"{recipe.id}-{seed}",
        "status": "ok",
    }
    made |= {"data_phantom": 0, "train_n": 4708, "test_auroc": auroc, "train_seconds": seconds}
    made |= {
        "test_worst_class_recall": worst,
        "params": params,
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
    saves=("train_seconds", "params"),
    arm={"model": "lenet5"},
    reference={"model": ["resnet18", "resnet34"]},
    where={"epochs": 10},
)


def test_a_finding_is_the_paired_difference_of_two_arms(folder):
    told = judge(SMALL, folder)
    assert told["seeds"] == 3 and told["saved"] == {"train_seconds": 10.0, "params": 4.0}
    differences = [-0.02, -0.019, -0.018]
    low, high = stats.t.interval(0.95, 2, -0.019, stats.sem(differences))
    assert told["test_auroc"] == pytest.approx((-0.019, low, high))
    assert told["test_worst_class_recall"] == pytest.approx((0.04, 0.04, 0.04))
    line = render_findings([SMALL], folder).splitlines()[-1].split(" | ")
    assert line[1] == "10 × less training time, 4.0 × fewer parameters"
    assert line[2].startswith("−0.019 [−0.021") and line[4] == "pneumoniamnist, lenet5, 3 seeds"
    assert "(notebooks/00_start_here.ipynb)" in line[6]


def test_what_costs_more_says_so_and_an_arm_that_is_not_there_is_an_error(folder):
    sides = {"arm": SMALL.reference, "reference": SMALL.arm, "where": SMALL.where}
    turned = Finding("x", "00", "never", **sides)
    assert "10 × *more* training time" in render_findings([turned], folder)
    for wrong in ({"model": "mlp"}, {"model": ["lenet5", "resnet18"]}):
        with pytest.raises(ValueError, match=r"x \(00\): .* runs, . seeds in common"):
            judge(Finding("x", "00", "", arm=wrong, reference=SMALL.reference), folder)


def test_the_results_have_seven_columns_and_the_answer_its_numbers(folder):
    store = folder / "runs-00.jsonl"
    lines = render_results(store).splitlines()
    assert {line.count(" | ") for line in lines[:4]} == {6}
    assert "0.951 [0.949, 0.953]" in lines[4] and "20.0 [20.0, 20.0]" in lines[4]
    answer = render_answer(store)
    assert "4,708 images" in answer and ": 10 times as long. With four times the passes" in answer
    assert "0.951 [0.949, 0.953] in 20 s" in answer


def test_the_readme_tells_of_at_least_ten_strategies():
    assert len(FINDINGS) >= 10
    assert len({one.notebook for one in FINDINGS}) >= 10
