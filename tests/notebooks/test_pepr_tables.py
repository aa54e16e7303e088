"""The published tables of PePR: found under either name, checked, and how to come by them."""

import hashlib

import pandas as pd
import pytest

import pepr.tables
from effml.machine import ROOT
from pepr import AUTHORS, published_table, published_tables, tables_at_hand
from pepr.tables import fetch_tables


@pytest.fixture
def stand_ins(no_data, tmp_path, monkeypatch):
    """Two small files in the place of the seven, and a folder of them."""
    contents = {"all_results": b"model,energy\na,1.5\n", "model_names": b"model\na\n"}
    known = {name: (hashlib.md5(text).hexdigest(), len(text)) for name, text in contents.items()}
    monkeypatch.setattr(pepr.tables, "FILES", known)
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
    for name in pepr.tables.FILES:
        path = tmp_path / place.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((stand_ins / f"{name}.csv").read_bytes())
    assert published_table("all_results", root=root).energy.tolist() == [1.5]
    assert list(published_tables(root=root)) == list(pepr.tables.FILES)
    here = [
        tmp_path / place.format(name) for name in pepr.tables.FILES
    ]  # nothing is fetched: no network here
    assert [path.resolve() for path in fetch_tables(root=root)] == here


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
    paths = fetch_tables(root=tmp_path / "new")
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
        match=r"pepr\.fetch_tables\(\)\. By hand: get "
        r"https.*saintslab/PePR/ce087aa/data/model_names.csv "
        r"\(MD5 abbb.*\) and put it there as pepr/model_names.csv\. Or .*pepr\.phantom_tables\(\)",
    ):
        published_table("model_names")
    with pytest.raises(ConnectionError, match=r"(?s)could not be fetched.*EFFML_OFFLINE"):
        fetch_tables()


def test_the_tables_to_show_are_phantoms_where_theirs_are_not(no_data, tmp_path):
    tables, whose = tables_at_hand("published|phantom")
    assert whose.startswith("phantom") and len(tables["model_names"]) == 24
    assert tables_at_hand("phantom")[0]["model_names"].equals(tables["model_names"])
    with pytest.raises(FileNotFoundError, match="pepr.fetch_tables"):
        tables_at_hand("published")
    with pytest.raises(ValueError, match="names 'mine'. Choose from: published, phantom"):
        tables_at_hand("mine")
    damaged = tmp_path / "data" / "pepr" / "all_results.csv"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("model\n")
    with pytest.raises(ValueError, match="is not the published all_results"):
        tables_at_hand("published|phantom")


def test_the_reference_shows_the_authors_results_without_their_tables(
    no_data, tmp_path, monkeypatch
):
    values = pd.DataFrame({"value": [0.1 + 0.2]}, pd.Index(["a"], name="claim"))
    monkeypatch.setenv("EFFML_KEEP", str(tmp_path / "kept"))
    assert pepr.kept("77-values", lambda: values, AUTHORS)[1] == AUTHORS
    with pytest.raises(FileNotFoundError, match="pepr.fetch_tables"):  # no made-up reference
        tables_at_hand("published|phantom")
    monkeypatch.delenv("EFFML_KEEP")
    monkeypatch.setenv("EFFML_REFERENCE", str(tmp_path / "kept"))
    _, whose = tables_at_hand("published|phantom")
    read, of = pepr.kept("77-values", lambda: values * 0, whose)
    assert whose.startswith("phantom") and of == AUTHORS
    pd.testing.assert_frame_equal(read, values)
    monkeypatch.delenv("EFFML_REFERENCE")
    assert pepr.kept("77-values", lambda: values, whose)[1] == whose


@pytest.mark.parametrize("path", sorted((ROOT / "results" / "reference").glob("7[0-57]-*.csv")))
def test_what_is_kept_comes_from_the_authors_tables(path):
    assert (pd.read_csv(path, comment="#").tables == AUTHORS).all()
