"""Other meters are run in their own process, offline; these tests need none of them."""

import math
import os
import sys

import pytest

import peers

FAKE = """
import socket
print("a meter talks")
class Said: cpu_energy, dram_energy, gpu_energy = {0: 3.0}, None, {0: 4.0}
class ZeusMonitor:
    def __init__(self):
        try:
            socket.create_connection(("tracker.example", 80))
        except OSError:
            pass
    def begin_window(self, name, sync_execution): pass
    def end_window(self, name, sync_execution): return Said
"""


def test_ours_says_the_same_inside_itself_alone_and_beside_a_load():
    rows = peers.metered(
        "effml",
        "sum(range(3_000_000))",
        repeats=2,
        rivals=1,
        EFFML_WATTS_PER_CPU="10",
        EFFML_METER="cpu",
    )
    assert [(row["repeat"], row["load"]) for row in rows] == [
        (0, False),
        (0, True),
        (1, False),
        (1, True),
    ]
    for row in rows:
        assert row["energy_j"] == pytest.approx(row["ours_j"], rel=0.2)
        assert 0 < row["energy_j"] < 10 * (row["seconds"] + 0.1)
        assert row["start_s"] + row["stop_s"] < 0.5 and row["asked"] == ""
    assert rows[0]["startup_s"] > 0


def test_a_meter_may_talk_and_reaches_nobody(tmp_path, monkeypatch):
    (tmp_path / "zeus").mkdir()
    (tmp_path / "zeus" / "__init__.py").touch()
    (tmp_path / "zeus" / "monitor.py").write_text(FAKE)
    (tmp_path / "zeus-9.dist-info").mkdir()
    (tmp_path / "zeus-9.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: zeus\nVersion: 9\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == "zeus"]:
        monkeypatch.delitem(sys.modules, name)
    assert peers.lacking("zeus") == ""
    (row,) = peers.metered(
        "zeus", "pass", PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    )
    assert row["energy_j"] == 7.0
    assert row["source"] == "zeus 9"
    assert row["asked"] == "tracker.example"


def test_what_is_missing_wrong_or_broken_says_so(monkeypatch):
    with pytest.raises(ValueError, match="Choose from: effml, codecarbon"):
        peers.lacking("wattson")
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    assert "pip install -e '.[compare]'" in peers.lacking("codecarbon process")
    with pytest.raises(RuntimeError, match="not installed"):
        peers.metered("carbontracker", "pass")
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        peers.metered("effml", "1 / 0")


def test_the_steps_of_ours_in_this_process():
    steps = peers.PEERS["effml"]()
    assert next(steps) == next(steps) == {}
    assert not math.isnan(next(steps)["energy_j"])
