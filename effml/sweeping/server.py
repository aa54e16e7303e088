"""`python -m effml.sweeping.server`: a line of JSON in, a job; a line out, its record. It has
imported torch and timm, computes nothing and touches no CUDA: a fork is a fresh process in 0.1 s.
Without forks (as on macOS, whose frameworks do not survive one) each job gets a new Python."""

import json
import math
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TextIO

from effml.machine import out_of_memory, print_anything
from effml.metering.memory import held_bytes

WATCH_S, LOOK_S = 0.02, (0.1, 2.0)
"""Seconds between two glances at a job's memory; and two looks at it, in doubt and without."""

DAY_S = 86_400.0
"""The longest wait: select takes no number of any size."""


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints goes to the error stream, not between the records
    print_anything()
    do = _done
    if "--once" not in sys.argv:
        do = _forked
        _import_all()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who asked
    for line in iter(sys.stdin.readline, ""):
        job = json.loads(line)
        if do is _done:
            _end_in_time(job, answers)
        answer = json.dumps(do(job)) + "\n"
        with suppress(BrokenPipeError):  # the asker was killed: standard input ends too
            answers.write(answer)
            answers.flush()
    os._exit(0)  # nothing to tidy up, and torch takes long to


def _import_all() -> None:
    """What every run needs; importing computes nothing."""
    import scipy.stats  # noqa: F401
    import torch.utils.flop_counter  # noqa: F401

    import effml.experiment  # noqa: F401
    from effml.machine import import_timm

    import_timm()


def _forked(job: dict[str, Any]) -> dict[str, Any]:
    """The record of one job, done in a fork; what killed the fork, if something did."""
    from effml.sweeping.turns import Turns  # needs what Windows has not

    began, seconds_left = time.monotonic(), _limit(job)
    if seconds_left(0.0) <= 0:
        return _over(job)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _child(job, writing)
    os.close(writing)
    answer, chunk = b"", b"-"
    held = Held(child, job["memory_bytes"]) if "memory_bytes" in job else None
    with Turns(child, _takes_turns(job)) as turns:
        while chunk:
            left = seconds_left(time.monotonic() - began - turns.stood_s)
            if left <= 0:
                break
            if held and held.too_much():
                break
            soon = min(turns.next() or left, left, WATCH_S if held else DAY_S)
            ready = select.select([reading, 0], [], [], soon)[0]
            if not ready:
                continue
            if reading not in ready:
                # no job comes before this one's answer, so standard input has ended: the asker is
                # gone
                os.kill(child, signal.SIGKILL)
                os._exit(1)
            chunk = os.read(reading, 1 << 16)
            answer += chunk
    os.close(reading)
    if chunk:  # its answer is not complete, and its time is over
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        answer = _too_large(held) if held and held.peak > held.most else _over(job)
        return answer | (held.column() if held else {})
    _, status = os.waitpid(child, 0)
    if status == 0:
        told = {"turns_seconds": turns.stood_s} | (held.column() if held else {})
        return json.loads(answer) | told
    code = os.waitstatus_to_exitcode(status)
    reason = f"The process ended with exit status {code} and no record."
    if code < 0:
        reason = f"The process was killed by signal {-code} ({signal.strsignal(-code)})."
    if code == -signal.SIGKILL:
        reason += " If memory ran out, use a smaller batch_size, size or model."
    return {"status": "failed", "reason": f"{reason} The next sweep does it again."}


def _limit(job: dict[str, Any]) -> Callable[[float], float]:
    """What says how many seconds a job has left when it has had so many: of its time-out, and of
    the sweep's deadline on the clock."""
    timeout, deadline = (job.get(name) or math.inf for name in ("timeout_s", "deadline"))
    return lambda had: min(timeout - had, deadline - time.time())


def _over(job: dict[str, Any]) -> dict[str, Any]:
    """The record of a job whose time is over; of one that the deadline ended none is made."""
    if time.time() >= (job.get("deadline") or math.inf):
        told = "max_hours is over; it goes on from its last checkpoint, if it had reached one"
        return {"status": "left out", "reason": told}
    limit = job["timeout_s"]
    reason = f"It took longer than timeout_s={limit:g}. Give it more: it goes on from its last "
    reason += "checkpoint, if it had reached one."
    return {"status": "timed out", "reason": reason, "timeout_s": limit}


class Held:
    """The bytes that a job's process, this one and the asker hold together, and may hold at `most`.
    Counting shared pages once takes some 20 ms: it is done when the job's process has grown by a
    twentieth or might have too much, and now and then (`LOOK_S`)."""

    def __init__(self, child: int, most: float) -> None:
        self.pids, self.most, self.peak = (os.getppid(), os.getpid(), child), most, 0.0
        self.last, self.high = (0.0, 0, -math.inf), 0  # all and the child's, when; its most so far

    def too_much(self) -> bool:
        """Look, and say whether it is more than may be."""
        rss, now, (held, had, then) = self._child(), time.monotonic(), self.last
        doubt = rss > 1.05 * self.high or held + rss - had > self.most
        if now - then > LOOK_S[not doubt]:
            held, had, doubt = held_bytes(*self.pids), rss, False
            self.last, self.high = (held, had, now), max(self.high, rss)
        if not doubt:
            self.peak = max(self.peak, held + rss - had)
        return self.peak > self.most

    def _child(self) -> int:
        with suppress(OSError, IndexError):
            pages = Path(f"/proc/{self.pids[-1]}/statm").read_text().split()[1]
            return os.sysconf("SC_PAGE_SIZE") * int(pages)
        return 0  # it has ended

    def column(self) -> dict[str, float]:
        return {"together_peak_bytes": self.peak}


def _too_large(held: Held) -> dict[str, Any]:
    """The record of a job that made all of them hold more memory than was allowed."""
    told = f"With its helpers it held {held.peak / 1e6:.0f} MB, and {held.most / 1e6:.0f} MB were "
    return {"status": "over memory", "reason": told + "allowed: use a smaller batch_size or model."}


def _end_in_time(job: dict[str, Any], answers: TextIO) -> None:
    """Where there is no fork, and so no parent that could: a thread which answers for a job whose
    time is over, and ends it."""

    def end() -> None:
        answers.write(json.dumps(_over(job)) + "\n")
        answers.flush()
        os._exit(0)

    left = _limit(job)(0.0)
    if left < math.inf:
        timer = threading.Timer(max(left, 0.0), end)
        timer.daemon = True
        timer.start()


def _takes_turns(job: dict[str, Any]) -> bool:
    from effml.sweeping.turns import needs_turns

    threads = job["recipe"].get("threads")
    if not threads:
        import torch

        threads = torch.get_num_threads()
    return needs_turns(threads, job.get("device", "auto"))


def _child(job: dict[str, Any], writing: int) -> None:
    """Do the job and end, without the parent's exit handlers."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _limit_memory()
        answer = json.dumps(_done(job)).encode()
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _done(job: dict[str, Any]) -> dict[str, Any]:
    """The record of a job; it is done here."""
    from effml.experiment import run
    from effml.recipe import Recipe
    from effml.results import plain_row

    for name in [name for name in os.environ if name.startswith("EFFML_")]:
        del os.environ[name]
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    try:
        recipe = Recipe.from_dict(job["recipe"])
    except ValueError as error:  # a strategy that was registered in the asker's process alone
        told = "A fresh process knows what is in effml's files; effml.run knows yours too."
        return {"status": "not built", "reason": f"{error} {told}"}
    with ExitStack() as stack:
        company = None
        with suppress(ImportError, OSError):  # Windows, or no place for its file: unknown
            from effml.sweeping.turns import Company

            company = stack.enter_context(Company())
        row = run(
            recipe,
            **{n: job[n] for n in ("device", "store", "keep_weights")},
            until=job.get("until") or math.inf,
        )
        row.update(shared_machine=company and int(company.met()))
    return plain_row(row)


def _limit_memory() -> None:
    """Running out of memory shall end this run, not the notebook or the machine: allocations beyond
    what is available fail, and if the system must choose, it kills this process first."""
    import resource

    from effml.machine import available_memory_bytes

    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    available = available_memory_bytes()
    gpu = any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg")))  # CUDA reserves much
    if not gpu:
        lines = Path("/proc/self/status").read_text().splitlines()
        used = 1024 * int(next(x.split()[1] for x in lines if x.startswith("VmData")))
        resource.setrlimit(resource.RLIMIT_DATA, (used + available, resource.RLIM_INFINITY))


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        if not out_of_memory(error):
            raise
        sys.exit(
            f"memory ran out before a run began ({error or 'MemoryError'}): close other programs"
        )
