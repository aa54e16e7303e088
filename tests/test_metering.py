import math
import os
import time

import numpy as np
import pytest

from effml import metering
from effml.metering import METERS, WATTS_PER_CPU, Cost, measure


def busy(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(1000))


def test_joules_follow_the_cpu_time_of_this_process_not_the_clock():
    with measure() as working:
        busy(0.3)
    with measure() as sleeping:
        time.sleep(0.3)
    low, middle, high = WATTS_PER_CPU
    assert 0.25 * middle < working.energy_j < 0.6 * middle and sleeping.energy_j < 0.1 * middle
    assert working.energy_low_j == pytest.approx(working.energy_j * low / middle)
    assert working.energy_high_j == pytest.approx(working.energy_j * high / middle)
    assert working.energy_source.startswith("cpu-time × TDP") and sleeping.seconds == pytest.approx(0.3, abs=0.2)


def test_declared_watts_replace_the_range(monkeypatch):
    monkeypatch.setenv("EFFML_WATTS_PER_CPU", "10")
    with measure() as cost:
        busy(0.1)
    assert cost.energy_low_j == cost.energy_j == cost.energy_high_j > 0.5 and "10 W" in cost.energy_source
    monkeypatch.setenv("EFFML_WATTS_PER_CPU", "many")
    with pytest.raises(RuntimeError, match="is no number"), measure():
        busy(0)


def test_peak_memory_belongs_to_its_window():
    with measure() as large:
        np.ones(60_000_000).sum()  # 480 MB
    with measure() as small:
        np.ones(1000).sum()
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the high-water mark cannot be reset on this system")
    assert 400e6 < large.peak_memory_bytes - small.peak_memory_bytes < 600e6


def test_an_exception_passes_through_and_the_cost_stands():
    with pytest.raises(KeyError), measure() as cost:
        raise KeyError("x")
    assert cost.seconds > 0 and cost.energy_j >= 0


def test_unknown_is_nan_with_a_reason_never_zero():
    cost = Cost()
    METERS["none"](cost, 5.0)
    assert math.isnan(cost.energy_j) and "unknown" in cost.energy_source
    assert set(cost.as_columns("train")) == {f"train_{n}" for n in ("seconds", "energy_j", "energy_low_j", "energy_high_j",
                                                                    "peak_memory_bytes")}


def test_others_share_of_the_cpu_from_fake_counters(monkeypatch):
    counters = iter([100.0, 110.0])
    monkeypatch.setattr(metering, "_machine_cpu_seconds", lambda: next(counters))
    monkeypatch.setattr(metering, "_own_cpu_seconds", iter([0.0, 4.0]).__next__)
    monkeypatch.setattr(metering.time, "perf_counter", iter([0.0, 10.0]).__next__)
    monkeypatch.setattr(metering.os, "cpu_count", lambda: 2)
    with measure() as cost:
        busy(0)
    assert cost.others_cpu == pytest.approx(6 / 20)
