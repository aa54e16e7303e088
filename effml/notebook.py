"""What notebooks show: the real source, passports, tables that are kept, sliders, and checks of
exercises."""

import inspect
import os
import re
import sys
from collections.abc import Callable
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas

from effml.machine import keep_folder, reference_folder, whole_file

if TYPE_CHECKING:
    from effml.data import Dataset


def show_source(function: Callable) -> None:
    """Show the real source of a function, as the package runs it, with the module it stands in.

    Args:
        function: any function or class written in Python.

    Returns:
        Nothing: the source is displayed as Markdown.

    Example:
        >>> effml.show_source(effml.check)
        <IPython.core.display.Markdown object>
    """
    from IPython.display import Markdown, display

    display(Markdown(f"`{function.__module__}`\n```python\n{inspect.getsource(function)}```"))


def data_passport(data: "Dataset") -> pandas.DataFrame:
    """The passport of a data set (source, licence, counts, positive class, …) as a table.

    Args:
        data: what `load_dataset` gives.

    Returns:
        One row for each entry, in one column of text.

    Example:
        >>> effml.data_passport(effml.load_dataset("phantom-chest")).loc["counts"].item()
        'train 1200, val 200, test 400'
    """

    def text(value: Any) -> str:
        if value in (None, "", [], (), {}):
            return "none"
        if isinstance(value, dict):
            return ", ".join(f"{key} {part}" for key, part in value.items())
        if isinstance(value, (list, tuple)):
            return "; ".join(map(str, value))
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    return pandas.DataFrame({"": {key: text(value) for key, value in data.passport.items()}})


def kept(name: str, make: Callable[[], pandas.DataFrame]) -> pandas.DataFrame:
    """A table that a notebook computes from images or times, and that its readers need not.

    Args:
        name: the notebook's number and what it holds, such as `"13-area"`.
        make: computes the table: its columns and index levels hold numbers, True and False, or
            text. An index without a name is taken for row numbers: these are not kept, nor is a
            name of the columns together.

    Returns:
        The table. In the reference profile it is read from results/reference (and a line says so),
        and `make` is not called; else it is computed. Both pass through a CSV that loses nothing.

    Raises:
        FileNotFoundError: the reference does not hold it.
        ValueError: the name has other signs than letters, digits, - and _; `make` gives no table,
            an empty one, or a column that a CSV would change: the message says which.

    Example:
        >>> import pandas
        >>> effml.kept("00-squares", lambda: pandas.DataFrame({"n": [1, 2], "square": [1, 4]}))
           n  square
        0  1       1
        1  2       4
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", str(name)):
        raise ValueError(f"{name!r}: name a table by letters, digits, - and _, such as '13-area'.")
    if (folder := reference_folder()) is not None:
        file = folder / f"{name}.csv"
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} is not there. Run the notebook in the profile laptop, which computes it."
            )
        print(f"{name} is read from the reference", file=sys.stderr)
        return _as_kept(file.read_bytes().decode())
    text = _as_text(name, make())
    if (folder := keep_folder()) is not None:
        with whole_file(folder / f"{name}.csv") as partial:
            partial.write_bytes(text.encode())
    return _as_kept(text)


TEXT, GAPS = "text", "text or nothing"  # an empty cell is "" in the one, NaN in the other


def _as_text(name: str, table: pandas.DataFrame) -> str:
    """A CSV under a line that tells the kinds of its columns; ValueError if it loses something."""
    if not isinstance(table, pandas.DataFrame) or table.empty:
        what = "an empty table" if isinstance(table, pandas.DataFrame) else type(table).__name__
        raise ValueError(f"{name}: make() gave {what}: let it give a DataFrame with rows.")
    named = sum(level is not None for level in table.index.names)
    plain = not named and pandas.api.types.is_integer_dtype(table.index)  # row numbers
    if not plain and named < table.index.nlevels:
        raise ValueError(f"{name}: name each level of the table's index, or use reset_index().")
    flat = table.reset_index(drop=plain, allow_duplicates=True).infer_objects()
    kinds = [_kind(flat.iloc[:, place]) for place in range(flat.shape[1])]
    sound = [kind is not None and isinstance(c, str) for c, kind in zip(flat, kinds)]
    text = f"# index: {', '.join(map(str, kinds[:named]))}; columns: "
    text += ", ".join(map(str, kinds[named:])) + "\n"
    if all(sound):
        flat = flat.astype({c: "str" if TEXT in kind else kind for c, kind in zip(flat, kinds)})
        text += flat.to_csv(index=False, lineterminator="\n")
        back = _as_kept(text).reset_index(drop=plain)
        pairs = ((flat.iloc[:, i], back.iloc[:, i]) for i in range(flat.shape[1]))
        sound = [made.name == read.name and made.equals(read) for made, read in pairs]
    if not all(sound):
        raise ValueError(
            f"{name}: the column {flat.columns[sound.index(False)]!r} would not come back as it is."
            " Give it a text of its own as its name, and numbers, True and False, or text (with "
            "gaps or with empty texts, not with both): .astype(str) makes text of anything."
        )
    return text


def _kind(column: pandas.Series) -> str | None:
    """How a CSV's line of kinds calls it; None for what is neither number nor bool nor text."""
    if getattr(column.dtype, "kind", "") in "biuf" and isinstance(column.dtype, np.dtype):
        return str(column.dtype)
    found = {"string": GAPS if column.isna().any() else TEXT, "empty": "float64"}  # NaN alone
    return found.get(pandas.api.types.infer_dtype(column))


def _as_kept(text: str) -> pandas.DataFrame:
    first, _, rows = text.partition("\n")
    index, _, columns = first.removeprefix("# index: ").partition("; columns: ")
    levels = index.split(", ") if index else []
    table = pandas.read_csv(StringIO(rows), dtype=str, na_filter=False)
    for name, kind in zip(table, [*levels, *columns.split(", ")], strict=True):
        if kind == GAPS:
            table[name] = table[name].mask(table[name] == "")
        elif kind == "bool":
            table[name] = table[name] == "True"
        elif kind != TEXT:
            table[name] = table[name].replace("", "nan").astype(kind)
    return table.set_index(list(table)[: len(levels)]) if levels else table


def live(draw: Callable[..., Any], **controls: tuple[float, float, float] | list) -> Any:
    """Draw anew whenever a control moves.

    Args:
        draw: called with one value for each control.
        controls: for each argument of `draw` its control: (first value, least, largest) makes a
            slider, a list makes a menu.

    Returns:
        The box of controls, which a notebook shows as the last line of a cell. Where nobody can
        move anything (`make reproduce`, `make test`) or ipywidgets is missing, `draw` is called
        once with the first values, and None is returned.

    Example:
        >>> import os
        >>> os.environ["EFFML_FIGURES"] = "figures"  # as in `make reproduce`
        >>> effml.live(lambda alpha, data: print(alpha, data), alpha=(1.0, 0.0, 5.0), data=["a"])
        1.0 a
        >>> del os.environ["EFFML_FIGURES"]
    """
    try:
        if "EFFML_FIGURES" in os.environ:  # nobody is looking
            raise ImportError
        from ipywidgets import Dropdown, FloatSlider, interactive
    except ImportError:
        draw(**{name: control[0] for name, control in controls.items()})
        return None
    made: dict[str, Any] = {}
    for name, control in controls.items():
        label = {"description": name.replace("_", " ")}
        if isinstance(control, list):
            made[name] = Dropdown(options=control, **label)
        else:
            value, least, most = control
            range_ = {"value": value, "min": least, "max": most, "step": (most - least) / 20}
            made[name] = FloatSlider(**range_, **label, continuous_update=False)
    return interactive(draw, **made)


def check(question: str, passed: bool, hint: str = "") -> None:
    """Mark an exercise without raising: ✓ when it is solved, ○ and a hint while it is not.

    Args:
        question: what was to be found.
        passed: whether the answer is right.
        hint: shown while it is not.

    Returns:
        Nothing: the line is printed.

    Example:
        >>> effml.check("two and two", 2 + 2 == 5, "count on your fingers")
        ○ two and two  (count on your fingers)
    """
    print(f"✓ {question}" if passed else f"○ {question}" + (f"  ({hint})" if hint else ""))
