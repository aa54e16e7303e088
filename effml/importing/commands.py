"""`python -m effml data import`: one checked .npz file from pictures of your own."""

import argparse
import inspect
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from effml.importing.importer import import_folder
from effml.importing.words import at_a_shell, dashed, typed

_EPILOG = "Write a window that starts below zero with =, as in --window=-600,1500."
_TOLD = (
    "positive",
    "masks",
    "axes",
    "spacing",
    "groups",
    "dates",
    "columns",
    "split",
    "converted",
    "duplicates",
)


def add(actions: Any) -> None:
    """Add `import` to the actions of `data`: the arguments of `import_folder`, and its words."""
    text = "make one .npz from a folder of pictures"
    sub = actions.add_parser(
        "import", help=text, description=text, epilog=_EPILOG, argument_default=argparse.SUPPRESS
    )
    sub.set_defaults(do=main)
    told = dict(re.findall(r"^    (\w+): (.+)$", inspect.getdoc(import_folder) or "", re.MULTILINE))
    for name, one in inspect.signature(import_folder).parameters.items():
        default, (read, form) = one.default, _FORMS.get(name, (str, None))
        if one.kind is one.POSITIONAL_OR_KEYWORD:
            sub.add_argument(name, metavar=name.upper(), help=told.get(name))
        elif default is False:
            sub.add_argument(dashed(name), action="store_true", help=told.get(name))
        else:
            read = int if isinstance(default, int) else read
            known = ",".join(map(str, default)) if isinstance(default, tuple) else default
            text = told.get(name, "") + (f" (default: {known})" if known not in (None, "") else "")
            sub.add_argument(dashed(name), type=read, metavar=form, help=text)


def main(given: argparse.Namespace) -> int:
    """Do what a parser with `add` was given. Returns 0; ValueError says what is wrong."""
    takes = list(inspect.signature(import_folder).parameters)
    with at_a_shell(takes[2:]):  # the first two are no options
        report = import_folder(**{key: value for key, value in vars(given).items() if key in takes})
        plan = "passport" not in report  # a dry run
        told = report if plan else _understood(report)
        told = {name: _text(value) for name, value in told.items() if name == "refused" or value}
        print("\n".join(f"{name:14}{typed(text)}" for name, text in told.items()))
    if not plan:
        out = Path(given.out)
        print(f"{'written':14}{out.stat().st_size / 1e6:.1f} MB in {out}, the report beside it")
        if {"train", "test"} <= report["passport"]["counts"].keys():
            print(f"{'next':14}python -m effml run {shlex.quote(f'data={out}')}")
    return 0


def _understood(report: dict[str, Any]) -> dict[str, Any]:
    """What an import took its input for, in at most nine entries."""
    told = dict(report["passport"])
    if told.get("positive"):
        told["positive"] += f" ({told['positive_from']})"
    if "mask_area" in told:
        told["masks"] = f"they cover {told['mask_area']:.1%} of their pictures on average"
    names = ("classes" if told.get("classes") else "counts", *_TOLD)
    said = {name: told[name] for name in names if told.get(name, "nothing") != "nothing"}
    absent = f"; not in the table {told['not_in_table']}" if told.get("not_in_table") else ""
    return said | {"refused": _text(report["refused"]) + absent}


def _text(value: Any) -> str:
    """A value of the report in a line; of refused pictures the reasons, counted."""
    if isinstance(value, list) and value and isinstance(value[0], str):
        return " ".join(value)
    if isinstance(value, list):
        reasons = Counter(one["reason"] for one in value).most_common()
        return "; ".join([str(len(value)), *(f"{reason} ({count}×)" for reason, count in reasons)])
    if isinstance(value, dict):
        parts = ((key, part, isinstance(part, dict)) for key, part in value.items())
        return ", ".join(f"{key} ({_text(p)})" if deep else f"{key} {p}" for key, p, deep in parts)
    return str(value)


def _columns(text: str) -> dict[str, str]:
    words = re.split(r",(?=[^,=]*=)", text)  # a name in the table may hold commas
    pairs = [[part.strip() for part in word.split("=", 1)] for word in words]
    if not all(len(pair) == 2 and all(pair) for pair in pairs):
        raise argparse.ArgumentTypeError(f"{text!r}: give pairs, such as label=diagnosis,group=id")
    return dict(pairs)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(map(float, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: give numbers, such as 0.7,0.1,0.2") from None


def _window(text: str) -> tuple[float, ...] | str:
    return text if text == "max" else _numbers(text)


_FORMS = {  # how an option that is neither text nor a whole number is read, and how it is shown
    "columns": (_columns, "label=NAME,…"),
    "fractions": (_numbers, "0.7,0.1,0.2"),
    "window": (_window, "LOW,HIGH"),
}
