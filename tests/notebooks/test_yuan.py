"""Notebook 80: each sentence of the commentary, its experiment, and what the sentence leaves out."""

import json

import numpy as np
import pytest

import yuan
from effml import Recipe
from effml.claims import Estimate, ledger
from effml.machine import ROOT
from effml.results import claims_in


def book(notebook):
    path = next((ROOT / "notebooks").glob(f"{notebook}_*.ipynb"))
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_sentence_of_the_ledger_has_a_row_that_says_what_it_leaves_out():
    claims = ledger()
    assert set(claims.id[claims.paper.str.startswith("Yuan 2025")]) <= set(yuan.SENTENCES)
    assert set(yuan.SENTENCES) <= set(claims.id) and set(yuan.LATER) < set(yuan.SENTENCES)
    labels = [label for _, label, _ in yuan.SENTENCES.values()]
    assert len(set(labels)) == len(labels) and all(rest for *_, rest in yuan.SENTENCES.values())
    for number, *_ in yuan.SENTENCES.values():
        assert book(number)


def test_ours_is_what_the_notebook_of_the_experiment_reported(tmp_path):
    """From the records again: neither may change without the other."""
    ours, seen = yuan.ours(tmp_path / "none"), set()
    for claim, values in ours.items():
        later = claim in yuan.LATER  # reported by 80 alone
        for told in claims_in(book("80" if later else yuan.SENTENCES[claim][0])):
            if told["claim"] == claim:
                seen.add(claim)
                mean = (
                    values.value if isinstance(values, Estimate) else np.mean([*values] or [np.nan])
                )
                assert (told["ours"] is None) == bool(np.isnan(mean)), claim
                assert told["ours"] is None or mean == pytest.approx(told["ours"], abs=1e-6), claim
    assert seen == set(ours)


def record(seed, auroc, machine="a CPU", **fields):
    recipe = Recipe(data="lidc_nodules_64", model="mobilenetv2_100", seed=seed)
    recipe = recipe.but(selection="random_per_class", train_fraction=0.1, **fields)
    made = recipe.to_dict() | {"recipe_id": recipe.id, "run_id": f"{recipe.id}-{machine}"}
    made |= {"status": "ok", "test_auroc": auroc, "numerics": 4, "device": "cpu"}
    made |= {"device_name": machine, "cpu_flags": "avx2", "threads_used": 2}
    return made | {"data_sha256": "x", "finished_utc": f"2026-01-0{1 + seed}"}


def test_your_own_runs_count_where_both_arms_have_two_seeds_of_one_machine(tmp_path):
    def mean_of(rows):
        (tmp_path / "runs-a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
        before, after = yuan.both("pretrained", tmp_path)
        return (after.test_auroc - before.test_auroc).mean()

    scratch = [record(seed, 0.5) for seed in (0, 1)]
    tuned = [record(seed, 0.9, weights="imagenet") for seed in (0, 1)]
    reference = mean_of([])
    assert mean_of(scratch + tuned) == pytest.approx(0.4) != reference
    assert mean_of([*scratch, tuned[0]]) == reference
    other = record(1, 0.9, "another CPU", weights="imagenet")
    assert mean_of([*scratch, tuned[0], other]) == reference
    with pytest.raises(KeyError):
        yuan.both("nothing", tmp_path)


def test_right_of_0_is_as_much_as_was_claimed_or_more():
    table = yuan.beyond(
        {
            "yuan-mixed-time-high": Estimate(0.331, 0.283, 0.379),  # theirs 0.431, more is better
            "srinivas-mnist-lost": Estimate(0.003, 0.002, 0.004),  # theirs 0.007, less is better
            "yuan-splice-canvas": Estimate(0.02, 0.01, 0.03),  # a direction
            "yuan-importance-cifar10": [],
        }
    )
    high = table.loc["yuan-mixed-time-high"]
    assert high[["value", "low", "high", "bottom"]].tolist() == pytest.approx(
        [-10, -14.8, -5.2, -5]
    )
    lost = table.loc["srinivas-mnist-lost"]
    assert lost[["value", "low", "high", "bottom"]].tolist() == pytest.approx([0.4, 0.3, 0.5, -0.5])
    assert table.bottom["yuan-splice-canvas"] == 0 and np.isposinf(table.top).all()
    assert np.isnan(table.value["yuan-importance-cifar10"])
    axes = yuan.figure(table).axes[0]
    told = [label.get_text() for label in axes.get_yticklabels()]
    assert told[-1] == "mixed precision, most time saved" and len(axes.containers) == 3 + 4
    assert [text.get_text() for text in axes.texts][0] == "not testable here"
