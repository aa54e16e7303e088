"""What was understood: classes and the positive one, patients by one spelling, days, sides."""

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from effml.data.classes import in_order, positive_of
from effml.data.spelling import listed
from effml.importing.dates import read_days
from effml.importing.looking import Job, refuse
from effml.importing.partition import one_spelling, split
from effml.importing.table import filled
from effml.importing.words import counted

if TYPE_CHECKING:
    import pandas as pd

REFUSED_LIMIT = 0.5  # a larger share is a mistake in the call rather than in the pictures
_NEEDED = {
    "group": "There is no group column, so that one patient could be on both sides of the split. "
    'Add one (the patient), or say split_by="image" when each image is another patient.',
    "date": "There is no date column to split by. Add one, as YYYY-MM-DD.",
}


def lacks(job: Job, rows: "pd.DataFrame") -> str:
    """What to do about the column which the split needs and `rows` do not have; "" if they do."""
    if job.split_by not in _NEEDED or job.split_by in rows or rows.empty:
        return ""
    need = _NEEDED[job.split_by]
    if "split" in rows and job.table is None:
        need = f'To keep the split that the folders name say split_by="column". Else: {need}'
    elif "split" in rows:
        need += ' Or say split_by="column" to keep the given split.'
    return need if job.table is not None else need.replace("Add one", "Give a table with one", 1)


def enough(job: Job, rows: "pd.DataFrame") -> None:
    """Raises ValueError if more than REFUSED_LIMIT of the pictures were refused."""
    total, count = len(rows) + len(job.refused), len(job.refused)
    if rows.empty or count > REFUSED_LIMIT * total:
        said = f"{count} of {counted(total, 'picture')} were refused, more than half; nothing was"
        first = f"First: {job.refused[0]['file']}."
        raise ValueError(f"{said} written. Most often: {_reasons(job)}. {first}")


def _reasons(job: Job) -> str:
    reasons = Counter(one["reason"] for one in job.refused).most_common(3)
    return "; ".join(f"{reason} ({count}×)" for reason, count in reasons)


def classes_of(job: Job, rows: "pd.DataFrame") -> tuple[list[str], int | None, str]:
    """Class names in order (none without labels), which of two is positive, and who says so."""
    names, positive = in_order(rows.get("label", ())), job.positive
    if len(names) == 1:
        others = f"{len(job.refused)}, {_reasons(job)}" if job.refused else "none so far"
        said = f"All {len(rows)} pictures that can be used have the label {names[0]}"
        raise ValueError(f"{said}. Give two classes or more, or masks. Refused: {others}.")
    if positive is not None and len(names) > 2:
        raise ValueError(
            f"positive={positive!r} is for two classes; here are {len(names)}: "
            f"{', '.join(names[:9])}. Leave it out and score one class against the rest by "
            "effml.achieved, with probabilities[:, c] and labels == c."
        )
    if positive is not None and positive not in names:
        known = f"The classes here: {', '.join(names) or 'none'}."
        raise ValueError(f"positive={positive!r} must be one of two classes. {known}")
    if len(names) != 2:
        return names, None, "not binary"
    given = positive is not None
    return names, *((names.index(positive), "given") if given else positive_of(names))


def understood(job: Job, rows: "pd.DataFrame") -> "pd.DataFrame":
    """The rows that the split can use, with days and one spelling for each group."""
    rows = dated(job, rows)
    rows = filled(job, rows, {"group", job.split_by} & {"group", "date"} & set(rows))
    enough(job, rows)
    classes, index, why = classes_of(job, rows)
    if why.startswith("assumed"):
        other = f'Say positive="{classes[1 - index]}" if it is about the other class'
        job.notes.append(f"Sensitivity is taken to be about {classes[index]} ({why}). {other}.")
    if "group" in rows:
        groups, same = one_spelling(rows.group.to_numpy(str))
        rows = rows.assign(group=groups)
        if several := [names for names in same.values() if len(names) > 1]:
            many = f"{counted(len(several), 'group', 'are')} spelt in several ways"
            job.notes.append(f"{many}; each is taken as one: {listed(several)}.")
    return rows


def dated(job: Job, rows: "pd.DataFrame") -> "pd.DataFrame":
    """The rows with days as YYYY-MM-DD; others stay as they are, or are refused if needed."""
    if "date" not in rows:
        return rows
    days, why = read_days(rows.date)
    unread = (rows.date != "") & ~rows.date.isin(days.keys())
    rows = rows.assign(date=rows.date.map(lambda text: days.get(text, text)))
    if unread.any():
        why = f"such as {rows.date[unread].iloc[0]}: {why}"
        if job.split_by == "date":
            refuse(job, rows.file[unread], f"no date as YYYY-MM-DD ({why})")
            return rows[~unread]
        job.notes.append(f"{unread.sum()} of {len(rows)} dates stay as they are written, {why}.")
    return rows


def sides_of(job: Job, rows: "pd.DataFrame", together: np.ndarray | None = None) -> np.ndarray:
    """The side of each row, as `split` deals them."""
    names = ("label", "group", "date", "split")
    label, group, date, given = (rows[n].to_numpy(str) if n in rows else None for n in names)
    label = np.zeros(len(rows), "U1") if label is None else label
    columns = {"groups": group, "dates": date, "given": given, "together": together}
    return split(job.split_by, label, **columns, fractions=job.fractions, seed=job.seed)
