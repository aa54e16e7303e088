"""Gradient checkpointing (Chen et al. 2016): activations are computed again in the backward pass."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def recompute_blocks(model: nn.Module) -> Iterator[None]:
    """Inside, each block of the model saves its input alone for the backward pass, which computes
    the rest again: less memory for about a third more time. The gradients are the same, and batch
    norm counts each batch once. The backward pass must come inside too.

    Args:
        model: of timm, with its `set_grad_checkpointing`; or with children that are nn.Sequential,
            each of which is a block.

    Returns:
        Nothing: use it with `with`.

    Raises:
        ValueError: it has neither.

    Example:
        >>> import torch
        >>> layers = [torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64)]
        >>> net = torch.nn.Sequential(torch.nn.Sequential(*layers), torch.nn.Linear(64, 2))
        >>> with effml.recompute_blocks(net):
        ...     net(torch.ones(8, 64)).sum().backward()
    """
    with ExitStack() as undo:
        if not _by_timm(model, undo):
            blocks = [one for one in model.children() if isinstance(one, nn.Sequential)]
            if not blocks:
                advice = "Give one of timm, such as resnet18, or put its blocks into nn.Sequential"
                advice += "; or leave checkpointing and give activation_bits=8"
                raise ValueError(
                    f"{type(model).__name__} has no blocks to compute again. {advice}."
                )
            for block in blocks:
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)
                undo.callback(delattr, block, "forward")
        for norm in model.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                before = norm.register_forward_pre_hook(_pause)
                after = norm.register_forward_hook(_go_on, always_call=True)
                undo.callback(before.remove)
                undo.callback(after.remove)
        yield


def _by_timm(model: nn.Module, undo: ExitStack) -> bool:
    try:
        model.set_grad_checkpointing(True)
    except (AttributeError, AssertionError, NotImplementedError):  # timm's way to say no
        return False
    undo.callback(model.set_grad_checkpointing, False)
    return True


def _pause(norm: Any, _: Any) -> None:
    """Within a backward pass the batch was counted already."""
    if torch._C._current_graph_task_id() >= 0 and norm.training:
        norm._momentum, norm.momentum = norm.momentum, 0.0


def _go_on(norm: Any, *_: Any) -> None:
    if "_momentum" in norm.__dict__:
        norm.momentum = norm.__dict__.pop("_momentum")
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked -= 1
