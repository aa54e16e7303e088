"""From what was tried to a ranked list with a reason for each line: on the validation split alone.
The test split of the pick and of the default recipe comes last."""

import math
from collections.abc import Mapping
from operator import itemgetter
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

from effml.evaluation import achieved, evaluate, non_inferiority, operating_point
from effml.evaluation.auroc import Difference, paired_auroc
from effml.recipe import Recipe
from effml.results import load_arrays
from effml.sweeping.expected import WINDOWS

if TYPE_CHECKING:
    import pandas

    from effml.advice.search import Search

Row = dict[str, Any]

AIMS = {
    "screening": ("specificity", "specificity at sensitivity ≥ 0.95"),
    "confirmation": ("sensitivity", "sensitivity at specificity ≥ 0.95"),
    "balanced": ("auroc", "AUROC"),
}
"""What each aim makes as large as it can."""

TARGET = 0.95
"""The rate that an aim keeps, on validation."""

MARGIN = 0.01
"""Of AUROC: a loss that does not matter."""

COLUMNS = (
    "status quality low high val_auroc difference difference_low difference_high seconds "
    "told_seconds joules told_j memory_mb told_memory_mb epochs_run ended_early began_s ended_s "
    "reason"
).split()


class Quality(NamedTuple):
    """On validation, better ones being larger: what the aim is about, then the AUROC."""

    quality: float
    auroc: float
    low: float
    high: float


def import_all() -> None:
    """What the ranking needs; on a busy machine it takes seconds, which the end has not."""
    import pandas  # noqa: F401
    import scipy.stats  # noqa: F401


def judged(search: "Search", row: Row, arrays: Mapping[str, Any]) -> Quality:
    """The quality of a run; -1 is unknown. The threshold is chosen on the same images, so it is
    optimistic."""
    given, binary = (arrays["val_probabilities"], arrays["val_labels"]), _binary(search)
    found = evaluate(*given, **search.task).as_columns()
    name = AIMS[search.aim][0] if binary else "auroc"
    if name != "auroc" and not math.isnan(found["auroc"]):
        point = operating_point(*given, positive=search.task["positive"], aim=search.aim)
        found |= vars(point)
    ends = (found[f"{name}{end}"] for end in ("", "_low", "_high"))
    value, auroc, low, high = (
        -1.0 if math.isnan(x) else float(x) for x in (next(ends), found["auroc"], *ends)
    )
    return Quality(value, auroc, low, high)


def ranked(search: "Search") -> "pandas.DataFrame":
    """The table of `effml.advise`."""
    import pandas

    for row in search.tried:
        row["seconds"] = row["ended_s"] - row["began_s"]
        row["joules"] = sum(row.get(f"{w}_energy_j") or math.nan for w in WINDOWS)
        peaks = [row.get(f"{w}_peak_memory_bytes") or 0.0 for w in WINDOWS]
        row["memory_mb"] = (row.get("together_peak_bytes") or max(peaks)) / 1e6
        if row["status"] != "ok":
            row["reason"] = f"{row['status']}: {str(row.get('reason')).splitlines()[0]}"
        elif row["role"] == "pilot":
            row["reason"] = "pilot: what its kind costs"
    runs, pick, told, test = [row for row in search.tried if "judged" in row], None, [], {}
    if runs:
        pick = _pick(search, runs)
        default = next((row for row in runs if row["recipe_id"] == search.menu[0].id), None)
        told = _words(search, runs, pick, default)
        test = _tested(search, pick, default, told)
    else:
        failed = [row["reason"] for row in search.tried if row["status"] != "ok"]
        why = failed[-1] if failed else "the pilots took all of the budget"
        told = [f"nothing was found: {why}", "give more minutes, memory or Wh, or fewer images"]
    order = sorted(search.tried, key=lambda row: _place(row, pick))
    names = dict.fromkeys(["rank", "role", "run_id", "recipe_id", *Recipe().to_dict(), *COLUMNS])
    for rank, row in enumerate(runs and order[: len(runs)], 1):
        row["rank"] = rank
    table = pandas.DataFrame(order, columns=list(names))
    table.attrs.update(store=str(search.store), pick=pick and pick["run_id"], test=test)
    table.attrs.update(told=[*told, _spent(search)], spent_s=search.budget.spent)
    return table


def _place(row: Row, pick: Row | None) -> tuple:
    quality = row.get("judged", (0.0, 0.0))
    late = "judged" not in row, row["role"] == "pilot", row.get("dominated")
    return row is not pick, *late, -quality[0], -quality[1]


def _pick(search: "Search", runs: list[Row]) -> Row:
    """The cheapest run that is not worse than the best; each row gets its reason."""
    best = max(runs, key=lambda row: row["judged"])
    for row in runs:
        d = paired(search, best, row, "val")
        row |= row["judged"]._asdict()
        row |= {"difference": d.difference, "difference_low": d.low, "difference_high": d.high}
    pick = _as_good(search, best, runs) or best
    for row in runs:
        better = [one for one in runs if _dominates(one, row)]
        row["dominated"] = bool(better)
        ends = f"{row['difference_low']:+.3f} to {row['difference_high']:+.3f}"
        told = f"ΔAUROC {row['difference']:+.3f} ({ends}) from the best"
        told += f" at {row['seconds'] / best['seconds']:.0%} of its seconds"
        if row is best:
            told = "best on validation" + ", and none cheaper was shown as good" * (row is pick)
        elif better and row is not pick:
            by = max(better, key=lambda one: one["judged"])
            told = f"dominated: {by['recipe_id']} is better and no dearer"
        if row.get("ended_early"):
            told += f"; its deadline ended it in epoch {row['epochs_run']}"
        row["reason"] = "the pick: " * (row is pick) + told
    return pick


def _as_good(search: "Search", one: Row, runs: list[Row]) -> Row | None:
    """The cheapest that is cheaper than one and not worse on validation; None where none is. As the
    cheapest of many is lucky, the interval is for all of them together (Bonferroni)."""
    cheaper = [row for row in runs if row["seconds"] < one["seconds"]]
    wider = NormalDist().inv_cdf(1 - 0.025 / max(len(cheaper), 1)) / NormalDist().inv_cdf(0.975)
    for row in sorted(cheaper, key=itemgetter("seconds")):
        d = paired(search, one, row, "val")
        if d.difference - wider * (d.difference - d.low) > -MARGIN:
            return row
    return None


def _dominates(one: Row, other: Row) -> bool:
    better = one["judged"][:2] >= other["judged"][:2] and one["seconds"] <= other["seconds"]
    same = one["judged"][:2] == other["judged"][:2] and one["seconds"] == other["seconds"]
    return better and not same


def paired(search: "Search", a: Row, b: Row, split: str) -> Difference:
    """AUROC of b less that of a on the same images of a split."""
    kept = [load_arrays(search.store, row["run_id"]) for row in (a, b)]
    pair = [one[f"{split}_probabilities"] for one in kept]
    return paired_auroc(*pair, kept[0][f"{split}_labels"], **search.task)


def _words(search: "Search", runs: list[Row], pick: Row, default: Row | None) -> list[str]:
    """What the search found, in sentences."""
    aim = AIMS[search.aim][1] if _binary(search) else "AUROC"
    ends = f"{pick['quality']:.3f} ({pick['low']:.3f}–{pick['high']:.3f})"
    told = [f"{_name(pick)}: {aim} {ends} on validation", pick["reason"]]
    if len(runs) > 1:
        told += [f"chosen among {len(runs)} runs on these images, which flatters it: see test"]
        told += [
            f"best, better: by {aim}; as good: ΔAUROC with an interval above -{MARGIN:g}, wide "
        ]
        told[-1] += "enough for all that are cheaper"
    if aim == "AUROC" and search.aim != "balanced":
        told += [f"{search.aim} asks for two classes: the AUROC over all classes has chosen"]
    elif search.aim != "balanced":
        positive = search.task["positive"]
        told += [f"positive is {search.classes[positive]!r}, class {positive} of the data"]
    if pick["role"] != "candidate":
        told += [f"a plain baseline wins: the {pick['role']}"]
    if default is None:
        return [*told, f"the default recipe did not fit: give about {search.needs:.1f} minutes"]
    if not (one := _as_good(search, default, runs)):
        return [*told, "none was found that is cheaper than the default recipe and as good"]
    share = f"{one['seconds'] / default['seconds']:.0%} of its seconds"
    return [*told, f"as good as the default recipe at {share}: {_name(one)}"]


def _name(row: Row) -> str:
    changed = Recipe.from_dict(row).changed.items()
    words = [f"{n}={x:.3g}" if isinstance(x, float) else f"{n}={x}" for n, x in changed]
    return f"{row['run_id']} ({' '.join(w for w in words if not w.startswith('data='))})"


def _tested(search: "Search", pick: Row, default: Row | None, told: list[str]) -> Row:
    """The pick and the default recipe on the test split, which no choice has seen; `told` gets a
    line for each."""
    found: Row = {}
    for name, row in (("pick", pick), ("default recipe", default)):
        if row is None:
            continue
        ends = [row.get(f"test_auroc{end}") or math.nan for end in ("", "_low", "_high")]
        found[name] = dict(zip(("auroc", "low", "high"), ends))
        told.append("test, {}: AUROC {:.3f} ({:.3f}–{:.3f})".format(name, *ends))
        if _binary(search) and search.aim != "balanced":
            kept = load_arrays(search.store, row["run_id"])
            val, test = ((kept[f"{s}_probabilities"], kept[f"{s}_labels"]) for s in ("val", "test"))
            at = achieved(val, test, positive=search.task["positive"], aims=[search.aim])
            for rate in ("sensitivity", "specificity"):
                found[name][rate] = value = float(at.loc[search.aim, rate])
                told[-1] += f", {rate} {value:.3f}"
                if rate != AIMS[search.aim][0] and value < TARGET:
                    told[-1] += f", below the {TARGET:g} of its threshold on validation"
    if default and pick is not default:
        d = paired(search, default, pick, "test")
        verdict = non_inferiority(d.low, d.high, MARGIN) if d.low == d.low else "unknown"
        found |= {"difference": d.difference, "low": d.low, "high": d.high, "verdict": verdict}
        ends = f"{d.difference:+.3f} ({d.low:+.3f} to {d.high:+.3f})"
        told.append(f"test, pick less default: {ends}, {verdict} at {MARGIN:g}")
    return found


def _binary(search: "Search") -> bool:
    return search.task["task"] == "binary"


def _spent(search: "Search") -> str:
    budget, runs = search.budget, sum("judged" in row for row in search.tried)
    peak = max((row["memory_mb"] for row in search.tried), default=0.0)
    wh = budget.watts * budget.spent / 3600
    told = f"{runs} recipes in {budget.spent:.1f} of {budget.seconds:.0f} s, "
    told += f"{wh:.3f} Wh{_of(wh, budget.wh)} at the most watts of a run ({budget.watts:.1f}), "
    told += f"{peak:.0f} MB{_of(peak, budget.memory and budget.memory / 1e6)} at most"
    tried = {row["recipe_id"] for row in search.tried}
    rest = [one for one in search.menu if one.id not in tried]
    blind = sum(search.costs.of(one) is None for one in rest)
    why = f"{blind} as no pilot of their kind ended, {len(rest) - blind} as too dear or not needed"
    return f"{told}; of the menu {len(rest)} were not tried: {why}"


def _of(spent: float, most: float | None) -> str:
    if most is None:
        return ""
    return f" of {most:.4g}" + " (over budget, which only the first run could tell)" * (
        spent > most
    )
