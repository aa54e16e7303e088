"""How long it will still take, and how that is shown."""

import io
from pathlib import Path

import pytest

from effml.reproduce import progress
from effml.reproduce.plan import Plan
from effml.reproduce.progress import Progress, Share, minutes_left, whole


def test_nothing_known_is_as_predicted():
    assert minutes_left([], [], [6.0, 3.0]) == 9.0
    assert minutes_left([], [], [6.0, 3.0], at_once=2) == 6.0  # the longest alone takes as long
    assert minutes_left([], [Share(6.0, 1.0, 0, 18)], []) == 5.0


def test_the_runs_within_a_notebook_tell_that_it_is_slow():
    """Predicted 6 minutes, but each of 18 runs takes 1.7: 31 minutes."""
    left = [minutes_left([], [Share(6.0, 1.7 * n, n, 18)], []) for n in range(19)]
    truth = [1.7 * (18 - n) for n in range(19)]
    assert left[5:] == pytest.approx(truth[5:])
    assert 0.25 * truth[1] < left[1] < left[3] <= truth[3]
    assert minutes_left([], [Share(6.0, 8.5, 5, 18)], [2.0]) == pytest.approx(truth[5] + 10.2)


def test_more_time_than_predicted_and_no_sign_still_leaves_some():
    assert whole(Share(1.0, 10.0, 0, 0)) > 10.0
    assert minutes_left([], [Share(1.0, 10.0, 0, 4)], []) > 0.5


def test_the_pace_of_those_that_ended_holds_for_those_that_wait():
    assert minutes_left([(1.0, 3.0), (1.0, 1.0)], [], [4.0]) == 8.0
    assert minutes_left([(1.0, 3.0)], [], []) == 0.0


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Running:
    def __init__(self, plan, minutes, runs):
        self.plan, self.minutes, self.runs = plan, minutes, lambda: runs


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch, terminal):
    screen = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr("sys.stdout", screen)
    costs = {"minutes": 2.0, "memory": 1.0, "runs": 8.0, "fetch": 0.0}
    plans = [Plan(Path(f"{n}_x.ipynb"), {}, costs, 2.0) for n in ("00", "01", "02")]
    shown = Progress(plans, 1)
    shown.show([Running(plans[0], 1.0, 4)], plans[1:])
    text = screen.getvalue()
    if terminal:
        assert "notebooks 0/3 (now 00), runs 4/24, about 5 min left" in text
    else:
        assert text == ""
    plans[0].status, plans[0].minutes = "ok", 2.0
    shown.ended(plans[0], [], plans[1:])
    plans[1].status, plans[1].minutes = "failed in cell 3 (x): E: a\nb", 2.0
    shown.ended(plans[1], [], plans[2:])
    shown.bar.close()
    said = screen.getvalue()[len(text) :]
    assert ("[1/3] 00_x ok · 2.0 min · about 4 min left" in said) != terminal
    assert "[2/3] 01_x failed in cell 3 (x): E: a · 2.0 min · about 2 min left" in said


def test_short_times_are_told_in_seconds():
    assert progress._told(0.2) == "about 12 s" and progress._told(12.4) == "about 12 min"
