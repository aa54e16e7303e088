"""What a notebook leaves for the reference profile, and that this profile only reads it."""

import json

import numpy as np
import pandas
import pytest

import effml
from effml import Recipe, grid, kept, machine, sweep
from effml.reproduce.rewrite import keep_reference

ASKED = grid(Recipe(model="mlp", epochs=1, batch_size=400), seed=[0, 1])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with three runs, of which a notebook asks for two, and the reference made of it."""
    folder = tmp_path_factory.mktemp("made")
    store, keep, reference = folder / "store", folder / "keep", folder / "reference"
    sweep([ASKED[0].but(seed=7)], store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EFFML_KEEP", str(keep / "13"))
        first = sweep(ASKED, store)
        sweep(ASKED[:1], store)
        effml.at_hand("no-such-set|phantom-chest", size=28)
        kept("13-table", table)
    keep_reference("13", keep, reference)
    return store, reference, first


def table():
    index = pandas.MultiIndex.from_tuples([("a", 0.1), ("b", 0.2)], names=["start", "fraction"])
    values = {"x": [1 / 3, np.nan], "n": [7, 8], "told": ["0.5 [0.4, 0.6]", "007"]}
    return pandas.DataFrame(values, index=index)


@pytest.fixture
def reading(made, monkeypatch):
    monkeypatch.setenv("EFFML_REFERENCE", str(made[1]))
    monkeypatch.setattr("effml.sweeping.plan.run_fresh", None)  # nothing may run
    return made


def test_the_reference_holds_what_the_notebook_asked_for_once(made):
    lines = (made[1] / "runs-13.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["seed"] for line in lines) == [0, 1]
    names = {path.name for path in made[1].iterdir()}
    assert names == {"runs-13.jsonl", "13-table.csv", "answers.json"}


def test_a_sweep_reads_and_gives_the_same_rows(reading, tmp_path, capsys):
    _, _, first = reading
    read = sweep([*reversed(ASKED), ASKED[0]], tmp_path / "empty")
    assert read.recipe_id.tolist() == [ASKED[1].id, ASKED[0].id, ASKED[0].id]
    assert read.run_id.tolist() == [*reversed(first.run_id), first.run_id[0]]
    for name in ("test_auroc", "train_seconds", "params", "seed", "data", "status"):
        assert read[name].tolist()[:2] == first[name].tolist()[::-1], name
    assert "2 of 2 runs are read from the reference, made on: " in capsys.readouterr().err
    assert not (tmp_path / "empty").exists()


def test_own_runs_take_the_place_of_the_references_one_by_one(reading, tmp_path, capsys):
    store, reference, first = reading
    row = json.loads((reference / "runs-13.jsonl").read_text().splitlines()[0])
    where = first.run_id.tolist().index(row["run_id"])
    mine = {**row, "run_id": "mine", "test_auroc": 0.123}
    (tmp_path / "runs-x.jsonl").write_text(json.dumps(mine) + "\n")
    read = sweep(ASKED, tmp_path)
    assert read.run_id[where] == "mine" and read.run_id[1 - where] == first.run_id[1 - where]
    assert "1 of 2 runs are read from the reference" in (said := capsys.readouterr().err)
    assert "1 are your own: compare no seconds between machines" in said
    for wrong in ({"data_sha256": "other"}, {"status": "failed"}, {"numerics": 0}):
        (tmp_path / "runs-x.jsonl").write_text(json.dumps(mine | wrong) + "\n")
        assert "mine" not in sweep(ASKED, tmp_path).run_id.tolist(), wrong


def test_of_several_runs_of_a_recipe_the_newest_counts_in_the_reference_and_in_the_store(
    reading, tmp_path, monkeypatch
):
    """Two machines ran it, so that both rows stay; the reference has no column of the store's own."""
    row = json.loads((reading[1] / "runs-13.jsonl").read_text().splitlines()[0])
    asked = next(recipe for recipe in ASKED if recipe.id == row["recipe_id"])

    def write(folder, *names):
        folder.mkdir()
        for day, name in enumerate(names, 1):
            made = {"run_id": name, "device_name": name, "finished_utc": f"2030-01-0{day}T00:00:00"}
            with open(folder / "runs-13.jsonl", "a") as file:
                file.write(json.dumps(row | made | {f"own_{folder.name}": 1}) + "\n")
        return folder

    monkeypatch.setenv("EFFML_REFERENCE", str(write(tmp_path / "given", "old", "new")))
    read = sweep([asked], tmp_path / "empty")
    assert read.run_id.tolist() == ["new"]
    mine = sweep([asked], write(tmp_path / "store", "mine-old", "mine-new"))
    assert mine.run_id.tolist() == ["mine-new"] and list(mine) == list(read)


def test_a_notebook_reads_the_records_it_left_not_newer_ones_of_another_machine(
    reading, tmp_path, monkeypatch
):
    lines = (reading[1] / "runs-13.jsonl").read_text()
    (tmp_path / "runs-13.jsonl").write_text(lines)
    later = [json.loads(line) for line in lines.splitlines()]
    later = [row | {"device_name": "other", "finished_utc": "2030-01-01"} for row in later]
    (tmp_path / "runs-51.jsonl").write_text("".join(json.dumps(row) + "\n" for row in later[:1]))
    monkeypatch.setenv("EFFML_REFERENCE", str(tmp_path))
    monkeypatch.setenv("EFFML_REFERENCE_RUNS", "runs-13.jsonl")
    assert sweep(ASKED, tmp_path / "empty").device_name.nunique() == 1
    monkeypatch.setenv("EFFML_REFERENCE_RUNS", "runs-51.jsonl")
    assert (sweep(ASKED, tmp_path / "empty").device_name == "other").sum() == 1


def test_a_run_that_the_reference_lacks_is_an_error_and_is_not_done(reading, tmp_path):
    with pytest.raises(ValueError, match="lacks 1 of these 3 runs, the first: .*'seed': 7"):
        sweep([*ASKED, ASKED[0].but(seed=7)], tmp_path)


def test_a_kept_table_is_read_and_not_computed(reading):
    read = kept("13-table", None)
    pandas.testing.assert_frame_equal(read, table(), check_exact=True)
    with pytest.raises(FileNotFoundError, match="13-other.csv is not there. Run the notebook in"):
        kept("13-other", table)


@pytest.mark.parametrize(
    "column",
    [
        ["", "NA", "nan", "None", "01", "1e5", "True", "2020-01-01", " x ", 'q"u, o', "a\r\nb"],
        ["", ""],
        ["x", None, "NA", "1"],
        [None, "7"],
        [True, False],
        [1.0, 2.0],
        [np.nan, np.inf, -np.inf, 5e-324, 0.1 + 0.2, 1.7976931348623157e308],
        [np.nan, np.nan],
        [2**53 + 1, 2**63 - 1, -(2**63)],
        np.float32([0.1, 1 / 3, 3.4e38]),
        np.uint8([0, 255]),
        np.random.default_rng(0).lognormal(0, 20, 1000),
    ],
    ids=lambda column: str(column[0]),
)
@pytest.mark.parametrize("level", [None, "a level, its comma"])
def test_what_is_read_is_what_was_made(column, level, tmp_path, monkeypatch):
    """The oracle is what went in: values, kinds, index and names, computed and read alike."""
    made = pandas.DataFrame({"n": range(len(column)), "a, b": column})
    made = made.set_index(made.columns[1]).rename_axis(level) if level else made
    monkeypatch.setenv("EFFML_KEEP", str(tmp_path))
    computed = kept("13-x", lambda: made)
    monkeypatch.setenv("EFFML_REFERENCE", str(tmp_path))
    for table in (computed, kept("13-x", None)):
        pandas.testing.assert_frame_equal(table, made, check_exact=True)


def test_a_kept_table_is_a_csv_that_anybody_opens(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EFFML_KEEP", str(tmp_path))
    kept("13-table", table)
    assert (tmp_path / "13-table.csv").read_text().splitlines() == [
        "# index: text, float64; columns: float64, int64, text",
        "start,fraction,x,n,told",
        'a,0.1,0.3333333333333333,7,"0.5 [0.4, 0.6]"',
        "b,0.2,,8,007",
    ]
    assert capsys.readouterr() == ("", "")  # what is computed says nothing
    monkeypatch.setenv("EFFML_REFERENCE", str(tmp_path))
    kept("13-table", None)
    assert capsys.readouterr() == ("", "13-table is read from the reference\n")


def test_a_column_of_nothing_is_numbers_that_are_not_known():
    read = kept("13-x", lambda: pandas.DataFrame({"x": [None, None]}, dtype=object))
    assert read.x.dtype == float and read.x.isna().all()


def test_row_numbers_are_not_kept_and_objects_become_what_they_are():
    rows = pandas.DataFrame({"x": [1, 2], "yes": pandas.Series([True, False], dtype=object)})
    read = kept("13-x", lambda: rows.set_axis([5, 3]))
    pandas.testing.assert_frame_equal(read, rows.astype({"yes": bool}))


ONE = pandas.DataFrame({"x": [1, 2]})


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (ONE[:0], "gave an empty table: let it give a DataFrame with rows"),
        (pandas.DataFrame(), "gave an empty table"),
        ([1], "gave list: let it give a DataFrame"),
        (None, "gave NoneType"),
        (ONE.set_axis(["a", "b"]), "name each level of the table's index"),
        (ONE.set_index(pandas.MultiIndex.from_product([[0], [1, 2]], names=["a", None])), "name"),
        (ONE.assign(day=pandas.Timestamp("2020-01-01")), "the column 'day' would not come back"),
        (ONE.assign(of=pandas.Categorical(["a", "b"])), "the column 'of' would not come back"),
        (ONE.assign(y=[1, "x"]), "'y' would .* text of its own as its name, and numbers, True and"),
        (
            ONE.assign(y=["", None]),
            r"'y' would .* with empty texts, not with both.: .astype\(str\)",
        ),
        (ONE.assign(y=[True, None]), "the column 'y'"),
        (ONE.assign(y=pandas.array([1, None], dtype="Int64")), "the column 'y'"),
        (ONE.assign(y=[1j, 2]), "the column 'y'"),
        (ONE.rename(columns={"x": 1}), "the column .*1.* would not come back"),
        (ONE.rename(columns={"x": ""}), "the column '' would not come back"),
        (pandas.concat([ONE, ONE], axis=1), "the column 'x' would not come back"),
        (ONE.rename_axis("x"), "the column 'x' would not come back"),
        (pandas.concat({"y": ONE}, axis=1), r"the column \('y', 'x'\) would not come back"),
    ],
)
def test_what_a_csv_would_change_is_refused_with_what_to_do(made, said, tmp_path, monkeypatch):
    monkeypatch.setenv("EFFML_KEEP", str(tmp_path))
    with pytest.raises(ValueError, match=f"13-x: .*{said}"):
        kept("13-x", lambda: made)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../x", "a b", "", "13.x", "ä", "13-x\n"])
def test_a_name_that_is_no_file_of_the_reference_is_refused(name):
    with pytest.raises(ValueError, match="name a table by letters, digits, - and _, such as"):
        kept(name, table)


@pytest.mark.parametrize("path", sorted((machine.ROOT / "results/reference").glob("[0-9]*.csv")))
def test_the_reference_s_tables_are_as_kept_writes_them(path, tmp_path, monkeypatch):
    monkeypatch.setenv("EFFML_REFERENCE", str(path.parent))
    read = kept(path.stem, None)
    monkeypatch.delenv("EFFML_REFERENCE")
    monkeypatch.setenv("EFFML_KEEP", str(tmp_path))
    kept(path.stem, lambda: read)
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_answers_of_the_machine_are_those_of_the_reference(reading, monkeypatch):
    monkeypatch.setattr("effml.data.load._first", lambda *a: "another")
    assert effml.at_hand("no-such-set|phantom-chest") == "phantom-chest"
    assert effml.at_hand("unknown|ladder") == "another"
    assert machine.answer("never asked", lambda: "here") == "here"
    monkeypatch.delenv("EFFML_REFERENCE")
    assert effml.at_hand("no-such-set|phantom-chest") == "another"


def test_answers_are_kept_side_by_side_and_the_last_of_a_question_counts(tmp_path, monkeypatch):
    monkeypatch.setenv("EFFML_KEEP", str(tmp_path))
    for question, said in (("a", "1"), ("b", "2"), ("a", "3")):
        assert machine.answer(question, lambda: said) == said
    assert json.loads((tmp_path / "answers.json").read_text()) == {"a": "3", "b": "2"}


def test_a_notebook_made_anew_replaces_what_it_left(made, tmp_path):
    reference = tmp_path / "reference"
    reference.mkdir()
    for name in ("runs-13.jsonl", "13-old.csv", "runs-20.jsonl", "20-t.csv"):
        (reference / name).write_text("old")
    (reference / "answers.json").write_text('{"a": "1", "b": "2"}')
    (tmp_path / "13").mkdir()
    (tmp_path / "13" / "answers.json").write_text('{"b": "3"}')
    (tmp_path / "13" / "13-new.csv").write_text("new")
    keep_reference("13", tmp_path, reference)
    left = {path.name: path.read_text() for path in reference.iterdir()}
    assert json.loads(left.pop("answers.json")) == {"a": "1", "b": "3"}
    assert left == {"runs-20.jsonl": "old", "20-t.csv": "old", "13-new.csv": "new"}


def test_imagenet_weights_beside_the_data_are_found(tmp_path, monkeypatch):
    data, weights = tmp_path / "data", tmp_path / "weights"
    data.mkdir()
    weights.mkdir()
    (weights / "mobilenetv2_100.x.safetensors").touch()
    (weights / "mobilenetv2_100d.safetensors").touch()
    monkeypatch.setenv("EFFML_DATA", str(data))
    assert machine.imagenet_file("mobilenetv2_100").name == "mobilenetv2_100.x.safetensors"
    assert machine.imagenet_file("mobilenetv2") is None
    (data / "weights").mkdir()
    (data / "weights" / "mobilenetv2_100.safetensors").touch()
    assert machine.imagenet_file("mobilenetv2_100").parent == data / "weights"
    monkeypatch.setattr(machine, "ROOT", tmp_path)  # a relative folder is the project's
    monkeypatch.setenv("EFFML_DATA", "data")
    monkeypatch.chdir(weights)
    assert machine.imagenet_file("mobilenetv2_100").parent == data / "weights"
    monkeypatch.delenv("EFFML_DATA")
    assert machine.imagenet_file("mobilenetv2_100") is None


def test_the_weights_that_imagenet_stood_for_are_on_record_and_another_file_is_another_run(
    tmp_path, monkeypatch
):
    from effml.models import build_model, weights_bytes
    from effml.sweeping import pending

    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("EFFML_DATA", str(tmp_path))
    file = tmp_path / "weights" / "mobilenetv2_050.x.safetensors"
    file.write_bytes(weights_bytes(build_model("mobilenetv2_050", classes=2, size=28, seed=5)))
    recipe = Recipe(model="mobilenetv2_050", weights="imagenet", epochs=0)
    row = sweep([recipe], tmp_path / "store").iloc[0]
    assert row.status == "ok" and row.weights == "imagenet", row.reason
    assert len(row.weights_sha256) == 64
    assert pending([recipe], tmp_path / "store") == []
    file.write_bytes(weights_bytes(build_model("mobilenetv2_050", classes=2, size=28, seed=6)))
    assert pending([recipe], tmp_path / "store") == [recipe]
