"""`effml.select` on your own features, images, scores and models: the answers are the selectors',
whatever holds the data, and what is missing is said."""

import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)

import effml
from effml import build_model, load_dataset, select
from effml.data import Split, normalize
from effml.models import embed, head
from effml.selection import SELECTORS, get_selector

N = 48
DRAW = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (N, 1, 28, 28), dtype=torch.uint8, generator=DRAW)
LABELS = torch.randint(3, (N,), generator=DRAW)
FEATURES = torch.randn(N, 5, generator=DRAW)
SCORES = torch.randn(N, 4, 3, generator=DRAW).softmax(2)
BY_SCORES = [name for name, s in SELECTORS.items() if getattr(s, "needs_scores", False)]


@pytest.mark.parametrize("name", [*SELECTORS, "kcenter_per_class", "entropy_per_class"])
def test_it_is_the_selector_whatever_holds_the_data(name):
    scores = SCORES if name.removesuffix("_per_class") in BY_SCORES else None
    right = get_selector(name)(FEATURES, LABELS, 12, seed=3, scores=scores)
    kept = {"labels": LABELS.tolist(), "fraction": 0.25, "seed": 3}
    for features in (FEATURES, FEATURES.numpy(), FEATURES.tolist(), list(FEATURES)):
        listed = scores if scores is None else scores.tolist()
        assert torch.equal(select(name, features, scores=listed, **kept), right)
    images = get_selector(name)(IMAGES.flatten(1), LABELS, 5, scores=scores)
    assert torch.equal(select(name, IMAGES, labels=LABELS, k=5, scores=scores), images)
    assert torch.equal(select(name, IMAGES.numpy(), labels=LABELS, k=5, scores=scores), images)


@pytest.mark.parametrize("name", [*BY_SCORES, "margin_per_class", "random", "class_balanced"])
def test_features_are_not_needed_where_scores_or_labels_do(name):
    scores = None if name in ("random", "class_balanced") else SCORES
    if name == "grand":
        with pytest.raises(ValueError, match="grand needs features"):
            select(name, None, labels=LABELS, scores=scores, k=5)
        return
    right = get_selector(name)(FEATURES, LABELS, 5, scores=scores)
    assert torch.equal(select(name, None, labels=LABELS, scores=scores, k=5), right)


def loaders():
    """The labels in them are others: those that are given count."""
    pairs = TensorDataset(IMAGES, LABELS.flip(0))
    yield IMAGES
    yield IMAGES.numpy()
    yield normalize(IMAGES)
    yield DataLoader(pairs, batch_size=7)
    yield (normalize(images) for images in IMAGES.split(11))
    yield Split(IMAGES, LABELS.flip(0))


@pytest.mark.parametrize("name", ["kcenter", "entropy", "grand", "clean_per_class", "random"])
def test_a_model_is_looked_through_and_left_as_it_was(name):
    model = build_model("lenet5", classes=3)
    with torch.no_grad():
        scores = model(normalize(IMAGES)).softmax(1)
        features = model[:-1](normalize(IMAGES))
    assert head(model) is model[-1]
    by_scores = name.removesuffix("_per_class") in BY_SCORES
    right = get_selector(name)(features, LABELS, 6, scores=scores if by_scores else None)
    model.train()
    model[0].eval()
    for data in loaders():
        assert torch.equal(select(name, model, data, labels=LABELS, k=6), right)
        assert model[1].training and not model[0].training
    triples = TensorDataset(IMAGES, LABELS, LABELS.flip(0))
    met = select(name, model, DataLoader(triples, batch_size=7), k=6)
    assert torch.equal(met, right)  # the labels are those of the loader


def test_several_labels_are_predicted_by_sigmoids_and_given_scores_spare_the_model():
    model, labels = build_model("mlp", classes=3), torch.nn.functional.one_hot(LABELS, 3)
    labels[0] = 1
    with torch.no_grad():
        scores = model(normalize(IMAGES)).sigmoid()
    right = SELECTORS["entropy"](FEATURES, labels, 6, scores=scores)
    assert torch.equal(select("entropy", model, IMAGES, labels=labels, k=6), right)
    right = SELECTORS["el2n"](FEATURES, LABELS, 6, scores=SCORES)
    given = {"labels": LABELS, "scores": SCORES, "k": 6}
    assert torch.equal(select("el2n", model, IMAGES, **given), right)


def test_a_model_answers_in_eval_mode_and_in_its_own_number_format():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(784, 3)).double()
    with torch.no_grad():
        scores = model.eval()(normalize(IMAGES).double()).softmax(1).float()
    right = SELECTORS["entropy"](FEATURES, None, 6, scores=scores)
    assert torch.equal(select("entropy", model.train(), IMAGES, k=6), right) and model.training
    with pytest.raises(ValueError, match="grand is exact for"):
        select("grand", nn.Sequential(model, nn.Tanh()), IMAGES, labels=LABELS, k=6)


@pytest.mark.parametrize("fraction, k", [(1, N), (0.24, 12), (0.01, 1)])
def test_a_fraction_is_rounded_and_leaves_one_image_at_least(fraction, k):
    assert len(select("random", FEATURES, fraction=fraction)) == k


@pytest.mark.parametrize(
    "name, given, words",
    [
        ("k-center", {}, "Unknown selection 'k-center'. Choose from: random, class_balanced"),
        ("kcenter", {"fraction": 0.5}, "either fraction or k"),
        ("kcenter", {"k": None}, "either fraction or k"),
        ("kcenter", {"k": None, "fraction": 1.5}, "fraction kept: give more than 0"),
        ("kcenter", {"k": None, "fraction": 0}, "fraction kept: give more than 0"),
        ("kcenter", {"k": N + 1}, "from 1 to 48"),
        ("kcenter", {"scores": SCORES}, "kcenter does not go by scores"),
        ("kcenter", {"data": IMAGES}, "data is for a model"),
        ("kcenter", {"given": None}, "kcenter needs features"),
        ("kcenter", {"given": "images"}, "are not numbers"),
        ("kcenter", {"given": [[1.0, 2.0], [3.0]]}, "different lengths"),
        ("kcenter", {"given": [1.0, 2.0], "k": 1}, r"Give \(N, D\)"),
        ("entropy", {"scores": None}, "Give scores"),
        ("entropy", {"scores": None, "given": None}, "entropy needs labels or scores"),
        ("el2n", {"scores": SCORES}, "got no labels"),
        ("el2n", {"scores": SCORES, "labels": LABELS + 1}, "go up to 3, but the scores have 3"),
        ("forgetting", {"scores": SCORES, "labels": LABELS + 1}, "go up to 3, but the scores"),
        ("forgetting", {"scores": SCORES[:, 0], "labels": LABELS}, "over epochs"),
        ("class_balanced", {}, "got no labels"),
        ("class_balanced", {"labels": ["a"] * N}, "whole numbers from 0"),
        ("class_balanced", {"labels": LABELS + 0.5}, "whole numbers from 0"),
        ("class_balanced", {"labels": [0.5] + [1] * (N - 1)}, "whole numbers from 0"),
        ("class_balanced", {"labels": LABELS - 1}, "whole numbers from 0"),
        ("class_balanced", {"labels": LABELS[:5]}, "5 labels for 48 images"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_an_instruction(name, given, words):
    asked = {"given": FEATURES, "k": 5, "data": None} | given
    with pytest.raises(ValueError, match=words):
        select(name, asked.pop("given"), asked.pop("data"), **asked)


def test_a_loader_without_a_fixed_order_is_refused():
    pairs, model = TensorDataset(IMAGES, LABELS), build_model("mlp", classes=3)
    drawn = [
        BatchSampler(RandomSampler(pairs), 7, False),
        BatchSampler(SequentialSampler(pairs), 7, True),
        [[1, 0], [2, 3]],
    ]
    for how in (
        {"shuffle": True},
        {"drop_last": True, "batch_size": 7},
        *({"batch_sampler": sampler} for sampler in drawn),
    ):
        with pytest.raises(ValueError, match="shuffle=False"):
            select("kcenter", model, DataLoader(pairs, **how), k=5)
    for data, words in ((None, "needs data"), (list(IMAGES), "stack single images")):
        with pytest.raises(ValueError, match=words):
            select("entropy", model, data, k=5)


def test_it_selects_as_the_notebooks_do():
    data = load_dataset("phantom-chest").only(torch.arange(60))
    model = build_model("lenet5")
    seen = embed(model, data.train.images)
    right = SELECTORS["kmeans"](seen, None, 12, seed=0)
    assert torch.equal(effml.select("kmeans", model, data.train, fraction=0.2), right)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"scores": [0.5, 0.99, 0.01], "k": 2}, r"entropy goes by prob.*numpy.stack\(\[1 - p, p\]"),
        ({"scores": SCORES[:5], "fraction": "half"}, "fraction='half' is the fraction kept"),
        ({"scores": SCORES[:5], "k": 2, "seed": "a"}, "seed='a' must be a whole number"),
        ({"scores": torch.zeros(0, 2), "k": 1}, "no images. Give at least one"),
    ],
)
def test_what_select_cannot_use_is_said(asked, words):
    with pytest.raises(ValueError, match=words):
        select("entropy", None, **asked)


def test_of_one_hot_labels_the_class_numbers_are_asked():
    with pytest.raises(ValueError, match=r"one-hot rows give labels.argmax\(1\)"):
        select("class_balanced", None, labels=torch.eye(4, dtype=torch.long), k=2)
