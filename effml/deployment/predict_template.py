"""What this folder's model says of pictures: python predict.py FOLDER --out predictions.csv

It needs NumPy, Pillow and openvino (or onnxruntime): pip install -r requirements.txt; for TIFF also
tifffile, for DICOM pydicom. It opens no connection. For research, not for clinical use.
"""

import sys

if __name__ == "__main__":  # of what lies beside this file only its parts are imported
    del sys.path[: not sys.flags.safe_path]
    from importlib.machinery import SourceFileLoader
    from importlib.util import spec_from_loader
    from types import ModuleType

    class Parts(SourceFileLoader):
        """A part from its text alone: no .pyc is read or written, no folder or library tried."""

        def get_code(self, name):
            return self.source_to_code(self.get_data(self.path), self.path)

        @classmethod
        def find_spec(cls, name, path=None, target=None):
            file = f"{__file__.removesuffix('predict.py')}parts/{name.removeprefix('parts.')}.py"
            if name.startswith("parts."):
                return spec_from_loader(name, cls(name, file))

    sys.meta_path.insert(0, Parts)
    sys.modules["parts"] = ModuleType("parts")
    sys.modules["parts"].__path__ = []

import argparse
import csv
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

try:
    import numpy as np
    from PIL import Image

    from effml.importing.decoding import as_imported, averaged
    from effml.importing.grey import Unusable
    from effml.importing.looking import passed_over, pictures_in
    from effml.importing.square import inside
except (ModuleNotFoundError, FileNotFoundError) as error:
    what = getattr(error, "name", None) or error.filename
    told = "Copy the whole folder again, or pip install -r requirements.txt"
    sys.exit(f"predict.py: {what} is missing. {told}.")
except Exception as error:  # of many kinds: a part with other letters in it
    sys.exit(f"predict.py: a part is damaged ({error}). Copy the whole folder again.")

HERE = Path(__file__).resolve().parent
MANIFEST, CARD = "manifest.json", "card.json"
AGAIN = "Copy the whole folder again, or deploy the run again"
COLUMNS = {
    "youden": "answer at youden",
    "screening": "answer at screening (sensitivity ≥ 0.95 on validation)",
}
FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")  # a spreadsheet runs cells that begin so


def checked(folder: Path) -> dict[str, Any]:
    """The manifest, once every file is the one that it names; with its `fingerprint`, the SHA-256
    of the manifest itself. ValueError for a file that is missing, damaged or another's."""
    try:
        text = (folder / MANIFEST).read_bytes()
        manifest = json.loads(text)
        files = manifest["files"]
    except FileNotFoundError:
        told = f"{folder} is no deployed model: it holds no {MANIFEST}"
        raise ValueError(f"{told}. Give the folder that deploy made.") from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{folder / MANIFEST} is damaged. {AGAIN}.") from None
    if lacking := {CARD, "gate.npz", "predict.py"} - {*files}:
        raise ValueError(f"{MANIFEST} does not name {', '.join(sorted(lacking))}. {AGAIN}.")
    for name, sha256 in files.items():
        file = folder / name
        if not file.is_file():
            raise ValueError(f"{file} is missing. {AGAIN}.")
        if hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
            raise ValueError(f"{file} is not the file that was deployed (SHA-256). {AGAIN}.")
    facts = json.loads((folder / CARD).read_bytes())["facts"]
    if other := [name for name in facts if manifest.get(name) != facts[name]]:
        told = f"{MANIFEST} and {CARD} say different things of {', '.join(other)}"
        raise ValueError(f"{told}: one was edited. {AGAIN}.")
    return manifest | {"fingerprint": hashlib.sha256(text).hexdigest()}


class Deployed:
    """A deployed folder whose files are whole: `read` pictures, `predict` what they show."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        self.manifest = checked(folder)
        self.engine, self._answer = _engine(folder, self.manifest, threads or os.cpu_count() or 1)

    def foreign(self, folder: Path) -> list[str]:
        """Files in the folder that are not of the deployment, but for what predict.py writes."""
        found = {x.relative_to(folder).as_posix() for x in folder.rglob("*") if x.is_file()}
        others = sorted(found - {*self.manifest["files"], MANIFEST})
        return [x for x in others if not (x.endswith(".csv") or "_masks/" in x)]

    def read(self, path: Path, told: list[str]) -> tuple[np.ndarray, tuple[int, int]]:
        """A picture as the training images were made, uint8 (C, S, S), and its (width, height).
        Raises Unusable with the reason; `told` gets what was converted."""
        image, sides = as_imported(path, self.manifest["preprocessing"], told)
        image = averaged(image, self.manifest["image_shape"][-1])
        if list(image.shape) != self.manifest["image_shape"]:
            raise Unusable(f"it is {image.shape}, the model takes {self.manifest['image_shape']}")
        return image, sides

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Probabilities (N, K) of uint8 images (N, C, S, S); of masks (N, S, S)."""
        rows = np.moveaxis(images, 1, -1)
        logits = [self._answer(np.ascontiguousarray(rows[i : i + 1])) for i in range(len(rows))]
        return probabilities(np.concatenate(logits), self.manifest["task"])


def _engine(folder: Path, manifest: Mapping[str, Any], threads: int) -> tuple[str, Callable]:
    """OpenVINO, or else ONNX Runtime: its name, and pictures uint8 (1, S, S, C) to logits."""
    try:
        return f"openvino, {manifest['precision']}", by_openvino(folder, manifest, threads)
    except ImportError:
        return "onnxruntime, f32", by_onnxruntime(folder, threads)


def by_openvino(folder: Path, manifest: Mapping[str, Any], threads: int) -> Callable:
    before = os.environ.get("CI")
    os.environ["CI"] = "true"  # OpenVINO reports its import to Google, but not in a CI
    try:
        import openvino as ov
    finally:
        os.environ.pop("CI") if before is None else os.environ.update(CI=before)

    core, (channels, *sides) = ov.Core(), manifest["image_shape"]
    model = core.read_model(folder / "model.xml")
    model.reshape([1, *sides, channels])  # pictures come in the model's size: no resizing is left
    how = {"INFERENCE_PRECISION_HINT": manifest["hint"], "INFERENCE_NUM_THREADS": threads}
    how |= {"NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    compiled = core.compile_model(model, "CPU", how)
    return lambda picture: compiled(picture)[0]


def by_onnxruntime(folder: Path, threads: int) -> Callable:
    try:
        import onnxruntime as ort
    except ImportError:
        advice = "pip install -r requirements.txt, beside predict.py"
        raise ValueError(f"Neither openvino nor onnxruntime is installed: {advice}.") from None
    ort.disable_telemetry_events()
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    return lambda picture: session.run(None, {"picture": picture})[0]


def probabilities(logits: np.ndarray, task: str) -> np.ndarray:
    """Of logits (N, K); for masks (N, 2, …) that of the structure, (N, …)."""
    if not np.isfinite(logits).all():
        raise ValueError("The model's outputs are not all finite numbers: do not use it here.")
    logits = logits.astype(np.float32)
    if task in ("segmentation", "multi-label"):
        x = logits[:, 1] - logits[:, 0] if task == "segmentation" else logits
        small = np.exp(-np.abs(x))  # cannot overflow
        return np.where(x >= 0, 1, small) / (1 + small)
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def answered(
    p: np.ndarray, task: str, classes: Sequence[str], positive: int | None, thresholds: Mapping
) -> dict[str, str]:
    """By column the probabilities `p` (K,) and the answers; a threshold that is NaN or None, since
    validation gave none, gives no answer."""
    told = {f"probability of {name}": f"{x:.9g}" for name, x in zip(classes, p)}
    if task == "multi-label":
        return told | {"answer": "; ".join(np.array(classes)[p >= 0.5])}
    if task != "binary":
        return told | {"answer": classes[int(p.argmax())]}
    for aim, least in thresholds.items():
        least = math.nan if least is None else least
        answer = classes[positive if float(p[positive]) >= least else 1 - positive]
        told[COLUMNS[aim]] = "" if math.isnan(least) else answer
    return told


def safe(rows: list[dict[str, Any]]) -> int:
    """Puts a ' before each text that a spreadsheet would run as a formula; returns how many."""
    odd = 0
    for row in rows:
        for name, value in row.items():
            if isinstance(value, str) and value.startswith(FORMULA):
                row[name], odd = f"'{value}", odd + 1
    return odd


def _row(model: Deployed, name: str, path: Path, masks: Path) -> dict[str, Any]:
    """The line of one picture; the mask of one that is outlined goes to the folder `masks`."""
    told: list[str] = []
    try:
        image, sides = model.read(path, told)
    except Unusable as error:
        return {"file": name, "reason": str(error)}
    (p,), said = model.predict(image[None]), model.manifest
    if said["task"] == "segmentation":
        found = in_the_picture(p, sides, said["preprocessing"]) >= 0.5
        file = masks / f"{name}.png"  # with the picture's own ending: a.png and a.jpg are two
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.uint8(found) * 255).save(file)
        row = {f"share of {said['classes'][-1]}": f"{found.mean():.9g}", "mask": str(file)}
    else:
        row = answered(p, *(said[what] for what in ("task", "classes", "positive", "thresholds")))
    return {"file": name, **row, "note": "; ".join(told)}


def in_the_picture(p: np.ndarray, sides: tuple[int, int], how: Mapping[str, Any]) -> np.ndarray:
    """Probabilities (S, S) as they lie in a picture of `sides` (width, height): (height, width)."""
    times = how["size"] // len(p)  # above 1 where the run took means of the import's pixels
    p = p.repeat(times, 0).repeat(times, 1)
    (width, height), (left, top) = inside(sides, how["size"], how["fit"])
    part = np.ascontiguousarray(p[top : top + height, left : left + width], dtype=np.float32)
    return np.asarray(Image.fromarray(part).resize(sides, Image.Resampling.BILINEAR))


def _columns(said: Mapping[str, Any]) -> list[str]:
    if said["task"] == "segmentation":
        middle = [f"share of {said['classes'][-1]}", "mask"]
    else:
        how = (said[what] for what in ("task", "classes", "positive", "thresholds"))
        middle = list(answered(np.zeros(len(said["classes"])), *how))
    return ["file", *middle, "note", "reason"]


def progress(names: Sequence[str]) -> Iterator[str]:
    """The names, with a bar on the screen."""
    start, shown = time.monotonic(), sys.stderr.isatty()
    for number, name in enumerate(names):
        yield name
        done = (number + 1) / len(names)
        left = (time.monotonic() - start) * (1 / done - 1)
        bar = "#" * round(30 * done)
        if shown:
            print(
                f"\r[{bar:30}] {number + 1}/{len(names)}, {left:.0f} s left ",
                end="",
                file=sys.stderr,
            )
    if shown:
        print(file=sys.stderr)


def predict_folder(model: Deployed, folder: Path, out: Path, force: bool) -> int:
    """A line for each picture in `folder` and below; 1 where one has no answer, else 0."""
    masks = out.with_name(f"{out.stem}_masks")
    if out.suffix.lower() != ".csv" or out.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{out}: give --out a name that ends in .csv, outside of {folder}.")
    if out.exists() and not force:
        raise ValueError(f"{out} is there already. Give another --out, or --force.")
    files = pictures_in(SimpleNamespace(refused=(rows := [])), folder)
    if not files:
        raise ValueError(f"There is no picture in {folder} or below: give another folder.")
    if told := passed_over(folder, files):
        print(told, file=sys.stderr)
    rows += [_row(model, name, files[name], masks) for name in progress(list(files))]
    if odd := safe(rows):
        print(f"A ' was put before {odd} cell(s) that a spreadsheet may run.", file=sys.stderr)
    partial = out.with_name(f".{out.name}.partial")
    how = {"encoding": "utf-8", "errors": "surrogateescape"}  # names, where the locale is C
    with open(partial, "w", newline="", **how) as file:
        writer = csv.DictWriter(file, _columns(model.manifest))
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(out)
    refused = [row for row in rows if "reason" in row]
    for row in refused:
        print(f"no answer for {row['file']}: {row['reason']}", file=sys.stderr)
    print(f"{len(rows) - len(refused)} of {len(rows)} pictures have an answer: {out}")
    return int(bool(refused))


def main(words: Sequence[str] | None = None, folder: Path = HERE) -> int:
    parser = argparse.ArgumentParser(prog="predict.py", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "pictures", nargs="?", metavar="FOLDER", help="with pictures in it and below"
    )
    parser.add_argument("--out", default="predictions.csv", metavar="CSV", help="what to write")
    parser.add_argument("--force", action="store_true", help="replace what is there")
    parser.add_argument("--threads", type=int, help="of the CPU (default: all)")
    parser.add_argument("--verify", action="store_true", help="repeat the quality gate on this CPU")
    told = "with --verify: the .npz of the data, where the folder does not hold the gate's images"
    parser.add_argument("--images", metavar="NPZ", help=told)
    given = parser.parse_args(words)
    if given.threads is not None and given.threads < 1:
        parser.error(f"--threads {given.threads}: give 1 or more, or leave it")
    if given.verify == bool(given.pictures):
        parser.error("give a FOLDER of pictures or --verify, one of the two")
    try:
        model = Deployed(folder, given.threads)
        said = model.manifest
        print(f"{said['model']} of {said['run_id']} by {model.engine}. Research use only.")
        print(f"fingerprint {said['fingerprint']}")
        if given.verify:
            from effml.deployment.repeating import verify

            return verify(model, folder, given.images)
        return predict_folder(model, Path(given.pictures), Path(given.out), given.force)
    except (ValueError, OSError, RuntimeError) as error:  # the last is the engines'
        print(f"predict.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
