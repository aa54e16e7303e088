"""On Google Colab, in the first cell, with the address of the repository for ADDRESS:

    !git clone ADDRESS effml && python effml/notebooks/colab.py
    %cd effml/notebooks

Installs what is missing, and nothing else: what is there (torch, NumPy, pandas) is in use by
Colab's kernel already and stays as it is. Then restart the session, and open a notebook.
"""

import re
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = [pin.partition(";")[0].strip() for pin in project["dependencies"]]
    here = {pin: installed(re.split("==", pin)[0]) for pin in pins}
    missing = [pin for pin, found in here.items() if found is None]
    kept = {f"{one.name}=={one.version}" for one in distributions() if one.name}
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder, "kept.txt")
        held.write_text("\n".join(sorted(kept)), encoding="utf-8")
        if missing:  # pip ends with an error rather than change one of those that are kept
            command = [sys.executable, "-m", "pip", "install", "-c", str(held), *missing]
            if status := subprocess.run(command).returncode:
                return status
    # as an editable install does, but without building anything
    Path(sysconfig.get_path("purelib"), "effml.pth").write_text(f"{ROOT}\n", encoding="utf-8")
    other = [f"{pin.partition('==')[0]} {found}" for pin, found in here.items() if found]
    print(f"installed: {', '.join(missing) or 'nothing'}; left as they were: {', '.join(other)}")
    print("effml is tested with the versions in pyproject.toml; with others numbers may differ.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
