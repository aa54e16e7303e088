"""Install effml from this folder, without a network and without an administrator:
python install.py [--to FOLDER] [--dry-run] [--no-start]

It makes a folder with the notebooks and an environment of their own. To undo it, delete it.
"""

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from urllib.parse import urlsplit

KIT = Path(__file__).resolve().parent
SYSTEMS = {
    ("Linux", "x86_64"): "linux",
    ("Linux", "aarch64"): "linux-arm64",
    ("Windows", "AMD64"): "windows",
    ("Darwin", "arm64"): "macos",
}


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path.home() / "effml", metavar="FOLDER")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--no-start", action="store_true", help="do not open JupyterLab")
    given = parser.parse_args(words)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # names that the terminal cannot write
    requirements, megabytes = check(given.to.resolve())
    print(f"Into {given.to}: the notebooks and {requirements.stem}, {megabytes} MB.", flush=True)
    if given.dry_run:
        print("Nothing was done: this was a dry run.")
        return
    copy(given.to.resolve())
    install(given.to.resolve(), requirements)
    start = write_start(given.to.resolve())
    print(f'Done. Next time start it with {"" if os.name == "nt" else "sh "}"{start}"', flush=True)
    if not given.no_start:
        subprocess.run([str(start)] if os.name == "nt" else ["sh", str(start)])


def check(to):
    """The requirements file of this computer and the MB that it takes, or an end with advice."""
    system = SYSTEMS.get((platform.system(), platform.machine()))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    has = sorted(path.stem for path in (KIT / "requirements").glob("*.txt"))
    if sys.maxsize < 2**32:
        stop(f"{sys.executable} is a 32-bit Python. Install a 64-bit one from python.org.")
    if f"{system}-{version}" not in has:
        here = f"{platform.system()} {platform.machine()} with Python {version}"
        fitting = [each.rpartition("-")[2] for each in has if each.rpartition("-")[0] == system]
        advice = f"Install Python {' or '.join(fitting)}" if fitting else "Ask for a kit for it"
        stop(f"This kit is for {', '.join(has)}; this computer is {here}. {advice}.")
    requirements = KIT / "requirements" / f"{system}-{version}.txt"
    first = requirements.read_text(encoding="utf-8").split("\n")[0].split()
    megabytes, longest = int(first[1]) + 100, int(first[-1])
    place = next(each for each in (to, *to.parents) if each.exists())
    if (free := shutil.disk_usage(place).free / 1e6) < megabytes:
        stop(
            f"{place} has {free:.0f} MB free, and {megabytes} are needed. Give another: --to FOLDER"
        )
    if os.name == "nt" and len(str(to)) + len(r"\.venv\Lib\site-packages\\") + longest > 259:
        stop(f"{to} is too long a path for Windows. Give a shorter one: --to C:\\effml")
    return requirements, megabytes


def install(to, requirements):
    """An environment in `to` with all packages, which finds effml there."""
    room = to / ".venv"
    python = room / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    about, version = room / "pyvenv.cfg", requirements.stem.rpartition("-")[2]
    if not (about.exists() and f"version = {version}." in about.read_text(encoding="utf-8")):
        venv.create(room, clear=True, symlinks=os.name != "nt")  # pip comes with the kit
    where, trusted = KIT / "wheelhouse", []
    if (KIT / "server.txt").is_file():  # this part came over the network of the class
        where = (KIT / "server.txt").read_text(encoding="utf-8").strip() + "/wheelhouse/"
        trusted = ["--trusted-host", urlsplit(where).hostname]
    pip = next(KIT.glob("wheelhouse/pip-*.whl"))
    command = [str(python), str(pip / "pip"), "--isolated", "install", "--quiet", "--no-index"]
    command += ["--find-links", str(where), *trusted, "--require-hashes", "--no-deps"]
    command += ["--no-compile", "--no-cache-dir", "--no-warn-script-location"]
    print("Installing; this takes some minutes …", flush=True)
    if subprocess.run([*command, "-r", str(requirements)]).returncode:
        advice = "Copy the kit again, or ask for another"
        if trusted:
            advice = f"Does the computer of the class answer? Open {where} in a browser"
        stop(f"A package was not installed: see above. {advice}.")
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([str(python), "-c", ask], capture_output=True, text=True, check=True)
    packages = Path(packages.stdout.strip())
    (packages / "effml.pth").write_text(os.path.relpath(to, packages) + "\n")  # of ASCII alone
    (room / "effml-installed").touch()  # `make` there installs nothing again


def copy(to):
    """Notebooks and data, but where they are whole already: somebody may have worked in them."""
    unfinished = to / ".unfinished"
    if unfinished.exists() or not (to / "pyproject.toml").exists():
        whole()
        to.mkdir(parents=True, exist_ok=True)
        unfinished.touch()
        shutil.copytree(KIT / "effml", to, dirs_exist_ok=True)
        shutil.copytree(KIT / "data", to / "data", dirs_exist_ok=True)
        unfinished.unlink()


def whole():
    """An end with advice where what will be copied is not as it was made; pip looks at wheels."""
    for line in (KIT / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        if name.startswith(("effml/", "data/")):
            path = KIT / name
            body = path.read_bytes() if path.is_file() else b""
            if hashlib.sha256(body).hexdigest() != digest:
                stop(f"{path} is damaged or missing. Copy the kit again, or ask for another.")


def write_start(to):
    """A file that opens the notebooks, and opens no connection beyond this computer."""
    data = any((to / "data").glob("*.npz"))
    if os.name == "nt":
        start, lines = to / "start.cmd", ["@echo off", 'cd /d "%~dp0"', "set EFFML_OFFLINE=1"]
        lines += ["set EFFML_DATA=%~dp0data"] * data
        lines += [r".venv\Scripts\python -m jupyterlab notebooks %*"]
    else:
        start, lines = to / "start.sh", ['cd "$(dirname "$0")"', "export EFFML_OFFLINE=1"]
        lines += ['export EFFML_DATA="$PWD/data"'] * data
        lines += ['exec .venv/bin/python -m jupyterlab notebooks "$@"']
    start.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return start


def stop(told):
    sys.exit(f"install.py: {told}")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        stop(f"{error}. What is done stays: start it again when this is mended.")
    except KeyboardInterrupt:
        stop("interrupted. Start it again: it goes on.")
