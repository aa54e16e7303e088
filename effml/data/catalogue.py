"""What is known of named data sets: their files, checksums, sources, licences, and where on this machine they may lie."""

import ast
import gzip
import hashlib
import importlib.util
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from effml.machine import ROOT
from effml.phantoms import PHANTOMS

MNIST_FILES = {  # MD5 as torchvision states them, and of what is inside: these files are often packed anew
    "train-images-idx3-ubyte.gz": (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "6bbc9ace898e44ae57da46a324031adb",
    ),
    "train-labels-idx1-ubyte.gz": (
        "d53e105ee54ea40749a09fcbcd1e9432",
        "a25bea736e30d166cdddb491f175f624",
    ),
    "t10k-images-idx3-ubyte.gz": (
        "9fb629c4189551a2d022fa330f9573f3",
        "2646ac647ad5339dbf082846283269ea",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "ec29112dd5afa0611ce80d1b7f02629c",
        "27ae3e4e09519cfbb04c329615203637",
    ),
}
_MNIST_URLS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)

_LIKE = {
    "pneumoniamnist_reordered": ("pneumoniamnist", "the official images, training order shuffled")
}
_POSITIVE = {
    "breastmnist": 0
}  # 0 = malignant; in MedMNIST's other binary sets the disease is class 1

# Public sets that people prepare as .npz files themselves: source and licence by the beginning of the name.
_PUBLIC = {
    "mnist": ("MNIST (LeCun et al. 1998), http://yann.lecun.com/exdb/mnist", "CC BY-SA 3.0"),
    "cifar10": (
        "CIFAR-10 (Krizhevsky 2009), https://www.cs.toronto.edu/~kriz/cifar.html",
        "research use",
    ),
    "ham10000": (
        "HAM10000 (Tschandl et al. 2018), https://doi.org/10.7910/DVN/DBW86T",
        "CC BY-NC 4.0",
    ),
    "lidc": (
        "LIDC-IDRI (Armato et al. 2011), https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX",
        "CC BY 3.0",
    ),
    "malaria": (
        "NIH/NLM malaria cell images (Rajaraman et al. 2018), https://lhncbc.nlm.nih.gov",
        "public, cite the source",
    ),
    "foot_ulcer": (
        "Foot Ulcer Segmentation Challenge, https://github.com/uwm-bigdata/wound-segmentation",
        "research use",
    ),
    "medetec_wound": (
        "Medetec photographs, https://github.com/uwm-bigdata/wound-segmentation",
        "research use",
    ),
    "nuclei": ("BBBC038v1 (Caicedo et al. 2019), https://bbbc.broadinstitute.org/BBBC038", "CC0"),
}


@dataclass(frozen=True)
class RemoteFile:
    """A public file: its path below a data folder, where to get it in order of preference, and how to know it."""

    path: str
    urls: tuple[str, ...]
    md5: str
    at_most_bytes: int  # its arrays unpacked; the file itself is smaller
    md5_inside: str = ""  # of a .gz file's content: it may have been packed anew


def remote_files(name: str, *, size: int = 28) -> list[RemoteFile]:
    """The public files of the set `name` in its variant of `size` pixels; none where a name has no public file.

    Raises ValueError for a size that a MedMNIST set does not have.
    """
    if name == "mnist":
        return [
            RemoteFile(
                f"MNIST/raw/{file}",
                tuple(url + file for url in _MNIST_URLS),
                md5,
                48_000_000,
                inside,
            )
            for file, (md5, inside) in MNIST_FILES.items()
        ]
    info = medmnist_info().get(name)
    if not info:
        return []
    suffix = "" if size == 28 else f"_{size}"
    if f"MD5{suffix}" not in info:
        raise ValueError(
            f"{name} has no variant of {size} px. Choose from: {', '.join(map(str, sizes(name)))}"
        )
    axes = 3 if name.endswith("3d") else 2
    unpacked = sum(info["n_samples"].values()) * info["n_channels"] * size**axes
    return [
        RemoteFile(f"{name}{suffix}.npz", (info[f"url{suffix}"],), info[f"MD5{suffix}"], unpacked)
    ]


def sizes(name: str) -> list[int]:
    """The variants of a MedMNIST set, in pixels."""
    return [28, *(int(key[4:]) for key in medmnist_info()[name] if key.startswith("MD5_"))]


def source(name: str) -> tuple[str, str, str]:
    """Source, licence and known remarks of the set that a name or path stands for; what is not known says so."""
    base, info = medmnist(name)
    if info:
        return (
            f"MedMNIST v2, {info['url'].partition('?')[0]}",
            info["license"],
            _LIKE.get(stem(name), ("", ""))[1],
        )
    for begin, (where, licence) in _PUBLIC.items():
        if stem(name).startswith(begin):
            return where, licence, ""
    return f"local file {Path(name).name}", "see the file's source", ""


def medmnist(name: str) -> tuple[str, dict[str, Any]]:
    """The MedMNIST set that a name or a path stands for, and its passport; an empty one for other data."""
    base = _LIKE.get(stem(name), (re.sub(r"_(64|128|224)$", "", stem(name)),))[0]
    return base, medmnist_info().get(base, {})


_TASKS = {
    "binary-class": "binary",
    "multi-label, binary-class": "multi-label",
    "multi-class": "multi-class",
    "ordinal-regression": "ordinal",
}


def official(name: str) -> tuple[str | None, list[str] | None]:
    """Task and class names of the MedMNIST set that a name or path stands for; None for others."""
    info = medmnist(name)[1]
    return (_TASKS[info["task"]], [*info["label"].values()]) if info else (None, None)


def positive_of(name: str) -> int:
    """The class that sensitivity is about in a binary MedMNIST set."""
    return _POSITIVE.get(medmnist(name)[0], 1)


def stem(name: str) -> str:
    return Path(name).stem if name.endswith(".npz") else name


@lru_cache
def medmnist_info() -> dict[str, dict[str, Any]]:
    """MedMNIST's own passports, read as a literal: importing the package would import torch and make a folder at home."""
    spec = importlib.util.find_spec("medmnist")
    if spec is None or spec.origin is None:
        return {}
    tree = ast.parse(Path(spec.origin).with_name("info.py").read_text(encoding="utf-8"))
    return next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "INFO"
    )


def folders(root: str | os.PathLike | None = None) -> list[Path]:
    """Where data may lie, in order: `root`, `EFFML_DATA` and one level below it, `data/`, MedMNIST's cache. New files go
    into the first of them."""
    once: dict[Path, Path] = {}
    for folder in _folders(root):
        once.setdefault(folder.resolve(), folder)
    return list(once.values())


def _folders(root: str | os.PathLike | None) -> Iterator[Path]:
    if root is not None:
        yield Path(root)
    if given := os.environ.get("EFFML_DATA"):
        given = Path(given).expanduser()
        folder = given if given.is_dir() else ROOT / given  # notebooks run in their own folder
        if not folder.is_dir():
            raise ValueError(
                f"EFFML_DATA={given} is no folder. Set it to the folder which holds your data, or unset it."
            )
        yield folder
        yield from sorted(path for path in folder.iterdir() if path.is_dir())
    if (ROOT / "pyproject.toml").is_file():  # a checkout; else ROOT is where pip puts packages
        yield ROOT / "data"
    yield from (Path("data"), Path.home() / ".medmnist")


def find(name: str, *, size: int = 28, root: str | os.PathLike | None = None) -> Path:
    """The file (for MNIST the folder) on this machine that a name or path stands for.

    Raises FileNotFoundError (what was looked for, where, and how to get it) and ValueError for a file under an official
    name whose MD5 is not the official one.
    """
    if name.endswith((".npz", ".npy")) or Path(name).is_file():
        if Path(name).is_file():
            return Path(name)
        raise FileNotFoundError(
            f"There is no file {name}. Check the path; relative paths start at {Path.cwd()}."
        )
    if name == "mnist":
        return _find_mnist(root)
    remote = remote_files(name, size=size)
    file = remote[0].path if remote else f"{name}.npz"
    damaged = []
    for path in (folder / file for folder in folders(root)):
        if path.is_file():
            if not remote or digest(path, "md5") == remote[0].md5:
                return path
            damaged.append(path)
    if damaged:
        raise ValueError(
            f"{damaged[0]} is not the official {name}: its MD5 is {digest(damaged[0], 'md5')}, MedMNIST's is "
            f"{remote[0].md5}. Get the file again, or load it by its path if the difference is meant."
        )
    raise FileNotFoundError(
        f"{file} was not found in {', '.join(map(str, folders(root)))}. {advice(name, remote, root)}"
    )


def _find_mnist(root: str | os.PathLike | None) -> Path:
    for folder in folders(root):
        for place in (folder / "MNIST" / "raw", folder / "raw", folder):
            if all((place / file).is_file() for file in MNIST_FILES):
                return place
    raise FileNotFoundError(
        f"MNIST's four idx files were not found in {', '.join(map(str, folders(root)))}. "
        f"{advice('mnist', remote_files('mnist'), root)}"
    )


def advice(name: str, remote: list[RemoteFile], root: str | os.PathLike | None = None) -> str:
    """How to come by a set that is not here: the command, four steps by hand, or a phantom."""
    other = f"choose a phantom: {', '.join(PHANTOMS)}"
    if not remote:
        return f"Set EFFML_DATA to the folder which holds it, give a path, or {other}"
    target = folders(root)[0]
    size = re.search(r"_(64|128|224)\.npz$", remote[0].path)
    wanted = f" --size {size[1]}" if size else ""
    if len(remote) == 1:
        steps = (
            f"1. Get {remote[0].urls[0]} on any machine.\n2. Check its MD5: {remote[0].md5}.\n"
            f"3. Put it into {(target / remote[0].path).parent} as {Path(remote[0].path).name}."
        )
    else:
        lines = (
            "".join(f"\n   {file.urls[0]}" for file in remote),
            "".join(f"\n   {file.md5}" for file in remote),
        )
        steps = (
            f"1. Get these files on any machine:{lines[0]}\n2. Check their MD5, in this order:{lines[1]}\n"
            f"3. Put them into {(target / remote[0].path).parent}, their names unchanged."
        )
    return (
        f"With a network: python -m effml data get {name}{wanted}. By hand:\n{steps}\n4. Say python -m effml data verify "
        f"{name}. Or set EFFML_DATA to the folder which holds it, or {other}"
    )


def images_of_masks(path: Path) -> Path | None:
    """The JPEG container beside a file of masks, such as ham10000_200x150_jpeg.npz beside ham10000_masks_200x150.npz."""
    begin, masks, _ = path.stem.partition("_masks")
    return next(iter(sorted(path.parent.glob(f"{begin}_*_jpeg.npz"))), None) if masks else None


def valid(path: Path, file: RemoteFile) -> bool:
    """Whether `path` is this public file, by its MD5 (or by that of its content, for a .gz file that was packed anew)."""
    if not path.is_file():
        return False
    try:
        return (
            digest(path, "md5") == file.md5
            or bool(file.md5_inside)
            and digest(path, "md5 inside") == file.md5_inside
        )
    except (OSError, EOFError, zlib.error):  # no gzip file, or a damaged one
        return False


def digest(path: Path, kind: str) -> str:
    """The "md5", "sha256" or "md5 inside" (of a .gz file's content) of a file together with those it needs (MNIST's folder,
    the images of masks), in hexadecimal digits; remembered until one of them changes."""
    beside = images_of_masks(path)
    paths = (
        [path / file for file in MNIST_FILES]
        if path.is_dir()
        else [path]
        if beside is None
        else [path, beside]
    )
    stats = [file.stat() for file in paths]
    return _digest(tuple(paths), kind, tuple((stat.st_mtime_ns, stat.st_size) for stat in stats))


@lru_cache(maxsize=64)
def _digest(paths: tuple[Path, ...], kind: str, _version: tuple) -> str:
    total = hashlib.new(kind.removesuffix(" inside"), usedforsecurity=False)
    for path in paths:
        with gzip.open(path) if kind.endswith(" inside") else open(path, "rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()
