"""From what was tried to a ranked list with a reason for each line: on the validation split alone.
The test split of the choice and of the default recipe comes last."""

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from effml.advice.costs import beside
from effml.evaluation import achieved, evaluate, non_inferiority, operating_point
from effml.evaluation.auroc import Difference, paired_auroc
from effml.recipe import Recipe
from effml.results import CARD, load_arrays

if TYPE_CHECKING:
    import pandas

    from effml.advice.search import Search

AIMS = {
    "screening": ("specificity", "specificity at sensitivity ≥ 0.95"),
    "confirmation": ("sensitivity", "sensitivity at specificity ≥ 0.95"),
    "balanced": ("auroc", "AUROC"),
}
"""What each aim makes as large as it can."""

MARGIN = 0.01
"""Of AUROC: a loss that does not matter."""


class Quality(NamedTuple):
    """On validation, better ones being larger: what the aim is about, then the AUROC."""

    value: float
    auroc: float
    low: float
    high: float


def judged(search: "Search", row: dict[str, Any], arrays: dict[str, Any]) -> Quality:
    """Of a run its quality. The threshold is chosen on these very images, so it is optimistic."""
    if not search.task:
        card = json.loads((search.store / f"{row['run_id']}{CARD}").read_text(encoding="utf-8"))
        search.task = {name: card[name] for name in ("task", "positive")}
    given, task = (arrays["val_probabilities"], arrays["val_labels"]), search.task
    found = evaluate(*given, **task).as_columns()
    name = AIMS[search.aim][0] if task["task"] == "binary" else "auroc"
    if name != "auroc" and not math.isnan(found["auroc"]):
        point = operating_point(*given, positive=task["positive"], aim=search.aim)
        found |= {f"{name}{end}": getattr(point, f"{name}{end}") for end in ("", "_low", "_high")}
    ends = (found[f"{name}{end}"] for end in ("", "_low", "_high"))
    value, low, high = (-1.0 if math.isnan(one) else float(one) for one in ends)
    return Quality(value, -1.0 if math.isnan(found["auroc"]) else found["auroc"], low, high)


def ranked(search: "Search") -> "pandas.DataFrame":
    """The table of `effml.advise`."""
    import pandas

    rows = {row["recipe_id"]: row for row in search.tried if row["recipe_id"] in search.quality}
    for row in search.tried:
        row["seconds"] = row["ended_s"] - row["began_s"]
        row["joules"] = sum(row.get(f"{w}_energy_j") or math.nan for w in _WINDOWS)
        row["memory_mb"] = max(row.get(f"{w}_peak_memory_bytes") or 0 for w in _WINDOWS) / 1e6
    pick, told = None, []
    if rows:
        pick = _choose(search, rows)
        told = _words(search, rows, pick)
    for row in search.tried:
        row.setdefault("reason_of_rank", _why_not(row))
    order = sorted(search.tried, key=lambda row: _place(search, row, pick))
    for rank, row in enumerate(order, 1):
        row |= {"rank": rank if row["recipe_id"] in rows and row["role"] != "pilot" else None}
        row |= dict(zip(("quality", "low", "high"), _shown(search, row)))
    names = ["rank", "role", "run_id", "recipe_id", *Recipe().to_dict()]
    names += "status quality low high val_auroc difference difference_low difference_high".split()
    names += "seconds told_seconds joules told_j memory_mb told_memory_mb epochs_run".split()
    names += "ended_early began_s ended_s".split()
    table = pandas.DataFrame(order, columns=[*dict.fromkeys(names), "reason_of_rank"])
    table = table.rename(columns={"reason_of_rank": "reason"})
    test = _test(search, rows, pick) if pick else {}
    told += test.pop("told", []) + _spent(search)
    table.attrs.update(store=str(search.store), pick=pick and pick["run_id"], told=told, test=test)
    table.attrs.update(spent_s=search.budget.spent, budget_s=search.budget.seconds)
    return table


_WINDOWS = ("prepare", "train", "infer")


def _shown(search: "Search", row: dict[str, Any]) -> tuple[float, float, float]:
    found = search.quality.get(row["recipe_id"]) if row["role"] != "pilot" else None
    return (found.value, found.low, found.high) if found else (math.nan,) * 3


def _choose(search: "Search", rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The cheapest run that is not worse than the best; each row gets its reason."""
    quality, kept = search.quality, {}
    best = rows[max(rows, key=lambda name: quality[name])]
    for name, row in rows.items():
        kept[name] = paired(search, best, row, "val")
        ends = kept[name].difference, kept[name].low, kept[name].high
        row |= dict(zip(("difference", "difference_low", "difference_high"), ends))
    cheap = [
        row
        for name, row in rows.items()
        if row["seconds"] < best["seconds"] and kept[name].low > -MARGIN
    ]
    pick = min(cheap, key=lambda row: row["seconds"], default=best)
    for name, row in rows.items():
        worse = [o for o in rows.values() if _dominates(quality, o, row)]
        row["dominated"] = bool(worse)
        lost = f"ΔAUROC {row['difference']:+.3f} ({_range(row)}) from the best"
        saved = f"at {row['seconds'] / best['seconds']:.0%} of its seconds"
        if row is pick:
            told = "best on validation, and none that is cheaper was shown to be as good"
            if row is not best:
                told = f"as good as the best ({lost}) {saved}"
            row["reason_of_rank"] = f"the pick: {told}"
        elif row is best:
            row["reason_of_rank"] = "best on validation; the pick is as good and cheaper"
        elif worse:
            by = max(worse, key=lambda one: quality[one["recipe_id"]])
            row["reason_of_rank"] = f"dominated: {by['recipe_id']} is better and no dearer"
        else:
            row["reason_of_rank"] = f"on the front: {lost} {saved}"
        if row.get("ended_early"):
            row["reason_of_rank"] += f"; its deadline ended it in epoch {row['epochs_run']}"
    return pick


def _dominates(quality: dict[str, Quality], one: dict[str, Any], other: dict[str, Any]) -> bool:
    a, b = quality[one["recipe_id"]], quality[other["recipe_id"]]
    cheaper = one["seconds"] <= other["seconds"]
    return a[:2] >= b[:2] and cheaper and (a[:2] > b[:2] or one["seconds"] < other["seconds"])


def paired(search: "Search", a: dict[str, Any], b: dict[str, Any], split: str) -> Difference:
    """AUROC of b less that of a on the same images of a split."""
    kept = [load_arrays(search.store, row["run_id"]) for row in (a, b)]
    pair = [one[f"{split}_probabilities"] for one in kept]
    return paired_auroc(*pair, kept[0][f"{split}_labels"], **search.task)


def _range(row: dict[str, Any]) -> str:
    return f"{row['difference_low']:+.3f} to {row['difference_high']:+.3f}"


def _why_not(row: dict[str, Any]) -> str:
    if row["role"] == "pilot" and row["status"] == "ok":
        return "pilot: what its kind costs"
    return f"{row['status']}: {str(row.get('reason')).splitlines()[0]}"


def _place(search: "Search", row: dict[str, Any], pick: dict[str, Any] | None) -> tuple:
    good = search.quality.get(row["recipe_id"]) if row["role"] != "pilot" else None
    kind = row is not pick, good is None, row["role"] == "pilot", row.get("dominated", True)
    return (*kind, *(-one for one in (good or ())[:2]))


def _default(search: "Search", rows: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    return rows.get(search.menu[0].id)


def _words(search: "Search", rows: dict[str, dict[str, Any]], pick: dict[str, Any]) -> list[str]:
    """What the search found, in sentences."""
    aim = AIMS[search.aim][1] if search.task["task"] == "binary" else "AUROC"
    value, _, low, high = search.quality[pick["recipe_id"]]
    told = [f"{_name(pick)}: {aim} {value:.3f} ({low:.3f}–{high:.3f}) on validation"]
    told += [pick["reason_of_rank"]]
    if pick["role"].startswith(BASELINES):
        told += [f"a plain baseline wins: the {pick['role']}"]
    if not (default := _default(search, rows)):
        return [*told, f"the default recipe did not fit: give about {search.needs:.1f} minutes"]
    cheaper = [r for r in rows.values() if r["seconds"] < default["seconds"]]
    equal = [r for r in cheaper if paired(search, default, r, "val").low > -MARGIN]
    if not equal:
        return [*told, "none was found that is cheaper than the default recipe and as good"]
    one = min(equal, key=lambda row: row["seconds"])
    share = f"{one['seconds'] / default['seconds']:.0%} of its seconds"
    return [*told, f"as good as the default recipe at {share}: {_name(one)}"]


BASELINES = ("default", "random subset", "small net")


def _name(row: dict[str, Any]) -> str:
    changed = Recipe.from_dict(row).changed
    words = [f"{n}={x:.3g}" if isinstance(x, float) else f"{n}={x}" for n, x in changed.items()]
    return f"{row['run_id']} ({' '.join(w for w in words if not w.startswith('data='))})"


def _test(
    search: "Search", rows: dict[str, dict[str, Any]], pick: dict[str, Any]
) -> dict[str, Any]:
    """The pick and the default recipe on the test split, which no choice has seen."""
    default, told = _default(search, rows), []
    found: dict[str, Any] = {}
    for name, row in (("pick", pick), ("default recipe", default)):
        if row is None:
            continue
        ends = [row.get(f"test_auroc{end}") or math.nan for end in ("", "_low", "_high")]
        found[name] = dict(zip(("auroc", "low", "high"), ends))
        told.append("test, {}: AUROC {:.3f} ({:.3f}–{:.3f})".format(name, *ends))
        if search.task["task"] == "binary" and search.aim != "balanced":
            kept = load_arrays(search.store, row["run_id"])
            val, test = ((kept[f"{s}_probabilities"], kept[f"{s}_labels"]) for s in ("val", "test"))
            at = achieved(val, test, positive=search.task["positive"], aims=[search.aim])
            rates = at.loc[search.aim, ["sensitivity", "specificity"]].astype(float).to_dict()
            found[name] |= rates
            told[-1] += "".join(f", {rate} {value:.3f}" for rate, value in rates.items())
    if default and pick is not default:
        d = paired(search, default, pick, "test")
        found |= {"difference": d.difference, "low": d.low, "high": d.high}
        found["verdict"] = non_inferiority(d.low, d.high, MARGIN) if d.low == d.low else "unknown"
        ends = f"{d.difference:+.3f} ({d.low:+.3f} to {d.high:+.3f})"
        told.append(f"test, pick less default: {ends}, {found['verdict']} at {MARGIN:g}")
    return found | {"told": told}


def _spent(search: "Search") -> list[str]:
    budget, runs = search.budget, len(search.quality)
    peak = max((row["memory_mb"] for row in search.tried), default=0.0) + beside() / 1e6
    wh = budget.watts * budget.spent / 3600
    told = f"{runs} recipes in {budget.spent:.1f} of {budget.seconds:.0f} s"
    told += f", {wh:.3f} Wh" + (f" of {budget.wh:g}" if budget.wh is not None else "")
    told += f" at the most watts of a run ({budget.watts:.1f}), {peak:.0f} MB at most"
    return [told + (f" of {budget.memory / 1e6:.0f}" if budget.memory is not None else "")]
