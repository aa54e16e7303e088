"""What computes a finished model's logits: torch, ONNX Runtime or OpenVINO, from the files in a
folder, with a fixed number of threads. Only the first needs torch."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from effml.machine import import_timm, optional

INT8 = {"i8": "int8", "u8": "int8", "f32": "f32", "bf16": "bf16", "f16": "f16"}
MULTIPLY = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
"""OpenVINO's layers whose number format is the precision of a model."""

GRAPHS = 3
"""Numbers of images for which OpenVINO's graph is kept."""

Layers = dict[str, int]
"""By number format, how many of the layers that multiply (convolutions, linear ones) run in it."""


class Torch:
    """A pickled module. `options`: layout (contiguous, channels_last), dtype, compile, and whether
    it has parts of timm's."""

    def __init__(self, folder: Path, options: dict[str, Any], threads: int) -> None:
        import torch

        self.threads, self.options = threads, options
        if options["timm"]:
            import_timm()
        try:
            model = torch.load(folder / "model.pt", weights_only=False)
        except AttributeError as error:  # the class is in a notebook, or in a script
            advice = "put its class into a file that can be imported, or choose openvino"
            raise ValueError(
                f"A fresh process cannot find this model ({error}): {advice}."
            ) from error
        self._dtype = getattr(torch, options["dtype"])
        self._last = options["layout"] == "channels_last"
        self._model = model.to(self._dtype)
        if self._last and not any(p.ndim == 5 for p in model.parameters()):
            self._model.to(memory_format=torch.channels_last)
        self.layers: Layers = {}
        names = {"float32": "f32", "bfloat16": "bf16"}
        kinds = torch.nn.modules.conv._ConvNd, torch.nn.Linear
        if count := sum(isinstance(layer, kinds) for layer in model.modules()):
            self.layers = {names[options["dtype"]]: count}
        if options["compile"]:
            self._model = torch.compile(self._model, options={"freezing": True})

    def __call__(self, images: np.ndarray) -> np.ndarray:
        import torch

        before = torch.get_num_threads()
        if before != self.threads:
            torch.set_num_threads(self.threads)
        try:
            with torch.inference_mode():  # a copy: a model may change its input in place
                x = torch.tensor(images, dtype=self._dtype)
                if self._last and x.ndim == 4:
                    x = x.to(memory_format=torch.channels_last)
                return self._model(x).float().contiguous().numpy()
        finally:
            if before != self.threads:
                torch.set_num_threads(before)


class OnnxRuntime:
    """`model.onnx`. Threads sleep while they wait. `options`: layers, as found at the build."""

    def __init__(self, folder: Path, options: dict[str, Any], threads: int) -> None:
        self.threads, self.options = threads, options
        self._session = session(folder / "model.onnx", threads)
        self.layers: Layers = options["layers"]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self._session.run(None, {"images": images})[0]


def session(file: Path, threads: int, optimized: Path | None = None) -> Any:
    """An onnxruntime.InferenceSession on the CPU; the graph as it is executed goes to
    `optimized`."""
    ort = optional("onnxruntime", "inference")
    ort.disable_telemetry_events()
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


class OpenVino:
    """`model.xml` with `model.bin`. `options`: hint, the precision of what is not quantised. It is
    always given: by itself OpenVINO takes bfloat16 where the CPU has it, and says nothing.

    Each number of images has a graph of its own, made when it first comes (0.1 to 0.6 s); the last
    GRAPHS are kept. One graph for any number is slower: by a twentieth for ResNet-18 at batch 1, by
    a quarter for a small transformer."""

    def __init__(self, folder: Path, options: dict[str, Any], threads: int) -> None:
        self.threads, self.options = threads, options
        self._core = optional("openvino", "inference").Core()
        self._model = self._core.read_model(folder / "model.xml")
        self._graphs: dict[int, Any] = {}

    def graph(self, n: int) -> Any:
        """The compiled model for n images."""
        if n not in self._graphs:
            if len(self._graphs) >= GRAPHS:
                del self._graphs[next(iter(self._graphs))]
            model = self._model.clone()
            model.reshape([n, *list(model.input(0).partial_shape)[1:]])
            how = {
                "INFERENCE_PRECISION_HINT": self.options["hint"],
                "INFERENCE_NUM_THREADS": self.threads,
                "NUM_STREAMS": 1,
                "ENABLE_CPU_PINNING": False,  # pinned threads of two processes share one core
            }
            self._graphs[n] = self._core.compile_model(model, "CPU", how)
        return self._graphs[n]

    @property
    def layers(self) -> Layers:
        return openvino_layers(self.graph(next(iter(self._graphs), 1)))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.graph(len(images))(images, share_inputs=True)[0]  # a copy took 4 % of INT8


def openvino_layers(compiled: Any) -> Layers:
    """Of a compiled model, in what its layers are really executed. Small linear layers behind each
    other become one subgraph, which does not tell and is not counted."""
    info = (op.get_rt_info() for op in compiled.get_runtime_model().get_ops())
    kinds = [(i["layerType"].astype(str), i["runtimePrecision"].astype(str)) for i in info]
    return dict(Counter(INT8.get(how, how) for kind, how in kinds if kind in MULTIPLY))


ENGINES: dict[str, Callable[[Path, dict[str, Any], int], Any]] = {
    "torch": Torch,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
}
