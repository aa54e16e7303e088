"""Public files over poor networks: what lies here is used, else mirrors are asked in order, first
those in `EFFML_MIRROR` (addresses or folders, separated by commas), and only bytes with the right
MD5 get a file's final name."""

import os
from pathlib import Path

from effml.data.catalogue import RemoteFile, public, remote_files
from effml.data.load import is_phantom
from effml.data.places import advice, find, folders, valid
from effml.data.transfer import Progress, Unusable, bytes_of, insist
from effml.machine import choose


def fetch(
    name: str,
    *,
    size: int = 28,
    root: str | os.PathLike | None = None,
    dry_run: bool = False,
    quiet: bool = False,
) -> list[Path]:
    """Get the public files of a data set, if they are not on this machine yet.

    With `EFFML_OFFLINE` no address is asked but the folders in `EFFML_MIRROR`.

    Args:
        name: a MedMNIST set or `mnist`; a phantom has no files.
        size: the variant, in pixels.
        root: the folder to put them into; None: the first of `EFFML_DATA`, `data/` and others.
        dry_run: only say what would be fetched, in MB.
        quiet: without progress on stderr.

    Returns:
        Where the files lie (or would lie).

    Raises:
        ValueError: no such set or size.
        ConnectionError: what each mirror said, and the way by hand.
        OSError: the disk is full or not writable.

    Example:
        >>> effml.fetch("phantom-chest")
        []
    """
    lacking = missing(name, size=size, root=root)
    if not lacking:
        return local_files(name, size=size, root=root)
    files, folder = remote_files(name, size=size), folders(root)[0]
    if dry_run:
        print(f"{megabytes(lacking)} to get into {folder}")
        return [folder / file.path for file in files]
    try:
        return [download(file, folder, quiet=quiet) for file in files]
    except ConnectionError as error:
        raise ConnectionError(f"{error}\n{advice(name, lacking, root)}") from None


def missing(
    name: str, *, size: int = 28, root: str | os.PathLike | None = None
) -> list[RemoteFile]:
    """The public files of a set which are not on this machine with the right MD5."""
    remote = remote_files(name, size=size)
    if is_phantom(name) or local_files(name, size=size, root=root):
        return []
    if not remote:
        choose("public set", name, public())
    return [file for file in remote if not valid(folders(root)[0] / file.path, file)]


def local_files(name: str, *, size: int = 28, root: str | os.PathLike | None = None) -> list[Path]:
    """The files of a set on this machine, if all are here with the right MD5; else none."""
    remote = remote_files(name, size=size)
    try:
        place = find(name, size=size, root=root)
    except (FileNotFoundError, ValueError):  # not here, or damaged
        return []
    paths = [place / Path(file.path).name for file in remote] if place.is_dir() else [place]
    return paths if all(map(valid, paths, remote)) else []


def megabytes(files: list[RemoteFile]) -> str:
    """How much files may be, unpacked; packed they are smaller."""
    return f"at most {sum(file.at_most_bytes for file in files) / 1e6:.1f} MB"


def download(file: RemoteFile, folder: Path, *, quiet: bool = False) -> Path:
    """Get one file below `folder` from the first mirror that has it; its final path. Processes that
    want the same file wait for the first of them."""
    from filelock import FileLock

    final = folder / file.path
    if valid(final, file):
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(final.parent, os.W_OK):
        other = "Give another folder with --root, or root=… in Python."
        raise PermissionError(f"{final.parent} cannot be written to. {other}")
    show, said, part = Progress(final.name, quiet), [], final.with_name(f"{final.name}.part")
    # the system itself lets go of the lock when a process is killed
    with FileLock(final.with_name(f".{final.name}.lock")):
        if valid(final, file):  # another process got it while we waited
            return final
        for address in _addresses(file):
            try:
                insist(address, part, file, show)
                os.replace(part, final)
                return final
            except Unusable as error:
                said.append(f"- {address}: {error}")
                show.say(str(error))
    if kept := bytes_of(part):
        said.append(f"{kept / 1e6:.1f} MB are kept: the next try goes on from there.")
    first = f"{final.name} could not be fetched. What each mirror said:"
    raise ConnectionError("\n".join([first, *said]))


def _addresses(file: RemoteFile) -> list[str]:
    """Whom to ask, in order: your mirrors, where the file may lie with or without its folder."""
    mirrors = filter(None, map(str.strip, os.environ.get("EFFML_MIRROR", "").split(",")))
    ways = dict.fromkeys((Path(file.path).name, file.path))
    return [f"{mirror.rstrip('/')}/{way}" for mirror in mirrors for way in ways] + [*file.urls]
