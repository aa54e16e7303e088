"""What this machine is and may do: the torchvision cure, the network, memory, the CPU, provenance.
Nothing here runs at import."""

import hashlib
import importlib
import json
import os
import platform
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit
from urllib.request import getproxies

import effml

ROOT = Path(__file__).resolve().parent.parent
"""The folder which holds the package: in a checkout the project with its notebooks and results."""

_FLAGS = (
    "avx2 avx512f avx512_bf16 avx512_vnni avx_vnni amx_bf16 amx_int8 amx_tile asimd bf16 i8mm sve"
).split()

BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""CPU flags of bfloat16 arithmetic; without one of them torch emulates it."""


def choose(kind: str, name: str, menu: Iterable[str], more: str = "") -> str:
    """`name` if it is on the `menu`. Else ValueError, which lists the menu and, behind it, says
    `more`."""
    if name not in (menu := list(menu)):
        raise ValueError(f"Unknown {kind} {name!r}. Choose from: {', '.join(map(str, menu))}{more}")
    return name


def print_anything() -> None:
    """Print what standard output and error cannot encode (redirected on Windows: cp1252) as ?
    instead of raising an error. A user who asked for another way (PYTHONIOENCODING) keeps it."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", "") in ("strict", "backslashreplace"):
            with suppress(AttributeError):  # a notebook's stream, which takes everything
                stream.reconfigure(errors="replace")


def optional(name: str, extra: str) -> ModuleType:
    """The package `name`, which comes with an extra of effml; without it ModuleNotFoundError, which
    says how to install it. OpenVINO and NNCF report their import to Google, but not in a CI."""
    before = dict(os.environ)
    os.environ.update({"CI": "true", "NNCF_CI": "1"})
    try:
        return importlib.import_module(name)
    except ImportError as error:
        advice = f"pip install -e '.[{extra}]' in a checkout of effml"
        raise ModuleNotFoundError(f"This needs {name}: {advice} ({error}).") from error
    finally:
        for changed in ("CI", "NNCF_CI"):
            os.environ.pop(changed)
            if changed in before:
                os.environ[changed] = before[changed]


@lru_cache
def import_timm() -> ModuleType:
    """timm, also where a CUDA build of torchvision meets a CPU build of torch and fails with
    `operator torchvision::nms does not exist` (pytorch/vision#9077): only detection needs it."""
    if offline():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        import torch

        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # the half-imported remains
        global _operators  # the declaration holds as long as this object lives
        _operators = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            _operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module("timm")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch's global generators (the CPU's, and CUDA's once CUDA is in use) begin at
    `seed`; afterwards, also after an error, they are as the caller left them."""
    import torch

    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(gpus):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed a later CUDA too
        if gpus:
            torch.cuda.manual_seed_all(seed)
        yield


def reference_folder() -> Path | None:
    """The folder that `make reproduce PROFILE=reference` reads instead of computing, if it does."""
    return Path(given) if (given := os.environ.get("EFFML_REFERENCE")) else None


def keep_folder() -> Path | None:
    """Where a notebook leaves what the reference profile will read, if that is being made."""
    return Path(given) if (given := os.environ.get("EFFML_KEEP")) else None


def answer(question: str, find: Callable[[], str]) -> str:
    """What `find` says of this machine, where it decides which runs a notebook asks for. In the
    reference profile: what it said where the reference was made."""
    if (folder := reference_folder()) is not None:
        return _answers(folder).get(question) or find()
    said = find()
    if (folder := keep_folder()) is not None:
        told = _answers(folder) | {question: said}
        with whole_file(folder / ANSWERS) as partial:
            partial.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return said


ANSWERS = "answers.json"


def _answers(folder: Path) -> dict[str, str]:
    file = folder / ANSWERS
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def imagenet_file(model: str) -> Path | None:
    """`model`.safetensors, or `model`.….safetensors, in a folder `weights` in or beside
    `EFFML_DATA`: ImageNet weights that need no network."""
    if not (given := os.environ.get("EFFML_DATA")):
        return None
    given = Path(given).expanduser()
    data = given if given.is_dir() else ROOT / given  # notebooks run in their own folder
    folders = (data / "weights", data.parent / "weights")
    files = (file for folder in folders for file in sorted(folder.glob(f"{model}.*safetensors")))
    return next(files, None)


def offline() -> bool:
    """True if EFFML_OFFLINE asks that no socket be opened."""
    return os.environ.get("EFFML_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def reachable(host: str) -> bool:
    """Whether `host`, or the proxy in front of it, answers within 1.5 s."""
    proxy = getproxies().get("https", host)
    parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = parts.port or (443 if proxy == host else 8080)
    try:
        with socket.create_connection((parts.hostname or host, port), timeout=1.5):
            return True
    except OSError:
        return False


def available_memory_bytes() -> int:
    """Memory a new process may still take: the system's, or the container's if it has less, and no
    more than `EFFML_MEMORY_GB` where that is set."""
    import psutil

    allowed = float(os.environ.get("EFFML_MEMORY_GB") or "inf") * 1e9
    system, group = psutil.virtual_memory().available, Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError, IndexError):  # no container, or one without a limit ("max")
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        statistics = (group / "memory.stat").read_text()
        cache = int(statistics.split("inactive_file ")[1].split()[0])  # given back on demand
        system = min(system, max(limit - used + cache, 0))
    return int(min(allowed, system))


@lru_cache
def cpu() -> tuple[str, str]:
    """Model and the instruction sets that decide which precision pays, for example
    ("AMD EPYC", "avx2 avx512_bf16")."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine(), ""
    info = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    have = set((info.get("flags") or info.get("Features") or "").split())
    flags = " ".join(flag for flag in _FLAGS if flag in have)
    return info.get("model name") or platform.machine(), flags


def out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: Python's, the system's, or torch's on a CPU or a GPU."""
    words = "out of memory", "allocate memory", "failed to map segment"  # of a library
    told = any(one in str(error).lower() for one in words)
    kinds = OSError, RuntimeError, ImportError
    return isinstance(error, MemoryError) or isinstance(error, kinds) and told


RUN_MB = 600
"""What a process with torch, which does one small run, holds in memory."""


def shortages(memory_mb: float = RUN_MB) -> list[str]:
    """Where this machine falls short of so much memory, or of what the minutes that notebooks and
    plans tell were measured on; in words for before the work."""
    told, free = [], available_memory_bytes() / 1e6
    with suppress(ImportError):  # Windows
        import resource

        if (most := resource.getrlimit(resource.RLIMIT_AS)[0]) > 0:  # ulimit -v; without one -1
            free = min(free, most / 1e6)
    if free < memory_mb:
        advice = "close other programs, or ask for less at a time"
        told.append(f"{free:.0f} MB of memory are free, this takes about {memory_mb:.0f}: {advice}")
    x86 = platform.machine() == "x86_64" and sys.platform == "linux"  # where the flags are known
    if x86 and "avx2" not in cpu()[1].split():
        told.append("this CPU has no AVX2: what is told of minutes was measured on CPUs with it")
    return told


@lru_cache
def git_commit() -> str | None:
    """Short commit of the effml checkout, with a + when its source was changed; None outside a
    checkout."""

    def git(*words: str) -> str:
        words = ("git", "-C", str(ROOT), *words)
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != ROOT:
            return None
        changed = "+" if git("status", "--porcelain", "--", "effml") else ""
        return git("rev-parse", "--short=10", "HEAD") + changed
    except (OSError, subprocess.CalledProcessError):
        return None


def provenance() -> dict[str, str | None]:
    """The columns of a Record that say where and with what it was made. No user, host name or path
    is among them."""

    def installed(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    model, flags = cpu()
    return {
        "device_name": model,
        "cpu_flags": flags,
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": installed("torch"),
        "timm": installed("timm"),
        "effml": effml.__version__,
        "git_commit": git_commit(),
    }


def cache_file(name: str, *depends: str) -> Path:
    """A JSON file in `EFFML_CACHE`, else ~/.cache/effml, for what was measured once under what it
    `depends` on. A copy of the folder on another machine is of no use, and does no harm."""
    folder = Path(os.environ.get("EFFML_CACHE") or "~/.cache/effml").expanduser()
    digest = hashlib.sha256(" ".join(depends).encode()).hexdigest()[:12]
    return folder / f"{name}-{digest}.json"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name to write to; what lies there at the end takes the place of `path`, on disk before
    this returns. If the writing fails, `path` stays as it was and nothing else is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Put the names of a folder's files on disk, where the system can: else a power cut may take a
    new file with it."""
    with suppress(OSError):  # Windows opens no folders, and some network disks sync none
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
