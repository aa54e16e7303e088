"""Latency of compressed models beside their parents, and the exact factors through the Gram matrix beside torch's SVD.

Asked for: ResNet-18 at half the channels 2.8× faster, SVD at half rank 1.7× (spatial) and 1.4× (by channel).
"""

import statistics
import time

import torch

from effml import build_model
from effml.compression import COMPRESSORS
from effml.compression.factorization import low_rank
from tests.bench.common import compare

AIMS = {"channels": 2.8, "svd_spatial": 1.7, "svd": 1.4, "magnitude": 1.0}


def main() -> None:
    print(
        f"resnet18, half kept, 1 channel, {torch.get_num_threads()} threads; peer is the parent, times of 5 passes"
    )
    for size, batch in ((224, 1), (64, 16)):
        model, images = build_model("resnet18", size=size), torch.randn(batch, 1, size, size)
        for name, aim in AIMS.items():
            small, report = COMPRESSORS[name](model, 0.5, example=images)
            for layout in (
                torch.channels_last,
                torch.contiguous_format,
            ):  # the first is that of train and predict
                whole, cut, x = (thing.to(memory_format=layout) for thing in (model, small, images))
                compare(
                    f"{name}, {size} px, batch {batch}, {str(layout)[6:]}, {report.ratios['macs']:.2f} of the MACs",
                    lambda: passes(whole, x),
                    lambda: passes(cut, x),
                    9,
                    aim,
                )
    for shape in ((64, 576), (512, 4608), (1000, 512)):
        matrix = torch.randn(shape)
        compare(
            f"factors of {shape[0]} × {shape[1]}",
            lambda: torch.linalg.svd(matrix, full_matrices=False),
            lambda: low_rank(matrix),
            5,
            2,
        )
        rank = min(shape) // 2
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        left, right, _ = low_rank(matrix)
        errors = [
            float((matrix - approximation).norm() / matrix.norm())
            for approximation in (
                u[:, :rank] * s[:rank] @ v[:rank],
                (left[:, :rank] @ right[:rank]).float(),
            )
        ]
        print(f"  relative error at half rank: SVD {errors[0]:.7f}, ours {errors[1]:.7f}")
    model = build_model("lenet_srinivas", classes=10)
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        COMPRESSORS["merge"](model, 0.112, example=torch.randn(1, 1, 28, 28))
        taken.append(time.perf_counter() - start)
    print(f"merging 500 neurons down to 56: {statistics.median(taken):.2f} s")


def passes(model: torch.nn.Module, images: torch.Tensor) -> None:
    with torch.inference_mode():
        for _ in range(5):
            model(images)
