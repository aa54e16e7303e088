"""What the soak (`python -m tests.soak`) found: words, and no traceback, for what is not effml's
fault."""

import errno
import os
import subprocess
import sys
import threading

import pytest

from effml import Recipe, load_arrays, machine, results
from effml.__main__ import main
from effml.deployment.predict_template import by_openvino
from effml.experiment.failure import is_fault, reason_of, status_of
from effml.experiment.trained_model import CARD, card_of
from effml.models import answer
from effml.reproduce import collection, places


@pytest.mark.parametrize(
    "field, given, told",
    [
        ("threads", "100000", "give 0 to 1024"),
        ("seed", str(2**70), "below 2..63"),
        ("seed", "1e-400", "no whole number"),
        ("epochs", "9" * 400, "no whole number"),
    ],
)
def test_numbers_that_no_run_can_have(field, given, told):
    with pytest.raises(ValueError, match=told):
        Recipe(**{field: given})


def test_a_whole_number_as_text_is_that_number():
    assert Recipe(seed="9007199254740993").seed == 2**53 + 1  # a float holds no such number


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_a_field_given_twice_is_refused(tmp_path, capsys, command):
    assert main([command, "seed=0", "seed=1", "--store", str(tmp_path / "s")]) == 2
    assert "seed is there 2 times: give it once" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_file_where_a_folder_belongs(tmp_path, capsys):
    file = tmp_path / "x"
    file.touch()
    assert main(["data", "verify", "--root", str(file)]) == 2
    assert "is a file: give a folder" in capsys.readouterr().err
    words = ["advise", "--data", "phantom-chest", "--minutes", "1", "--store", str(file)]
    assert main(words) == 2 and "folder" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ImportError("failed to map segment"), MemoryError()])
def test_a_library_that_cannot_be_loaded_is_told(error, capsys, monkeypatch):
    def refuse(given):
        raise error

    monkeypatch.setattr("effml.__main__._report", refuse)
    assert main(["report"]) == 2 and "If memory is short" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_the_systems_errors_say_what_to_do(number, capsys, monkeypatch):
    def refuse(given):
        raise OSError(number, "it says")

    monkeypatch.setattr("effml.__main__._report", refuse)
    assert main(["report"]) == 2
    assert "make room" in (told := capsys.readouterr().err) or "give another place" in told


def test_a_full_disk_is_a_reason_and_no_fault():
    def caught(number):
        try:
            raise OSError(number, "it says")
        except OSError as error:
            return error

    full, lost = caught(errno.ENOSPC), caught(errno.ENOENT)
    assert not is_fault(full, "failed") and "Traceback" not in reason_of(full, "failed")
    assert is_fault(lost, "failed") and "Traceback" in reason_of(lost, "failed")


@pytest.mark.parametrize("content", [b"", b"\xd0\x00", b"[]", b"{}", b'{"run_id": 1}'])
def test_a_damaged_card_is_named(tmp_path, content):
    (tmp_path / f"r1-a{CARD}").write_bytes(content)
    with pytest.raises(ValueError, match=r"r1-a\S+ is damaged. Run it again"):
        card_of("r1", tmp_path)


def test_damaged_arrays_are_named(tmp_path):
    results.save_arrays(tmp_path, "r1-a", {"x": range(1000)})
    whole = (tmp_path / "r1-a.npz").read_bytes()
    for content in (b"", b"text", whole[:-30], whole[:60] + b"\xff" * 9 + whole[69:]):
        (tmp_path / "r1-a.npz").write_bytes(content)
        with pytest.raises(ValueError, match="r1-a.npz is damaged .*do the run again"):
            load_arrays(tmp_path, "r1-a")


def test_memory_that_runs_out_in_the_model_is_not_called_a_wrong_batch():
    from torch import nn, zeros

    class Large(nn.Module):
        def forward(self, x):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    with pytest.raises(RuntimeError, match="allocate") as caught:
        answer(Large(), zeros(1))
    assert status_of(caught.value) == "out of memory"


def test_a_reader_who_leaves_is_no_error():
    code = "import sys; from effml.__main__ import main; sys.exit(main(['data', 'list']))"
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_deployed_folder_keeps_openvino_from_reporting_its_import(tmp_path, monkeypatch):
    (tmp_path / "openvino.py").write_text("import os\nraise ImportError(os.environ['CI'])")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.setenv("CI", "no")
    with pytest.raises(ImportError, match="true"):
        by_openvino(tmp_path, {"image_shape": [1, 8, 8]}, 1)
    assert os.environ["CI"] == "no"


@pytest.fixture
def small(monkeypatch):
    """A laptop without AVX2, and 300 MB of free memory."""
    monkeypatch.setattr(machine, "cpu", lambda: ("Pentium", ""))
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(machine.sys, "platform", "linux")
    monkeypatch.setattr(machine, "available_memory_bytes", lambda: 300_000_000)


def test_a_small_laptop_is_told_before_the_work(small, monkeypatch, tmp_path, capsys):
    assert len(machine.shortages()) == 2 and len(machine.shortages(200)) == 1
    monkeypatch.setattr("effml.sweeping.sweep", lambda *given, **how: 1 / 0)
    for words in (["run"], ["sweep"]):
        with pytest.raises(ZeroDivisionError):
            main([*words, "--store", str(tmp_path)])
        told = capsys.readouterr().err
        assert "300 MB of memory are free, this takes about 600" in told and "no AVX2" in told
    assert main(["advise", "--data", "no-such", "--minutes", "1"]) == 2
    assert "no AVX2" in capsys.readouterr().err


def test_a_machine_that_has_enough_is_told_nothing(small, monkeypatch):
    monkeypatch.setattr(machine, "cpu", lambda: ("Core", "avx2"))
    monkeypatch.setattr(machine, "available_memory_bytes", lambda: 8e9)
    assert machine.shortages() == []
    monkeypatch.setattr(machine, "cpu", lambda: ("Apple M1", ""))  # flags that nobody can read
    monkeypatch.setattr(machine.platform, "machine", lambda: "arm64")
    assert machine.shortages() == []


def test_reproduce_waits_for_another_of_its_profile(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(places, "LOCAL", tmp_path / "local")
    order, inside = [], threading.Event()

    def second():
        inside.wait()
        with collection._alone("smoke"):
            order.append("second")

    other = threading.Thread(target=second)
    other.start()
    with collection._alone("smoke"), collection._alone("laptop"):  # profiles are apart
        inside.set()
        other.join(0.3)
        order.append("first")
    other.join()
    assert order == ["first", "second"]
    assert "Another reproduce of profile smoke is at work" in capsys.readouterr().out


def test_the_plan_says_when_memory_is_too_little(small, capsys):
    from effml.reproduce.plan import make_plan

    collection._print_plan(make_plan("smoke", ["00"]), "smoke", 1)
    told = capsys.readouterr().out
    assert "Mind: 300 MB of memory are free" in told and "Mind: this CPU has no AVX2" in told
