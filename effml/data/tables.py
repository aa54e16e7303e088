"""The tables which the authors of PePR published (saintslab/PePR, MIT licence): found on this machine, checked, and read.

They are fetched by `python -m effml data get pepr`, like any public set; nothing of theirs is in this package.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from effml.data.catalogue import (
    PEPR_FILES,
    RemoteFile,
    advice,
    digest,
    folders,
    remote_files,
    valid,
)

if TYPE_CHECKING:
    import pandas


def published_table(
    name: str, *, root: str | os.PathLike | None = None, verify: bool = True
) -> "pandas.DataFrame":
    """One published table, such as "all_results" (1 048 rows: 131 models × 8 variants of three data sets), as it was published.

    Looked for in each data folder as `pepr/<name>.csv` and `tables/pepr_<name>.csv`, and as the latter beside it. Units: kWh,
    g CO2e, s, GB (10⁹ bytes), fractions. Raises ValueError for an unknown name and for a file whose MD5 is not that of the
    published one (`verify=False` reads it all the same), FileNotFoundError with the ways to get it.
    """
    import pandas

    if name not in PEPR_FILES:
        raise ValueError(
            f"There is no published table {name!r}. Choose from: {', '.join(PEPR_FILES)}"
        )
    file = remote_files("pepr")[list(PEPR_FILES).index(name)]
    paths = [path for path in places(file, root) if path.is_file()]
    right = [path for path in paths if valid(path, file)]
    if not paths:
        raise FileNotFoundError(
            f"{file.path} was not found in {', '.join(map(str, folders(root)))}. "
            f"{advice('pepr', [file], root)}"
        )
    if verify and not right:
        raise ValueError(
            f"{paths[0]} is not the published {name}: its MD5 is {digest(paths[0], 'md5')}, that of the published "
            f"file {file.md5}. Get it again (python -m effml data get pepr), or say verify=False if the change is "
            "meant."
        )
    return pandas.read_csv((right or paths)[0])


def published_tables(
    *, root: str | os.PathLike | None = None, verify: bool = True
) -> "dict[str, pandas.DataFrame]":
    """All published tables by name. Errors: see `published_table`."""
    return {name: published_table(name, root=root, verify=verify) for name in PEPR_FILES}


def local_tables(root: str | os.PathLike | None = None) -> list[Path]:
    """The published files on this machine, if all are here with the right MD5; else none."""
    found = [
        [path for path in places(file, root) if valid(path, file)] for file in remote_files("pepr")
    ]
    return [paths[0] for paths in found] if all(found) else []


def places(file: RemoteFile, root: str | os.PathLike | None = None) -> list[Path]:
    """Where a published table may lie, in order."""
    other = f"tables/pepr_{Path(file.path).name}"
    return [
        place
        for folder in folders(root)
        for place in (folder / file.path, folder / other, folder.parent / other)
    ]
