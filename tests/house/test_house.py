"""The house: floors, file sizes, registries, canaries, README and links."""

import ast
import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import effml
from effml import Recipe, grid, load_runs
from effml.sweeping import sweep

ROOT = Path(__file__).resolve().parents[2]
FLOORS = [
    ("recipe", "machine", "printing", "seeds", "settings", "zoo"),
    ("phantoms", "data", "importing", "models", "metering", "evaluation", "pepr", "results"),
    ("compression", "convolutions", "precision", "optimizers"),
    ("training",),
    ("selection", "deployment"),
    ("experiment",),
    ("sweeping",),
    ("advice", "claims", "comparison", "figures", "notebook", "reproduce", "summary"),
    ("site",),
    ("kit",),
    ("__main__",),
]
STEPS = ("phantoms", "data", "importing")  # of one floor: each may use those before it
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted((ROOT / "effml").rglob("*.py"))
TORCH_FREE = (
    "recipe",
    "evaluation",
    "pepr",
    "results",
    "claims",
    "comparison",
    "figures",
    "notebook",
    "printing",
    "seeds",
    "settings",
    "summary",
    "zoo",
)
TORCH_ROOMS = (
    "models",
    "precision",
    "optimizers",
    "compression",
    "convolutions",
    "selection",
    "training",
    "experiment",
)
HEAVY = (
    "torch",
    "timm",
    "torchvision",
    "matplotlib",
    "seaborn",
    "sklearn",
    "scipy",
    "medmnist",
    "torch_pruning",
    "papermill",
    "IPython",
)


def room_of(path):
    return path.relative_to(ROOT / "effml").parts[0].removesuffix(".py")


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_lower_floors_and_never_a_neighbour(path):
    if (room := room_of(path)) == "__init__":
        return
    for name in imports(ast.parse(path.read_text())):
        parts = name.split(".")
        if parts[0] == "effml" and len(parts) > 1 and parts[1] in FLOOR and parts[1] != room:
            if room in STEPS and parts[1] in STEPS[: STEPS.index(room)]:
                continue
            assert FLOOR[parts[1]] < FLOOR[room], (
                f"{room} (floor {FLOOR[room]}) imports {parts[1]} (floor {FLOOR[parts[1]]})"
            )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_function_is_read_in_one_sitting_and_heavy_packages_are_imported_where_they_are_used(
    path,
):
    text = path.read_text()
    assert max(map(len, text.splitlines())) <= 100
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= 60, node.name
    tree = ast.parse(text)
    top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = [name.split(".")[0] for name in imports(ast.Module(top, []))]
    torch_room = room_of(path) in TORCH_ROOMS
    heavy = {*HEAVY} - ({"torch"} if torch_room else set())
    assert not heavy & {*names}, "import it inside the function that needs it"
    if torch_room:  # once, at the top
        everywhere = [name.split(".")[0] for name in imports(tree)]
        assert everywhere.count("torch") == names.count("torch")


def test_torch_free_rooms_import_and_work_without_torch_and_what_no_browser_has():
    code = (
        "import sys\nsys.modules |= dict.fromkeys(['torch', 'filelock', 'psutil'])\n"
        + "\n".join(f"import effml.{room}" for room in TORCH_FREE)
        + "\nimport effml.data.load, effml.sweeping, effml.reproduce\neffml.data.load.fingerprint('phantom-chest')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_room_is_on_a_floor_and_every_public_name_resolves_with_a_docstring():
    assert {room_of(path) for path in FILES} - {"__init__"} == set(FLOOR)
    for name in effml.__all__:
        assert name == "NUMERICS" or inspect.getdoc(getattr(effml, name)), name
    with pytest.raises(AttributeError, match="Choose from"):
        effml.no_such_thing


@pytest.mark.parametrize(
    "room, registry",
    [
        ("precision", "PRECISIONS"),
        ("optimizers", "OPTIMIZERS"),
        ("training.schedules", "SCHEDULES"),
        ("training.losses", "CLASS_WEIGHTS"),
        ("training.augmentation", "AUGMENTATIONS"),
        ("models", "MODELS"),
        ("compression", "COMPRESSORS"),
        ("selection", "SELECTORS"),
        ("deployment.runtimes", "RUNTIMES"),
        ("training.sampling", "SAMPLERS"),
        ("metering", "METERS"),
        ("phantoms", "PHANTOMS"),
        ("evaluation.operating_points", "AIMS"),
        ("pepr", "NORMALIZATIONS"),
    ],
)
def test_registries_are_dict_literals_of_callables_of_one_signature(room, registry):
    module = __import__(f"effml.{room}", fromlist=[registry])
    entries = getattr(module, registry)
    assert len({tuple(inspect.signature(entry).parameters) for entry in entries.values()}) == 1
    tree = ast.parse(inspect.getsource(module))
    literal = [
        n
        for n in ast.walk(tree)
        if isinstance(n, (ast.Assign, ast.AnnAssign))
        and registry in ast.unparse(n.targets[0] if isinstance(n, ast.Assign) else n.target)
    ]
    assert isinstance(literal[0].value, ast.Dict)


def test_canaries_force_numerics_to_be_raised(tmp_path):
    """If one of these moves, results have changed: raise NUMERICS in effml/recipe.py, then write the new values here."""
    base = Recipe(data="phantom-chest", epochs=2, threads=1)
    runs = sweep(
        [
            base.but(model="lenet5"),
            base.but(model="mlp", batch_size=32),
            # the others have no shape to choose for; this one must not depend on the CPU's choice
            base.but(model="mobilenetv2_050", schedule="constant", convolutions="library"),
        ],
        tmp_path,
    )
    assert effml.NUMERICS == 4
    assert runs.test_auroc.tolist() == pytest.approx([0.5780, 0.6864, 0.5258], abs=0.02)


def test_the_reference_is_readable_and_says_nothing_of_the_machine_it_came_from():
    runs = load_runs(ROOT / "results" / "reference")
    assert len(runs) >= 12 and runs.attrs["unreadable"] == 0
    told = runs[runs.status != "ok"]  # by notebook 76: of all models, those that cannot be had
    assert set(told.status) <= {"unsupported", "weights unavailable"} and told.reason.notna().all()
    text = "".join(path.read_text() for path in (ROOT / "results" / "reference").glob("*.jsonl"))
    assert not re.search(r'"/|\\\\Users|[A-Za-z]:\\\\', text)


README = (ROOT / "README.md").read_text()


def test_the_readmes_tables_are_rendered_from_the_reference_records():
    import findings

    for path, parts in findings.pages().items():
        page = (ROOT / path).read_text(encoding="utf-8")
        for name, rows in parts.items():
            shown = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", page, re.S)[1]
            assert shown == rows, f"{path}, {name}: run python -m effml readme"


def test_readme_counts_the_claims_of_the_notebooks():
    from effml.claims import render_claims

    assert (
        re.search(r"<!-- claims -->\n(.*?)<!-- /claims -->", README, re.S)[1] == render_claims()
    ), "run: python -m effml readme"


def test_links_lead_somewhere():
    for page in ROOT.glob("*.md"), ROOT.glob("*/README.md"):
        for path in page:
            for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_readme_commands_exist(capsys):
    from effml.__main__ import main

    blocks = "\n".join(re.findall(r"```(?:bash|sh)\n(.*?)```", README, re.S))
    made = set(re.findall(r"\bmake ([a-z-]+)", blocks))
    targets = set(re.findall(r"^([a-z][a-z -]*):", (ROOT / "Makefile").read_text(), re.M))
    assert made and made <= {name for line in targets for name in line.split()}
    ours = re.findall(r"python -m effml (.*)", blocks)
    for line in ours:
        words = shlex.split(line.split("#")[0])
        with pytest.raises(SystemExit) as ended:
            main([*words[: 1 + (words[0] in ("data", "energy"))], "--help"])
        told, options = capsys.readouterr().out, [word for word in words if word[:2] == "--"]
        assert ended.value.code == 0 and all(one.split("=")[0] in told for one in options), line
        if words[0] in ("run", "sweep"):
            Recipe.parse(
                word
                for word in words[1:]
                if "=" in word and "," not in word and not word.startswith("--")
            )
    assert ours


def test_readme_python_runs(tmp_path, monkeypatch, no_data):
    (tmp_path / "data").mkdir()
    for code in re.findall(r"```python\n(.*?)```", README, re.S):
        exec(compile(code, "README", "exec"), {"__name__": "readme"})


def test_the_command_line(tmp_path, monkeypatch, capsys):
    from effml.__main__ import main

    def call(*words):
        try:
            status = main([*words])
        except SystemExit as ended:  # argparse
            status = ended.code
        return status, *capsys.readouterr()

    monkeypatch.chdir(tmp_path)
    status, out, error = call("sweep", "model=mlp", "epochs=1", "seed=0,1", "--store", "s")
    assert status == 0 and out.count(" ok ") == 2, error
    asked = {r.id for r in grid(Recipe(model="mlp", epochs=1), seed=[0, 1])}
    assert asked == set(load_runs(tmp_path / "s").recipe_id)
    assert "AUROC 0." in call("run", "model=mlp", "epochs=1", "--store", "s")[1]
    assert "test_auroc  " in call("run", "model=mlp", "epochs=1", "--store", "s", "--all")[1]
    assert "2 runs, 0 unreadable" in call("show", "--store", "s")[1]
    status, _, error = call("show", "no_column", "--store", "s")
    assert status == 2 and "Choose from" in error
    assert "There is no store" in call("show", "--store", "nowhere")[2]
    (tmp_path / "three.npz").write_bytes(b"")
    for words, told in (
        ("run modle=mlp", "Recipe has no field 'modle'. Did you mean model?"),
        ("run three.npz", "write data=three.npz"),
        ("run data = three.npz", "without spaces"),
        ("run --data x", "write data=x, without --"),
        ("advise data=x minutes=1", "write --data x, not data=x"),
        ("status s --store other", "Give one store: s, or --store other"),
        ("deploy r --out o --margin 0.05", "give NAME=LOSS"),
        ("kit verify nowhere", "There is no folder: nowhere"),
        ("kit verify three.npz", "That is a file: three.npz"),
        ("class three.npz", "three.npz is a file"),
        ("predict s RUN --store s", "has no such run"),
        ("predict s RUN --store s", "the run goes first"),
        ("run data=three epochs=1 --store s", "say data=three.npz"),
    ):
        status, out, error = call(*words.split())
        assert status and told in " ".join((out + error).split()), words
    assert call("data", "verify", "three.npz")[0] == 0
    assert call("status", "--store", "s")[1] == call("status", "s")[1]
    assert call("run", "model=no-such", "--store", "s")[0] == 2
    process = [sys.executable, "-m", "effml", "doctor"]  # once as users start it
    done = subprocess.run(process, capture_output=True, text=True)
    assert done.returncode == 0
    assert "cpu_flags" in done.stdout and "native precision" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
