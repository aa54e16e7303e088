"""What notebooks show: source, passports, tables over seeds, claims, and checks of exercises. Torch-free."""
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas

from effml.claims import interval, ledger, verdicts

CLAIMS_TYPE = "application/vnd.effml.claims+json"
"""Output type by which `make reproduce` finds the verdicts in an executed notebook."""

UNITS = {"test_auroc": "test AUROC", "test_accuracy": "test accuracy", "test_balanced_accuracy": "test balanced accuracy",
         "test_sensitivity": "test sensitivity", "test_specificity": "test specificity", "train_seconds": "training time, s",
         "train_energy_j": "training energy, J (estimated)", "infer_energy_j": "inference energy, J (estimated)",
         "prepare_energy_j": "preparation energy, J (estimated)", "train_peak_memory_bytes": "peak memory, bytes"}


def show_source(function: Callable) -> None:
    """The real source of a function, as the package runs it."""
    from IPython.display import Markdown, display
    display(Markdown(f"`{function.__module__}`\n```python\n{inspect.getsource(function)}```"))


def data_passport(data: Any) -> pandas.DataFrame:
    """The passport of a `Dataset` as a table."""
    text = {key: ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else
            ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value for key, value in data.passport.items()}
    return pandas.DataFrame({"": {key: f"{v:.3f}" if isinstance(v, float) else str(v) for key, v in text.items()}})


def data_label(runs: pandas.DataFrame) -> pandas.Series:
    """The name of each run's data, saying *phantom* where it is one."""
    return runs.data.where(runs.data_phantom != 1, runs.data + " (phantom)")


def over_seeds(runs: pandas.DataFrame, columns: Sequence[str], *, by: Sequence[str] = ("data", "model", "precision"),
               digits: int = 3) -> pandas.DataFrame:
    """Mean over seeds of each column with its 95 % interval (Student's t) in brackets; failed runs are counted, not hidden."""
    def row(group: pandas.DataFrame) -> pandas.Series:
        ok = group[group.status == "ok"]
        cells = {UNITS.get(column, column): _cell(interval(ok[column]), digits) for column in columns}
        return pandas.Series({"seeds": len(ok), **({"failed": len(group) - len(ok)} if len(ok) < len(group) else {}), **cells})
    runs = runs.assign(data=data_label(runs))
    rows = {name: row(group) for name, group in runs.groupby(list(by), sort=False)}
    return pandas.DataFrame(rows).T.rename_axis(list(by))


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


def check(question: str, passed: bool, hint: str = "") -> None:
    """Mark an exercise without raising: ✓ when it is solved, ○ and a hint while it is not."""
    print(f"✓ {question}" if passed else f"○ {question}" + (f"  ({hint})" if hint else ""))


def _cell(values: tuple[float, float, float], digits: int) -> str:
    mean, low, high = (f"{value:.{digits}f}" for value in values)
    return mean if low == "nan" else f"{mean} [{low}, {high}]"
