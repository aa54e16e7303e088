"""What notebooks show: the real source, passports, tables that are kept, sliders, and checks of
exercises."""

import inspect
import os
from collections.abc import Callable
from io import StringIO
from typing import TYPE_CHECKING, Any

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
        make: computes the table: numbers and text. Its index is kept where it has a name.

    Returns:
        The table. In the reference profile it is read from results/reference, and `make` is not
        called; else it is computed. Both pass through a CSV, so they are alike: numbers stay to
        the last digit, but text that is empty or reads as a number becomes NaN or that number.

    Raises:
        FileNotFoundError: the reference does not hold it.
        ValueError: the index has a level without a name, or the columns have several levels.

    Example:
        >>> import pandas
        >>> effml.kept("00-squares", lambda: pandas.DataFrame({"n": [1, 2], "square": [1, 4]}))
           n  square
        0  1       1
        1  2       4
    """
    if (folder := reference_folder()) is not None:
        file = folder / f"{name}.csv"
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} is not there. Run the notebook in the profile laptop, which computes it."
            )
        return _as_kept(file.read_text(encoding="utf-8"))
    table = make()
    named = [name for name in table.index.names if name is not None]
    plain = not named and pandas.api.types.is_integer_dtype(table.index)  # row numbers
    if not plain and (len(named) < table.index.nlevels or any(", " in str(n) for n in named)):
        raise ValueError(
            f"{name}: name each level of the table's index, without a comma in a name."
        )
    if table.columns.nlevels > 1:
        raise ValueError(f"{name}: the columns have {table.columns.nlevels} levels; give them one.")
    text = f"# index: {', '.join(map(str, named))}\n" + table.to_csv(index=bool(named))
    if (folder := keep_folder()) is not None:
        with whole_file(folder / f"{name}.csv") as partial:
            partial.write_text(text, encoding="utf-8")
    return _as_kept(text)


def _as_kept(text: str) -> pandas.DataFrame:
    first, _, rows = text.partition("\n")
    levels = [name for name in first.removeprefix("# index: ").split(", ") if name]
    table = pandas.read_csv(StringIO(rows), float_precision="round_trip")
    return table.set_index(levels) if levels else table


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
