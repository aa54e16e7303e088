"""What was understood: classes and the positive one, patients by one spelling, days, sides."""

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from effml.data.classes import in_order, positive_of
from effml.data.identity import listed
from effml.importing.asked import Asked
from effml.importing.dates import read_days
from effml.importing.partition import one_spelling, split
from effml.importing.table import Refused, filled, refuse
from effml.importing.words import counted

if TYPE_CHECKING:
    import pandas as pd

REFUSED_LIMIT = 0.5  # a larger share is a mistake in the call rather than in the pictures
_NEEDED = {
    "group": "There is no group column, so that one patient could be on both sides of the split. "
    'Add a column group (the patient) to the table, or say split_by="image" when each image is '
    "another patient.",
    "date": "There is no date column to split by. Add one to the table, as YYYY-MM-DD.",
}


def lacks(rows: "pd.DataFrame", asked: Asked) -> str:
    """What to do about the column which the split needs and `rows` do not have; "" if they do."""
    if asked.split_by not in _NEEDED or asked.split_by in rows or rows.empty:
        return ""
    keep = ' Or say split_by="column" to keep the given split.' if "split" in rows else ""
    return _NEEDED[asked.split_by] + keep


def enough(rows: "pd.DataFrame", refused: Refused) -> None:
    """Raises ValueError if more than REFUSED_LIMIT of the pictures were refused."""
    total = len(rows) + len(refused)
    if rows.empty or len(refused) > REFUSED_LIMIT * total:
        raise ValueError(
            f"{len(refused)} of {counted(total, 'picture')} were refused, more than half; nothing "
            f"was written. Most often: {_reasons(refused)}. First: {refused[0]['file']}."
        )


def _reasons(refused: Refused) -> str:
    reasons = Counter(one["reason"] for one in refused).most_common(3)
    return "; ".join(f"{reason} ({count}×)" for reason, count in reasons)


def classes_of(
    rows: "pd.DataFrame", positive: str | None, refused: Refused
) -> tuple[list[str], int | None, str]:
    """Class names in order (numbers by value; none without labels), which of two is positive, and
    who says so.
    """
    names = in_order(rows.get("label", ()))
    if len(names) == 1:
        others = f"{len(refused)}, {_reasons(refused)}" if refused else "none"
        raise ValueError(
            f"All {len(rows)} pictures that can be used have the label {names[0]}: there is nothing "
            f"to tell apart. Give pictures of two classes or more, or masks. Refused: {others}."
        )
    if positive is not None and len(names) > 2:
        raise ValueError(
            f"positive={positive!r} is for two classes; here are {len(names)}: "
            f"{', '.join(names[:9])}. Leave it out and score one class against the rest in Python: "
            "effml.achieved, with probabilities[:, c] and labels == c. Or give labels of two "
            f"classes, such as {positive} and rest."
        )
    if positive is not None and positive not in names:
        known = f"The classes here: {', '.join(names) or 'none'}."
        raise ValueError(f"positive={positive!r} must be one of two classes. {known}")
    if len(names) != 2:
        return names, None, "not binary"
    given = positive is not None
    return names, *((names.index(positive), "given") if given else positive_of(names))


def understood(
    rows: "pd.DataFrame", asked: Asked, refused: Refused, notes: list[str]
) -> "pd.DataFrame":
    """The rows that the split can use, with days and one spelling for each group."""
    rows = dated(rows, asked, refused, notes)
    rows = filled(rows, {"group", asked.split_by} & {"group", "date"} & set(rows), refused)
    enough(rows, refused)
    classes, index, why = classes_of(rows, asked.positive, refused)
    if why.startswith("assumed"):
        other = f'Say positive="{classes[1 - index]}" if it is about the other class'
        notes.append(f"Sensitivity is taken to be about {classes[index]} ({why}). {other}.")
    if "group" in rows:
        groups, same = one_spelling(rows.group.to_numpy(str))
        rows = rows.assign(group=groups)
        if several := [names for names in same.values() if len(names) > 1]:
            many = f"{counted(len(several), 'group', 'are')} spelt in several ways"
            notes.append(f"{many}; each is taken as one: {listed(several)}.")
    return rows


def dated(rows: "pd.DataFrame", asked: Asked, refused: Refused, notes: list[str]) -> "pd.DataFrame":
    """The rows with days as YYYY-MM-DD. What is no day is kept as it is written, or refused if the
    split needs it.
    """
    if "date" not in rows:
        return rows
    days, why = read_days(rows.date)
    unread = (rows.date != "") & ~rows.date.isin(days.keys())
    rows = rows.assign(date=rows.date.map(lambda text: days.get(text, text)))
    if unread.any():
        why = f"such as {rows.date[unread].iloc[0]}: {why}"
        if asked.split_by == "date":
            refuse(refused, rows.file[unread], f"no date as YYYY-MM-DD ({why})")
            return rows[~unread]
        notes.append(f"{unread.sum()} of {len(rows)} dates stay as they are written, {why}.")
    return rows


def sides_of(rows: "pd.DataFrame", asked: Asked, together: np.ndarray | None = None) -> np.ndarray:
    """The side of each row, as `split` deals them."""
    names = ("label", "group", "date", "split")
    label, group, date, given = (rows[n].to_numpy(str) if n in rows else None for n in names)
    label = np.zeros(len(rows), "U1") if label is None else label
    columns = {"groups": group, "dates": date, "given": given, "together": together}
    how = {"fractions": asked.fractions, "seed": asked.seed}
    return split(asked.split_by, label, **columns, **how)
