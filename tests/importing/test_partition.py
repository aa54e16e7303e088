import numpy as np
import pytest

from effml.importing.partition import side_of, split
from effml.importing.table import finder


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
    assert find("a/x.png") == ["a/x.png"]
    assert find("x.png") == ["a/x.png", "b/x.png"]
    assert find("y.png") == ["c/y.PNG"]
    assert find("c/y") == ["c/y.PNG", "c/y.jpg"]
    assert find("z") == []
    assert find("../../etc/passwd") == []


def words_of(by, labels, **how):
    with pytest.raises(ValueError) as raised:
        split(
            by,
            np.array(labels),
            **{k: np.array(v) if k != "fractions" else v for k, v in how.items()},
        )
    return str(raised.value)


def test_a_side_that_cannot_be_filled_is_named_with_advice():
    said = words_of("group", ["a", "b"] * 10, groups=["p"] * 20, fractions=(0.8, 0, 0.2))
    assert "leaves nothing for test, out of 20 images" in said and "give more patients" in said
    assert "all of the one group p." in said
    said = words_of("image", ["rare"] + ["often"] * 50)
    assert "without the class rare (1 image)" in said
    said = words_of("image", [f"c{i:02d}" for i in range(40)])
    assert "leaves nothing for val, test" in said and "put rare classes together" in said
    labels = ["rare"] * 2 + ["often"] * 50
    assert "fractions=(0.6, 0, 0.4)" in words_of("image", labels)
    assert set(split("image", np.array(labels), fractions=(0.6, 0, 0.4))[:2]) == {0, 2}


def test_a_class_that_a_given_split_lacks_is_no_matter_of_fractions():
    said = words_of("column", ["a", "b", "a"], given=["train", "train", "test"])
    assert "The split by column leaves test without the class b" in said
    assert "Add such pictures to that side" in said and "fractions" not in said


def test_days_that_cannot_be_parted_are_an_instruction():
    days = [f"2020-01-{1 + i:02d}" for i in range(20)]
    said = words_of("date", ["a", "b"] * 10, dates=days, groups=["p", "q"] * 10)
    assert "leaves nothing for val, test" in said and "side of his first day" in said
    said = words_of("date", ["b"] + ["a"] * 19, dates=days)
    assert "leaves val without the class b" in said and 'split_by="group"' in said
