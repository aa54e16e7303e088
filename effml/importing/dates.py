"""Days from text as people write them, read only where there is one way to read them."""

import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import date

_TIME = r"(?:[T ]\s*\d{1,2}:\d{2}.*)?"
_YEAR_FIRST = re.compile(
    rf"(\d{{4}})([-/.])(\d{{1,2}})\2(\d{{1,2}}){_TIME}"  # ISO, with a time or without
    r"|(\d{4})(\d{2})(\d{2})(?:\d{6}(?:\.\d+)?)?"  # as in DICOM
)
_YEAR_LAST = re.compile(rf"(\d{{1,2}})([-/.])(\d{{1,2}})\2(\d{{4}}){_TIME}")


def read_days(values: Iterable[str | None]) -> tuple[dict[str, str], str]:
    """{text: YYYY-MM-DD} of the texts that can be read, and why others cannot ("" if all can).

    31.12.2021 and 12/31/2021 are read where the whole column has one order of day and month: dots
    mean that the day is first; with - and / some number above 12 must show the order.
    """
    texts, days = sorted({text for text in values if text}), {}
    last = {text: match for text in texts if (match := _YEAR_LAST.fullmatch(text))}
    month_first = any(int(match[3]) > 12 for match in last.values())
    dots = all(match[2] == "." for match in last.values())
    day_first = any(int(match[1]) > 12 for match in last.values()) or dots and not month_first
    for text in texts:
        if match := _YEAR_FIRST.fullmatch(text):
            parts = match.group(1, 3, 4) if match[1] else match.group(5, 6, 7)
        elif (match := last.get(text)) and (day_first != month_first or match[1] == match[3]):
            parts = match.group(4, 3, 1) if day_first else match.group(4, 1, 3)
        else:
            continue
        with suppress(ValueError):  # 30 February
            days[text] = date(*map(int, parts)).isoformat()
    if len(days) == len(texts):
        return days, ""
    forms = "YYYY-MM-DD, YYYYMMDD, DD.MM.YYYY or MM/DD/YYYY"
    return days, f"it is no day as {forms}, or day and month cannot be told apart in this column"
