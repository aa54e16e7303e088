import argparse
import json
import math
import threading
import time

import pytest

from effml import machine
from effml.metering import carbon, co2e_g, commands, counters, measure, window


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """A machine without counters, calibration or settings, on which no command waits."""
    for name in ("EFFML_METER", "EFFML_WATTS_PER_CPU"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EFFML_ENERGY_FILE", str(tmp_path / "deep" / "energy.json"))
    monkeypatch.setattr(counters, "POWERCAP", tmp_path / "powercap")
    monkeypatch.setattr(counters, "POWER_SUPPLY", tmp_path / "power_supply")
    monkeypatch.setattr(commands.time, "sleep", lambda seconds: None)
    return tmp_path


def call(*words):
    parser = argparse.ArgumentParser()
    commands.add(parser)
    return commands.main(parser.parse_args(words))


@pytest.fixture
def five_watts(bare, monkeypatch):
    """RAPL at 5 W, watched for 0.2 s whatever is asked for; nothing else runs."""
    zone = bare / "powercap" / "intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0")

    def number(path):
        return round(5e6 * time.perf_counter()) if path.name[0] == "e" else 10**15

    def sleep(seconds, end=threading.Event().wait):
        end(min(seconds, 0.2))

    monkeypatch.setattr(counters, "_number", number)
    monkeypatch.setattr(commands.time, "sleep", sleep)
    monkeypatch.setattr(window, "machine_cpu_seconds", lambda: 7.0)


def test_show_says_what_is_here_what_is_used_and_what_the_others_lack(capsys):
    assert call() == 0 and call("show") == 0
    shown = capsys.readouterr().out
    assert shown.count("energy in use           cpu-time × TDP\n") == 2
    assert "energy: rapl not here: " in " ".join(shown.split())
    assert "energy: cpu-time × TDP  here: estimated (5 W a busy CPU, range 2–12)" in shown
    assert "energy calibration      none: python -m effml energy calibrate" in shown
    assert all(isinstance(text, str) and text for text in commands.facts().values())


def test_counters_are_calibrated_by_watching_them_idle(five_watts, capsys):
    assert call("calibrate") == 0
    written = json.loads(commands.calibration_file().read_text())
    assert written["idle_w"]["rapl"] == pytest.approx(5, rel=0.3)
    assert written["device_name"] == machine.cpu()[0]
    assert call("calibrate", "--idle-w", "9", "--load-w", "31") == 0  # keeps the other
    assert "plug meter 9 W idle, 31 W with " in capsys.readouterr().out
    assert [path.name for path in commands.calibration_file().parent.iterdir()] == ["energy.json"]
    call("show")
    shown = capsys.readouterr().out
    assert "energy: rapl            here: measured, " in shown and "unknown" not in shown
    assert "energy in use           rapl\n" in shown and " CPUs busy; rapl " in shown
    with measure() as cost:
        threading.Event().wait(0.01)
    assert cost.measured and "idle subtracted" in cost.energy_source


def test_idle_power_is_not_measured_while_others_work(five_watts, monkeypatch):
    monkeypatch.setattr(window, "machine_cpu_seconds", iter([0.0, 1e6]).__next__)
    with pytest.raises(ValueError, match="Close them"):
        call("calibrate")
    assert not commands.calibration_file().exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["--idle-w", "9"], "Give both"),
        (["--idle-w", "31", "--load-w", "9"], "cannot be"),
        (["--idle-w", "0", "--load-w", "9"], "cannot be"),
        (["--idle-w", "nan", "--load-w", "9"], "cannot be"),
        (["--idle-w", "9", "--load-w", "inf"], "cannot be"),
        ([], "No counter"),
    ],
)
def test_nonsense_is_refused_and_nothing_is_written(words, message):
    with pytest.raises(ValueError, match=message):
        call("calibrate", *words)
    assert not commands.calibration_file().exists()


def test_a_wrong_setting_is_refused_by_the_command_as_well(monkeypatch):
    monkeypatch.setenv("EFFML_METER", "moon")
    with pytest.raises(ValueError, match="Choose from"):
        call("show")


def test_a_counter_that_stands_still_is_no_idle_power_of_zero(five_watts, monkeypatch, capsys):
    monkeypatch.setattr(counters, "_number", lambda path: 10**6)
    with pytest.raises(ValueError, match="No counter to calibrate"):
        call("calibrate")
    assert call("show") == 0
    assert "energy: rapl            not here: it did not move in" in capsys.readouterr().out


def test_grams_of_a_kilowatt_hour():
    grams, low, high, source = co2e_g(3.6e6, country="Kenya")
    assert grams == 89 and low == pytest.approx(89 / 1.4) and high == pytest.approx(89 * 1.4)
    assert "Kenya 2024" in source and "Ember" in source and "PUE 1" in source
    assert co2e_g(1.8e6, country="ken", pue=1.5)[0] == pytest.approx(89 * 0.75)
    assert co2e_g(3.6e6, country="world")[0] == 473
    assert all(math.isnan(value) for value in co2e_g(math.nan, country="IND")[:3])


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"country": "Atlantis"}, "KEN Kenya"),
        ({"country": "KEN", "pue": 0.9}, "pue=0.9"),
        ({"country": "KEN", "pue": math.nan}, "pue=nan"),
    ],
)
def test_a_question_without_an_answer_lists_what_there_is(asked, message):
    with pytest.raises(ValueError, match=message):
        co2e_g(1.0, **asked)


def test_every_intensity_is_dated_sourced_and_plausible():
    rows = carbon.intensities()
    codes = {row["iso"] for row in rows}
    assert len(codes) > 60 and len(codes) == len(rows)
    wanted = "KEN NGA UGA ETH MWI RWA TZA SEN IND BGD IDN PER HTI WLD"
    assert {*wanted.split()} <= codes
    for row in rows:
        assert len(row["iso"]) == 3 and row["iso"].isupper() and row["country"]
        assert 2020 <= int(row["year"]) <= 2026 and 10 < float(row["g_per_kwh"]) < 1000
        assert "Ember" in row["source"]
