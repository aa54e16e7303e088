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
    """Breaks at spaces alone."""

    def __init__(self, width: int) -> None:
        super().__init__(width, break_long_words=False, break_on_hyphens=False)


class _Parts(_Words):
    """Breaks also in names, behind - _ / : and before a tag, as in `resnet34d.ra2_in1k` (but leaves
    `energy_j`, `CIFAR-10` and 0.796 whole)."""

    wordsep_simple_re = re.compile(r"(\s+|(?<=\w[_/:-])(?=\w{3})|(?<=\w\.)(?=[a-z]\w{2}))")


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
    for words, gap in ((_Words, 2), (_Parts, 2), (_Parts, 1)):  # names are broken where they must
        widths = _widths([*columns], cells, numbers, words, gap)
        if sum(widths) + gap * (len(widths) - 1) <= WIDTH:
            break
    lines, last = _lines([*columns], widths, numbers, _Parts, gap), ""
    for row, above in zip_longest(zip(*cells), under):
        lines += [above] if above and above != last else []
        last = above
        lines += _lines(row, widths, numbers, words, gap)
    return "\n".join(lines)


def _lines(
    row: Sequence[str], widths: list[int], numbers: list[bool], words: type[_Words], gap: int
) -> list[str]:
    """The lines of a row; each of its cells may take several."""
    parts, lines = (words(width).wrap(cell) for cell, width in zip(row, widths)), []
    for line in zip_longest(*parts, fillvalue=""):
        fields = zip(line, numbers, widths)
        placed = (f"{text:{'>' if right else '<'}{width}}" for text, right, width in fields)
        lines.append((" " * gap).join(placed).rstrip())
    return lines


def _widths(
    heads: list[str],
    cells: list[list[str]],
    numbers: list[bool],
    words: type[_Words],
    gap: int,
) -> list[int]:
    """Of each column. Where not all fits, the column gives way that is widest for what it holds;
    numbers are never broken."""
    least, widths = [], []
    for head, column, number in zip(heads, cells, numbers):
        head, longest = _longest(head, _Parts), max(map(len, column), default=0)
        part = longest if number else max((_longest(cell, words) for cell in column), default=0)
        least.append(max(head, part))
        widths.append(max(head, longest))
    letters = [sum(map(len, column)) for column in cells]
    while sum(widths) + gap * (len(widths) - 1) > WIDTH:
        wide = [i for i, width in enumerate(widths) if width > least[i]]
        if not wide:
            break
        widths[min(wide, key=lambda i: letters[i] / widths[i] ** 2)] -= 1
    return widths


def _cell(value: Any, number: bool) -> str:
    if value is None or not number and value != value:
        return ""
    if not isinstance(value, float) or not math.isfinite(value):
        return str(value).replace("nan", "NaN") if number else str(value)
    if 0.1 <= abs(value) < 1:
        return f"{value:.3f}"
    return f"{value:.0f}" if abs(value) >= 100 or value.is_integer() else f"{value:.3g}"


def _longest(text: str, words: type[_Words]) -> int:
    return max(map(len, words(1).wrap(text)), default=0)
