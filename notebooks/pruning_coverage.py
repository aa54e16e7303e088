"""Which architectures a compressor works on: one row each, measured in a process of its own.

table = coverage(["resnet18", "vit_tiny_patch16_224"]); table[table.works]
python notebooks/pruning_coverage.py resnet18        # one row, as JSON, in this process
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from effml.compression import COMPRESSORS, Report, load_compressed, save_compressed
from effml.compression.channels import reestimate
from effml.compression.silencing import silenced
from effml.machine import import_timm
from effml.models import build_model

COLUMNS = {
    "name": "architecture, as build_model takes it",
    "family": "the file of timm it is defined in",
    "size": "pixels of a side: the size asked for, or the architecture's own where it takes no other",
    "works": "smaller (params <= 0.9), runs, can be trained, and comes back from disk with the same outputs",
    "why": "what does not work, in a sentence; where it works, what a reader must know",
    "params": "parameters after / before",
    "macs": "multiplications after / before",
    "latency": "seconds a batch after / before",
    "difference": "largest difference of outputs to the parent with the lost channels silenced, over its largest output",
    "seconds": "time the compression took",
}
SMALLER = 0.9  # the share of parameters which a model that works has at most


def coverage(
    names: Iterable[str],
    *,
    keep: float = 0.5,
    size: int = 64,
    timeout: float = 300,
    method: str = "channels",
    workers: int = 1,
) -> pandas.DataFrame:
    """A row for each architecture, with random weights (no network), columns as in COLUMNS. What takes longer than `timeout`
    seconds is a row that says so, as is what fails; `workers` processes run at a time."""

    def own_process(name: str) -> dict[str, Any]:
        command = [sys.executable, __file__, name, str(keep), str(size), method]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
            return json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            why = f"It took longer than {timeout:g} s."
        except (IndexError, ValueError):
            last = (done.stderr.strip() or "nothing said").splitlines()[-1]
            why = f"The process ended with code {done.returncode}: {last}"
        return {"name": name, "works": False, "why": why}

    with ThreadPoolExecutor(workers) as pool:
        return pandas.DataFrame(list(pool.map(own_process, names)), columns=list(COLUMNS))


def reference() -> pandas.DataFrame:
    """The stored table: the 131 architectures of the PePR list (Selvan et al.), keep 0.5, images of 64 px."""
    file = Path(__file__).parents[1] / "results" / "reference" / "coverage.csv"
    numbers = ("size", "params", "macs", "latency", "difference", "seconds")
    empty = {column: [""] for column in numbers}
    return pandas.read_csv(file, keep_default_na=False, na_values=empty)


def row(name: str, keep: float = 0.5, size: int = 64, method: str = "channels") -> dict[str, Any]:
    """The row of one architecture, in this process; an error becomes the reason."""
    found: dict[str, Any] = {"name": name, "works": False, "why": ""}
    try:
        model, images = _alive(name, size)
        found |= {"family": type(model).__module__.rpartition(".")[2], "size": images.shape[-1]}
        start = time.perf_counter()
        small, report = COMPRESSORS[method](model, keep, example=images[:1])
        found["seconds"] = round(time.perf_counter() - start, 2)
        found |= {
            what: round(report.ratios[key], 4)
            for what, key in (("params", "params"), ("macs", "macs"), ("latency", "latency_s"))
        }
        found["why"] = " ".join(report.notes)
        found |= _checked(model, small, report, images, name)
    except Exception as error:  # whatever it is, it is the reason
        found["why"] = f"{error}".partition("\n")[0] or type(error).__name__
    return found


def _alive(name: str, size: int) -> tuple[nn.Module, torch.Tensor]:
    """A model whose channels all matter, as after training, and four images it takes."""
    model, images = None, torch.randn(4, 1, size, size)
    try:
        model = build_model(name, classes=3, size=size)
        with torch.no_grad():
            model(images[:1])
    except Exception:
        config = getattr(model, "pretrained_cfg", None) or getattr(
            import_timm().models.get_pretrained_cfg(name), "__dict__", {}
        )
        own = config.get("input_size", [size])[-1]
        if own == size:
            raise
        return _alive(name, own)
    return alive(model, images), images


def alive(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """The model with scales, shifts and statistics of its own in every normalisation, as after
    training: in a fresh one many branches end in zeros, and what is wrong in them would not show."""
    for layer in model.modules():
        if isinstance(layer, (_BatchNorm, nn.LayerNorm, nn.GroupNorm)) and layer.weight is not None:
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
    reestimate(model, images)
    return model


def _checked(
    model: nn.Module, small: nn.Module, report: Report, images: torch.Tensor, name: str
) -> dict[str, Any]:
    """Is it smaller, does it run, learn, and come back from disk? Raises AssertionError with what does not hold."""
    if (share := report.ratios["params"]) > SMALLER:
        return {"why": f"It keeps {share:.0%} of its parameters. {' '.join(report.notes)}".strip()}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        out, silent = small(images), silenced(model, small, report)(images)
        assert out.shape == silent.shape and out.isfinite().all(), (
            "The outputs are not finite, or of another shape."
        )
        made = {"base": name, "classes": 3, "size": images.shape[-1]}
        again = load_compressed(save_compressed(Path(folder) / "small", small, report, **made))
        assert torch.equal(again(images), out), "From disk it has other outputs."
    for net in (model, small):
        net.train()(images).square().sum().backward()
    learned = [
        {key: p.grad for key, p in net.named_parameters() if p.grad is not None}
        for net in (model, small)
    ]
    same = learned[0].keys() == learned[1].keys()
    assert same, "Not all parameters get gradients that got them before."
    assert all(grad.isfinite().all() for grad in learned[1].values()), "Gradients are not finite."
    return {"works": True, "difference": float((out - silent).abs().max() / silent.abs().max())}


if __name__ == "__main__":
    name, *more = sys.argv[1:]
    print(json.dumps(row(name, *(kind(value) for kind, value in zip((float, int, str), more)))))
