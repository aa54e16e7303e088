import numpy as np
import pytest
from scipy import stats

from effml.claims import VERDICTS, ledger, verdicts


def verdict(values, name="medmnist-breast-auroc"):
    return verdicts({name: values}).iloc[0]


def test_three_verdicts_and_none():
    """Theirs 0.901 ± 0.010."""
    assert verdict([0.900, 0.901, 0.902]).verdict == "agrees"
    assert verdict([0.850, 0.851, 0.852]).verdict == "differs" and verdict([0.950, 0.951, 0.952]).verdict == "differs"
    assert verdict([0.880, 0.900, 0.920]).verdict == "inconclusive" and verdict([0.901]).verdict == "inconclusive"
    empty = verdict([])
    assert empty.verdict == "not testable here" and np.isnan(empty.ours)
    assert verdict([0.9, np.nan, 0.902]).seeds == 2
    assert {"agrees", "differs", "inconclusive", "not testable here"} == set(VERDICTS)


def test_the_interval_is_students():
    row = verdict([0.90, 0.91, 0.93])
    low, high = stats.t.interval(0.95, 2, loc=np.mean([0.90, 0.91, 0.93]), scale=stats.sem([0.90, 0.91, 0.93]))
    assert (row.low, row.high) == pytest.approx((low, high)) and row.difference == pytest.approx(row.ours - 0.901)


def test_the_ledger_is_whole():
    book = ledger()
    assert book.id.is_unique and book.notna().all().all() and (book.tolerance > 0).all()
    assert {"medmnist-pneumonia-auroc", "medmnist-breast-accuracy"} <= set(book.id)
    with pytest.raises(ValueError, match="Unknown claim 'x'. Choose from: medmnist"):
        verdicts({"x": []})
