"""The data of a kit: what may be passed on to a class, with its sources."""

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from effml.data.catalogue import RemoteFile, known, origin, public
from effml.data.places import folders, valid
from effml.machine import imagenet_file, whole_file

MAY_BE_PASSED_ON = ("CC0", "CC BY 3", "CC BY 4", "CC BY-SA")
"""How such licences begin; not those for research or non-commercial use alone."""
MOST_BYTES = 100e6


def copy(to: Path, also: Collection[str]) -> None:
    """The files at hand that are public ones, by their checksum, and may be passed on; and those
    that somebody answers for by their name. What is left out is told."""
    official = {Path(one.path).name: one for name in public() for one in _files_of(name)}
    kept, left = [], []
    for path in _at_hand():
        source, licence = origin(path.stem)
        line, why = f"{path.name}: {source}; {licence}", ""
        if path.name not in official or not valid(path, official[path.name]):
            why = "no checksum says that it is public"
        elif not licence.startswith(MAY_BE_PASSED_ON):
            why = "its licence says by whom it may be passed on"
        elif path.stat().st_size > MOST_BYTES:
            why = f"over {MOST_BYTES / 1e6:.0f} MB"
        if why and path.stem not in also:
            left.append(f"{line}: {why}")
            continue
        place = to / ("weights" if path.suffix == ".safetensors" else "") / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        kept.append(line)
    print("Data in the kit:", *(kept or ["none: the notebooks draw phantoms"]), sep="\n  ")
    if left:
        print("Left out; what you answer for goes along by --also NAME,NAME:", *left, sep="\n  ")
    with whole_file(to / "SOURCES.txt") as partial:
        partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _files_of(name: str) -> Iterator[RemoteFile]:
    for files in known(name).files.values():
        yield from files


def _at_hand() -> Iterator[Path]:
    """Files of data and of weights on this machine; of one name the first."""
    data = (path for folder in folders() for path in sorted(folder.glob("*.npz")))
    one = imagenet_file("*")
    weights = sorted(one.parent.glob("*.safetensors")) if one else []
    yield from {path.name: path for path in reversed([*data, *weights])}.values()
