"""`predict.py --verify`: the stored examples and the quality gate once more, on this machine. It
needs NumPy alone."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from effml.deployment.gate import PASSES, Gate
from effml.importing.decoding import averaged

if TYPE_CHECKING:
    from effml.deployment.predict_template import Deployed


PLAIN = ".txt", ".md", ".pdf", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".json", ".log"
"""Endings of files that nothing runs."""
JUDGED = ("task", "positive", "thresholds")


def verify(model: "Deployed", folder: Path, data: str | None = None, gate: bool = True) -> int:
    """Say what comes out here; 0 where it is as good as where the model was built and no file is
    foreign that a program could run, else 1."""
    others = model.foreign(folder)
    if plain := [name for name in others if Path(name).suffix in PLAIN]:
        print(f"note  {', '.join(plain)}: not of the deployment, and no program.")
    if others := [name for name in others if name not in plain]:
        print(f"FAILS {', '.join(others)}: not of the deployment. Take away what is not yours.")
    failed = len(others) + examples(model, folder) + (repeated(model, folder, data) if gate else 0)
    print("It FAILS here: do not use this model on this machine." if failed else "All is well.")
    return int(failed > 0)


def examples(model: "Deployed", folder: Path) -> int:
    """How many of the stored pictures get other pixels, or other answers, than they should."""
    said, failed = model.manifest, 0
    which = model.engine.partition(",")[0]
    for name, wanted in said["examples"].items():
        image, _ = model.read(folder / name, [])
        off = float(np.abs(model.predict(image[None])[0] - np.array(wanted[which])).max())
        told, fine = f"{off:.2g} off, {said['tolerance']:g} allowed", off <= said["tolerance"]
        if hashlib.sha256(image.tobytes()).hexdigest() != wanted["pixels"]:
            fine, told = False, "other pixels here: pip install -r requirements.txt"
        print(f"{'ok' if fine else 'FAILS':6}{name}: {told}")
        failed += not fine
    return failed


def repeated(model: "Deployed", folder: Path, data: str | None) -> int:
    """How many measures of the gate fail here."""
    with np.load(folder / "gate.npz", allow_pickle=False) as stored:
        known = dict(stored)
    if (images := known.get("images")) is None:
        images = _find(data, known["digests"], model.manifest["image_shape"])
    said = model.manifest
    gate, how = Gate(**said["gate"]["margins"]), {x: said[x] for x in JUDGED}
    here = model.predict(images)
    found = gate.check(known["reference"], here, known["truth"], groups=known.get("groups"), **how)
    print(f"The gate, on {len(here)} images, against the trained model: {found.reason}")
    for row in found.rows:
        print(f"{'ok' if row.verdict in PASSES else 'FAILS':6}{row}")
    return sum(row.verdict not in PASSES for row in found.rows)


def _find(data: str | None, digests: np.ndarray, shape: list[int]) -> np.ndarray:
    """The gate's images in an .npz of the data, by their SHA-256. ValueError where one lacks."""
    if data is None:
        advice = (
            "say predict.py --verify --images DATA.npz, with the data that the run learned from"
        )
        raise ValueError(f"This folder holds no image of a patient. To repeat the gate, {advice}.")
    found = {}
    try:
        opened = np.load(data, allow_pickle=False)
        opened.files
    except (ValueError, OSError, AttributeError, BadZipFile):
        raise ValueError(f"{data} is no .npz that can be read: give the data of the run.") from None
    with opened as stored:
        for name in (name for name in stored.files if name.endswith("_images")):
            for image in stored[name]:
                image = np.moveaxis(np.atleast_3d(image), -1, 0)
                image = np.ascontiguousarray(averaged(image, shape[-1]))
                found[digest(image)] = image
    if missing := [one for one in digests.tolist() if one not in found]:
        told = f"{len(missing)} of the gate's {len(digests)} images are not in {data}"
        raise ValueError(f"{told}: give the data that the run learned from, unchanged.")
    return np.stack([found[one] for one in digests.tolist()])


def digest(image: np.ndarray) -> str:
    """By which an image uint8 (C, S, S) is known again."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
