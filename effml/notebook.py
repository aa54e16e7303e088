"""What notebooks show: the real source, passports, and checks of exercises. Torch-free."""

import inspect
import os
from collections.abc import Callable
from typing import Any

import pandas


def show_source(function: Callable) -> None:
    """The real source of a function, as the package runs it."""
    from IPython.display import Markdown, display

    display(Markdown(f"`{function.__module__}`\n```python\n{inspect.getsource(function)}```"))


def data_passport(data: Any) -> pandas.DataFrame:
    """The passport of a `Dataset` as a table."""
    text = {
        key: ", ".join(f"{k} {v}" for k, v in value.items())
        if isinstance(value, dict)
        else "; ".join(map(str, value))
        if isinstance(value, (list, tuple))
        else value
        for key, value in data.passport.items()
    }
    return pandas.DataFrame(
        {"": {key: f"{v:.3f}" if isinstance(v, float) else str(v) for key, v in text.items()}}
    )


def live(draw: Callable[..., Any], **controls: tuple[float, float, float] | list) -> Any:
    """Draw anew whenever a control moves. A control is (first value, least, largest) for a slider, or a list to choose from.

    Where nobody can move anything (`make reproduce`, `make test`) or ipywidgets is missing, `draw` is called once, with the
    first values, and None is returned; else the box of controls, which a notebook shows as the last line of a cell.
    """
    first = {name: control[0] for name, control in controls.items()}
    try:
        if "EFFML_FIGURES" in os.environ:  # nobody is looking
            raise ImportError
        import ipywidgets
    except ImportError:
        draw(**first)
        return None
    shown = {name: name.replace("_", " ") for name in controls}
    made = {
        name: ipywidgets.Dropdown(options=c, description=shown[name])
        if isinstance(c, list)
        else ipywidgets.FloatSlider(
            value=c[0],
            min=c[1],
            max=c[2],
            step=(c[2] - c[1]) / 20,
            description=shown[name],
            continuous_update=False,
        )
        for name, c in controls.items()
    }
    return ipywidgets.interactive(draw, **made)


def check(question: str, passed: bool, hint: str = "") -> None:
    """Mark an exercise without raising: ✓ when it is solved, ○ and a hint while it is not."""
    print(f"✓ {question}" if passed else f"○ {question}" + (f"  ({hint})" if hint else ""))
