"""Our own runs of the 131 architectures, as recipes for `effml.sweep`, cheapest first.

The authors' protocol, but for three things: images of the smallest size that a net takes, and not
below those of the data, instead of 256 px (those of the profile `paper`); the best epoch on
validation instead of the last; random first weights where ImageNet's are not at hand.
"""

from collections.abc import Iterable, Sequence
from itertools import product
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

IMAGES = {
    "ham10000_28": (6989, 1015, 2011),
    "lidc_nodules_64": (1048, 145, 295),
    "pneumoniamnist": (4708, 524, 624),
}
IMAGES["pneumoniamnist_reordered"] = IMAGES["pneumoniamnist"]
"""To train, validate and test on, for the order of the runs."""

FEW = 0.1
"""Of the nodules: 105 images, four steps an epoch."""

SHORT: dict[str, Any] = {"convolutions": "library"}
"""For trainings of seconds, which a choice of algorithms would outlast."""

SEEDS = (0, 1, 2)
SMALL = (1e6, 1e7)
"""Parameters of the architectures that several seeds and data sets were given."""


def cheapest(most: int | None = None, *, params: tuple[float, float] = (0, 1e9)) -> list[str]:
    """The paper's names of at most `most` architectures within these numbers of parameters."""
    table = effml.architectures().sort_values("step_s", kind="stable")
    return table.index[table.params.between(*params)][:most].tolist()


def size_of(name: str, least: int = 28) -> int:
    """The smallest side from `least` on that a net takes, in pixels; else the largest it takes."""
    taken = effml.architectures().sizes[name]
    return min((side for side in taken if side >= least), default=taken[-1])


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
        names: of architectures, as the paper has them; with imagenet gluon_xception65 is left out,
            whose weights timm lost.
        data: ladders, such as those of THREE.
        weights: random, imagenet; imagenet that is not to be had is a record, weights unavailable.
        shares: of the training images; a share below 1 is drawn within each class.
        seeds: one run for each.
        least: pixels of a side, at least, where a net takes as many.
        fields: other fields of the recipes, such as `epochs=1`.
    """
    table, found = effml.architectures(), [effml.at_hand(ladder) for ladder in data]
    asked = []
    for name, one, share in product(names, found, shares):
        of = table.loc[name]
        few = {"selection": "random_per_class", "train_fraction": share} if share < 1 else {}
        base = Recipe(data=one, model=of.timm, size=size_of(name, least))
        had = [start for start in weights if start == "random" or "." in of.timm]
        asked += effml.grid(base.but(**PROTOCOL | few | fields), weights=had, seed=list(seeds))
    return by_price(asked)


def by_price(recipes: Iterable[Recipe]) -> list[Recipe]:
    """Each once, cheapest first: by the seconds on one core that a pilot's step of each net tells,
    an image to evaluate being a fifth of one to train on."""
    of, each = effml.architectures().set_index("timm"), list(dict.fromkeys(recipes))

    def seconds(recipe: Recipe) -> float:
        net, (train, val, test) = of.loc[recipe.model], IMAGES.get(recipe.data, (1000, 200, 200))
        seen = recipe.epochs * (recipe.train_fraction * train + val / 5) + test / 5
        return net.step_s * (recipe.size / net.smallest) ** 2 * seen / recipe.batch_size

    return sorted(each, key=seconds)


def laptop(most: int = 20, **fields: Any) -> list[Recipe]:
    """As many small ones as fit six minutes of two cores, on 105 images of 32 px."""
    return runs(cheapest(most), [NODULES], shares=[FEW], least=32, **SHORT | fields)


def reference(**fields: Any) -> list[Recipe]:
    """For two cores and an hour: all of them on 105 images of 32 px, four steps an epoch (some take
    no image as small, and their records say so); and the twelve cheapest of SMALL that take 28 px
    on about as many images of three data sets, with three seeds. `effml.sweep(own.reference(),
    "mine")` does them; `results/reference/runs-grid-76.jsonl` holds them, and `runs-more-76.jsonl`
    those of the dearest, from another CPU."""
    asked, table = laptop(len(effml.architectures()), **fields), effml.architectures()
    twelve = [name for name in cheapest(params=SMALL) if table.smallest[name] == 28][:12]
    for data, share, least in ((SKIN, 0.015, 28), (NODULES, FEW, 32), (PNEUMONIA, 0.0223, 28)):
        asked += runs(twelve, [data], shares=[share], seeds=SEEDS, least=least, **SHORT | fields)
    return by_price(asked)


def gpu(**fields: Any) -> list[Recipe]:
    """For a GPU: all of them on a tenth of two data sets, then on all images, the data sets one
    after the other and each cheapest first."""
    asked = []
    for share in (0.1, 1.0):
        for data, side in ((NODULES, 64), (PNEUMONIA, 28)):
            asked += runs(cheapest(), [data], shares=[share], least=side, **fields)
    return asked
