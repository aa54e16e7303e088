"""One computer serves a kit to its class: read-only, over the network of the room."""

import socket
import sys
import tempfile
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from effml.kit import sums

SMALL = "class.zip"
"""The kit without its wheels, which the installer then gets from here."""


class Handler(SimpleHTTPRequestHandler):
    """The files of a kit, whose folder of wheels pip reads as it is, and class.zip."""

    timeout = 60

    def send_head(self):
        """What is made here; else the file that the address names."""
        if self.path == "/":
            self.path = "/START-HERE.html"
        if self.path != f"/{SMALL}":
            return super().send_head()
        body = self._small()
        self.send_response(200)
        self.send_header("Content-Type", "application/zip")
        self.send_header("Content-Length", str(body.tell()))
        self.end_headers()
        body.seek(0)
        return body

    def _small(self) -> tempfile.SpooledTemporaryFile:
        body, folder = tempfile.SpooledTemporaryFile(2**26), Path(self.directory)
        with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in sums.files(folder):
                name = path.relative_to(folder).as_posix()
                if name.split("/")[0] != "wheelhouse" or "/pip-" in name:
                    packed.write(path, f"effml-class/{name}")
            packed.write(folder / sums.NAME, f"effml-class/{sums.NAME}")
            host = self.headers.get("Host") or "{}:{}".format(*self.connection.getsockname()[:2])
            packed.writestr("effml-class/server.txt", f"http://{host}")
        body.seek(0, 2)
        return body

    def log_message(self, form: str, *values: object) -> None:
        """Nothing: a class asks for thousands of files."""

    def log_error(self, form: str, *values: object) -> None:
        sys.stderr.write(f"{self.client_address[0]}: {form % values}\n")


class Server(ThreadingHTTPServer):
    """A thread for each request."""

    def handle_error(self, request: socket.socket, client_address: tuple) -> None:
        sys.stderr.write(f"{client_address[0]}: {sys.exception()}\n")  # it went away, say


def server(folder: Path, bind: str = "", port: int = 8000) -> Server:
    """A server of a kit, whose `serve_forever` starts it.

    Raises:
        FileNotFoundError: it is no kit.
        OSError: nobody can answer at this address and port.
    """
    sums.read(folder)
    try:
        return Server((bind, port), partial(Handler, directory=str(folder)))
    except OSError as error:
        told = f"{bind or 'This computer'} cannot answer at port {port}: {error}"
        raise OSError(f"{told}. Give another, such as --port {port + 1}") from None


def addresses(bind: str, port: int) -> list[str]:
    """What a class types into its browsers."""
    import psutil

    hosts = [bind]
    if bind in ("", "0.0.0.0"):
        cards = psutil.net_if_addrs().values()
        found = [one.address for card in cards for one in card if one.family == socket.AF_INET]
        hosts = [one for one in found if not one.startswith("127.")] or ["127.0.0.1"]
    return [f"http://{host}:{port}/" for host in hosts]
