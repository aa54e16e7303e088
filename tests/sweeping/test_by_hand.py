"""Forecasts and budgets by hand: each case was found by changing the code."""

import pytest
import test_plan
from test_plan import QUICK, record

from effml.sweeping import expected, order
from effml.sweeping.expected import Expected, Forecast, pilots
from effml.sweeping.order import Budget, share


def test_what_is_outside_training_is_a_median():
    rows = [record(QUICK, 2.0, rest, seed=i) for i, rest in enumerate((1.0, 2.0, 9.0))]
    assert Forecast(rows, "cpu").of(QUICK).seconds == pytest.approx(4)


def test_watts_are_a_mean_with_the_least_and_the_most():
    rows = [record(QUICK, 2.0, watts=w) for w in (10.0, 30.0)]
    assert Forecast(rows, "cpu").of(QUICK).watts == pytest.approx((20, 10, 40))


def test_one_long_record_needs_no_second_pilot():
    rows = [record(QUICK, 1.0), record(QUICK.but(seed=1), expected.SHORT_S + 1)]
    assert pilots([QUICK.but(epochs=20)], Forecast(rows, "cpu")) == {}


def test_a_whole_record_is_no_pilot():
    assert Forecast([record(QUICK, 2.0)], "cpu").of(QUICK).basis == "records"


def test_the_peak_is_that_of_all_windows():
    row = record(QUICK, 2.0, infer_peak_memory_bytes=300e6)
    assert Forecast([row], "cpu").of(QUICK).memory == (300e6, 300e6)


def test_memory_is_told_with_both_ends():
    rows = [record(QUICK, 2.0, megabytes=90), record(QUICK.but(seed=1), 2.0)]
    shown = Forecast(rows, "cpu").of(QUICK).columns()
    lo, hi = expected.SPREAD_MEMORY
    assert (shown["memory_mb"], shown["memory_mb_low"], shown["memory_mb_high"]) == pytest.approx(
        (100, 90 * lo, 100 * hi)
    )


def test_records_of_other_threads_are_a_guess():
    free = QUICK.but(threads=0)
    row = record(free, 2.0, threads_used=expected._threads() + 1)
    assert Forecast([row], "cpu").of(free).basis == "guess"


def test_time_stood_still_is_no_time():
    stood = record(QUICK, 10.0, 2.0, turns_seconds=6.0)
    assert Forecast([stood], "cpu").of(QUICK.but(epochs=3)).seconds == pytest.approx(1 + 3 * 5)


def test_joules_beyond_the_budget_are_refused():
    told = Expected(seconds=1.0, basis="records", source="", watts=(3.6e6,) * 3)
    assert Budget(max_kwh=0.5).refuses(told, []).startswith("it needs about 1 kWh")


def test_a_budget_that_is_spent_refuses_the_unknown():
    b = Budget(max_kwh=1.0, joules=4e6, seconds=1.0)
    unknown = Expected(seconds=1.0, basis="pilot", source="")
    assert "0 kWh of" in b.refuses(unknown, [])


def test_an_hour_that_is_over_is_over(monkeypatch):
    c = test_plan.Clock()
    monkeypatch.setattr(order, "time", c)
    b = Budget(max_hours=1.0, started=c.now)
    c.sleep(3600)
    assert b.refuses(None, [])


def test_seconds_without_joules_cost_as_much_as_others():
    b = Budget(max_kwh=1.0, joules=1e6, seconds=100.0, unpriced=50.0)
    assert b.spent() == pytest.approx(1.5e6)


def test_runs_under_way_count():
    told = Expected(seconds=1.0, basis="records", source="", watts=(2e6,) * 3)
    b = Budget(max_kwh=1.0)
    assert b.refuses(told, []) == "" and b.refuses(told, [told, None]).startswith("it needs")


def test_the_deadline_has_a_grace(monkeypatch):
    c = test_plan.Clock()
    monkeypatch.setattr(order, "time", c)
    assert Budget(max_hours=1.0, started=c.now).deadline == pytest.approx(c.now + 3600 * 1.05)
    assert Budget().deadline is None


def test_a_family_of_three_stays_together():
    a, b = QUICK, QUICK.but(weights=QUICK.id)
    c = b.but(weights=b.id)
    others = [QUICK.but(seed=s) for s in range(1, 5)]
    shards = [share([c, b, a, *others], f"{i}/2") for i in (1, 2)]
    assert sum(map(len, shards)) == 7
    assert any({a.id, b.id, c.id} <= {r.id for r in s} for s in shards)
