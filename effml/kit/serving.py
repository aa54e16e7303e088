"""One computer serves a kit to its class: read-only, over the network of the room."""

import io
import socket
import sys
import tempfile
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

from effml.kit import sums

SMALL = "class.zip"
"""The kit without its wheels, which the installer then gets from here."""


class Handler(SimpleHTTPRequestHandler):
    """Files of the kit, /simple/ for pip, and class.zip."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".ps1": "text/plain"}

    def send_head(self):
        """What is made here; else the file that the address names."""
        parts = [part for part in self.path.partition("?")[0].split("/") if part]
        if not parts:
            self.path = "/START-HERE.html"
        elif parts[0] == "simple":
            return self._answer("text/html; charset=utf-8", self._index(parts[1:]))
        elif parts == [SMALL]:
            return self._answer("application/zip", self._small())
        return super().send_head()

    def _answer(self, kind: str, body: io.BufferedIOBase | None) -> io.BufferedIOBase | None:
        if body is None:
            return self.send_error(404)
        size = body.seek(0, io.SEEK_END)
        body.seek(0)
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        return body

    def _index(self, asked: list[str]) -> io.BytesIO | None:
        """The pages of PEP 503: the projects, or the wheels of one."""
        from packaging.utils import canonicalize_name

        digests, projects = sums.read(Path(self.directory)), {}
        for path in sorted(Path(self.directory, "wheelhouse").glob("*.whl")):
            project = canonicalize_name(path.name.partition("-")[0])
            digest = digests.get(f"wheelhouse/{path.name}", "")
            link = f"/wheelhouse/{quote(path.name)}#sha256={digest}"
            projects.setdefault(project, []).append(f'<a href="{link}">{path.name}</a><br>')
        if not asked:
            links = [f'<a href="/simple/{name}/">{name}</a><br>' for name in projects]
        elif not (links := projects.get(canonicalize_name(asked[0]))):
            return None
        return io.BytesIO("\n".join(["<!doctype html>", *links]).encode())

    def _small(self) -> tempfile.SpooledTemporaryFile:
        body, folder = tempfile.SpooledTemporaryFile(2**24), Path(self.directory)
        with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in sums.files(folder):
                name = path.relative_to(folder).as_posix()
                if name.split("/")[0] not in ("wheelhouse", "pages") or "/pip-" in name:
                    packed.write(path, f"effml-class/{name}")
            host = self.headers.get("Host") or "{}:{}".format(*self.connection.getsockname()[:2])
            packed.writestr("effml-class/server.txt", f"http://{host}")
        return body

    def log_message(self, form: str, *values: object) -> None:
        """Errors alone: a class asks for thousands of files."""

    def log_error(self, form: str, *values: object) -> None:
        sys.stderr.write(f"{self.client_address[0]}: {form % values}\n")


def server(folder: Path, bind: str = "", port: int = 8000) -> ThreadingHTTPServer:
    """A server of a kit that is not damaged; `serve_forever` starts it."""
    sums.read(folder)  # or: no kit
    return ThreadingHTTPServer((bind, port), partial(Handler, directory=str(folder)))


def addresses(bind: str, port: int) -> list[str]:
    """What a class types into its browsers."""
    import psutil

    hosts = [bind]
    if bind in ("", "0.0.0.0"):
        cards = psutil.net_if_addrs().values()
        found = [one.address for card in cards for one in card if one.family == socket.AF_INET]
        hosts = [one for one in found if not one.startswith("127.")] or ["127.0.0.1"]
    return [f"http://{host}:{port}/" for host in hosts]
