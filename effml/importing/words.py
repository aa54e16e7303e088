"""Advice as its reader must type it: Python's `split_by="image"` is `--split-by image` on a command
line.
"""

import ast
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_OPTIONS: ContextVar[frozenset[str]] = ContextVar("options", default=frozenset())
_VALUE = r"""("[^"]*"|'[^']*'|\([^)]*\)|\{[^}]*\}|-?\w+(?:\.\w+)*)"""


@contextmanager
def at_a_shell(options: Iterable[str]) -> Iterator[None]:
    """Within this block `typed` and the text of a ValueError speak to a shell whose options are
    these parameters.
    """
    before = _OPTIONS.set(frozenset(options))
    try:
        yield
    except ValueError as error:
        raise ValueError(typed(str(error))) from None
    finally:
        _OPTIONS.reset(before)


def typed(text: str) -> str:
    """A message written for Python, for whoever reads it now."""
    if not (options := _OPTIONS.get()):
        return text
    names = "|".join(sorted(options))
    text = re.sub(rf"(?<![\w-])({names})={_VALUE}", _option, text)
    long = "|".join(sorted(name for name in options if "_" in name))
    return re.sub(rf"(?<![\w-])({long})\b(?!=)", lambda found: _dashed(found[1]), text)


def _option(found: re.Match) -> str:
    try:
        value = ast.literal_eval(found[2])
    except (ValueError, SyntaxError):
        value = found[2]
    if isinstance(value, dict):
        value = ",".join(f"{name}={own}" for name, own in value.items())
    elif isinstance(value, tuple):
        value = ",".join(map(str, value))
    value = shlex.quote(str(value))
    return f"{_dashed(found[1])}{'=' if value.startswith('-') else ' '}{value}"


def _dashed(name: str) -> str:
    return "--" + name.replace("_", "-")


def counted(number: int, thing: str, verb: str = "") -> str:
    """ "1 pair of copies" or "2 pairs of copies"; with a verb "1 pair is" or "2 pairs are"."""
    if number == 1:
        return f"1 {thing} {({'are': 'is', 'have': 'has', 'were': 'was'}).get(verb, verb)}".rstrip()
    first, *rest = thing.split()
    return " ".join(filter(None, [str(number), f"{first}s", *rest, verb]))
