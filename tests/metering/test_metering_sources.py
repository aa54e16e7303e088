"""The sources of energy on other machines than this: fake sysfs trees, a fake NVML, a fake plug
meter."""

import json
import math
import sys
import time
from types import ModuleType, SimpleNamespace

import pytest

from effml import machine, metering
from effml.metering import METERS, commands, counters, counting, measure, window
from effml.metering.window import Unavailable, Window


class Fake:
    """A machine in a folder. `rapl` and `battery` write the files that Linux would show."""

    def __init__(self, root):
        self.root = root

    def write(self, name, /, **values):
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        for key, value in values.items():
            (folder / key).write_text(f"{value}\n")

    def rapl(self, joules, zone="intel-rapl:0", name="package-0", wraps_at=262143):
        self.write(
            f"powercap/{zone}",
            name=name,
            energy_uj=round(joules * 1e6),
            max_energy_range_uj=wraps_at * 10**6,
        )

    def battery(self, name="BAT0", **values):
        self.write(f"power_supply/{name}", **values)

    def calibrate(self, **values):
        (self.root / "energy.json").write_text(
            json.dumps({"device_name": machine.cpu()[0], "date": "2026-01-01", **values})
        )


@pytest.fixture(autouse=True)
def fake(monkeypatch, tmp_path):
    for name in ("EFFML_METER", "EFFML_WATTS_PER_CPU"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EFFML_ENERGY_FILE", str(tmp_path / "energy.json"))
    monkeypatch.setattr(counters, "POWERCAP", tmp_path / "powercap")
    monkeypatch.setattr(counters, "POWER_SUPPLY", tmp_path / "power_supply")
    monkeypatch.setattr(machine, "cpu", lambda: ("Intel of the test", ""))
    SAMPLERS.clear()
    for module in (counters, counting):
        monkeypatch.setattr(module, "Sampler", Watched)
    counters._gpu.cache_clear()
    yield Fake(tmp_path)
    counters._gpu.cache_clear()
    assert all(one._done.is_set() for one in SAMPLERS), "a thread was left running"


SAMPLERS = []


class Watched(counting.Sampler):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        SAMPLERS.append(self)


def test_rapl_sums_packages_and_memory_once_and_shares_what_is_above_idle(fake):
    fake.calibrate(idle_w={"rapl": 3.0})
    zones = {
        "intel-rapl:0": "package-0",
        "intel-rapl:1": "package-1",
        "intel-rapl:0:0": "dram",
        "intel-rapl:0:1": "core",
        "intel-rapl:1:0": "dram",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
    }
    for zone, name in zones.items():
        fake.rapl(1000, zone, name)
    stop = METERS["rapl"]("cpu")
    for zone, name in zones.items():
        fake.rapl(1050, zone, name)
    energy = stop(Window(seconds=10, own=6, busy=8))
    assert energy.gross_energy_j == pytest.approx(4 * 50)
    assert energy.idle_w == 3
    assert energy.measured
    assert not energy.reason
    above = 200 - 3 * 10
    assert energy.energy_j == pytest.approx(6 / 8 * above)
    assert energy.energy_low_j == pytest.approx(energy.energy_j * 0.9, rel=1e-3)
    assert energy.energy_high_j == pytest.approx(above * 1.1, rel=1e-3)


@pytest.mark.parametrize(
    "cpu, joules", [("AMD Ryzen Threadripper 1950X", 50), ("Intel Xeon Platinum 9242", 100)]
)
def test_dies_of_amd_mirror_one_counter_and_those_of_intel_do_not(fake, monkeypatch, cpu, joules):
    monkeypatch.setattr(machine, "cpu", lambda: (cpu, ""))
    for die in (0, 1):
        fake.rapl(1000, f"intel-rapl:{die}", f"package-0-die-{die}")
    stop = METERS["rapl"]("cpu")
    for die in (0, 1):
        fake.rapl(1050, f"intel-rapl:{die}", f"package-0-die-{die}")
    assert stop(Window(10, 1, 1)).gross_energy_j == pytest.approx(joules)


def test_rapl_wraps_around_more_than_once(fake):
    fake.rapl(90, wraps_at=100)
    stop = METERS["rapl"]("cpu")
    for joules in (40, 90, 30):  # 50 + 50 + 40, as the thread sees it every POLL_S
        fake.rapl(joules, wraps_at=100)
        SAMPLERS[0]._sample()
    fake.rapl(35, wraps_at=100)
    assert stop(Window(100, 1, 1)).gross_energy_j == pytest.approx(145)


def test_without_a_known_idle_power_it_stays_in_and_the_low_end_is_half(fake):
    fake.rapl(0)
    stop = METERS["rapl"]("cpu")
    fake.rapl(100)
    energy = stop(Window(10, 8, 8))
    assert energy.energy_j == pytest.approx(100)
    assert energy.energy_low_j == pytest.approx(45, rel=1e-3)
    assert math.isnan(energy.idle_w)
    assert "energy calibrate" in energy.reason
    assert "not subtracted" in energy.energy_source


@pytest.mark.parametrize("how", ["no folder", "psys only", "forbidden", "words"])
def test_rapl_says_why_it_is_not_there(fake, monkeypatch, how):
    if how != "no folder":
        fake.rapl(5, name="psys" if how == "psys only" else "package-0")
    if how == "words":
        fake.write("powercap/intel-rapl:0", energy_uj="unknown")
    elif how == "forbidden":

        def read_text(path, text=counters.Path.read_text):
            if path.name == "energy_uj":
                raise PermissionError(13, "Permission denied")
            return text(path)

        monkeypatch.setattr(counters.Path, "read_text", read_text)
    message = {"forbidden": "sudo chmod", "words": "no number"}.get(how, "no package")
    with pytest.raises(Unavailable, match=message):
        METERS["rapl"]("cpu")
    with measure() as cost:
        pass
    assert cost.energy_source.startswith("cpu-time × TDP") and message in cost.reason


@pytest.mark.parametrize(
    "after, seconds, message", [(1000, 0.0001, "repeat the work"), (9e5, 1, "at most")]
)
def test_what_a_counter_cannot_tell_is_estimated_with_the_reason(fake, after, seconds, message):
    fake.rapl(999, wraps_at=10**6)
    finish = metering.start("cpu", metering.sources("cpu"))
    fake.rapl(after, wraps_at=10**6)
    energy = finish(Window(seconds, 0.5 * seconds, seconds))
    assert not energy.measured
    assert energy.energy_j == pytest.approx(2.5 * seconds)
    assert message in energy.reason


def test_a_counter_gives_the_same_work_the_same_joules_while_others_take_half_the_cpu(fake):
    """A chip that draws 4 W idle and 6 W more for each busy CPU, and 10 CPU seconds of work."""
    fake.calibrate(idle_w={"rapl": 4.0})

    def joules(seconds, others):
        fake.rapl(0)
        stop = METERS["rapl"]("cpu")
        fake.rapl(4 * seconds + 6 * (10 + others))
        return stop(Window(seconds, 10, 10 + others))

    alone, shared = joules(5.2, 0.2), joules(10.3, 10.5)
    assert abs(shared.energy_j / alone.energy_j - 1) < 0.15
    assert shared.gross_energy_j > 1.9 * alone.gross_energy_j
    assert shared.energy_low_j < alone.energy_j < shared.energy_high_j


def test_an_exception_in_the_block_stops_the_thread_and_the_cost_stands(fake):
    fake.rapl(10)
    with pytest.raises(KeyError), measure() as cost:
        time.sleep(0.01)
        fake.rapl(12)
        raise KeyError("x")
    assert cost.measured and cost.gross_energy_j == pytest.approx(2)


@pytest.fixture
def clock(monkeypatch):
    """Seconds which pass only when told."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(
        "effml.metering.counting.time", SimpleNamespace(perf_counter=lambda: now.seconds)
    )
    return now


@pytest.mark.parametrize(
    "power", [{"power_now": 12_000_000}, {"current_now": -1_000_000, "voltage_now": 12_000_000}]
)
def test_a_battery_tells_its_power_while_little_of_its_charge_is_gone(fake, clock, power):
    fake.calibrate(idle_w={"battery": 5.0})
    fake.battery(status="Discharging", **power)
    fake.battery("BAT1", status="Unknown", power_now=0)
    stop = METERS["battery"]("cpu")
    clock.seconds = 10
    fake.battery(**{key: value * 2 for key, value in power.items() if key != "voltage_now"})
    energy = stop(Window(10, 4, 8))
    assert energy.gross_energy_j == pytest.approx(180)  # 12 … 24 W for 10 s
    assert energy.energy_j == pytest.approx((180 - 50) / 2) and energy.measured
    assert energy.energy_low_j == pytest.approx(65 * 0.85)
    assert energy.energy_high_j == pytest.approx(130 * 1.15)


@pytest.mark.parametrize(
    "status, message", [("Charging", "mains"), ("Full", "mains"), (None, "none")]
)
def test_a_battery_counts_only_while_it_alone_feeds_the_machine(fake, status, message):
    if status:
        fake.battery(status=status, power_now=1)
    with pytest.raises(Unavailable, match=message):
        METERS["battery"]("cpu")


@pytest.mark.parametrize("seen_by_the_thread", [True, False])
def test_a_charger_that_is_plugged_in_halfway_leaves_the_estimate(fake, seen_by_the_thread):
    fake.battery(status="Discharging", power_now=9_000_000)
    finish = metering.start("cpu", metering.sources("cpu"))
    fake.battery(status="Charging")
    while seen_by_the_thread and not SAMPLERS[0]._error:  # looks every second
        time.sleep(0.01)
    energy = finish(Window(10, 4, 8))
    assert not energy.measured
    assert energy.energy_j == pytest.approx(20)
    assert "battery: on the mains" in energy.reason


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of 200 W whose counter a test advances; `old` has none."""
    import torch

    state = SimpleNamespace(millijoules=5_000_000, old=False, begun=False)
    pynvml = ModuleType("pynvml")
    pynvml.NVMLError = type("NVMLError", (Exception,), {})

    def total(handle):
        if state.old:
            raise pynvml.NVMLError("Not Supported")
        return state.millijoules

    def handle(uuid):  # before nvmlInit, NVML refuses everything
        if not state.begun:
            raise pynvml.NVMLError("Uninitialized")
        return uuid

    pynvml.nvmlInit = lambda: setattr(state, "begun", True)
    pynvml.nvmlDeviceGetHandleByUUID = handle
    pynvml.nvmlDeviceGetTotalEnergyConsumption, pynvml.nvmlDeviceGetPowerUsage = (
        total,
        lambda handle: 200_000,
    )
    monkeypatch.setitem(sys.modules, "pynvml", pynvml)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1-2")
    )
    for name in ("synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7)
    return state


def test_a_gpu_counter_is_added_to_the_host(fake, gpu):
    fake.calibrate(idle_w={"nvml": 50.0})
    with measure("cuda") as cost:
        time.sleep(0.2)
        gpu.millijoules += 100_000
    net = 100 - 50 * cost.seconds
    assert net <= cost.energy_j < net + 2
    assert cost.energy_low_j < net < cost.energy_high_j
    assert cost.peak_memory_bytes == 7
    assert cost.energy_source.startswith("nvml, measured (50 W idle subtracted) + cpu-time × TDP")
    assert not cost.measured


def test_queued_work_of_a_gpu_counts_in_the_block_that_queued_it(gpu, monkeypatch):
    import torch

    state = SimpleNamespace(now=100.0, queued=5.0)  # seconds; 5 of them from before the block

    def synchronize():
        state.now, state.queued = state.now + state.queued, 0.0

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr(window.time, "perf_counter", lambda: state.now)
    with measure("cuda") as cost:
        state.queued += 3.0
    assert cost.seconds == 3


def test_one_counter_is_started_and_no_second_one_beside_it(fake):
    fake.rapl(1)
    fake.battery(status="Discharging", power_now=9_000_000)
    finish = metering.start("cpu", metering.sources("cpu"))
    assert len(SAMPLERS) == 1
    fake.rapl(2)
    assert finish(Window(1, 1, 1)).energy_source.startswith("rapl")


def test_an_old_gpu_is_sampled(gpu, clock):
    gpu.old = True
    stop = METERS["nvml"]("cuda")
    clock.seconds = 10
    assert stop(Window(10, 1, 1)).gross_energy_j == pytest.approx(2000)


def test_a_gpu_that_cannot_be_read_gives_nan_and_the_remedy(gpu, monkeypatch):
    with measure("cuda") as short:  # shorter than the counter's step
        pass
    monkeypatch.setitem(sys.modules, "pynvml", None)
    counters._gpu.cache_clear()
    with measure("cuda") as lacking:
        pass
    for cost, reason in ((short, "repeat the work"), (lacking, "pip install nvidia-ml-py")):
        assert math.isnan(cost.energy_j)
        assert cost.energy_source.startswith("unknown (")
        assert reason in cost.reason
    assert lacking.peak_memory_bytes == 7


@pytest.mark.parametrize("own, high", [(80, 1.0), (8, 2 - 0.1**0.4)])
def test_a_plug_meter_is_shared_out_by_cpu_time(fake, own, high):
    fake.calibrate(wattmeter={"idle_w": 9, "load_w": 25, "cpus": 8})
    energy = METERS["wattmeter"]("cpu")(Window(10, own, own + 1))
    assert energy.energy_j == pytest.approx(2 * own)
    assert energy.gross_energy_j == pytest.approx(90 + 2 * (own + 1))
    assert energy.energy_low_j == pytest.approx(2 * own * 0.95)
    assert energy.energy_high_j == pytest.approx(2 * own * 1.05 * high)
    assert "declared" in energy.energy_source and not energy.measured and energy.idle_w == 9


def test_measured_comes_before_declared_before_estimated(fake):
    def source():
        with measure() as cost:
            time.sleep(0.005)
            if (fake.root / "powercap").exists():
                fake.rapl(1.01)
        return cost.energy_source.partition(",")[0]

    assert source() == "cpu-time × TDP"
    fake.calibrate(wattmeter={"idle_w": 9, "load_w": 25, "cpus": 8})
    assert source() == "wattmeter"
    fake.rapl(1)
    assert source() == "rapl"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"device_name": "another computer", "wattmeter": {}}']
)
def test_a_calibration_that_is_damaged_or_of_another_machine_is_not_used(fake, text):
    (fake.root / "energy.json").write_text(text)
    with pytest.raises(Unavailable, match="energy calibrate"):
        METERS["wattmeter"]("cpu")


CASE = (
    200_000,
    5,
    262_143.32885,
)  # joules before a suspend, after it, and at which the counter wraps around


@pytest.mark.parametrize(
    "before, after, wraps_at, seconds, message",
    [
        (*CASE, 60, "went from 200000 J to 5 J (its end: 262143 J): at most 320 W can be drawn"),
        (*CASE, 3600, "at most"),  # 17 W on average: a long window makes it no better
        (200_000, 5, 65_532, 60, "at most"),  # its range and its value are at odds
        (1_000, 250_000, 262_143, 60, "went from 1000 J to 250000 J"),
        (262_140, 11_000, 262_143, 10, "at most"),  # 1.1 kW
        (1_000, 1_000, 262_143, 60, "did not move in 60 s with 50 s of busy CPU"),
        (100, 200, 0, 60, "max_energy_range_uj is 0"),
        (100, 200, -1, 60, "max_energy_range_uj is -1"),
    ],
)
def test_a_counter_that_cannot_be_believed_is_unknown_and_does_not_end_the_run(
    fake, monkeypatch, before, after, wraps_at, seconds, message
):
    monkeypatch.setattr(counters.os, "cpu_count", lambda: 8)
    fake.write(
        "powercap/intel-rapl:0",
        name="package-0",
        energy_uj=round(before * 1e6),
        max_energy_range_uj=round(wraps_at * 1e6),
    )
    finish = metering.start("cpu", ("rapl", "none"))
    fake.write("powercap/intel-rapl:0", energy_uj=round(after * 1e6))
    energy = finish(Window(seconds, own=40, busy=50))
    assert math.isnan(energy.energy_j) and math.isnan(energy.gross_energy_j), energy
    assert not energy.measured and message in energy.reason and energy.reason.startswith("rapl: ")


@pytest.mark.parametrize("cpus", [1, 4, 64])
def test_a_counter_near_its_end_wraps_around(fake, monkeypatch, cpus):
    monkeypatch.setattr(counters.os, "cpu_count", lambda: cpus)
    fake.rapl(262_143 - 300)
    stop = METERS["rapl"]("cpu")
    fake.rapl(100)
    assert stop(Window(60, 40, 50)).gross_energy_j == pytest.approx(400)


@pytest.mark.parametrize("watts, believed", [(319, True), (321, False)])
def test_a_machine_of_eight_cpus_draws_at_most_320_watts(fake, monkeypatch, watts, believed):
    monkeypatch.setattr(counters.os, "cpu_count", lambda: 8)
    fake.rapl(0)
    finish = metering.start("cpu", ("rapl", "none"))
    fake.rapl(watts * 10)
    assert finish(Window(10, 5, 5)).measured == believed


def test_no_machine_draws_more_than_a_kilowatt_a_package(monkeypatch):
    monkeypatch.setattr(counters.os, "cpu_count", lambda: 384)
    assert counters.most_watts() == 1000


def test_memory_that_stands_still_is_left_out_in_words_and_a_second_package_is_not(fake):
    for zone, name in (("0", "package-0"), ("0:0", "dram"), ("1", "package-1")):
        fake.rapl(1000, f"intel-rapl:{zone}", name)
    stop = METERS["rapl"]("cpu")
    fake.rapl(1050)
    fake.rapl(1030, "intel-rapl:1", "package-1")
    energy = stop(Window(10, 6, 8))
    assert energy.gross_energy_j == pytest.approx(80)
    assert "intel-rapl:0:0 (memory) is left out: it did not move in 10 s" in energy.reason
    stop = METERS["rapl"]("cpu")
    fake.rapl(1100)
    with pytest.raises(Unavailable, match="intel-rapl:1: it did not move in 10 s with 8 s of busy"):
        stop(Window(10, 6, 8))


def test_a_package_that_stops_on_the_way_or_is_not_looked_at_is_unknown(fake, monkeypatch):
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(counters, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    for later, moved, message in ((31, 0, "did not move in 31 s"), (9e9, 1, "was not read")):
        fake.rapl(10)
        finish, now.seconds = metering.start("cpu", ("rapl", "none")), 0.0
        SAMPLERS[-1]._sample()
        fake.rapl(20)
        SAMPLERS[-1]._sample()
        now.seconds = later
        fake.rapl(20 + moved)
        energy = finish(Window(later, 5, 5))
        assert math.isnan(energy.energy_j) and message in energy.reason


@pytest.mark.parametrize("source", ["rapl", "battery", "nvml"])
def test_a_sleep_in_the_meantime_is_unknown(fake, gpu, monkeypatch, source):
    slept = SimpleNamespace(seconds=5.0)
    clocks = {time.CLOCK_BOOTTIME: lambda: 100 + slept.seconds, time.CLOCK_MONOTONIC: lambda: 100}
    real = window.time
    fake_time = SimpleNamespace(
        perf_counter=real.perf_counter, clock_gettime=lambda clock: clocks[clock]()
    )
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC"):
        setattr(fake_time, name, getattr(real, name))
    monkeypatch.setattr(window, "time", fake_time)
    for more, message in ((0.0, ""), (3600.0, "the computer slept for 3.6e+03 s")):
        fake.rapl(1000)
        fake.battery(status="Discharging", power_now=90_000_000_000)  # in no time at all
        finish = metering.start("cuda" if source == "nvml" else "cpu", (source, "none"))
        fake.rapl(1100)
        gpu.millijoules += 100_000
        slept.seconds += more
        energy = finish(Window(10, 4, 8))
        assert message in energy.reason and (not message) == (energy.gross_energy_j > 0)


BROKEN = [
    Unavailable("the driver went"),
    PermissionError(13, "Permission denied"),
    OSError(5, "Input/output error"),
    ValueError("invalid literal"),
    ZeroDivisionError("modulo by zero"),
    KeyError("idle_w"),
]


@pytest.mark.parametrize("when", ["start", "thread", "end"])
@pytest.mark.parametrize("error", BROKEN, ids=lambda error: type(error).__name__)
def test_whatever_goes_wrong_in_a_source_the_next_one_steps_in(fake, monkeypatch, error, when):
    fake.rapl(1)
    fake.calibrate(wattmeter={"idle_w": 9, "load_w": 25, "cpus": 8})
    number, broken = counters._number, [when == "start"]

    def read(path):
        if broken[0] and path.name == "energy_uj":
            raise error
        return number(path)

    monkeypatch.setattr(counters, "_number", read)
    with measure() as cost:
        broken[0] = when != "start"
        fake.rapl(2)
        if when == "thread":
            monkeypatch.setattr(SAMPLERS[0]._done, "wait", lambda every: False)
            SAMPLERS[0]._run()
            broken[0] = False  # it reads well again at the end, but a look is missing
    assert cost.energy_source.startswith("wattmeter, declared") and cost.energy_j >= 0
    told = str(error) if isinstance(error, Unavailable) else type(error).__name__
    assert "rapl: " in cost.reason and told in cost.reason


def test_a_source_that_fails_is_told_by_the_command_too(fake, monkeypatch):
    def broken(device):
        raise ZeroDivisionError("modulo by zero")

    monkeypatch.setitem(METERS, "rapl", broken)
    monkeypatch.setattr(commands.time, "sleep", lambda seconds: None)
    assert "not here: an error stopped it (ZeroDiv" in commands.facts()["energy: rapl"]


def test_a_gpu_counter_is_held_to_what_a_gpu_can_draw(gpu):
    for joules, message in ((19_000, ""), (21_000, "at most 2e+03 W"), (0, "did not move")):
        finish = metering.start("cuda", ("nvml", "none"))
        gpu.millijoules += joules * 1000
        energy = finish(Window(10, 1, 1))
        assert message in energy.reason and (energy.energy_j >= joules) == (not message)


def test_the_peak_of_a_gpu_nests_and_is_not_that_of_the_process(fake, gpu, monkeypatch):
    import torch

    state = SimpleNamespace(mark=9.0)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: state.mark)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: setattr(state, "mark", 1.0))
    with measure() as host, measure("cuda") as outer:
        state.mark = 517.0
        with measure("cuda") as inner:
            state.mark = 37.0
    assert (outer.peak_memory_bytes, inner.peak_memory_bytes) == (517, 37)
    assert host.peak_memory_bytes > 1e6


def test_a_gpu_that_is_not_there_or_not_the_current_one_is_refused(gpu, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    with measure("cuda:0") as cost:
        pass
    assert cost.peak_memory_bytes == 7
    with pytest.raises(ValueError, match=r"torch.cuda.set_device\(1\) first"), measure("cuda:1"):
        raise AssertionError("the block ran")

    def no_driver():
        raise RuntimeError("Found no NVIDIA driver on your system.")

    monkeypatch.setattr(torch.cuda, "synchronize", no_driver)
    for there, kind, words in (
        (False, ValueError, "Give device='cpu'"),
        (True, RuntimeError, "no N"),
    ):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        with pytest.raises(kind, match=words), measure("cuda"):
            raise AssertionError("the block ran")
