"""What notebooks show: the real source, passports, and checks of exercises. Torch-free."""
import inspect
from collections.abc import Callable
from typing import Any

import pandas


def show_source(function: Callable) -> None:
    """The real source of a function, as the package runs it."""
    from IPython.display import Markdown, display
    display(Markdown(f"`{function.__module__}`\n```python\n{inspect.getsource(function)}```"))


def data_passport(data: Any) -> pandas.DataFrame:
    """The passport of a `Dataset` as a table."""
    text = {key: ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else
            "; ".join(map(str, value)) if isinstance(value, (list, tuple)) else value for key, value in data.passport.items()}
    return pandas.DataFrame({"": {key: f"{v:.3f}" if isinstance(v, float) else str(v) for key, v in text.items()}})


def check(question: str, passed: bool, hint: str = "") -> None:
    """Mark an exercise without raising: ✓ when it is solved, ○ and a hint while it is not."""
    print(f"✓ {question}" if passed else f"○ {question}" + (f"  ({hint})" if hint else ""))
