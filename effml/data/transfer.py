"""One file from one address into `<file>.part`: resumed after a break, held to its size and MD5.

The standard library is enough: pooch knows no resume, no list of mirrors and no jitter.
"""

import hashlib
import os
import random
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse, InvalidURL
from io import BufferedReader
from pathlib import Path
from urllib import request
from urllib.error import HTTPError, URLError

from effml import __version__
from effml.data.catalogue import RemoteFile
from effml.machine import offline

Stream = HTTPResponse | BufferedReader
BLOCK = 1 << 16  # bytes
STEP = 1 << 20  # bytes: a try that brought so many is no failure, for a bad line may break often
TRIES = 4  # that bring less than a STEP
PAUSE = 1.0  # s before the second try; doubles, with jitter so that a class spreads out
LONGEST = 60.0  # s that a busy server may ask us to stay away (Retry-After)
SILENCE = 20.0  # s without a byte


class Unusable(Exception):
    """This address cannot help; another may."""


class Interrupted(Exception):
    """This address may help if it is asked again, `wait` seconds later; with `restart` from the
    beginning."""

    def __init__(self, why: str, *, wait: float = 0.0, restart: bool = False) -> None:
        super().__init__(why)
        self.wait, self.restart = wait, restart


class Progress:
    """MB, rate and time left on stderr: on a terminal one line kept up to date, else a line for
    every tenth, and none for what is done in two seconds."""

    SHORT = 2.0  # seconds

    def __init__(self, what: str, quiet: bool) -> None:
        self.what, self.quiet, self.live, self.stage = what, quiet, sys.stderr.isatty(), 0.0

    def begin(self, have: int) -> None:
        self.start, self.since = have, time.monotonic()

    def __call__(self, have: int, total: int | None) -> None:
        now = time.monotonic()
        stage = now // 0.2 if self.live else 10 * have // (total or 10 * STEP)
        if stage == self.stage and have != total or not self.live and now - self.since < self.SHORT:
            return
        self.stage = stage
        rate = (have - self.start) / max(now - self.since, 1e-3)
        whole = f"of {total / 1e6:.1f} MB, {_span((total - have) / rate)} left" if total else "MB"
        end = "\r" if self.live and have != total else "\n"
        self.say(f"{have / 1e6:.1f} {whole}, {rate / 1e6:.2f} MB/s", end)

    def say(self, text: str, end: str = "\n") -> None:
        if not self.quiet:
            line = f"{self.what}: {text}".ljust(78 if self.live else 0)
            print(line, end=end, file=sys.stderr, flush=True)


def _span(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def insist(address: str, part: Path, file: RemoteFile, show: Progress) -> None:
    """Bring `part` to the bytes of `file`, asking `address` again as long as that makes sense.

    Raises Unusable if that does not help, and OSError if the disk is full.
    """
    tries, best = 0, bytes_of(part)
    while not bytes_of(part) or _md5(part) != file.md5:
        try:
            return _transfer(address, part, file, show)
        except Interrupted as error:
            if error.restart:
                part.unlink(missing_ok=True)
            have = bytes_of(part)
            tries, best = (1, have) if have >= best + STEP else (tries + 1, best)
            if tries >= TRIES:
                raise Unusable(f"{error} ({tries} tries)") from None
            wait = error.wait + PAUSE * 2 ** (tries - 1) * random.uniform(0.5, 1.5)
            show.say(f"{error}; again in {wait:.0f} s")
            time.sleep(wait)


def bytes_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _transfer(address: str, part: Path, file: RemoteFile, show: Progress) -> None:
    # no file is larger than its arrays unpacked, but for headers and labels
    have, most = bytes_of(part), int(file.at_most_bytes * 1.05) + 1_000_000
    if have > most:
        part.unlink()
        have = 0
    with _network():
        stream = _open(address, have)
    with stream:
        start, total = _extent(stream, have)
        size = f"{(total or 0) / 1e6:.1f} MB"
        if total is not None and total > most:
            raise Unusable(f"it announces {size}, but the file has at most {most / 1e6:.1f} MB")
        free, needed = shutil.disk_usage(part.parent).free, (total or have) - have
        if needed > free:
            raise OSError(
                f"{part.parent} has {free / 1e6:.1f} MB free, but {file.path} needs "
                f"{needed / 1e6:.1f} MB. Make room, or choose a folder on another disk with "
                "--root, or root=… in Python."
            )
        have = start
        show.begin(have)
        with open(part, "ab" if start else "wb") as out:
            while have <= most:
                with _network():
                    block = stream.read1(BLOCK)
                if not block:
                    break
                out.write(block)
                have += len(block)
                show(have, total)
            out.flush()
            os.fsync(out.fileno())
    if have > most:
        part.unlink()
        raise Unusable(f"it sends more than the {most / 1e6:.1f} MB that the file can have")
    if total is not None and have < total:
        raise Interrupted(f"the connection ended after {have / 1e6:.1f} of {size}")
    if (found := _md5(part)) != file.md5:
        part.unlink()
        why = f"the MD5 of what it sent is {found}, but must be {file.md5}"
        # once more where bytes from before may be at fault, or the end may have got lost unnoticed
        raise Interrupted(why) if start or total is None else Unusable(why)


def _open(address: str, have: int) -> Stream:
    """Ask for the bytes from `have` on."""
    if not re.match("https?://", address):
        if not (path := Path(address).expanduser()).is_file():
            raise Unusable("neither a file here nor an address with http:// or https://")
        return open(path, "rb")
    if offline():
        raise Unusable("not asked, because EFFML_OFFLINE is set: unset it to ask")
    asked = request.Request(address, headers={"User-Agent": f"effml/{__version__}"})
    if have:
        asked.add_header("Range", f"bytes={have}-")
    return request.build_opener().open(asked, timeout=SILENCE)


def _extent(stream: Stream, have: int) -> tuple[int, int | None]:
    """Where the bytes of an answer start, `have` or 0, and how many the whole file has, None where
    it is not said."""
    if isinstance(stream, BufferedReader):
        stream.seek(have)
        return have, os.fstat(stream.fileno()).st_size
    if stream.headers.get_content_type() == "text/html":
        raise Unusable("it sends a web page: does this network want you to log in first?")
    if stream.status == 200:
        length = stream.headers["Content-Length"] or ""
        return 0, int(length) if re.fullmatch("[0-9]{1,15}", length) else None
    if stream.status != 206:
        raise Unusable(f"HTTP {stream.status} {stream.reason}")
    said = stream.headers["Content-Range"]
    given = re.fullmatch("bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15}|[*])", said or "")
    if not given or int(given[1]) != have:
        why = f"asked for the bytes from {have} on, it sends Content-Range {said}"
        raise Interrupted(why, restart=True)
    return have, int(given[2]) + 1 if given[3] == "*" else int(given[3])


@contextmanager
def _network() -> Iterator[None]:
    """What goes wrong in here, as Interrupted if another try makes sense, else as Unusable."""
    try:
        yield
    except HTTPError as error:
        error.close()
        why, after = f"HTTP {error.code} {error.reason}", error.headers["Retry-After"] or ""
        wait = float(after) if after.isdecimal() else 0.0  # dates are not understood
        if error.code == 416:
            raise Interrupted(why, restart=True) from None
        if error.code not in (408, 425, 429) and error.code < 500:
            raise Unusable(why) from None
        if wait > LONGEST:
            raise Unusable(f"{why}: come back in {wait:.0f} s") from None
        raise Interrupted(why, wait=wait) from None
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        lasting = (ConnectionRefusedError, InvalidURL, ValueError, str)  # ValueError: certificates
        kind = Unusable if isinstance(reason, lasting) else Interrupted
        raise kind(f"{reason}" or type(reason).__name__) from None


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.new("md5", usedforsecurity=False))
    return md5.hexdigest()
