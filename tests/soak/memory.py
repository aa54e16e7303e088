"""Resident memory of every smoke notebook and of a deployed folder: all processes together, ten looks
a second. PSS counts a page that several processes share once, RSS once for each."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from effml.printing import table
from effml.reproduce.execution import execute
from effml.reproduce.plan import make_plan

LIMIT_MB = 2000


@dataclass
class Peak:
    """Megabytes at the worst moment, and seconds, of a command and what it started."""

    what: str
    pss: float = 0.0
    rss: float = 0.0
    seconds: float = 0.0
    status: str = "ok"

    def look(self, pid: int) -> None:
        pss = rss = 0
        with suppress(psutil.NoSuchProcess):
            tree = [one := psutil.Process(pid), *one.children(recursive=True)]
            for process in tree:
                with suppress(psutil.NoSuchProcess, ProcessLookupError):
                    found = process.memory_full_info()
                    pss, rss = pss + found.pss, rss + found.rss
        self.pss, self.rss = max(self.pss, pss / 1e6), max(self.rss, rss / 1e6)


def of_notebooks(only: Sequence[str]) -> Iterator[Peak]:
    """Each notebook of the smoke profile alone, with an empty store."""
    for plan in make_plan("smoke", only):
        peak, begun = Peak(plan.name), time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder)
            for ended, running, _ in execute([plan], out, store=out / "s", figures=out / "f"):
                for one in running:
                    peak.look(one.process.pid)
                for one in ended:
                    peak.status = one.failure() or "ok"
        peak.seconds = time.monotonic() - begun
        yield peak


def of_command(what: str, command: Sequence[str], folder: Path) -> Peak:
    peak, begun = Peak(what), time.monotonic()
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(command, cwd=folder, stdout=told, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak.look(process.pid)
            time.sleep(0.1)
        told.seek(0)
        last = told.read().decode(errors="replace").strip().rpartition("\n")[2]
    peak.seconds = time.monotonic() - begun
    peak.status = "ok" if process.returncode == 0 else f"failed: {last}"
    return peak


def of_deployed() -> Iterator[Peak]:
    """A ResNet-18 at 64 px, from its run to its answers for pictures of 1024 px."""
    from PIL import Image

    from effml.data import load_dataset

    with tempfile.TemporaryDirectory() as name:
        folder, effml = Path(name), [sys.executable, "-m", "effml"]
        fields = "model=resnet18 size=64 epochs=1 train_fraction=0.1 selection=random".split()
        yield of_command(
            "run resnet18 at 64 px", [*effml, "run", *fields, "--keep", "--store", "s"], folder
        )
        [records] = (folder / "s").glob("runs-*.jsonl")
        run = json.loads(records.read_text())["run_id"]
        yield of_command("deploy", [*effml, "deploy", run, "--store", "s", "--out", "d"], folder)
        images = load_dataset("phantom-chest", size=64).test.images
        (folder / "p").mkdir()
        for i, image in enumerate(images[:50]):
            Image.fromarray(image[0].numpy()).resize((1024, 1024)).save(folder / f"p/{i}.png")
        predict = [sys.executable, "d/predict.py"]
        yield of_command("deployed: predict.py", [*predict, "p", "--out", "o.csv"], folder)
        yield of_command("deployed: --verify", [*predict, "--verify"], folder)
        yield of_command("predict", [*effml, "predict", run, "p", "--store", "s"], folder)


def soak(only: Sequence[str] = ()) -> int:
    """How many are over the limit or failed; `only` names notebooks, or `deployed`."""
    numbers = [number for number in only if number != "deployed"]
    found = []
    parts = [of_notebooks(numbers)] * bool(numbers or not only)
    parts += [of_deployed()] * (not only or "deployed" in only)
    for peak in (peak for part in parts for peak in part):
        found.append(peak)
        print(f"{peak.what:42} {peak.pss:6.0f} {peak.rss:6.0f} {peak.status}", flush=True)
    columns = {"what": [one.what for one in found]}
    columns["peak PSS, MB"] = [round(one.pss) for one in found]
    columns["peak RSS, MB"] = [round(one.rss) for one in found]
    columns |= {"s": [round(one.seconds) for one in found]}
    print(table(columns | {"status": [one.status[:40] for one in found]}))
    bad = [one for one in found if one.status != "ok" or max(one.pss, one.rss) > LIMIT_MB]
    most = max(found, key=lambda one: one.pss)
    told = f"{len(found)} measured, {len(bad)} over {LIMIT_MB} MB or failed"
    print(f"{told}; the most: {most.what}, {most.pss:.0f} MB (PSS)")
    return len(bad)
