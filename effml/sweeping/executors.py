"""How a run gets a fresh process: a server which has imported torch forks one child per run. It is
an ordinary subprocess: a notebook, a script without a main guard and a Dask worker may start it."""

import atexit
import json
import os
import platform
import select
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from effml.metering import measure
from effml.metering.waiting import BUSY

FORKS = sys.platform == "linux"
SERVER = [sys.executable, "-m", "effml.sweeping.server"]  # --once: it does the one job itself


class Here:
    """Runs each job at once, in this process's server, and returns when it has ended."""

    def submit(self, function: Any, argument: Any, /) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(argument))
        except Exception as error:
            future.set_exception(error)
        return future


def _waits() -> dict[str, str]:
    """Where each run has a new Python, its threads sleep instead of spinning if another program is
    busy when it starts. A fork sees to it itself, at any time (`effml.metering.waiting`)."""
    if FORKS:
        return {}
    with measure() as cost:
        time.sleep(0.1)
    return {"OMP_WAIT_POLICY": "passive"} if cost.others_cpu > BUSY else {}


class Server:
    """A `python -m effml.sweeping.server`: a line of JSON in, one out."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._process = subprocess.Popen(
            SERVER if FORKS else [*SERVER, "--once"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**_waits(), **os.environ},
            process_group=0,  # else a Jupyter kernel that shuts down ends it first, and waits 2 s
        )

    def usable(self) -> bool:
        """Whether it lives and is this process's own, not inherited through a fork."""
        return self.owner == os.getpid() and self._process.poll() is None

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """The record of a job. RuntimeError where the server has died, or has no answer at the
        job's `answer_by`, in seconds of the epoch: one that still imports torch, say."""
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            if not FORKS or self._answers(job.get("answer_by")):
                answer = self._process.stdout.readline()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)  # with the run in progress
                answer = ""
        except OSError:
            answer = ""
        if not answer:
            raise RuntimeError(
                f"The process that runs recipes has ended (exit status {self._process.wait()}). "
                "Call sweep again: it goes on with what is left."
            )
        return json.loads(answer)

    def _answers(self, by: float | None) -> bool:
        left = None if by is None else max(by - time.time(), 0.0)
        return bool(select.select([self._process.stdout], [], [], left)[0])

    def close(self) -> None:
        """The end of its input ends the server, and the run in progress with it."""
        with suppress(OSError):  # it is dead already
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.stdout.close()


_idle: list[Server] = []  # a server outlives its job: importing torch takes seconds


def run_fresh(job: dict[str, Any]) -> dict[str, Any]:
    """Do one job in a fresh process and return its record. RuntimeError if the server dies,
    FileNotFoundError on a worker without the store."""
    _see(job)
    try:
        server = _idle.pop()  # each thread takes its own
    except IndexError:
        server = None
    if not (server and server.usable()):
        server = Server()
    try:
        answer = server.run(job)
    except BaseException:  # also Ctrl-C: its answer would be read as the next job's
        server.close()
        raise
    if FORKS:
        _idle.append(server)
    else:
        server.close()
    return answer


def _see(job: dict[str, Any]) -> None:
    """Else a run would leave its arrays and weights on a disk that only this worker has."""
    records = os.path.join(job["store"], job["records"])
    if not (os.path.isfile(records) and os.path.isdir(job["folder"])):
        raise FileNotFoundError(
            f"The worker on {platform.node()} lacks the store or the folder that you started in. "
            "Every worker must find both under the same path as you: use a disk that all share."
        )


def warm_up() -> None:
    """Start the process that the next `sweep` uses, which takes seconds to import torch, while the
    caller goes on.

    Returns:
        Nothing.

    Example:
        >>> effml.warm_up()
    """
    if FORKS and not _idle:
        _idle.append(Server())


@atexit.register
def close_servers() -> None:
    """End the idle servers of this process."""
    while _idle:
        server = _idle.pop()
        if server.owner == os.getpid():
            server.close()
