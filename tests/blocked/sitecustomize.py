"""On PYTHONPATH this makes every Python process refuse connections beyond this machine."""

import socket
import sys

# jsonschema, which nbformat needs, builds a grammar of web addresses at import: 1.5 s a process.
sys.modules.setdefault("rfc3987_syntax", None)


def block() -> None:
    connect = socket.socket.connect

    def local_only(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in (
            "127.0.0.1",
            "::1",
            "localhost",
        ):
            raise OSError(f"the tests allow no connection to {address}")
        return connect(self, address)

    if connect.__name__ != "local_only":
        socket.socket.connect = local_only


block()
