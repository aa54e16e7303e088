"""The registry of public sets: what each shows, its task, source, licence, sizes and files."""

import ast
import importlib.util
import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RemoteFile:
    """A public file: its path below a data folder, where to get it, and how to know it."""

    path: str
    urls: tuple[str, ...]
    md5: str
    at_most_bytes: int  # its arrays unpacked; the file itself is smaller
    md5_inside: str = ""  # of a .gz file's content: it may have been packed anew


@dataclass(frozen=True)
class PublicSet:
    """What is known of a public set; MedMNIST's own passports complete its entries."""

    shows: str
    source: str = ""
    licence: str = ""
    task: str | None = None  # of the official labels, with their classes; None where unknown
    classes: tuple[str, ...] = ()
    positive: int = 1  # the class that sensitivity is about in a binary set
    images: int = 0
    files: dict[int, list[RemoteFile]] = field(default_factory=dict)  # by size in pixels


_HOSTS = "https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"
# bytes unpacked, MD5 as torchvision states it, and of what is inside
_MNIST = """
train-images-idx3-ubyte 47040016 f68b3c2dcbeaaa9fbdd348bbdeb94873 6bbc9ace898e44ae57da46a324031adb
train-labels-idx1-ubyte 60008 d53e105ee54ea40749a09fcbcd1e9432 a25bea736e30d166cdddb491f175f624
t10k-images-idx3-ubyte 7840016 9fb629c4189551a2d022fa330f9573f3 2646ac647ad5339dbf082846283269ea
t10k-labels-idx1-ubyte 10008 ec29112dd5afa0611ce80d1b7f02629c 27ae3e4e09519cfbb04c329615203637"""
_MNIST = [
    RemoteFile(f"MNIST/raw/{name}.gz", urls, md5, int(size), inside)
    for name, size, md5, inside in map(str.split, _MNIST.strip().splitlines())
    for urls in [tuple(f"{host}{name}.gz" for host in _HOSTS)]
]
_WOUNDS = "https://github.com/uwm-bigdata/wound-segmentation"
SETS = {
    "pathmnist": PublicSet("colon pathology"),
    "chestmnist": PublicSet("chest X-ray"),
    "dermamnist": PublicSet("dermoscopy"),
    "octmnist": PublicSet("retinal OCT"),
    "pneumoniamnist": PublicSet("chest X-ray"),
    "retinamnist": PublicSet("fundus photo"),
    "breastmnist": PublicSet("breast ultrasound", positive=0),  # 0 = malignant
    "bloodmnist": PublicSet("blood cell microscopy"),
    "tissuemnist": PublicSet("kidney cortex microscopy"),
    "organamnist": PublicSet("abdominal CT, axial"),
    "organcmnist": PublicSet("abdominal CT, coronal"),
    "organsmnist": PublicSet("abdominal CT, sagittal"),
    "organmnist3d": PublicSet("abdominal CT"),
    "nodulemnist3d": PublicSet("chest CT"),
    "adrenalmnist3d": PublicSet("shapes from abdominal CT"),
    "fracturemnist3d": PublicSet("chest CT"),
    "vesselmnist3d": PublicSet("shapes from brain MRA"),
    "synapsemnist3d": PublicSet("electron microscopy"),
    "mnist": PublicSet(
        "handwritten digits, multi-class",
        "MNIST (LeCun et al. 1998), http://yann.lecun.com/exdb/mnist",
        "CC BY-SA 3.0",
        images=70_000,
        files={28: _MNIST},
    ),
    # People prepare these as .npz files themselves: known by the beginning of the file's name.
    "cifar10": PublicSet(
        "small photographs",
        "CIFAR-10 (Krizhevsky 2009), https://www.cs.toronto.edu/~kriz/cifar.html",
        "research use",
    ),
    "ham10000": PublicSet(
        "dermoscopy",
        "HAM10000 (Tschandl et al. 2018), https://doi.org/10.7910/DVN/DBW86T",
        "CC BY-NC 4.0",
    ),
    "lidc": PublicSet(
        "chest CT",
        "LIDC-IDRI (Armato et al. 2011), https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX",
        "CC BY 3.0",
    ),
    "malaria": PublicSet(
        "blood cell microscopy",
        "NIH/NLM malaria cell images (Rajaraman et al. 2018), https://lhncbc.nlm.nih.gov",
        "public, cite the source",
    ),
    "foot_ulcer": PublicSet(
        "photographs of feet", f"Foot Ulcer Segmentation Challenge, {_WOUNDS}", "research use"
    ),
    "medetec_wound": PublicSet(
        "photographs of wounds", f"Medetec photographs, {_WOUNDS}", "research use"
    ),
    "nuclei": PublicSet(
        "microscopy of nuclei",
        "BBBC038v1 (Caicedo et al. 2019), https://bbbc.broadinstitute.org/BBBC038",
        "CC0",
    ),
}


_TASKS = {"binary-class": "binary", "ordinal-regression": "ordinal"}


def known(name: str) -> PublicSet | None:
    """What is known of the set that a name or a path stands for."""
    stem = Path(name).stem if name.endswith(".npz") else name
    base = re.sub(r"_(64|128|224|reordered)$", "", stem)
    if info := medmnist_info().get(base):
        shuffled = " (the official images, training order shuffled)" * stem.endswith("_reordered")
        found, kind = SETS.get(base, PublicSet("images")), info["task"].partition(",")[0]
        return replace(
            found,
            shows=f"{found.shows}, {kind}",
            source=f"MedMNIST v2, {info['url'].partition('?')[0]}{shuffled}",
            licence=info["license"],
            task=_TASKS.get(kind, kind),
            classes=tuple(info["label"].values()),
            images=sum(info["n_samples"].values()),
            files=_medmnist_files(base, info),
        )
    found = (one for begin, one in SETS.items() if one.source and stem.startswith(begin))
    return next(found, None)


def _medmnist_files(name: str, info: dict[str, Any]) -> dict[int, list[RemoteFile]]:
    values = sum(info["n_samples"].values()) * info["n_channels"]
    axes, files = 3 if name.endswith("3d") else 2, {}
    for size in [28, *(int(key[4:]) for key in info if key.startswith("MD5_"))]:
        end = "" if size == 28 else f"_{size}"
        url, md5, path = (info[f"url{end}"],), info[f"MD5{end}"], f"{name}{end}.npz"
        files[size] = [RemoteFile(path, url, md5, values * size**axes)]
    return files


def origin(name: str) -> tuple[str, str]:
    """Source and licence of the set that a name or a path stands for; what is not known says so."""
    if found := known(name):
        return found.source, found.licence
    return f"local file {Path(name).name}", "see the file's source"


def public() -> list[str]:
    """The names of the sets with public files."""
    return [*medmnist_info(), "mnist"]


def remote_files(name: str, *, size: int = 28) -> list[RemoteFile]:
    """The public files of a set in its variant of `size` pixels; none where it has none."""
    if name not in public():
        return []
    files = known(name).files
    if size not in files:
        sizes = ", ".join(map(str, files))
        raise ValueError(f"{name} has no variant of {size} px. Choose from: {sizes}")
    return files[size]


@lru_cache
def medmnist_info() -> dict[str, dict[str, Any]]:
    """MedMNIST's own passports, read as a literal: importing the package would import torch and
    make a folder at home. None where it is not installed, as in a browser."""
    if (package := importlib.util.find_spec("medmnist")) is None:
        return {}
    tree = ast.parse((Path(package.origin).parent / "info.py").read_text(encoding="utf-8"))
    found = (node for node in tree.body if isinstance(node, ast.Assign))
    return next(ast.literal_eval(one.value) for one in found if one.targets[0].id == "INFO")
