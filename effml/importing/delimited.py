"""CSV files as spreadsheets and other programs write them: read as they are meant, or refused by
line.
"""

import codecs
import csv
import io
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_ADVICE = "Save it as CSV in UTF-8, with a line of column names and as many fields in every line."
Rows = list[tuple[int, list[str]]]  # the line that a row begins in, and its fields


def read_csv(path: str | os.PathLike) -> "pd.DataFrame":
    """A CSV with , ; tab or | as text, so that the id 007 stays 007 and the class NA is a class;
    empty fields are None.

    The separator is the one that gives every line as many fields as there are names, or Excel's
    line sep=. Rows without any value are left out. FileNotFoundError and ValueError say what is
    wrong in which line, and what to do.
    """
    import pandas as pd

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no table {path}. Check the path; relative paths start at {Path.cwd()}."
        )
    try:
        rows = _rows(_text(path.read_bytes()))
        if not rows:
            raise ValueError("it is empty")
    except ValueError as error:
        raise ValueError(f"{path.name} cannot be read as a table: {error}. {_ADVICE}") from None
    (_, names), *rows = rows
    values = [[field or None for field in fields] for _, fields in rows]
    return pd.DataFrame(values, columns=names, dtype=object)


def _text(data: bytes) -> str:
    if data.startswith(b"PK\x03\x04"):
        raise ValueError("it is a zip archive, as spreadsheets (.xlsx, .ods) are, and no text")
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n|\r|\n", data[: error.start])) + 1
        raise ValueError(
            f"line {line} has a byte that is not UTF-8{'' if wide else f' (0x{data[error.start]:02X})'}"
        ) from None
    if "\0" in text:
        line = len(re.findall(r"\r\n|\r|\n", text[: text.index("\0")])) + 1
        raise ValueError(f"line {line} has zero bytes, which no text in UTF-8 has")
    return text


def _rows(text: str) -> Rows:
    """The rows, names first, all of one length."""
    first = 1
    if said := re.match(r'"?sep=(.)"?[;,\t ]*(?:\r\n|\r|\n)', text, re.IGNORECASE):
        text, first = text[said.end() :], 2
    tried = {}
    there = [separator for separator in _SEPARATORS if separator in text]
    for separator in [said[1]] if said else there or [","]:
        rows, wrong = _parsed(text, separator, first)
        tried[separator] = len(rows[0][1]) if rows else 0, rows, wrong
    whole = {separator: found for separator, found in tried.items() if not found[2]}
    separator = max(whole or tried, key=lambda separator: tried[separator][0])
    names, rows, wrong = tried[separator]
    if wrong or names == 1 and any(mark in rows[0][1][0] for mark in _SEPARATORS):
        # one column only because no separator fits: say what is wrong with the likeliest
        separator = max(tried, key=lambda separator: tried[separator][0])
        names, rows, wrong = tried[separator]
    if wrong:
        parted = _SEPARATORS.get(separator, repr(separator))
        raise ValueError(f"{wrong} (with {parted} between fields)")
    return rows


def _parsed(text: str, separator: str, first: int) -> tuple[Rows, str]:
    """The rows that have a value, without empty fields after the last name; and what is wrong with
    one, or "".
    """
    lines = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True
    )
    rows: Rows = []
    while True:
        line = first + lines.line_num
        try:
            fields = [field.strip() for field in next(lines)]
        except StopIteration:
            return rows, ""
        except csv.Error:
            return rows, f"line {line} has a quotation mark out of place"
        if not any(fields):
            continue
        while fields and not fields[-1] and (not rows or len(fields) > len(rows[0][1])):
            fields.pop()
        if rows and len(fields) != len(rows[0][1]):
            return (
                rows,
                f"line {line} has {len(fields)} fields, the line of names {len(rows[0][1])}",
            )
        rows.append((line, fields))
