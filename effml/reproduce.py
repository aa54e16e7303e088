"""`make reproduce`: run the notebooks of a profile, skip what is up to date, and sum up."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from effml.machine import ROOT, choose
from effml.results import claims_in, read_records, save_file
from effml.sweeping.plan import FINAL

NOTEBOOKS, LOCAL, SMOKE = ROOT / "notebooks", ROOT / "results" / "local", ROOT / "tests" / "smoke"
PROFILES = ("smoke", "laptop", "paper")
COSTS = ("minutes", "memory", "runs", "fetch")  # of the passport: memory and fetch in MB


@dataclass
class Plan:
    """One notebook under one profile."""

    path: Path
    parameters: dict[str, Any]  # those the profile overrides
    cost: dict[str, float]  # by COSTS, as the passport tells them
    fingerprint: str = ""
    status: str = "to run"
    minutes: float = 0.0
    claims: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.stem


def make_plan(profile: str, only: Sequence[str] = ()) -> list[Plan]:
    """The notebooks of a profile in their order, all or those whose number `only` names."""
    choose("profile", profile, PROFILES)
    paths = {path.name[:2]: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}
    if not paths:
        raise ValueError(f"{NOTEBOOKS} has no notebooks. Install a checkout with: pip install -e .")
    for number in only:
        choose("notebook", number, paths)
    overrides = _overrides(profile, {n: declared_parameters(path) for n, path in paths.items()})
    numbers = [number for number in paths if not only or number in only]
    return [Plan(paths[n], overrides[n], passport(paths[n], profile)) for n in numbers]


def reproduce(profile: str = "laptop", only: Sequence[str] = ()) -> int:
    """Plan, run, sum up; 0 if every notebook is up to date at the end, else 1."""
    plans, out = make_plan(profile, only), LOCAL / profile
    state = _load(out / "state.json")
    for plan in plans:
        plan.fingerprint, before = _fingerprint(plan), state.get(plan.name, {})
        if before.get("fingerprint") == plan.fingerprint and (out / plan.path.name).is_file():
            plan.status, plan.minutes = "up to date", before["minutes"]
            plan.claims = before["claims"]
    _print_plan(plans, profile)
    begun, expected = time.time(), 0.0
    for plan in plans:
        # the notebooks before it may have written what this one reads
        plan.fingerprint = _fingerprint(plan)
        if plan.status == "up to date" and state[plan.name]["fingerprint"] == plan.fingerprint:
            continue
        left = sum(p.cost["minutes"] for p in plans if p.status == "to run")
        pace = (time.time() - begun) / 60 / expected if expected else 1.0
        end = time.strftime("%H:%M", time.localtime(time.time() + 60 * pace * left))
        print(f"{plan.name} … (all done about {end})", flush=True)
        _run(plan, out, state)
        expected += plan.cost["minutes"]
    return _print_summary(plans, out, begun)


def _run(plan: Plan, out: Path, state: dict[str, Any]) -> None:
    """Run one notebook; until its good end it counts as not done."""
    state.pop(plan.name, None)
    save_file(out / "state.json", json.dumps(state).encode())
    known = {row.get("run_id") for row in read_records(LOCAL)[0]}
    failure = execute(plan.path, out / plan.path.name, plan.parameters, out / "figures")
    book = _load(out / plan.path.name)
    seconds = book.get("metadata", {}).get("papermill", {}).get("duration") or 0.0
    plan.status, plan.minutes, plan.claims = failure or "ok", seconds / 60, claims_in(book)
    new = [row for row in read_records(LOCAL)[0] if row.get("run_id") not in known]
    lost = [row for row in new if row["status"] != "ok"]
    if lost and not failure:
        plan.status = f"ok, but {len(lost)} runs failed, the first: {lost[0].get('reason')}"
    if not failure and all(row["status"] in FINAL for row in lost):
        done = {"minutes": plan.minutes, "claims": plan.claims}
        state[plan.name] = {"fingerprint": _fingerprint(plan), **done}
    save_file(out / "state.json", json.dumps(state).encode())


def execute(
    path: Path, out: Path, parameters: dict[str, Any], figures: Path, store: Path = LOCAL
) -> str:
    """Run one notebook in its own process into `out`. Why it failed, naming the cell, or ""."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if "store" in declared_parameters(path):  # a notebook that reads tables only has none
        parameters = {**parameters, "store": str(store)}
    job = {"input_path": str(path), "output_path": str(out), "parameters": parameters}
    job |= {"cwd": str(path.parent), "kernel_name": "python3", "progress_bar": False}
    environment = {"EFFML_FIGURES": str(figures), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    command, environment = [sys.executable, "-m", "effml.reproduce"], os.environ | environment
    done = subprocess.run(command, input=json.dumps(job), text=True, env=environment)
    if done.returncode == 0:
        return ""
    added = {"injected-parameters", "papermill-error-cell-tag"}  # papermill's own cells
    cells = [cell for cell in _load(out).get("cells", []) if not added & _tags(cell)]
    for number, cell in enumerate(cells, 1):
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                first = "".join(cell["source"]).strip().splitlines()[0]
                return f"failed in cell {number} ({first}): {output['ename']}: {output['evalue']}"
    return f"failed: its process ended with exit status {done.returncode}; see its output above"


def _tags(cell: dict[str, Any]) -> set[str]:
    return set(cell["metadata"].get("tags", []))


def rewrite_notebooks(only: Sequence[str] = ()) -> int:
    """`make notebooks`: run the laptop profile and write its outputs into notebooks/."""
    return _rewrite(make_plan("laptop", only), NOTEBOOKS, LOCAL, pictures=True)


def rewrite_smoke_reference(only: Sequence[str] = ()) -> int:
    """`make smoke-reference`: what `make test` compares with, from an empty store."""
    os.environ["OMP_NUM_THREADS"] = "1"  # as in the tests: sums depend on it
    with tempfile.TemporaryDirectory() as store:
        return _rewrite(make_plan("smoke", only), SMOKE, Path(store), pictures=False)


def _rewrite(plans: list[Plan], folder: Path, store: Path, *, pictures: bool) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for plan in plans:
            executed = Path(scratch) / plan.path.name
            if failure := execute(plan.path, executed, plan.parameters, store / "figures", store):
                print(f"{plan.name}: {failure}. Nothing was rewritten for it.", file=sys.stderr)
                return 1
            shutil.copy(executed, folder / plan.path.name)
            _tidy(folder / plan.path.name, pictures)
    return 0


def _tidy(path: Path, pictures: bool) -> None:
    """Drop timings, progress and papermill's own cell; count from 1."""
    import nbformat

    book = nbformat.read(path, as_version=4)
    book.metadata.pop("papermill", None)
    book.cells = [cell for cell in book.cells if "injected-parameters" not in _tags(cell)]
    for cell in book.cells:
        cell.metadata.pop("papermill", None)
        if not _tags(cell):
            cell.metadata.pop("tags", None)
    for count, cell in enumerate((cell for cell in book.cells if cell.cell_type == "code"), 1):
        kept = {key: cell.metadata[key] for key in ("tags", "effml") if key in cell.metadata}
        cell.metadata, cell.execution_count = kept, count
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            picture = output.get("data", {}).pop("image/png", None)
            if pictures and picture:
                output["data"]["image/png"] = _smaller(picture)
            if "execution_count" in output:
                output.execution_count = count
    nbformat.write(book, path)


def _smaller(picture: str) -> str:
    """A PNG in base64 with 128 colours, which is a third of the bytes."""
    from PIL import Image

    buffer, image = BytesIO(), Image.open(BytesIO(b64decode(picture))).convert("RGB")
    image.quantize(128).save(buffer, "PNG", optimize=True)
    return min(b64encode(buffer.getvalue()).decode(), picture, key=len)


def declared_parameters(path: Path) -> dict[str, Any]:
    """Names and values in a notebook's `parameters` cell. ValueError if it has none."""
    for cell in _load(path)["cells"]:
        if "parameters" in _tags(cell):
            names: dict[str, Any] = {}
            exec("".join(cell["source"]), {}, names)  # our own notebook's assignments
            return {name: value for name, value in names.items() if not name.startswith("_")}
    raise ValueError(f"{path.name} has no cell tagged `parameters`: add one, typed and commented.")


def _overrides(profile: str, declared: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each notebook what the profile's `common` part and its own part say."""
    import yaml

    path = NOTEBOOKS / "profiles" / f"{profile}.yml"
    given = (yaml.safe_load(path.read_text()) if path.is_file() else None) or {}
    allowed = {"common": sorted({name for names in declared.values() for name in names})}
    allowed |= {number: sorted(names) for number, names in declared.items()}
    for part, values in given.items():
        choose(f"part of {path.name}:", part, allowed)
        for name in values or {}:  # papermill would only warn
            choose(f"parameter in part {part!r} of {path.name}:", name, allowed[part])
    common, own = given.get("common") or {}, {n: given.get(n) or {} for n in declared}
    return {
        number: {name: common[name] for name in names if name in common} | own[number]
        for number, names in declared.items()
    }


def passport(path: Path, profile: str) -> dict[str, float]:
    """What a notebook costs under a profile, from the table that opens it."""
    text = "".join(_load(path)["cells"][0]["source"])
    found = re.finditer(rf"^\| ({'|'.join(COSTS)})[^|]*\|(.*)\|$", text, re.M)
    rows = {row[1]: row[2].split("|") for row in found}
    try:
        return {name: float(rows[name][PROFILES.index(profile)]) for name in COSTS}
    except (KeyError, IndexError, ValueError):
        raise ValueError(
            f"{path.name} must open with a passport: a table with a number for smoke, laptop and "
            "paper in the rows `minutes`, `memory, MB`, `runs` and `fetch, MB`."
        ) from None


def _fingerprint(plan: Plan) -> str:
    """Changes with the notebook's cells and parameters, the package, the data its ladders lead to
    and, for a notebook that only reads, the records at hand."""
    from effml.data import at_hand, fingerprint
    from effml.data.places import folders

    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in _load(plan.path)["cells"]]
    sources = [path for root in (ROOT / "effml", NOTEBOOKS) for path in sorted(root.rglob("*"))]
    sources = [path for path in sources if path.suffix in (".py", ".csv")]
    seen: list[Any] = [cells, plan.parameters]
    seen.append([(path.name, path.read_bytes().hex()) for path in sources])
    values = {**declared_parameters(plan.path), **plan.parameters}
    named = values.get("data", [])
    for ladder in named if isinstance(named, list) else [named]:
        try:
            seen.append((name := at_hand(ladder), fingerprint(name)))
        except (FileNotFoundError, ValueError) as error:
            seen.append(str(error))
    read: list[Path] = []
    for folder in folders() if "tables" in values else ():
        for place in (folder / "pepr", folder / "tables", folder.parent / "tables"):
            read += place.glob("*.csv")
    for store in (LOCAL, ROOT / "results" / "reference") if plan.cost["runs"] == 0 else ():
        read += store.glob("runs-*.jsonl")
    seen.append(sorted((path.name, path.stat().st_size) for path in set(read)))
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()


def _load(path: Path) -> dict[str, Any]:
    """A JSON file; empty where it was not written or was cut short."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def _print_plan(plans: list[Plan], profile: str) -> None:
    todo = [plan.cost for plan in plans if plan.status == "to run"]
    minutes, _, runs, fetch = (sum(cost[name] for cost in todo) for name in COSTS)
    print(f"Profile {profile}: {len(todo)} of {len(plans)} notebooks to run, at most", end=" ")
    print(f"{runs:.0f} runs, about {minutes:.1f} minutes, {fetch:.0f} MB to fetch")
    for plan in plans:
        minutes, memory, runs, _ = (plan.cost[name] for name in COSTS)
        print(f"  {plan.name:28} {plan.status:10} {runs:4.0f} runs {minutes:6.1f} min", end=" ")
        print(f"{memory:6.0f} MB of memory")


def _print_summary(plans: list[Plan], out: Path, begun: float) -> int:
    print(f"\n{'notebook':28} {'status':12} {'minutes':>7}  claims")
    for plan in plans:
        status = re.split(" in cell|, but", plan.status)[0]
        counted = Counter(claim["verdict"] for claim in plan.claims)
        claims = ", ".join(f"{n} {verdict}" for verdict, n in counted.items()) or "–"
        print(f"{plan.name:28} {status:12} {plan.minutes:7.1f}  {claims}")
    files = [path for path in [*out.rglob("*"), *LOCAL.glob("runs-*")] if path.is_file()]
    files = [path for path in files if path.stat().st_mtime >= begun]
    print(f"{len(files)} files written below {LOCAL.relative_to(ROOT)}:")
    print(*(f"  {path.relative_to(LOCAL)}" for path in files), sep="\n")
    for plan in plans:
        if plan.status.startswith("ok, but"):
            print(f"\n{plan.name}: {plan.status}")
    failed = [plan for plan in plans if plan.status.startswith("failed")]
    for plan in failed:
        kept = (out / plan.path.name).relative_to(ROOT)
        print(f"\n{plan.name} {plan.status}\n  It is kept, with the error, as {kept}")
    return 1 if failed else 0


if __name__ == "__main__":  # one notebook, in a process of its own
    import papermill

    job = json.load(sys.stdin)
    try:
        papermill.execute_notebook(**job, stderr_file=sys.stderr)
    except papermill.PapermillExecutionError:
        sys.exit(1)
