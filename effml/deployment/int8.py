"""Models in 8 bits: by NNCF for OpenVINO, by ONNX Runtime for itself. What they look at are
training images, never labels."""

import io
import logging
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from effml.machine import cpu, optional

if TYPE_CHECKING:
    import torch

MOST = 300
"""Images that a calibration looks at; of more, as many at equal distances."""

CONTROL, CONTROL_IMAGES = 0.05, 64
"""Accuracy control: the largest relative error of the logits, on how many images."""


def import_nncf() -> ModuleType:
    """NNCF, which says only what went wrong. When it is imported something draws from `random`."""
    before = random.getstate()
    nncf = optional("nncf", "inference")
    random.setstate(before)
    nncf.set_log_level(40)  # errors
    return nncf


def some(calibration: np.ndarray) -> list[np.ndarray]:
    """At most MOST images, each a batch of one."""
    chosen = np.linspace(0, len(calibration) - 1, min(MOST, len(calibration))).astype(int)
    return [calibration[i : i + 1] for i in chosen]


def by_nncf(
    model: Any,
    calibration: np.ndarray,
    *,
    half_range: bool = False,
    minmax: bool = False,
    transformer: bool = False,
    control: bool = False,
) -> Any:
    """An ov.Model in 8 bits. `half_range`: weights of 7 bits in all layers; `minmax`: activations
    up to the largest of all images, not to the mean of each one's largest; `transformer`: NNCF's
    preset; `control`: layers stay float32 as long as the logits are more than CONTROL off."""
    nncf, images = import_nncf(), some(calibration)
    fix = nncf.OverflowFix.ENABLE if half_range else nncf.OverflowFix.FIRST_LAYER
    advanced = nncf.AdvancedQuantizationParameters(overflow_fix=fix)
    if minmax:
        ranges = nncf.quantization.range_estimator.RangeEstimatorParametersSet
        advanced.activations_range_estimator_params = ranges.MINMAX
    kind = nncf.ModelType.TRANSFORMER if transformer else None
    data, how = nncf.Dataset(images), {"subset_size": len(images), "model_type": kind}
    with no_bars():
        if not control:
            return nncf.quantize(model, data, advanced_parameters=advanced, **how)
        score = Closeness(model, images[:CONTROL_IMAGES])
        seen = nncf.Dataset(images[:CONTROL_IMAGES])
        return nncf.quantize_with_accuracy_control(
            model, data, seen, score, max_drop=CONTROL, **how
        )


@contextmanager
def rounding(model: "torch.nn.Module", calibration: np.ndarray) -> Iterator["torch.nn.Module"]:
    """A copy of the model that rounds weights and activations to 8 bits as it computes, so that it
    can be trained with that. In the block NNCF rounds by torch's own functions: it would compile
    C++ for minutes, or where it finds no compiler its own copies of these."""
    import torch

    from effml.models import Part

    nncf = import_nncf()
    from nncf.torch.quantization import extensions

    images = [torch.tensor(x) for x in some(calibration)]
    plain = patch.object(
        extensions.QuantizedFunctionsCPU,
        "_loaded_namespace",
        extensions.ReferenceQuantizedFunctions,
    )
    with plain, torch.compiler.set_stance("force_eager"):
        with no_bars():
            rounded = nncf.quantize(Part(model), nncf.Dataset(images), subset_size=len(images))
        yield rounded


@contextmanager
def no_bars() -> Iterator[None]:
    """Without NNCF's progress bars, which are printed, and in a notebook are widgets."""
    with redirect_stdout(io.StringIO()), patch("rich.progress.Progress.start"):
        yield


class Closeness:
    """NNCF's measure of a quantised model: 1 minus the relative error of its logits."""

    def __init__(self, model: Any, images: list[np.ndarray]) -> None:
        compiled = optional("openvino", "inference").compile_model(
            model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
        self.wanted = np.concatenate([compiled(x)[0] for x in images])

    def __call__(self, compiled: Any, images: Iterable[np.ndarray]) -> float:
        got = np.concatenate([compiled(x)[0] for x in images])
        return 1 - float(np.linalg.norm(got - self.wanted) / np.linalg.norm(self.wanted))


def by_onnxruntime(file: Path, calibration: np.ndarray) -> list[str]:
    """Put the ONNX model in `file` into 8 bits, in place. Gives notes."""
    optional("onnx", "inference")
    quantization = optional("onnxruntime.quantization", "inference")
    narrow = not {"avx512_vnni", "avx_vnni", "asimd"} & set(cpu()[1].split())
    with logging_off():
        quantization.quantize_static(
            file,
            file,
            Images(calibration),
            per_channel=True,
            reduce_range=narrow,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    return ["weights of 7 bits: this CPU has no VNNI"] if narrow else []


class Images:
    """A CalibrationDataReader of ONNX Runtime."""

    def __init__(self, calibration: np.ndarray) -> None:
        self._images = iter(some(calibration))

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {"images": image}


@contextmanager
def logging_off() -> Iterator[None]:
    """ONNX Runtime advises its own preparation of a graph, which the export has done."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
