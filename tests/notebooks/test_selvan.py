"""The radar plot of notebook 62: each corner lies where its value lies between floor × minimum and
maximum."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

from selvan import radar


@pytest.fixture(autouse=True)
def no_window():
    matplotlib.use("agg")


def test_corners_lie_between_the_floor_and_the_largest_value():
    table = pd.DataFrame({"s": [10.0, 20.0], "J": [5.0, 5.0], "AUROC": [0.9, 0.8]}, ["a", "b"])
    axes = radar(table, labels={"s": "time"}, floor=0.5).axes[0]
    for line, row in zip(axes.lines, table.to_numpy()):
        low, high = 0.5 * table.min().to_numpy(), table.max().to_numpy()
        corners = (row - low) / (high - low)
        assert line.get_ydata() == pytest.approx(np.append(corners, corners[0]))
        assert line.get_xdata() == pytest.approx(2 * np.pi * np.array([0, 1 / 3, 2 / 3, 0]))
    assert [line.get_label() for line in axes.lines] == ["a", "b"]
    told = [text.get_text() for text in axes.get_xticklabels()]
    assert told == ["time\n5 … 20", "J\n2.5 … 5", "AUROC\n0.4 … 0.9"]
    assert len({line.get_marker() for line in axes.lines}) == 2


def test_a_column_of_one_value_without_a_floor_lies_at_the_centre():
    axes = radar(pd.DataFrame({"s": [1.0, 2.0], "J": [3.0, 3.0]}), floor=1.0).axes[0]
    assert [line.get_ydata()[1] for line in axes.lines] == [0, 0]
