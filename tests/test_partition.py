import numpy as np
import pytest

from effml.data.partition import split
from effml.data.table import finder


def test_dealing_is_exact_whatever_the_sizes_of_groups():
    rng = np.random.default_rng(1)
    for groups in (np.repeat(np.arange(40), rng.integers(1, 30, 40)), np.arange(500)):
        labels = rng.choice(["a", "b", "c"], len(groups), p=[0.6, 0.3, 0.1])
        side = split("group", labels, groups=groups, seed=3)
        assert (side == split("group", labels, groups=groups, seed=3)).all()
        assert all(len(set(side[groups == g])) == 1 for g in np.unique(groups))
        for s, part in enumerate((0.7, 0.1, 0.2)):
            assert np.mean(side == s) == pytest.approx(part, abs=0.02)
            assert np.mean(labels[side == s] == "a") == pytest.approx(
                np.mean(labels == "a"), abs=0.05
            )
    with pytest.raises(ValueError, match="without the class rare"):
        split("image", np.array(["rare"] * 2 + ["often"] * 50))


def test_days_are_not_parted_and_every_side_gets_one():
    days = np.repeat(["2020-01-01", "2021-01-01", "2021-01-02"], [1, 7, 1])
    same = np.array(["a"] * 9)
    assert split("date", same, dates=days).tolist() == [0] + [1] * 7 + [2]
    assert split("date", same, dates=days, fractions=(0.7, 0, 0.3)).tolist() == [0] * 8 + [2]
    assert split("date", same, dates=days, fractions=(0.2, 0.8, 0)).tolist() == [0] + [1] * 8
    for few in (days[:3], days[:1]):
        with pytest.raises(ValueError, match="leaves nothing for"):
            split("date", same[: len(few)], dates=few)


def test_what_a_name_in_a_table_may_mean():
    find = finder(["a/x.png", "b/x.png", "c/y.jpg", "c/y.PNG"])
    assert (
        find("a/x.png") == ["a/x.png"]
        and find("x.png") == ["a/x.png", "b/x.png"]
        and find("y.png") == ["c/y.PNG"]
    )
    assert (
        find("c/y") == ["c/y.PNG", "c/y.jpg"] and find("z") == [] and find("../../etc/passwd") == []
    )
