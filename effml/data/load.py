"""From a name or a path to a Dataset; nothing is downloaded. The layout is MedMNIST's, an .npz:
`{split}_images` (N,H,W[,3]) uint8, `{split}_labels` (N,1), and where there are any `{split}_masks`,
`{split}_groups` (N,), further columns, `label_names`, `positive` (an index) and `passport` (JSON).
"""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from effml.data import files, patches
from effml.data.assemble import assemble
from effml.data.catalogue import PublicSet, known, origin
from effml.data.dataset import Dataset
from effml.data.places import digest, find, valid
from effml.machine import answer
from effml.phantoms import DRAWING, PHANTOMS, make_phantom, phantom_options


def load_dataset(
    name_or_path: str | os.PathLike, *, size: int = 28, root: str | os.PathLike | None = None
) -> Dataset:
    """Load a data set that lies on this machine, or draw a phantom.

    Args:
        name_or_path: a MedMNIST set, `mnist`, an .npz in MedMNIST's layout by name or path, or a
            phantom, with options if you like: `phantom-chest:label_noise=0.2:shift=1`. Behind a set
            with masks `:patches=64` cuts its pictures into classes: with a structure or without.
        size: the variant of a MedMNIST set or phantom, in pixels. A file comes as it is with 28,
            else with its own side or a whole part of it: 32 of 64 px takes means over 2 × 2 pixels.
        root: a folder to look in before `EFFML_DATA`, one level below it, `data/` and MedMNIST's.

    Returns:
        A `Dataset` of uint8 tensors, with a passport that says what was assumed.

    Raises:
        FileNotFoundError: what was looked for, where, and what to do.
        ValueError: what is wrong in the file or in the name.

    Example:
        >>> effml.load_dataset("phantom-nodule").passport["counts"]
        {'train': 1200, 'val': 200, 'test': 400}
    """
    name = os.fspath(name_or_path)
    whole, side = patches.asked(name)
    sha256, own, checksum = fingerprint(whole, size=size, root=root), {}, "none to compare with"
    if is_phantom(whole):
        base, options = phantom_options(whole)
        arrays, converted = _drawn(f"{base}-{sha256[:16]}", base, size, options), "none"
        source, licence = "simulated, not patients", "Apache-2.0"
        checksum = f"made from seed {options.get('seed', 0)}"
    else:
        path, public = find(whole, size=size, root=root), known(whole)
        arrays, converted = files.read(path)
        source, licence = origin(whole)
        if public and public.files:
            checksum = "official MD5" if _official(path, public) else "not the official one"
        if "passport" in arrays:
            own = _own_passport(name, arrays.pop("passport").item())
    passport = {
        "source": source,
        "licence": licence,
        "sha256": fingerprint(name, size=size, root=root),
        "checksum": checksum,
        "converted": converted,
        "phantom": is_phantom(whole),
        **own,
    }
    if side:
        arrays, passport["patches"] = patches.cut(name, arrays, side)
        passport["preprocessing"] = {"patches": side}
        size = side if is_phantom(whole) else size
    return assemble(name, arrays, passport, size)


def _drawn(label: str, base: str, size: int, options: dict[str, float]) -> files.Arrays:
    """A phantom's arrays. Small ones are drawn once on a machine, for each run asks anew."""

    def fill(folder: Path) -> None:
        for key, values in make_phantom(base, size=size, **options).items():
            np.save(folder / f"{key}.npy", values)

    if size <= 64:
        # no folder to write to, or a damaged file in it; wrong options are told below
        with suppress(OSError, EOFError, ValueError):
            return files.cached(label, fill, 0)
    return make_phantom(base, size=size, **options)


def _official(path: Path, public: PublicSet) -> bool:
    """Whether a file (or MNIST's folder) is one of the set's variants."""
    return any(
        all(valid(path / Path(file.path).name if path.is_dir() else path, file) for file in variant)
        for variant in public.files.values()
    )


def at_hand(ladder: str, *, size: int = 28, root: str | os.PathLike | None = None) -> str:
    """The first of several data sets that is on this machine. A damaged file is an error.

    Args:
        ladder: names in order of preference, such as `"breastmnist|mine|phantom-chest"`.
        size: the variant of a MedMNIST set, in pixels.
        root: a folder to look in before the others.

    Returns:
        The name, for `load_dataset` or a `Recipe`.

    Raises:
        FileNotFoundError: none is here, and how to get the last one.
        ValueError: the ladder is empty, or a file under an official name is not the official one.

    Example:
        >>> effml.at_hand("no-such-set|phantom-chest")
        'phantom-chest'
    """
    if Path(ladder).is_file():
        return ladder
    return answer(f"{ladder} at {size} px", lambda: _first(ladder, size, root))


def _first(ladder: str, size: int, root: str | os.PathLike | None) -> str:
    names = [name.strip() for name in ladder.split("|") if name.strip()]
    if not names:
        raise ValueError("The ladder is empty. Give names such as 'pneumoniamnist|phantom-chest'.")
    for name in names:
        try:
            if not is_phantom(name):
                find(patches.asked(name)[0], size=size, root=root)
            return name
        except FileNotFoundError as error:
            missing = error
    raise FileNotFoundError(f"None of {', '.join(names)} is here. The last one: {missing}")


def fingerprint(
    name_or_path: str | os.PathLike, *, size: int = 28, root: str | os.PathLike | None = None
) -> str:
    """SHA-256 of the file a name stands for, or of a phantom's name and the number of its drawing,
    since its pixels may differ by rounding between CPUs."""
    name = os.fspath(name_or_path)
    whole, side = patches.asked(name)
    if side:
        of = fingerprint(whole, size=size, root=root)
        return hashlib.sha256(f"{of} in patches of {side} px".encode()).hexdigest()
    if is_phantom(name):
        return hashlib.sha256(f"{name} {size} px, drawing {DRAWING}".encode()).hexdigest()
    return digest(find(name, size=size, root=root), "sha256")


def is_phantom(name: str) -> bool:
    return name.partition(":")[0] in PHANTOMS


def _own_passport(name: str, text: str) -> dict[str, Any]:
    """What an imported file says of itself; what effml sees by looking stays effml's to say."""
    kept = "source", "licence", "converted", "split", "positive_from", "preprocessing"
    kept += "axes", "spacing"
    try:
        said = json.loads(text)
        found = {key: said[key] for key in kept if said.get(key)}
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{name}: its passport is not JSON ({error}). Leave it out.") from None
    return {key: value if key == "preprocessing" else str(value) for key, value in found.items()}
