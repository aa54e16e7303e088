"""A finished model on an engine: float images in, logits out. It is a folder of files with a
manifest, so that a fresh process has the same one."""

import json
import math
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from effml.deployment.engines import ENGINES, Layers
from effml.machine import choose
from effml.results import file_sha256

MANIFEST = "predictor.json"
PASS_PIXELS = 2_000_000  # of one pass, as in training.prediction: 39 images of 224 px
ADVICE = "pixels 0…255 are normalised by images / 127.5 - 1"


class Predictor:
    """A finished model that a runtime computes, with a fixed number of threads.

    Call it with float32 images (N, C, H, W) or (N, C, D, H, W), any N, normalised as the model eats
    them (−1…1): it gives float32 logits. `name` is the runtime's, `shape` that of one image,
    `layers` counts the layers that multiply by the number format they really run in (f32, bf16,
    int8), and `precision` is that of most of them. `file_bytes` are those of the model's files,
    `build_seconds` what the build took, `notes` what a reader must know."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        self.folder, card = folder, manifest(folder)
        self.name, self.shape = card["runtime"], tuple(card["image_shape"])
        self.build_seconds, self.notes = card["build_seconds"], tuple(card["notes"])
        self.threads = threads or card["threads"]
        self.file_bytes = sum((folder / name).stat().st_size for name in card["files"])
        engine = ENGINES[choose("engine", card["engine"], ENGINES)]
        self.engine = engine(folder, card["options"], self.threads)

    @property
    def layers(self) -> Layers:
        return self.engine.layers

    @property
    def precision(self) -> str:
        return max(self.layers, key=self.layers.get, default="f32")

    @property
    def step(self) -> int:
        """Images of one pass through the engine."""
        return max(1, min(512, PASS_PIXELS // math.prod(self.shape[1:])))

    def __call__(self, images: Any) -> np.ndarray:
        images = np.asarray(images)
        if images.dtype.kind != "f" or images.shape[1:] != self.shape or not len(images):
            given = f"{images.dtype} {images.shape}"
            wanted = f"(N, {', '.join(map(str, self.shape))}), one or more"
            raise ValueError(f"Give float images {wanted}; got {given}. {ADVICE}.")
        images = in_range(np.ascontiguousarray(images, dtype=np.float32))
        parts = range(0, len(images), self.step)
        logits = np.concatenate([self.engine(images[i : i + self.step]) for i in parts])
        if not np.isfinite(logits).all():
            raise ValueError(
                f"{self.name} gives logits that are not finite: choose another runtime."
            )
        return logits

    def save(self, folder: str | os.PathLike) -> Path:
        """Copy the files to a new or empty folder, for `load_predictor`."""
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(f"{folder} is not empty: give a new folder.")
        return Path(shutil.copytree(self.folder, folder, dirs_exist_ok=True))

    def __repr__(self) -> str:
        layers = ", ".join(f"{n} {how}" for how, n in self.layers.items())
        size = f"{self.file_bytes / 1e6:.1f} MB"
        return f"Predictor({self.name}, {layers} layers, {self.threads} threads, {size})"


def in_range(images: np.ndarray) -> np.ndarray:
    """The same floats. ValueError where they cannot be normalised images."""
    if not (top := np.abs(images).max()) < np.inf:
        raise ValueError("The images hold pixels that are not finite numbers: look for NaN.")
    if top > 2 and images.min() >= 0 and (images % 1 == 0).all():
        raise ValueError(f"Whole numbers up to {top:g} are no normalised images: {ADVICE}.")
    return images


def load_predictor(folder: str | os.PathLike, threads: int | None = None) -> Predictor:
    """A predictor from the folder that `Predictor.save` wrote.

    Args:
        folder: The folder. Load only those you trust: one of a torch runtime holds a pickle, which
            may run any code.
        threads: CPU threads (default: as it was built).

    Returns:
        The predictor.

    Raises:
        FileNotFoundError: There is none.
        ValueError: A file is not the one that was saved.
        ModuleNotFoundError: Its engine is not installed.

    Example:
        >>> import tempfile, torch
        >>> model, image = effml.build_model("lenet5"), torch.zeros(1, 1, 28, 28)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = effml.build_predictor(model, "eager", image).save(folder)
        ...     effml.load_predictor(folder, threads=1)(image).shape
        (1, 2)
    """
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise ValueError(f"threads={threads!r}: give a whole number of at least 1, or leave it.")
    return Predictor(Path(folder), threads)


def finish(
    folder: Path,
    name: str,
    engine: str,
    shape: tuple[int, ...],
    *,
    options: dict[str, Any],
    threads: int,
    build_seconds: float,
    notes: list[str],
) -> None:
    """Write the manifest of the files in `folder`."""
    card = {
        "runtime": name,
        "engine": choose("engine", engine, ENGINES),
        "image_shape": list(shape),
        "threads": threads,
        "options": options,
        "build_seconds": build_seconds,
        "notes": notes,
        "files": {path.name: file_sha256(path) for path in sorted(folder.iterdir())},
    }
    text = json.dumps(card, ensure_ascii=False, indent=1)
    (folder / MANIFEST).write_text(f"{text}\n", encoding="utf-8")


def default_threads() -> int:
    """OMP_NUM_THREADS, else the cores that this process may use."""
    import psutil

    if (asked := os.environ.get("OMP_NUM_THREADS", "")).isdecimal():
        return max(1, int(asked))
    process = psutil.Process()
    usable = len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else os.cpu_count()
    return min(usable or 1, psutil.cpu_count(logical=False) or usable or 1)


def manifest(folder: Path) -> dict[str, Any]:
    """What the manifest says, once every file is the one it names."""
    try:
        card = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        advice = "Give a folder that predictor.save(folder) wrote."
        raise FileNotFoundError(f"{folder} holds no {MANIFEST}. {advice}") from None
    for name, sha256 in card["files"].items():
        file = folder / name
        if not file.is_file() or file_sha256(file) != sha256:
            told = "is not the file that was saved" if file.is_file() else "is missing"
            raise ValueError(f"{file} {told}: copy the whole folder again, or build it anew.")
    return card


def own_folder() -> Path:
    """A temporary folder for a predictor that is being built."""
    return Path(tempfile.mkdtemp(prefix="effml-predictor-"))


def owned(predictor: Predictor) -> Predictor:
    """The same; its folder goes when it goes."""
    weakref.finalize(predictor, shutil.rmtree, predictor.folder, ignore_errors=True)
    return predictor
