"""`python -m effml kit`: a folder or a USB stick for a class without a network."""

import argparse
from pathlib import Path

from effml.kit import folder, serving, sums
from effml.kit.lock import SYSTEMS


def add(parser: argparse.ArgumentParser) -> None:
    """Add the actions to the parser of `kit`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")
    for do in (_make, _verify, _serve):
        sub = actions.add_parser(do.__name__[1:], help=do.__doc__, description=do.__doc__)
        sub.set_defaults(do=do)
        sub.add_argument("folder", type=Path, metavar="FOLDER")
        if do is _make:
            told = f"systems: {', '.join(SYSTEMS)} (default: linux,windows,macos)"
            sub.add_argument("--for", default="linux,windows,macos", dest="systems", help=told)
            sub.add_argument("--python", default="3.12", help="such as 3.11,3.12 (default: 3.12)")
            told = "files of data or weights (without their ending) that you may pass on"
            sub.add_argument("--also", default="", metavar="NAME,NAME", help=told)
            told = "an unpacked Pyodide: then notebooks run in a browser alone (see: effml lite)"
            sub.add_argument("--pyodide", type=Path, metavar="DIR", help=told)
            told = "another pylock.toml (default: the project's)"
            sub.add_argument("--lock", type=Path, default=folder.LOCK, help=told)
        if do is _serve:
            told = "address of the network card to answer at (default: all)"
            sub.add_argument("--bind", default="", metavar="ADDRESS", help=told)
            sub.add_argument("--port", type=int, default=8000, help="default: 8000")


def _make(given: argparse.Namespace) -> int:
    """fill a folder, or go on where the last call stopped"""
    systems, pythons, also = (x.split(",") for x in (given.systems, given.python, given.also))
    more = {"also": also, "pyodide": given.pyodide, "lock": given.lock}
    folder.make(given.folder, systems, pythons, **more)
    return 0


def _verify(given: argparse.Namespace) -> int:
    """name each damaged, missing and extra file of a kit"""
    wrong = sums.verify(given.folder)
    print(*wrong, sep="\n", end="\n" if wrong else "")
    if wrong:
        print(f"{len(wrong)} files are not as they were. Make the kit again, or copy it again.")
    else:
        print(f"{given.folder} is whole: {len(sums.read(given.folder))} files.")
    return int(bool(wrong))


def _serve(given: argparse.Namespace) -> int:
    """serve a kit to a class over its network: pages, packages and data, read-only"""
    with serving.server(given.folder, given.bind, given.port) as server:
        print("Write on the board:", *serving.addresses(given.bind, server.server_port), sep="\n  ")
        print("Ctrl-C ends it. Files are only read; everybody in this network can read them.")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
