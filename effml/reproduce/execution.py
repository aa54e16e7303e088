"""Notebooks in processes of their own, some at a time, and what they print in a log."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from effml.machine import available_memory_bytes
from effml.reproduce import places
from effml.reproduce.places import load, tags
from effml.reproduce.plan import Plan, declared_parameters


@dataclass
class Execution:
    """One notebook in its process."""

    plan: Plan
    out: Path
    log: Path  # what it prints
    process: subprocess.Popen
    begun: float

    @property
    def minutes(self) -> float:
        return (time.time() - self.begun) / 60

    def runs(self) -> int:
        """How many runs it has done, told by the lines of `sweep`."""
        return len(re.findall(rb"^\[\d+/\d+\] ", self.log.read_bytes(), re.M))

    def failure(self) -> str:
        """Why it failed, naming the cell, or ""."""
        if self.process.returncode == 0:
            return ""
        added = {"injected-parameters", "papermill-error-cell-tag"}  # papermill's own cells
        cells = [cell for cell in load(self.out).get("cells", []) if not added & tags(cell)]
        for number, cell in enumerate(cells, 1):
            for output in cell.get("outputs", []):
                if output["output_type"] == "error":
                    first = "".join(cell["source"]).strip().splitlines()[0]
                    said = f"{output['ename']}: {output['evalue']}"
                    return f"failed in cell {number} ({first}): {said}"
        return f"failed: its process ended with exit status {self.process.returncode}; see its log"

    def close(self) -> None:
        """End the process where it still runs, and put what it printed into the one log."""
        if self.process.poll() is None:
            self.process.terminate()  # it ends its kernel too
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=30)
            self.process.kill()
            self.process.wait()
        with open(self.log.with_name("log.txt"), "ab") as log:
            log.write(f"=== {self.plan.name}\n".encode() + self.log.read_bytes())
        self.log.unlink()


def cores() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def execute(
    plans: Sequence[Plan],
    out: Path,
    *,
    store: Path,
    figures: Path,
    at_once: int = 1,
    keep: Path | None = None,
) -> Iterator[tuple[list[Execution], list[Execution], list[Plan]]]:
    """Run notebooks in their order, up to `at_once` at a time where memory allows, which then share
    the cores; write them to `out`, their records to `store`, their figures to `figures`, and what
    the reference profile will read to a folder for each in `keep`.

    Some times a second it yields those that ended since, those that run and those that wait.
    """
    waiting, running = list(plans), []
    environment = {"EFFML_FIGURES": str(figures), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    if at_once > 1:
        environment["OMP_NUM_THREADS"] = str(max(1, cores() // at_once))
    environment |= os.environ | {"EFFML_FIGURES": str(figures)}
    if any(plan.reads for plan in plans):
        environment["EFFML_REFERENCE"] = str(places.REFERENCE)
    try:
        while waiting or running:
            while waiting and len(running) < at_once and _fits(waiting[0], running):
                plan = waiting.pop(0)
                number = plan.path.name[:2]
                asked = {"EFFML_REFERENCE_RUNS": f"runs-{number}.jsonl"}
                asked |= {"EFFML_KEEP": str(keep / number)} if keep else {}
                running.append(_start(plan, out, store, environment | asked))
            ended = [one for one in running if one.process.poll() is not None]
            running = [one for one in running if one not in ended]
            for one in ended:
                one.close()
            yield ended, running, waiting
            time.sleep(0.1)
    finally:
        for one in running:
            one.close()


def _fits(plan: Plan, running: list[Execution]) -> bool:
    """Whether its memory and theirs are there; a notebook alone is always tried."""
    asked = sum(one.cost["memory"] for one in (plan, *(other.plan for other in running)))
    return not running or asked * 1e6 <= available_memory_bytes()


def _start(plan: Plan, out: Path, store: Path, environment: dict[str, str]) -> Execution:
    out.mkdir(parents=True, exist_ok=True)
    executed, log = out / plan.path.name, out / f"{plan.name}.log"
    executed.unlink(missing_ok=True)  # of an earlier call: it would be taken for this one's
    parameters = dict(plan.parameters)
    if "store" in declared_parameters(plan.path):  # a notebook that reads tables only has none
        parameters["store"] = str(store)
    job = {"input_path": str(plan.path), "output_path": str(executed), "parameters": parameters}
    job |= {"cwd": str(plan.path.parent), "kernel_name": "python3", "progress_bar": False}
    command = [sys.executable, "-m", "effml.reproduce"]
    with open(log, "wb") as file:
        streams = {"stdin": subprocess.PIPE, "stdout": file, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, text=True, env=environment, **streams)
    with suppress(BrokenPipeError), process.stdin:  # it has ended already: its status says so
        process.stdin.write(json.dumps(job))
    return Execution(plan, executed, log, process, time.time())
