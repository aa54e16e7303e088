"""`python -m effml data import`: one checked .npz file from pictures of your own."""

import argparse
import inspect
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from effml.importing.importer import import_folder
from effml.importing.words import at_a_shell, typed

_IMPORT = """Without --table the classes are the names of the folders in FOLDER; folders train, val and test are a split.
The table is a CSV with the columns file, label and, where there are any, group (the patient), site, date and split;
--columns label=diagnosis,group=patient says how they are called in yours. Write a window that starts below zero
with =, as in --window=-600,1500."""


def add(actions: Any) -> None:
    """Add `import` to the actions of `data`."""
    text = "make one .npz from a folder of pictures"
    sub = actions.add_parser(
        "import",
        help=text,
        description=text,
        epilog=_IMPORT,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.set_defaults(do=main)
    sub.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and write nothing"
    )
    sub.add_argument("folder", metavar="FOLDER")
    sub.add_argument("out", metavar="OUT", help="such as data/ours.npz")
    sub.add_argument("--table", metavar="CSV")
    sub.add_argument(
        "--columns",
        type=_columns,
        metavar="label=NAME,…",
        help="the table's own names of the columns",
    )
    sub.add_argument("--masks", metavar="DIR", help="masks with the pictures' names")
    sub.add_argument("--size", type=int, help="pixels (default 224)")
    sub.add_argument("--split-by", metavar="HOW", help="group (default), date, column or image")
    sub.add_argument(
        "--fractions", type=_numbers, metavar="0.7,0.1,0.2", help="of train, val and test"
    )
    sub.add_argument("--positive", metavar="CLASS", help="the class that sensitivity is about")
    sub.add_argument(
        "--window",
        type=_window,
        metavar="LOW,HIGH",
        help="pixel values shown as black and white, or max",
    )
    sub.add_argument("--colour", metavar="HOW", help="auto (default), grey or rgb")
    sub.add_argument("--fit", metavar="HOW", help="pad (default) or stretch to a square")
    sub.add_argument("--copies", metavar="HOW", help="report (default), group on one side, or drop")
    sub.add_argument("--seed", type=int)
    sub.add_argument("--source", metavar="TEXT", help="where the pictures come from")
    sub.add_argument("--licence", metavar="TEXT")


def main(given: argparse.Namespace) -> int:
    """Do what a parser with `add` was given. Returns 0; ValueError says what is wrong."""
    takes = list(inspect.signature(import_folder).parameters)
    with at_a_shell(takes[2:]):  # the first two are no options
        report = import_folder(**{key: value for key, value in vars(given).items() if key in takes})
        if "passport" not in report:  # a dry run
            told = {key: _text(value) for key, value in report.items() if key == "refused" or value}
            print("\n".join(f"{key:14}{typed(text)}" for key, text in told.items()))
            return 0
    print("\n".join(f"{name:14}{text}" for name, text in _understood(report).items()))
    out = Path(given.out)
    print(f"{'written':14}{out.stat().st_size / 1e6:.1f} MB in {out}, the report beside it")
    if {"train", "test"} <= report["passport"]["counts"].keys():
        print(f"{'next':14}python -m effml run {shlex.quote(f'data={out}')}")
    return 0


def _understood(report: dict[str, Any]) -> dict[str, str]:
    """What an import took its input for, in at most eight lines."""
    told = dict(report["passport"])
    if told.get("positive"):
        told["positive"] += f" ({told['positive_from']})"
    if "mask_area" in told:
        told["masks"] = f"they cover {told['mask_area']:.1%} of their pictures on average"
    told["refused"] = report["refused"]
    names = ("classes" if told.get("classes") else "counts", "positive", "masks", "groups", "dates")
    names += ("columns", "split", "converted", "duplicates")
    said = {
        name: _text(told[name]) for name in names if told.get(name) not in (None, {}, "nothing")
    }
    said["refused"] = _text(told["refused"])
    if told.get("not_in_table"):
        said["refused"] += f"; not in the table {told['not_in_table']}"
    return said


def _text(value: Any) -> str:
    """A value of the report in a line; of refused pictures the reasons, counted."""
    if isinstance(value, list) and value and isinstance(value[0], str):
        return " ".join(value)
    if isinstance(value, list):
        reasons = Counter(one["reason"] for one in value).most_common()
        return "; ".join([str(len(value)), *(f"{reason} ({count}×)" for reason, count in reasons)])
    if isinstance(value, dict):
        return ", ".join(
            f"{key} ({_text(part)})" if isinstance(part, dict) else f"{key} {part}"
            for key, part in value.items()
        )
    return str(value)


def _columns(text: str) -> dict[str, str]:
    words = re.split(r",(?=[^,=]*=)", text)  # a name in the table may hold commas
    pairs = [word.partition("=") for word in words]
    if not all(name and own for name, _, own in pairs):
        raise argparse.ArgumentTypeError(
            f"{text!r}: give pairs separated by commas, such as label=diagnosis,group=patient"
        )
    return {name.strip(): own.strip() for name, _, own in pairs}


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: give numbers separated by commas, such as 0.7,0.1,0.2"
        ) from None


def _window(text: str) -> tuple[float, ...] | str:
    return text if text == "max" else _numbers(text)
