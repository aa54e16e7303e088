"""What the papers claim, beside what we measured. Statements stand in claims.csv; verdicts are derived, never typed."""
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas

from effml.results import CLAIMS_TYPE, interval

VERDICTS = ("agrees", "differs", "inconclusive", "not testable here")


def ledger() -> pandas.DataFrame:
    """Every claim: id, paper, place, statement, metric, theirs, tolerance (the difference that would not matter)."""
    return pandas.read_csv(Path(__file__).with_name("claims.csv"))


def verdicts(ours: Mapping[str, Sequence[float]]) -> pandas.DataFrame:
    """Ours, theirs, difference and verdict for each claim id; `ours` holds one value per seed, none if it was not run.

    With three verdicts, as in equivalence testing: our 95 % interval of the mean (Student's t over the seeds) lies inside
    theirs ± tolerance: `agrees`; outside: `differs`; across an edge: `inconclusive`. One seed has no interval and is
    inconclusive at best.
    """
    book = ledger().set_index("id")
    if unknown := [name for name in ours if name not in book.index]:
        raise ValueError(f"Unknown claim {unknown[0]!r}. Choose from: {', '.join(book.index)}")
    return pandas.DataFrame([_compare(name, book.loc[name], np.asarray(ours[name], dtype=float)) for name in ours])


def report(ours: Mapping[str, Sequence[float]]) -> None:
    """Show ours, theirs, difference and verdict of each claim: `report({"medmnist-breast-auroc": runs.test_auroc})`.

    Pass an empty list for a claim that cannot be tested here (other data, say)."""
    from IPython.display import display
    table = verdicts(ours)
    book = ledger().set_index("id")
    shown = table.set_index("claim").round(3).drop(columns="tolerance")
    shown.insert(0, "statement", [f"{book.paper[name]}: {book.statement[name]}" for name in table.claim])
    display({"text/plain": shown.to_string(), "text/html": shown.to_html(),
             CLAIMS_TYPE: json.loads(table.to_json(orient="records"))}, raw=True)


def _compare(name: str, claim: pandas.Series, values: np.ndarray) -> dict[str, object]:
    values = values[np.isfinite(values)]
    mean, low, high = interval(values)
    bottom, top = claim.theirs - claim.tolerance, claim.theirs + claim.tolerance
    if not len(values):
        verdict = "not testable here"
    elif bottom <= low and high <= top:
        verdict = "agrees"
    elif high < bottom or low > top:
        verdict = "differs"
    else:
        verdict = "inconclusive"
    return {"claim": name, "ours": mean, "low": low, "high": high, "seeds": len(values), "theirs": claim.theirs,
            "difference": mean - claim.theirs, "tolerance": claim.tolerance, "verdict": verdict}
