"""The recipes of our own runs of PePR's architectures."""

from collections import Counter

import pytest

import effml
from pepr import own

TABLE = effml.architectures()


def test_the_reference_has_every_architecture_and_twelve_with_seeds_cheapest_first(monkeypatch):
    monkeypatch.setattr(effml, "at_hand", lambda ladder, **_: ladder.split("|")[0])
    recipes = own.reference()
    assert len(recipes) == len({recipe.id for recipe in recipes})
    nodules = [recipe for recipe in recipes if "lidc" in recipe.data and recipe.seed == 0]
    assert {recipe.model for recipe in nodules} == set(TABLE.timm)
    small = [recipe for recipe in recipes if recipe not in nodules]
    assert len({recipe.model for recipe in small}) == 12
    assert Counter(recipe.seed for recipe in small) == {0: 24, 1: 36, 2: 36}
    assert (
        TABLE.drop_duplicates("timm")
        .set_index("timm")
        .params[[r.model for r in small]]
        .between(1e6, 1e7)
        .all()
    )
    assert {(r.optimizer, r.learning_rate, r.epochs, r.batch_size) for r in recipes} == {
        ("adam", 5e-4, 10, 32)
    }
    of = TABLE.drop_duplicates("timm").set_index("timm")
    steps = [of.step_s[r.model] * (r.size / of.smallest[r.model]) ** 2 for r in nodules]
    assert steps == sorted(steps)  # as many images each


@pytest.mark.parametrize("least", [28, 32, 64, 256])
def test_a_size_is_the_first_that_a_net_takes(least):
    for name in TABLE.index:
        size = own.size_of(name, least)
        takes = [side for side in TABLE.sizes[name] if side >= least]
        assert size == (min(takes) if takes else max(TABLE.sizes[name]))


def test_all_fit_a_gpu_in_the_order_of_their_price():
    shares = [recipe.train_fraction for recipe in own.gpu()]
    assert shares == sorted(shares) and len(shares) == 4 * len(set(TABLE.timm))
