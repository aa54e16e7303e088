"""The gate: exact cases, and its numbers beside those of `evaluation`."""

import json
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest

from effml import Gate, compare_predictions, evaluate, evaluate_masks
from effml.deployment import bundle
from effml.deployment.gate import EQUAL, PASSES, USED
from effml.evaluation import ece, paired_auroc, paired_proportions, wilson

CUTS = {"youden": 0.4, "screening": 0.2}


def case(task, n=150, noise=0.3, seed=0):
    """Labels, probabilities of a model, and those of a version that is a little off."""
    rng = np.random.default_rng(seed)
    if task == "segmentation":
        masks = np.zeros((n, 12, 12), int)
        for i, mask in enumerate(masks[n // 10 :]):  # the first tenth is empty
            mask[i % 5 : i % 5 + 6, 2 : 4 + i % 7] = 1
        p = np.clip(0.1 + 0.8 * masks + rng.normal(0, 0.25, masks.shape), 0, 1)
        return masks, p, np.clip(p + rng.normal(0, noise / 5, masks.shape), 0, 1)
    k = {"binary": 2, "multi-class": 4, "multi-label": 3}[task]
    z = rng.normal(size=(n, k))
    if task == "multi-label":
        labels = (rng.random((n, k)) < 0.3).astype(int)
        return labels, *(1 / (1 + np.exp(-x - 2 * labels + 1)) for x in (z, z + noise * z[::-1]))
    labels = np.arange(n) % k
    z[np.arange(n), labels] += 1.5
    both = np.exp([z, z + noise * rng.normal(size=z.shape)])
    return labels, *(both / both.sum(-1, keepdims=True))


def how(task):
    binary = task == "binary"
    return {"positive": 1, "thresholds": CUTS} if binary else {}


def verdict(task, p, q, labels, gate=None, **more):
    return (gate or Gate()).check(p, q, labels, task=task, **how(task), **more)


def by_name(found):
    return {row.measure: row for row in found.rows}


def test_its_rows_are_those_of_evaluation():
    labels, p, q = case("binary")
    rows, ill = by_name(verdict("binary", p, q, labels)), labels == 1
    for name, cut in CUTS.items():
        a, b = (x[:, 1] >= cut for x in (p, q))
        found = paired_proportions(a[ill], b[ill])
        row = rows[f"sensitivity at {name}"]
        assert (row.reference, row.value) == (a[ill].mean(), b[ill].mean())
        assert (row.low, row.high) == (found.low, found.high)
        row, (share, low, high) = rows[f"agreement at {name}"], wilson(a == b)
        assert (row.value, row.low, row.high) == pytest.approx((share, low - 1, high - 1))
    found = paired_auroc(p, q, labels, positive=1)
    assert (rows["auroc"].low, rows["auroc"].high) == (found.low, found.high)
    assert rows["ece"].value == pytest.approx(ece(q[:, 1], ill))
    scores = evaluate(q, labels, task="binary", positive=1, thresholds=0.4)
    assert rows["recall of the worst class"].value == scores.worst_class_recall


@pytest.mark.parametrize("task", ["multi-class", "multi-label"])
def test_of_several_classes_it_gives_the_numbers_of_evaluate(task):
    labels, p, q = case(task)
    rows = by_name(verdict(task, p, q, labels))
    for which, x in (("reference", p), ("value", q)):
        found = evaluate(x, labels, task=task)
        for measure, name in (
            ("auroc", "auroc"),
            ("recall of the worst class", "worst_class_recall"),
        ):
            assert getattr(rows[measure], which) == pytest.approx(getattr(found, name))
        assert getattr(rows["ece"], which) == pytest.approx(found.ece)
    a, b = ((x >= 0.5) if task == "multi-label" else x.argmax(1)[:, None] for x in (p, q))
    assert rows["agreement"].value == pytest.approx((a == b).mean())
    sheet = compare_predictions(p, q, labels, task=task)
    assert (rows["agreement"].low + 1, rows["auroc"].low, rows["ece"].high) == pytest.approx(
        (sheet.low["agreement"], sheet.low["auroc"], sheet.high["ece"])
    )


COPY = """
import json, sys
sys.modules.update(dict.fromkeys(["effml", "torch", "scipy", "pandas"]))
import numpy as np
from dataclasses import asdict
from parts.gate import Gate
case = dict(np.load("case.npz"))
how = json.loads(sys.argv[1])
print(json.dumps([asdict(row) for row in Gate().check(**case, **how).rows]))
"""


@pytest.mark.parametrize("task", ["binary", "multi-class", "multi-label", "segmentation"])
def test_its_copy_in_a_deployed_folder_needs_numpy_alone_and_finds_the_same(task, tmp_path):
    labels, p, q = case(task)
    bundle.write_program(tmp_path)
    np.savez(tmp_path / "case.npz", reference=p, probabilities=q, labels=labels)
    words = [sys.executable, "-c", COPY, json.dumps({"task": task, **how(task)})]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env={})
    rows = verdict(task, p, q, labels).rows
    assert done.stdout, done.stderr
    for mine, theirs in zip(rows, json.loads(done.stdout), strict=True):
        for name, value in asdict(mine).items():
            same = value if isinstance(value, str) else pytest.approx(value, rel=1e-12)
            assert theirs[name] == same, name


def test_a_model_that_says_one_thing_of_all_images_is_named():
    labels, p, q = case("multi-class")
    p[:], q[:] = [0.7, 0.1, 0.1, 0.1], [0.6, 0.2, 0.1, 0.1]
    found = verdict("multi-class", p, q, labels)
    assert "the trained model answers the same for all 150 images" in found.reason
    labels, p, q = case("binary")
    assert not verdict("binary", p, q, labels).notes
    p[:, 1] = np.maximum(p[:, 1], 0.2)
    p[:, 0] = 1 - p[:, 1]
    assert verdict("binary", p, q, labels).notes == (
        "the trained model answers the same for all 150 images at screening",
    )


def test_a_worse_calibration_is_a_loss_and_a_better_one_none():
    rng = np.random.default_rng(0)
    p = rng.random(4000)
    labels = (rng.random(4000) < p).astype(int)
    sure = p**3 / (p**3 + (1 - p) ** 3)  # the same order and answers at 0.5
    true, far = (np.stack([1 - x, x], 1) for x in (p, sure))
    how = {"task": "binary", "positive": 1}
    worse, better = (
        by_name(Gate().check(*two, labels, **how)) for two in ((true, far), (far, true))
    )
    assert worse["ece"].difference > 0.05 and worse["ece"].verdict == "inferior"
    assert better["ece"].difference < -0.05 and better["ece"].verdict == "non-inferior"


@pytest.mark.parametrize("strict", USED["binary"])
def test_each_margin_refuses_alone(strict):
    labels, p, q = case("binary", n=600, noise=1.5)
    wide = dict.fromkeys(USED["binary"], 0.9) | {"agreement": 0.1}
    assert verdict("binary", p, q, labels, Gate(**wide)).passed
    least = getattr(Gate(), strict)
    found = verdict("binary", p, q, labels, Gate(**wide | {strict: least}))
    names = {"auroc": "auroc", "worst_class": "recall of the worst class", "ece": "ece"}
    named = {names.get(strict)} & {row.measure for row in found.rows}
    named |= {f"{strict} at {point}" for point in CUTS if strict not in names}
    failed = {row.measure: row.margin for row in found.rows if row.verdict not in PASSES}
    assert not found.passed and failed and failed.keys() <= named
    margin = 1 - least if strict == "agreement" else least
    assert [*failed.values()] == pytest.approx([margin] * len(failed))


def test_one_image_that_is_far_off_is_seen_among_many():
    p = np.tile([[0.2, 0.8], [0.8, 0.2]], (5000, 1))
    q = p.copy()
    q[0] = 0.7, 0.3
    found = verdict("binary", p, q, np.tile([1, 0], 5000))
    assert found.largest == pytest.approx(0.5) and "equal" not in {r.verdict for r in found.rows}


def test_logits_of_masks_are_refused():
    masks, p, q = case("segmentation")
    for two in ((10 * p - 5, q), (p, 10 * q - 5)):
        with pytest.raises(ValueError, match="apply softmax or sigmoid"):
            verdict("segmentation", *two, masks)


def test_of_masks():
    masks, p, q = case("segmentation")
    rows = by_name(verdict("segmentation", p, q, masks))
    for which, x in (("reference", p), ("value", q)):
        found = evaluate_masks(x, masks)
        assert getattr(rows["dice"], which) == pytest.approx(found.dice)
        assert getattr(rows["sensitivity of pixels"], which) == pytest.approx(
            found.pixel_sensitivity
        )
        assert getattr(rows["ece"], which) == pytest.approx(ece(x.ravel(), masks.ravel()))
    assert rows["agreement"].value == pytest.approx(((p >= 0.5) == (q >= 0.5)).mean())
    hits, both = (
        ((q >= 0.5) & (masks == 1)).sum((1, 2)),
        (q >= 0.5).sum((1, 2)) + masks.sum((1, 2)),
    )
    each = [2 * h / b if b else 1.0 for h, b in zip(hits, both)]
    assert rows["dice of the worst tenth"].value == pytest.approx(np.sort(each)[:15].mean())
    row = rows["ece"]
    assert row.low <= row.high and row.margin == Gate().ece


def test_images_of_one_patient_are_drawn_together():
    masks, p, q = case("segmentation", n=60)
    alone, together = (
        by_name(verdict("segmentation", *(np.repeat(x, 4, 0) for x in (p, q, masks)), groups=g))
        for g in (None, np.repeat(np.arange(60), 4))
    )
    widths = [rows["dice"].high - rows["dice"].low for rows in (alone, together)]
    assert widths[1] > 1.6 * widths[0]


def test_a_damaged_class_is_refused_and_named():
    labels, p, _ = case("multi-class", n=400)
    q = p.copy()
    q[:, 2] *= 0.1  # is hardly found any more
    found = verdict("multi-class", p, q / q.sum(1, keepdims=True), labels)
    assert not found.passed and by_name(found)["recall of the worst class"].verdict == "inferior"
    assert "recall of the worst class -" in found.reason and "inferior" in found.reason


def test_few_images_decide_nothing_and_how_many_would_is_told():
    """The interval of n equal answers ends at 1.96² / (n + 1.96²): 188 are one too few for 2 %."""
    for n, enough in ((188, False), (189, True)):
        p = np.tile([0.1, 0.9], n)
        q = np.where(p > 0.5, p - 0.01, p + 0.01)
        found = verdict("binary", p, q, np.tile([0, 1], n))
        row = by_name(found)["sensitivity at youden"]
        assert (row.verdict == "non-inferior") == enough, row
        assert ("188 images cannot show it: it takes 189" in row.note) != enough
        assert found.passed == enough


def test_what_differs_by_a_rounding_is_equal_however_few_the_images():
    labels, p, _ = case("binary", n=20)
    found = verdict("binary", p, p + EQUAL / 2 * np.array([1, -1]), labels)
    assert found.passed and {row.verdict for row in found.rows} == {"equal"}
    off = p + 2 * EQUAL * np.array([1, -1])
    assert not verdict("binary", p, np.clip(off, 0, 1), labels).passed
    assert "the same probabilities on 20 images" in found.reason


def test_a_measure_that_is_not_defined_is_never_passed():
    labels, p, q = case("binary", n=400, noise=0.05)
    found = verdict("binary", p[labels == 0], q[labels == 0], labels[labels == 0])
    row = by_name(found)["auroc"]
    assert row.verdict == "inconclusive" and not found.passed and "not defined" in row.note


def test_margins_and_shapes_that_make_no_sense_are_refused():
    for margin in (
        {"dice": 0},
        {"auroc": 1.2},
        {"agreement": 1},
        {"ece": float("nan")},
        {"auroc": "x"},
    ):
        with pytest.raises(ValueError, match="between 0 and 1"):
            Gate(**margin)
    labels, p, q = case("binary")
    with pytest.raises(ValueError, match="give equal ones"):
        verdict("binary", p, q[:, 1], labels)
    with pytest.raises(ValueError, match="thresholds=0.5: give them by name"):
        Gate().check(p, q, labels, task="binary", positive=1, thresholds=0.5)
    for task, margin in (("multi-class", "sensitivity"), ("binary", "dice")):
        with pytest.raises(ValueError, match=f"{margin} has no effect: {task} is judged by agree"):
            verdict(task, *case(task)[1:], case(task)[0], Gate(**{margin: 0.2}))
    masks, p, q = case("segmentation")
    with pytest.raises(ValueError, match="masks hold .* 255.*give 0 and 1"):
        verdict("segmentation", p, q, masks * 255)


def test_a_point_that_validation_did_not_give_is_left_out():
    labels, p, q = case("binary")
    found = Gate().check(
        p, q, labels, task="binary", positive=1, thresholds={"youden": np.nan, "screening": 0.2}
    )
    assert "sensitivity at screening" in by_name(found)
    assert "sensitivity at youden" not in by_name(found)


def test_what_cannot_be_judged_is_refused_in_words():
    for task in ("binary", "multi-class"):
        labels, p, q = case(task)
        for two in ((0.9 * p, q), (p, q + 0.015 / q.shape[1] * (np.arange(len(q)) == 7)[:, None])):
            with pytest.raises(ValueError, match=r"(reference|version) add up to .* in row [07]"):
                verdict(task, *two, labels)
        verdict(task, p.round(3), q.round(3), labels)
        with pytest.raises(ValueError, match=r"\(1, \d\): give those of two images"):
            verdict(task, p[:1], p[:1], labels[:1])
    labels, p, q = case("multi-label")
    assert verdict("multi-label", p, q, labels).rows  # which need not add up
    for given in ({"positive": 1}, {"thresholds": {"own": 0.5}}, {"groups": labels[:, 0]}):
        with pytest.raises(ValueError, match=f"{[*given][0]} is for .* this is multi-label"):
            verdict("multi-label", p, q, labels, **given)
    assert verdict("multi-label", p, q, labels, thresholds={"youden": None, "own": np.nan}).rows
    labels, p, q = case("binary")
    with pytest.raises(ValueError, match="groups is for segmentation tasks, and this is binary"):
        verdict("binary", p, q, labels, groups=labels)
    masks, p, q = case("segmentation", n=20)
    with pytest.raises(ValueError, match="positive is for binary tasks"):
        verdict("segmentation", p, q, masks, positive=1)
    for groups in (np.arange(19), np.arange(21), [[1]] * 20):
        with pytest.raises(ValueError, match="there are 20 images: give the patient of each"):
            verdict("segmentation", p, q, masks, groups=groups)
    for other in (masks[:19], masks[:, 1:], masks.reshape(40, 6, 12)):
        with pytest.raises(ValueError, match="masks are .* give equal ones"):
            verdict("segmentation", p, q, other)


def test_few_patients_give_no_interval_of_masks():
    """Drawn from one patient all drawings are the same, and the interval has no width."""
    masks, p, q = case("segmentation", n=40)
    for patients, passes in ((1, False), (4, False), (5, True)):
        close = np.clip(p + 1e-3, 0, 1)
        found = verdict("segmentation", p, close, masks, groups=np.arange(40) % patients)
        assert found.passed == passes
        assert ("give no interval" in found.reason) != passes
    assert verdict("segmentation", p, p, masks, groups=np.zeros(40)).passed  # equal is equal
