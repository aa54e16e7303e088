"""From a name or a path to uint8 tensors with a passport. Nothing is downloaded and nothing is substituted.

The layout is MedMNIST's (Yang et al. 2023): an .npz with `{train,val,test}_images` (N,H,W[,3]) uint8 and
`{split}_labels` (N,1), where there are any also `{split}_masks` (N,H,W), `{split}_groups` (N,), further columns of N rows
such as `{split}_site`, `label_names`, `positive`, the index of the class that sensitivity is about, and `passport`, JSON.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from effml.data import catalogue, files
from effml.data.assemble import assemble
from effml.data.catalogue import digest, find
from effml.data.dataset import Dataset
from effml.phantoms import DRAWING, PHANTOMS, make_phantom, phantom_options


def load_dataset(
    name_or_path: str | os.PathLike, *, size: int = 28, root: str | os.PathLike | None = None
) -> Dataset:
    """A MedMNIST set (checked against its official MD5), MNIST, an .npz in MedMNIST's layout by name or path, or a phantom,
    whose name may carry options: `phantom-chest:label_noise=0.2:shift=1` (see `make_phantom`).

    Names are looked up in `root`, `EFFML_DATA` and one level below it, `data/`, and MedMNIST's cache. `size` picks the
    variant of a MedMNIST set or phantom, in pixels; a file comes as it is, so a size other than the default 28 must be
    its own.

    Raises FileNotFoundError (what was looked for, where, and what to do) and ValueError (what is wrong in the file).
    """
    name = os.fspath(name_or_path)
    if is_phantom(name):
        sha256, (base, options) = fingerprint(name, size=size), phantom_options(name)
        arrays = _drawn(f"{base}-{sha256[:16]}", base, size, options)
        passport = {
            "source": "simulated, not patients",
            "licence": "Apache-2.0",
            "sha256": sha256,
            "checksum": f"made from seed {options.get('seed', 0)}",
            "converted": "none",
            "phantom": True,
        }
        return assemble(name, arrays, passport, size)
    path = find(name, size=size, root=root)
    arrays, converted = files.read(path)
    where, licence, remark = catalogue.source(name)
    passport = {
        "source": where + (f" ({remark})" if remark else ""),
        "licence": licence,
        "sha256": fingerprint(name, size=size, root=root),
        "checksum": "none to compare with",
        "converted": converted,
        "phantom": False,
    }
    if info := catalogue.medmnist(name)[1]:
        official = digest(path, "md5") in {
            value for key, value in info.items() if key.startswith("MD5")
        }
        passport["checksum"] = "official MD5" if official else "not the official one"
    elif name == "mnist":
        right = all(
            catalogue.valid(path / Path(file.path).name, file)
            for file in catalogue.remote_files(name)
        )
        passport["checksum"] = "official MD5" if right else "not the official one"
    if "passport" in arrays:
        passport |= _own_passport(name, arrays.pop("passport").item())
    return assemble(name, arrays, passport, size)


def _drawn(label: str, base: str, size: int, options: dict[str, float]) -> files.Arrays:
    """A phantom's arrays. Small ones are drawn once on a machine: each run asks anew, and may train for less time than that."""
    if size <= 64:
        try:
            return files.cached(
                label,
                lambda folder: files.write(folder, make_phantom(base, size=size, **options)),
                0,
            )
        except (OSError, EOFError, ValueError):
            pass  # no folder to write to, or a damaged file in it; what is wrong with the options is said below
    return make_phantom(base, size=size, **options)


def at_hand(ladder: str, *, size: int = 28, root: str | os.PathLike | None = None) -> str:
    """The first name of `"a|b|phantom-c"` whose data is on this machine. A damaged file is an
    error, not a rung.

    A file that is there with | in its name is one name.
    """
    if Path(ladder).is_file():
        return ladder
    names = [name.strip() for name in ladder.split("|") if name.strip()]
    for name in names:
        if is_phantom(name):
            return name
        try:
            find(name, size=size, root=root)
            return name
        except FileNotFoundError as error:
            missing = error
    if not names:
        raise ValueError("The ladder is empty. Give names such as 'pneumoniamnist|phantom-chest'.")
    raise FileNotFoundError(
        f"None of {', '.join(names)} is on this machine. The last one: {missing}"
    )


def fingerprint(
    name_or_path: str | os.PathLike, *, size: int = 28, root: str | os.PathLike | None = None
) -> str:
    """SHA-256 of the file a name stands for on this machine, or of the
    name of a phantom and the number of its drawing. Needs no torch."""
    name = os.fspath(name_or_path)
    if is_phantom(name):  # not the pixels, which may differ by rounding between CPUs
        return hashlib.sha256(f"{name} {size} px, drawing {DRAWING}".encode()).hexdigest()
    return digest(find(name, size=size, root=root), "sha256")


def is_phantom(name: str) -> bool:
    return name.partition(":")[0] in PHANTOMS


def _own_passport(name: str, text: str) -> dict[str, Any]:
    """What an imported file says of itself; what effml finds out by looking stays effml's to say.

    `preprocessing` is what `effml.importing.preprocess` needs to treat new pictures as these.
    """
    try:
        own = json.loads(text)
        known = ("source", "licence", "converted", "split", "positive_from")
        how = {"preprocessing": own["preprocessing"]} if own.get("preprocessing") else {}
        return {key: str(own[key]) for key in known if own.get(key)} | how
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{name}: its passport is not JSON ({error}). Import it again, or leave the passport out."
        ) from None
