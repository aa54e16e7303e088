"""Other sweeps of the same store, here or on another machine: each run is done by one of them."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from effml.recipe import Recipe

AGAIN_S = 0.5
"""Until a run that another sweep does is asked for again."""


class Claims:
    """The runs that this sweep does: a locked file for each as long as it runs. The lock of a
    process that dies is free. On a disk without locks each sweep does all that it is asked for.

    Args:
        store: The folder of the records.
        own: The file that this sweep writes its records to.
        lacking: Which ids of the runs asked for the store lacks now.
    """

    def __init__(self, store: Path, own: Path, lacking: Callable[[], set[str]]) -> None:
        self.store, self.own, self.lacking, self.found = store, own, lacking, 0
        self._held: dict[str, FileLock] = {}
        self._later: dict[str, float] = {}  # when to ask again
        self._seen, self._lacking = self._records(), lacking()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for name in list(self._held):
            self.free(name)

    def take(self, recipe: Recipe) -> bool | None:
        """Whether it is ours to do now; None if another sweep has done it."""
        if time.monotonic() < self._later.get(recipe.id, 0.0):
            return False
        lock = FileLock(self._file(recipe.id), blocking=False, fallback_to_soft=False)
        try:
            lock.acquire()
        except Timeout:
            self._later[recipe.id] = time.monotonic() + AGAIN_S
            return False
        except (OSError, NotImplementedError):  # no locks here
            return True
        self._held[recipe.id] = lock
        if (seen := self._records()) != self._seen:
            self._seen, self._lacking = seen, self.lacking()
        if recipe.id in self._lacking:
            return True
        self.free(recipe.id)
        self.found += 1
        return None

    def free(self, name: str) -> None:
        """Its record is written, or nobody does it any more."""
        if lock := self._held.pop(name, None):
            with suppress(OSError):  # Windows removes no open file
                os.unlink(self._file(name))
            lock.release()

    def _file(self, name: str) -> Path:
        return self.store / f".{name}.lock"

    def _records(self) -> dict[str, int]:
        """How many bytes of records the others have written."""
        files = (file for file in self.store.glob("runs-*.jsonl") if file != self.own)
        return {file.name: file.stat().st_size for file in files}
