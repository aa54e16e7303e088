"""The kit of a class: made with two tiny packages, verified, served, installed."""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import tomllib
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from effml.__main__ import main
from effml.kit import SYSTEMS, data, folder, install, make, server, verify, wheels

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = install.SYSTEMS[platform.system(), platform.machine()]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def tiny_wheel(place, name="tiny"):
    """A wheel of one module."""
    path, about = place / f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(f"{name}.py", "said = 'hello'\n")
        packed.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        packed.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        packed.writestr(f"{about}/RECORD", f"{name}.py,,\n{about}/RECORD,,\n")
    return path


def entry(path, marker="python_version >= '3'"):
    name, version = path.name.split("-")[:2]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return (
        f'[[packages]]\nname = "{name}"\nversion = "{version}"\nmarker = "{marker}"\n'
        f'index = "https://pypi.org/simple"\nwheels = [{{ url = "https://x.org/{path.name}", '
        f'size = {path.stat().st_size}, hashes = {{ sha256 = "{digest}" }} }}]\n'
    )


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A lock file, the folder with its wheels, and a project: what a kit is made of."""
    place = tmp_path_factory.mktemp("parts")
    links, project = place / "links", place / "project"
    (project / "effml").mkdir(parents=True)
    links.mkdir()
    pips = Path(pytest.importorskip("ensurepip").__file__).parent.glob("_bundled/pip-*.whl")
    here = [tiny_wheel(links), *(Path(shutil.copy(pip, links)) for pip in pips)]
    text = 'lock-version = "1.0"\nenvironments = ["python_version >= \'3\'"]\n'
    away = entry(tiny_wheel(place, "elsewhere"), "sys_platform == 'other'")
    lock = place / "pylock.toml"
    lock.write_text(text + "".join(map(entry, here)) + away)
    shutil.copy(ROOT / "README.md", project)
    about = (
        '[project]\nname = "effml"\nversion = "0.1.0"\n[tool.setuptools]\npackages = ["effml"]\n'
    )
    (project / "pyproject.toml").write_text(about)
    (project / "effml" / "__init__.py").write_text("")
    (project / "private.txt").write_text("of a patient")
    for words in ("init -q", "add README.md pyproject.toml effml"):
        subprocess.run(["git", "-C", str(project), *words.split()], check=True)
    return lock, links, project


@pytest.fixture(scope="module")
def whole(parts, tmp_path_factory):
    """A kit, made once; tests that change it take a copy."""
    lock, links, project = parts
    kit = tmp_path_factory.mktemp("kits") / "Kit für Ärzte"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "ROOT", project)
        patch.setattr(folder, "find_spec", lambda name: None)
        patch.setattr(data, "valid", lambda path, file: True)
        patch.setenv("EFFML_DATA", str(data_at_hand(links.parent)))
        for name, value in (OFFLINE | {"PIP_FIND_LINKS": str(links)}).items():
            patch.setenv(name, value)
        make(kit, [SYSTEM], [PYTHON], lock=lock)
    return kit


def data_at_hand(place):
    (here := place / "data").mkdir()
    for name in ("breastmnist.npz", "dermamnist.npz", "nuclei_ours.npz"):
        (here / name).write_bytes(name.encode())
    (place / "weights").mkdir()
    (place / "weights" / "net.a.safetensors").write_bytes(b"weights")
    return here


@pytest.fixture
def kit(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "Kit für Ärzte")


@pytest.fixture
def remake(parts, monkeypatch):
    """Make a kit again from the same parts, or from other `links`."""

    def again(kit, links=None):
        monkeypatch.setattr(folder, "ROOT", parts[2])
        monkeypatch.setattr(folder, "find_spec", lambda name: None)
        for name, value in (OFFLINE | {"PIP_FIND_LINKS": str(links or parts[1])}).items():
            monkeypatch.setenv(name, value)
        make(kit, [SYSTEM], [PYTHON], lock=parts[0])

    return again


LOCK = tomllib.loads((ROOT / "pylock.toml").read_text())
ABOUT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_lock_is_in_step_with_the_project_and_names_public_addresses_alone():
    extras = ABOUT["project"]["optional-dependencies"]
    asked = [*ABOUT["project"]["dependencies"]]
    for name in ("dicom", "inference", "kit", "nifti"):
        asked += extras[name]
    locked = {(one["name"], one["version"].partition("+")[0]) for one in LOCK["packages"]}
    for one in map(Requirement, asked):
        wanted = (canonicalize_name(one.name), str(one.specifier).removeprefix("=="))
        assert wanted in locked, f"{one}: run make lock"
    text = (ROOT / "requirements.lock").read_text()
    assert {*re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.M)} == {
        (one["name"], one["version"]) for one in LOCK["packages"]
    }
    addresses = re.findall(r"\w+://([^/\"\s]+)", text + (ROOT / "pylock.toml").read_text())
    assert {*addresses} <= {"files.pythonhosted.org", "download.pytorch.org", "pypi.org"}
    hashes = {one["hashes"]["sha256"] for package in LOCK["packages"] for one in package["wheels"]}
    assert hashes <= {*re.findall(r"sha256:([0-9a-f]{64})", text)}


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_system_gets_wheels_without_cuda(system, python):
    found = {one.name: one for one in wheels(system, python)}
    assert not [name for name in found if name.startswith(("nvidia", "cuda", "triton"))]
    assert ("+cpu" in found["torch"].file) == system.startswith("linux")
    assert ("pywinpty" in found) == (system == "windows") and "pip" in found
    tag = {"windows": "win_amd64", "macos": "arm64", "linux": "x86_64", "linux-arm64": "aarch64"}
    assert f"cp{python.replace('.', '')}" in found["torch"].file
    assert found["torch"].file.endswith(f"{tag[system]}.whl")


def test_a_system_or_python_that_the_lock_does_not_know_is_refused():
    with pytest.raises(ValueError, match="Choose from: linux, "):
        wheels("amiga", "3.12")
    with pytest.raises(ValueError, match="3.9"):
        wheels("linux", "3.9")


def test_a_kit_holds_all_and_nothing_private(whole):
    names = {path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file()}
    assert {"START-HERE.html", "SHA256SUMS", "install.py", "effml/README.md"} <= names
    assert "wheelhouse/effml-0.1.0-py3-none-any.whl" in names
    assert "wheelhouse/tiny-1.0-py3-none-any.whl" in names and not any("else" in n for n in names)
    assert not any("private" in name or ".git/" in name for name in names)
    page = (whole / "START-HERE.html").read_text(encoding="utf-8")
    assert f"{SYSTEM}-{PYTHON}" in page and "{" not in re.sub(
        r"<style>.*</style>", "", page, flags=re.S
    )
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=whole, check=True)


def test_only_data_that_may_be_passed_on_goes_along(whole, parts, tmp_path, monkeypatch, capsys):
    assert {path.name for path in (whole / "data").iterdir()} == {"breastmnist.npz", "SOURCES.txt"}
    assert "CC BY 4.0" in (whole / "data" / "SOURCES.txt").read_text()
    monkeypatch.setenv("EFFML_DATA", str(parts[0].parent / "data"))
    data.copy(tmp_path, also=["nuclei_ours", "net.a"])  # breastmnist has a wrong checksum
    kept = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert kept == {"nuclei_ours.npz", "weights/net.a.safetensors", "SOURCES.txt"}
    left = capsys.readouterr().out.partition("Left out")[2]
    assert "breastmnist.npz" in left and "no checksum" in left and "dermamnist.npz" in left
    monkeypatch.setattr(data, "valid", lambda path, file: True)
    data.copy(tmp_path, also=[])
    assert re.search("dermamnist.npz.*by whom", capsys.readouterr().out)


def test_verify_names_what_is_damaged_missing_or_extra(kit, capsys):
    assert verify(kit) == [] and main(["kit", "verify", str(kit)]) == 0
    (kit / "effml" / "README.md").write_text("other")
    (kit / "install.sh").unlink()
    (kit / "wheelhouse" / "new.whl").write_bytes(b"")
    (kit / "Thumbs.db").write_bytes(b"left by Windows")
    told = ["damaged  effml/README.md", "missing  install.sh", "extra    wheelhouse/new.whl"]
    assert verify(kit) == told
    capsys.readouterr()
    assert main(["kit", "verify", str(kit)]) == 1
    assert capsys.readouterr().out.splitlines()[:3] == told
    (kit / "SHA256SUMS").unlink()
    assert main(["kit", "verify", str(kit)]) == 2
    assert "was not finished" in capsys.readouterr().err


def test_make_goes_on_where_it_stopped_and_mends_what_is_damaged(kit, remake, tmp_path):
    wheel = kit / "wheelhouse" / "tiny-1.0-py3-none-any.whl"
    (kit / "SHA256SUMS").unlink()
    wheel.write_bytes(wheel.read_bytes()[:50])
    with pytest.raises(OSError, match="https://x.org/tiny-1.0-py3-none-any.whl"):
        remake(kit, tmp_path)  # no package is to be had there
    with pytest.raises(FileNotFoundError):
        verify(kit)
    remake(kit)
    assert verify(kit) == []
    remake(kit, tmp_path)  # all is here: nothing is asked for


def test_too_small_a_disk_is_told_before(tmp_path, remake, monkeypatch):
    usage = type(shutil.disk_usage("."))(10**9, 10**9 - 10**6, 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"needs 10\d MB more, and 1 MB are free"):
        remake(tmp_path / "kit")
    assert not any((tmp_path / "kit" / "wheelhouse").iterdir())


def test_a_folder_with_other_files_is_left_alone(tmp_path, remake):
    (mine := tmp_path / "effml" / "mine.py").parent.mkdir()
    mine.write_text("work")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="other files: notes.txt. Give a new folder"):
        remake(tmp_path)
    assert mine.read_text() == "work"


def test_without_git_nobody_knows_what_is_private(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "ROOT", tmp_path)
    with pytest.raises(ValueError, match="git clone"):
        folder._copy_project(tmp_path / "effml")


@pytest.fixture
def served(kit):
    with server(kit, "127.0.0.1", 0) as one:
        thread = threading.Thread(target=one.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{one.server_port}"
        one.shutdown()
        thread.join()


def test_a_port_in_use_is_told(served, kit, capsys):
    port = served.rpartition(":")[2]
    assert main(["kit", "serve", str(kit), "--bind", "127.0.0.1", "--port", port]) == 2
    assert f"Give another, such as --port {int(port) + 1}" in capsys.readouterr().err


def sh(*words, **environment):
    environment = {**os.environ, "PYTHON": sys.executable} | environment
    how = {"capture_output": True, "text": True, "env": environment}
    return subprocess.run(["sh", *map(str, words)], **how)


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_a_class_installs_from_the_server_alone(served, tmp_path):
    with urllib.request.urlopen(f"{served}/") as page:
        assert b"start here" in page.read()
    with pytest.raises(urllib.error.HTTPError, match="501"):  # it is only read
        urllib.request.urlopen(f"{served}/new.txt", data=b"x")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{served}/%2e%2e/secret")
    urllib.request.urlretrieve(f"{served}/class.zip", tmp_path / "class.zip")
    with zipfile.ZipFile(tmp_path / "class.zip") as packed:
        packed.extractall(tmp_path / "Mes téléchargements")
    here = tmp_path / "Mes téléchargements" / "effml-class"
    assert not list(here.glob("wheelhouse/tiny*"))
    done = sh(here / "install.sh", "--no-start", HOME=str(tmp_path / "home"), **OFFLINE)
    assert done.returncode == 0, done.stderr
    home = tmp_path / "home" / "effml"
    assert f'sh "{home / "start.sh"}"' in done.stdout
    assert "EFFML_DATA" in (home / "start.sh").read_text()
    ask = "import tiny, effml; print(tiny.said, effml.__file__)"
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    how = {"capture_output": True, "text": True, "env": clean, "cwd": tmp_path}
    told = subprocess.run([home / ".venv" / "bin" / "python", "-c", ask], **how).stdout
    assert told.split() == ["hello", str(home / "effml" / "__init__.py")]


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_the_installer_says_what_it_would_do_or_what_is_missing(kit, tmp_path):
    done = sh(kit / "install.sh", "--dry-run", HOME=str(tmp_path))
    assert done.returncode == 0 and f"{SYSTEM}-{PYTHON}" in done.stdout
    assert "dry run" in done.stdout and not any(path != kit for path in tmp_path.iterdir())
    (old := tmp_path / "old").write_text("#!/bin/sh\necho 3.8\n")
    old.chmod(0o755)
    done = sh(kit / "install.sh", PYTHON=str(old))
    assert done.returncode == 1 and "old is Python 3.8" in done.stderr and PYTHON in done.stderr
    done = sh(kit / "install.sh", PYTHON=str(tmp_path / "none"))
    assert done.returncode == 1 and "Found: none" in done.stderr


def test_a_copy_that_broke_off_is_done_again_and_a_whole_one_is_left_alone(
    kit, tmp_path, monkeypatch
):
    monkeypatch.setattr(install, "KIT", kit)
    home = tmp_path / "home"
    (kit / "data").rename(kit / "away")
    with monkeypatch.context() as late, pytest.raises(OSError):  # the stick was pulled out
        late.setattr(install, "whole", lambda: None)
        install.copy(home)
    (kit / "away").rename(kit / "data")
    install.copy(home)
    assert (home / "data" / "breastmnist.npz").is_file()
    (home / "README.md").write_text("my notes")
    install.copy(home)
    assert (home / "README.md").read_text() == "my notes"


def test_a_damaged_file_is_told_before_anything_is_copied(kit, tmp_path, monkeypatch):
    monkeypatch.setattr(install, "KIT", kit)
    file, home = kit / "data" / "breastmnist.npz", tmp_path / "home"
    body = file.read_bytes()
    file.write_bytes(body[:-1])
    with pytest.raises(SystemExit, match="breastmnist.npz is damaged or missing. Copy the kit"):
        install.copy(home)
    assert not home.exists()
    file.write_bytes(body)


@pytest.mark.parametrize(
    "what, value, told",
    [
        ("sys.maxsize", 2**31 - 1, "a 32-bit Python"),
        ("platform.machine", lambda: "mips", "Ask for a kit for it"),
        ("sys.version_info", type("V", (), {"major": 3, "minor": 8}), f"Install Python {PYTHON}"),
        ("shutil.disk_usage", lambda path: type("U", (), {"free": 1e6}), "Give another: --to"),
    ],
)
def test_the_installer_ends_with_advice(kit, tmp_path, monkeypatch, what, value, told):
    monkeypatch.setattr(f"effml.kit.install.{what}", value)
    monkeypatch.setattr(install, "KIT", kit)
    with pytest.raises(SystemExit, match=told):
        install.check(tmp_path / "new")


def test_the_windows_installer_passes_its_words_on_and_looks_for_the_kits_pythons():
    """As far as reading goes: nothing here runs PowerShell."""
    text = (folder.HERE / "install.ps1").read_text(encoding="ascii")  # 5.1 takes it for ANSI
    assert "'install.py') @args" in text and "-Filter 'windows-*.txt'" in text
    assert text.count("{") == text.count("}") and text.count("(") == text.count(")")
    command = (folder.HERE / "install.cmd").read_bytes()
    assert b'-File "%~dp0install.ps1" %*\r\n' in command and command.count(b"\n") == 3
