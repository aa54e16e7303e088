"""Computers as they are: a full disk, a home that cannot be written, two of the same at once, a clock
that goes back, folders with spaces and letters of all kinds, plain ASCII, a strict umask, little
memory, a reader who leaves, and no network. After each the records that were told as finished are
there, once, and no traceback was shown."""

import json
import os
import re
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from effml.results import read_records

ROOT = Path(__file__).resolve().parents[2]
EFFML = [sys.executable, "-m", "effml"]
QUICK = ["model=mlp", "epochs=1", "threads=1"]

BACK = """
import time
start, clock = time.monotonic(), time.time
time.time = lambda: clock() - 3600.0 * (time.monotonic() - start > 2)  # 2 s after each start
"""

ASKED = """
import os, socket
def told(way):
    real = getattr(socket.socket, way)
    def call(self, address, *more):
        local = self.family not in (socket.AF_INET, socket.AF_INET6)
        if not local and address[0] not in ("127.0.0.1", "::1", "localhost"):
            with open(os.environ["ASKED"], "a") as file:
                print(way, address, file=file)
            raise OSError("blocked")
        return real(self, address, *more)
    return call
for way in ("connect", "connect_ex"):
    setattr(socket.socket, way, told(way))
lookup = socket.getaddrinfo
def names(host, *more, **how):
    if host not in (None, "127.0.0.1", "::1", "localhost", b"localhost"):
        with open(os.environ["ASKED"], "a") as file:
            print("getaddrinfo", host, file=file)
        raise OSError("blocked")
    return lookup(host, *more, **how)
socket.getaddrinfo = names
"""


def call(
    words: Sequence[str],
    folder: Path,
    env: Mapping[str, str] | None = None,
    before: Callable[[], Any] | None = None,
    command: Sequence[str] = EFFML,
) -> tuple[int, str]:
    """Exit status and all that was printed; AssertionError for a traceback."""
    done = subprocess.run(
        [*command, *words],
        cwd=folder,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=before,
        timeout=600,
    )
    told = done.stdout.decode(errors="replace")
    assert "Traceback (most recent call last)" not in told, told
    return done.returncode, told


def seeds(told: str) -> set[int]:
    return {int(seed) for seed in re.findall(r"seed (\d+): ok", told)}


def kept(store: Path, told: str) -> list[dict[str, Any]]:
    """The records; each that was told is there, once."""
    rows, _ = read_records(store)
    ok = [row["seed"] for row in rows if row["status"] == "ok"]
    assert seeds(told) <= {*ok}, f"lost: {seeds(told) - {*ok}}"
    assert len(ok) == len({*ok}), f"twice: {sorted(ok)}"
    return rows


def sweep(store: str | Path, count: int) -> list[str]:
    return ["sweep", *QUICK, f"seed={','.join(map(str, range(count)))}", "--store", str(store)]


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A file system of its own; OSError where we may not."""
    folder.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def pictures(folder: Path, count: int = 24, name: str = "{}") -> Path:
    for i in range(count):
        where = folder / ("ill" if i % 2 else "well")
        where.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (40, 40), dtype=np.uint8)
        Image.fromarray(pixels).save(where / f"{name.format(i)}.png")
    return folder


def full_disk(folder: Path) -> str:
    """The store's disk has room for a few records; then it is given more."""
    disk = folder / "disk"
    try:
        with mounted(disk, "size=100k"):
            status, told = call(sweep("disk/s", 12), folder)
            assert status and "full" in told, told
            rows = kept(disk / "s", told)
            subprocess.run(["mount", "-o", "remount,size=40m", str(disk)], check=True)
            status, more = call(sweep("disk/s", 12), folder)
            assert status == 0, more
            assert len(kept(disk / "s", told + more)) >= 12
            return f"a disk of 100 kB: {len(rows)} records, then all 12"
    except OSError as error:
        why = str(error)
    # No right to mount: a limit on the size of a file stands for the disk's end.
    little = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, 15_000))  # noqa: E731
    status, told = call(sweep("s", 12), folder, before=little)
    assert status, told
    kept(folder / "s", told)
    return f"files of at most 15 kB ({why}): nothing lost"


def read_only(folder: Path) -> str:
    """A home that is not there, one that cannot be written, and such a store."""
    pictures(folder / "p")
    nowhere = {"HOME": "/proc/nowhere", "XDG_CACHE_HOME": "/proc/nowhere/c", "EFFML_CACHE": ""}
    for words in (["doctor"], ["data", "list"], ["run", *QUICK, "--store", "s"]):
        status, told = call(words, folder, nowhere)
        assert status == 0, told
    status, told = call(["run", *QUICK, "--store", "/proc/nowhere/s"], folder)
    assert status == 2 and "give" in told.lower(), told
    try:
        with mounted(folder / "ro", "ro"):
            status, told = call(
                ["run", *QUICK, "seed=1", "--store", "s"],
                folder,
                {"HOME": str(folder / "ro"), "EFFML_CACHE": ""},
            )
            assert status == 0, told
            for words in (
                ["run", *QUICK, "--store", "ro/s"],
                ["data", "import", "p", "ro/x.npz", "--split-by", "image"],
            ):
                status, told = call(words, folder)
                assert status == 2 and "give another" in told.lower(), told
    except OSError as error:
        return f"a home that is not there (no read-only disk: {error})"
    return "a home that is not there, one that is read-only, and a read-only store"


def checkout(folder: Path) -> Path:
    """A copy of this one, whose results are its own."""
    for name in ("effml", "notebooks", "results/reference"):
        skip = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def two_at_once(folder: Path) -> str:
    """Two `make reproduce` of one profile, begun together: figures, and a notebook that trains."""
    place = checkout(folder / "c")
    words = [*EFFML, "reproduce", "--profile", "smoke", "--only", "20,70"]
    env = {**os.environ, "PYTHONPATH": str(place)}
    how = {"cwd": place, "env": env, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    both = [subprocess.Popen(words, **how) for _ in range(2)]
    told = [one.communicate(timeout=600)[0].decode(errors="replace") for one in both]
    for one, text in zip(both, told):
        assert one.returncode == 0 and "Traceback" not in text, text
    assert "is at work here" in "".join(told), told
    local = place / "results" / "local"
    state = json.loads((local / "smoke" / "state.json").read_text())
    assert len(state) == 2
    for name in state:
        json.loads((local / "smoke" / f"{name}.ipynb").read_text())
    rows, torn = read_records(local)
    ids = [row["recipe_id"] for row in rows]
    assert not torn and len(ids) == len({*ids}), "done twice"
    return f"2 notebooks, {len(rows)} records, each once"


def clock(folder: Path) -> str:
    """The clock goes an hour back in the middle of a sweep, and the next is a day before it (by
    faketime, where that is installed)."""
    (folder / "b").mkdir()
    (folder / "b" / "sitecustomize.py").write_text(BACK)
    back = {"PYTHONPATH": os.pathsep.join([str(folder / "b"), os.environ.get("PYTHONPATH", "")])}
    status, told = call(sweep("s", 6), folder, back)
    assert status == 0, told
    fake = ["faketime", "-f", "-1d"] * bool(shutil.which("faketime"))
    more = call(sweep("s", 9), folder, {} if fake else back, command=[*fake, *EFFML])[1]
    rows = kept(folder / "s", told + more)
    assert len(rows) == 9, len(rows)
    spent = [row[name] for row in rows for name in ("prepare_seconds", "train_seconds")]
    assert min(spent) >= 0 and max(spent) < 600, spent
    assert not re.search(r"-\d+\.\d min left", told + more), told + more
    status, told = call(["status", "s"], folder, back)
    assert status == 0, told
    how = "with faketime" if fake else "without faketime, which is not installed"
    return f"{len(rows)} records, each once; none took less than no time ({how})"


def letters(folder: Path) -> str:
    """From pictures to answers in a folder with spaces and letters of all kinds, in plain ASCII, with
    a umask that keeps all others out."""
    odd = folder / "Ärzte & Söhne 汉 'x'"
    odd.mkdir()
    pictures(odd / "Bilder ü", name="Köpfe {} (1)")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    strict = lambda: os.umask(0o077)  # noqa: E731
    npz = str(odd / "Daten ü.npz")
    status, told = call(
        ["data", "import", str(odd / "Bilder ü"), npz, "--split-by", "image", "--size", "28"],
        odd,
        plain,
        strict,
    )
    assert status == 0, told
    fields = [*QUICK, f"data={npz}"]
    status, told = call(
        ["run", *fields, "--keep-weights", "--store", "Läufe 1"], odd, plain, strict
    )
    assert status == 0, told
    run = read_records(odd / "Läufe 1")[0][0]["run_id"]
    where = ["--store", "Läufe 1"]
    for words in (
        ["show", *where],
        ["predict", run, "Bilder ü", "--out", "Antworten é.csv", *where],
        ["deploy", run, "--out", "fertig ö", *where],
        ["deploy", "--check", "fertig ö"],
    ):
        status, told = call(words, odd, plain, strict)
        assert status == 0, told
    words = ["Bilder ü", "--out", "Antworten ö.csv"]
    status, told = call(words, odd, plain, strict, [sys.executable, "fertig ö/predict.py"])
    assert status == 0, told
    text = (odd / "Antworten ö.csv").read_text(encoding="utf-8")
    assert "Köpfe 1 (1).png" in text and len(text.splitlines()) == 25
    open_to = [
        p
        for p in odd.rglob("*")
        if "Bilder" not in str(p) and stat.S_IMODE(p.stat().st_mode) & 0o077
    ]
    assert not open_to, f"others may read {open_to}"
    place = checkout(odd / "c ö")
    env = plain | {"PYTHONPATH": str(place)}
    status, told = call(["reproduce", "--profile", "smoke", "--only", "70"], place, env, strict)
    assert status == 0, told
    return (
        "import, run, predict, deploy, the deployed folder and a notebook; no file open to others"
    )


def little_memory(folder: Path) -> str:
    """A run that is too large for what it may take, and a process that cannot even begin."""
    words = ["run", "model=resnet18", "size=64", "batch_size=1024", "epochs=1", "--store", "s"]
    status, told = call(words, folder, {"EFFML_MEMORY_GB": "0.7"})
    rows = read_records(folder / "s")[0]
    assert status == 1 and [row["status"] for row in rows] == ["out of memory"], told
    refused = []
    for megabytes in (1500, 700, 300):
        most = megabytes * 2**20
        cap = lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most))  # noqa: E731
        status, told = call(
            ["run", *QUICK, "--store", "t"], folder, {"OPENBLAS_NUM_THREADS": "1"}, cap
        )
        assert status == 0 or len(told) > 40, told
        refused += [megabytes] * bool(status)
    kept(folder / "t", "")
    return f"out of memory is a record; with {refused} MB of address space it says so"


def a_reader_who_leaves(folder: Path) -> str:
    """`effml … | head -1`."""
    call(["run", *QUICK, "--store", "s"], folder)
    for words in ("show --store s", "data list", "run --help"):
        line = f"{sys.executable} -m effml {words} | head -1"
        status, told = call(["-c", line], folder, command=["bash"])
        assert status == 0 and len(told.splitlines()) == 1, told
    return "the rest is not printed, and nothing is said of it"


def no_network(folder: Path) -> str:
    """With EFFML_OFFLINE no command asks for an address beyond this computer."""
    (folder / "b").mkdir()
    (folder / "b" / "sitecustomize.py").write_text(ASKED)
    asked = folder / "asked.txt"
    env = {"EFFML_OFFLINE": "1", "ASKED": str(asked)}
    env["PYTHONPATH"] = os.pathsep.join([str(folder / "b"), os.environ.get("PYTHONPATH", "")])
    env.update(HF_HUB_OFFLINE="", CI="")
    pictures(folder / "p")
    run = ["run", *QUICK, "--keep-weights", "--store", "s"]
    call(run, folder, env)
    name, place = read_records(folder / "s")[0][0]["run_id"], ["--store", "s"]
    several = [
        ["doctor"], ["data", "list"], ["data", "get", "organamnist"], ["data", "verify"], ["report"],
        ["run", "model=resnet18", "weights=imagenet", "epochs=0", *place], ["energy"],
        ["data", "import", "p", "x.npz", "--split-by", "image"], ["show", *place], ["status", "s"],
        ["advise", "--data", "phantom-chest", "--minutes", "0.2", "--store", "a"],
        ["deploy", name, "--out", "d", *place], ["deploy", "--check", "d"],
        ["predict", name, "p", "--out", "o.csv", *place],
    ]  # fmt: skip
    for words in several:
        call(words, folder, env)
    call(["p", "--out", "q.csv"], folder, env, command=[sys.executable, "d/predict.py"])
    checked = checkout(folder / "c")
    env["PYTHONPATH"] = os.pathsep.join([str(folder / "b"), str(checked)])
    call(["reproduce", "--profile", "smoke", "--only", "00"], checked, env)
    assert not asked.exists(), asked.read_text()
    return f"{len(several) + 3} commands, no address asked for"


CHECKS: dict[str, Callable[[Path], str]] = {
    one.__name__.replace("_", "-"): one
    for one in (
        full_disk, read_only, two_at_once, clock, letters, little_memory, a_reader_who_leaves,
        no_network,
    )
}  # fmt: skip


def soak(only: Sequence[str] = ()) -> int:
    """How many were not withstood."""
    failed = 0
    for name in only or CHECKS:
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                told = f"ok: {CHECKS[name](Path(folder))}"
            except (AssertionError, subprocess.SubprocessError, OSError, ValueError) as error:
                told, failed = f"FAULT {str(error)[-3000:]}", failed + 1
        print(f"{name:20} {time.monotonic() - begun:4.0f} s  {told}", flush=True)
    print(f"{len(only or CHECKS)} hardships, {failed} faults")
    return failed
