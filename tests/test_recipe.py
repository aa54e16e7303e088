import subprocess
import sys

import numpy as np
import pytest

from effml.recipe import COLUMNS, Recipe, Record


def test_ids_are_kept_for_ever():
    """These ids stand in committed records: a default that changes, or another way to hash, orphans them."""
    assert Recipe().id == "r44136fa355"
    assert Recipe(model="resnet18", seed=2, learning_rate=0.01).id == "r0a26d22d6a"


def test_id_hashes_what_differs_from_the_defaults_however_it_is_written():
    assert Recipe(epochs=10).id == Recipe().id
    assert (
        Recipe(epochs=3).id
        == Recipe(epochs="3").id
        == Recipe(epochs=3.0).id
        == Recipe(epochs=np.int64(3)).id
    )
    assert Recipe(learning_rate=1).id == Recipe(learning_rate=1.0).id
    assert len({Recipe(seed=s).id for s in range(1000)}) == 1000


def test_round_trips():
    recipe = Recipe(model="mlp", selection="random", train_fraction=0.5, seed=3)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert Recipe.from_dict({**recipe.to_dict(), "test_auroc": 0.9}) == recipe
    assert Recipe.parse(["model=mlp", "selection=random", "train_fraction=0.5", "seed=3"]) == recipe
    assert recipe.but(seed=0).but(seed=3) == recipe


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"epochs": 1.5}, "epochs=1.5"),
        ({"epochs": -1}, "0 or a number above"),
        ({"batch_size": 0}, "above 0"),
        ({"seed": -1}, "0 or a number above"),
        ({"seed": True}, "seed=True"),
        ({"model": 3}, "model=3"),
        ({"model": ""}, "model=''"),
        ({"learning_rate": "fast"}, "fast"),
        ({"learning_rate": float("nan")}, "nan"),
        ({"train_fraction": 0.5}, "selection='none'"),
        ({"selection": "kcenter"}, "train_fraction=1.0"),
        ({"selection": "kcenter", "train_fraction": 0}, "above 0 and at most 1"),
        ({"keep_unit": "params"}, "no effect without prune or merge"),
        ({"calibration_images": 64}, "no effect without prune or merge"),
        ({"temperature": 2}, "no effect without teacher"),
        ({"teacher": "r1", "teacher_share": 0}, "above 0 and at most 1"),
        ({"prune": "channels", "channel_fraction": 1.2}, "at most 1"),
        ({"activation_bits": 9}, "Choose from"),
        ({"data": "a|b"}, "at_hand"),
    ],
)
def test_contradictions_fail_at_construction_with_advice(fields, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        Recipe(**fields)


def test_unknown_fields_list_the_menu():
    for make in (lambda: Recipe().but(epcohs=1), lambda: Recipe.parse(["epcohs=1"])):
        with pytest.raises(ValueError, match="epcohs.*Choose from: data, size"):
            make()


def test_a_record_is_the_recipe_and_known_columns_only():
    record = Record(Recipe(seed=4), test_auroc=0.9)
    assert record["seed"] == record.seed == 4 and record.test_auroc == 0.9 and record.reason is None
    with pytest.raises(ValueError, match="test_aurco"):
        record.update(test_aurco=0.9)
    with pytest.raises(AttributeError, match="Choose from"):
        record.nonsense
    assert not set(COLUMNS) & set(Recipe.__dataclass_fields__)


def test_importing_effml_and_asking_needs_no_torch():
    code = (
        "import sys, effml\nassert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "effml.Recipe(seed=1).id, effml.evaluate, effml.load_runs, effml.report, effml.check, effml.sweep\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
