"""On PYTHONPATH this makes every Python process refuse connections beyond this machine."""

import socket


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
