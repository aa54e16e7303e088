"""The README's tables, on records whose numbers are known."""

import json

import pytest
from scipy import stats

from effml import Recipe
from findings import (
    FINDINGS,
    Finding,
    _saved,
    hero,
    judge,
    render_answer,
    render_findings,
    render_results,
)


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
    assert "| *costs* 10 × the training time |" in render_findings([turned], folder)
    for wrong in ({"model": "mlp"}, {"model": ["lenet5", "resnet18"]}):
        with pytest.raises(ValueError, match=r"x \(00\): .* runs, . seeds in common"):
            judge(Finding("x", "00", "", arm=wrong, reference=SMALL.reference), folder)


def test_what_is_saved_is_of_means_with_what_was_prepared_and_latencies_of_one_run(tmp_path):
    before = [row(s, 0.9, 0.6, seconds, model="mlp") for s, seconds in ((0, 10.0), (1, 30.0))]
    after = [row(s, 0.9, 0.6, 4.0, model="mlp", teacher=f"{s}", epochs=3) for s in (0, 1)]
    before = [one | {"prepare_seconds": 0.0, "latency_s": 70.0} for one in before]
    measured = (
        {"latency_before_s": 6.0, "latency_s": 1.0},
        {"latency_before_s": 6.0, "latency_s": 3.0},
    )
    after = [one | {"prepare_seconds": 6.0} | times for one, times in zip(after, measured)]

    lost = {"status": "failed", "device_name": "another CPU", "run_id": "f"}
    after.append(after[0] | lost)  # of a machine of its own: no other record replaces it

    def judged(*saves, rows=(*before, *after)):
        (tmp_path / "runs-00.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
        sides = {"arm": {"teacher": "a run"}, "reference": {"teacher": "none"}}
        return judge(Finding("x", "00", "", saves=saves, **sides), tmp_path)["saved"]

    told = judged("train_seconds", "whole_seconds", "latency_s")
    assert told == pytest.approx({"train_seconds": 5, "whole_seconds": 2, "latency_s": 3})
    with pytest.raises(ValueError, match="macs is not known for both arms"):
        judged("macs")
    with pytest.raises(ValueError, match="2 and 1 runs, 1 seeds in common"):
        judged(rows=[*before, after[0]])
    twice = row(0, 0.9, 0.6, 10.0, model="mlp", epochs=99)
    with pytest.raises(ValueError, match="3 and 2 runs, 2 seeds in common"):
        judged(rows=[*before, twice, *after])


def test_a_factor_is_told_with_two_digits_and_as_before_where_it_is_one():
    assert _saved({"train_seconds": 1.04}) == "training time as before"
    assert _saved({"train_seconds": 0.96}) == "training time as before"
    assert _saved({"params": 9.5, "macs": 9.4}) == (
        "10 × fewer parameters, 9.4 × fewer multiplications"
    )
    assert _saved({"latency_s": 0.25}) == "*costs* 4.0 × the time of an answer"
    assert _saved({"params": 4.0, "train_seconds": 0.5}) == (
        "4.0 × fewer parameters, *costs* 2.0 × the training time"
    )
    assert _saved({}) == "nothing: equal steps"


def test_the_results_have_seven_columns_and_the_answer_its_numbers(folder):
    store = folder / "runs-00.jsonl"
    lines = render_results(store).splitlines()
    assert {line.count(" | ") for line in lines[:4]} == {6}
    assert "0.951 [0.949, 0.953]" in lines[4] and "20.0 [20.0, 20.0]" in lines[4]
    answer = render_answer(store)
    assert "4,708 images" in answer and ": 10 times as long. With four times the passes" in answer
    assert "0.951 [0.949, 0.953] in 20 s" in answer


def test_the_figure_says_what_its_colours_mean(folder):
    turned = Finding("x", "00", "", arm=SMALL.reference, reference=SMALL.arm, where=SMALL.where)
    figure = hero([SMALL, turned], folder)
    legend = dict(zip(*(figure.legends[0].get_texts(), figure.legends[0].legend_handles)))
    colour = {text.get_text(): handle.get_color() for text, handle in legend.items()}
    assert list(colour) == ["lower AUROC", "higher AUROC", "no difference shown"]
    drawn = [bars.lines[0].get_color() for bars in figure.axes[0].containers]
    assert drawn == [colour["higher AUROC"], colour["lower AUROC"]]  # from below


def test_the_readme_tells_of_at_least_ten_strategies():
    assert len(FINDINGS) >= 10
    assert len({one.notebook for one in FINDINGS}) >= 10
