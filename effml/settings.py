"""The five settings of Selvan, Schön, Dam 2023, as fields of a recipe."""

from collections.abc import Iterable
from typing import Any

SETTINGS: dict[str, dict[str, str]] = {
    "baseline": {"precision": "fp32", "optimizer": "adam"},
    "amp": {"precision": "amp", "optimizer": "adam"},
    "8bit": {"precision": "fp32", "optimizer": "adam8bit"},
    "8bit_half": {"precision": "half", "optimizer": "adam8bit"},
    "amp_8bit": {"precision": "amp", "optimizer": "adam8bit"},
}
"""In the order of the paper's tables. The low precision is that of the device, see LOW."""

LOW = {
    "cuda": {"amp": "amp_fp16", "half": "fp16"},  # theirs: AMP with loss scaling, half without
    "cpu": {"amp": "amp_bf16", "half": "bf16"},
}
"""What a device computes in where a setting says amp or half."""

PROTOCOL: dict[str, Any] = {
    "epochs": 50,
    "batch_size": 32,
    "learning_rate": 1e-5,
    "weight_decay": 0.0,
    "schedule": "constant",
    "patience": 5,
    "stopping": "selvan2023",
}
"""How the paper trains in all of them; with the seeds 1, 10, 100."""


def setting(name: str, device: str = "cpu") -> dict[str, str]:
    """The fields of a recipe for a setting of Selvan, Schön, Dam 2023.

    Args:
        name: a name of SETTINGS: baseline, amp, 8bit, 8bit_half, amp_8bit.
        device: cpu (low precision is bfloat16) or cuda (float16, as in the paper).

    Returns:
        `precision` and `optimizer`, for `Recipe(**…)` or `recipe.but(**…)`.

    Raises:
        ValueError: unknown name or device.

    Example:
        >>> effml.setting("8bit_half")
        {'precision': 'bf16', 'optimizer': 'adam8bit'}
        >>> effml.Recipe(model="mlp", **effml.setting("amp", "cuda")).precision
        'amp_fp16'
    """
    fields = SETTINGS[_known("setting", name, SETTINGS)]
    low = LOW[_known("device", device.partition(":")[0], LOW)]
    return fields | {"precision": low.get(fields["precision"], fields["precision"])}


def _known(kind: str, name: str, menu: Iterable[str]) -> str:
    if name not in menu:
        raise ValueError(f"Unknown {kind} {name!r}. Choose from: {', '.join(menu)}")
    return name
