"""`deploy`: from a finished run to a folder that answers for pictures, without torch."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import effml
from effml.data import Dataset, load_dataset, normalize
from effml.deployment import bundle
from effml.deployment.card import write_card
from effml.deployment.gate import Gate, Verdict
from effml.deployment.job import ONE_BRANCH
from effml.deployment.ladder import LADDER, Rung, climb, predicted
from effml.deployment.predict_template import COLUMNS, Deployed
from effml.deployment.predictor import Predictor
from effml.deployment.repeating import digest, verify
from effml.evaluation import by_group, evaluate, evaluate_masks, per_class
from effml.experiment.predict_folder import midway
from effml.experiment.prepare import ONE_LABEL
from effml.experiment.trained_model import TrainedModel, card_of, load_run
from effml.machine import cpu
from effml.metering import measure
from effml.models import takes_values
from effml.recipe import Recipe
from effml.results import load_arrays, load_runs
from effml.selection import select
from effml.training import predict

CALIBRATION = 300
"""Training images that INT8 is calibrated on, each class alike."""


@dataclass(frozen=True)
class Deployment:
    """What `deploy` made: the folder, the SHA-256 of its manifest, the runtime that ships, and each
    rung of the ladder with its reason."""

    folder: Path
    fingerprint: str
    runtime: str
    log: tuple[Rung, ...] = field(repr=False)


def deploy(
    run_id: str,
    folder: str | os.PathLike,
    *,
    store: str | os.PathLike = "results/local",
    model: nn.Module | None = None,
    gate: Gate | None = None,
    rungs: Sequence[str] = LADDER,
    images: bool | None = None,
    branches: bool = False,
) -> Deployment:
    """A folder with the smallest version of a finished model that is as good as it, and predict.py,
    which answers for pictures with OpenVINO or ONNX Runtime, NumPy and Pillow alone.

    Args:
        run_id: As for `load_run`.
        folder: A new folder.
        store: As for `load_run`.
        model: As for `load_run`.
        gate: What may be lost (default: the margins of `Gate`), judged on the validation images.
        rungs: OpenVINO's of RUNTIMES, from the top.
        images: Whether the validation images go along, to repeat the gate anywhere (default: if
            they are simulated). Without them `predict.py --verify` asks for the data's .npz.
        branches: Whether a model whose forward decides by values may be deployed, with the one
            branch that the first training image takes.

    Returns:
        A `Deployment`, with the log of the ladder.

    Raises:
        OSError: No such run, or its weights were not kept; the folder is there, and not empty.
        ValueError: No rung passes the gate, or this model cannot be deployed; the message says why.

    Example:
        >>> recipe = effml.Recipe(model="lenet5", epochs=1)
        >>> record = effml.run(recipe, store="mine", keep_weights=True)
        >>> made = effml.deploy(recipe.id, "ready", store="mine", rungs=["openvino"])
        >>> made.runtime, (made.folder / "predict.py").is_file()
        ('openvino', True)
    """
    folder, gate = Path(folder), gate or Gate()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is there already: give the name of a new folder.")
    if others := [name for name in rungs if not name.startswith("openvino")]:
        raise ValueError(f"{others[0]} makes no model.xml: choose rungs of OpenVINO.")
    trained = load_run(run_id, store, model=model)
    gate.fits(trained.task)
    data, row = _data(trained, card_of(trained.run_id, Path(store)), Path(store))
    trained, told = midway(trained, Path(store), data.val)
    net = trained.model.float()
    if not branches and takes_values(net, normalize(data.train.images[:1])):
        raise ValueError(f"{ONE_BRANCH}. If no image does: effml.deploy(…, branches=True).")
    predictor, log = _climbed(trained, net, data, Path(store), gate, rungs)
    (shipped,) = (rung for rung in log if rung.ships)
    facts = _facts(trained, row, predictor, shipped.verdict, gate)
    facts["thresholds_note"] = told
    made = Made(trained, net, data, row, predictor, log, shipped, facts, told)
    return Deployment(folder, _write(made, folder, images), predictor.name, tuple(log))


def _climbed(
    trained: TrainedModel,
    net: nn.Module,
    data: Dataset,
    store: Path,
    gate: Gate,
    rungs: Sequence[str],
) -> tuple[Predictor, list[Rung]]:
    masks = trained.task == "segmentation"
    return climb(
        net,
        data.train.images[:1],
        _calibration(data, trained, store),
        data.val.images,
        (data.val.masks if masks else data.val.labels).numpy(),
        task=trained.task,
        positive=trained.positive,
        thresholds=trained.thresholds,
        groups=data.val.groups if masks else None,
        gate=gate,
        rungs=rungs,
    )


@dataclass(frozen=True)
class Made:
    """What a deployed folder is made of: `net` in float32, `row` the record of the run, `facts`
    those of the manifest, `told` what became of the thresholds."""

    trained: TrainedModel
    net: nn.Module
    data: Dataset
    row: Mapping[str, Any]
    predictor: Predictor
    log: list[Rung]
    shipped: Rung
    facts: dict[str, Any]
    told: str

    def answer(self, images: Any) -> np.ndarray:
        """Probabilities of the trained model, in float32."""
        return predict(self.net, images, task=self.trained.task)

    def judged(self, images: Any) -> np.ndarray:
        """Those of what ships, as the gate saw it."""
        return predicted(self.predictor, images, self.trained.task)


def _write(made: Made, folder: Path, images: bool | None) -> str:
    """All files, whole or none; the fingerprint."""
    facts = made.facts
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        place = Path(temporary) / "made"
        place.mkdir()
        bundle.write_program(place)
        in_graph = {name: _text(facts[name]) for name in IN_GRAPH}
        bundle.write_openvino(place, made.predictor, in_graph)
        bundle.write_onnx(place, made.net, normalize(made.data.train.images[:1]))
        facts["examples"] = bundle.write_examples(place, facts, made.answer, made.judged)
        private = _write_gate(place, made, images)
        write_card(place, **_card(made, private))
        fingerprint = bundle.seal(place, facts)
        if folder.exists():
            folder.rmdir()
        shutil.move(place, folder)
    return fingerprint


IN_GRAPH = ("run_id", "task", "classes", "positive", "thresholds")
"""What model.xml itself says of its answers, in rt_info."""


def check(folder: str | os.PathLike) -> int:
    """Compare a deployed folder's files with its manifest and answer for its examples again; 0
    where all is well, 1 where an answer is wrong or a file is foreign. ValueError where a file is
    not the one that was deployed."""
    deployed = Deployed(Path(folder))
    print(f"{len(deployed.manifest['files'])} files are whole, {deployed.engine}")
    print(f"fingerprint {deployed.manifest['fingerprint']}")
    return verify(deployed, Path(folder), gate=False)


def _data(
    trained: TrainedModel, card: Mapping[str, Any], store: Path
) -> tuple[Dataset, dict[str, Any]]:
    """The data that the run learned from, and its record; {} where no record is in the store."""
    if len(trained.image_shape) != 3:
        advice = "effml.build_predictor(…).save(folder) keeps a model of volumes"
        raise ValueError(f"{trained.run_id} takes volumes, deploy so far pictures: {advice}.")
    _ = trained.how  # patches are refused here, before anything is built
    if trained.image_shape[1] != trained.image_shape[2]:
        sides = "×".join(map(str, trained.image_shape[1:]))
        raise ValueError(
            f"{trained.run_id} takes images of {sides} px: deploy so far takes squares."
        )
    recipe, runs = Recipe.from_dict(card["recipe"]), load_runs(store)
    data = load_dataset(recipe.data, size=recipe.size)
    rows = runs[runs.run_id == trained.run_id].to_dict("records")
    row = {name: value for name, value in (rows[0] if rows else {}).items() if value == value}
    learned = card.get("data_sha256", row.get("data_sha256"))  # older cards say nothing of it
    if learned not in (None, data.passport["sha256"]):
        told = "are not those that the run learned from (another SHA-256)"
        raise ValueError(f"The data {recipe.data} {told}: bring them back, or run again.")
    if data.val is None:
        raise ValueError(f"{data.name} has no validation images, and the gate judges by them.")
    name = Path(recipe.data).stem if recipe.data.endswith(".npz") else recipe.data  # no folder
    return data, row | {"model": recipe.model, "data": name}


def _calibration(data: Dataset, trained: TrainedModel, store: Path) -> torch.Tensor:
    """Training images that the run learned from, each class alike where each has one label."""
    kept = load_arrays(store, trained.run_id).get("train_index")
    train = data.train if kept is None else data.only(torch.from_numpy(kept)).train
    k = min(CALIBRATION, len(train))
    if trained.task in ONE_LABEL:
        return train.take(select("class_balanced", None, labels=train.labels, k=k))
    return train.take(torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:k])


def _facts(
    trained: TrainedModel,
    row: Mapping[str, Any],
    predictor: Predictor,
    verdict: Verdict,
    gate: Gate,
) -> dict[str, Any]:
    """What the manifest says, but for examples and files."""
    return {
        "made_with": f"effml {effml.__version__}",
        "run_id": trained.run_id,
        "model": row["model"],
        "data": row["data"],
        "task": trained.task,
        "classes": list(trained.classes),
        "positive": trained.positive,
        "thresholds": {
            name: cut if cut == cut else None for name, cut in trained.thresholds.items()
        },
        "image_shape": list(trained.image_shape),
        "preprocessing": dict(trained.how),
        "runtime": predictor.name,
        "precision": predictor.precision,
        "hint": predictor.engine.options["hint"],
        "tolerance": bundle.TOLERANCE[predictor.precision],
        "gate": {
            "margins": asdict(gate),
            "n": verdict.n,
            "largest": verdict.largest,
            "rows": [asdict(one) for one in verdict.rows],
        },
    }


def _text(value: Any) -> Any:
    """As rt_info takes it: text, and lists of text."""
    if isinstance(value, Mapping):
        return [f"{name}: {part}" for name, part in value.items()]
    return list(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _write_gate(folder: Path, made: Made, images: bool | None) -> str:
    """gate.npz, by which the gate can be repeated; in words, whether patients' images are in it."""
    data, val, masks = made.data, made.data.val, made.trained.task == "segmentation"
    shown = np.stack([val.take(slice(i, i + 1))[0].numpy() for i in range(len(val))])
    arrays = {
        "reference": made.answer(val.images),
        "truth": (val.masks if masks else val.labels).numpy(),
        "digests": np.array([digest(image) for image in shown]),
    }
    if masks and val.groups is not None:
        arrays["groups"] = np.unique(val.groups, return_inverse=True)[1]
    simulated = bool(data.passport["phantom"])
    if images or (images is None and simulated):
        arrays["images"] = shown
    np.savez_compressed(folder / "gate.npz", **arrays)
    if "images" not in arrays:
        return (
            "gate.npz holds no image, but of each validation image its label, the trained model's "
            "probabilities and the SHA-256 of its pixels: who has a picture as it was imported can "
            "tell that it is one of them, and its label. To repeat the gate takes the data's .npz"
        )
    if simulated:
        return f"gate.npz holds {len(val)} simulated images"
    return f"gate.npz holds {len(val)} validation images: this folder is as private as they are"


def _card(made: Made, private: str) -> dict[str, Any]:
    """What the model card says. The test images are looked at here, after everything is chosen."""
    trained, data, row, predictor = made.trained, made.data, made.row, made.predictor
    last, thousands = made.shipped, len(data.test) / 1000
    with measure() as cost:
        p = predicted(predictor, data.test.images, trained.task)
    answering = np.array([cost.energy_j, cost.energy_low_j, cost.energy_high_j]) / thousands
    names = [f"train_energy{end}_j" for end in ("", "_low", "_high")]
    costs = {
        "train_seconds": row.get("train_seconds", np.nan),
        "train_energy_J (low, high)": [row.get(name, np.nan) for name in names],
        "J per 1000 answers (low, high)": answering.tolist(),
        "energy_source": row.get("energy_source") or row.get("energy_reason"),
        "milliseconds of an image": last.milliseconds,
        f"the same, {last.fastest_fp32 or 'fastest'} in float32": last.fastest_fp32_milliseconds,
        "share of the CPU that others took meanwhile": last.others_cpu,
        "model_bytes": predictor.file_bytes,
        "model_bytes of the trained model": row.get("model_file_bytes", np.nan),
        "measured on": cpu()[0],
    }
    limits = [
        "Judged on the CPU named above. INT8 differs between CPUs: `predict.py --verify` on yours.",
        f"The gate saw {last.verdict.n} validation images, and no other devices and patients.",
        f"The file {private}.",
        *["The images are simulated: nothing was learned from a patient."]
        * data.passport["phantom"],
        *[f"The run computed in {trained.precision}; what is deployed was compared in fp32."]
        * (trained.precision != "fp32"),
        *(f"{note[0].upper()}{note[1:]}." for note in (*last.verdict.notes, *predictor.notes)),
        *map(str, trained.notes),
        *filter(None, [made.told and f"{made.told}.", row.get("notes")]),
    ]
    return {
        "facts": made.facts,
        "passport": data.passport | {"name": row["data"]},
        "scores": _scored(p, data, trained),
        "tables": {} if trained.task == "segmentation" else _tables(p, data, trained),
        "log": made.log,
        "costs": costs,
        "limits": limits,
    }


def _scored(p: np.ndarray, data: Dataset, trained: TrainedModel) -> dict[str, dict[str, float]]:
    """What the test images say of the deployed model, at each operating point."""
    test = data.test
    if trained.task == "segmentation":
        found = evaluate_masks(p, test.masks.numpy(), groups=test.groups)
        return {"test": found.as_columns()}
    how = {"task": trained.task, "positive": trained.positive}
    cuts = {name: cut for name, cut in trained.thresholds.items() if cut == cut}
    if trained.task != "binary" or not cuts:
        cuts = {"test": None}
    return {
        COLUMNS.get(name, name).removeprefix("answer at "): evaluate(
            p, test.labels.numpy(), thresholds=cut, **how
        ).as_columns()
        for name, cut in cuts.items()
    }


def _tables(p: np.ndarray, data: Dataset, trained: TrainedModel) -> dict[str, Any]:
    """By class, by what the data say of the images, and how far the probabilities hold."""
    import pandas

    from effml.evaluation.calibration import events, reliability
    from effml.evaluation.checks import checked

    test, how = data.test, {"task": trained.task, "positive": trained.positive}
    labels, first = test.labels.numpy(), next(iter(trained.thresholds.values()), np.nan)
    cut = {"thresholds": first if first == first and trained.task == "binary" else None}
    tables = {"By class": per_class(p, labels, classes=trained.classes, **how, **cut)}
    for name, values in test.meta.items():
        if len(values) == len(labels) and 1 < len(np.unique(values)) <= 20:
            found = by_group(p, labels, np.asarray(values).astype(str), **how, **cut)
            shown = ["n", "auroc", "sensitivity", "specificity", "worst_class_recall", "ece"]
            tables[f"By {name}"] = found[[*shown, "enough", "worst"]].dropna(axis=1, how="all")
    sure, came = (x.ravel() for x in events(*checked(p, labels, **how), trained.task))
    count, foretold, seen = reliability(sure, came, bins=5)
    table = pandas.DataFrame({"n": count, "foretold": foretold, "came true": seen})
    table.index = pandas.Index(["0–0.2", "0.2–0.4", "0.4–0.6", "0.6–0.8", "0.8–1"], name="said")
    return tables | {"Calibration": table}
