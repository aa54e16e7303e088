import numpy as np
import pytest

from effml.data.partition import side_of, split
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


def test_each_group_goes_where_it_brings_the_shares_nearest():
    """By brute force: the distance of all sides from their shares, after each way to place it."""
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(12), np.arange(12) + 1)  # no two of one size: the order is known
    labels, parts = rng.choice(["a", "b", "c"], len(groups), p=[0.5, 0.3, 0.2]), (0.5, 0.2, 0.3)
    total = {name: (labels == name).sum() for name in "abc"}
    dealt = np.full(len(groups), -1)

    def distance(side):
        share = {
            (s, n): ((side == s) & (labels == n)).sum() / total[n] for s in range(3) for n in total
        }
        return sum((share[s, n] - parts[s]) ** 2 / parts[s] for s, n in share)

    for group in range(11, -1, -1):
        ways = [np.where(groups == group, s, dealt) for s in range(3)]
        dealt = min(ways, key=distance)
    assert (split("group", labels, groups=groups, fractions=parts) == dealt).all()


def test_days_are_not_parted_and_every_side_gets_one():
    days = np.repeat(["2020-01-01", "2021-01-01", "2021-01-02"], [1, 7, 1])
    same = np.array(["a"] * 9)
    assert split("date", same, dates=days).tolist() == [0] + [1] * 7 + [2]
    assert split("date", same, dates=days, fractions=(0.7, 0, 0.3)).tolist() == [0] * 8 + [2]
    assert split("date", same, dates=days, fractions=(0.2, 0.8, 0)).tolist() == [0] + [1] * 8
    for few in (days[:3], days[:1]):
        with pytest.raises(ValueError, match="leaves nothing for"):
            split("date", same[: len(few)], dates=few)


def test_a_side_has_every_name_that_people_give_it():
    names = (
        ("train", "Training", "TRAIN_images"),
        ("val", "valid", "Validation"),
        ("test", "testing"),
    )
    for side, spellings in enumerate(names):
        assert [side_of(name) for name in spellings] == [side] * len(spellings)
    assert side_of("benign") is None


def test_a_given_split_may_lack_a_side_but_no_side_a_class():
    given = np.array(["train", "test"] * 4)
    assert split("column", np.array(list("aabb" * 2)), given=given).tolist() == [0, 2] * 4
    for side, labels in (("test", "baaaaaaa"), ("train", "abaaaaaa")):
        with pytest.raises(ValueError, match=f"by column leaves {side} without the class b"):
            split("column", np.array(list(labels)), given=given)


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
