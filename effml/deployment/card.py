"""The model card of a deployed folder: card.md for people, card.json for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effml.deployment.bundle import plain
from effml.deployment.ladder import Rung

if TYPE_CHECKING:
    import pandas

RESEARCH = "Research use only. Not a medical device: no diagnosis or treatment may rest on it."
KINDS = {"segmentation": "image-segmentation"}
USE = """\
**{research}**

For research and teaching on pictures like those of {data}, of the same kind of device and patients:
{task}, {classes}. The answers are probabilities and {answers}. Not for other organs, devices or
patients without a test on them first, not for screening or triage of real patients, and not as a
second reading."""
HOW = """\
```
pip install -r requirements.txt
python predict.py --verify --images DATA.npz   # of the import, unless gate.npz holds images
python predict.py FOLDER-OF-PICTURES --out predictions.csv
```
`predict.py` opens no connection. It treats each picture as the import treated the training images
({how}), by the same code in `parts`; what it cannot read it names and does not guess. The graph of
model.xml and model.onnx takes pictures `uint8 (N, height, width, channels)` of any size as well and
resizes them itself (bilinear, as Pillow), without padding and windows: **that is not how the
training images were made**, so other programs should do what `parts/decoding.py` does first."""
SAFETY = """\
manifest.json holds the SHA-256 of every file, and predict.py refuses a folder in which one differs.
The SHA-256 of manifest.json itself is the fingerprint that is printed: compare it with the one that
the deployment printed. This stops accidents, not forgers: who changes a file can write a new
manifest."""


def write_card(
    folder: Path,
    *,
    facts: Mapping[str, Any],
    passport: Mapping[str, Any],
    scores: Mapping[str, Mapping[str, float]],
    tables: Mapping[str, "pandas.DataFrame"],
    log: Sequence[Rung],
    costs: Mapping[str, Any],
    limits: Sequence[str],
) -> None:
    """`scores` by operating point (or "test"), as `evaluate` has them, of what is deployed;
    `tables` by title; `costs` from the record; `limits` in words."""
    from huggingface_hub import EvalResult, ModelCardData

    first = next(iter(scores.values()))
    kind = KINDS.get(facts["task"], "image-classification")
    results = [
        EvalResult(
            task_type=kind,
            dataset_type=facts["data"],
            dataset_name=facts["data"],
            dataset_split="test",
            metric_type=name,
            metric_value=round(first[name], 6),
        )
        for name in ("auroc", "accuracy", "balanced_accuracy", "ece", "dice", "iou")
        if first.get(name) == first.get(name, float("nan"))
    ]
    about = ModelCardData(
        model_name=f"{facts['model']} of {facts['run_id']}",
        library_name="openvino",
        pipeline_tag=kind,
        tags=["effml", "medical-imaging", "research-use-only"],
        datasets=[facts["data"]],
        eval_results=results,
    )
    parts = {
        "Intended use": _use(facts),
        "How to use it": HOW.format(how=_words(facts["preprocessing"])),
        "What it is": _listed(_named({x: facts[x] for x in ABOUT if x in facts}, facts)),
        "Data": _listed(_named(passport, facts)),
        "Quality on the test images": _scores(scores, facts),
        **{title: _table(table) for title, table in tables.items()},
        "What compression changed": _change(facts, log),
        "What it cost": _listed(costs),
        "Limits": "\n".join(f"- {limit}" for limit in limits),
        "Whether it is still the same": SAFETY,
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in parts.items())
    head = f"---\n{about.to_yaml()}\n---\n\n# {about.model_name}\n\n"
    (folder / "card.md").write_text(f"{head}{body}\n", encoding="utf-8")
    _write_json(folder, about, facts, passport, scores, tables, log, costs, limits)


def _write_json(
    folder: Path,
    about: Any,
    facts: Mapping,
    passport: Mapping,
    scores: Mapping,
    tables: Mapping[str, "pandas.DataFrame"],
    log: Sequence[Rung],
    costs: Mapping,
    limits: Sequence[str],
) -> None:
    told = {
        "card": about.to_dict(),
        "research_use_only": RESEARCH,
        "facts": dict(facts),
        "data": dict(passport),
        "test": scores,
        "tables": {
            title: table.reset_index().to_dict("records") for title, table in tables.items()
        },
        "ladder": [asdict(rung) for rung in log],
        "costs": dict(costs),
        "limits": list(limits),
    }
    text = json.dumps(plain(told), ensure_ascii=False, indent=1, allow_nan=False)
    (folder / "card.json").write_text(f"{text}\n", encoding="utf-8")


ABOUT = ("model", "data", "task", "classes", "positive", "image_shape", "runtime", "precision")
BY_INDEX = ("positive", "worst_class")


def _use(facts: Mapping[str, Any]) -> str:
    answers = "an answer at each of two operating points, chosen on the validation images"
    if facts["task"] != "binary":
        answers = "the mask" if facts["task"] == "segmentation" else "the answers"
    return USE.format(
        research=RESEARCH,
        data=facts["data"],
        task=facts["task"],
        classes=", ".join(facts["classes"]),
        answers=answers,
    )


def _named(entries: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with a class by its name where it stood by its index."""
    classes = {i: name for i, name in enumerate(facts["classes"])}
    return {x: classes.get(v, v) if x in BY_INDEX else v for x, v in entries.items()}


def _scores(scores: Mapping[str, Mapping[str, float]], facts: Mapping[str, Any]) -> str:
    """A row a measure, a column an operating point; with 95 % intervals where there are any."""
    lines = [f"| | {' | '.join(scores)} |", "| --- |" + " --- |" * len(scores)]
    named = [_named(one, facts) for one in scores.values()]
    for name in named[0]:
        if name.endswith(("_low", "_high")) or all(one[name] != one[name] for one in named):
            continue
        cells = [_interval(one, name) for one in named]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n\nIn brackets 95 % intervals over the test images."


def _interval(scores: Mapping[str, float], name: str) -> str:
    ends = [scores.get(f"{name}{end}") for end in ("_low", "_high")]
    if None in ends or ends[0] != ends[0]:
        return _text(scores[name])
    return f"{_text(scores[name])} [{_text(ends[0])}, {_text(ends[1])}]"


def _change(facts: Mapping[str, Any], log: Sequence[Rung]) -> str:
    """The gate's rows for what ships, and every rung with its reason."""
    rows = facts["gate"]["rows"]
    lines = [
        f"On {facts['gate']['n']} validation images, {facts['runtime']} against the trained model. "
        f"Probabilities differ by at most {facts['gate']['largest']:.2g}.",
        "",
        "| measure | trained | deployed | difference | loss allowed | verdict |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        told = f"{_text(row['difference'])} [{_text(row['low'])}, {_text(row['high'])}]"
        cells = row["measure"], _text(row["reference"]), _text(row["value"]), told
        lines.append(f"| {' | '.join(cells)} | {row['margin']:g} | {row['verdict']} |")
    lines += ["", "The ladder, from the top:", ""]
    ships = {True: "**ships**", False: "no"}
    lines += [f"- {rung.runtime}: {ships[rung.ships]}. {rung.reason}" for rung in log]
    return "\n".join(lines)


def _table(table: "pandas.DataFrame") -> str:
    flat = table.reset_index()
    lines = [f"| {' | '.join(map(str, flat))} |", "|" + " --- |" * len(flat.columns)]
    lines += [f"| {' | '.join(map(_text, row))} |" for row in flat.to_numpy(dtype=object).tolist()]
    return "\n".join(lines)


def _listed(entries: Mapping[str, Any]) -> str:
    lines = [f"| {name.replace('_', ' ')} | {_words(value)} |" for name, value in entries.items()]
    return "\n".join(["| | |", "| --- | --- |", *lines])


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_words, value))
    return _text(value)


def _text(value: Any) -> str:
    if value is None or value != value:
        return "none" if value is None else "unknown"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
