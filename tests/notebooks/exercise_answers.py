"""The exercises of a notebook and their solutions, as cells that check themselves."""

import ast
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "notebooks" / "solutions"


def source(cell):
    return "".join(cell["source"])


def exercises(path):
    """The code cells behind the heading `Exercises`, by id."""
    cells = json.loads(path.read_text())["cells"]
    titles = [i for i, c in enumerate(cells) if c["cell_type"] == "markdown"]
    start = next(i for i in titles if "## Exercises" in source(cells[i]))
    return {c["id"]: c for c in cells[start:] if c["cell_type"] == "code"}


def solutions(path):
    """(id of the exercise, "right" or "wrong", source) of each answer."""
    answers = []
    for cell in json.loads((FOLDER / path.name).read_text())["cells"]:
        for tag in {"right", "wrong"} & {*cell["metadata"].get("tags", [])}:
            answers.append((cell["metadata"]["exercise"], tag, source(cell)))
    return answers


def in_quotes(path):
    """Wrong answers to the same exercises: a text in the place of each value that is asked for."""
    answers = []
    for exercise, cell in exercises(path).items():
        asked = re.compile(r"^[\w, ]+ = [(None), ]+", re.MULTILINE)
        text = asked.sub(lambda found: found[0].replace("None", "'19'"), source(cell))
        answers += [(exercise, "wrong", text)] * (text != source(cell))
    return answers


def checks(text):
    """What a cell checks, without its hints, which may show the answer that was given."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    calls = [call for call in calls if ast.unparse(call.func) in ("check", "effml.check")]
    return [[ast.unparse(argument) for argument in call.args[:2]] for call in calls]


def as_test(answer, number):
    """A cell that runs an answer and fails where its checks do not say what they should."""
    exercise, tag, text = answer
    wanted = "said and '○' not in said" if tag == "right" else "'○' in said"
    lines = [
        "from contextlib import redirect_stdout as _redirect",
        "from io import StringIO as _StringIO",
        "with _redirect(_StringIO()) as _stream:",
        f"    exec({text!r}, globals())",
        "said = ''.join(line[:1] for line in _stream.getvalue().splitlines() if line[:1] in '✓○')",
        f"assert {wanted}, _stream.getvalue() or 'nothing was checked'",
    ]
    return {
        "cell_type": "code",
        "id": f"solution-{number}",
        "metadata": {"tags": ["nbval-ignore-output"]},
        "source": f"# the {tag} answer to {exercise}\n" + "\n".join(lines),
        "outputs": [],
        "execution_count": None,
    }
