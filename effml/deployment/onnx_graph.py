"""What ONNX Runtime executes of a graph."""

import tempfile
from collections import Counter
from pathlib import Path

from effml.deployment.engines import Layers, session
from effml.machine import optional


def layers(file: Path, threads: int) -> Layers:
    """Of the graph as ONNX Runtime has rewritten it for this CPU, the layers that multiply."""
    onnx = optional("onnx", "inference")
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "executed.onnx"
        session(file, threads, optimized)
        nodes = onnx.load(optimized).graph.node
    kinds = [node.op_type for node in nodes if node.op_type.endswith(("Conv", "MatMul", "Gemm"))]
    return dict(Counter("int8" if kind.startswith("Q") else "f32" for kind in kinds))
