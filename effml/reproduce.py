"""`make reproduce`: run the notebooks of a profile, each in its own process, skip what is up to date, and sum up."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from effml.machine import ROOT
from effml.results import claims_in, read_records, save_file
from effml.sweep.plan import FINAL

NOTEBOOKS, LOCAL, SMOKE = ROOT / "notebooks", ROOT / "results" / "local", ROOT / "tests" / "smoke"
PROFILES = ("smoke", "laptop", "paper")


@dataclass
class Plan:
    """One notebook under one profile."""

    path: Path
    parameters: dict[str, Any]  # those the profile overrides
    cost: dict[str, float]  # minutes, memory, runs, fetch of the passport
    fingerprint: str = ""
    status: str = "to run"
    minutes: float = 0.0
    claims: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.stem


def make_plan(profile: str, only: Sequence[str] = ()) -> list[Plan]:
    """The notebooks of a profile in their order. ValueError names an unknown profile, notebook or parameter."""
    if profile not in PROFILES:
        raise ValueError(f"Unknown profile {profile!r}. Choose from: {', '.join(PROFILES)}")
    paths = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    numbers = {path.name[:2] for path in paths}
    if unknown := [number for number in only if number not in numbers]:
        raise ValueError(
            f"There is no notebook {unknown[0]!r}. Choose from: {', '.join(sorted(numbers))}"
        )
    if not paths:
        raise ValueError(
            f"There are no notebooks in {NOTEBOOKS}: run this in a checkout of the project, installed with "
            "pip install -e ."
        )
    overrides = _overrides(profile, {path: declared_parameters(path) for path in paths})
    return [
        Plan(path, overrides[path], _passport(path, profile))
        for path in paths
        if not only or path.name[:2] in only
    ]


def reproduce(profile: str = "laptop", only: Sequence[str] = ()) -> int:
    """Plan, run, sum up; 0 if every notebook is up to date at the end, else 1."""
    plans, out = make_plan(profile, only), LOCAL / profile
    state = _load(out / "state.json")
    for plan in plans:
        plan.fingerprint = _fingerprint(plan)
        before = state.get(plan.name, {})
        if before.get("fingerprint") == plan.fingerprint and (out / plan.path.name).is_file():
            plan.status, plan.minutes, plan.claims = (
                "up to date",
                before["minutes"],
                before["claims"],
            )
    _print_plan(plans, profile)
    begun, expected = time.time(), 0.0
    for plan in plans:
        plan.fingerprint = _fingerprint(
            plan
        )  # the notebooks before it may have written what this one reads
        if plan.status == "up to date" and state[plan.name]["fingerprint"] == plan.fingerprint:
            continue
        left = sum(p.cost["minutes"] for p in plans if p.status == "to run")
        pace = (time.time() - begun) / 60 / expected if expected else 1.0
        end = time.strftime("%H:%M", time.localtime(time.time() + 60 * pace * left))
        print(f"{plan.name} … (all done about {end})", flush=True)
        state.pop(plan.name, None)
        _save(out / "state.json", state)  # from here on it counts as not done
        known = {row["run_id"] for row in read_records(LOCAL)[0] if "run_id" in row}
        failure = execute(plan.path, out / plan.path.name, plan.parameters, out / "figures")
        expected += plan.cost["minutes"]
        plan.status, plan.minutes, plan.claims = failure or "ok", *_outcome(out / plan.path.name)
        lost = [
            row
            for row in read_records(LOCAL)[0]
            if row["status"] != "ok" and row.get("run_id") not in known
        ]
        if lost and not failure:
            plan.status = f"ok, but {len(lost)} runs failed, the first: {lost[0].get('reason')}"
        if not failure and all(row["status"] in FINAL for row in lost):
            plan.fingerprint = _fingerprint(plan)
            state[plan.name] = {
                "fingerprint": plan.fingerprint,
                "minutes": plan.minutes,
                "claims": plan.claims,
            }
        _save(out / "state.json", state)
    return _print_summary(plans, out, begun)


def execute(
    path: Path, out: Path, parameters: dict[str, Any], figures: Path, store: Path = LOCAL
) -> str:
    """Run one notebook in its own process, from its own folder, into `out`; the reason if it failed, naming the cell."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if "store" in declared_parameters(path):  # a notebook that reads tables only has none
        parameters = {**parameters, "store": str(store)}
    job = {
        "input_path": str(path),
        "output_path": str(out),
        "parameters": parameters,
        "cwd": str(path.parent),
        "kernel_name": "python3",
        "progress_bar": False,
    }
    environment = {
        **os.environ,
        "EFFML_FIGURES": str(figures),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "effml.reproduce"], input=json.dumps(job), text=True, env=environment
    )
    if done.returncode == 0:
        return ""
    added = {"injected-parameters", "papermill-error-cell-tag"}  # papermill's own cells
    cells = [
        cell
        for cell in _load(out).get("cells", [])
        if not added & set(cell["metadata"].get("tags", []))
    ]
    for number, cell in enumerate(cells, 1):
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                first = "".join(cell["source"]).strip().splitlines()[0]
                return f"failed in cell {number} ({first}): {output['ename']}: {output['evalue']}"
    return f"failed: its process ended with exit status {done.returncode}; the end of its output is above"


def rewrite_notebooks(only: Sequence[str] = ()) -> int:
    """`make notebooks`: run the laptop profile and write the outputs into notebooks/, for readers."""
    return _rewrite(make_plan("laptop", only), NOTEBOOKS, LOCAL, pictures=True)


def rewrite_smoke_reference(only: Sequence[str] = ()) -> int:
    """`make smoke-reference`: run the smoke profile against an empty store; its text and tables are what `make test`
    compares with."""
    os.environ["OMP_NUM_THREADS"] = "1"  # as in the tests: sums depend on it
    with tempfile.TemporaryDirectory() as store:
        return _rewrite(make_plan("smoke", only), SMOKE, Path(store), pictures=False)


def _rewrite(plans: list[Plan], folder: Path, store: Path, *, pictures: bool) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        for plan in plans:
            executed = Path(scratch) / plan.path.name
            if failure := execute(plan.path, executed, plan.parameters, store / "figures", store):
                print(f"{plan.name}: {failure}. Nothing was rewritten for it.", file=sys.stderr)
                return 1
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(executed, folder / plan.path.name)
            _tidy(folder / plan.path.name, pictures)
    return 0


def _tidy(path: Path, pictures: bool) -> None:
    """Only what a reader needs and the next run gives again: no timings, no progress, counts from 1, papermill's cell out."""
    import nbformat

    book = nbformat.read(path, as_version=4)
    book.cells = [
        cell for cell in book.cells if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    book.metadata.pop("papermill", None)
    for count, cell in enumerate((cell for cell in book.cells if cell.cell_type == "code"), 1):
        cell.metadata = {
            key: value for key, value in cell.metadata.items() if key in ("tags", "effml")
        }
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            picture = output.get("data", {}).pop("image/png", None)
            if pictures and picture:
                output["data"]["image/png"] = _smaller(picture)
            if "execution_count" in output:
                output.execution_count = count
        cell.execution_count = count
    for cell in book.cells:
        cell.metadata.pop("papermill", None)
        if "tags" in cell.metadata and not cell.metadata["tags"]:
            cell.metadata.pop("tags")
    nbformat.write(book, path)


def _smaller(picture: str) -> str:
    """A PNG in base64 with 128 colours, which no figure here exceeds by much: a third of the bytes."""
    from base64 import b64decode, b64encode
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    Image.open(BytesIO(b64decode(picture))).convert("RGB").quantize(128).save(
        buffer, "PNG", optimize=True
    )
    return min(b64encode(buffer.getvalue()).decode(), picture, key=len)


def declared_parameters(path: Path) -> dict[str, Any]:
    """Names and in-cell values of a notebook's `parameters` cell. ValueError if it has none."""
    for cell in _load(path)["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            names: dict[str, Any] = {}
            exec("".join(cell["source"]), {}, names)  # our own notebook's assignments
            return {name: value for name, value in names.items() if not name.startswith("_")}
    raise ValueError(f"{path.name} has no cell tagged `parameters`: add one, typed and commented.")


def _overrides(profile: str, declared: dict[Path, dict[str, Any]]) -> dict[Path, dict[str, Any]]:
    """For each notebook what the profile's `common` part and the notebook's own part say. An unknown name is an error."""
    import yaml

    path = NOTEBOOKS / "profiles" / f"{profile}.yml"
    given = (yaml.safe_load(path.read_text()) if path.is_file() else None) or {}
    common, every = (
        given.pop("common", None) or {},
        {name for names in declared.values() for name in names},
    )
    own = {book: given.pop(book.name[:2], None) or {} for book in declared}
    if given:
        raise ValueError(
            f"{path.name} has a part {next(iter(given))!r}. Choose from: common, "
            f"{', '.join(book.name[:2] for book in declared)}"
        )
    for where, names, allowed in [
        ("common", common, every),
        *((b.name[:2], own[b], set(declared[b])) for b in declared),
    ]:
        if unknown := sorted(set(names) - allowed):
            raise ValueError(
                f"{path.name}, {where}: unknown parameter {unknown[0]!r}. Choose from: {', '.join(sorted(allowed))}"
            )
    return {
        book: {**{k: v for k, v in common.items() if k in declared[book]}, **own[book]}
        for book in declared
    }


def _passport(path: Path, profile: str) -> dict[str, float]:
    """Minutes, memory, runs and fetch of a profile, read from the table which opens the notebook."""
    text = "".join(_load(path)["cells"][0]["source"])
    rows = {
        m[1]: m[2].split("|")
        for m in re.finditer(r"^\| (minutes|memory|runs|fetch)[^|]*\|(.*)\|$", text, re.M)
    }
    try:
        return {
            name: float(rows[name][PROFILES.index(profile)])
            for name in ("minutes", "memory", "runs", "fetch")
        }
    except (KeyError, IndexError, ValueError):
        raise ValueError(
            f"{path.name} must open with a passport: rows `| minutes |`, `| memory, MB |`, `| runs |` and "
            "`| fetch, MB |` with a number for smoke, laptop and paper."
        ) from None


def _fingerprint(plan: Plan) -> str:
    """Changes with the notebook's cells, its parameters, the package, the data its ladders lead to, and, for a notebook
    which only reads (no runs of its own), the records at hand."""
    from effml.data import at_hand, fingerprint

    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in _load(plan.path)["cells"]]
    sources = [
        path
        for folder in (ROOT / "effml", NOTEBOOKS)
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".py", ".csv")
    ]
    seen: list[Any] = [
        cells,
        plan.parameters,
        [(path.name, path.read_bytes().hex()) for path in sources],
    ]
    values = {**declared_parameters(plan.path), **plan.parameters}
    named = values.get("data", [])
    for ladder in named if isinstance(named, list) else [named]:
        try:
            seen.append((name := at_hand(ladder), fingerprint(name)))
        except (FileNotFoundError, ValueError) as error:
            seen.append(str(error))
    if "tables" in values:
        from effml.data.places import folders

        places = [
            place for f in folders() for place in (f / "pepr", f / "tables", f.parent / "tables")
        ]
        found = {path for place in places for path in place.glob("*.csv")}
        seen.append(sorted((path.name, path.stat().st_size) for path in found))
    if plan.cost["runs"] == 0:
        stores = (LOCAL, ROOT / "results" / "reference")
        seen += [
            (path.name, path.stat().st_size)
            for store in stores
            for path in sorted(store.glob("runs-*.jsonl"))
        ]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()


def _load(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (
        FileNotFoundError,
        ValueError,
    ):  # a notebook that was not written, a state that was cut short
        return {}


def _save(path: Path, state: dict[str, Any]) -> None:
    save_file(path, json.dumps(state, indent=1).encode())


def _outcome(executed: Path) -> tuple[float, list[dict[str, Any]]]:
    """Minutes and claims of an executed notebook."""
    book = _load(executed)
    return (book.get("metadata", {}).get("papermill", {}).get("duration") or 0.0) / 60, claims_in(
        book
    )


def _print_plan(plans: list[Plan], profile: str) -> None:
    todo = [plan for plan in plans if plan.status == "to run"]
    total = {name: sum(plan.cost[name] for plan in todo) for name in ("minutes", "runs", "fetch")}
    print(
        f"Profile {profile}: {len(todo)} of {len(plans)} notebooks to run, at most {total['runs']:.0f} runs, about "
        f"{total['minutes']:.1f} minutes, {total['fetch']:.0f} MB to fetch"
    )
    for plan in plans:
        print(
            f"  {plan.name:28} {plan.status:10} {plan.cost['runs']:4.0f} runs {plan.cost['minutes']:6.1f} min "
            f"{plan.cost['memory']:6.0f} MB of memory"
        )


def _print_summary(plans: list[Plan], out: Path, begun: float) -> int:
    print(f"\n{'notebook':28} {'status':12} {'minutes':>7}  claims")
    for plan in plans:
        status = re.split(" in cell|, but", plan.status)[0]
        counted = Counter(claim["verdict"] for claim in plan.claims)
        print(
            f"{plan.name:28} {status:12} {plan.minutes:7.1f}  "
            f"{', '.join(f'{n} {verdict}' for verdict, n in counted.items()) or '–'}"
        )
    files = [
        path
        for path in [*out.rglob("*"), *LOCAL.glob("runs-*")]
        if path.is_file() and path.stat().st_mtime >= begun
    ]
    print(f"{len(files)} files written below {LOCAL.relative_to(ROOT)}:")
    print(*(f"  {path.relative_to(LOCAL)}" for path in files), sep="\n")
    failed = [plan for plan in plans if plan.status.startswith("failed")]
    for plan in (plan for plan in plans if plan.status.startswith("ok, but")):
        print(f"\n{plan.name}: {plan.status}")
    for plan in failed:
        print(
            f"\n{plan.name} {plan.status}\n  It is kept, with the error, as {(out / plan.path.name).relative_to(ROOT)}"
        )
    return 1 if failed else 0


if __name__ == "__main__":  # one notebook, in a process of its own
    import papermill

    job = json.load(sys.stdin)
    try:
        papermill.execute_notebook(**job, stderr_file=sys.stderr)
    except papermill.PapermillExecutionError:
        sys.exit(1)
