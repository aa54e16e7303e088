"""What is printed fits 100 columns: entries and tables, whose texts go on in the next line."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from numbers import Real
from textwrap import TextWrapper, fill
from typing import Any

WIDTH = 100


class _Words(TextWrapper):
    """Breaks at spaces, and in names behind - _ / (but leaves `energy_j` and `CIFAR-10` whole)."""

    wordsep_simple_re = re.compile(r"(\s+|(?<=\w[_/-])(?=\w{3}))")


def entry(name: str, text: Any, indent: int = 12) -> str:
    """A name and what is to be said of it, which begins at column `indent` in every line. Lines of
    the text stay lines."""
    told, how = [], {"break_long_words": False, "break_on_hyphens": False}
    for line in str(text).splitlines() or [""]:
        lead = " " * indent if told else f"{name:{indent - 1}} "
        told.append(
            fill(line, WIDTH, initial_indent=lead, subsequent_indent=" " * indent, **how)
            or lead.rstrip()
        )
    return "\n".join(told)


def table(columns: Mapping[str, Iterable[Any]], under: Sequence[str] = ()) -> str:
    """Columns by heading as a table that is at most WIDTH wide, if its longest words allow.
    Numbers stand right, with three digits; None is left empty. `under`: for each row the line that
    stands above the first of its kind."""
    values = [list(column) for column in columns.values()]
    numbers = [all(isinstance(value, Real | None) for value in column) for column in values]
    cells = [[_cell(x, right) for x in column] for column, right in zip(values, numbers)]
    widths, gap = _widths(list(columns), cells, numbers)
    lines, last = [], ""
    for row, above in zip_longest([[*columns], *zip(*cells)], ["", *under], fillvalue=""):
        if above != last:
            lines.append(above)
        last = above
        for line in zip_longest(*map(_parts, row, widths), fillvalue=""):
            fields = zip(line, numbers, widths)
            placed = (f"{text:{'>' if right else '<'}{width}}" for text, right, width in fields)
            lines.append((" " * gap).join(placed).rstrip())
    return "\n".join(lines)


def _widths(heads: list[str], cells: list[list[str]], numbers: list[bool]) -> tuple[list[int], int]:
    """Of each column, and the gap between them. Where not all fits, the column gives way that is
    widest for what it holds; numbers are never broken."""
    least, widths = [], []
    for head, column, number in zip(heads, cells, numbers):
        longest = max(map(len, column), default=0)
        part = longest if number else max(map(_longest_part, column), default=0)
        least.append(max(_longest_part(head), part))
        widths.append(max(_longest_part(head), longest))
    letters = [sum(map(len, column)) for column in cells]
    gap = 2 if sum(least) + 2 * (len(least) - 1) <= WIDTH else 1
    while sum(widths) + gap * (len(widths) - 1) > WIDTH:
        wide = [i for i, width in enumerate(widths) if width > least[i]]
        if not wide:
            break
        widths[min(wide, key=lambda i: letters[i] / widths[i] ** 2)] -= 1
    return widths, gap


def _cell(value: Any, number: bool) -> str:
    if value is None or not number and value != value:
        return ""
    if not isinstance(value, float) or not math.isfinite(value):
        return str(value).replace("nan", "NaN") if number else str(value)
    if 0.1 <= abs(value) < 1:
        return f"{value:.3f}"
    return f"{value:.0f}" if abs(value) >= 100 or value.is_integer() else f"{value:.3g}"


def _parts(text: str, width: int) -> list[str]:
    return _Words(width, break_long_words=False, break_on_hyphens=False).wrap(text) or [""]


def _longest_part(text: str) -> int:
    return max(map(len, _parts(text, 1)))
