"""The sheet between two runs: every row against the functions it comes from, and every refusal."""

import numpy as np
import pytest

from effml import Recipe, Record, load_runs
from effml.comparison import _positive, compare
from effml.evaluation import evaluate, mcnemar, operating_point, paired_auroc, paired_proportions
from effml.results import RecordWriter, save_arrays


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def two_models(n=300, classes=2, seed=0, noise=0.4):
    """Labels, and the logits of a model and of a cruder one; a cruder one shifts its scores,
    too."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % (3 if classes == 2 else classes)).clip(
        0, classes - 1
    )  # binary: a third is class 0
    logits = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[y]
    return y, logits, logits + noise * rng.normal(size=logits.shape) + 0.8 * np.eye(classes)[0]


def put(store, name, test, val, *, positive=0, task="binary", **columns):
    """A record and its arrays, as `effml.run` leaves them: test and val are (probabilities,
    labels)."""
    scores = evaluate(*test, task=task, positive=positive)
    recipe = Recipe(model=columns.pop("model", "lenet5"), seed=int(name[1:]))
    told = {
        f"test_{k}": getattr(scores, k)
        for k in ("prevalence", "sensitivity", "specificity", "threshold", "auroc")
    }
    given = {
        "run_id": name,
        "status": "ok",
        "data_sha256": "0" * 64,
        "numerics": 1,
        "device": "cpu",
        "device_name": "CPU",
        "threads_used": 2,
        "train_seconds": 10.0,
        "train_energy_j": 200.0,
        "infer_seconds": 1.0,
        "model_file_bytes": 1000,
        "finished_utc": name,
        **told,
        **columns,
    }
    record = Record(recipe, **given)
    arrays = {"test_probabilities": test[0], "test_labels": test[1]}
    save_arrays(
        store,
        name,
        {**arrays, **({"val_probabilities": val[0], "val_labels": val[1]} if val else {})},
    )
    with RecordWriter(store) as writer:
        writer.append(record)


@pytest.fixture
def store(tmp_path):
    """r1, and r2, which is a quarter of it in size and half in time; positive is class 0, as
    malignant is."""
    test, val = two_models(seed=1), two_models(seed=2, n=400)
    for k, name in enumerate(("r1", "r2"), 1):
        costs = (
            {}
            if k == 1
            else {
                "train_seconds": 5.0,
                "train_energy_j": None,
                "infer_seconds": 0.5,
                "model_file_bytes": 250,
            }
        )
        put(
            tmp_path,
            name,
            (softmax(test[k]).astype(np.float32), test[0]),
            (softmax(val[k]), val[0]),
            **costs,
        )
    return tmp_path


def test_every_row_is_what_its_function_says(store):
    sheet = compare("r1", "r2", store=store, margin=0.05)
    (y, *test), (val_y, *val) = two_models(seed=1), two_models(seed=2, n=400)
    p, q = (softmax(x).astype(np.float32) for x in test)
    cuts = [operating_point(softmax(x), val_y, positive=0).threshold for x in val]
    a, b = (
        evaluate(x, y, task="binary", positive=0, thresholds=cut) for x, cut in zip((p, q), cuts)
    )
    assert sheet.loc["threshold", ["a", "b"]].tolist() == cuts
    assert cuts[0] != pytest.approx(cuts[1], abs=0.01)
    for name in (
        "auroc",
        "average_precision",
        "sensitivity",
        "specificity",
        "accuracy",
        "balanced_accuracy",
        "brier",
        "ece",
        "worst_class_recall",
    ):
        assert sheet.loc[name, ["a", "b"]].tolist() == pytest.approx(
            [getattr(a, name), getattr(b, name)], abs=1e-12
        ), name
        assert sheet.difference[name] == pytest.approx(sheet.b[name] - sheet.a[name], abs=1e-12)
    auroc = paired_auroc(p, q, y, positive=0)
    assert sheet.loc["auroc", ["low", "high", "p"]].tolist() == [auroc.low, auroc.high, auroc.p]
    right = [(x[:, 0] >= cut) == (y == 0) for x, cut in ((p, cuts[0]), (q, cuts[1]), (q, cuts[0]))]
    test = mcnemar(*right[:2])
    assert sheet.p["accuracy"] == test.p
    assert f"only A right {test.only_a}, only B right {test.only_b}" in sheet.note["accuracy"]
    for name, these in (("sensitivity", y == 0), ("specificity", y == 1)):
        for row, other in ((name, right[1]), (f"{name} at A's threshold", right[2])):
            expected = paired_proportions(right[0][these], other[these])
            columns = ["a", "b", "low", "high", "p"]
            assert sheet.loc[row, columns].tolist() == [
                getattr(expected, column) for column in columns
            ]
    shifted = sheet.loc["sensitivity at A's threshold"]
    assert (
        shifted.b > sheet.b["sensitivity"]
    )  # B gives class 0 more, so at A's threshold it calls more of everything malignant
    assert sheet.b["specificity at A's threshold"] < sheet.b["specificity"]
    assert sheet.verdict["auroc"] in ("non-inferior", "inferior", "inconclusive")
    assert sheet.verdict["brier"] == ""
    assert sheet.b["agreement"] == np.mean((p[:, 0] >= cuts[0]) == (q[:, 0] >= cuts[1]))
    assert sheet.ratio[["train_seconds", "infer_seconds", "model_file_bytes"]].tolist() == [
        0.5,
        0.5,
        0.25,
    ]
    assert np.isnan(sheet.ratio["train_energy_j"]) and np.isnan(sheet.ratio["auroc"])
    assert not sheet[["verdict", "note"]].isna().any().any()


def test_a_run_against_itself_and_the_other_way_round(store):
    runs = load_runs(store)
    same = compare(runs.iloc[0], runs.iloc[0], store=store)
    assert (same.difference.dropna() == 0).all()
    assert same.p.dropna().tolist() == [1] * same.p.notna().sum()
    assert same.verdict["auroc"] == "non-inferior"
    assert same.verdict["sensitivity"] == "inconclusive"
    assert same.low["sensitivity"] == pytest.approx(-3.84 / 103.84, abs=1e-3)
    assert same.b["agreement"] == 1 and same.ratio.dropna().tolist() == [1] * 4
    there, back = (
        compare(runs.iloc[0], runs.iloc[1], store=store),
        compare(runs.iloc[1], runs.iloc[0], store=store),
    )
    for name in ("auroc", "sensitivity", "specificity", "accuracy"):
        turned = [back.b[name], -back.high[name], back.p[name]]
        assert there.loc[name, ["a", "low", "p"]].tolist() == pytest.approx(turned, abs=1e-12)
    assert compare(runs.recipe_id[0], "r2", store=store).equals(there)


def test_the_aim_chooses_the_thresholds(store):
    screening, confirmation = (
        compare("r1", "r2", store=store, aim=aim) for aim in ("screening", "confirmation")
    )
    assert screening.a["sensitivity"] > 0.85 and confirmation.a["specificity"] > 0.85
    assert screening.a["threshold"] < confirmation.a["threshold"]
    with pytest.raises(ValueError, match="Unknown aim 'triage'. Choose from: screening"):
        compare("r1", "r2", store=store, aim="triage")


def test_sensitivity_is_of_the_positive_class_of_the_record(tmp_path):
    y, good, crude = two_models(seed=3)
    for positive, folder in ((0, tmp_path / "0"), (1, tmp_path / "1")):
        for name, logits in (("r1", good), ("r2", crude)):
            put(folder, name, (softmax(logits), y), (softmax(logits), y), positive=positive)
        sheet = compare("r1", "r2", store=folder)
        point = operating_point(softmax(good), y, positive=positive)
        assert sheet.loc["sensitivity", "a"] == point.sensitivity >= 0.95
        assert sheet.a["threshold"] == point.threshold
    p = np.array(
        [[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]] * 10
    )  # either class fits: half each, both half right
    put(tmp_path, "r3", (p, np.array([0, 1, 0, 1] * 10)), None)
    put(
        tmp_path,
        "r4",
        *[(np.float32([[1 - x, x] for x in (0.1, 0.2, 0.7, 0.9)]), np.array([1, 0, 0, 1]))] * 2,
    )
    rounded = compare(
        "r4", "r4", store=tmp_path, aim="confirmation", positive=0
    )  # a threshold one step of float64 above 0.9
    assert (rounded.a["sensitivity"], rounded.a["specificity"]) == (
        0,
        1,
    )
    assert "calls no image" in rounded.note["threshold"]
    with pytest.raises(
        ValueError, match="both classes fit its scores: pass the positive one of phantom-chest"
    ):
        compare("r3", "r3", store=tmp_path)
    sheet = compare("r3", "r3", store=tmp_path, positive=0)
    assert sheet.a["threshold"] == 0.5
    assert "no validation split to choose on, 0.5 taken" in sheet.note["threshold"]


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("absent", [None, 0, 1])
def test_the_positive_class_is_found_at_any_threshold_and_where_a_class_is_absent(positive, absent):
    y, good, _ = two_models(seed=3)
    p, labels = softmax(good), y if absent is None else np.full_like(y, 1 - absent)
    scores = evaluate(p, labels, task="binary", positive=positive, thresholds=0.2)
    names = ("prevalence", "sensitivity", "specificity", "threshold")
    row = {f"test_{name}": getattr(scores, name) for name in names}
    assert _positive(row, p, labels) == positive


def test_other_tasks_have_no_thresholds(tmp_path):
    y, good, crude = two_models(seed=4, classes=4)
    for name, logits in (("r1", good), ("r2", crude)):
        for folder, task, truth in (
            (tmp_path, "multi-class", y[:, None]),
            (tmp_path / "l", "multi-label", np.eye(4, dtype=int)[y]),
        ):
            found = softmax(logits), truth
            put(folder, name, found, found, task=task, positive=None)
    sheet, right = (
        compare("r1", "r2", store=tmp_path),
        [x.argmax(axis=1) == y for x in (good, crude)],
    )
    assert "sensitivity" not in sheet.index
    assert sheet.loc["accuracy", ["a", "b"]].tolist() == [x.mean() for x in right]
    change = [(right[1][y == c].mean() - right[0][y == c].mean()) for c in range(4)]
    worst = sheet.loc["worst change of a class's recall"]
    assert worst.difference == pytest.approx(min(change)) and np.isnan(worst.p)
    assert worst.note.startswith(f"class {np.argmin(change)}, ")
    labels = compare("r1", "r2", store=tmp_path / "l")
    assert {"auroc", "balanced_accuracy", "brier", "ece", "train_seconds"} <= {*labels.index}
    told = [softmax(x) >= 0.5 for x in (good, crude)]
    truth = np.eye(4, dtype=bool)[y]
    assert labels.loc["accuracy", ["a", "b"]].tolist() == pytest.approx(
        [(x == truth).mean() for x in told]
    )
    assert labels.b["agreement"] == pytest.approx((told[0] == told[1]).mean())


def test_what_cannot_be_compared_is_refused(store, tmp_path):
    y, good, _ = two_models(seed=1)
    p = softmax(good)
    put(store, "r4", (p, y), None, data_sha256="1" * 64)
    put(store, "r5", (p[:, ::-1], 1 - y), None, positive=0)
    put(store, "r6", (p, y), None, status="diverged", reason="the loss became nan")
    put(store, "r7", (p, y), None, test_sensitivity=0.123)
    put(store, "r8", (p, y), None, device_name="another CPU")
    save_arrays(store, "r9", {"test_probabilities": p})
    for a, b, message in (
        ("r1", "r4", "0000.*1111.*only runs on the same data"),
        ("r1", "r5", "different test labels"),
        ("r1", "r6", "r6 .* is not ok but diverged .the loss became nan"),
        ("r1", "nope", "no run 'nope'. Choose from: r1, r2"),
        ("r7", "r1", "its arrays do not give the scores of its record"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(a, b, store=store)
    put(store, "r10", (p, y), None, precision_emulated=1)
    notes = compare("r1", "r10", store=store).note
    assert notes["train_energy_j"] == "bf16 was emulated: no word on a saving"
    assert not notes["model_file_bytes"]
    put(store, "r11", (p, y), None, shared_machine=1)
    said = compare("r1", "r11", store=store).note["train_energy_j"]
    assert said == "a run shared its machine: no word on its joules"
    assert not compare("r1", "r2", store=store).note["train_seconds"]
    assert (
        compare("r1", "r8", store=store).note["train_seconds"] == "measured on different machines"
    )
    row = load_runs(store).iloc[0]
    with pytest.raises(
        ValueError, match="kept no test_labels: run its recipe again, into a new store"
    ):
        compare({**row, "run_id": "r9"}, "r1", store=store)
    save_arrays(store, "rm", {"test_probabilities": np.zeros((2, 8, 8))})
    with pytest.raises(ValueError, match="draws masks, and compare is for classes"):
        compare({**row, "run_id": "rm"}, "r1", store=store)
    with pytest.raises(
        FileNotFoundError,
        match="left no r0.npz in .*: name the store it was run into, or run again",
    ):
        compare({**row, "run_id": "r0"}, "r1", store=store)
    with pytest.raises(ValueError, match="margin above 0"):
        compare("r1", "r2", store=store, margin=0)


def test_trainings_of_unequal_length_are_told_beside_their_seconds(tmp_path):
    y, p, _ = two_models()
    for name, epochs in (("r0", 2), ("r1", 4)):
        put(tmp_path, name, (softmax(p), y), None, epochs_run=epochs, train_n=100)
    note = compare("r0", "r1", store=tmp_path, positive=0).note
    assert note["train_seconds"] == note["train_energy_j"] == "the trainings differ in epochs_run"
    assert note["infer_seconds"] == note["model_file_bytes"] == ""
