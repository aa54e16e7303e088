"""What a notebook depends on, as a number that changes with it: it then runs again."""

import ast
import hashlib
import json
import re
from contextlib import chdir
from itertools import product
from typing import Any

import effml
from effml.reproduce import places
from effml.reproduce.places import load
from effml.reproduce.plan import Plan
from effml.reproduce.sources import sources


def fingerprint(plan: Plan) -> str:
    """Changes with the notebook's cells and parameters, with the files of ours that it imports,
    and with the data and the tables its parameters name."""
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in load(plan.path)["cells"]]
    files = [(path.name, _sha256(path.read_bytes())) for path in sources(plan.code)]
    values, seen = plan.values, [cells, plan.parameters, files]
    seen += [_reference()] if plan.reads else [_data(values)]
    return _sum([*seen, _tables(values)])


def _reference() -> list[tuple[str, str]]:
    """What the reference profile reads."""
    paths = sorted(path for path in places.REFERENCE.iterdir() if path.is_file())
    return [(path.name, _sha256(path.read_bytes())) for path in paths]


READERS = re.compile(r"\b(own_or_reference|load_runs|read_records)\b")


def in_turn(plans: list[Plan]) -> tuple[list[Plan], list[Plan]]:
    """The notebooks that may run first, and those which read what these write."""
    reading = [plan for plan in plans if reads_records(plan)]
    return [plan for plan in plans if plan not in reading], reading


def reads_records(plan: Plan) -> bool:
    """Whether it looks into the store for records, and not only for those it asks `sweep` for."""
    return _readers(plan) > 0


def _readers(plan: Plan) -> int:
    """How often its cells, and what it imports from beside it, name a function that reads them."""
    beside = (path for path in sources(plan.code) if path.is_relative_to(places.NOTEBOOKS))
    texts = [plan.code, *(path.read_text(encoding="utf-8") for path in beside)]
    return sum(len(READERS.findall(text)) for text in texts)


def records_fingerprint(plan: Plan) -> str:
    """Changes with the records that a notebook looks for in the store. The fields that it gives
    `own_or_reference` say which; where reading its code cannot tell, these are all."""
    if not reads_records(plan):
        return ""
    asked = asked_records(plan)
    if asked is None:
        paths = [p for f in (places.LOCAL, places.REFERENCE) for p in f.glob("runs-*.jsonl")]
        return _sum([(path.name, path.stat().st_size) for path in sorted(paths)])
    return _sum([_records(fields) for fields in asked])


def asked_records(plan: Plan) -> list[dict[str, Any]] | None:
    """The fields that each call of `own_or_reference` names; None where reading cannot tell."""
    known = {"effml": effml, **plan.values}
    try:
        tree = ast.parse(plan.code)
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        calls = [c for c in calls if ast.unparse(c.func) == "effml.own_or_reference"]
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                known.pop(node.id, None)  # no longer what the parameter says
        asked = [{w.arg: _value(w.value, known) for w in call.keywords} for call in calls]
    except Exception:  # no Python, or a name that only the running notebook knows
        return None
    plain = all([ast.unparse(place) for place in call.args] == ["store"] for call in calls)
    # a function that picks them, another way to read them, or no field: these are all records
    plain = plain and all(asked) and not any({"want", None} & {*fields} for fields in asked)
    return asked if plain and len(calls) == _readers(plan) else None


def _value(node: ast.expr, known: dict[str, Any]) -> Any:
    """What stands behind a keyword: a literal, a parameter or a name of effml."""
    return eval(ast.unparse(node), {"__builtins__": {}}, known)  # our own notebook's


def _records(fields: dict[str, Any]) -> list[str]:
    """The ids of the runs; a record is never changed."""
    try:
        return effml.own_or_reference(places.LOCAL, **fields).run_id.astype(str).tolist()
    except FileNotFoundError:
        return []


def _data(values: dict[str, Any]) -> list[tuple[str, str]]:
    """For each text among the parameters, which may be the name of a data set, a path or a ladder
    of such, what is at hand of it in the sizes asked for."""
    from effml.data import at_hand
    from effml.data import fingerprint as data_fingerprint

    sizes = {size for size in _flat([values.get("size"), values.get("sizes")]) if size} or {28}
    texts = {text for text in _flat([*values.values()]) if isinstance(text, str)}
    seen = []
    with chdir(places.NOTEBOOKS):  # paths are as the notebook sees them
        for text, size in product(sorted(texts), sorted(sizes)):
            try:
                name = at_hand(text, size=size)
                seen.append((name, data_fingerprint(name, size=size)))
            except OSError:  # no data set
                continue
            except ValueError as error:
                seen.append((text, str(error)))
    return seen


def _flat(values: list[Any]) -> list[Any]:
    """What is in lists, and in lists in them."""
    return [x for v in values for x in (_flat(v) if isinstance(v, list) else [v])]


def _tables(values: dict[str, Any]) -> list[tuple[str, str]]:
    """The published tables where they are asked for, wherever `pepr` would look for them."""
    from effml.data.places import folders

    if "published" not in values.get("tables", ""):
        return []
    near = [p for f in folders() for p in (f / "pepr", f / "tables", f.parent / "tables")]
    found = {path.resolve() for place in near for path in place.glob("*.csv")}
    return sorted((path.name, _sha256(path.read_bytes())) for path in found)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sum(seen: list[Any]) -> str:
    return _sha256(json.dumps(seen).encode())
