"""What a score means: over all images when ranked within classes, for several labels an image, and
over epochs."""

from itertools import product

import numpy as np
import pytest
import torch

from effml import Recipe, load_dataset, run
from effml.selection import SELECTORS, get_selector, scoring
from effml.selection.classes import quotas
from effml.selection.proxy import select_images as select
from test_training import dots


def problem(n=400, classes=8, seed=0):
    """Predictions of classes that are not alike: some are always predicted with confidence, others
    never."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=draw)
    sure = torch.linspace(0.5, 5, classes)[labels][:, None]
    logits = torch.randn(n, classes, generator=draw)
    logits += sure * torch.nn.functional.one_hot(labels, classes)
    wrong = torch.rand(n, generator=draw) < 0.2
    labels = torch.where(wrong, (labels + 1) % classes, labels)
    return labels, logits.softmax(1)


def clean_by_hand(p, labels):
    """Confident learning with loops: the threshold of a class is the mean self-confidence of the
    images labelled so."""
    threshold = [p[labels == k, k].mean() for k in range(p.shape[1])]
    scores = []
    for row, label in zip(p, labels):
        ratios = [row[k] / threshold[k] for k in range(len(row))]
        scores.append(ratios[label] - max(r for k, r in enumerate(ratios) if k != label))
    return np.array(scores)


def test_clean_is_the_ratio_to_the_mean_self_confidence_of_each_class():
    labels, p = problem()
    by_hand = clean_by_hand(p.double().numpy(), labels.numpy())
    assert np.allclose(scoring.clean(p, labels, None), by_hand, atol=1e-4)
    kept = SELECTORS["clean"](torch.zeros(400, 1), labels, 200, scores=p)
    assert set(kept.tolist()) == set(np.argsort(-by_hand)[:200].tolist())


def test_scores_per_class_are_those_of_all_images_ranked_within_each_class():
    labels, p = problem()
    features = torch.rand(400, 3, generator=torch.Generator().manual_seed(1))
    by_hand = torch.from_numpy(clean_by_hand(p.double().numpy(), labels.numpy()))
    kept = get_selector("clean_per_class")(features, labels, 200, scores=p)
    expected = set()
    for label, quota in quotas(labels, 200).items():
        mine = (labels == label).nonzero()[:, 0]
        expected |= set(mine[by_hand[mine].argsort(descending=True)[:quota]].tolist())
    assert set(kept.tolist()) == expected
    for name in ("entropy", "margin", "least_confidence", "el2n", "grand"):
        scores = getattr(scoring, name)(p, labels, features)
        kept = get_selector(f"{name}_per_class")(features, labels, 100, scores=p)
        ready = get_selector(f"{name}_per_class")(features, labels, 100, scores=scores)
        assert torch.equal(kept, ready), name


def test_el2n_is_the_mean_over_the_epochs():
    draw = torch.Generator().manual_seed(0)
    labels, p = torch.randint(3, (20,), generator=draw), torch.rand(20, 4, 3, generator=draw)
    p /= p.sum(-1, keepdim=True)
    goal = np.eye(3)[labels]
    by_hand = np.mean([np.linalg.norm(p[:, e].numpy() - goal, axis=1) for e in range(4)], 0)
    assert np.allclose(scoring.el2n(p, labels, None), by_hand, atol=1e-6)
    last = scoring.el2n(p[:, -1], labels, None)
    assert not torch.equal(last.argsort(), scoring.el2n(p, labels, None).argsort())


def test_scores_of_several_labels_are_those_of_all_sets_of_labels():
    draw = torch.Generator().manual_seed(0)
    p, labels = torch.rand(50, 4, generator=draw).double(), torch.ones(50, 4, dtype=torch.long)
    joint = torch.stack(
        [
            torch.stack([q if one else 1 - q for q, one in zip(p.T, answer)]).prod(0)
            for answer in product((0, 1), repeat=4)
        ],
        1,
    )  # (50, 16), the probability of each set
    alone = torch.zeros(50, dtype=torch.long)
    for name in ("entropy", "margin", "least_confidence"):
        score = getattr(scoring, name)
        assert torch.allclose(score(p, labels, None), score(joint, alone, None)), name
        kept = SELECTORS[name](torch.zeros(50, 1), labels, 10, scores=p)
        best = score(joint, alone, None).argsort(descending=True)[:10]
        assert set(kept.tolist()) == set(best.tolist())


def test_what_are_no_probabilities_of_these_labels_is_an_instruction():
    labels, p = problem(40, 4)
    several = torch.nn.functional.one_hot(labels, 4)
    for scores, given, words in (
        (p * 0.4, labels, "sums from"),
        (p - 0.5, labels, "from -"),
        (p + 0.4, None, "several labels"),
        (p[:, :3], several, "3 probabilities an image for 4 labels"),
    ):
        with pytest.raises(ValueError, match=words):
            SELECTORS["entropy"](torch.zeros(40, 1), given, 5, scores=scores)
    for name in ("el2n", "forgetting", "grand", "clean", "entropy_per_class"):
        with pytest.raises(ValueError, match="Choose a selection that does not go by classes"):
            get_selector(name)(torch.zeros(40, 1), several, 5, scores=p[:, None].repeat(1, 2, 1))


def test_a_proxy_of_several_labels_selects_by_their_entropy(tmp_path):
    data = dots(task="multi-label")
    kept, _ = select(data, Recipe(selection="entropy", proxy="mlp@1", train_fraction=0.1))
    assert len(set(kept.tolist())) == 14


def one_hot(tmp_path, name, labels, **more):
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = np.random.default_rng(0).integers(
            0, 256, (len(labels), 12, 12), np.uint8
        )
        arrays[f"{split}_labels"] = labels
    np.savez(tmp_path / name, **arrays, **more)
    return tmp_path / name


def test_one_hot_labels_are_classes_and_true_several_labels_are_not(tmp_path, capsys):
    numbers = np.arange(12) % 3
    file = one_hot(tmp_path, "hot.npz", np.eye(3, dtype=np.uint8)[numbers])
    data = load_dataset(str(file))
    assert data.task == "multi-class" and data.classes == ("0", "1", "2")
    assert data.val.labels.tolist() == numbers.tolist() and data.train.labels.ndim == 1
    assert "one-hot" in data.passport["labels"] and data.passport["majority_rate"] == 1 / 3
    load_dataset(str(file))
    assert capsys.readouterr().err.count("exactly one of 3 columns is 1") == 1
    named = one_hot(
        tmp_path, "two.npz", np.eye(2)[numbers % 2], label_names=["benign", "malignant"]
    )
    data = load_dataset(str(named))
    assert (data.task, data.classes, data.positive) == ("binary", ("benign", "malignant"), 1)
    absent = np.eye(4, dtype=int)[numbers]  # a column without images is a class all the same
    assert len(load_dataset(str(one_hot(tmp_path, "absent.npz", absent))).classes) == 4
    for row in ([0, 0, 0], [1, 1, 0]):
        labels = np.vstack([np.eye(3, dtype=int)[numbers[1:]], [row]])
        assert load_dataset(str(one_hot(tmp_path, f"{sum(row)}.npz", labels))).task == "multi-label"
    with pytest.raises(ValueError, match="3 columns, but 2 classes are named: a, b"):
        load_dataset(
            str(one_hot(tmp_path, "named.npz", np.eye(3)[numbers], label_names=["a", "b"]))
        )


def test_a_run_on_several_labels_refuses_what_is_for_one_and_one_hot_is_in_the_record(tmp_path):
    labels = np.eye(3, dtype=np.uint8)[np.arange(12) % 3]
    hot = str(one_hot(tmp_path, "hot.npz", labels))
    record = run(Recipe(data=hot, model="mlp", epochs=1))
    assert record.status == "ok" and "one-hot" in record.notes
    labels[0] = 1
    recipe = Recipe(data=str(one_hot(tmp_path, "s.npz", labels)), model="lenet5", epochs=1)
    record = run(recipe.but(prune="channels_taylor", channel_fraction=0.5, calibration_images=8))
    assert record.status == "unsupported" and "prune='channels'" in record.reason
