"""The command line on streams that cannot hold all it prints: redirected on Windows, a terminal of
DOS, plain ASCII."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import effml.__main__
from effml.machine import print_anything

ROOT = Path(effml.__main__.__file__).parent
ENCODINGS = ["ascii", "cp437", "cp1252"]


@pytest.fixture
def spoken(monkeypatch):
    """Calls the command line with streams of an encoding; what it printed, and its exit status."""

    def call(encoding, *words):
        streams = {
            name: io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
            for name in ("stdout", "stderr")
        }
        with monkeypatch.context() as patched:
            for name, stream in streams.items():
                patched.setattr(sys, name, stream)
            try:
                status = effml.__main__.main(list(words))
            except SystemExit as ended:  # argparse, after --help
                status = ended.code
        for stream in streams.values():
            stream.flush()
        return status, *(s.buffer.getvalue().decode(encoding) for s in streams.values())

    monkeypatch.setattr("effml.precision.native_precision", lambda: "fp32")
    return call


def helps(call, encoding, words=()):
    """Every command's help, found in the help above it."""
    status, out, error = call(encoding, *words, "--help")
    assert status == 0 and not error and "usage:" in out, (words, error)
    _, _, menu = out.partition(
        "positional arguments:\n  command\n" if not words else "arguments:\n  action\n"
    )
    names = re.findall(r"^    ([a-z][a-z-]*)(?: |$)", menu, re.M)
    return [words, *(below for name in names for below in helps(call, encoding, (*words, name)))]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_help_can_be_read(spoken, encoding):
    found = helps(spoken, encoding)
    names = {words[0] for words in found if words}
    assert {"run", "sweep", "data", "energy", "report", "doctor", "smoke-reference"} <= names
    assert ("data", "import") in found and ("energy", "calibrate") in found


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "words", [["data", "list"], ["doctor"], ["report"], ["show", "--store", "×…≥"]], ids=" ".join
)
def test_what_works_offline_works_redirected(spoken, tmp_path, monkeypatch, words, encoding):
    monkeypatch.setenv("EFFML_OFFLINE", "1")
    (tmp_path / "Ärzte → ≥2").mkdir()
    monkeypatch.setenv("EFFML_DATA", str(tmp_path / "Ärzte → ≥2"))
    status, out, error = spoken(encoding, *words)
    assert "codec" not in out + error and (out or status == 2)
    assert ("There is no store" in error) if words[0] == "show" else not error


def test_only_what_is_lacking_is_changed(monkeypatch):
    text = "≥ ≤ → – × … ± µ α é Å ö √ ✓ ○ “a” ½ 汉 \udcff\u00a0."
    for encoding, expected in (
        ("ascii", "? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ?a? ? ? ??."),
        ("cp1252", "? ? ? – × … ± µ ? é Å ö ? ? ? “a” ½ ? ?\u00a0."),
        ("utf-8", text.replace("\udcff", "?")),
    ):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
        monkeypatch.setattr(sys, "stdout", stream)
        print_anything()
        print(text, end="")
        stream.flush()
        assert stream.buffer.getvalue().decode(encoding) == expected


def test_who_asked_for_another_way_keeps_it_and_other_streams_are_left_alone(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="xmlcharrefreplace")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", None)  # pythonw
    print_anything()
    assert stream.errors == "xmlcharrefreplace"
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    print_anything()


def test_a_redirected_process(tmp_path):
    """The case as it was reported, and the process of a sweep."""
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": "cp1252"}
    environment["PYTHONPATH"] = str(ROOT.parent)
    done = subprocess.run(
        [sys.executable, "-m", "effml", "data", "list"],
        capture_output=True,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0 and b"phantom-chest" in done.stdout and not done.stderr
