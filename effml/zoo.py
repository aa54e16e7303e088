"""The 131 architectures of PePR (Selvan et al. 2024), as timm 1.0.31 builds them: pepr_models.csv.

Names, parameters, type and efficient mark are those of the authors' table (saintslab/PePR, MIT
licence); the rest was found with timm.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

SIZES = (28, 32, 48, 64, 96, 128, 160, 192, 224, 240, 256, 288, 299, 331)
"""Sides, in pixels, that were tried for `sizes`."""


def architectures() -> "pandas.DataFrame":
    """The 131 architectures of PePR, in the order of their parameters.

    Returns:
        A row per architecture, its name in the paper the index: `timm` (the name with the tag of
        its ImageNet weights, for `Recipe(model=…)`), `params` as published, with ImageNet's head,
        `kind` (CNN or Other) and `efficient` as the authors say, `sizes` (a tuple: of `zoo.SIZES`
        those it takes) and `smallest` of them, `macs` of one grey image of that size, `step_s` (a
        training step of 32 such images on one core, seconds, for order only), `note`; of the
        weights `hub` and `revision`, the `sha256` of model.safetensors there, and `pth_sha256`, the
        first digits of that of timm's older file. An empty text is unknown.

    Example:
        >>> of = effml.architectures().loc["gluon_resnet34_v1b"]
        >>> of.timm, int(of.params), of.sizes[:2]
        ('resnet34.gluon_in1k', 21797672, (28, 32))
    """
    return _table().copy()


@cache
def _table() -> "pandas.DataFrame":
    import pandas

    file = Path(__file__).with_name("pepr_models.csv")
    table = pandas.read_csv(file, index_col="name", keep_default_na=False, dtype={"sizes": str})
    sizes = table.sizes.map(lambda told: tuple(map(int, told.split())))
    table["sizes"], table["efficient"] = sizes, table.efficient.astype(bool)
    table.insert(5, "smallest", sizes.map(lambda taken: taken[0]))
    return table


def pin(name: str) -> dict[str, str]:
    """Of the weights of a name of timm with its tag `hub`, `revision` and `sha256`, each empty
    where it is not known."""
    rows = _table()[["timm", "hub", "revision", "sha256"]].set_index("timm").to_dict("index")
    return rows.get(name, {"hub": "", "revision": "", "sha256": ""})
