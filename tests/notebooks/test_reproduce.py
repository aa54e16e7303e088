import json
from base64 import b64decode, b64encode
from io import BytesIO

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

from effml import reproduce

PASSPORT = (
    "# 00 · x\n\n| | smoke | laptop | paper |\n|---|---|---|---|\n| minutes | 1 | 2 | 3 |\n"
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
        ("ROOT", ""),
    ):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(reproduce, name, tmp_path / folder)
    (tmp_path / "notebooks" / "profiles").mkdir()
    (tmp_path / "effml").mkdir()
    (tmp_path / "effml" / "a.py").write_text("x = 1")

    def write(name, code, runs=1):
        cells = [
            new_markdown_cell(PASSPORT.format(runs=runs)),
            new_code_cell(
                'n: int = 1  # a number\nstore: str = "x"  # a folder',
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


def test_a_second_call_does_nothing_and_a_change_runs_again_what_depends_on_it(
    house, monkeypatch, capsys
):
    ran = []

    def execute(path, out, parameters, *_):  # what runs is the subject here, not how
        ran.append(path.stem)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(path.read_bytes())
        return ""

    def runs():
        assert reproduce.reproduce("smoke") == 0
        return [ran.pop(0) for _ in list(ran)]

    monkeypatch.setattr(reproduce, "execute", execute)
    house("00_a.ipynb", "1"), house("62_b.ipynb", "1", runs=0)
    assert runs() == ["00_a", "62_b"]
    out = capsys.readouterr().out
    for text in ("2 of 2 notebooks to run", "00_a", "files written", "ok"):
        assert text in out
    assert runs() == [] and "0 of 2 notebooks" in capsys.readouterr().out
    house("00_a.ipynb", "1  # changed")
    assert runs() == ["00_a"]
    house.profile("'62': {n: 5}")
    assert runs() == ["62_b"]
    (house.root / "results" / "local" / "runs-x.jsonl").write_text("{}\n")  # new records
    assert runs() == ["62_b"]  # only the one that reads them
    (house.root / "effml" / "a.py").write_text("x = 2")
    assert runs() == ["00_a", "62_b"]
    assert reproduce.reproduce("smoke", ["62"]) == 0 and not ran


def test_a_failing_notebook_is_kept_its_cell_named_and_the_others_go_on(house, capsys):
    house("00_a.ipynb", "before = 1\n1 / 0"), house("62_b.ipynb", "print(n)")
    assert reproduce.reproduce("smoke") == 1
    out = capsys.readouterr().out
    assert "00_a failed in cell 3 (before = 1): ZeroDivisionError" in out and "It is kept" in out
    kept = json.loads((house.root / "results" / "local" / "smoke" / "00_a.ipynb").read_text())
    assert any(
        o.get("ename") == "ZeroDivisionError"
        for cell in kept["cells"]
        for o in cell.get("outputs", [])
    )
    assert (house.root / "results" / "local" / "smoke" / "62_b.ipynb").exists()
    house("00_a.ipynb", "fine = 1")
    assert reproduce.reproduce("smoke") == 0


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
        "plt.plot([1]);\nplt.show()",
    )
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


def test_pictures_are_stored_small_and_look_the_same():
    _smaller = reproduce._smaller
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
