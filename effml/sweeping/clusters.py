"""Executors of `sweep` that a command line asks for: Dask's scheduler, or SLURM through submitit.
In Python give `sweep` Dask's client or submitit's executor itself."""

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from effml.machine import choose, optional

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("--scheduler", {"metavar": "tcp://HOST:8786", "help": "do the runs on the workers of Dask"}),
    (
        "--workers",
        {"type": int, "metavar": "N", "help": "so many runs at a time here, by Dask: give threads"},
    ),
    (
        "--slurm",
        {
            "metavar": "time=MINUTES,partition=NAME",
            "help": "a job of SLURM for each run; more: cpus, gpus, memory (GB), account, qos, and "
            "jobs, how many at a time",
        },
    ),
]

SLURM = {
    "time": "timeout_min",
    "partition": "slurm_partition",
    "cpus": "cpus_per_task",
    "gpus": "gpus_per_node",
    "memory": "mem_gb",
    "account": "slurm_account",
    "qos": "slurm_qos",
}
"""Our words for the parameters of submitit's AutoExecutor."""


ANSWER_S = 10
"""How long a scheduler may take to answer."""


@contextmanager
def executor_of(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The arguments of `sweep` that OPTIONS ask for: `executor` and `in_flight`, or none."""
    names = ("scheduler", "workers", "slurm")
    asked = [name for name in names if getattr(given, name, None) is not None]
    if len(asked) > 1:
        raise ValueError(f"Give --{' or --'.join(asked)}, not both: each says where runs are done.")
    if not asked:
        yield {}
    elif asked == ["slurm"]:
        yield slurm(given.slurm, Path(given.store) / "slurm")
    else:
        distributed = optional("distributed", "cluster")
        with ExitStack() as stack:
            if asked == ["scheduler"]:
                where = given.scheduler
            else:
                where = stack.enter_context(local_cluster(distributed, given.workers))
            client = stack.enter_context(_client(distributed, where))
            yield {"executor": client, "in_flight": sum(client.nthreads().values())}


def _client(distributed: Any, where: Any) -> Any:
    """Dask's client of a cluster or an address. OSError where no scheduler answers there, or has no
    worker."""
    if not isinstance(where, str):
        return distributed.Client(where)
    print(f"waiting for the scheduler {where}, {ANSWER_S} s at most", file=sys.stderr, flush=True)
    try:
        client = distributed.Client(where, timeout=ANSWER_S)
    except (OSError, ValueError) as error:
        advice = "start `dask scheduler` on one machine, and give the address that it prints."
        raise OSError(f"--scheduler {where}: none answers there ({error}); {advice}") from None
    if not client.nthreads():
        client.close()
        raise OSError(f"--scheduler {where} has no workers: `dask worker {where}` starts one.")
    return client


def local_cluster(distributed: Any, workers: int) -> Any:
    """Dask's workers on this machine, one run at a time each."""
    if workers < 1:
        raise ValueError(f"--workers {workers} is none: give 1 or more.")
    how = {"n_workers": workers, "threads_per_worker": 1, "processes": True, "memory_limit": 0}
    return distributed.LocalCluster(**how, dashboard_address=None)


def slurm(words: str, logs: Path) -> dict[str, Any]:
    """The arguments of `sweep` for `words` such as time=60,partition=gpu; submitit's files, which
    hold what each job printed, go into the folder `logs`."""
    pairs = [word.partition("=")[::2] for word in words.split(",") if word]
    asked = {choose("part of --slurm", name, [*SLURM, "jobs", "cluster"]): v for name, v in pairs}
    cluster, jobs = asked.pop("cluster", "slurm"), asked.pop("jobs", "8")
    if "time" not in asked:
        raise ValueError(f"--slurm {words}: give time=MINUTES, which a job may take at most.")
    numbers = [name for name in ("time", "cpus", "gpus", "memory") if name in asked]
    for name, text in (("jobs", jobs), *((name, asked[name]) for name in numbers)):
        if not text.isdecimal():
            raise ValueError(f"--slurm {name}={text}: give a whole number.")
    if cluster == "slurm" and not shutil.which("sbatch"):
        raise FileNotFoundError("--slurm needs sbatch: start this where jobs are submitted from.")
    executor = optional("submitit", "cluster").AutoExecutor(folder=logs, cluster=cluster)
    executor.update_parameters(
        name="effml", **{SLURM[n]: int(v) if n in numbers else v for n, v in asked.items()}
    )
    return {"executor": executor, "in_flight": int(jobs)}
