"""Where a training step spends its time: torch's profiler, its events put into a few groups."""

import os
from copy import deepcopy

import pandas
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import effml
from effml.optimizers import make_optimizer
from effml.precision import arithmetic
from effml.training.prediction import channels_last, forward

os.environ.setdefault("KINETO_LOG_LEVEL", "10")  # else the profiler prints its own stages
GROUPS = {  # of a step, and the words in the names of the events that begin each
    "convolutions, gradients": ("ConvolutionBackward",),
    "convolutions, outputs": ("aten::conv2d", "_Convolution"),
    "batch normalisation": ("aten::batch_norm", "BatchNormBackward"),
    "optimiser": ("Optimizer.step", "Optimizer.zero_grad"),
}
OTHER = "all else"


def step_profile(
    model: nn.Module, images: Tensor, labels: Tensor, *, convolutions: str = "auto", steps: int = 3
) -> pandas.Series:
    """Milliseconds of a float32 training step on the CPU by group: the mean of `steps`, after two
    that warm up. The profiler itself takes some time: compare the groups, not the sum.

    `images` is uint8 (N, C, H, W), `labels` long (N,); `model` is copied and left as it is;
    `convolutions` as in `effml.fast_convolutions`."""
    model = channels_last(deepcopy(model)).train()
    optimizer, number_format = (
        make_optimizer("adamw", model.parameters(), 1e-4),
        arithmetic("fp32", "cpu"),
    )

    def step() -> None:
        loss = cross_entropy(forward(model, images, number_format), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    with effml.fast_convolutions(model, convolutions):
        step(), step()
        with torch.autograd.profiler.profile() as seen:
            for _ in range(steps):
                step()
    taken = dict.fromkeys([*GROUPS, OTHER], 0.0)
    for event in seen.function_events:
        taken[_group(event)] += event.self_cpu_time_total / 1e3 / steps
    return pandas.Series(taken, name="ms")


def _group(event: torch.autograd.profiler_util.FunctionEvent) -> str:
    """The group of the event, or of the event in which it was called."""
    while event is not None:
        for group, words in GROUPS.items():
            if any(word in event.name for word in words):
                return group
        event = event.cpu_parent
    return OTHER
