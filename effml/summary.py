"""A run in ten lines: what was asked, how good it is, what it cost, where it lies, what to do next.
The whole of it is its record."""

import math
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from effml.printing import entry
from effml.recipe import Recipe
from effml.sweeping.plan import FINAL

QUALITY = {
    "auroc": "AUROC",
    "dice": "Dice",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "iou": "IoU",
    "hausdorff95": "95 % Hausdorff distance in pixels",
}
"""What is told of the test split, by column, with its 95 % interval where it has one."""

PREFIXES = {"G": 1e9, "M": 1e6, "k": 1e3, "": 1.0, "m": 1e-3, "µ": 1e-6, "n": 1e-9}


def summary(row: Mapping[str, Any], store: str | os.PathLike) -> list[str]:
    """What `python -m effml run` prints of a record.

    Args:
        row: The record's columns; what is unknown is absent, None or NaN.
        store: The folder it lies in.

    Returns:
        Entries of at most 100 columns; a long one takes several lines.

    Example:
        >>> record = effml.run(effml.Recipe(model="mlp", epochs=1))
        >>> print(summary(record, "results/local")[1])
        asked       data=phantom-chest model=mlp epochs=1, all else by default
    """
    row = {name: value for name, value in row.items() if value is not None and value == value}
    told = {"run": _run(row, str(store)), "asked": _asked(row), "reason": row.get("reason")}
    if row.get("status") == "ok":
        told |= {"data": _data(row), "quality": _quality(row), "training": _training(row)}
        told |= {"energy": _energy(row), "built on": _lineage(row), "inference": _inference(row)}
        told |= {"size": _size(row)}
    told |= {"computed": _computed(row), "notes": row.get("notes"), "next": _next(row, str(store))}
    return [entry(name, text) for name, text in told.items() if text]


def _run(row: dict[str, Any], store: str) -> str:
    when = str(row.get("finished_utc", "unknown"))[:16].replace("T", " ")
    name, status = row.get("run_id", row.get("recipe_id")), row.get("status")
    return f"{name}: {status}, ended {when} UTC, stored in {store}"


def _asked(row: dict[str, Any]) -> str:
    asked = Recipe.from_dict(row)
    fields = {"data": asked.data, "model": asked.model} | asked.changed
    return f"{shlex.join(f'{name}={value}' for name, value in fields.items())}, all else by default"


def _data(row: dict[str, Any]) -> str:
    told = f"{_count(row, 'train_n')} training and {_count(row, 'test_n')} test images"
    told += ", simulated" if row.get("data_phantom") == 1 else ""
    if "test_majority_rate" in row:
        told += f"; {100 * row['test_majority_rate']:.1f} % of these are of one class"
    return told


def _quality(row: dict[str, Any]) -> str:
    told = []
    for name, words in QUALITY.items():
        value, *ends = (row.get(f"test_{name}{end}") for end in ("", "_low", "_high"))
        if value is not None:
            told.append(f"{words} {value:.3f}")
        if None not in (value, *ends):
            told[-1] += f" [{ends[0]:.3f}, {ends[1]:.3f}]"
    at = f" at threshold {row['test_threshold']:.3g}" if "test_threshold" in row else ""
    return (", ".join(told) or "unknown") + at


def _training(row: dict[str, Any]) -> str:
    told = [_costs(row, "train"), f"best epoch {_count(row, 'best_epoch')}"]
    told[-1] += f" of {_count(row, 'epochs_run')}"
    if row.get("resumed_epoch"):
        told.append(f"interrupted and resumed after epoch {_count(row, 'resumed_epoch')}")
    if row.get("shared") == 1:
        told.append("other programs used over 10 % of the CPU meanwhile")
    if row.get("shared_machine") == 1:
        told.append("another run was on this machine meanwhile")
    return ", ".join(told)


def _energy(row: dict[str, Any]) -> str:
    """Where the joules come from; where there are none, why."""
    source = row.get("energy_source", "no source on record")
    if "train_energy_j" in row:
        return source
    return f"unknown: {row.get('energy_reason', source)}"


def _lineage(row: dict[str, Any]) -> str:
    costs = {"lineage_seconds": "s", "lineage_energy_j": "J"}
    if not costs.keys() & row.keys():
        return ""
    told = " and ".join(_amount(row.get(name), unit) for name, unit in costs.items())
    return f"{told} of training went into the runs that this one builds on"


def _inference(row: dict[str, Any]) -> str:
    names = [name for name in row if name.startswith("infer_") and not name.endswith("bytes")]
    images = row.get("test_n", math.nan)
    one = row | {name: row[name] / images for name in names}
    return _costs(one, "infer", " an image")


def _costs(row: dict[str, Any], window: str, each: str = "") -> str:
    seconds, joules, low, high, held = (
        row.get(f"{window}_{name}")
        for name in ("seconds", "energy_j", "energy_low_j", "energy_high_j", "peak_memory_bytes")
    )
    told = f"{_amount(seconds, 's')}, {_amount(joules, 'J')}"
    if None not in (joules, low, high):
        told += f" ({_amount(low, 'J')} to {_amount(high, 'J')})"
    return f"{told}{each}, peak memory {_amount(held, 'B')}"


def _size(row: dict[str, Any]) -> str:
    names = {"params": "parameters", "macs": "multiply-accumulate operations an image"}
    told = [f"{_amount(row.get(name), '')} {words}" for name, words in names.items()]
    return f"{', '.join(told)}; {_amount(row.get('model_file_bytes'), 'B')} as a file"


def _computed(row: dict[str, Any]) -> str:
    if "precision_used" not in row:  # it failed before
        return ""
    emulated = " (emulated)" if row.get("precision_emulated") == 1 else ""
    threads, machine = _count(row, "threads_used"), row.get("device_name", row.get("device"))
    told = f"in {row['precision_used']}{emulated}, {row.get('precision_why', 'unknown why')};"
    told += f" {threads} threads of {machine}, torch {row.get('torch', 'unknown')}"
    ways = [pair.partition("=")[2] for pair in row.get("convolutions_used", "library").split()]
    ours, all_ = sum("p" in way for way in ways), sum(map(bool, ways))
    return told + (f"; {ours} of {all_} convolution shapes by effml's algorithms" if all_ else "")


def _next(row: dict[str, Any], store: str) -> str:
    there = "" if store == "results/local" else f" --store {shlex.quote(store)}"
    if row.get("status") in FINAL[1:]:
        named = Path(str(row.get("data"))).stem in str(row.get("reason"))
        return f"change the {'data or the ' * named}recipe: this one would end so again"
    if row.get("status") != "ok":
        return "mend what the reason says; the same command then tries again"
    if "kept_sha256" not in row:
        return f"python -m effml show{there}; --keep-weights to predict; --all for the whole record"
    if "test_dice" in row:  # masks, for which a CSV has no place
        return f"effml.load_run({row.get('run_id')!r}, {store!r}).predict(…)"
    return f"python -m effml predict {row.get('run_id')} FOLDER{there}"


def _count(row: dict[str, Any], name: str) -> str:
    return f"{row[name]:.0f}" if name in row else "unknown"


def _amount(value: float | None, unit: str) -> str:
    """Three digits and a prefix: 12.3 ms."""
    if value is None or not math.isfinite(value):
        return f"unknown {unit}"
    if unit == "s" and value >= 120:
        return f"{value / 60:.1f} min"
    rounded = abs(float(f"{value:.3g}"))
    prefix = next((name for name, size in PREFIXES.items() if rounded >= size), "")
    return f"{float(f'{value / PREFIXES[prefix]:.3g}'):g} {prefix}{unit}".rstrip()
