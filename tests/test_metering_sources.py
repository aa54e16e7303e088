"""The sources of energy on machines that this one is not: fake sysfs trees, a fake NVML, a fake plug meter."""

import json
import math
import sys
import time
from types import ModuleType, SimpleNamespace

import pytest

from effml import machine, metering
from effml.metering import METERS, counters, measure, window
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
    for module in (counters, window):
        monkeypatch.setattr(module, "Sampler", Watched)
    counters._gpu.cache_clear()
    yield Fake(tmp_path)
    counters._gpu.cache_clear()
    assert all(one._done.is_set() for one in SAMPLERS), "a thread was left running"


SAMPLERS = []


class Watched(window.Sampler):
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
    assert (
        energy.gross_energy_j == pytest.approx(4 * 50)
        and energy.idle_w == 3
        and energy.measured
        and not energy.reason
    )
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
    assert energy.energy_j == pytest.approx(100) and energy.energy_low_j == pytest.approx(
        45, rel=1e-3
    )
    assert (
        math.isnan(energy.idle_w)
        and "energy calibrate" in energy.reason
        and "not subtracted" in energy.energy_source
    )


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
    "after, seconds, message", [(1000, 0.0001, "repeat the work"), (9e5, 1, "jumped")]
)
def test_what_a_counter_cannot_tell_is_estimated_with_the_reason(fake, after, seconds, message):
    fake.rapl(999, wraps_at=10**6)
    finish = metering._start("cpu", metering.sources("cpu"))
    fake.rapl(after, wraps_at=10**6)
    energy = finish(Window(seconds, 0.5 * seconds, seconds))
    assert (
        not energy.measured
        and energy.energy_j == pytest.approx(2.5 * seconds)
        and message in energy.reason
    )


def test_a_counter_gives_the_same_work_the_same_joules_while_others_take_half_the_cpu(fake):
    """A chip that draws 4 W idle and 6 W more for each busy CPU, and 10 CPU seconds of work."""
    fake.calibrate(idle_w={"rapl": 4.0})

    def joules(seconds, others):
        fake.rapl(0)
        stop = METERS["rapl"]("cpu")
        fake.rapl(4 * seconds + 6 * (10 + others))
        return stop(Window(seconds, 10, 10 + others))

    alone, shared = joules(5.2, 0.2), joules(10.3, 10.5)
    assert (
        abs(shared.energy_j / alone.energy_j - 1) < 0.15
        and shared.gross_energy_j > 1.9 * alone.gross_energy_j
    )
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
        "effml.metering.window.time", SimpleNamespace(perf_counter=lambda: now.seconds)
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
    assert energy.energy_low_j == pytest.approx(
        65 * 0.85
    ) and energy.energy_high_j == pytest.approx(130 * 1.15)


def test_a_battery_tells_its_charge_once_enough_of_it_is_gone(fake, clock):
    fake.battery(status="Discharging", power_now=1, energy_now=40_000_000)
    stop = METERS["battery"]("cpu")
    fake.battery(energy_now=39_000_000)  # 1 Wh
    assert stop(Window(300, 4, 8)).gross_energy_j == pytest.approx(3600)


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
    finish = metering._start("cpu", metering.sources("cpu"))
    fake.battery(status="Charging")
    while seen_by_the_thread and not SAMPLERS[0]._error:  # looks every second
        time.sleep(0.01)
    energy = finish(Window(10, 4, 8))
    assert (
        not energy.measured
        and energy.energy_j == pytest.approx(20)
        and "battery: on the mains" in energy.reason
    )


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of 200 W whose counter a test advances; `old` has none."""
    import torch

    state = SimpleNamespace(millijoules=5_000_000, old=False)
    pynvml = ModuleType("pynvml")
    pynvml.NVMLError = type("NVMLError", (Exception,), {})

    def total(handle):
        if state.old:
            raise pynvml.NVMLError("Not Supported")
        return state.millijoules

    pynvml.nvmlInit, pynvml.nvmlDeviceGetHandleByUUID = (lambda: None), (lambda uuid: uuid)
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
    assert (
        net <= cost.energy_j < net + 2
        and cost.energy_low_j < net < cost.energy_high_j
        and cost.peak_memory_bytes == 7
    )
    assert (
        cost.energy_source.startswith("nvml, measured (50 W idle subtracted) + cpu-time × TDP")
        and not cost.measured
    )


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
        assert (
            math.isnan(cost.energy_j)
            and cost.energy_source.startswith("unknown (")
            and reason in cost.reason
        )
    assert lacking.peak_memory_bytes == 7


def test_apple_silicon(fake, monkeypatch):
    monkeypatch.setattr(counters, "sys", SimpleNamespace(platform="darwin"))
    counters._apple_monitor.cache_clear()
    now = SimpleNamespace(cpu_total_mj=1000, dram_mj=None)
    module = ModuleType("zeus_apple_silicon")
    module.AppleEnergyMonitor = lambda: SimpleNamespace(get_cumulative_energy=lambda: now)
    monkeypatch.setitem(sys.modules, "zeus_apple_silicon", module)
    stop = METERS["apple"]("cpu")
    now.cpu_total_mj, now.dram_mj = 5000, 1000
    assert stop(Window(2, 1, 2)).gross_energy_j == pytest.approx(5)
    counters._apple_monitor.cache_clear()


@pytest.mark.parametrize("own, high", [(80, 1.0), (8, 2 - 0.1**0.4)])
def test_a_plug_meter_is_shared_out_by_cpu_time(fake, own, high):
    fake.calibrate(wattmeter={"idle_w": 9, "load_w": 25, "cpus": 8})
    energy = METERS["wattmeter"]("cpu")(Window(10, own, own + 1))
    assert energy.energy_j == pytest.approx(2 * own) and energy.gross_energy_j == pytest.approx(
        90 + 2 * (own + 1)
    )
    assert energy.energy_low_j == pytest.approx(
        2 * own * 0.95
    ) and energy.energy_high_j == pytest.approx(2 * own * 1.05 * high)
    assert "declared" in energy.energy_source and not energy.measured and energy.idle_w == 9


def test_measured_comes_before_declared_before_estimated(fake):
    def source():
        with measure() as cost:
            time.sleep(0.005)
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
