"""`python -m effml data`: what sets there are, getting and checking their files."""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from effml.data.catalogue import RemoteFile, known, origin, public, remote_files
from effml.data.fetch import fetch, local_files, megabytes, missing
from effml.data.load import is_phantom
from effml.data.places import advice, digest, folders, valid
from effml.phantoms import PHANTOMS
from effml.printing import entry, table

_CLASS = """This machine serves its files to a whole class by
  python -m http.server 8000 --directory data
if every other computer has EFFML_MIRROR=http://<address of this one>:8000; a folder, such as a USB
stick, will do as well. A download that broke off goes on where it stopped."""
_OPTIONS: dict[str, dict[str, Any]] = {
    "--size": {"type": int, "default": 28, "help": "28 (default), 64, 128 or 224 pixels"},
    "--root": {"metavar": "DIR", "help": "data folder to use before EFFML_DATA and data/"},
    "--dry-run": {"action": "store_true", "help": "say what would be done, in MB, and do nothing"},
}


def add(parser: argparse.ArgumentParser) -> Any:
    """Add the actions to the parser of `data`, and return them: importing adds its own."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")
    for do, names, *options in (
        (_list, "", "--size", "--root"),
        (_get, "+", "--size", "--root", "--dry-run"),
        (_verify, "*", "--root", "--dry-run"),
    ):
        sub = actions.add_parser(do.__name__[1:], help=do.__doc__, description=do.__doc__)
        sub.set_defaults(do=do)
        sub.formatter_class = argparse.RawDescriptionHelpFormatter
        sub.epilog = _CLASS * (do is _get)
        if names:
            told = "default: all" if names == "*" else None
            sub.add_argument("names", nargs=names, metavar="NAME", help=told)
        for option in options:
            sub.add_argument(option, **_OPTIONS[option])
    return actions


def _list(given: argparse.Namespace) -> int:
    """every set by name, which of its sizes are here, and how many MB it may take to get one"""
    found = list(_found(given.root))
    heads, rows = ["name", "shows", "images", "px", "at hand", "licence"], []
    for name, phantom in PHANTOMS.items():
        images, licence = sum(phantom.counts), "Apache-2.0, simulated"
        rows.append([name, phantom.modality, images, "any ≥ 16", "always", licence, "nothing"])
    here = {(name, size, path.name) for path, name, size, _ in found}
    for name in public():
        one, whole, get = known(name), [], "no such size"
        for size, files in one.files.items():
            if all((name, size, Path(file.path).name) in here for file in files):
                whole.append(size)
        if given.size in one.files:
            most = megabytes(one.files[given.size]).removeprefix("at most ")
            get = "nothing" if given.size in whole else most
        sizes, at_hand = (" ".join(map(str, some)) for some in (one.files, whole))
        rows.append([name, one.shows, one.images, sizes, at_hand or "no", one.licence, get])
    for _, name, _, file in sorted(found, key=lambda one: one[1]):
        if file is None:
            source, licence = origin(name)
            rows.append([name, source.partition(",")[0], None, "", "yes", licence, "nothing"])
    print(table(dict(zip([*heads, f"at most to get, {given.size} px"], zip(*rows)))))
    looked = ", ".join(map(str, folders(given.root)))
    print(entry("Looked in", looked, 10))
    print("Where each file lies, and whether it is whole: python -m effml data verify")
    return 0


def _get(given: argparse.Namespace) -> int:
    """get public sets, checked and resumed"""
    where = {"size": given.size, "root": given.root}
    lacking = {name: missing(name, **where) for name in dict.fromkeys(given.names)}  # checks names
    for name, files in lacking.items():
        if is_phantom(name):
            told = f"nothing need be fetched. Say data={name} in a recipe."
            print(f"{name} is drawn on this machine: {told}")
        elif not files:
            print(f"{name} is here: {local_files(name, **where)[0]}")
    files = [file for some in lacking.values() for file in some]
    if files:
        count = "1 file" if len(files) == 1 else f"{len(files)} files"
        print(f"{count}, {megabytes(files)} to get into {folders(given.root)[0]}", flush=True)
    failed = 0
    for name in [name for name, some in lacking.items() if some and not given.dry_run]:
        try:
            print(*fetch(name, **where), sep="\n", flush=True)
        except ConnectionError as error:  # the others may lie elsewhere
            print(f"effml: {error}", file=sys.stderr, flush=True)
            failed = 1
    return failed


def _verify(given: argparse.Namespace) -> int:
    """compare the files on this machine with their official MD5"""
    found = list(_found(given.root))
    paths = [Path(name) for name in given.names if Path(name).is_file()]
    if asked := set(given.names):
        at = {path.resolve() for path in paths}
        found = [o for o in found if {o[1], o[0].stem} & asked or o[0].resolve() in at]
        at -= {one[0].resolve() for one in found}  # outside of the folders of data
        found += [(path, path.stem, 0, None) for path in paths if path.resolve() in at]
    here = {key for path, name, *_ in found for key in (path.stem, name)} | {*map(str, paths)}
    for name in given.names:
        if is_phantom(name):
            print(f"{name} is drawn on this machine: it has no file.")
        elif name not in here:
            looked = ", ".join(map(str, folders(given.root)))
            told = advice(name, remote_files(name), given.root)
            raise FileNotFoundError(f"{name} is not in {looked}. {told}")
    if given.dry_run:
        sizes = [path.stat().st_size for path, *_, file in found if file]
        print(f"{sum(sizes) / 1e6:.1f} MB to read, files: {len(sizes)}")
        return 0
    count = {"ok": 0, "damaged": 0, "not official": 0}
    for path, name, size, file in found:
        kind, more = "ok", ""
        if file is None:
            kind, more = "not official", " (no checksum known)"
        elif not valid(path, file):
            again = f"Get it again: python -m effml data get {name} --size {size}"
            kind, more = "damaged", f": its MD5 is {digest(path, 'md5')}, not {file.md5}. {again}"
        count[kind] += 1
        print(f"{kind:12}  {path}{more}", flush=True)
    print(", ".join(f"{number} {kind}" for kind, number in count.items()))
    return min(count["damaged"], 1)


def _found(
    root: str | os.PathLike | None,
) -> Iterator[tuple[Path, str, int | None, RemoteFile | None]]:
    """Path, name, size and public file (None: not known) of each file here; nothing is read."""
    official = {
        Path(file.path).name: (name, size, file)
        for name in public()
        for size, files in known(name).files.items()
        for file in files
    }
    seen = set()
    for folder in folders(root):
        for way in ("*.npz", "MNIST/raw/*.gz", "raw/*.gz", "*.gz"):
            for path in sorted(folder.glob(way)):
                if (path.suffix == ".npz" or path.name in official) and path.resolve() not in seen:
                    seen.add(path.resolve())
                    yield path, *official.get(path.name, (path.stem, None, None))
