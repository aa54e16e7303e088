"""The tables which the authors of PePR published (saintslab/PePR, MIT licence): found on this
machine, checked, fetched, read.

Nothing of theirs is in this project: `pepr.fetch_tables()` gets them (1 MB), once.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pandas

import effml
from effml.data.catalogue import RemoteFile
from effml.data.fetch import download
from effml.data.places import digest, folders, valid
from effml.machine import keep_folder
from pepr.phantom import DEFECTS, phantom_tables

FILES = {  # at commit ce087aa: MD5 and bytes
    "all_results": ("6ed17e211d0e9a24ab8d85e1a0bab560", 368_654),
    "full_data_pepr_dataset_level": ("97638cd70d2abd60c1a67d61101e7fe1", 529_989),
    "full_data_pepr_imagenet": ("a7be9d12453873e9751b4af28357b17e", 15_913),
    "model_names": ("abbb3839fa03cd755975ae5d8659d69e", 8_305),
    "results-imagenet": ("b9c63e97b0f128371f25b97090f74520", 113_785),
    "regions_papers_data_2013": ("3d93f51342d6164baa51f10e6cb0a4fa", 11_884),
    "regions_papers_data_2023": ("09f86ac61ed1b365bf43c39b0441bce5", 13_587),
}
AUTHORS = "the authors' tables"
URLS = (
    "https://raw.githubusercontent.com/saintslab/PePR/ce087aa/data/",
    "https://github.com/saintslab/PePR/raw/ce087aa/data/",
)


def published_table(
    name: str, *, root: str | os.PathLike | None = None, verify: bool = True
) -> pandas.DataFrame:
    """One published table, such as "all_results" (1 048 rows: 131 models × 8 variants of three data
    sets), as it was published.

    Looked for in each data folder as `pepr/<name>.csv` and `tables/pepr_<name>.csv`, and as the
    latter beside it. Units: kWh, g CO2e, s, GB (10⁹ bytes), fractions. Raises ValueError for an
    unknown name and for a file whose MD5 is not that of the published one (`verify=False` reads it
    all the same), FileNotFoundError with the ways to get it.
    """
    file = _remote(name)
    paths = [path for path in _places(file, root) if path.is_file()]
    right = [path for path in paths if valid(path, file)]
    if not paths:
        raise FileNotFoundError(
            f"{file.path} was not found in {', '.join(map(str, folders(root)))}. With a network, "
            "in this folder: import pepr; pepr.fetch_tables(). By hand: get "
            f"{file.urls[0]} (MD5 {file.md5}) and put it there as {file.path}. Or read made-up "
            "tables of the same form: pepr.phantom_tables()"
        )
    if verify and not right:
        raise ValueError(
            f"{paths[0]} is not the published {name}: its MD5 is {digest(paths[0], 'md5')}, that "
            f"of the published file {file.md5}. Delete it and get it again (pepr.fetch_tables()), "
            "or say verify=False if the change is meant."
        )
    return pandas.read_csv((right or paths)[0])


def published_tables(
    *, root: str | os.PathLike | None = None, verify: bool = True
) -> dict[str, pandas.DataFrame]:
    """All published tables by name. Errors: see `published_table`."""
    return {name: published_table(name, root=root, verify=verify) for name in FILES}


def fetch_tables(*, root: str | os.PathLike | None = None) -> list[Path]:
    """Get those of the published tables that are not here yet into the first data folder; where
    they all lie.

    Mirrors, checks and errors are those of `effml.fetch`.
    """
    here = tables_here(root=root)
    return [here.get(name) or download(_remote(name), folders(root)[0]) for name in FILES]


def tables_here(*, root: str | os.PathLike | None = None) -> dict[str, Path]:
    """Where those of the published tables lie, whole, that are on this machine."""
    files = {name: _remote(name) for name in FILES}
    found = ((name, p) for name, f in files.items() for p in _places(f, root)[::-1] if valid(p, f))
    return dict(found)  # the first place in order comes last


def tables_at_hand(ladder: str = "published|phantom") -> tuple[dict[str, pandas.DataFrame], str]:
    """The tables to show, and a word on whose they are: the authors' where they lie on this
    machine, else made-up ones of the same form with the same kinds of defects. A damaged file is an
    error, not a rung; so is a ladder without a way down, and made-up tables where the reference is
    made."""
    rungs = [rung.strip() for rung in ladder.split("|")]
    if unknown := [rung for rung in rungs if rung not in ("published", "phantom")]:
        raise ValueError(
            f"tables={ladder!r} names {unknown[0]!r}. Choose from: published, phantom, "
            "published|phantom"
        )
    if rungs[0] == "published":
        try:
            return published_tables(), AUTHORS
        except FileNotFoundError:
            if "phantom" not in rungs or keep_folder():
                raise
    made_up = phantom_tables(defects=DEFECTS)
    return made_up, "phantom (made-up) tables; the authors': pepr.fetch_tables()"


def kept(
    name: str, make: Callable[[], pandas.DataFrame], whose: str
) -> tuple[pandas.DataFrame, str]:
    """`effml.kept` of what was computed from the tables, and whose tables these were: `whose`, or
    the authors' where the reference is read, on a machine without them too."""
    table = effml.kept(name, lambda: make().assign(tables=whose))
    return table.drop(columns="tables"), table.tables.iloc[0]


def _remote(name: str) -> RemoteFile:
    if name not in FILES:
        raise ValueError(f"There is no published table {name!r}. Choose from: {', '.join(FILES)}")
    md5, count = FILES[name]
    return RemoteFile(f"pepr/{name}.csv", tuple(f"{url}{name}.csv" for url in URLS), md5, count)


def _places(file: RemoteFile, root: str | os.PathLike | None) -> list[Path]:
    """Where a published table may lie, in order."""
    other = f"tables/pepr_{Path(file.path).name}"
    return [
        place
        for folder in folders(root)
        for place in (folder / file.path, folder / other, folder.parent / other)
    ]
