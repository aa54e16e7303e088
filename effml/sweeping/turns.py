"""Runs that would hinder each other take turns: each has the CPUs to itself for a moment. And runs
that were on one machine at one time know of each other."""

import fcntl
import os
import secrets
import signal
import tempfile
import time
from contextlib import suppress
from typing import Self

SLICE_S = 0.2  # ResNet-18 and LeNet-5: 1.6 to 2 times as long as alone; at 0.05 s up to 2.3
POLL_S = 0.002


def needs_turns(threads: int, device: str) -> bool:
    """Whether two runs like this one have more threads than there are CPUs for them."""
    gpu = device != "cpu" and (device == "cuda" or os.path.exists("/dev/nvidiactl"))
    return threads > 1 and 2 * threads > len(os.sched_getaffinity(0)) and not gpu


class Turns:
    """The turns of a process `pid`, which stands still while it is another's. Two threads on two
    CPUs wait for each other at every operation: beside another run's, each waits for a CPU too (in
    LeNet-5's training 6 times as long as alone); in turns it is twice, and what is measured is
    clean. Who waits stands in a queue of one; the lock of a process that dies is free.

    Args:
        pid: The process, which is a child of this one.
        needed: False: it has the CPUs all the time.
    """

    def __init__(self, pid: int, needed: bool) -> None:
        self.pid, self.needed = pid, needed
        self.stood_s, self._since = 0.0, None  # seconds it stood still; when that began

    def __enter__(self) -> Self:
        if self.needed:
            (self._turn, self._queue), self._queued = open_locks(), False
            self._stop()
        return self

    def __exit__(self, *error: object) -> None:
        if self.needed:
            self._go_on()
            os.close(self._turn), os.close(self._queue)

    def next(self) -> float | None:
        """Give the turn to who waits for it, or take it if it is free. Seconds till this is to be
        called again; None for never."""
        if not self.needed:
            return None
        if self._since is None:
            if _lock(self._queue):
                fcntl.flock(self._queue, fcntl.LOCK_UN)
                return SLICE_S  # nobody waits
            self._stop()
            fcntl.flock(self._turn, fcntl.LOCK_UN)
            return POLL_S
        self._queued = self._queued or _lock(self._queue)
        if not (self._queued and _lock(self._turn)):
            return POLL_S
        fcntl.flock(self._queue, fcntl.LOCK_UN)
        self._queued = False
        self._go_on()
        return SLICE_S

    def _stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        self._since = time.monotonic()

    def _go_on(self) -> None:
        if self._since is not None:
            self.stood_s += time.monotonic() - self._since
            self._since = None
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)


def open_locks() -> tuple[int, int]:
    """Files for who has the turn and for who is next, of one user and these CPUs."""
    cpus = sum(1 << cpu for cpu in os.sched_getaffinity(0))
    name = os.path.join(tempfile.gettempdir(), f"effml-{os.getuid()}-{cpus:x}")
    how = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(f"{name}-turn", how, 0o600), os.open(f"{name}-next", how, 0o600)


def _lock(file: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


class Company:
    """Whether other runs of this user are on this machine while this process is inside; one at a
    time in a process. Each locks a byte of its own of one file, and adds one to the end of it: a
    whole file that cannot be locked has others in it, and one that grew had."""

    def __enter__(self) -> Self:
        name = os.path.join(tempfile.gettempdir(), f"effml-{os.getuid()}-runs")
        how = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(name, how, 0o600)
        self._begun = os.fstat(self._file).st_size  # before the lock: who locks later adds later
        self._mine = 1 + secrets.randbelow(2**62)
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, self._mine)
        os.write(self._file, b"-")
        self._met = self._others_now()
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._file)  # and with it the lock

    def met(self) -> bool:
        """Whether there was one so far."""
        return self._met or os.fstat(self._file).st_size > self._begun + 1

    def _others_now(self) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.lockf(self._file, fcntl.LOCK_UN, self._mine)  # all but the byte that is ours
        fcntl.lockf(self._file, fcntl.LOCK_UN, 0, self._mine + 1)
        return False
