"""The published tables of PePR: found under either name, checked, and how to come by them."""

import hashlib

import pandas as pd
import pytest

from effml.data import catalogue, published_table, published_tables
from effml.data.fetch import fetch, local_files, missing


@pytest.fixture
def stand_ins(no_data, tmp_path, monkeypatch):
    """Two small files in the place of the seven, and a folder of them."""
    contents = {"all_results": b"model,energy\na,1.5\n", "model_names": b"model\na\n"}
    monkeypatch.setattr(
        catalogue,
        "PEPR_FILES",
        {name: (hashlib.md5(text).hexdigest(), len(text)) for name, text in contents.items()},
    )
    monkeypatch.setattr("effml.data.tables.PEPR_FILES", catalogue.PEPR_FILES)
    mirror = tmp_path / "stick"
    mirror.mkdir()
    for name, text in contents.items():
        (mirror / f"{name}.csv").write_bytes(text)
    return mirror


@pytest.mark.parametrize(
    "place, root",
    [
        ("data/pepr/{}.csv", None),
        ("data/tables/pepr_{}.csv", None),
        ("tables/pepr_{}.csv", None),
        ("mine/pepr/{}.csv", "mine"),
    ],
)
def test_a_table_is_found_where_it_may_lie(stand_ins, tmp_path, place, root):
    for name in catalogue.PEPR_FILES:
        path = tmp_path / place.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((stand_ins / f"{name}.csv").read_bytes())
    assert published_table("all_results", root=root).energy.tolist() == [1.5]
    assert (
        set(published_tables(root=root)) == set(catalogue.PEPR_FILES)
        and missing("pepr", root=root) == []
    )
    assert fetch("pepr", root=root) == local_files("pepr", root=root)


def test_a_changed_table_is_an_error_and_may_be_read_deliberately(stand_ins, tmp_path):
    changed = tmp_path / "data" / "pepr" / "all_results.csv"
    changed.parent.mkdir(parents=True)
    changed.write_text("model,energy\na,2.5\n")
    with pytest.raises(
        ValueError, match="is not the published all_results: its MD5 is .* say verify=False"
    ):
        published_table("all_results")
    assert published_table("all_results", verify=False).energy.tolist() == [2.5]
    right = tmp_path / "tables" / "pepr_all_results.csv"  # a good copy elsewhere wins
    right.parent.mkdir()
    right.write_bytes((stand_ins / "all_results.csv").read_bytes())
    assert published_table("all_results").energy.tolist() == [1.5]


def test_the_tables_are_fetched_like_any_set(stand_ins, tmp_path, monkeypatch):
    monkeypatch.setenv("EFFML_MIRROR", str(stand_ins))
    assert len(missing("pepr")) == 2
    paths = fetch("pepr", root=tmp_path / "new", quiet=True)
    assert [str(path.relative_to(tmp_path)) for path in paths] == [
        "new/pepr/all_results.csv",
        "new/pepr/model_names.csv",
    ]
    assert isinstance(published_table("model_names", root=tmp_path / "new"), pd.DataFrame)


def test_errors_say_what_to_do(no_data):
    with pytest.raises(
        ValueError, match="no published table 'results'. Choose from: all_results, full_data"
    ):
        published_table("results")
    with pytest.raises(
        FileNotFoundError,
        match=r"(?s)data get pepr.*1\. Get https.*saintslab/PePR/ce087aa/data/model_names.csv.*"
        r"2\. Check its MD5.*3\. Put it into.*4\. Say python -m effml data verify pepr",
    ):
        published_table("model_names")
    with pytest.raises(
        ConnectionError,
        match=r"(?s)1\. Get these files.*2\. Check their MD5.*3\. Put them.*4\. Say.*phantom_tables",
    ):
        fetch("pepr", quiet=True)
    with pytest.raises(ValueError, match="pepr is a set of tables"):
        catalogue.find("pepr")


def test_the_tables_to_show_are_phantoms_where_theirs_are_not(no_data, tmp_path):
    from effml.notebook import tables_at_hand

    tables, whose = tables_at_hand("published|phantom")
    assert whose.startswith("phantom") and len(tables["model_names"]) == 24
    assert tables_at_hand("phantom")[0]["model_names"].equals(tables["model_names"])
    with pytest.raises(FileNotFoundError, match="data get pepr"):
        tables_at_hand("published")
    with pytest.raises(ValueError, match="names 'mine'. Choose from: published, phantom"):
        tables_at_hand("mine")
    damaged = tmp_path / "data" / "pepr" / "all_results.csv"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("model\n")
    with pytest.raises(ValueError, match="is not the published all_results"):
        tables_at_hand("published|phantom")
