"""Thakur et al. 2025 on two cores: its workloads, the modes, and the recipes of the grid."""

from effml import Recipe

MODES = {
    "eager": "PyTorch",
    "channels_last": "PyTorch, channels last",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "openvino_bf16": "OpenVINO, bf16",
    "onnxruntime_int8": "ONNX Runtime, INT8",
    "openvino_int8": "OpenVINO, INT8",
    "openvino_int8_control": "INT8, accuracy control",
    "openvino_int8_qat": "INT8, trained with it",
    "openvino_int8_pruned40": "pruned 40 %, INT8",
    "openvino_int8_pruned60": "pruned 60 %, INT8",
}
"""By runtime its name for people, in the order of the tables."""

PLAIN, RETRAINED = list(MODES)[:8], list(MODES)[8:]
"""Those that take a model as it is, and those that train it again."""

_UNET = {"model": "unet", "size": 64, "batch_size": 16, "learning_rate": 3e-3}
_PATCHES = {"data": "foot_ulcer_128:patches=64", "size": 32, "batch_size": 64, "augment": "flips"}
_ALL = {"precision": "auto", "threads": 1}

SEGMENTATION = {
    "MRI, brain": Recipe(data="phantom-brain", epochs=3, **_UNET, **_ALL),
    "MRI, brain 3-D": Recipe(
        data="phantom-brain3d",
        model="unet3d",
        size=32,
        batch_size=4,
        learning_rate=3e-3,
        epochs=10,
        **_ALL,
    ),
    "H&E, nuclei": Recipe(data="nuclei_128", augment="flips", **_UNET, **_ALL),
    "H&E, phantom": Recipe(data="phantom-tissue", epochs=6, augment="flips", **_UNET, **_ALL),
    "RGB, ulcer": Recipe(
        data="foot_ulcer_128", epochs=22, augment="flips", **_UNET | {"size": 128}, **_ALL
    ),
}
CLASSIFICATION = {
    "RGB, DenseNet-121": Recipe(model="densenet121", epochs=4, **_PATCHES, **_ALL),
    "RGB, VGG11": Recipe(model="vgg11", epochs=2, learning_rate=1e-4, **_PATCHES, **_ALL),
    "CT, adrenal 3-D": Recipe(
        data="adrenalmnist3d",
        model="resnet18_3d",
        batch_size=36,  # 1188 volumes: no small last batch
        learning_rate=3e-4,
        epochs=6,
        seed=1,
        **_ALL | {"precision": "fp32"},  # in bf16 the loss became NaN with this seed
    ),
}
WORKLOADS = SEGMENTATION | CLASSIFICATION
"""By name how each was trained, from random weights on one thread with one seed, chosen on
validation."""

TUNED = {"H&E, nuclei": 1e-3}
"""The workload with the modes that train again, two epochs before and two after rounding or
cutting, and at which learning rate. A DenseNet would take a quarter of an hour."""

UNSEEN = "medetec_wound_128"
"""Ulcers from a source that no model saw, for "RGB, ulcer"."""


TOO_LONG = [(name, "openvino_int8_control") for name in ("RGB, DenseNet-121", "RGB, VGG11")]
"""Left out. Accuracy control tries layer after layer: over four minutes on one core for the 120 of
a DenseNet. Of VGG11 each mode takes more than a minute for 515 MB of weights."""


def trained() -> list[Recipe]:
    """Those that train from random weights."""
    return list(WORKLOADS.values())


def recipe(workload: str, mode: str) -> Recipe:
    """A workload's trained model in a mode, for `effml.sweep` in the store of the trained ones."""
    of = WORKLOADS[workload]
    how = {"data": of.data, "size": of.size, "model": of.model, "threads": of.threads}
    again = Recipe(weights=of.id, runtime=mode, epochs=0, **how)
    if mode in PLAIN:
        return again
    how = {"batch_size": of.batch_size, "augment": of.augment, "precision": of.precision}
    return again.but(epochs=2, learning_rate=TUNED[workload], **how)


def grid() -> dict[tuple[str, str], Recipe]:
    """The recipes of all modes, by workload and mode."""
    pairs = [(name, mode) for name in WORKLOADS for mode in PLAIN]
    pairs = [pair for pair in pairs if pair not in TOO_LONG]
    pairs += [(name, mode) for name in TUNED for mode in RETRAINED]
    return {pair: recipe(*pair) for pair in pairs}
