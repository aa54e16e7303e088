"""How k-means, k-center and herding pick five of forty-one points in the plane."""

import torch
from matplotlib.figure import Figure

from effml.figures import COLOURS, subplots
from effml.selection import get_selector

SAID = {
    "kmeans": "k-means: nearest to the\nmiddle of each heap",
    "kcenter": "k-center: farthest from\nall that are chosen",
    "herding": "herding: keeps the mean (+)\nof the chosen in place",
}


def cloud() -> torch.Tensor:
    """A large heap, a small one, and three points alone: images as points of two features."""
    draw = torch.Generator().manual_seed(4)
    large = torch.randn(26, 2, generator=draw) * torch.tensor([0.8, 0.6])
    small = torch.randn(12, 2, generator=draw) * 0.35 + torch.tensor([3.6, 1.6])
    return torch.cat([large, small, torch.tensor([[2.4, -2.2], [5.4, -0.6], [-1.0, 2.6]])])


def draw(k: int = 5) -> Figure:
    """A panel for each selection: the chosen points with the number of their turn."""
    points = cloud()
    figure, axes = subplots(1, len(SAID), width=7.5, height=2.5, sharex=True, sharey=True)
    for axis, (name, words), colour in zip(axes, SAID.items(), COLOURS):
        axis.scatter(*points.T, s=16, color="0.8", linewidths=0)
        chosen = get_selector(name)(points, None, k, seed=0)
        axis.scatter(*points[chosen].T, s=90, color=colour)
        for turn, (x, y) in enumerate(points[chosen].tolist(), 1):
            place = {"ha": "center", "va": "center_baseline", "fontsize": 7, "color": "white"}
            axis.text(x, y, str(turn), **place)
        if name == "herding":
            axis.plot(*points.mean(0), "+", color="black", markersize=9, markeredgewidth=1.5)
        axis.set_title(words, fontsize=8)
        axis.set(xticks=[], yticks=[])
    axes[0].set(xlabel="feature 1", ylabel="feature 2")
    return figure
