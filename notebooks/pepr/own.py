"""Our own runs of the 131 architectures, as recipes for `effml.sweep`, cheapest first.

The authors' protocol, but for three things: images of the smallest size that a net takes, and not
below those of the data, instead of 256 px (`paper` alone has these); the best epoch on validation
instead of the last; random first weights where ImageNet's are not at hand.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import effml
from effml import Recipe

PROTOCOL: dict[str, Any] = {
    "epochs": 10,
    "batch_size": 32,
    "optimizer": "adam",
    "learning_rate": 5e-4,
    "schedule": "constant",
}
SKIN, NODULES = "ham10000_28|phantom-skin", "lidc_nodules_64|phantom-nodule"
PNEUMONIA = "pneumoniamnist|pneumoniamnist_reordered|phantom-chest"
THREE = (SKIN, NODULES, PNEUMONIA)

IMAGES = {"ham10000_28": 6989, "lidc_nodules_64": 1048, "pneumoniamnist_reordered": 4708}
IMAGES["pneumoniamnist"] = IMAGES["pneumoniamnist_reordered"]
"""To train on, for the order of the runs; others count as 1000."""

SEEDS = (0, 1, 2)
SMALL = (1e6, 1e7)
"""Parameters of the architectures that several seeds and data sets were given."""


def cheapest(most: int | None = None, *, params: tuple[float, float] = (0, 1e9)) -> list[str]:
    """The paper's names of at most `most` architectures within these numbers of parameters."""
    table = effml.architectures().sort_values("step_s", kind="stable")
    return table.index[table.params.between(*params)][:most].tolist()


def size_of(name: str, least: int = 28) -> int | None:
    """The smallest side from `least` on that a net takes, in pixels; None: none that was tried."""
    return next((side for side in effml.architectures().sizes[name] if side >= least), None)


def runs(
    names: Iterable[str],
    data: Iterable[str] = THREE,
    *,
    weights: Sequence[str] = ("random",),
    shares: Iterable[float] = (1.0,),
    seeds: Iterable[int] = (0,),
    least: int = 28,
    **fields: Any,
) -> list[Recipe]:
    """The recipes of a part of the grid, cheapest first.

    Args:
        names: of architectures, as the paper has them. Left out: those that take no image of
            `least` px or more; with imagenet, gluon_xception65, whose weights timm lost.
        data: ladders, such as those of THREE.
        weights: random, imagenet; imagenet that is not to be had is a record, weights unavailable.
        shares: of the training images; a share below 1 is drawn within each class.
        seeds: one run for each.
        least: pixels of a side, at least.
        fields: other fields of the recipes, such as `epochs=1`.
    """
    table, found = effml.architectures(), [effml.at_hand(ladder) for ladder in data]
    priced = []
    for name in names:
        of, size = table.loc[name], size_of(name, least)
        had = [one for one in weights if one == "random" or "." in of.timm]
        for one in found if size else ():
            base = Recipe(data=one, model=of.timm, size=size).but(**PROTOCOL | fields)
            for share in shares:
                few = {"selection": "random_per_class", "train_fraction": share}
                part = base.but(**few) if share < 1 else base
                price = of.step_s * (size / of.smallest) ** 2 * share * IMAGES.get(one, 1000)
                priced += [(price, r) for r in effml.grid(part, weights=had, seed=list(seeds))]
    return [recipe for _, recipe in sorted(priced, key=lambda pair: pair[0])]


def smoke(**fields: Any) -> list[Recipe]:
    """Four tiny ones on a phantom."""
    return runs(cheapest(4), ["phantom-chest"], **{"epochs": 2, **fields})


def laptop(most: int = 12, **fields: Any) -> list[Recipe]:
    """As many small ones as fit six minutes of two cores, on a twentieth of the images."""
    return runs(cheapest(most), [PNEUMONIA], shares=[0.05], **fields)


def paper(**fields: Any) -> list[Recipe]:
    """All of them as the authors trained them, at 256 px or the next size that a net takes."""
    how: dict[str, Any] = {"weights": ["imagenet", "random"], "shares": [0.1, 1.0], "least": 256}
    return runs(cheapest(), **how | fields)


def reference(**fields: Any) -> list[Recipe]:
    """Every one that builds on one data set, and the twelve cheapest of SMALL on three with three
    seeds, at the smallest sizes and on few images: for two cores and 75 minutes."""
    every = runs(cheapest(), [PNEUMONIA], shares=[0.05], **fields)
    twelve = cheapest(12, params=SMALL)
    for data, share in ((SKIN, 0.05), (NODULES, 0.2), (PNEUMONIA, 0.05)):
        every += runs(twelve, [data], shares=[share], seeds=SEEDS, **fields)
    return list(dict.fromkeys(every))


def gpu(**fields: Any) -> list[Recipe]:
    """For a GPU: all of them on a tenth of two data sets, then on all images, the data sets one
    after the other and each cheapest first."""
    asked = []
    for share in (0.1, 1.0):
        for data, side in ((PNEUMONIA, 28), (NODULES, 64)):
            asked += runs(cheapest(), [data], shares=[share], least=side, **fields)
    return asked
