"""What a deployed folder holds: the model in two formats, the program and what it imports, pictures
with the answers they must get, the gate's numbers, and a manifest of all."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from effml.deployment import export, predict_template
from effml.deployment.predict_template import (
    MANIFEST,
    by_onnxruntime,
    by_openvino,
    probabilities,
)
from effml.deployment.predictor import Predictor
from effml.importing.decoding import as_imported, averaged
from effml.machine import ROOT, optional
from effml.results import file_sha256

if TYPE_CHECKING:
    from torch import nn

PARTS = {
    "deployment": ["gate", "repeating"],
    "evaluation": ["auroc", "calibration", "checks", "intervals", "overlap", "paired"],
    "importing": ["decoding", "dicom", "grey", "looking", "rasters", "square"],
    "data": ["spelling"],
}
"""The modules that predict.py imports, all of them without torch: they go along as `parts`."""
_OURS = re.compile(r"from effml\.(?:deployment|evaluation|importing|data)\.(\w+) import")
TOLERANCE = {"f32": 1e-3, "bf16": 0.02, "int8": 0.02}
"""How far the answers to the stored pictures may be off on another CPU, by precision."""


def write_program(folder: Path) -> None:
    """predict.py, what it imports, and the packages it needs."""
    (folder / "parts").mkdir()
    files = {folder / "predict.py": Path(predict_template.__file__)}
    for room, names in PARTS.items():
        files |= {folder / f"parts/{x}.py": ROOT / "effml" / room / f"{x}.py" for x in names}
    for file, source in files.items():
        text = source.read_text(encoding="utf-8").replace(
            "from effml.deployment.predict_template import", "from predict import"
        )
        file.write_text(_OURS.sub(r"from parts.\1 import", text), encoding="utf-8")
    (folder / "parts/__init__.py").touch()
    needed = [f"{name}=={version(name)}" for name in ("openvino", "numpy", "pillow")]
    others = {"onnxruntime": "instead of openvino", "tifffile": "for TIFF", "pydicom": "for DICOM"}
    text = "\n".join([*needed, *(f"# {name}  {why}" for name, why in others.items())])
    (folder / "requirements.txt").write_text(f"{text}\n", encoding="utf-8")


def write_openvino(folder: Path, predictor: Predictor, facts: Mapping[str, Any]) -> None:
    """model.xml and model.bin: pictures uint8 (N, height, width, C) of any size to logits. Resizing
    (bilinear, as Pillow) and normalisation are in the graph, `facts` in its rt_info."""
    ov = optional("openvino", "inference")
    from openvino.preprocess import PrePostProcessor, ResizeAlgorithm

    around = PrePostProcessor(ov.Core().read_model(predictor.folder / "model.xml"))
    picture = around.input()
    picture.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    picture.tensor().set_spatial_dynamic_shape()
    picture.model().set_layout(ov.Layout("NCHW"))
    steps = picture.preprocess().resize(ResizeAlgorithm.RESIZE_BILINEAR_PILLOW)
    steps.convert_element_type(ov.Type.f32).mean(127.5).scale(127.5)
    model = around.build()
    model.input().get_tensor().set_names({"picture"})
    for name, value in facts.items():
        model.set_rt_info(value, ["effml", name])
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)


def write_onnx(folder: Path, model: "nn.Module", example: Any) -> None:
    """model.onnx in float32, with the same input as model.xml, for ONNX Runtime."""
    onnx, compose, parser = (
        optional(name, "inference") for name in ("onnx", "onnx.compose", "onnx.parser")
    )
    _, channels, height, width = example.shape
    resize = 'mode = "linear", antialias = 1, axes = [2, 3]'
    before = parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 18]>
        before (uint8[batch, height, width, {channels}] picture)
            => (float[batch, {channels}, {height}, {width}] prepared) {{
          picture_sides = Constant <value = int64[2] {{{height}, {width}}}> ()
          picture_half = Constant <value = float {{127.5}}> ()
          picture_turned = Transpose <perm = [0, 3, 1, 2]> (picture)
          picture_values = Cast <to = 1> (picture_turned)
          picture_resized = Resize <{resize}> (picture_values, , , picture_sides)
          picture_whole = Round (picture_resized)
          picture_shifted = Sub (picture_whole, picture_half)
          prepared = Div (picture_shifted, picture_half)
        }}""")
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "model.onnx"
        export.to_onnx(model, example, file, opset=18)
        after = onnx.load(file)
    after.ir_version = before.ir_version
    whole = compose.merge_models(before, after, io_map=[("prepared", "images")])
    onnx.save(whole, folder / "model.onnx")


def write_examples(
    folder: Path,
    facts: Mapping[str, Any],
    answer: Callable[[np.ndarray], np.ndarray],
    judged: Callable[[np.ndarray], np.ndarray],
) -> dict[str, dict[str, Any]]:
    """Pictures of nobody in the folder examples: for each the SHA-256 of its pixels as the model
    takes them, and the probabilities of both engines. `answer` gives those of the trained model for
    uint8 images, `judged` those of the version that the gate saw. ValueError where ONNX Runtime's
    are not the first, or OpenVINO's, with one thread or with all, not the second: its kernels of 8
    bits were seen to be wrong with one thread."""
    found = {}
    several = by_openvino(folder, facts, max(2, os.cpu_count() or 1))
    engines = {"openvino": by_openvino(folder, facts, 1), "onnxruntime": by_onnxruntime(folder, 1)}
    (folder / "examples").mkdir()
    for name, picture in _pictures(facts).items():
        file = folder / "examples" / name
        picture.save(file)
        image = as_imported(file, facts["preprocessing"], [])[0]
        image = averaged(image, facts["image_shape"][-1])
        one = found[f"examples/{name}"] = {"pixels": hashlib.sha256(image.tobytes()).hexdigest()}
        rows = np.ascontiguousarray(np.moveaxis(image, 0, -1)[None])
        for engine, logits in engines.items():
            one[engine] = probabilities(logits(rows), facts["task"])[0].round(7).tolist()
        wanted = judged(image[None])[0]
        for used, p in (
            ("one thread", np.array(one["openvino"])),
            ("several threads", probabilities(several(rows), facts["task"])[0]),
        ):
            if not (off := np.abs(p - wanted).max()) <= TOLERANCE[facts["precision"]]:
                raise ValueError(
                    f"{facts['runtime']} with {used} gives answers that are {off:.2g} off those "
                    "that the gate saw, on this CPU, from the same file: give rungs without it."
                )
        off = np.abs(np.array(one["onnxruntime"]) - answer(image[None])[0]).max()
        if not off <= TOLERANCE["f32"]:
            raise ValueError(
                f"model.onnx gives answers that are {off:.2g} off: choose another model."
            )
    return found


def _pictures(facts: Mapping[str, Any]) -> dict[str, Image.Image]:
    """Smooth noise, larger and smaller than the model's images, grey and in colour, 8 and 16 bit;
    without colour where the import refused it."""
    rng, side = np.random.default_rng(0), facts["image_shape"][-1]

    def noise(*sides: int) -> Image.Image:
        few = Image.fromarray(rng.integers(0, 256, (7, 7, 3), np.uint8))
        return few.resize(sides, Image.Resampling.BICUBIC)

    small = (max(side // 2, 9), max(side // 3, 8))
    pictures = {
        "grey.png": noise(side + side // 3, side).convert("L"),
        "grey-small.png": noise(*small).convert("L"),
        "grey-16-bit.png": Image.fromarray(
            np.asarray(noise(side, 2 * side).convert("L")).astype(np.uint16) * 201
        ),
        "colour.png": noise(2 * side, side + side // 2),
    }
    if facts["preprocessing"]["colour"] == "auto":
        del pictures["colour.png"]
    return pictures


def seal(folder: Path, facts: Mapping[str, Any]) -> str:
    """Write the manifest: `facts`, and the SHA-256 of every file. Its own SHA-256 is returned, the
    fingerprint."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    named = {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
    text = json.dumps(
        plain({**facts, "files": named}), ensure_ascii=False, indent=1, allow_nan=False
    )
    (folder / MANIFEST).write_bytes(f"{text}\n".encode())
    return file_sha256(folder / MANIFEST)


def plain(value: Any) -> Any:
    """As JSON has it: what is not known (NaN) as null, numbers of NumPy as plain ones."""
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, (str, int, bool)) or value is None:
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    return str(value)
