"""Advice as its reader must type it: `split_by="image"`, or `--split-by image` at a shell."""

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
    """Within this block `typed` and the text of a ValueError name these parameters as options."""
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
    text = re.sub(rf"(?<![\w-])({'|'.join(sorted(options))})={_VALUE}", _option, text)
    long = "|".join(sorted(name for name in options if "_" in name))
    return re.sub(rf"(?<![\w-])({long})\b(?!=)", lambda found: dashed(found[1]), text)


def dashed(name: str) -> str:
    """The option of a parameter."""
    return "--" + name.replace("_", "-")


def _option(found: re.Match) -> str:
    try:
        value = ast.literal_eval(found[2])
    except (ValueError, SyntaxError):
        value = found[2]
    if isinstance(value, dict):
        value = tuple(f"{name}={own}" for name, own in value.items())
    value = shlex.quote(",".join(map(str, value)) if isinstance(value, tuple) else str(value))
    return f"{dashed(found[1])}{'=' if value.startswith('-') else ' '}{value}"


def counted(number: int, thing: str, verb: str = "") -> str:
    """ "1 pair of copies" or "2 pairs of copies"; with a verb "1 pair is" or "2 pairs are"."""
    first, *rest = thing.split()
    if number == 1:
        verb = {"are": "is", "have": "has"}.get(verb, verb)
    return " ".join([str(number), first if number == 1 else f"{first}s", *rest, verb]).rstrip()


def bare(name: str) -> str:
    """The name of a file without its extension, which starts with a letter; .nii.gz is one."""
    return re.sub(r"(?<=[^/])(\.nii\.gz|\.[a-z]\w*)$", "", name, flags=re.IGNORECASE)
