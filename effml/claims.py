"""What the papers claim (claims.csv) beside what we measured, and the verdicts that follow."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas

from effml.machine import ROOT, choose
from effml.printing import entry
from effml.printing import table as as_table
from effml.results import CLAIMS_TYPE, claims_in
from effml.seeds import interval, seeds_needed

MOST = 10_000
"""More seeds than this are not counted."""
VERDICTS = ("agrees", "better than claimed", "differs", "inconclusive", "not testable here")


class Estimate(NamedTuple):
    """A value with its own 95 % interval (of a difference between groups, say). A value without
    error has three equal numbers."""

    value: float
    low: float
    high: float


Ours = Mapping[str, Sequence[float] | Estimate]


def ledger() -> pandas.DataFrame:
    """Every claim: id, paper, place, statement, metric, theirs, tolerance, relation, better, kind.

    The tolerance is the difference that would not matter. The relation is `=`, which an empty cell
    means, or `>`: the claim is that something is larger than `theirs`. Better is `higher` or
    `lower` where more, or less, than is claimed is better, else empty. The kind is `conclusion`,
    which an empty cell means, or `number`: a value that is printed in the paper.
    """
    book = pandas.read_csv(Path(__file__).with_name("claims.csv"), dtype={"better": str})
    filled = {"relation": "=", "better": "", "kind": "conclusion"}
    return book.assign(**{name: book[name].fillna(value) for name, value in filled.items()})


def verdicts(ours: Ours) -> pandas.DataFrame:
    """Ours, theirs, difference and verdict for each claim id of `ours` (see `report`).

    As in equivalence testing: our 95 % interval of the mean (Student's t over the seeds) lies
    inside theirs ± tolerance: `agrees`; outside: `differs`; across an edge: `inconclusive`, and
    `needed` says how many seeds would decide, were mean and spread to stay (of an Estimate: how
    many times as many cases). Where one side is better, only the other edge counts: all beyond
    theirs ± tolerance on the better side is `better than claimed`. One seed has no interval and is
    inconclusive at best, and so are seeds of which one gave no number: `note` counts them. Where
    the relation is `>`, all above theirs + tolerance stands in the place of theirs ± tolerance.
    """
    book = ledger().set_index("id")
    claims = {name: book.loc[choose("claim", name, book.index)] for name in ours}
    return pandas.DataFrame([_compare(name, claims[name], ours[name]) for name in ours])


def reported(folder: str | os.PathLike = ROOT / "notebooks") -> pandas.DataFrame:
    """The ledger with the verdicts that the executed notebooks of a folder hold.

    Columns: claim, paper, kind, statement, theirs, ours, verdict, needed, notebook. The verdict is
    `not reported` where no notebook has one; of several notebooks the last in order counts.
    """
    found = {}
    for path in sorted(Path(folder).glob("*.ipynb")):
        for claim in claims_in(json.loads(path.read_text(encoding="utf-8"))):
            said = claim["ours"], claim["verdict"], claim.get("needed", ""), path.name[:2]
            found[claim["claim"]] = said
    names = ["claim", "paper", "kind", "statement", "theirs"]
    table = ledger().rename(columns={"id": "claim"})[names]
    rows = [found.get(claim, (None, "not reported", "", "")) for claim in table.claim]
    theirs = pandas.DataFrame(rows, columns=["ours", "verdict", "needed", "notebook"])
    return table.join(theirs.astype({"ours": float}))


def render_claims(folder: str | os.PathLike = ROOT / "notebooks") -> str:
    """How many claims of each paper have which verdict, as the Markdown table of the README. Where
    a paper has conclusions and printed numbers, these are counted apart."""
    table, columns = reported(folder), [*VERDICTS, "not reported"]
    both = table.groupby("paper").kind.transform("nunique") > 1
    told = (
        table.paper
        + ", "
        + table.kind.map({"conclusion": "conclusions", "number": "printed numbers"})
    )
    counts = pandas.crosstab(table.paper.where(~both, told), table.verdict).reindex(
        columns=columns, fill_value=0
    )
    counts = counts.loc[:, (counts > 0).any() | counts.columns.isin(VERDICTS)]
    rows = [[row[0], *map(str, row[1:])] for row in counts.itertuples()]
    total = ["all", *(f"**{count}**" for count in counts.sum())]
    lines = [["paper", *counts], ["---"] * (counts.shape[1] + 1), *rows, total]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def report(ours: Ours | None = None, notes: Mapping[str, str] | None = None) -> None:
    """Show what the papers claim, what we measured and the verdict on each claim.

    Args:
        ours: for each claim id (`effml.claims.ledger()` lists them) one value per seed, or an
            `effml.claims.Estimate`, whose interval was computed elsewhere; an empty list for a
            claim that cannot be tested here (other data, say). Without it, the whole ledger is
            printed with the verdicts that the stored notebooks hold.
        notes: for a claim id what its sentence leaves out: a column of its own.

    Returns:
        Nothing: the table is displayed, as HTML in a notebook.

    Raises:
        ValueError: for an unknown claim id.

    Example:
        >>> effml.report({"medmnist-breast-auroc": [0.900, 0.901, 0.902]})
        {...'verdict': 'agrees'}]}
    """
    from IPython.display import display

    if ours is None:
        print(_printed(reported()))
        return
    table, book = verdicts(ours), ledger().set_index("id")
    table = table.drop(columns=[name for name in ("note", "needed") if not table[name].any()])
    shown = table.set_index("claim").round(3)
    shown["ours"] = [_told(*row) for row in shown[["ours", "low", "high"]].itertuples(index=False)]
    shown = shown.drop(columns=["low", "high", "tolerance"])
    told = [f"{book.paper[name]}: {book.statement[name]}" for name in table.claim]
    shown.insert(0, "statement", told)
    if notes:
        shown["what it leaves out"] = [notes.get(name, "") for name in table.claim]
    texts = {"text/plain": shown.to_string(), "text/html": shown.to_html()}
    display({**texts, CLAIMS_TYPE: json.loads(table.to_json(orient="records"))}, raw=True)


def _told(value: float, low: float, high: float) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]" if low == low else f"{value:.3f}"


def print_ledger(folder: str | os.PathLike) -> None:
    """What `make reproduce` prints last: a line for each claim that the executed notebooks of a
    folder report, without its statement, and how many have which verdict."""
    table = reported(folder)
    counts = table.verdict.value_counts()
    told = table[table.verdict != "not reported"]
    if len(told):
        print(f"\nThe ledger\n{_printed(told, statements=False)}")
    counted = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
    print("\n" + entry(f"{len(table)} claims:", counted))
    print("Their statements: python -m effml report")


def _printed(claims: pandas.DataFrame, *, statements: bool = True) -> str:
    """A table of `reported` for people, by paper."""
    claims = claims.sort_values(
        "paper", kind="stable", key=lambda papers: pandas.factorize(papers)[0]
    )
    needed = claims.needed.where(claims.needed == "", " (" + claims.needed + ")")
    claims = claims.assign(verdict=claims.verdict + needed)
    names = ["claim", *["statement"] * statements, "theirs", "ours", "verdict", "notebook"]
    return as_table(claims[names].to_dict("list"), under=claims.paper)


def _compare(
    name: str, claim: pandas.Series, given: Sequence[float] | Estimate
) -> dict[str, object]:
    estimate = isinstance(given, Estimate)
    asked = np.asarray(given[:1] if estimate else given, dtype=float)
    values = asked[np.isfinite(asked)]
    lost = len(asked) - len(values)
    mean, low, high = given if estimate else interval(values)
    bottom, top, beyond = edges(claim)
    verdict, needed = "inconclusive", ""
    if not len(values):
        verdict = "not testable here"
    elif not lost:  # where some are lost, those that are left may be the lucky ones
        inside, outside = bottom <= low and high <= top, high < bottom or low > top
        verdict = "agrees" if inside else "differs" if outside else verdict
        verdict = "better than claimed" if inside and beyond(low, high) else verdict
        if verdict == "inconclusive":
            needed = _needed(None if estimate else values, (mean, low, high), (bottom, top))
    row = {"claim": name, "ours": mean, "low": low, "high": high}
    row |= {"seeds": 0 if estimate else len(values), "theirs": claim.theirs}
    row |= {"difference": mean - claim.theirs, "tolerance": claim.tolerance, "verdict": verdict}
    row["needed"] = needed
    note = f"{lost} of {len(asked)} seeds are NaN" if lost and not estimate else ""
    return {**row, "note": note}


def edges(claim: pandas.Series) -> tuple[float, float, Callable[[float, float], bool]]:
    """From where to where our interval agrees, and whether it is better than was claimed."""
    bottom, top = claim.theirs - claim.tolerance, claim.theirs + claim.tolerance
    if claim.relation == ">":
        return top, np.inf, lambda low, high: False
    if claim.better == "higher":
        return bottom, np.inf, lambda low, high: low > top
    if claim.better == "lower":
        return -np.inf, top, lambda low, high: high < bottom
    return bottom, top, lambda low, high: False


def _needed(
    values: np.ndarray | None, ours: tuple[float, float, float], edges: tuple[float, float]
) -> str:
    """What it would take to get our interval off the edge."""
    mean, low, high = ours
    room = min(abs(mean - edge) for edge in edges if np.isfinite(edge))
    room = room if room > 1e-12 else 0.0
    if values is not None and len(values) < 2:
        return "more than one seed"
    if not room:
        return "no number"
    if values is not None:
        n = seeds_needed(sd, room) if (sd := values.std(ddof=1)) < 50 * room else MOST
        return f"{n} seeds" if n < MOST else f"more than {MOST} seeds"
    return f"{((high - low) / 2 / room) ** 2:.2g} times the cases"
