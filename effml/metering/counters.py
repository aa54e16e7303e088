"""Sources which measure: RAPL, NVML, Apple silicon, a discharging battery. Each starts when called and returns what stops it.

Errors, as a fraction, are those of the instrument where it measures, not of what lies outside it (fans, power supply,
screen). Against the plug, the part above idle was off by up to 73 % on average (Fahad et al., Energies 12:2204, 2019).
"""

import sys
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from effml import machine
from effml.metering.declared import calibration
from effml.metering.window import Energy, Finish, Sampler, Unavailable, Window, counted, sampled

POWERCAP = Path("/sys/class/powercap")
POWER_SUPPLY = Path("/sys/class/power_supply")
POLL_S = 30.0
"""Seconds between looks at RAPL's counters. The smallest wrap around at 65.5 kJ: in 65 s at 1 kW."""
BATTERY_STEP_J = 36.0
"""A battery tells its charge in steps of about 10 mWh."""


def rapl(device: str) -> Finish:
    """Package and memory of every socket (Intel, and AMD without the memory), from Linux' powercap.

    `psys` is left out, since what it covers is up to the laptop's maker, and so is `intel-rapl-mmio`, the same counters
    again. Error ±10 %: Intel measures since Haswell (Hackenberg et al., IPDPSW 2015) but memory is off by a constant
    (Desrochers et al., MEMSYS 2016), and AMD models rather than measures (Schöne et al., arXiv 2108.00808).
    """
    _only_cpu(device)
    zones, joules, last = _zones(POWERCAP), 0.0, {}

    def add() -> None:
        nonlocal joules
        for zone, wraps_at in zones.items():
            now = _number(zone / "energy_uj")
            joules += (now - last.get(zone, now)) % wraps_at * 1e-6
            last[zone] = now

    sampler = Sampler(add, POLL_S)

    def finish(window: Window) -> Energy:
        sampler.stop()
        return counted(
            "rapl",
            joules,
            window,
            share=window.share,
            idle_w=_idle("rapl"),
            error=0.10,
            step_s=0.001,
        )

    return finish


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
    return {zone: _number(zone / "max_energy_range_uj") for zone in found.values()}


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

    total = partial(read, "nvmlDeviceGetTotalEnergyConsumption")
    try:
        joules = partial(total, since=total())
    except Unavailable:  # before Volta
        joules = sampled(partial(read, "nvmlDeviceGetPowerUsage"), 0.1)
    return lambda window: counted(
        "nvml", joules(), window, share=1, idle_w=_idle("nvml"), error=0.05, step_s=0.1
    )


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

    start = read()
    return lambda window: counted(
        "apple",
        read() - start,
        window,
        share=window.share,
        idle_w=_idle("apple"),
        error=0.10,
        step_s=0.001,
    )


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

    def finish(window: Window) -> Energy:
        joules = power()
        gone = before - _stored(cells)
        return counted(
            "battery",
            gone if gone >= 20 * BATTERY_STEP_J else joules,
            window,
            idle_w=_idle("battery"),
            share=window.share if device == "cpu" else 1,
            error=0.05,
            step_s=1.0,
        )

    return finish


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
