"""Every public name explains itself: Google sections, and an example that runs."""

import doctest
import inspect

import pytest

import effml

DATA = ("NUMERICS", "SELECTORS", "COMPRESSORS", "OPTIMIZERS", "PRECISIONS", "RUNTIMES")
TABLES = ("HALF_REPAIRS", "SETTINGS")  # of words, not of functions
NAMES = [name for name in effml.__all__ if name not in DATA + TABLES]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_has_sections_and_an_example_that_runs(name, tmp_path, monkeypatch):
    thing = getattr(effml, name)
    text = inspect.getdoc(thing)
    takes = {*inspect.signature(thing).parameters} - {"self"}
    wanted, yields = ["Example:"], "Yields:" in text
    if not inspect.isclass(thing):
        wanted += ["Args:"] * bool(takes) + ["Yields:" if yields else "Returns:"]
    assert not [section for section in wanted if section not in text]
    if "Args:" in text:
        told = text.partition("Args:")[2]
        missing = [one for one in takes if f"{one}:" not in told and f"{one} (" not in told]
        assert not missing, f"Args says nothing of {missing}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EFFML_CACHE", str(tmp_path / "cache"))
    test = doctest.DocTestParser().get_doctest(text, {"effml": effml}, name, None, 0)
    assert test.examples, "no >>> line"
    told = []
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    assert runner.run(test, out=told.append).failed == 0, "".join(told)


def test_registries_at_the_top():
    for name in DATA[1:]:
        entries = getattr(effml, name)
        assert isinstance(entries, dict) and all(map(callable, entries.values()))
