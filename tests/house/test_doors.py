"""The ways in beside `make`: conda and Binder, Colab, a devcontainer."""

import json
import os
import re
import subprocess
import tomllib
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
OURS = {"pytorch-cpu": "torch"}
"""Names of conda-forge that are not PyPI's."""


def pins(extras):
    """Version by name of the dependencies and of these extras, those of extras in them too."""
    found = [*PROJECT["dependencies"]] if "" in extras else []
    for extra in filter(None, extras):
        found += PROJECT["optional-dependencies"][extra]
    named = [re.match(r"effml\[(.*)\]", one) for one in found]
    told = {
        name.lower(): version
        for name, _, version in (one.partition(";")[0].strip().partition("==") for one in found)
        if version
    }
    for one in filter(None, named):
        told |= pins(one[1].split(","))
    return told


def test_conda_installs_the_versions_of_pyproject():
    *plain, pip = CONDA["dependencies"]
    told = dict(one.partition("==" if "==" in one else "=")[::2] for one in [*plain, *pip["pip"]])
    told = {OURS.get(name, name).lower(): version for name, version in told.items()}
    for tool in ("pip", "make", "-e ."):  # of conda, without a version
        assert told.pop(tool) == ""
    python = tuple(map(int, told.pop("python").split(".")))
    least = tuple(map(int, PROJECT["requires-python"].removeprefix(">=").split(".")))
    assert python >= least and CONDA["channels"] == ["conda-forge"]
    assert told == pins(["", "test"])


def test_a_devcontainer_makes_what_make_env_makes():
    said = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert said["postCreateCommand"] == "make env"
    assert re.search(r"^env: ", (ROOT / "Makefile").read_text(), re.M)
    python = said["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert python.endswith(
        re.search(r"^VENV +\?= (.*)", (ROOT / "Makefile").read_text(), re.M)[1] + "/bin/python"
    )
    assert tuple(map(int, said["image"].rpartition(":")[2].split("."))) >= (3, 11)


def metadata(name, version, needs=()):
    more = "".join(f"Requires-Dist: {need}\n" for need in needs)
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}"


def wheel(folder, name, version, needs=()):
    """The smallest wheel that pip installs."""
    plain = re.sub(r"[-.]", "_", name)
    info = f"{plain}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{plain}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{plain.lower()}_made_up.py", "")
        file.writestr(f"{info}/METADATA", metadata(name, version, needs))
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


@pytest.mark.skipif(os.name != "posix", reason="Colab is Linux")
@pytest.mark.parametrize("wants", ["torch", "torch>=99"])
def test_colab_leaves_torch_and_numpy_alone(tmp_path, wants):
    """A Python with a torch and a NumPy of other versions, and all else to be had from a folder."""
    venv.create(tmp_path / "v", symlinks=True)
    [site] = (tmp_path / "v" / "lib").glob("python*/site-packages")
    pip = distribution("pip")
    for place in {Path(pip.locate_file("pip")), Path(pip._path)}:  # this Python's own pip
        (site / place.name).symlink_to(place)
    for name in ("torch", "torchvision", "numpy"):
        (site / f"{name}-9.9.dist-info").mkdir()
        (site / f"{name}-9.9.dist-info" / "METADATA").write_text(metadata(name, "9.9"))
        (site / f"{name}.py").write_text("__version__ = '9.9'\n")
    (tmp_path / "w").mkdir()
    for pin in PROJECT["dependencies"]:
        name, _, version = pin.partition(";")[0].strip().partition("==")
        wheel(tmp_path / "w", name, version, [wants, "numpy"] if name == "timm" else ())
    wheel(tmp_path / "w", "torch", "99.0")
    before = {path: path.stat().st_mtime_ns for path in site.rglob("*") if "9.9" in path.name}
    environment = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "w"), "PATH": os.defpath}
    environment["PIP_CONFIG_FILE"] = os.devnull
    python = tmp_path / "v" / "bin" / "python"
    words = [python, ROOT / "notebooks" / "colab.py"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    if (
        wants != "torch"
    ):  # it cannot be had without another torch: that is said, and nothing is done
        assert (
            done.returncode
            and "(constraint) torch==9.9" in done.stdout
            and not (site / "effml.pth").exists()
        )
        return
    assert done.returncode == 0, done.stderr
    assert (
        "installed: timm==" in done.stdout
        and "torch 9.9, torchvision 9.9, numpy 9.9" in done.stdout
    )
    code = "import effml, torch, numpy; print(effml.__file__, torch.__version__, numpy.__version__)"
    there = subprocess.run(
        [python, "-c", code], cwd=tmp_path, env={}, capture_output=True, text=True
    )
    assert there.stdout.split() == [str(ROOT / "effml" / "__init__.py"), "9.9", "9.9"], there.stderr


def test_badges_lead_to_the_address_of_the_citation_and_to_no_other():
    from findings import render_doors

    address = "https://github.com/somebody/effml"
    told = render_doors(f"title: x\nrepository-code: {address}\n")
    assert "mybinder.org/v2/gh/somebody/effml/HEAD" in told
    assert "colab.research.google.com/github/somebody/effml/blob/HEAD/notebooks" in told
    without = render_doors("title: x\n")
    assert "/gh/" not in without and "badge" not in without
    assert "environment.yml" in without and "colab.py" in without
