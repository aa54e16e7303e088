"""Public files over poor networks: what lies here is used, else mirrors are asked in order, and only bytes with the right MD5
get a file's final name.

Mirrors of your own stand in `EFFML_MIRROR`, separated by commas: a computer in the same room, such as
http://192.168.1.5:8000, or a folder, such as a USB stick.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from effml.data import catalogue
from effml.data.catalogue import RemoteFile, valid
from effml.data.load import is_phantom
from effml.data.transfer import Patience, Progress, Unusable, bytes_of, insist, size_at


def fetch(
    name: str,
    *,
    size: int = 28,
    root: str | os.PathLike | None = None,
    dry_run: bool = False,
    quiet: bool = False,
) -> list[Path]:
    """Get the public files of a set, if they are not here yet, into the first of `folders(root)`; where they lie.

    A valid copy on this machine is used whatever the network says. A dry run says what would be fetched, in MB, and returns
    where it would lie. A phantom has no files. Raises ValueError (no such set or size), ConnectionError (what each mirror
    said, and the way by hand) and OSError (disk full or not writable).
    """
    lacking = missing(name, size=size, root=root)
    if not lacking:
        return local_files(name, size=size, root=root)
    folder = catalogue.folders(root)[0]
    if dry_run:
        for file in lacking:
            print(f"{folder / file.path}: {megabytes(*bytes_to_get(file, folder))} to get")
        return [folder / file.path for file in catalogue.remote_files(name, size=size)]
    try:
        return [
            download(file, folder, quiet=quiet) for file in catalogue.remote_files(name, size=size)
        ]
    except ConnectionError as error:
        raise ConnectionError(f"{error}\n{catalogue.advice(name, lacking, root)}") from None


def missing(
    name: str, *, size: int = 28, root: str | os.PathLike | None = None
) -> list[RemoteFile]:
    """The public files of a set which are not on this machine with the right MD5. Raises ValueError for an unknown set."""
    remote = catalogue.remote_files(name, size=size)
    if is_phantom(name) or local_files(name, size=size, root=root):
        return []
    if not remote:
        raise ValueError(
            f"{name!r} is no set with public files. Choose from: "
            f"{', '.join([*catalogue.medmnist_info(), 'mnist'])}"
        )
    return [file for file in remote if not valid(catalogue.folders(root)[0] / file.path, file)]


def local_files(name: str, *, size: int = 28, root: str | os.PathLike | None = None) -> list[Path]:
    """The files of a set on this machine, if all are here with the right MD5; else none."""
    remote = catalogue.remote_files(name, size=size)
    try:
        place = catalogue.find(name, size=size, root=root)
    except (FileNotFoundError, ValueError):  # not here, or damaged
        return []
    paths = [place / Path(file.path).name for file in remote] if place.is_dir() else [place]
    return paths if all(map(valid, paths, remote)) else []


def bytes_to_get(file: RemoteFile, folder: Path, *, ask: bool = True) -> tuple[int, bool]:
    """Bytes of a file still to transfer, and whether a mirror said so; else what they cannot exceed."""
    have = bytes_of(_part(folder / file.path))
    asked = (size_at(address, file) for mirror in _addresses(file) for address in mirror if ask)
    said = next(filter(None, asked), None)
    return max((said or file.at_most_bytes) - have, 0), said is not None


def megabytes(count: int, exact: bool) -> str:
    return f"{count / 1e6:.1f} MB" if exact else f"at most {count / 1e6:.1f} MB (unpacked size)"


def download(
    file: RemoteFile, folder: Path, *, patience: Patience = Patience(), quiet: bool = False
) -> Path:
    """Get one file below `folder` from the first mirror of `EFFML_MIRROR` or `file.urls` that has it; its final path.

    With EFFML_OFFLINE only folders among the mirrors are asked. Processes that want the same file at the same time wait for
    the first of them. Raises ConnectionError (what each mirror said) and OSError (disk full or not writable).
    """
    final = folder / file.path
    if valid(final, file):
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(final.parent, os.W_OK):
        raise PermissionError(
            f"{final.parent} cannot be written to. Give another folder with --root, or root=… in Python."
        )
    show, said = Progress(final.name, quiet), []
    with _alone(final, show):
        if valid(final, file):  # another process got it while we waited
            return final
        for mirror in _addresses(file):
            for address in mirror:
                try:
                    insist(address, _part(final), file, patience, show)
                except Unusable as error:
                    said.append(f"- {address}: {error}")
                    show.say(str(error))
                    if error.missing:
                        continue
                    break
                os.replace(_part(final), final)
                return final
    if kept := bytes_of(_part(final)):
        said.append(f"{kept / 1e6:.1f} MB are kept: the next try goes on from there.")
    raise ConnectionError(
        "\n".join([f"{final.name} could not be fetched. What each mirror said:", *said])
    )


def _addresses(file: RemoteFile) -> list[list[str]]:
    """Whom to ask, in order: for each mirror the addresses which the file may have there."""
    mirrors = [
        word
        for part in map(str.strip, os.environ.get("EFFML_MIRROR", "").split(","))
        if part
        for word in ([part] if Path(part).expanduser().is_dir() else part.split())
    ]  # a stick may be named MY DISK
    ways = dict.fromkeys((Path(file.path).name, file.path))
    return [[f"{mirror.rstrip('/')}/{way}" for way in ways] for mirror in mirrors] + [
        [url] for url in file.urls
    ]


def _part(final: Path) -> Path:
    return final.with_name(f"{final.name}.part")


@contextmanager
def _alone(final: Path, show: Progress) -> Iterator[None]:
    """One process at a time. The system itself lets go of the lock when a process is killed."""
    lock = FileLock(f"{final}.lock")
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        show.say("another process is getting it; waiting")
        held = lock.acquire()
    with held:
        try:
            yield
        finally:
            with suppress(OSError):  # Windows does not remove open files
                os.unlink(lock.lock_file)
