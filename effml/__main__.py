"""`python -m effml`: the house from a command line."""

import argparse
import errno
import importlib
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from effml.machine import choose, print_anything, shortages
from effml.printing import entry, table

if TYPE_CHECKING:
    import pandas

FIELDS = ("fields", {"nargs": "*", "metavar": "field=value"})
ONLY = ("--only", {"default": "", "help": "numbers of notebooks, such as 00,62"})
STORE = ("--store", {"default": "results/local", "metavar": "DIR", "help": "folder of the records"})
DEVICE = ("--device", {"default": "auto", "help": "auto, cpu or cuda"})
PROFILE = ("--profile", {"default": "laptop", "help": "smoke, laptop, paper or reference"})
KEEP = (
    "--keep-weights",
    {"action": "store_true", "help": "for predict, and for runs that build on these"},
)
SETTING_HELP = (
    "of Selvan et al. 2023: baseline, amp, 8bit, 8bit_half, amp_8bit; a field given too wins"
)
SETTING = ("--setting", {"help": SETTING_HELP})
LIMIT = {"type": float, "default": None}
SWEEPING: list[tuple[str, dict[str, Any]]] = [
    (
        "--plan",
        {
            "action": "store_true",
            "help": "say what it will take (minutes, kWh, MB), and do no more "
            "than a pilot of one epoch, or three, for each kind of run that no record tells of",
        },
    ),
    ("--status", {"action": "store_true", "help": "say how far it is, as the command status"}),
    (
        "--max-hours",
        LIMIT
        | {
            "metavar": "H",
            "help": "no run starts that would not end in time; one that takes "
            "5 %% longer than all this is ended, and goes on next time",
        },
    ),
    (
        "--max-kwh",
        LIMIT
        | {
            "metavar": "K",
            "help": "no run starts that its forecast puts beyond it; "
            "one without a forecast may start: --plan makes them",
        },
    ),
    (
        "--timeout-minutes",
        LIMIT | {"metavar": "M", "help": "end a run that takes longer: its record says so"},
    ),
    (
        "--shard",
        {
            "default": "1/1",
            "metavar": "i/N",
            "help": "do the i-th of N shares, for N machines that "
            "share a folder, or whose folders are copied together",
        },
    ),
]
MARGIN = "losses allowed, such as sensitivity=0.05 auroc=0.02"
MINUTES = "on the clock, for everything; the s of a row: one run, from the data to its record"
AIM = "what is better: screening (specificity at sensitivity ≥ 0.95), confirmation (the reverse) "
AIM += "or balanced (AUROC); as good is who loses less than 0.01 of AUROC, by its interval"
ALL = ("--all", {"action": "store_true", "help": "print the whole record, not its summary"})

COMMANDS: dict[str, tuple[str, list[tuple[str, dict[str, Any]]]]] = {
    "reproduce": ("run the notebooks of a profile", [ONLY, PROFILE]),
    "notebooks": ("run the laptop profile and store its outputs in notebooks/", [ONLY]),
    "smoke-reference": ("run the smoke profile and store its outputs in tests/smoke/", [ONLY]),
    "run": (
        "one run, such as: run model=resnet18 epochs=3",
        [FIELDS, STORE, DEVICE, KEEP, SETTING, ALL],
    ),
    "sweep": (
        "many runs, cheapest first: give a field several values, such as: sweep model=lenet5,mlp "
        "seed=0,1,2",
        [FIELDS, STORE, DEVICE, KEEP, SETTING, *SWEEPING],
    ),
    "status": (
        "what is done, runs, failed and why, and how long the rest takes: of a store, or of the "
        "runs that a sweep with these fields would do",
        [
            ("store", {"nargs": "?", "default": "results/local", "help": "folder of the records"}),
            FIELDS,
            ("--store", {"dest": "place", "metavar": "DIR", "help": "the same, as for run"}),
            DEVICE,
            KEEP,
            SETTING,
        ],
    ),
    "show": (
        "the runs of a store",
        [("columns", {"nargs": "*", "help": "those to show (default: the main ones)"}), STORE],
    ),
    "advise": (
        "the recipe to take for these images, found within a budget",
        [
            ("--data", {"required": True, "help": "as in a recipe, with a validation split"}),
            ("--minutes", {"required": True, "help": MINUTES}),
            (
                "--memory",
                {"help": "of all processes together, such as 2GB: a run over it is ended"},
            ),
            ("--wh", {"help": "watt-hours, by the watts of the runs"}),
            ("--aim", {"default": "screening", "help": AIM}),
            ("--size", {"type": int, "default": 28, "help": "as in a recipe"}),
            ("--strategy", {"default": "climb", "help": "climb, halving or random"}),
            ("--threads", {"type": int, "default": 0, "help": "0: as many as torch takes"}),
            ("--seed", {"type": int, "default": 0, "help": "of the runs"}),
            ("--store", {"help": "folder of the records; none: a new one in results/local"}),
        ],
    ),
    "predict": (
        "what a finished model says of a folder of pictures, as a CSV",
        [
            ("run", {"metavar": "RUN", "help": "a run id or its beginning, or a recipe id"}),
            ("folder", {"metavar": "FOLDER", "help": "with pictures in it and below"}),
            ("--out", {"default": "predictions.csv", "metavar": "CSV", "help": "what to write"}),
            STORE,
            ("--force", {"action": "store_true", "help": "replace what is there"}),
        ],
    ),
    "deploy": (
        "a folder that answers for pictures without torch, behind a quality gate",
        [
            ("run", {"metavar": "RUN", "nargs": "?", "help": "as for predict"}),
            ("--out", {"metavar": "FOLDER", "help": "a new folder"}),
            ("--check", {"metavar": "FOLDER", "help": "whether a deployed folder is whole"}),
            ("--margin", {"nargs": "+", "default": [], "metavar": "NAME=LOSS", "help": MARGIN}),
            ("--images", {"action": "store_true", "help": "with the validation images in it"}),
            STORE,
        ],
    ),
    "data": ("list, get, import and verify data sets", []),
    "energy": ("what measures energy here, and calibrating it", []),
    "kit": ("a folder or a USB stick for a class without a network", []),
    "class": (
        "how many solved each exercise, from a folder of their notebooks: counts alone, no names",
        [("folder", {"type": Path, "metavar": "FOLDER", "help": "with notebooks in it and below"})],
    ),
    "translate": (
        "a copy of the notebooks in which 00, 30 and 50 have their text in another language",
        [
            ("folder", {"metavar": "FOLDER", "nargs": "?", "help": "a new one beside notebooks/"}),
            ("--to", {"required": True, "metavar": "LANGUAGE", "help": "such as fr or es"}),
        ],
    ),
    "report": ("every claim of the papers, ours beside theirs, with the notebooks' verdicts", []),
    "html": (
        "the whole collection as pages, for a browser without a network",
        [
            ("folder", {"nargs": "?", "default": "results/local/html", "help": "where to write"}),
            ONLY,
        ],
    ),
    "lite": (
        "the same pages, with the notebooks that run in the browser alone",
        [
            ("folder", {"nargs": "?", "default": "results/local/lite", "help": "where to write"}),
            ("--pyodide", {"metavar": "DIR", "help": "an unpacked Pyodide, to need no network"}),
        ],
    ),
    "readme": ("render the READMEs, the checklists and the quick starts in other languages", []),
    "doctor": ("what this machine offers, what is missing, what to do", []),
}


def main(words: list[str] | None = None) -> int:
    """Do what the words say. Returns 0; 1 where something failed; 2 for a mistake in the words."""
    print_anything()
    with suppress(ValueError):  # not in the main thread: then nobody sends us signals
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: nothing stays behind
    try:
        given = _parser(sys.argv[1:] if words is None else words)
        status = given.do(given)
        print(end="", flush=True)
        return status
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as error:
        advice = f"{sys.executable} is not the Python of effml: use .venv/bin/python, or make env."
        print(f"effml: {error}. {advice}", file=sys.stderr)
    except (ImportError, MemoryError) as error:  # a library that is here and cannot be loaded
        advice = "If memory is short, close other programs; else install again: make env."
        print(f"effml: {error or 'memory ran out'}. {advice}", file=sys.stderr)
    except (ValueError, OSError) as error:
        told = WHAT_TO_DO.get(getattr(error, "errno", None), "")
        # in one line: names and commands stay whole
        print(f"effml: {error}{told}", file=sys.stderr)
    except KeyboardInterrupt:
        print(
            "\neffml: interrupted. Finished runs stay; the same command goes on.", file=sys.stderr
        )
        return 130
    return 2


_PLACE = ". Nothing can be written there: give another place, or the right to write"
_FOLDER = ". That is a file, where a folder is needed: give another place"
WHAT_TO_DO = {
    errno.ENOSPC: ". The disk is full: make room, and say the same again. Finished runs stay",
    errno.ENOENT: ". Check the path, or give another",
    errno.EROFS: _PLACE,
    errno.EACCES: _PLACE,
    errno.EEXIST: _FOLDER,
    errno.ENOTDIR: _FOLDER,
}
"""What the system's errors leave unsaid."""


def _parser(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m effml", description="Efficient deep learning for medical imaging."
    )
    menu = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, (text, options) in COMMANDS.items():
        sub = menu.add_parser(name, help=text, description=text)
        sub.set_defaults(do=globals().get(f"_{name.replace('-', '_')}"))
        sub.formatter_class = argparse.ArgumentDefaultsHelpFormatter
        for option, how in options:
            sub.add_argument(option, **how)
        if FIELDS in options:
            sub.formatter_class = argparse.RawDescriptionHelpFormatter
            if name in words:  # it opens the menus
                from effml.recipe import explain_fields

                sub.epilog = f"fields, their defaults and what they may be:\n{explain_fields()}"
        if name in words and name in _ACTIONS:  # their rooms take a quarter of a second to import
            _ACTIONS[name](sub)
    asks = {option for option, _ in COMMANDS["advise"][1]} if words[:1] == ["advise"] else ()
    for name, sign, value in (word.partition("=") for word in words):
        if sign and f"--{name}" in asks:
            parser.error(f"write --{name} {value}, not {name}={value}")
    given, unknown = parser.parse_known_args(words)
    if unknown and FIELDS in COMMANDS[given.command][1]:
        from effml.recipe import Recipe

        name, _, value = unknown[0].removeprefix("--").partition("=")
        if name in Recipe.__dataclass_fields__:
            value = value or "".join(words[words.index(unknown[0]) + 1 :][:1])
            parser.error(f"{name} is a field of the recipe: write {name}={value}, without --")
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return given


def _add_data(parser: argparse.ArgumentParser) -> None:
    from effml.data import commands
    from effml.importing import commands as import_commands

    import_commands.add(commands.add(parser))


def _add_energy(parser: argparse.ArgumentParser) -> None:
    from effml.metering import commands

    commands.add(parser)
    parser.set_defaults(do=commands.main)


def _add_kit(parser: argparse.ArgumentParser) -> None:
    from effml.kit import commands

    commands.add(parser)


def _add_clusters(parser: argparse.ArgumentParser) -> None:
    from effml.sweeping.clusters import OPTIONS

    for option, how in OPTIONS:
        parser.add_argument(option, **how)


_ACTIONS = {"data": _add_data, "energy": _add_energy, "kit": _add_kit, "sweep": _add_clusters}


def _reproduce(given: argparse.Namespace) -> int:
    from effml import reproduce
    from effml.claims import print_ledger
    from effml.reproduce.places import LOCAL

    numbers = _numbers(given)
    if given.command == "reproduce":
        failed = reproduce.reproduce(given.profile, numbers)
        print_ledger(LOCAL / given.profile)
        return failed
    if given.command == "notebooks":
        return reproduce.rewrite_notebooks(numbers)
    return reproduce.rewrite_smoke_reference(numbers)


_notebooks = _smoke_reference = _reproduce


def _numbers(given: argparse.Namespace) -> list[str]:
    return [number.strip() for number in given.only.split(",") if number.strip()]


def _run(given: argparse.Namespace) -> int:
    from effml.recipe import Recipe
    from effml.summary import summary

    told = _swept([Recipe.parse(_fields(given))], given).iloc[0].dropna().to_dict()
    lines = [entry(name, value, 28) for name, value in told.items()]
    print("\n".join(lines if given.all else summary(told, given.store)))
    return given.failed


def _sweep(given: argparse.Namespace) -> int:
    from effml.sweeping.clusters import executor_of

    recipes, axes = _grid(given)
    if given.plan and given.status:
        raise ValueError("Give --plan (what it will take) or --status (how far it is), not both.")
    if given.status:
        return _status(given)
    if (limit := given.timeout_minutes) is not None and not limit > 0:
        raise ValueError(f"--timeout-minutes {limit:g} is no time: give minutes above 0.")
    more = {"timeout_s": None if limit is None else 60 * limit}
    with executor_of(given) as where:
        if given.plan:
            return _plan(recipes, axes, given, where | more)
        more |= {name: getattr(given, name) for name in ("max_hours", "max_kwh", "shard")}
        runs = _swept(recipes, given, cheapest_first=True, **more, **where)
    columns = "recipe_id data model precision seed".split()
    columns += [name for name in axes if name not in columns]
    print(_as_table(runs, [*columns, "status", *_scores(runs), "train_seconds"]))
    for run in runs[runs.reason.notna()].itertuples():
        print(entry(run.recipe_id, run.reason))
    return given.failed


def _grid(given: argparse.Namespace) -> tuple[list, list[str]]:
    """The recipes asked for, and the fields with several values."""
    from effml.recipe import Recipe
    from effml.sweeping import grid

    pairs = (word.partition("=")[::2] for word in _fields(given))
    axes = {name: _values(values) for name, values in pairs}
    return grid(Recipe(), **axes), [name for name, values in axes.items() if len(values) > 1]


def _plan(recipes: list, axes: list[str], given: argparse.Namespace, how: dict[str, Any]) -> int:
    from effml.sweeping import forecast
    from effml.sweeping.expected import START_S
    from effml.sweeping.order import Budget, share

    budget = Budget(given.max_hours, given.max_kwh)  # an impossible one is refused before a pilot
    recipes, at_once = share(recipes, given.shard), how.pop("in_flight", 1)
    runs = forecast(recipes, given.store, device=given.device, **how)
    if runs.empty:
        print(f"nothing left to do: {given.store} holds all {len(recipes)} runs")
        return 0
    columns = dict.fromkeys(["recipe_id", "data", "model", *axes])
    shown = {name: runs[name].tolist() for name in columns}
    for heading, name in COSTS.items():
        ends = zip(*(runs[f"{name}{end}"] for end in ("", "_low", "_high")))
        shown[heading] = [_ranged(*each) for each in ends]
    print(table(shown | {"source": runs.source.tolist()}))
    told = [f"{len(runs)} of {len(recipes)} runs to do"]
    for heading, name in COSTS.items():
        ends = [runs[f"{name}{end}"] for end in ("", "_low", "_high")]
        whole = [each.max() if heading == "MB" else each.sum(min_count=1) for each in ends]
        if heading == "minutes":  # and once the start of the process that does them
            whole = [each / at_once + start / 60 for each, start in zip(whole, START_S)]
        unknown = f", {n} unknown" if (n := int(ends[0].isna().sum())) else ""
        told.append(f"{heading} {_ranged(*whole)}{unknown}")
    print(entry("in all", "; ".join(told)))
    for told in budget.foresees(runs, at_once):
        print(entry("", told))
    return 0


COSTS = {"minutes": "minutes", "kWh": "kwh", "MB": "memory_mb"}
"""Of a plan: headings and columns."""


def _ranged(value: float, low: float, high: float) -> str:
    if value != value:
        return "unknown"
    value, low, high = (f"{x:.0f}" if x >= 100 else f"{x:.2g}" for x in (value, low, high))
    return f"{value} ({low}–{high})"


def _status(given: argparse.Namespace) -> int:
    from effml.sweeping import pending
    from effml.sweeping.order import share
    from effml.sweeping.status import status

    if "=" in str(given.store) and not Path(given.store).exists():  # a field, and no store given
        given.fields, given.store = [given.store, *given.fields], "results/local"
    if place := getattr(given, "place", None):
        if given.store not in ("results/local", place):
            raise ValueError(f"Give one store: {given.store}, or --store {place}.")
        given.store = place
    asked = share(_grid(given)[0], getattr(given, "shard", "1/1")) if given.fields else None
    how = {"device": given.device, "keep_weights": given.keep_weights}
    left = pending(asked or [], given.store, **how)
    print(status(Path(given.store), asked, left, given.device))
    return 0


def _fields(given: argparse.Namespace) -> list[str]:
    """The fields of the setting asked for, as words, and behind them those that are given."""
    names = [word.partition("=")[0] for word in given.fields]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        advice = "give it once; sweep takes several values, as in seed=0,1"
        raise ValueError(f"{twice[0]} is there {names.count(twice[0])} times: {advice}.")
    if not given.setting:
        return given.fields
    from effml.settings import setting

    device = given.device
    if device == "auto":
        from torch import cuda

        device = "cuda" if cuda.is_available() else "cpu"
    asked = setting(given.setting, device).items()
    return [*(f"{name}={value}" for name, value in asked), *given.fields]


def _swept(recipes: list, given: argparse.Namespace, **more: Any) -> "pandas.DataFrame":
    """The table of a sweep; `given.failed` is 1 where a run is not ok."""
    from effml.sweeping import sweep

    how = {"device": given.device, "keep_weights": given.keep_weights} | more
    _warn(shortages())
    runs = sweep(recipes, given.store, **how)
    given.failed = int((runs.status != "ok").any())
    return runs


def _warn(lines: list[str]) -> None:
    for line in lines:
        print(f"effml: {line}", file=sys.stderr, flush=True)


def _as_table(runs: "pandas.DataFrame", columns: list[str]) -> str:
    """Columns of runs, as people read them."""
    from effml.results import precision_label

    return table(runs.assign(precision=precision_label(runs))[columns].to_dict("list"))


def _values(text: str) -> list[str]:
    """The values between commas; a comma in the name of a file that is there parts nothing."""
    words, values = text.split(","), []
    while words:
        ends = range(len(words), 0, -1)
        end = next((end for end in ends if Path(",".join(words[:end])).exists()), 1)
        values.append(",".join(words[:end]))
        words = words[end:]
    return values


def _scores(runs: "pandas.DataFrame") -> list[str]:
    """The columns of quality that any of the runs has: AUROC of classes, Dice of masks."""
    names = [name for name in ("test_auroc", "test_dice") if runs[name].notna().any()]
    return names or ["test_auroc"]


def _show(given: argparse.Namespace) -> int:
    from effml.results import had_company, load_runs

    if not Path(given.store).is_dir():
        advice = "Run something first, or give --store results/reference."
        raise FileNotFoundError(f"There is no store {given.store}. {advice}")
    runs = load_runs(given.store)
    columns = "recipe_id data model precision seed epochs status".split()
    columns += [*_scores(runs), "train_seconds"]
    columns += ["train_energy_j"] * bool((runs.energy_measured == 1).all() and len(runs))
    columns = [choose("column", name, runs) for name in given.columns or columns]
    print(_as_table(runs, columns))
    print(f"{len(runs)} runs, {runs.attrs['unreadable']} unreadable lines")
    if company := int(had_company(runs).sum()):
        print(f"{company} shared their machine: their seconds and joules are not theirs alone")
    return 0


def _predict(given: argparse.Namespace) -> int:
    from effml.experiment.predict_folder import predict_folder

    where = {name: getattr(given, name) for name in ("out", "store", "force")}
    return predict_folder(given.run, given.folder, **where)


def _advise(given: argparse.Namespace) -> int:
    import time

    import psutil

    from effml.advice import advise

    _warn(shortages())
    asked = {name: value for name, value in vars(given).items() if name not in ("command", "do")}
    found = advise(**asked, spent_s=time.time() - psutil.Process().create_time())
    shown = found[found.role != "pilot"]
    told = "rank role recipe_id model epochs train_fraction precision learning_rate".split()
    columns = {name.replace("_", " "): shown[name].tolist() for name in told}
    columns["rank"] = [int(rank) if rank == rank else None for rank in shown["rank"]]
    ends = zip(shown.quality, shown.low, shown.high)
    columns["quality"] = [
        f"{x:.3f} ({low:.3f}–{high:.3f})" if x == x else "" for x, low, high in ends
    ]
    print(table(columns | {"s": shown.seconds.round(1).tolist()}))
    for rank, why in zip(columns["rank"], shown.reason):
        print(entry(f"{rank or '-'}", why, 6))
    print("\n".join(entry("-", line, 2) for line in found.attrs["told"]))
    if run := found.attrs["pick"]:
        print(f"python -m effml deploy {run} --store {found.attrs['store']} --out ready")
    return 0 if run else 1


def _deploy(given: argparse.Namespace) -> int:
    from effml.deployment.gate import Gate
    from effml.experiment.deploy import check, deploy

    if given.check:
        return check(given.check)
    if not given.run or not given.out:
        raise ValueError("Give deploy RUN --out FOLDER, or deploy --check FOLDER.")
    margins = dict(word.partition("=")[::2] for word in given.margin)
    try:
        for name in margins:
            choose("margin", name, Gate.__dataclass_fields__)
        gate = Gate(**{name: float(value) for name, value in margins.items()})
    except ValueError as error:
        told = f"--margin {' '.join(given.margin)}: {str(error).rstrip('.')}"
        raise ValueError(f"{told}; give NAME=LOSS: {MARGIN}") from None
    how = {"store": given.store, "gate": gate, "images": given.images or None}
    try:
        made = deploy(given.run, given.out, **how)
    except ValueError as error:
        raise ValueError(str(error).replace(*_WIDER)) from error
    rungs = [(rung.runtime, "ships" if rung.ships else "no", rung.reason) for rung in made.log]
    for name, ships, reason in rungs:
        print(entry(f"{name}: {ships}", reason.replace(*_WIDER), 36))
    print(f"{made.runtime} is in {made.folder}: read card.md there first")
    print(f"fingerprint {made.fingerprint}")
    return 0


_WIDER = "a wider margin", "a wider one by --margin NAME=LOSS"
"""The gate's advice, in the words of the command."""


def _report(given: argparse.Namespace) -> int:
    from effml.claims import report

    report()
    return 0


def _beside(name: str) -> ModuleType:
    """A module that lies beside the notebooks."""
    from effml.machine import ROOT

    sys.path.insert(0, str(ROOT / "notebooks"))
    return importlib.import_module(name)


def _class(given: argparse.Namespace) -> int:
    return _beside("classroom").show(given.folder)


def _translate(given: argparse.Namespace) -> int:
    translate = _beside("translate")
    if given.folder:
        translate.write(given.to, given.folder)
    told = translate.report(given.to)
    print("\n".join(told or [f"{given.to}: every paragraph is translated, none is outdated"]))
    wrote = (
        f"{given.folder} holds {', '.join(translate.BOOKS)} in {given.to}, the others in English"
    )
    print(
        wrote if given.folder else "Nothing was written: give a FOLDER beside notebooks/ for that"
    )
    return int(bool(told))


def _readme(given: argparse.Namespace) -> int:
    from effml.claims import render_claims
    from effml.machine import ROOT

    findings = _beside("findings")
    pages = findings.pages()
    pages["README.md"]["claims"] = render_claims()
    for path, parts in pages.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        for name, rows in parts.items():
            before, _, rest = text.partition(f"<!-- {name} -->\n")
            _, _, after = rest.partition(f"<!-- /{name} -->")
            text = f"{before}<!-- {name} -->\n{rows}<!-- /{name} -->{after}"
        (ROOT / path).write_text(text, encoding="utf-8")
    findings.draw()
    for name in ("translate", "checklists"):
        _beside(name).render()
    return 0


def _html(given: argparse.Namespace) -> int:
    from effml.site import make_site

    pages = make_site(given.folder, _numbers(given))
    print(f"{len(pages)} pages. Open {Path(given.folder) / pages[0]}")
    return 0


def _lite(given: argparse.Namespace) -> int:
    from effml.site.lite import make_lite

    books = make_lite(given.folder, given.pyodide)
    print(
        f"{len(books)} notebooks run in the browser: {', '.join(book.name[:2] for book in books)}"
    )
    if given.pyodide is None:
        from jupyterlite_pyodide_kernel.constants import PYODIDE_VERSION as version

        print(f"The browser will fetch Pyodide {version}. For a class without a network, unpack")
        print(f"pyodide-{version}.tar.bz2 of github.com/pyodide/pyodide/releases: --pyodide DIR")
    print(f"python -m http.server --directory {given.folder}  # then http://localhost:8000")
    return 0


def _doctor(given: argparse.Namespace) -> int:
    from effml import machine
    from effml.data import at_hand
    from effml.precision import native_precision

    data = os.environ.get("EFFML_DATA", "not set: names are looked up in data/ and ~/.medmnist")
    facts = {
        **machine.provenance(),
        "CPUs": os.cpu_count(),
        "memory available": f"{machine.available_memory_bytes() / 1e9:.1f} GB",
        "EFFML_DATA": data,
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

        gpu = torch.cuda.is_available()
        facts["CUDA GPU"] = torch.cuda.get_device_name() if gpu else "none: all runs on the CPU"
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
    for name, value in facts.items():
        print(entry(name, "unknown" if value is None else value, 26))
    print("", *(advice or ["Nothing stands in the way."]), sep="\n")
    return 1 if advice else 0


if __name__ == "__main__":
    if sys.getfilesystemencoding() == "ascii":  # LC_ALL=C, PYTHONUTF8=0: names could not be written
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "effml", *sys.argv[1:]])
    sys.exit(main())
