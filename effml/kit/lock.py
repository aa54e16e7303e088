"""The lock file, and which of its wheels a system and a Python need."""

import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from effml.machine import ROOT, choose

LOCK = ROOT / "pylock.toml"


@dataclass(frozen=True)
class System:
    """What packages ask of the computer that they are installed on."""

    sys_platform: str
    platform_system: str
    platform_machine: str
    os_name: str
    platforms: Callable[[], Iterable[str]]  # of its wheels, best first


def _manylinux(machine: str, newest: int = 28) -> list[str]:
    """glibc 2.28 (2018) and older, or up to 2.`newest`."""
    return [f"manylinux_2_{minor}_{machine}" for minor in range(newest, 4, -1)] + [
        f"manylinux{year}_{machine}" for year in (2014, 2010, 1)
    ]


def _macos() -> Iterable[str]:
    from packaging.tags import mac_platforms

    return mac_platforms((14, 0), "arm64")


SYSTEMS = {
    "linux": System("linux", "Linux", "x86_64", "posix", lambda: _manylinux("x86_64")),
    "linux-arm64": System("linux", "Linux", "aarch64", "posix", lambda: _manylinux("aarch64", 36)),
    "windows": System("win32", "Windows", "AMD64", "nt", lambda: ["win_amd64"]),
    "macos": System("darwin", "Darwin", "arm64", "posix", _macos),
}
"""Those that PyTorch has CPU builds for."""


@dataclass(frozen=True)
class Wheel:
    """A package as a file of an index; `size` in bytes, None where that does not tell it."""

    name: str
    version: str
    index: str
    url: str
    sha256: str
    size: int | None

    @property
    def file(self) -> str:
        return unquote(urlsplit(self.url).path.rpartition("/")[2])

    @property
    def requirement(self) -> str:
        """A line of a requirements file, which takes this file and no other."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


def wheels(system: str, python: str, lock: Path = LOCK) -> list[Wheel]:
    """The wheels that a system ("linux") with a Python ("3.12") needs, by name.

    Raises:
        ValueError: another system or Python than the lock file knows, or no wheel for it.
    """
    from packaging.markers import Marker

    asked = SYSTEMS[choose("system", system, SYSTEMS)]
    environment = {key: value for key, value in vars(asked).items() if key != "platforms"}
    environment |= {"python_version": python, "python_full_version": f"{python}.0"}
    environment |= {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    content = tomllib.loads(lock.read_text(encoding="utf-8"))
    if not any(Marker(each).evaluate(environment) for each in content["environments"]):
        told = f"{lock.name} has no packages for {system} with Python {python}"
        raise ValueError(f"{told}. Choose one of {content['environments']}, or lock anew.")
    ranks, found = _ranks(asked, python), []
    for package in content["packages"]:
        if "marker" in package and not Marker(package["marker"]).evaluate(environment):
            continue
        about = [package[key] for key in ("name", "version", "index")]
        files = (
            Wheel(*about, one["url"], one["hashes"]["sha256"], one.get("size"))
            for one in package["wheels"]
        )
        fitting = [(rank, one) for one in files if (rank := _rank(one, ranks)) >= 0]
        if not fitting:
            told = f"{package['name']} {package['version']} has no wheel"
            raise ValueError(f"{told} for {system} with Python {python}. Choose another Python.")
        found.append(min(fitting, key=lambda each: each[0])[1])
    return found


def _ranks(system: System, python: str) -> dict:
    """The tags that fit, best first, each with its place."""
    from packaging.tags import compatible_tags, cpython_tags

    version, abi = tuple(map(int, python.split("."))), f"cp{python.replace('.', '')}"
    platforms = list(system.platforms())
    tags = [*cpython_tags(version, [abi], platforms), *compatible_tags(version, abi, platforms)]
    return {tag: place for place, tag in reversed(list(enumerate(tags)))}


def _rank(wheel: Wheel, ranks: dict) -> int:
    """The place of a wheel's best tag; -1 where none fits."""
    from packaging.utils import parse_wheel_filename

    places = [ranks[tag] for tag in parse_wheel_filename(wheel.file)[3] if tag in ranks]
    return min(places, default=-1)
