import json
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from io import BytesIO

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

from effml import reproduce
from effml.reproduce import collection, execution, places, plan
from effml.reproduce.rewrite import _smaller

PASSPORT = (
    "# 00 · x\n\n| | smoke | laptop | paper |\n|---|---|---|---|\n| minutes | 1 | 2 | 3 |\n"
    "| minutes, AVX2 | 2 | 4 | 6 |\n"
    "| memory, MB | 1 | 1 | 1 |\n"
    "| runs | {runs} | {runs} | {runs} |\n| fetch, MB | 0 | 0 | 0 |"
)


@pytest.fixture
def house(tmp_path, monkeypatch):
    """An empty collection in a folder of its own: `write(name, code)` adds a notebook."""
    for name, folder in (
        ("NOTEBOOKS", "notebooks"),
        ("LOCAL", "results/local"),
        ("SMOKE", "tests/smoke"),
        ("REFERENCE", "results/reference"),
        ("ROOT", ""),
    ):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(places, name, tmp_path / folder)
    (tmp_path / "notebooks" / "profiles").mkdir()
    (tmp_path / "effml").mkdir()
    (tmp_path / "effml" / "a.py").write_text("x = 1")

    def write(name, code, runs=1, given=""):
        cells = [
            new_markdown_cell(PASSPORT.format(runs=runs)),
            new_code_cell(
                f'n: int = 1  # a number\nstore: str = "x"  # a folder\n{given}',
                metadata={"tags": ["parameters"]},
            ),
            new_code_cell(code),
        ]
        nbformat.write(
            new_notebook(cells=cells, metadata={"language_info": {"name": "python"}}),
            tmp_path / "notebooks" / name,
        )

    write.root = tmp_path
    write.profile = lambda text: (tmp_path / "notebooks" / "profiles" / "smoke.yml").write_text(
        text
    )
    return write


class Ended:
    """A notebook that ran well, in no time."""

    def __init__(self, asked, out):
        self.plan, self.out, self.begun, self.minutes = asked, out / asked.path.name, 0.0, 0.5
        out.mkdir(parents=True, exist_ok=True)
        self.out.write_bytes(asked.path.read_bytes())

    def failure(self):
        return ""


@pytest.fixture
def ran(monkeypatch):
    """The names of the notebooks that `reproduce` runs: what runs is the subject here, not how."""
    names = []

    def execute(plans, out, **_):
        for number, asked in enumerate(plans, 1):
            names.append(asked.name)
            yield [Ended(asked, out)], [], plans[number:]

    monkeypatch.setattr(collection, "execute", execute)

    def call(*only):
        names.clear()
        assert reproduce.reproduce("smoke", only) == 0
        return list(names)

    return call


def test_a_second_call_does_nothing_and_a_change_runs_again_what_depends_on_it(house, ran, capsys):
    (house.root / "effml" / "b.py").write_text("from effml import a")
    (house.root / "notebooks" / "own.py").write_text("y = 1")
    (
        house("00_a.ipynb", "import effml.b"),
        house("70_c.ipynb", "1"),
        house("71_d.ipynb", "import own"),
    )
    assert ran() == ["00_a", "70_c", "71_d"]
    out = capsys.readouterr().out
    for text in ("3 of 3 notebooks to run", "00_a", "Files written: 4. ", "ok"):
        assert text in out
    assert ".npz" not in out and len(out.splitlines()) < 15
    assert ran() == [] and "0 of 3 notebooks" in capsys.readouterr().out
    house("00_a.ipynb", "import effml.b  # changed")
    assert ran() == ["00_a"]
    house.profile("'70': {n: 5}")
    assert ran() == ["70_c"]
    (house.root / "results" / "local" / "runs-x.jsonl").write_text("{}\n")  # nobody reads records
    assert ran() == []
    (house.root / "effml" / "a.py").write_text("x = 2")
    assert ran() == ["00_a"]  # by way of b
    (house.root / "notebooks" / "own.py").write_text("y = 2")
    assert ran() == ["71_d"]
    (house.root / "results" / "local" / "smoke" / "70_c.ipynb").unlink()
    assert ran() == ["70_c"]


@pytest.mark.parametrize(
    "given",
    [
        'own: list = ["nothing", ["mine.npz|phantom-chest"]]  # a path, as the notebook sees it',
        'tables: str = "published|phantom"  # the tables of PePR',
    ],
)
def test_other_data_or_tables_run_again_what_names_them(house, ran, monkeypatch, given):
    monkeypatch.setenv("EFFML_DATA", str(house.root))
    (house.root / "pepr").mkdir()
    house("00_a.ipynb", "1", given=given), house("70_b.ipynb", "1")
    assert ran() == ["00_a", "70_b"]
    for content in (b"one", b"two"):  # the second changes neither name nor size
        for path in (house.root / "notebooks" / "mine.npz", house.root / "pepr" / "all.csv"):
            path.write_bytes(content)
        assert ran() == ["00_a"]
        assert ran() == []


RECORD = {"recipe_id": "r1", "run_id": "r1-1", "status": "ok", "data": "phantom-chest", "seed": 0}


@pytest.mark.parametrize("status, again", [("failed", True), ("unsupported", False)])
def test_a_run_that_failed_is_told_and_tried_again_unless_it_must_fail(
    house, ran, monkeypatch, capsys, status, again
):
    house("00_a.ipynb", "1")
    lost = {"status": status, "reason": "no luck", "finished_utc": "9999-01-01T00:00:00.000+00:00"}
    write_record(house.root / "results" / "local", "r1-1", **lost)
    assert ran() == ["00_a"]
    assert "00_a: ok, but 1 runs failed meanwhile, the first: no luck" in capsys.readouterr().out
    assert ran() == ["00_a"] * again


def write_record(folder, name, **fields):
    line = json.dumps({**RECORD, "run_id": name, **fields})
    (folder / f"runs-{name}.jsonl").write_text(line + "\n")


@pytest.mark.parametrize(
    "code, others_count",
    [
        ("runs = effml.own_or_reference(store, data=data, seed=[0, 1])", False),
        ("runs = effml.own_or_reference(store, lambda runs: runs[runs.seed == 0])", True),
        ("seed = 0\nruns = effml.own_or_reference(store, data=data, seed=seed)", True),
        ("data = 'b'\nruns = effml.own_or_reference(store, data=data)", True),
        ("runs = effml.load_runs(store)", True),
        ("runs = effml.own_or_reference('elsewhere', data=data)", True),
        ("asked = {'seed': 0}\nruns = effml.own_or_reference(store, **asked)", True),
        ("import own\nruns = effml.own_or_reference(store, seed=0), own.more(store)", True),
    ],
)
def test_records_count_only_for_a_notebook_that_reads_them(house, ran, code, others_count):
    (house.root / "notebooks" / "own.py").write_text("from effml import load_runs as more")
    store = house.root / "results" / "local"
    house("62_a.ipynb", f"import effml\n{code}", given='data: str = "phantom-chest"  # a set')
    house("70_b.ipynb", "1")
    assert ran() == ["70_b", "62_a"]  # who reads records comes last
    write_record(store, "r1-2", data="breastmnist", seed=7)
    assert ran() == ["62_a"] * others_count
    write_record(store, "r1-3")
    assert ran() == ["62_a"]
    assert ran() == []


def test_a_failing_notebook_is_kept_its_cell_named_and_the_others_go_on(house, capsys):
    house("00_a.ipynb", "before = 1\n1 / 0"), house("62_b.ipynb", "print(n)")
    house("70_c.ipynb", "import os\nos._exit(3)")
    assert reproduce.reproduce("smoke") == 1
    out = capsys.readouterr().out
    assert "00_a failed in cell 3 (before = 1): ZeroDivisionError" in out
    assert "It is kept, with the error, as results/local/smoke/00_a.ipynb; what it printed" in out
    kept = json.loads((house.root / "results" / "local" / "smoke" / "00_a.ipynb").read_text())
    assert any(
        o.get("ename") == "ZeroDivisionError"
        for cell in kept["cells"]
        for o in cell.get("outputs", [])
    )
    assert (house.root / "results" / "local" / "smoke" / "62_b.ipynb").exists()
    assert "70_c failed: its process ended with exit status 1; see its log" in out
    log = (house.root / "results" / "local" / "smoke" / "log.txt").read_text()
    assert "DeadKernelError" in log.partition("=== 70_c")[2]
    house("00_a.ipynb", "fine = 1"), house("70_c.ipynb", "fine = 1")
    assert reproduce.reproduce("smoke") == 0


def test_two_run_at_a_time_share_the_cores_and_print_into_the_log(house, monkeypatch, capfd):
    """Each of the two waits for the other: one after another neither would end well."""
    monkeypatch.setattr(collection, "cores", lambda: 2)
    monkeypatch.setattr(execution, "cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS")
    wait = (
        "import os, sys, time\nfrom pathlib import Path\nPath('{0}').touch()\n"
        "print('heard of {0}', file=sys.stderr); os.system('echo written by {0}')\n"
        "assert os.environ['OMP_NUM_THREADS'] == '3'\nend = time.time() + 60\n"
        "from ipykernel import get_connection_info\n"
        "assert '\"ipc\"' in get_connection_info()  # no ports for which two could race\n"
        "while not Path('{1}').exists():\n    assert time.time() < end\n    time.sleep(0.01)"
    )
    house("00_a.ipynb", wait.format("a", "b")), house("10_b.ipynb", wait.format("b", "a"))
    assert reproduce.reproduce("smoke") == 0
    shown = "".join(capfd.readouterr())
    assert "two at a time" in shown and "[2/2]" in shown
    assert "heard" not in shown and "written by" not in shown and "WARNING" not in shown
    log = (house.root / "results" / "local" / "smoke" / "log.txt").read_text()
    assert "heard of a" in log and "heard of b" in log and log.count("===") == 2
    assert not list((house.root / "results" / "local" / "smoke").glob("*.log"))


def test_two_at_a_time_only_where_there_is_memory_for_both(house, monkeypatch):
    house("00_a.ipynb", "1"), house("10_b.ipynb", "1")
    both = reproduce.make_plan("smoke")
    one = execution.Execution(both[0], house.root, house.root, None, 0.0)
    for gigabytes, fits in (("0.0021", True), ("0.0019", False)):  # 1 MB each
        monkeypatch.setenv("EFFML_MEMORY_GB", gigabytes)
        assert execution._fits(both[1], [one]) == fits and execution._fits(both[1], [])


def test_an_interrupted_collection_leaves_no_process_and_its_log(house, monkeypatch, capsys):
    house("00_a.ipynb", "import sys, time\nprint('so far', file=sys.stderr)\ntime.sleep(600)")

    def interrupt(self, running, waiting):
        if running and b"so far" in running[0].log.read_bytes():
            left.extend(running)
            raise KeyboardInterrupt

    left = []
    monkeypatch.setattr(collection.Progress, "show", interrupt)
    assert reproduce.reproduce("smoke") == 1
    assert "the next call goes on" in capsys.readouterr().out
    assert left[0].process.poll() is not None
    assert "so far" in (house.root / "results" / "local" / "smoke" / "log.txt").read_text()
    assert json.loads((house.root / "results/local/smoke/state.json").read_text()) == {}


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_a_collection_that_is_told_to_end_ends_its_notebooks_too(tmp_path):
    """`kill`, a batch system or a shutdown; as a job of a shell, which ignores Ctrl-C."""
    import psutil

    code = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    code += "import sys\nfrom effml.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    words = ["reproduce", "--profile", "smoke", "--only", "00"]
    code = (
        f"from effml.reproduce import places\nplaces.LOCAL = places.Path({str(tmp_path)!r})\n{code}"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    asked = subprocess.Popen([sys.executable, "-c", code, *words], **pipes)
    whole = psutil.Process(asked.pid)
    while len(family := whole.children(recursive=True)) < 2:  # the notebook's process and kernel
        time.sleep(0.05)
    asked.terminate()
    assert "Interrupted" in asked.communicate(timeout=60)[0]
    assert not psutil.wait_procs(family, timeout=10)[1]


@pytest.mark.parametrize(
    "flags, minutes",
    [("avx2 avx512f", 4), ("avx2 avx512_bf16", 2), ("amx_bf16", 2), ("asimd bf16", 2), ("", 4)],
)
def test_the_passport_tells_the_minutes_of_a_cpu_like_this_one(house, monkeypatch, flags, minutes):
    house("00_a.ipynb", "1")
    path = house.root / "notebooks" / "00_a.ipynb"
    monkeypatch.setattr(plan, "cpu", lambda: ("some CPU", flags))
    told = reproduce.passport(path, "laptop")
    assert told == {"minutes": minutes, "memory": 1, "runs": 1, "fetch": 0}
    path.write_text(path.read_text().replace("minutes, AVX2", "hours"))
    with pytest.raises(ValueError, match="in the rows `minutes`, `minutes, AVX2`, `memory, MB`"):
        reproduce.passport(path, "laptop")


def test_parameters_and_claims_reach_the_summary_and_unknown_parameters_are_refused(house, capsys):
    claims = "{'medmnist-breast-auroc': [0.9, 0.901, 0.902], 'medmnist-breast-accuracy': []}"
    sure = "assert n == 7 and store.endswith('results/local')"
    house("00_a.ipynb", f"{sure}\nimport effml\neffml.report({claims})")
    house.profile("common: {n: 7}")
    assert reproduce.reproduce("smoke") == 0
    assert "1 agrees, 1 not testable here" in capsys.readouterr().out
    for profile, words in (
        ("common: {m: 7}", "in part 'common' of smoke.yml: 'm'. Choose from: n, store"),
        ("'00': {epcohs: 1}", "smoke.yml: 'epcohs'"),
        ("'99': {n: 1}", "part of smoke.yml: '99'. Choose from: common, 00"),
    ):
        house.profile(profile)
        with pytest.raises(ValueError, match=words):
            reproduce.make_plan("smoke")
    with pytest.raises(
        ValueError, match="Unknown profile 'full'. Choose from: smoke, laptop, paper"
    ):
        reproduce.make_plan("full")
    house.profile("")
    with pytest.raises(ValueError, match="Unknown notebook '99'. Choose from: 00"):
        reproduce.make_plan("smoke", ["99"])


def test_references_are_written_without_pictures_timings_or_progress(house):
    house(
        "00_a.ipynb",
        "import sys, matplotlib.pyplot as plt\nprint('out'); print('progress', file=sys.stderr)\n"
        "plt.plot([1]);\nplt.show()\nimport pathlib\n(pathlib.Path(store) / 'x').touch()",
    )
    reads = (
        "import pathlib\nassert (pathlib.Path(store) / 'x').exists()  # as effml.load_runs would"
    )
    house("62_b.ipynb", reads, runs=0)  # not before the other has ended
    assert reproduce.rewrite_smoke_reference() == 0
    book = json.loads((house.root / "tests" / "smoke" / "00_a.ipynb").read_text())
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [1, 2]
    assert "papermill" not in json.dumps(book)
    assert {o.get("name", "picture") for o in code[1]["outputs"]} == {
        "stdout",
        "picture",
    }
    assert "image/png" not in json.dumps(book)


def test_the_grammar_of_web_addresses_is_not_built():
    """It takes 1.5 s in each process that reads a notebook; lark builds it."""
    code = "from effml.reproduce.rewrite import without_iri_grammar as fast\nfast()\n"
    code += "import sys, papermill\nassert 'jsonschema' in sys.modules\nassert 'lark' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pictures_are_stored_small_and_look_the_same():
    ramp = np.zeros((200, 300, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.linspace(0, 255, 300), np.linspace(0, 255, 200)[:, None]
    ramp[50:60] = 255
    buffer = BytesIO()
    Image.fromarray(ramp).save(buffer, "PNG", compress_level=0)
    small = _smaller(b64encode(buffer.getvalue()).decode())
    shown = np.asarray(Image.open(BytesIO(b64decode(small))).convert("RGB")).astype(int)
    assert len(small) < len(buffer.getvalue()) / 3
    assert abs(shown - ramp).mean() < 12
    assert (shown[55] > 240).all()


def test_laptop_outputs_leave_a_reference_that_the_profile_reference_reads(house, capsys):
    """The notebook computes once; then only what was kept is read, also where it would differ."""
    code = (
        "import effml, os, pandas\n"
        "where = os.environ.get('EFFML_REFERENCE', 'nowhere')\n"
        "print(n, effml.kept('00-n', lambda: pandas.DataFrame({'x': [n / 3]})).x.item())\n"
        "print(effml.at_hand('phantom-chest'), 'reads' if where != 'nowhere' else 'computes')\n"
        "drawn = pandas.DataFrame({'x': [n]})\n"
        "effml.save_figure(effml.figures.subplots()[0], '00-a', data=drawn, alt='Axes.')"
    )
    house("00_a.ipynb", code)
    reference = house.root / "results" / "reference"
    (reference / "figures").mkdir(parents=True)
    (reference / "figures" / "00-old.csv").touch()
    (reference / "figures" / "01-b.csv").touch()
    assert reproduce.rewrite_notebooks() == 0
    figures = {file.name: file.read_text() for file in (reference / "figures").iterdir()}
    assert figures == {"00-a.csv": ",x\n0,1\n", "01-b.csv": ""}
    assert (reference / "00-n.csv").read_text() == (
        "# index: ; columns: float64\nx\n0.3333333333333333\n"
    )
    assert json.loads((reference / "answers.json").read_text()) == {
        "phantom-chest at 28 px": "phantom-chest"
    }
    (reference / "00-n.csv").write_text("# index: ; columns: float64\nx\n42.0\n")
    assert reproduce.reproduce("reference") == 0
    assert "two at a time, at most 0 runs" in capsys.readouterr().out
    shown = (house.root / "results" / "local" / "reference" / "00_a.ipynb").read_text()
    assert "1 42.0" in shown and "phantom-chest reads" in shown
    assert reproduce.reproduce("reference") == 0
    assert "0 of 1 notebooks to run" in capsys.readouterr().out
    (reference / "00-n.csv").write_text(
        "# index: ; columns: float64\nx\n43.0\n"
    )  # made anew: read again
    assert reproduce.reproduce("reference") == 0
    assert "1 43.0" in (house.root / "results" / "local" / "reference" / "00_a.ipynb").read_text()
