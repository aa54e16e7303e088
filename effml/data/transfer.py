"""One file from one address into `<file>.part`: resumed after a break, held to its size and MD5."""

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
SILENCE = 20.0  # s without a byte


class Unusable(Exception):
    """This address cannot help; another may."""


class Interrupted(Exception):
    """This address may help if it is asked again."""


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
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def insist(address: str, part: Path, file: RemoteFile, show: Progress) -> None:
    """Bring `part` to the bytes of `file`, asking `address` as long as that makes sense."""
    tries, best = 0, bytes_of(part)
    while not bytes_of(part) or _md5(part) != file.md5:
        try:
            return _transfer(address, part, file, show)
        except Interrupted as error:
            have = bytes_of(part)
            tries, best = (1, have) if have >= best + STEP else (tries + 1, best)
            if tries >= TRIES:
                raise Unusable(f"{error} ({tries} tries)") from None
            wait = PAUSE * 2 ** (tries - 1) * random.uniform(0.5, 1.5)
            show.say(f"{error}; again in {wait:.0f} s")
            time.sleep(wait)


def bytes_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _transfer(address: str, part: Path, file: RemoteFile, show: Progress) -> None:
    # no file is larger than its arrays unpacked, but for headers and labels
    most = int(file.at_most_bytes * 1.05) + 1_000_000
    with _network(part):
        stream = _open(address, bytes_of(part))
    with stream:
        have, total = _extent(stream, part)
        free, needed = shutil.disk_usage(part.parent).free, min(total or have, most) - have
        if needed > free:
            raise OSError(
                f"{part.parent} has {free / 1e6:.1f} MB free, but {file.path} needs "
                f"{needed / 1e6:.1f} MB. Make room, or choose another folder with --root, or root=…"
            )
        show.begin(start := have)
        with open(part, "ab" if start else "wb") as out:
            while have <= most:
                with _network(part):
                    block = stream.read1(BLOCK)
                if not block:
                    break
                out.write(block)
                have += len(block)
                show(have, total)
            out.flush()
            os.fsync(out.fileno())
    if total is not None and have < min(total, most):
        raise Interrupted(f"the connection ended after {have / 1e6:.1f} of {total / 1e6:.1f} MB")
    if (found := _md5(part)) != file.md5:
        part.unlink()
        why = f"the MD5 of what it sent is {found}, but must be {file.md5}"
        # once more where bytes from before may be at fault, or the end may have got lost unnoticed
        again = start or total is None and have <= most
        raise Interrupted(why) if again else Unusable(why)


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


def _extent(stream: Stream, part: Path) -> tuple[int, int | None]:
    """Where an answer starts (at the end of `part` or at 0); how many bytes there are, if said."""
    have = bytes_of(part)
    if isinstance(stream, BufferedReader):
        return stream.seek(have), os.fstat(stream.fileno()).st_size
    if stream.headers.get_content_type() == "text/html":
        raise Unusable("it sends a web page: does this network want you to log in first?")
    if stream.status == 200:
        length = stream.headers["Content-Length"] or ""
        return 0, int(length) if re.fullmatch("[0-9]{1,15}", length) else None
    if stream.status != 206:
        raise Unusable(f"HTTP {stream.status} {stream.reason}")
    said = stream.headers["Content-Range"]
    given = re.fullmatch("bytes ([0-9]{1,15})-[0-9]+/([0-9]{1,15})", said or "")
    if not given or int(given[1]) != have:
        part.unlink(missing_ok=True)
        raise Interrupted(f"asked for the bytes from {have} on, it sends Content-Range {said}")
    return have, int(given[2])


@contextmanager
def _network(part: Path) -> Iterator[None]:
    """What goes wrong in here, as Interrupted if another try makes sense, else as Unusable."""
    try:
        yield
    except HTTPError as error:
        error.close()
        if error.code == 416:  # there are not so many bytes: from the beginning
            part.unlink(missing_ok=True)
        again = error.code in (408, 416, 425, 429) or error.code >= 500
        raise (Interrupted if again else Unusable)(f"HTTP {error.code} {error.reason}") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        lasting = (ConnectionRefusedError, InvalidURL, ValueError, str)  # ValueError: certificates
        kind = Unusable if isinstance(reason, lasting) else Interrupted
        raise kind(f"{reason}" or type(reason).__name__) from None


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.new("md5", usedforsecurity=False))
    return md5.hexdigest()
