"""Every test runs offline: only loopback answers, here and in every Python process a test starts (tests/blocked)."""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
if os.environ.get("EFFML_DATA"):
    os.environ["EFFML_DATA"] = str(
        (ROOT / os.environ["EFFML_DATA"]).resolve()
    )  # tests change folders
os.environ["EFFML_OFFLINE"] = "1"
SHARED = [
    str(ROOT / "tests" / "blocked"),
    str(ROOT / "notebooks"),
]  # what notebooks import lies beside them
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*SHARED, os.environ.get("PYTHONPATH")]))
os.environ["EFFML_CACHE"] = tempfile.mkdtemp(prefix="effml-cache-")
atexit.register(shutil.rmtree, os.environ["EFFML_CACHE"], ignore_errors=True)
os.environ["OMP_NUM_THREADS"] = "1"  # sums depend on it, and two workers share the cores
sys.path[:0] = SHARED
import sitecustomize  # noqa: E402

sitecustomize.block()


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="random tests with all their seeds")


def pytest_configure(config):
    if config.getoption("--full"):
        os.environ["EFFML_FULL"] = "1"  # the workers of xdist inherit it


def seeds(few, all):
    """The seeds of a random test: `few` of them, or `all` with --full."""
    return range(all if os.environ.get("EFFML_FULL") else few)


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    """A machine on which no data set lies anywhere."""
    monkeypatch.delenv("EFFML_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr("effml.data.places.ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def one_thread():
    """Small matrices: two threads on a busy machine wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def real(name):
    """Skip, with the reason, where a real data set is not on this machine."""
    from effml import at_hand

    try:
        return at_hand(name)
    except FileNotFoundError:
        pytest.skip(f"{name} is not on this machine; set EFFML_DATA")
