"""The radar plot of notebook 62: each corner lies where its value lies between the ends of its
axis."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

from selvan import paper_ranges, radars


@pytest.fixture(autouse=True)
def no_window():
    matplotlib.use("agg")


def test_corners_lie_between_the_ends_of_their_axes():
    table = pd.DataFrame({"s": [10.0, 20.0], "J": [5.0, 5.0], "AUROC": [0.9, 0.8]}, ["a", "b"])
    zero = pd.Series({"AUROC": 0.5, "J": 0.0, "s": 0.0}), pd.Series({"AUROC": 1, "s": 20, "J": 5})
    ranges = {"paper": paper_ranges(table, floor=0.5), "from zero": zero}
    figure = radars(table, ranges, labels={"s": "time"})
    for axes, (title, (low, high)) in zip(figure.axes, ranges.items(), strict=True):
        assert axes.get_title() == title
        for line, (_, row) in zip(axes.lines, table.iterrows(), strict=True):
            corners = [(row[c] - low[c]) / (high[c] - low[c]) for c in table]
            assert line.get_ydata() == pytest.approx([*corners, corners[0]])
            assert line.get_xdata() == pytest.approx(2 * np.pi * np.array([0, 1 / 3, 2 / 3, 0]))
        assert [line.get_label() for line in axes.lines] == ["a", "b"]
        assert len({line.get_marker() for line in axes.lines}) == 2
    told = [[text.get_text() for text in axes.get_xticklabels()] for axes in figure.axes]
    assert told[0] == ["time\n5 … 20", "J\n2.5 … 5", "AUROC\n0.4 … 0.9"]
    assert told[1] == ["time\n0 … 20", "J\n0 … 5", "AUROC\n0.5 … 1"]


def test_a_column_of_one_value_without_a_floor_lies_at_the_centre():
    table = pd.DataFrame({"s": [1.0, 2.0], "J": [3.0, 3.0]})
    axes = radars(table, {"": paper_ranges(table, floor=1.0)}).axes[0]
    assert [line.get_ydata()[1] for line in axes.lines] == [0, 0]
