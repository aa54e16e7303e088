"""What each selector keeps of a few points, worked out by hand; AssertionError where one does not."""

import numpy as np
import torch


def check_by_hand(get_selector):
    points = [[0, 0], [0.8, 0.3], [0.3, 1.1], [4, 4], [4.5, 3.8], [8, 0.5], [7.6, 0], [3.1, 7]]
    points, size, worths = np.array(points), np.linalg.norm, {}
    unit = (points - points.mean(0)) / size(points - points.mean(0), axis=1, keepdims=True)
    likeness = (1 + unit @ unit.T) / 2
    worths["kcenter"] = lambda i, chosen: min(size(points[i] - points[j]) for j in chosen)
    worths["herding"] = lambda i, chosen: -size(points.mean(0) - points[[*chosen, i]].mean(0))
    worths["facility_location"] = lambda i, chosen: likeness[:, [*chosen, i]].max(1).sum()

    def by_hand(worth, chosen, k):
        while len(chosen) < k:
            values = [-np.inf if i in chosen else worth(i, chosen) for i in range(len(points))]
            chosen = [*chosen, int(np.argmax(values))]
        return chosen

    for name, worth in worths.items():
        found = get_selector(name)(torch.tensor(points), None, 5, seed=0).tolist()
        first = found[:1] if name == "kcenter" else []  # k-center starts at random
        expected = by_hand(worth, first, 5)
        if found != expected:
            raise AssertionError(
                f"{name} gives {found}, by hand {expected}: the selector is broken"
            )
    groups, h = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1]), torch.tensor([[0.0], [0.0], [3.0]])
    p = [[0.5, 0.5, 0.0], [0.45, 0.3, 0.25], [0.6, 0.2, 0.2]]  # of three images whose label is 0
    right, wrong = [1.0, 0, 0], [0, 1.0, 0]
    history = [[wrong, right, wrong], [wrong] * 3, [right] * 3]  # forgotten, unlearnt, right
    expected = {"least_confidence": [1, 0, 2], "margin": [0, 1, 2], "entropy": [1, 2, 0]}
    expected |= {"el2n": [0, 1, 2], "grand": [2, 0, 1], "clean": [2, 1, 0]}
    expected |= {"forgetting": [1, 0, 2], "el2n over epochs": [1, 0, 2]}
    for name, order in expected.items():
        scores = torch.tensor(history if name in ("forgetting", "el2n over epochs") else p)
        found = get_selector(name.split()[0])(h, torch.zeros(3), 3, scores=scores).tolist()
        if found != order:
            raise AssertionError(f"{name} gives {found}, by hand {order}: the selector is broken")
    near = [size(points - points[groups == c].mean(0), axis=1).argmin() for c in (0, 1)]
    found = sorted(get_selector("kmeans_per_class")(torch.tensor(points), groups, 2).tolist())
    if found != near:
        raise AssertionError(f"kmeans_per_class is broken: {found}, not {near}, near the means")
    # four heaps: of three points the middle one, of two points either, and a point alone
    heaps = [[1, 3, 5, 7], [1, 3, 6, 7], [1, 4, 5, 7], [1, 4, 6, 7]]
    for seed in range(5):
        found = sorted(get_selector("kmeans")(torch.tensor(points), None, 4, seed=seed).tolist())
        if found not in heaps:
            raise AssertionError(f"kmeans takes {found}, not one of each heap: it is broken")
    # six of eight, where the classes have three and five
    for name, right in {"class_balanced": [3, 3], "herding_per_class": [2, 4]}.items():
        kept = groups[get_selector(name)(torch.tensor(points), groups, 6)].bincount().tolist()
        if kept != right:
            raise AssertionError(f"{name} keeps {kept} of the classes, not {right}: it is broken")
    draws = []
    for seed in range(400):
        draws += get_selector("random")(torch.tensor(points), None, 2, seed=seed).tolist()
    if abs(np.bincount(draws, minlength=8) / 400 - 2 / 8).max() > 0.1:  # four standard errors
        raise AssertionError("random does not draw every image equally often: it is broken")
