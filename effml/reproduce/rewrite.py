"""Executed notebooks as they are committed: laptop outputs for readers, smoke outputs for tests."""

import json
import os
import shutil
import sys
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Sequence
from contextlib import closing
from io import BytesIO
from pathlib import Path

from effml.machine import ANSWERS
from effml.reproduce import places
from effml.reproduce.execution import cores, execute
from effml.reproduce.fingerprint import in_turn
from effml.reproduce.places import load, tags
from effml.reproduce.plan import Plan, make_plan
from effml.results import ASKED, save_file


def rewrite_notebooks(only: Sequence[str] = ()) -> int:
    """`make notebooks`: run the laptop profile and write its outputs into notebooks/."""
    plans = make_plan("laptop", only)
    return _rewrite(plans, places.NOTEBOOKS, places.LOCAL, pictures=True)


def rewrite_smoke_reference(only: Sequence[str] = ()) -> int:
    """`make smoke-reference`: what `make test` compares with, from an empty store."""
    os.environ["OMP_NUM_THREADS"] = "1"  # as in the tests: sums depend on it
    plans = make_plan("smoke", only)
    with tempfile.TemporaryDirectory() as store:
        at_once = min(2, cores())
        return _rewrite(plans, places.SMOKE, Path(store), pictures=False, at_once=at_once)


def _rewrite(
    plans: list[Plan], folder: Path, store: Path, *, pictures: bool, at_once: int = 1
) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        where = {"store": store, "figures": out / "figures", "keep": out / "keep"}
        for part in in_turn(plans):
            with closing(execute(part, out, **where, at_once=at_once)) as steps:
                for one in (one for ended, *_ in steps for one in ended):
                    if failure := one.failure():
                        print((out / "log.txt").read_text(errors="replace"), file=sys.stderr)
                        told = f"{one.plan.name}: {failure}. Nothing was rewritten for it."
                        print(told, file=sys.stderr)
                        return 1
                    shutil.copy(one.out, folder / one.out.name)
                    _tidy(folder / one.out.name, pictures)
                    if pictures:
                        keep_reference(one.plan.path.name[:2], out / "keep", places.REFERENCE)
                        keep_figures(one.plan.path.name[:2], out / "figures", places.REFERENCE)
                    print(f"{one.plan.name} {one.minutes:.1f} min", flush=True)
    return 0


def keep_reference(number: str, kept: Path, reference: Path) -> None:
    """Put the records, tables and answers that a notebook left in `kept` into the reference, in
    place of those it left before."""
    reference.mkdir(parents=True, exist_ok=True)
    names = f"runs-{number}.jsonl", f"{number}-*.csv"
    for old in (path for name in names for path in reference.glob(name)):
        old.unlink()
    answers = {}
    for file in sorted((kept / number).glob("*")):
        if file.name == ANSWERS:
            answers = load(file)
        else:
            shutil.copy(file, reference / (names[0] if file.name == ASKED else file.name))
    told = load(reference / ANSWERS) | answers
    save_file(reference / ANSWERS, (json.dumps(told, indent=1, sort_keys=True) + "\n").encode())


def keep_figures(number: str, figures: Path, reference: Path) -> None:
    """Put the numbers behind the figures of a notebook in place of those that were there before."""
    (reference / "figures").mkdir(parents=True, exist_ok=True)
    for old in (reference / "figures").glob(f"{number}-*.csv"):
        old.unlink()
    for file in sorted(figures.glob(f"{number}-*.csv")):
        shutil.copy(file, reference / "figures" / file.name)


def without_iri_grammar() -> None:
    """Notebooks are read through jsonschema, which builds a grammar of web addresses as it is
    imported, in 1.5 s, and goes without where its package is missing; no notebook has any."""
    sys.modules.setdefault("rfc3987_syntax", None)


def _tidy(path: Path, pictures: bool) -> None:
    """Drop timings, progress and papermill's own cell; count from 1."""
    without_iri_grammar()
    import nbformat

    book = nbformat.read(path, as_version=4)
    book.metadata.pop("papermill", None)
    book.cells = [cell for cell in book.cells if "injected-parameters" not in tags(cell)]
    for cell in book.cells:
        cell.metadata.pop("papermill", None)
        if not tags(cell):
            cell.metadata.pop("tags", None)
    for count, cell in enumerate((cell for cell in book.cells if cell.cell_type == "code"), 1):
        kept = {key: cell.metadata[key] for key in ("tags", "effml") if key in cell.metadata}
        cell.metadata, cell.execution_count = kept, count
        cell.outputs = [output for output in cell.outputs if not _passing(output)]
        for output in cell.outputs:
            picture = output.get("data", {}).pop("image/png", None)
            if pictures and picture:
                output["data"]["image/png"] = _smaller(picture)
            if "execution_count" in output:
                output.execution_count = count
    nbformat.write(book, path)


def _passing(output: dict) -> bool:
    """What tells how far it is: stderr, and a progress bar that has ended."""
    bar = output.get("data", {}).get("text/plain") == "Output()"
    return bar or output.get("name") == "stderr"


def _smaller(picture: str) -> str:
    """A PNG in base64 with 128 colours, which is a third of the bytes."""
    from PIL import Image

    buffer, image = BytesIO(), Image.open(BytesIO(b64decode(picture))).convert("RGB")
    image.quantize(128).save(buffer, "PNG", optimize=True)
    return min(b64encode(buffer.getvalue()).decode(), picture, key=len)
