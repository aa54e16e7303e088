"""Every class of the package can be pickled: it stands at the top of a module, where `pickle` looks
for it."""

import ast
import importlib
import inspect
import pickle
import pkgutil
from pathlib import Path

import pytest

import effml

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(effml.__path__, "effml.")
    if not module.name.endswith("__main__")
)
FILES = sorted(Path(effml.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_every_class_of_a_module_is_pickled_by_its_name(name):
    module = importlib.import_module(name)
    for _, found in inspect.getmembers(module, inspect.isclass):
        if found.__module__.split(".")[0] == "effml":
            assert "<locals>" not in found.__qualname__, found.__qualname__
            assert pickle.loads(pickle.dumps(found)) is found


@pytest.mark.parametrize(
    "path", FILES, ids=lambda path: path.relative_to(FILES[0].parent).as_posix()
)
def test_no_class_is_made_inside_a_function(path):
    """Neither by a statement nor by a call: `type` with three arguments, or a maker of classes."""
    makers = {"make_dataclass", "namedtuple", "NamedTuple", "TypedDict", "Enum"}
    for outer in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        for node in ast.walk(outer):
            assert not isinstance(node, ast.ClassDef), f"{node.name}, line {node.lineno}"
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func).rpartition(".")[2]
                made = called in makers or (called == "type" and len(node.args) == 3)
                assert not made, f"{called}, line {node.lineno}"
