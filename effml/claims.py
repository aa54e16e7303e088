"""What the papers claim, beside what we measured. Statements stand in claims.csv; verdicts are derived, never typed."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas

from effml.machine import ROOT
from effml.results import CLAIMS_TYPE, claims_in, interval

VERDICTS = ("agrees", "differs", "inconclusive", "not testable here")


class Estimate(NamedTuple):
    """A value that brings its own 95 % interval (a difference between groups, say); what has no error has three equal numbers."""

    value: float
    low: float
    high: float


Ours = Mapping[str, Sequence[float] | Estimate]


def ledger() -> pandas.DataFrame:
    """Every claim: id, paper, place, statement, metric, theirs, tolerance (the difference that would not matter), relation.

    The relation is `=`, which an empty cell means, or `>`: the claim is that something is larger than `theirs`.
    """
    book = pandas.read_csv(Path(__file__).with_name("claims.csv"))
    return book.assign(relation=book.relation.fillna("="))


def verdicts(ours: Ours) -> pandas.DataFrame:
    """Ours, theirs, difference and verdict for each claim id; `ours` holds one value per seed,
    none if it was not run, or an `Estimate`, whose interval was computed elsewhere.

    With three verdicts, as in equivalence testing: our 95 % interval of the mean (Student's t over
    the seeds) lies inside theirs ± tolerance: `agrees`; outside: `differs`; across an edge:
    `inconclusive`. One seed has no interval and is inconclusive at best, and so are seeds of which
    one gave no number: `note` counts them. Where the relation is `>`, all above theirs + tolerance
    stands in the place of theirs ± tolerance."""
    book = ledger().set_index("id")
    if unknown := [name for name in ours if name not in book.index]:
        raise ValueError(f"Unknown claim {unknown[0]!r}. Choose from: {', '.join(book.index)}")
    return pandas.DataFrame([_compare(name, book.loc[name], ours[name]) for name in ours])


def reported(folder: str | os.PathLike = ROOT / "notebooks") -> pandas.DataFrame:
    """The whole ledger with the verdicts that the executed notebooks of a folder hold: claim, paper, statement, ours, theirs,
    verdict, notebook; `not reported` where none does. Of several notebooks the last in order counts."""
    found = {
        claim["claim"]: {**claim, "notebook": path.name[:2]}
        for path in sorted(Path(folder).glob("*.ipynb"))
        for claim in claims_in(json.loads(path.read_text(encoding="utf-8")))
    }
    empty = {"ours": None, "verdict": "not reported", "notebook": ""}
    rows = [
        {
            "claim": claim.id,
            "paper": claim.paper,
            "statement": claim.statement,
            "theirs": claim.theirs,
            **{name: found.get(claim.id, empty)[name] for name in empty},
        }
        for claim in ledger().itertuples()
    ]
    return pandas.DataFrame(rows).astype({"ours": float})


def render_claims(folder: str | os.PathLike = ROOT / "notebooks") -> str:
    """How many claims of each paper have which verdict, as the Markdown table of the README."""
    table = reported(folder)
    counts = pandas.crosstab(table.paper, table.verdict).reindex(
        columns=[*VERDICTS, "not reported"], fill_value=0
    )
    counts = counts.loc[:, (counts > 0).any() | counts.columns.isin(VERDICTS)]
    rows = [[paper, *map(str, row)] for paper, row in zip(counts.index, counts.values)]
    lines = [
        ["paper", *counts],
        ["---"] * (counts.shape[1] + 1),
        *rows,
        ["all", *(f"**{total}**" for total in counts.sum())],
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def report(ours: Ours | None = None) -> None:
    """Show ours, theirs, difference and verdict of each claim: `report({"medmnist-breast-auroc": runs.test_auroc})`.

    Pass an empty list for a claim that cannot be tested here (other data, say). Without an argument the whole ledger is
    printed, with the verdicts that the notebooks hold."""
    from IPython.display import display

    if ours is None:
        print(reported().round(3).to_string(index=False))
        return
    table = verdicts(ours)
    if not table.note.any():
        del table["note"]
    book = ledger().set_index("id")
    shown = table.set_index("claim").round(3).drop(columns="tolerance")
    shown.insert(
        0, "statement", [f"{book.paper[name]}: {book.statement[name]}" for name in table.claim]
    )
    display(
        {
            "text/plain": shown.to_string(),
            "text/html": shown.to_html(),
            CLAIMS_TYPE: json.loads(table.to_json(orient="records")),
        },
        raw=True,
    )


def _compare(
    name: str, claim: pandas.Series, given: Sequence[float] | Estimate
) -> dict[str, object]:
    estimate = isinstance(given, Estimate)
    asked = np.asarray(given[:1] if estimate else given, dtype=float)
    values = asked[np.isfinite(asked)]
    lost = len(asked) - len(values)
    mean, low, high = given if estimate else interval(values)
    bottom, top = claim.theirs - claim.tolerance, claim.theirs + claim.tolerance
    if claim.relation == ">":
        bottom, top = top, np.inf
    if not len(values):
        verdict = "not testable here"
    elif lost:  # those that are left may be the lucky ones
        verdict = "inconclusive"
    elif bottom <= low and high <= top:
        verdict = "agrees"
    elif high < bottom or low > top:
        verdict = "differs"
    else:
        verdict = "inconclusive"
    return {
        "claim": name,
        "ours": mean,
        "low": low,
        "high": high,
        "seeds": 0 if estimate else len(values),
        "theirs": claim.theirs,
        "difference": mean - claim.theirs,
        "tolerance": claim.tolerance,
        "verdict": verdict,
        "note": f"{lost} of {len(asked)} seeds are NaN" if lost and not estimate else "",
    }
