"""`python -m effml`: the house from a command line."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

from effml.machine import print_anything

STORE = "results/local"


def main(words: list[str] | None = None) -> int:
    print_anything()
    parser = argparse.ArgumentParser(
        prog="python -m effml", description="Efficient deep learning for medical imaging."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text)

    for name, text in (
        ("reproduce", "run the notebooks of a profile"),
        ("notebooks", "run the laptop profile and store its outputs in notebooks/"),
        ("smoke-reference", "run the smoke profile and store its outputs in tests/smoke/"),
    ):
        sub = command(name, text)
        sub.add_argument("--only", default="", help="numbers of notebooks, such as 00,62")
        if name == "reproduce":
            sub.add_argument("--profile", default="laptop", help="smoke, laptop (default) or paper")
    for name, text in (
        ("run", "one run, such as: run model=resnet18 epochs=3; prints its record"),
        (
            "sweep",
            "many runs: give a field several values, such as: sweep model=lenet5,mlp seed=0,1,2",
        ),
    ):
        sub = command(name, text)
        sub.add_argument(
            "fields",
            nargs="*",
            metavar="field=value",
            help="fields of a Recipe; the others keep their defaults",
        )
        sub.add_argument("--store", default=STORE, help=f"folder of the records (default {STORE})")
        sub.add_argument("--device", default="auto", help="auto, cpu or cuda")
    sub = command("show", "the runs of a store; with columns only those")
    sub.add_argument("columns", nargs="*")
    sub.add_argument("--store", default=STORE)
    from effml.data import commands as data_commands
    from effml.importing import commands as import_commands

    import_commands.add(
        data_commands.add(command("data", "list, get, import and verify data sets"))
    )
    from effml.metering import commands as energy_commands

    energy_commands.add(command("energy", "what measures energy here, and calibrating it"))
    command(
        "report",
        "every claim of the papers, ours beside theirs, with the verdicts of the notebooks",
    )
    command("readme", "render the results and the count of claims in README.md")
    command("doctor", "what this machine offers, what is missing, what to do")
    given = parser.parse_args(words)
    try:
        return globals()[f"_{given.command.replace('-', '_')}"](given)
    except ModuleNotFoundError as error:
        print(
            f"effml: {error}. This Python ({sys.executable}) is not the one effml was installed for: use .venv/bin/python, or "
            "run make env.",
            file=sys.stderr,
        )
        return 2
    except (ValueError, OSError) as error:
        print(f"effml: {error}", file=sys.stderr)
        return 2


def _numbers(given: argparse.Namespace) -> list[str]:
    return [number.strip() for number in given.only.split(",") if number.strip()]


def _reproduce(given: argparse.Namespace) -> int:
    from effml.reproduce import reproduce

    return reproduce(given.profile, _numbers(given))


def _notebooks(given: argparse.Namespace) -> int:
    from effml.reproduce import rewrite_notebooks

    return rewrite_notebooks(_numbers(given))


def _smoke_reference(given: argparse.Namespace) -> int:
    from effml.reproduce import rewrite_smoke_reference

    return rewrite_smoke_reference(_numbers(given))


def _run(given: argparse.Namespace) -> int:
    from effml.recipe import Recipe

    return _sweep_of([Recipe.parse(given.fields)], given, whole=True)


def _sweep(given: argparse.Namespace) -> int:
    from effml.recipe import Recipe
    from effml.sweep import grid

    axes = {
        name: _values(values) for name, _, values in (word.partition("=") for word in given.fields)
    }
    return _sweep_of(grid(Recipe(), **axes), given, whole=False)


def _values(text: str) -> list[str]:
    """The values between commas; a comma in the name of a file that is there parts nothing."""
    words, values = text.split(","), []
    while words:
        ends = range(len(words), 0, -1)
        end = next((end for end in ends if Path(",".join(words[:end])).exists()), 1)
        values.append(",".join(words[:end]))
        words = words[end:]
    return values


def _sweep_of(recipes: list, given: argparse.Namespace, *, whole: bool) -> int:
    from effml.results import precision_label
    from effml.sweep import sweep

    table = sweep(recipes, given.store, device=given.device)
    columns = [
        "recipe_id",
        "data",
        "model",
        "precision",
        "seed",
        "status",
        *_scores(table),
        "train_seconds",
        "reason",
    ]
    table = table.assign(precision=precision_label(table))
    print(
        table.iloc[0].dropna().to_string()
        if whole
        else table[columns].to_string(index=False, max_colwidth=60)
    )
    return 0 if (table.status == "ok").all() else 1


def _scores(runs: "pandas.DataFrame") -> list[str]:
    """The columns of quality that any of the runs has: AUROC of classes, Dice of masks."""
    return [name for name in ("test_auroc", "test_dice") if runs[name].notna().any()] or [
        "test_auroc"
    ]


def _show(given: argparse.Namespace) -> int:
    from effml.results import load_runs, precision_label

    if not Path(given.store).is_dir():
        raise FileNotFoundError(
            f"There is no store {given.store}. Run something first, or give --store results/reference."
        )
    runs = load_runs(given.store)
    columns = given.columns or [
        "recipe_id",
        "data",
        "model",
        "precision",
        "seed",
        "epochs",
        "status",
        *_scores(runs),
        "train_seconds",
        "train_energy_j",
        "shared",
    ]
    if unknown := [name for name in columns if name not in runs]:
        raise ValueError(f"Unknown column {unknown[0]!r}. Choose from: {', '.join(runs)}")
    print(runs.assign(precision=precision_label(runs))[columns].to_string(index=False))
    print(f"{len(runs)} runs, {runs.attrs['unreadable']} unreadable lines")
    return 0


def _data(given: argparse.Namespace) -> int:
    from effml.data.commands import main

    return main(given)


def _energy(given: argparse.Namespace) -> int:
    from effml.metering.commands import main

    return main(given)


def _report(given: argparse.Namespace) -> int:
    from effml.claims import report

    report()
    return 0


def _readme(given: argparse.Namespace) -> int:
    from effml.claims import render_claims
    from effml.machine import ROOT
    from effml.results import render_results

    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    for name, table in (
        ("results", render_results(ROOT / "results" / "reference")),
        ("claims", render_claims()),
    ):
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        _, _, after = rest.partition(f"<!-- /{name} -->")
        text = f"{before}<!-- {name} -->\n{table}<!-- /{name} -->{after}"
    path.write_text(text, encoding="utf-8")
    return 0


def _doctor(given: argparse.Namespace) -> int:
    from effml import machine
    from effml.data import at_hand
    from effml.precision import native_precision

    facts = {
        **machine.provenance(),
        "CPUs": os.cpu_count(),
        "memory available": _gigabytes(machine.available_memory_bytes()),
        "EFFML_DATA": os.environ.get(
            "EFFML_DATA", "not set: names are looked up in data/ and ~/.medmnist"
        ),
        "EFFML_OFFLINE": "1: no socket is opened" if machine.offline() else "not set",
    }
    advice = []
    try:
        from effml.metering.commands import facts as energy_facts

        facts |= energy_facts()
    except RuntimeError as error:
        advice.append(str(error))
    try:
        machine.import_timm()
        import torch

        facts["CUDA GPU"] = (
            torch.cuda.get_device_name()
            if torch.cuda.is_available()
            else "none: everything runs on the CPU"
        )
        facts["native precision"] = native_precision()
    except (ImportError, RuntimeError) as error:
        advice.append(f"torch or timm cannot be imported ({error}). Run: make env")
    for name in ("breastmnist", "pneumoniamnist", "pneumoniamnist_reordered"):
        try:
            facts[name] = f"at hand ({at_hand(name)})"
        except FileNotFoundError:
            facts[name] = "not here; notebooks fall back to a phantom and say so"
        except ValueError as error:
            advice.append(str(error))
    print(
        "\n".join(
            f"{name:26}{value if value is not None else 'unknown'}" for name, value in facts.items()
        )
    )
    print(*(["", *advice] if advice else ["", "Nothing stands in the way."]), sep="\n")
    return 1 if advice else 0


def _gigabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e9:.1f} GB"


if __name__ == "__main__":
    sys.exit(main())
