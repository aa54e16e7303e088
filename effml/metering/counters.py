"""Sources that measure: RAPL, NVML, a discharging battery. Each starts when called and returns what
stops it.

Errors, as a fraction, are those of the instrument where it measures, not of what lies outside it
(fans, power supply, screen). Against the plug, the part above idle was off by up to 73 % on average
(Fahad et al., Energies 12:2204, 2019).
"""

import os
import time
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from effml import machine
from effml.metering.counting import Sampler, counted, sampled, stood_still
from effml.metering.window import Energy, Finish, Unavailable, Window, joined, only_cpu, refuse

POWERCAP = Path("/sys/class/powercap")
POWER_SUPPLY = Path("/sys/class/power_supply")
POLL_S = 30.0
"""Seconds between readings of RAPL's counters. The smallest wrap around at 65.5 kJ: in 65 s at
1 kW."""
MOST_LAPTOP_W = 500.0
"""What no battery gives: USB-C feeds a laptop with 240 W at most."""
MOST_GPU_W = 2000.0
"""What no GPU draws: those of 2025 are sold with 1.4 kW. Where NVML tells a limit: twice that."""


def rapl(device: str) -> Finish:
    """Package and memory of every socket (Intel, and AMD without the memory), from Linux' powercap.

    `psys` is left out, since what it covers is up to the laptop's maker, and so is
    `intel-rapl-mmio`, the same counters again. Error ±10 %: Intel measures since Haswell
    (Hackenberg et al., IPDPSW 2015) but memory is off by a constant (Desrochers et al., MEMSYS
    2016), and AMD models rather than measures (Schöne et al., arXiv 2108.00808). A package that
    stands still is Unavailable, as is one that begins anew; memory that stands still is left out.
    """
    only_cpu(device)
    zones = [Zone(path, wraps_at) for path, wraps_at in _zones(POWERCAP).items()]
    sampler = Sampler(lambda: [zone.read() for zone in zones], POLL_S)

    def joules() -> float:
        sampler.stop()
        return sum(zone.joules for zone in zones)

    most_w = sum(zone.most_w for zone in zones)
    stop = counted("rapl", joules, shared=True, most_w=most_w, error=0.10, step_s=0.001)

    def finish(window: Window) -> Energy:
        energy = stop(window)
        for zone in (zone for zone in zones if not zone.joules):
            name, text = zone.path.name, stood_still(window)
            refuse((zone.package, f"{name}: {text}"))
            energy.reason = joined(energy.reason, f"{name} (memory) is left out: {text}")
        return energy

    return finish


class Zone:
    """One counter of RAPL, and the joules it counted from the first reading on. It wraps around at
    `wraps_at` µJ; one that goes back without having been near that has begun anew."""

    def __init__(self, path: Path, wraps_at: int) -> None:
        self.path, self.wraps_at, self.joules = path, wraps_at, 0.0
        self.package, self.most_w = _text(path / "name").startswith("package"), most_watts(path)
        self._last = self._when = None

    def read(self) -> None:
        """Add what it counted since the last reading. Unavailable if that cannot be."""
        now, when, name = _number(self.path / "energy_uj"), time.monotonic(), self.path.name
        last, elapsed = (now, 0.0) if self._last is None else (self._last, when - self._when)
        moved, most = (now - last) % self.wraps_at * 1e-6, self.most_w * max(elapsed, 2 * POLL_S)
        end, still = self.wraps_at * 1e-6, self.package and not moved and elapsed > POLL_S / 2
        far = f"{name} went from {last * 1e-6:.6g} J to {now * 1e-6:.6g} J (its end: {end:.6g} J)"
        late = f"{name} was not read for {elapsed:.3g} s, enough to wrap around"
        refuse(
            (elapsed > 2 * POLL_S and most >= end, late),
            (moved > most, f"{far}: at most {self.most_w:.3g} W can be drawn"),
            (still, f"{name} did not move in {elapsed:.3g} s"),
        )
        self.joules, self._last, self._when = self.joules + moved, now, when


@lru_cache
def most_watts(zone: Path) -> float:
    """More than a package, or the memory of one, can draw on average, W.

    200 W and 15 W for each logical CPU (a desktop of 12 threads is sold with 142 W, a server of 16
    with 180 W), but at most 1 kW: none is sold with more than 500 W (EPYC 9965, Xeon 6980P). Twice
    the highest limit that the zone itself names and keeps, where that is less: it holds on average
    over some seconds only.
    """
    limits = [0]
    with suppress(Unavailable):  # no limit can be read
        if not (zone / "enabled").exists() or _number(zone / "enabled"):
            for name in ("power_limit", "max_power"):
                limits += [_number(path) for path in zone.glob(f"constraint_*_{name}_uw")]
    return min(2e-6 * max(limits) or 1000.0, 200.0 + 15 * (os.cpu_count() or 1), 1000.0)


@lru_cache
def _zones(powercap: Path) -> dict[Path, int]:
    """A folder for each socket's package and for its memory, and the µJ at which its counter wraps
    around. On AMD the dies of a package mirror one counter (mlco2/codecarbon#1274); on Intel each
    die has its own."""
    found, amd = {}, "AMD" in machine.cpu()[0]
    for zone in sorted(powercap.glob("intel-rapl:*")):
        name = _text(zone / "name")
        if name.startswith("package"):
            found.setdefault(name.partition("-die-")[0] if amd else name, zone)
        elif name == "dram":
            found[zone.name] = zone
    packages = any(name.startswith("package") for name in found)
    refuse((not packages, f"{powercap} has no package (a virtual machine, or not Linux)"))
    ranges = {zone: _number(zone / "max_energy_range_uj") for zone in found.values()}
    for zone, end in ranges.items():
        refuse((end <= 0, f"{zone}/max_energy_range_uj is {end}, so where it wraps is unknown"))
    return ranges


def nvml(device: str) -> Finish:
    """One NVIDIA GPU, board and memory: its counter of millijoules (Volta and newer), else its
    power every 100 ms.

    Other programs on the GPU count in it. Error ±5 % (so NVML's manual of Fermi and Kepler) and a
    step of 100 ms; A100 and H100 see only a quarter of the time, so that work in bursts may be off
    more (Yang et al., SC24, arXiv 2312.02741).
    """
    refuse((not device.startswith("cuda"), "the work is not on a GPU"))
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
    return counted("nvml", joules, shared=False, most_w=most_w, error=0.05, step_s=0.1)


@lru_cache
def _gpu(device: str) -> tuple[ModuleType, Any]:
    try:
        import pynvml
    except ImportError:
        text = "the package nvidia-ml-py is not installed: pip install nvidia-ml-py"
        raise Unavailable(text) from None
    try:
        pynvml.nvmlInit()
        import torch

        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except (pynvml.NVMLError, AssertionError, RuntimeError, AttributeError) as error:
        raise Unavailable(f"no NVIDIA GPU answers ({error})") from None


def battery(device: str) -> Finish:
    """The whole computer, screen included, while it runs on its battery alone (Linux): its power
    every second. Error ±5 %, assumed, and a step of 1 s."""
    cells = sorted(POWER_SUPPLY.glob("BAT*"))
    refuse((not cells, "none"))

    def watts() -> float:
        states = {_text(cell / "status") for cell in cells}
        refuse(("Discharging" not in states or "Charging" in states, "on the mains"))
        return sum(map(_watts, cells))

    limits = {"most_w": MOST_LAPTOP_W, "error": 0.05, "step_s": 1.0}
    return counted("battery", sampled(watts, 1.0), shared=device == "cpu", **limits)


def _watts(cell: Path) -> float:
    if (cell / "power_now").exists():
        return abs(_number(cell / "power_now")) * 1e-6  # some drivers say minus
    return abs(_number(cell / "current_now")) * _number(cell / "voltage_now") * 1e-12


def _number(path: Path) -> int:
    try:
        return int(_text(path))
    except ValueError:
        raise Unavailable(f"{path} holds no number") from None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except PermissionError:
        cure = f"sudo chmod a+r {path.parent.parent}/*/{path.name}, after each boot"
        raise Unavailable(f"{path} may not be read: {cure}") from None
    except OSError as error:
        raise Unavailable(f"{path} cannot be read ({error.strerror})") from None
