"""`python -m effml data`: what sets there are, getting and checking their files."""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from effml.data import catalogue
from effml.data.catalogue import RemoteFile, valid
from effml.data.fetch import bytes_to_get, fetch, local_files, megabytes, missing
from effml.data.load import is_phantom
from effml.phantoms import PHANTOMS

_SHOWS = {
    "pathmnist": "colon pathology",
    "chestmnist": "chest X-ray",
    "dermamnist": "dermoscopy",
    "octmnist": "retinal OCT",
    "pneumoniamnist": "chest X-ray",
    "retinamnist": "fundus photo",
    "breastmnist": "breast ultrasound",
    "bloodmnist": "blood cell microscopy",
    "tissuemnist": "kidney cortex microscopy",
    "organamnist": "abdominal CT, axial",
    "organcmnist": "abdominal CT, coronal",
    "organsmnist": "abdominal CT, sagittal",
    "organmnist3d": "abdominal CT",
    "nodulemnist3d": "chest CT",
    "adrenalmnist3d": "shapes from abdominal CT",
    "fracturemnist3d": "chest CT",
    "vesselmnist3d": "shapes from brain MRA",
    "synapsemnist3d": "electron microscopy",
}
_CLASS = """Files which this machine has are served to a whole class by
  python -m http.server 8000 --directory data
and each computer of the class gets them from there, without the internet, after
  export EFFML_MIRROR=http://<address of that computer>:8000
EFFML_MIRROR may also name a folder, such as a USB stick. A download which broke off goes on where it stopped."""


class Found(NamedTuple):
    """A file of a data set on this machine. `size` in pixels and `file` are None where no checksum is known."""

    path: Path
    name: str
    size: int | None = None
    file: RemoteFile | None = None


def add(parser: argparse.ArgumentParser) -> Any:
    """Add the actions to the parser of `data`, and return them: importing adds its own."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")

    def action(name: str, text: str, more: str = "", **options: Any) -> argparse.ArgumentParser:
        sub = actions.add_parser(
            name,
            help=text,
            description=text,
            epilog=more,
            **options,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(do=globals()[f"_{name}"])
        sub.add_argument(
            "--dry-run", action="store_true", help="say what would be done, in MB, and do nothing"
        )
        return sub

    sets = action(
        "list",
        "every set by name, and which of its sizes are here; with --dry-run also the MB to get",
    )
    sets.add_argument(
        "--size", type=int, default=28, help="of the MB to get, in pixels (default 28)"
    )
    get = action("get", "get public sets, checked and resumed", _CLASS)
    get.add_argument("names", nargs="+", metavar="NAME")
    get.add_argument("--size", type=int, default=28, help="28 (default), 64, 128 or 224 pixels")
    verify = action("verify", "compare the files on this machine with their official MD5")
    verify.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    for each in (sets, get, verify):
        each.add_argument(
            "--root", metavar="DIR", help="data folder to use before EFFML_DATA and data/"
        )
    return actions


def main(given: argparse.Namespace) -> int:
    """Do what a parser with `add` was given. Returns 0, or 1 where a file is damaged or could not be fetched."""
    return given.do(given)


def _list(given: argparse.Namespace) -> int:
    here: dict[str, list[Found]] = {}
    for found in _found(given.root):
        here.setdefault(found.name, []).append(found)
    rows = [
        ["name", "shows", "images", "px", "at hand", "licence", f"to get, {given.size} px"],
        *(
            [
                name,
                phantom.modality,
                str(sum(phantom.counts)),
                "any ≥ 16",
                "always",
                "Apache-2.0, simulated",
                "nothing",
            ]
            for name, phantom in PHANTOMS.items()
        ),
    ]
    ask = given.dry_run
    for name, (shows, images, sizes) in _public().items():
        files = {
            found.size: {one.path.name for one in here[name] if one.size == found.size}
            for found in here.get(name, [])
        }
        whole = [
            size
            for size in sizes
            if len(files.get(size, ())) == len(catalogue.remote_files(name, size=size))
        ]
        row = [
            name,
            shows,
            str(images),
            " ".join(map(str, sizes)),
            " ".join(map(str, whole)) or "no",
            catalogue.source(name)[1],
        ]
        if given.size in whole or given.size not in sizes:
            rows.append([*row, "nothing" if given.size in whole else "no such size"])
        else:
            count, ask = _to_get(catalogue.remote_files(name, size=given.size), given.root, ask)
            rows.append([*row, f"{'' if ask else '≤ '}{count / 1e6:.1f} MB"])
    rows += [
        [
            name,
            catalogue.source(name)[0].partition(",")[0],
            "",
            "",
            str(own.path),
            catalogue.source(name)[1],
            "nothing",
        ]
        for name, founds in sorted(here.items())
        for own in founds
        if own.file is None
    ]
    rows = rows if given.dry_run else [row[:-1] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    print("\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows))
    print(
        f"Looked in {', '.join(map(str, catalogue.folders(given.root)))}. To check the files: python -m effml data verify"
    )
    return 0


def _public() -> dict[str, tuple[str, int, list[int]]]:
    """What the public sets show, how many images they have, and in which sizes, in pixels."""
    known = {
        name: (
            f"{_SHOWS.get(name, 'images')}, {info['task'].partition(',')[0]}",
            sum(info["n_samples"].values()),
            catalogue.sizes(name),
        )
        for name, info in catalogue.medmnist_info().items()
    }
    return {**known, "mnist": ("handwritten digits, multi-class", 70_000, [28])}


def _get(given: argparse.Namespace) -> int:
    lacking = {
        name: missing(name, size=given.size, root=given.root) for name in dict.fromkeys(given.names)
    }  # checks all names
    for name, files in lacking.items():
        if is_phantom(name):
            print(
                f"{name} is drawn on this machine: nothing need be fetched. Say data={name} in a recipe."
            )
        elif not files:
            print(f"{name} is here: {local_files(name, size=given.size, root=given.root)[0]}")
    files = [file for some in lacking.values() for file in some]
    if not files:
        return 0
    print(
        f"{len(files)} {'file' if len(files) == 1 else 'files'}, {megabytes(*_to_get(files, given.root))} to get into "
        f"{catalogue.folders(given.root)[0]}",
        flush=True,
    )
    failed = 0
    for name in () if given.dry_run else [name for name, some in lacking.items() if some]:
        try:
            print(*fetch(name, size=given.size, root=given.root), sep="\n", flush=True)
        except ConnectionError as error:  # the others may lie elsewhere
            print(f"effml: {error}", file=sys.stderr, flush=True)
            failed += 1
    return min(failed, 1)


def _to_get(files: list[RemoteFile], root: str | None, ask: bool = True) -> tuple[int, bool]:
    """Bytes to transfer, and whether mirrors said so for all of them; after one that did not no other is asked."""
    total = 0
    for file in files:
        count, ask = bytes_to_get(file, catalogue.folders(root)[0], ask=ask)
        total += count
    return total, ask


def _verify(given: argparse.Namespace) -> int:
    found = [
        found
        for found in _found(given.root)
        if not given.names or {found.name, found.path.stem} & set(given.names)
    ]
    for name in given.names:
        if is_phantom(name):
            print(f"{name} is drawn on this machine: it has no file.")
        elif name not in {word for one in found for word in (one.name, one.path.stem)}:
            raise FileNotFoundError(
                f"{name} is not in {', '.join(map(str, catalogue.folders(given.root)))}. "
                f"{catalogue.advice(name, catalogue.remote_files(name), given.root)}"
            )
    official = [one for one in found if one.file]
    if given.dry_run:
        print(
            f"{sum(one.path.stat().st_size for one in official) / 1e6:.1f} MB to read, files: {len(official)}"
        )
        return 0
    damaged = 0
    for path, name, size, file in found:
        if file is None:
            print(f"not official  {path} (no checksum known)")
        elif valid(path, file):
            print(f"ok            {path}", flush=True)
        else:
            damaged += 1
            print(
                f"damaged       {path}: its MD5 is {catalogue.digest(path, 'md5')}, not {file.md5}. Get it again: "
                f"python -m effml data get {name}" + (f" --size {size}" if size else ""),
                flush=True,
            )
    print(
        f"{len(official) - damaged} ok, {damaged} damaged, {len(found) - len(official)} not official"
    )
    return min(damaged, 1)


def _found(root: str | os.PathLike | None) -> Iterator[Found]:
    """The files on this machine, each once; nothing is read, so that this is instant."""
    known = {
        Path(file.path).name: (name, size, file)
        for name, (_, _, sizes) in _public().items()
        for size in sizes
        for file in catalogue.remote_files(name, size=size)
    }
    seen = set()
    for folder in catalogue.folders(root):
        for path in (
            path
            for way in ("*.npz", "MNIST/raw/*.gz", "raw/*.gz", "*.gz")
            for path in sorted(folder.glob(way))
        ):
            if (path.suffix == ".npz" or path.name in known) and path.resolve() not in seen:
                seen.add(path.resolve())
                yield Found(path, *known.get(path.name, (path.stem,)))
