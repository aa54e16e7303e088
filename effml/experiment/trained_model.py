"""`load_run`: the model that a run left, ready to answer for new pictures."""

import copy
import json
import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from effml.compression import load_compressed
from effml.data import Split
from effml.experiment.write import AIMS, fingerprint
from effml.models import build_model
from effml.precision import arithmetic
from effml.recipe import Recipe
from effml.results import CARD, file_sha256, read_records
from effml.training import predict
from effml.training.prediction import channels_last

AGAIN = "Run it again with --keep-weights (in Python keep_weights=True)."


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model with what its answers need. `thresholds` on the probability of the positive class,
    "youden" and "screening" (sensitivity >= 0.95), are chosen on the validation split; where they
    are NaN `notes` say why. `preprocessing` is how pictures became its images."""

    run_id: str
    model: nn.Module
    task: str
    classes: tuple[str, ...]
    positive: int | None
    thresholds: dict[str, float]
    notes: tuple[str, ...]
    preprocessing: dict[str, Any]
    image_shape: tuple[int, ...]
    precision: str

    def predict(self, images: Any) -> np.ndarray:
        """Probabilities (N, K) of images, uint8 (N, C, H, W), tensor or array, or of picture files.
        ValueError for other images, or a file that cannot be read or does not fit."""
        images = getattr(images, "images", images)  # of a Split
        if not isinstance(images, (torch.Tensor, np.ndarray)):
            if isinstance(images, (str, os.PathLike)) or not len(images):
                raise ValueError(f"images={images!r}: give a list of one path or more, ['a.png'].")
            images = np.stack([self.read(path) for path in images])
        images = torch.as_tensor(images)
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != self.image_shape:
            given = tuple(images.shape)
            wanted = f"{self.run_id} takes uint8 {self._images}, or the paths of pictures"
            raise ValueError(f"images are {images.dtype} {given}; {wanted}.")
        return predict(self.model, Split(images), task=self.task, precision=self.precision)

    @property
    def _images(self) -> str:
        return f"(N, {', '.join(map(str, self.image_shape))})"

    @property
    def how(self) -> dict[str, Any]:
        """`preprocessing` as `effml.importing.preprocess` takes it: that of the import, or where
        none says how the pictures were made, padded squares. ValueError for a model of patches,
        since no file is one."""
        how = self.preprocessing
        if "fit" in how:
            return how
        if side := how.get("patches"):
            advice = f".predict takes patches that you cut, uint8 {self._images}"
            raise ValueError(f"{self.run_id} learned from patches of {side} px: {advice}.")
        colour = "rgb" if how["channels"] == 3 else "grey"
        made = {"size": how["size"], "fit": "pad", "colour": colour, "window": None}
        return made | ({"volumes": True} if len(self.image_shape) == 4 else {})

    def read(self, path: str | os.PathLike, told: list[str] | None = None) -> np.ndarray:
        """A picture as the model takes it, uint8 (C, H, W); what was converted is added to `told`.
        ValueError where that cannot be."""
        from effml.importing import preprocess
        from effml.importing.decoding import averaged

        image = np.asarray(preprocess(path, self.how, told))
        if image.ndim == 3:
            image = averaged(image, self.image_shape[-1])
        if image.shape != self.image_shape:
            raise ValueError(f"it is {image.shape}, and the model takes {self.image_shape}")
        return image


def load_run(
    run_id: str, store: str | os.PathLike = "results/local", *, model: nn.Module | None = None
) -> TrainedModel:
    """The model that a run left, with the weights of its best epoch.

    Args:
        run_id: That of a record, a beginning that only one has, or a recipe id (its newest run).
        store: The folder that the run was done with, and keep_weights=True.
        model: For a run of your own model: one of the same class and sizes, which is copied.

    Returns:
        A `TrainedModel`: .model (in eval mode, on the CPU), .thresholds, and
        .predict(images or paths) -> probabilities (N, K).

    Raises:
        FileNotFoundError: There is no such run, or its weights were not kept.
        ValueError: The weights have changed since, or do not fit `model`.

    Example:
        >>> recipe = effml.Recipe(model="mlp", epochs=1)
        >>> record = effml.run(recipe, store="mine", keep_weights=True)
        >>> trained = effml.load_run(recipe.id, "mine")
        >>> trained.predict(effml.load_dataset("phantom-chest").test.images[:3]).shape
        (3, 2)
    """
    card = card_of(run_id, store := Path(store))
    net, precision, notes = _model(card, store, model), card["precision_used"], card["notes"]
    repair = card["recipe"].get("half_repair", "none")
    if precision.endswith("fp16"):
        notes = [*notes, f"computed in fp32: {precision} needs a GPU"]
        precision = "fp32"
    preprocessing = card["preprocessing"]
    if preprocessing is None:
        size, channels = card["build"]["size"], card["build"]["in_channels"]
        preprocessing = {"size": size, "channels": channels}
        told = "not from an import of effml: pictures are padded to squares of"
        deep = "16 bits are stretched picture by picture; make them 8 bit as the images were"
        notes = [f"{told} {size} px with {channels} channel(s)", deep, *notes]
    trained = TrainedModel(
        run_id=card["run_id"],
        model=arithmetic(precision, "cpu").prepare(net, repair).eval(),
        task=card["task"],
        classes=tuple(card["classes"]),
        positive=card["positive"],
        thresholds={aim: math.nan if (x := card["thresholds"][aim]) is None else x for aim in AIMS},
        notes=tuple(notes),
        preprocessing=preprocessing,
        image_shape=tuple(card["image_shape"]),
        precision=precision,
    )
    if card.get("fingerprint"):
        _compare(trained, card)
    return trained


def _compare(trained: TrainedModel, card: dict[str, Any]) -> None:
    """ValueError where your own model answers otherwise for noise than it did in the run."""
    how = trained.image_shape, trained.task, trained.precision
    off = np.abs(fingerprint(trained.model, *how) - card["fingerprint"]).max()
    exact = card["precision_used"] == "fp32" and card.get("device", "cpu") == "cpu"
    if not off <= (1e-3 if exact else 0.05):  # few bits: GPUs differ, and take TF32 for fp32
        raise ValueError(
            f"With the weights of {trained.run_id} this model's answers differ by up to {off:.2g} "
            "from those in the run: its forward is another. Give the model as it was then."
        )


def _model(card: dict[str, Any], store: Path, own: nn.Module | None) -> nn.Module:
    """The model with the weights that the run left."""
    from safetensors.torch import load_file

    run_id, name = card["run_id"], Recipe.from_dict(card["recipe"]).model
    file = store / f"{run_id}.safetensors"
    if file_sha256(file) != card["kept_sha256"]:
        raise ValueError(f"{file} is gone, or not what the run left. {AGAIN}")
    if not name.startswith("own:"):
        own = None
    elif not isinstance(own, nn.Module):
        raise ValueError(
            f"{run_id} is a run of {name}, a class of yours: give one as "
            "effml.load_run(…, model=…).predict(paths) or effml.deploy(…, model=…), in Python: a "
            "command line cannot."
        )
    elif type(own).__name__ != name.removeprefix("own:"):
        raise ValueError(f"{run_id} is a run of {name}, and model is a {type(own).__name__}.")
    if card["compressed"]:
        net = load_compressed(file, own)
    else:
        net = build_model(name, **card["build"]) if own is None else copy.deepcopy(own)
        try:
            net.load_state_dict(load_file(file))
        except RuntimeError as error:  # names or shapes
            raise ValueError(f"The weights in {file} do not fit this model: {error}") from error
    return channels_last(net)  # as it was trained: sums in the same order


def card_of(asked: str, store: Path) -> dict[str, Any]:
    """The card of the run that `asked` names."""
    if not isinstance(asked, str) or not asked:
        given = repr(asked) if isinstance(asked, str) else f"a {type(asked).__name__}"
        raise ValueError(f"run_id is {given}: give record.run_id, its beginning or a recipe id.")
    names = [path.name.removesuffix(CARD) for path in store.glob(f"*{CARD}")]
    fitting = [name for name in names if name.startswith(asked)]
    if not fitting:
        menu = ", ".join(sorted(names)) or "(none)"
        rows = read_records(store)[0]
        told = f"{store} keeps no weights of a run {asked!r}"
        if any(str(row.get("run_id") or row["recipe_id"]).startswith(asked) for row in rows):
            raise FileNotFoundError(f"{told}. {AGAIN} Choose from: {menu}")
        kept = "Give one that was kept with --keep-weights (in Python keep_weights=True)"
        told += f", and has no such run. {kept}. Choose from: {menu}"
        if Path(asked).exists():
            told += f". {asked} is a folder or a file: the run goes first, as in predict RUN FOLDER"
        raise FileNotFoundError(told)
    if len(fitting) > 1 and {name.rpartition("-")[0] for name in fitting} != {asked}:
        raise ValueError(f"{asked!r} begins several runs. Choose from: {', '.join(fitting)}")
    cards = [_read(store / f"{name}{CARD}") for name in fitting]
    return max(cards, key=lambda card: card["started_utc"])


def _read(file: Path) -> dict[str, Any]:
    """A card, with all that is asked of one."""
    with suppress(ValueError, AttributeError):  # not UTF-8, not JSON, no object
        card = json.loads(file.read_text(encoding="utf-8"))
        if {"run_id", "recipe", "started_utc", "kept_sha256", "compressed"} <= card.keys():
            return card
    raise ValueError(f"{file} is damaged. {AGAIN}")
