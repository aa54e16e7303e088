import math
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import seeds
from effml import metering
from effml.metering import METERS, WATTS_PER_CPU, Cost, counting, measure, memory, window
from effml.metering.window import Window


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """A machine without counters, calibration or settings: what is left is the estimate."""
    for name in ("EFFML_METER", "EFFML_WATTS_PER_CPU"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EFFML_ENERGY_FILE", str(tmp_path / "energy.json"))
    for name in ("POWERCAP", "POWER_SUPPLY"):
        monkeypatch.setattr(f"effml.metering.counters.{name}", tmp_path / name)


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
    assert working.energy_source.startswith("cpu-time × TDP")
    assert sleeping.seconds == pytest.approx(0.3, abs=0.2)
    assert not working.measured and math.isnan(working.idle_w) and "rapl: " in working.reason


@contextmanager
def on_one_cpu_with_a_rival():
    """This thread and a process that burns CPU share one CPU; gives two functions, which let the
    rival run and stop it."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    rival = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield lambda: rival.send_signal(signal.SIGCONT), lambda: rival.send_signal(signal.SIGSTOP)
    finally:
        rival.kill()
        rival.wait()
        os.sched_setaffinity(0, allowed)


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="no way to share one CPU on this system"
)
def test_a_program_which_takes_half_the_cpu_changes_our_joules_by_less_than_15_percent():
    def cost():
        with measure() as cost:
            sum(i * i for i in range(300_000))
        return cost

    alone, shared = [], []
    with on_one_cpu_with_a_rival() as (go, stop):
        for _ in range(60):  # in turns, and the best of each: the machine's own speed varies too
            stop()
            alone.append(cost())
            go()
            shared.append(cost())
            ratio = min(c.energy_j for c in shared) / min(c.energy_j for c in alone)
            if len(alone) >= 4 and abs(ratio - 1) < 0.15:
                break
    assert 0.85 < ratio < 1.15
    longest, shortest = max(c.seconds for c in shared), min(c.seconds for c in alone)
    assert longest > 1.3 * shortest  # it did take its half


def test_declared_watts_replace_the_range(monkeypatch):
    monkeypatch.setenv("EFFML_WATTS_PER_CPU", "10")
    with measure() as cost:
        busy(0.1)
    assert cost.energy_low_j == cost.energy_j == cost.energy_high_j > 0.5
    assert "10 W" in cost.energy_source


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("EFFML_METER", "sun", "Choose from"),
        ("EFFML_WATTS_PER_CPU", "many", "is no number"),
        ("EFFML_WATTS_PER_CPU", "-3", "is no number"),
        ("EFFML_WATTS_PER_CPU", "nan", "is no number"),
    ],
)
def test_a_wrong_setting_is_refused_before_the_work_is_done(monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    with pytest.raises(RuntimeError, match=message), measure():
        raise AssertionError("the block ran")


needs_reset = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the mark cannot be reset here"
)


@needs_reset
def test_peak_memory_belongs_to_its_window():
    with measure() as large:
        np.ones(12_000_000).sum()  # 96 MB
    with measure() as small:
        np.ones(1000).sum()
    assert 80e6 < large.peak_memory_bytes - small.peak_memory_bytes < 120e6


@needs_reset
def test_a_measure_inside_a_measure_does_not_take_its_peak():
    with measure() as outer:
        np.ones(12_000_000).sum()  # 96 MB
        with measure() as inner, measure() as innermost:
            np.ones(1000).sum()
    small = max(inner.peak_memory_bytes, innermost.peak_memory_bytes)
    assert 80e6 < outer.peak_memory_bytes - small < 120e6


@pytest.mark.parametrize("seed", seeds(5, 20))
def test_peaks_of_windows_that_open_and_close_in_any_order_by_brute_force(seed):
    """One mark for all, as in the system; what each window should say is the largest use between
    its ends."""
    rng = np.random.default_rng(seed)
    state = SimpleNamespace(now=100.0, mark=100.0)

    def reset():
        state.mark = state.now

    def read():
        return state.mark

    history, windows = [100.0], []
    for _ in range(60):
        state.now = float(rng.integers(100, 1000))
        state.mark = max(state.mark, state.now)
        history.append(state.now)
        if windows and rng.random() < 0.4:
            begun, peak = windows.pop(rng.integers(len(windows)))
            assert peak.close() == max(history[begun:])
        else:
            windows.append((len(history) - 1, memory.Peak(read, reset)))
    for begun, peak in windows:
        assert peak.close() == max(history[begun:])
    assert not [peak for peak in memory.Peak._open if peak._read is read]


def test_a_wrong_setting_found_late_ends_no_run(monkeypatch):
    with measure() as cost:
        monkeypatch.setenv("EFFML_WATTS_PER_CPU", "many")
        busy(0.01)
    assert cost.energy_j > 0


def test_an_exception_passes_through_and_the_cost_stands():
    with pytest.raises(KeyError), measure() as cost:
        raise KeyError("x")
    assert cost.seconds > 0 and cost.energy_j >= 0


@pytest.mark.parametrize(
    "device, asked, reason",
    [
        ("cuda", "", "nvml: "),
        ("cpu", "rapl", "rapl: "),
        ("cuda", "cpu-time", "GPU"),
        ("cpu", "none", ""),
    ],
)
def test_unknown_is_nan_with_a_reason_never_zero(monkeypatch, device, asked, reason):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("EFFML_METER", asked)
    energy = metering.start(device, metering.sources(device))(Window(5.0, 5.0, 5.0))
    for name in ("energy_j", "energy_low_j", "energy_high_j", "gross_energy_j"):
        assert math.isnan(getattr(energy, name))
    assert energy.energy_source.startswith("unknown (")
    assert reason in energy.reason
    assert not energy.measured


def test_the_columns_of_a_record():
    assert set(Cost().as_columns("train")) == {
        f"train_{n}"
        for n in ("seconds", "energy_j", "energy_low_j", "energy_high_j", "peak_memory_bytes")
    }


def test_others_share_of_the_cpu_from_fake_counters(monkeypatch):
    monkeypatch.setattr(window, "machine_cpu_seconds", iter([100.0, 110.0]).__next__)
    monkeypatch.setattr(window, "own_cpu_seconds", iter([0.0, 4.0]).__next__)
    monkeypatch.setattr(window.time, "perf_counter", iter([0.0, 10.0]).__next__)
    monkeypatch.setattr(metering.os, "cpu_count", lambda: 2)
    with measure() as cost:
        busy(0)
    assert cost.others_cpu == pytest.approx(6 / 20)


def test_a_system_that_tells_little_is_measured_as_well(monkeypatch, tmp_path):
    """Windows and macOS have no /proc."""
    monkeypatch.setattr(memory, "Path", lambda path: tmp_path / "no such folder" / "file")
    with measure() as cost:
        busy(0.05)
    assert cost.energy_j > 0 and cost.others_cpu >= 0


@pytest.mark.parametrize(
    "more, busy",
    [({"nice": 2.0}, 10.0), ({}, 8.0), ({"nice": 2.0, "steal": 1.0, "irq": 0.5}, 11.5)],
)  # macOS, Windows, Linux
def test_busy_seconds_are_all_but_the_idle_ones(monkeypatch, more, busy):
    times = SimpleNamespace(user=5.0, system=3.0, idle=90.0, iowait=9.0, guest=4.0, **more)
    monkeypatch.setitem(sys.modules, "psutil", SimpleNamespace(cpu_times=lambda: times))
    assert window.machine_cpu_seconds() == busy


def test_busy_seconds_are_those_of_the_system():
    if not os.path.exists("/proc/stat"):
        pytest.skip("not Linux")
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    ticks = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    assert window.machine_cpu_seconds() == pytest.approx(ticks, abs=5)
    each = [window.machine_cpu_seconds({cpu}) for cpu in range(os.cpu_count())]
    assert all(each) and sum(each) == pytest.approx(ticks, abs=5)


def test_all_sources_have_the_names_that_are_tried_and_the_last_always_works():
    for names in metering.ORDER.values():
        assert set(names) <= set(METERS) and METERS[names[-1]]("cpu")(Window(1, 1, 1))


def test_the_estimate_needs_no_thread(monkeypatch):
    monkeypatch.setattr(counting._thread, "start_new_thread", None)
    with measure() as cost:
        pass
    assert cost.energy_j > 0


def test_a_device_is_one_that_there_is():
    with pytest.raises(ValueError, match="Unknown device 'gpu'. Choose from: cpu, cuda"):
        with measure("gpu"):
            pass
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        with pytest.raises((ValueError, RuntimeError), match="no CUDA here|NVIDIA"):
            with measure("cuda"):
                pass
