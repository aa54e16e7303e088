"""Models in 8 bits: by NNCF for OpenVINO, by ONNX Runtime for itself. What they look at are
training images, never labels."""

import io
import os
from contextlib import redirect_stdout
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np

from effml.machine import optional

MOST = 300
"""Images that a calibration looks at; of more, as many at equal distances."""


def import_nncf() -> ModuleType:
    """NNCF, which reports to nobody: at import it would fetch its telemetry and note a consent."""
    with patch.dict(os.environ, {"NNCF_CI": "1"}):
        nncf = optional("nncf", "inference")
    nncf.set_log_level(40)  # errors
    return nncf


def some(calibration: np.ndarray) -> list[np.ndarray]:
    """At most MOST images, each a batch of one."""
    chosen = np.linspace(0, len(calibration) - 1, min(MOST, len(calibration))).astype(int)
    return [calibration[i : i + 1] for i in chosen]


def by_nncf(model: Any, calibration: np.ndarray, **options: Any) -> Any:
    """An ov.Model in 8 bits. `options` are those of nncf.quantize; half_range=True: weights take
    half the range, so that sums cannot overflow on CPUs without VNNI."""
    nncf, images = import_nncf(), some(calibration)
    if options.pop("half_range", False):
        fix = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
        options["advanced_parameters"] = fix
    if options.pop("transformer", False):
        options["model_type"] = nncf.ModelType.TRANSFORMER
    with redirect_stdout(io.StringIO()):  # progress bars
        return nncf.quantize(model, nncf.Dataset(images), subset_size=len(images), **options)
