"""The notebooks of a profile, one after another or two at a time, and what came of them."""

import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from effml.machine import shortages
from effml.reproduce import places
from effml.reproduce.execution import Execution, cores, execute
from effml.reproduce.fingerprint import fingerprint, in_turn, records_fingerprint
from effml.reproduce.places import load
from effml.reproduce.plan import Plan, make_plan
from effml.reproduce.progress import Progress
from effml.results import claims_in, read_records, save_file
from effml.sweeping.plan import FINAL


def reproduce(profile: str = "laptop", only: Sequence[str] = ()) -> int:
    """Plan, run, sum up; 0 if every notebook is up to date at the end, else 1.

    In the profiles smoke and reference two notebooks run at a time: they measure no costs.
    """
    plans = make_plan(profile, only)
    with _alone(profile):
        return _reproduce(profile, plans)


@contextmanager
def _alone(profile: str) -> Iterator[None]:
    """Inside, no other process writes the notebooks of this profile."""
    from filelock import FileLock, Timeout

    places.LOCAL.mkdir(parents=True, exist_ok=True)
    lock = FileLock(places.LOCAL / f".{profile}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(
            f"Another reproduce of profile {profile} is at work here: waiting for its end.",
            flush=True,
        )
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _reproduce(profile: str, plans: list[Plan]) -> int:
    out, begun = places.LOCAL / profile, time.time()
    at_once = min(2, cores()) if profile in ("smoke", "reference") else 1
    state = load(out / "state.json")
    for plan in plans:
        plan.fingerprint = fingerprint(plan)
        _compare(plan, out, state)
    _print_plan(plans, profile, at_once)
    if any(plan.status == "to run" for plan in plans):
        (out / "log.txt").unlink(missing_ok=True)
    progress = Progress([plan for plan in plans if plan.status == "to run"], at_once)
    first, reading = in_turn(plans)
    try:
        _run(first, reading, out, state, progress)
        for plan in reading:  # the notebooks before it may have written what this one reads
            _compare(plan, out, state)
        _run(reading, [], out, state, progress)
    except KeyboardInterrupt:
        print("\nInterrupted. What has ended stays, runs too: the next call goes on from there.")
        return 1
    finally:
        progress.bar.close()
    return _print_summary(plans, out, begun)


def _compare(plan: Plan, out: Path, state: dict[str, Any]) -> None:
    """Say whether it is up to date, and how long it took here."""
    before = state.get(plan.name, {})
    plan.predicted = before.get("minutes") or plan.cost["minutes"]
    same = before.get("fingerprint") == plan.fingerprint
    same = same and before.get("records") == records_fingerprint(plan)
    plan.status = "to run"
    if same and (out / plan.path.name).is_file():
        plan.status, plan.minutes = "up to date", before["minutes"]
        plan.claims = before["claims"]


def _run(
    plans: list[Plan], later: list[Plan], out: Path, state: dict[str, Any], progress: Progress
) -> None:
    """Run those notebooks that are not up to date; until its good end each counts as not done."""
    todo, later = ([plan for plan in some if plan.status == "to run"] for some in (plans, later))
    if not todo:
        return
    progress.plans += [plan for plan in todo if plan not in progress.plans]
    for plan in todo:
        state.get(plan.name, {}).pop("fingerprint", None)
    save_file(out / "state.json", json.dumps(state).encode())
    where = {"store": places.LOCAL, "figures": out / "figures"}
    with closing(execute(todo, out, **where, at_once=progress.at_once)) as steps:
        for ended, running, waiting in steps:
            for one in ended:
                _finish(one, state)
                save_file(out / "state.json", json.dumps(state).encode())
                progress.ended(one.plan, running, waiting + later)
            progress.show(running, waiting + later)


def _finish(one: Execution, state: dict[str, Any]) -> None:
    """Read what came of a notebook. Of failed runs it cannot be told which of two notebooks at a
    time they are from: both then run again at the next call."""
    plan, failure = one.plan, one.failure()
    plan.status, plan.minutes = failure or "ok", one.minutes
    plan.claims = claims_in(load(one.out))
    begun = datetime.fromtimestamp(one.begun, UTC).isoformat(timespec="milliseconds")
    new = [r for r in read_records(places.LOCAL)[0] if (r.get("finished_utc") or "") >= begun]
    lost = [row for row in new if row["status"] != "ok"]
    if lost and not failure:
        first = lost[0].get("reason")
        plan.status = f"ok, but {len(lost)} runs failed meanwhile, the first: {first}"
    if failure:
        return
    done = {"minutes": plan.minutes, "claims": plan.claims}
    if all(row["status"] in FINAL for row in lost):
        done |= {"fingerprint": plan.fingerprint, "records": records_fingerprint(plan)}
    state[plan.name] = done


def _print_plan(plans: list[Plan], profile: str, at_once: int) -> None:
    todo = [plan for plan in plans if plan.status == "to run"]
    runs, fetch = (sum(plan.cost[name] for plan in todo) for name in ("runs", "fetch"))
    minutes = sum(plan.predicted for plan in todo) / at_once
    print(f"Profile {profile}: {len(todo)} of {len(plans)} notebooks to run", end="")
    print(", two at a time" if at_once > 1 else "", end=", at most ")
    print(f"{runs:.0f} runs, about {minutes:.1f} minutes, {fetch:.0f} MB to fetch")
    for plan in plans:
        memory, runs = plan.cost["memory"], plan.cost["runs"]
        print(f"  {plan.name:28} {plan.status:10} {runs:4.0f} runs", end=" ")
        print(f"{plan.predicted:6.1f} min {memory:6.0f} MB of memory", flush=True)
    for told in shortages(max((plan.cost["memory"] for plan in todo), default=0.0)):
        print(f"Mind: {told}", flush=True)


def _print_summary(plans: list[Plan], out: Path, begun: float) -> int:
    print(f"\n{'notebook':28} {'status':12} {'minutes':>7}  claims")
    for plan in plans:
        status = re.split(" in cell|, but|: ", plan.status)[0]
        counted = Counter(claim["verdict"] for claim in plan.claims)
        claims = ", ".join(f"{n} {verdict}" for verdict, n in counted.items()) or "–"
        print(f"{plan.name:28} {status:12} {plan.minutes:7.1f}  {claims}")
    files = [path for path in [*out.rglob("*"), *places.LOCAL.glob("runs-*")] if path.is_file()]
    count = sum(path.stat().st_mtime >= begun for path in files)
    folder, store = (path.relative_to(places.ROOT) for path in (out, places.LOCAL))
    print(f"Files written: {count}. Notebooks, figures and log.txt are in {folder}", end=", ")
    print(f"records in {store}.")
    for plan in plans:
        if plan.status.startswith("ok, but"):
            print(f"\n{plan.name}: {plan.status}")
    failed = [plan for plan in plans if plan.status.startswith("failed")]
    for plan in failed:
        print(f"\n{plan.name} {plan.status}\n  It is kept, with the error, as", end=" ")
        print(f"{folder / plan.path.name}; what it printed is in {folder / 'log.txt'}")
    return 1 if failed else 0
