"""Sources which measure: RAPL, NVML, Apple silicon, a discharging battery. Each starts when called and returns what stops it.

Errors, as a fraction, are those of the instrument where it measures, not of what lies outside it (fans, power supply,
screen). Against the plug, the part above idle was off by up to 73 % on average (Fahad et al., Energies 12:2204, 2019).
"""

import os
import sys
import time
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from effml import machine
from effml.metering.declared import calibration
from effml.metering.window import (
    Energy,
    Finish,
    Sampler,
    Unavailable,
    Window,
    counted,
    sampled,
    stood_still,
)

POWERCAP = Path("/sys/class/powercap")
POWER_SUPPLY = Path("/sys/class/power_supply")
POLL_S = 30.0
"""Seconds between looks at RAPL's counters. The smallest wrap around at 65.5 kJ: in 65 s at 1 kW."""
MOST_LAPTOP_W = 500.0
"""What no battery gives and no chip of Apple's draws: USB-C feeds a laptop with 240 W at most."""
MOST_GPU_W = 2000.0
"""What no GPU draws: those of 2025 are sold with 1.4 kW. Twice its own limit where NVML tells
that."""
BATTERY_STEP_J = 36.0
"""A battery tells its charge in steps of about 10 mWh."""


def rapl(device: str) -> Finish:
    """Package and memory of every socket (Intel, and AMD without the memory), from Linux' powercap.

    `psys` is left out, since what it covers is up to the laptop's maker, and so is
    `intel-rapl-mmio`, the same counters again. Error ±10 %: Intel measures since Haswell
    (Hackenberg et al., IPDPSW 2015) but memory is off by a constant (Desrochers et al., MEMSYS
    2016), and AMD models rather than measures (Schöne et al., arXiv 2108.00808). A package that
    stands still is Unavailable, as is one that begins anew; memory that stands still is left out.
    """
    _only_cpu(device)
    zones = [Zone(*found) for found in _zones(POWERCAP).items()]
    sampler = Sampler(lambda: [zone.look() for zone in zones], POLL_S)

    def joules() -> float:
        sampler.stop()
        return sum(zone.joules for zone in zones)

    most_w = sum(zone.most_w for zone in zones)
    known = {"idle_w": _idle("rapl"), "error": 0.10, "step_s": 0.001}
    stop = counted("rapl", joules, shared=True, most_w=most_w, **known)

    def finish(window: Window) -> Energy:
        energy = stop(window)
        still = [zone for zone in zones if not zone.joules]
        for zone in still:
            if zone.package:
                raise Unavailable(f"{zone.path.name}: {stood_still(window)}")
        left_out = [
            f"{zone.path.name} (memory) is left out: {stood_still(window)}" for zone in still
        ]
        energy.reason = "; ".join(filter(None, [energy.reason, *left_out]))
        return energy

    return finish


class Zone:
    """One counter of RAPL, and the joules it counted from the first look on.

    It wraps around at `wraps_at` µJ; one that goes back without having been near that has begun
    anew.
    """

    def __init__(self, path: Path, wraps_at: int) -> None:
        self.path, self.wraps_at, self.joules = path, wraps_at, 0.0
        self.package, self.most_w = _text(path / "name").startswith("package"), most_watts(path)
        self._last = self._when = None

    def look(self) -> None:
        """Add what it counted since the last look. Unavailable if that cannot be."""
        now, when = _number(self.path / "energy_uj"), time.monotonic()
        last, elapsed = (now, 0.0) if self._last is None else (self._last, when - self._when)
        moved, most = (now - last) % self.wraps_at * 1e-6, self.most_w * max(elapsed, 2 * POLL_S)
        name, far = self.path.name, f"{last * 1e-6:.6g} J to {now * 1e-6:.6g} J"
        if elapsed > 2 * POLL_S and most >= self.wraps_at * 1e-6:
            raise Unavailable(f"nobody looked at {name} for {elapsed:.3g} s, enough to wrap around")
        if moved > most and now < last:
            raise Unavailable(
                f"{name} went back from {far} without having been near its end of {self.wraps_at * 1e-6:.6g} J"
            )
        if moved > most:
            raise Unavailable(f"{name} jumped from {far}: at most {self.most_w:.3g} W can be drawn")
        if self.package and not moved and elapsed > POLL_S / 2:
            raise Unavailable(f"{name} did not move in {elapsed:.3g} s")
        self.joules, self._last, self._when = self.joules + moved, now, when


@lru_cache
def most_watts(zone: Path) -> float:
    """More than a package, or the memory of one, can draw on average, W.

    200 W and 15 W for each logical CPU (a desktop of 12 threads is sold with 142 W, a server of 16
    with 180 W), but at most 1 kW: none is sold with more than 500 W (EPYC 9965, Xeon 6980P). Twice
    the highest limit that the zone itself names and keeps, where that is less: it holds on average
    over some seconds only.
    """
    names = ("constraint_*_power_limit_uw", "constraint_*_max_power_uw")
    limits = [0]
    with suppress(Unavailable):  # no limit can be read
        if not (zone / "enabled").exists() or _number(zone / "enabled"):
            limits += [_number(path) for name in names for path in zone.glob(name)]
    return min(2e-6 * max(limits) or 1000.0, 200.0 + 15 * (os.cpu_count() or 1), 1000.0)


@lru_cache
def _zones(powercap: Path) -> dict[Path, int]:
    """A folder for each socket's package and for its memory, and the µJ at which its counter wraps around. On AMD the dies
    of a package mirror one counter (mlco2/codecarbon#1274); on Intel each die has its own."""
    found, amd = {}, "AMD" in machine.cpu()[0]
    for zone in sorted(powercap.glob("intel-rapl:*")):
        name = _text(zone / "name")
        if name.startswith("package"):
            found.setdefault(name.partition("-die-")[0] if amd else name, zone)
        elif name == "dram":
            found[zone.name] = zone
    if not any(name.startswith("package") for name in found):
        raise Unavailable(f"{powercap} has no package (a virtual machine, or not Linux)")
    ranges = {zone: _number(zone / "max_energy_range_uj") for zone in found.values()}
    for zone, wraps_at in ranges.items():
        if wraps_at <= 0:
            raise Unavailable(
                f"{zone}/max_energy_range_uj is {wraps_at}, so where it wraps is unknown"
            )
    return ranges


def nvml(device: str) -> Finish:
    """One NVIDIA GPU, board and memory: its counter of millijoules (Volta and newer), else its power every 100 ms.

    Other programs on the GPU count in it. Error ±5 % (so NVML's manual of Fermi and Kepler) and a step of 100 ms; A100 and
    H100 see only a quarter of the time, so that work in bursts may be off more (Yang et al., SC24, arXiv 2312.02741).
    """
    if not device.startswith("cuda"):
        raise Unavailable("the work is not on a GPU")
    pynvml, gpu = _gpu(device)

    def read(name: str, since: float = 0.0) -> float:
        try:
            return getattr(pynvml, name)(gpu) / 1000 - since
        except pynvml.NVMLError as error:
            raise Unavailable(f"NVML says: {error}") from None

    most_w = MOST_GPU_W
    with suppress(Unavailable, AttributeError):  # of some boards, or an old NVML
        most_w = 2 * read("nvmlDeviceGetEnforcedPowerLimit") or MOST_GPU_W
    total = partial(read, "nvmlDeviceGetTotalEnergyConsumption")
    try:
        joules = partial(total, since=total())
    except Unavailable:  # before Volta
        joules = sampled(partial(read, "nvmlDeviceGetPowerUsage"), 0.1)
    known = {"idle_w": _idle("nvml"), "error": 0.05, "step_s": 0.1}
    return counted("nvml", joules, shared=False, most_w=most_w, **known)


@lru_cache
def _gpu(device: str) -> tuple[ModuleType, Any]:
    try:
        import pynvml
    except ImportError:
        raise Unavailable(
            "the package nvidia-ml-py is not installed: pip install nvidia-ml-py"
        ) from None
    try:
        pynvml.nvmlInit()
        import torch

        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(
            f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        )
    except (
        pynvml.NVMLError,
        AssertionError,
        RuntimeError,
        AttributeError,
    ) as error:  # torch without CUDA asserts
        raise Unavailable(f"no NVIDIA GPU answers ({error})") from None


def apple(device: str) -> Finish:
    """CPU and memory of Apple silicon, with the package zeus-apple-silicon; not tried on such a machine yet. Error ±10 %,
    assumed: Apple says nothing of it."""
    _only_cpu(device)
    monitor = _apple_monitor()

    def read() -> float:
        now = monitor.get_cumulative_energy()
        if now.cpu_total_mj is None:
            raise Unavailable("this chip does not tell the energy of its CPU")
        return (now.cpu_total_mj + (now.dram_mj or 0)) / 1000

    start, known = read(), {"idle_w": _idle("apple"), "error": 0.10, "step_s": 0.001}
    return counted("apple", lambda: read() - start, shared=True, most_w=MOST_LAPTOP_W, **known)


@lru_cache
def _apple_monitor() -> Any:
    if sys.platform != "darwin":
        raise Unavailable("not a Mac")
    try:
        from zeus_apple_silicon import AppleEnergyMonitor

        return AppleEnergyMonitor()
    except (ImportError, RuntimeError):
        raise Unavailable(
            "the package zeus-apple-silicon does not work here: pip install zeus-apple-silicon"
        ) from None


def battery(device: str) -> Finish:
    """The whole computer, screen included, while it runs on its battery alone (Linux).

    What is gone from the charge, or its power every second if that is less than 20 steps of the charge. Error ±5 %,
    assumed, and a step of 1 s.
    """
    cells = sorted(POWER_SUPPLY.glob("BAT*"))
    before = _stored(cells)

    def watts() -> float:
        states = {_text(cell / "status") for cell in cells}
        if "Discharging" not in states or "Charging" in states:
            raise Unavailable("on the mains" if cells else "none")
        return sum(map(_watts, cells))

    power = sampled(watts, 1.0)

    def joules() -> float:
        sampled_j, gone = power(), before - _stored(cells)
        return gone if gone >= 20 * BATTERY_STEP_J else sampled_j

    known = {"idle_w": _idle("battery"), "error": 0.05, "step_s": 1.0}
    return counted("battery", joules, shared=device == "cpu", most_w=MOST_LAPTOP_W, **known)


def _stored(cells: list[Path]) -> float:
    """Joules; 0 where a battery tells only its charge in ampere-hours, so that its power is used."""
    return sum(
        _number(cell / "energy_now") * 3600e-6 for cell in cells if (cell / "energy_now").exists()
    )


def _watts(cell: Path) -> float:
    if (cell / "power_now").exists():
        return abs(_number(cell / "power_now")) * 1e-6
    return (
        abs(_number(cell / "current_now")) * _number(cell / "voltage_now") * 1e-12
    )  # some drivers say minus


def _idle(source: str) -> float:
    return calibration().get("idle_w", {}).get(source, float("nan"))


def _only_cpu(device: str) -> None:
    if device != "cpu":
        raise Unavailable("it does not see the GPU")


def _number(path: Path) -> int:
    try:
        return int(_text(path))
    except ValueError:
        raise Unavailable(f"{path} holds no number") from None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except PermissionError:
        raise Unavailable(
            f"{path} may not be read: sudo chmod a+r {path.parent.parent}/*/{path.name}, after each boot"
        ) from None
    except OSError as error:
        raise Unavailable(f"{path} cannot be read ({error.strerror})") from None
