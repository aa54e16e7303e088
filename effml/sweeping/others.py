"""Other sweeps of the same store, here or on another machine: each run is done by one of them."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from effml.recipe import Recipe

if TYPE_CHECKING:
    from filelock import FileLock

AGAIN_S = 0.5
"""Until a run that another sweep does is asked for again."""


def lock(file: Path) -> "FileLock | bool":
    """The lock of a file, which whatever ends this process frees; False where it is another's, and
    True on a disk without locks."""
    from filelock import FileLock, Timeout

    # others of a shared folder must be able to open the file, whoever made it
    ours = FileLock(file, mode=0o666, blocking=False, fallback_to_soft=False)
    try:
        ours.acquire()
    except Timeout:
        return False
    except (OSError, NotImplementedError):
        return True
    return ours


def unlock(held: "FileLock | bool") -> None:
    """Free it, and remove its file."""
    if not isinstance(held, bool):
        with suppress(OSError):  # Windows removes no open file
            os.unlink(held.lock_file)
        held.release()


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
        held = lock(self.store / f".{recipe.id}.lock")
        if isinstance(held, bool):
            if not held:
                self._later[recipe.id] = time.monotonic() + AGAIN_S
            return held
        self._held[recipe.id] = held
        if (seen := self._records()) != self._seen:
            self._seen, self._lacking = seen, self.lacking()
        if recipe.id in self._lacking:
            return True
        self.free(recipe.id)
        self.found += 1
        return None

    def free(self, name: str) -> None:
        """Its record is written, or nobody does it any more."""
        unlock(self._held.pop(name, False))

    def _records(self) -> dict[str, int]:
        """How many bytes of records the others have written."""
        files = (file for file in self.store.glob("runs-*.jsonl") if file != self.own)
        return {file.name: file.stat().st_size for file in files}
