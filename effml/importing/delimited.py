"""CSV files as spreadsheets write them: read as they are meant, or refused by line."""

import codecs
import csv
import io
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_SEPARATORS = ",;\t|"
_ADVICE = "Save it as CSV in UTF-8, with a line of column names and as many fields in every line."


def read_csv(path: str | os.PathLike) -> "pd.DataFrame":
    """A CSV with , ; tab or | as text, so that the id 007 stays 007 and the class NA is a class;
    empty fields are None, and rows without any value are left out.

    The separator is the one that gives every line as many fields as there are names, or that of
    Excel's line sep=. Errors say what is wrong in which line.
    """
    import pandas as pd

    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give a table, such as a CSV.")
    if not path.is_file():
        where = f"Check the path; relative paths start at {Path.cwd()}."
        raise FileNotFoundError(f"There is no table {path}. {where}")
    try:
        names, *rows = _rows(_text(path.read_bytes()))
    except ValueError as error:
        raise ValueError(f"{path.name} cannot be read as a table: {error}. {_ADVICE}") from None
    values = [[field or None for field in fields] for fields in rows]
    return pd.DataFrame(values, columns=names, dtype=object)


def _text(data: bytes) -> str:
    if data.startswith(b"PK\x03\x04"):
        raise ValueError("it is a zip archive, as spreadsheets (.xlsx, .ods) are, and no text")
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = len((data[: error.start] + b".").splitlines())
        raise ValueError(f"line {line} has a byte that is not UTF-8") from None
    if "\0" in text:
        raise ValueError("it has zero bytes, which no text in UTF-8 has")
    return text


def _rows(text: str) -> list[list[str]]:
    """The fields of the rows that have a value, names first, all of one length."""
    first, marks = 1, [mark for mark in _SEPARATORS if mark in text] or [","]
    if said := re.match(r'"?sep=(.)"?[;,\t ]*(?:\r\n|\r|\n)', text, re.IGNORECASE):
        text, first, marks = text[said.end() :], 2, [said[1]]
    tried = {mark: _parsed(text, mark, first) for mark in marks}
    width = {mark: len(rows[0]) if rows else 0 for mark, (rows, _) in tried.items()}
    best = max([mark for mark in tried if not tried[mark][1]] or tried, key=width.get)
    if width[best] == 1 and any(mark in tried[best][0][0][0] for mark in _SEPARATORS):
        best = max(tried, key=width.get)  # no separator fits: say what is wrong with the likeliest
    rows, wrong = tried[best]
    if wrong:
        raise ValueError(f"{wrong} (with {best!r} between fields)")
    if not rows:
        raise ValueError("it is empty")
    return rows


def _parsed(text: str, mark: str, first: int) -> tuple[list[list[str]], str]:
    """The rows with a value, without empty fields after the last name; what is wrong, or ""."""
    file = io.StringIO(text, newline="")
    lines = csv.reader(file, delimiter=mark, skipinitialspace=True, strict=True)
    rows, end = [], first
    try:
        for fields in lines:
            line, end = end, first + lines.line_num
            fields, names = [field.strip() for field in fields], len(rows[0]) if rows else 0
            if not any(fields):
                continue
            while len(fields) > names and not fields[-1]:
                fields.pop()
            if rows and len(fields) != names:
                return rows, f"line {line} has {len(fields)} fields, the line of names {names}"
            rows.append(fields)
    except csv.Error:
        return rows, f"line {end} has a quotation mark out of place"
    return rows, ""
