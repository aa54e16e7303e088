"""Bad inputs, by kind and seed, through the real command line: each is refused with a message that
instructs, or, where something is left to do, done with a note. Nothing is accepted in silence, no
traceback is shown, no file is changed, and no record says `ok`.

Most go through `main` in this process, where torch is imported once; every twentieth also starts
Python, as a user does, and must end alike.
"""

import csv
import hashlib
import io
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from effml.__main__ import main
from effml.recipe import Recipe
from effml.results import read_records

SHORT = ["model=mlp", "epochs=1", "threads=1"]
INSTRUCTS = re.compile(
    r"choose from|\bgive\b|must|\bmay\b|needs?\b|take\b|add\b|make\b|say\b|write\b|rename|use\b|run\b"
    r"|again|first|usage:|leave|python -m|unset|save|check|keep|bring|put|start|install|its columns|column reason",
    re.I,
)


@dataclass
class Base:
    """What every case may copy: a finished run with its store, a deployed folder, pictures."""

    folder: Path
    rng: random.Random
    run: str = ""
    left: dict[str, list[Any]] = field(default_factory=dict)

    def deal(self, several: Sequence[Any]) -> Any:
        """One of them, each before any comes again."""
        left = self.left.setdefault(repr(several)[:80], [])
        if not left:
            left += self.rng.sample(several, len(several))
        return left.pop()

    def make(self) -> None:
        """One run, deployed, and small pictures of two classes."""
        for i in range(24):
            where = self.folder / "pictures" / ("ill" if i % 2 else "well")
            where.mkdir(parents=True, exist_ok=True)
            Image.fromarray(self.pixels(i)).save(where / f"{i}.png")
        with chdir(self.folder):
            words = ["run", *SHORT, "--keep-weights", "--store", "store"]
            assert main(words) == 0
            self.run = read_records("store")[0][0]["run_id"]
            assert main(["deploy", self.run, "--store", "store", "--out", "deployed"]) == 0

    def pixels(self, seed: int, shape: tuple[int, ...] = (40, 40)) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)

    def npz(self, **change: Any) -> bytes:
        """A good file of 12 images a split, but for what is changed or (None) left out."""
        arrays: dict[str, Any] = {}
        for k, split in enumerate(("train", "val", "test")):
            arrays[f"{split}_images"] = self.pixels(k, (12, 28, 28))
            arrays[f"{split}_labels"] = (np.arange(12) % 2).astype(np.uint8)[:, None]
        stream = io.BytesIO()
        np.savez(stream, **{n: a for n, a in (arrays | change).items() if a is not None})
        return stream.getvalue()

    def odd_pictures(self) -> Iterator[bytes]:
        """Whole, but of shapes and numbers that the model was not trained on."""
        deep = self.pixels(1, (40, 40)).astype(np.uint16) * 200
        for pixels, mode in (
            (self.pixels(1, (1, 1)), "L"), (self.pixels(1, (3, 900)), "L"), (deep, "I;16"),
            (self.pixels(1, (40, 40, 3)), "RGB"), (self.pixels(1, (40, 40, 4)), "RGBA"),
            (self.pixels(1, (40, 40, 4)), "CMYK"), (deep.astype(np.float32) - 9e3, "F"),
            (np.full((40, 40), np.nan, np.float32), "F"),
        ):  # fmt: skip
            stream = io.BytesIO()
            Image.frombytes(mode, pixels.shape[1::-1], pixels.tobytes()).save(stream, "TIFF")
            yield stream.getvalue()

    def damaged(self, content: bytes) -> bytes:
        """Cut off, empty, a foreign file's, or with some bytes changed."""
        if not content:
            return b"?"
        way, n = self.rng.randrange(5), len(content)
        if way == 0:
            return content[: self.rng.randrange(n)]
        if way == 1:
            return b""
        if way == 2:
            return self.rng.randbytes(n)
        if way == 3:
            return b"<html><body>404 Not Found</body></html>"
        changed = bytearray(content)
        for _ in range(max(n // 50, 8)):  # enough to hit what matters
            changed[self.rng.randrange(n)] ^= 255
        return bytes(changed)


@dataclass
class Case:
    """Words for the command line, in a folder of its own; `note` says what a status of 0 must show,
    and `new` which new files are what was asked for."""

    kind: str
    words: list[str]
    note: str = ""
    new: str = r"(?!)"
    told: str = field(default="", repr=False)


def _recipes(base: Base, folder: Path) -> Case:
    """A field of a recipe with a value that it cannot have."""
    one = base.rng.choice(
        [f for f in fields(Recipe) if f.name not in ("data", "weights", "teacher")]
    )
    if one.type is str:
        values = ["", " ", "no-such", "None", "mlp'", "ä", "a" * 5000, "\x00", "*", "../x"]
    else:
        values = ["", "x", "-1", "nan", "inf", "-inf", "1e400", "0x", "--1", "1,5", "½", "9" * 400]
        values += ["1.5", "1e-400"] if one.type is int else []
    words = [word for word in SHORT if not word.startswith(f"{one.name}=")]
    words.append(f"{one.name}={base.rng.choice(values)}")
    return Case("recipe field", ["run", *words, "--store", "s"])


def _contradictions(base: Base, folder: Path) -> Case:
    """Fields that do not go together, words that are no field, references that lead nowhere."""
    several = (
        ["train_fraction=0.5"], ["selection=random"], ["channel_fraction=0.5"], ["prune=channels"],
        ["rank_fraction=0.3"], ["temperature=2"], ["teacher=r0123456789"], ["weights=r0123456789"],
        ["weights=no-such.safetensors"], ["teacher=mlp"], ["data=no-such-set"], ["modle=mlp"],
        ["model"], ["=mlp"], ["model=mlp=1"], ["size"], ["=" * 50],
        ["proxy=lenet5"], ["half_repair=master"], ["gradient_bits=8", "precision=no"],
        ["data=phantom-chest:label_noise=2"], ["data=phantom-chest:no=1"], ["data=phantom-"],
        ["data=phantom-chest:label_noise"], ["data=."], ["data=/dev/null"], ["seed=0", "seed=1"], ["data="],
        ["data=phantom-chest:patches=7"], ["size=0"], ["size=-28"], ["size=1"], ["runtime=tpu"],
        ["batch_size=0"], ["weights="], ["weights=/"], ["weights=imagenet"], ["threads=100000"],
        ["size=1000000"], ["seed=-1"], [f"seed={2**70}"], ["learning_rate=0"], ["patience=-2"],
    )  # fmt: skip
    return Case("recipe", ["run", *SHORT, *base.deal(several), "--store", "s"])


def _options(base: Base, folder: Path) -> Case:
    """Options of the commands, out of range or of another kind."""
    several = (
        "sweep {} --shard 0/2", "sweep {} --shard 3/2", "sweep {} --shard x", "sweep {} --shard 1/0",
        "sweep {} --max-hours -1", "sweep {} --max-hours nan", "sweep {} --max-kwh 0",
        "sweep {} --timeout-minutes 0", "sweep {} --timeout-minutes nan", "sweep {} --plan --status",
        "sweep {} seed=0,,1", "sweep {} seed=", "sweep {} model=mlp,no-such", "sweep {} --workers 0",
        "sweep {} --workers 2 --scheduler tcp://127.0.0.1:1", "sweep {} --scheduler nowhere",
        "sweep {} --slurm time=0", "sweep {} --slurm colour=red", "sweep {} --device tpu",
        "sweep {} --setting none", "run {} --device cuda:99", "run {} --setting 9bit",
        "run {} --store pictures/ill/1.png", "status pictures/ill/1.png", "status nowhere modle=1",
        "show no_column --store store", "show --store nowhere", "show --store pictures/ill/1.png",
        "reproduce --profile full", "reproduce --only 99", "reproduce --only start", "nothing", "",
        "reproduce --only 00,99 --profile smoke", "notebooks --only 0", "smoke-reference --only xx",
        "energy calibrate --idle-w -1", "energy calibrate --idle-w 5 --load-w 4",
        "energy calibrate --load-w nan", "energy calibrate --idle-w inf", "energy measure",
        "data get no-such", "data get breastmnist --size 99", "data verify no-such", "data",
        "data get pneumoniamnist --root pictures/ill/1.png", "data list --size x",
        "data list --size -1", "data list --root nowhere", "data verify --root pictures/ill/1.png",
    )  # fmt: skip
    words = base.deal(several).format(" ".join(SHORT)).split()
    _give(base, folder, "pictures", "store")
    if words[:1] in (["run"], ["sweep"]) and "--store" not in words:
        words += ["--store", "s"]
    return Case("options", words, note=r"Looked in|nothing left|unknown")


def _advise(base: Base, folder: Path) -> Case:
    several = (
        "--minutes 0", "--minutes -1", "--minutes nan", "--minutes inf", "--minutes ten", "",
        "--minutes 1 --memory 2", "--minutes 1 --memory 2XB", "--minutes 1 --memory -1GB",
        "--minutes 1 --memory nanGB", "--minutes 1 --wh 0", "--minutes 1 --wh -1",
        "--minutes 1 --wh x", "--minutes 1 --aim best", "--minutes 1 --strategy luck",
        "--minutes 1 --size 0", "--minutes 1 --size x", "--minutes 1 --threads -1",
        "--minutes 1 --seed -1", "--minutes 1 --data no-such", "--minutes 1 --data unlabelled.npz",
        "--minutes 1 --data noval.npz", "--minutes 1 --store noval.npz", "--minutes 1 --data broken.npz",
    )  # fmt: skip
    (folder / "noval.npz").write_bytes(base.npz(val_images=None, val_labels=None))
    bare = dict.fromkeys(f"{split}_labels" for split in ("train", "val", "test"))
    (folder / "unlabelled.npz").write_bytes(base.npz(**bare))
    (folder / "broken.npz").write_bytes(base.npz()[:5000])
    words = base.deal(several).split()
    words += [] if "--data" in words else ["--data", "phantom-chest"]
    words += [] if "--store" in words else ["--store", "s"]
    return Case("advise", ["advise", *words], note="no validation images")  # a pilot tells


def _arrays(base: Base, folder: Path) -> Case:
    """An .npz whose arrays say what cannot be."""
    labels = (np.arange(12) % 2).astype(np.uint8)[:, None]
    several: tuple[dict[str, Any], ...] = (
        {"train_images": None}, {"train_labels": None}, {"train_labels": labels[:5]},
        {"train_images": base.pixels(1, (12, 28))}, {"train_images": base.pixels(1, (12, 28, 28, 2))},
        {"train_images": base.pixels(1, (12, 28, 30))}, {"train_images": base.pixels(1, (0, 28, 28))},
        {"train_images": np.full((12, 28, 28), np.nan)}, {"test_labels": None, "test_images": None},
        {"train_images": np.random.default_rng(0).normal(size=(12, 28, 28))},
        {"train_images": base.pixels(1, (12, 28, 28)).astype(np.int32) - 99},
        {"train_labels": labels.astype(float) + 0.5}, {"train_labels": labels.astype(int) - 1},
        {"train_labels": np.array([["a"], ["b"]] * 6)}, {"train_labels": labels * 0},
        {"train_labels": np.full((12, 1), np.nan)}, {"positive": np.array(7)},
        {"positive": np.array("ill")}, {"label_names": np.array(["one"])},
        {"label_names": np.array(["same", "same"])}, {"label_names": np.array([], dtype=str)},
        {"train_groups": np.arange(12), "val_groups": np.arange(12), "test_groups": np.arange(12)},
        {"train_groups": np.arange(5)}, {"train_masks": base.pixels(1, (12, 28, 27))},
        {"train_images": np.array([None] * 12, dtype=object)}, {"passport": np.array("{")},
        {"test_images": base.pixels(1, (12, 32, 32))}, {"train_masks": base.pixels(1, (12, 28, 28))},
        {"train_labels": np.zeros((12, 3), np.uint8)}, {"train_labels": labels + 200},
    )  # fmt: skip
    (folder / "x.npz").write_bytes(base.npz(**base.deal(several)))
    words = ["run", *SHORT, "data=x.npz", "--store", "s"]
    return Case("npz, arrays", words, note=r"effml: x\.npz: .*has no training image")


def _bytes(base: Base, folder: Path) -> Case:
    """An .npz, or weights, of damaged bytes."""
    name, content = base.rng.choice([("x.npz", base.npz()), ("w.safetensors", base.npz())])
    (folder / name).write_bytes(base.damaged(content))
    word = f"data={name}" if name == "x.npz" else f"weights={name}"
    return Case("npz and weights, bytes", ["run", *SHORT, word, "--store", "s"])


def _records(base: Base, folder: Path) -> Case:
    """A store one of whose files holds something else: it is read past, and that is said."""
    _give(base, folder, "store")
    [file] = (folder / "store").glob("runs-*.jsonl")
    line, rng = file.read_bytes(), base.rng
    several = (
        line[: rng.randrange(1, len(line) - 1)], b"\xff\xfe" + rng.randbytes(500), b"[" * 100_000,
        b"{" + b'"a":' * 5000, b'{"recipe_id": 1, "status": "ok"}', b'{"recipe_id": "r", "status": 7}',
        b'{"recipe_id": "r1", "status": "ok", "seed": "zero"}', b"null", b"3", b'"text"', b"[]",
        b'{"a": "' + b"x" * 10_000_000 + b'"}', line.replace(b'"ok"', b'["ok"]'), b"\x00" * 5000,
        b"recipe_id,status\nr1,ok", b'{"recipe_id": "r1"}', line.replace(b'"epochs": 1', b'"epochs": "1"'),
        line.replace(b'"model": "mlp"', b'"model": {}'), b'{"status": NaN, "recipe_id": Infinity}',
    )  # fmt: skip
    name = f"runs-20260101T000000Z-{rng.randrange(16**8):08x}.jsonl"
    (folder / "store" / name).write_bytes(base.deal(several) + rng.choice([b"", b"\n", b"\r\n"]))
    words = rng.choice(["show --store store", "show test_auroc --store store"])
    return Case("records", words.split(), note=r"[1-9]\d* unreadable lines")


def _pictures(base: Base, folder: Path) -> Case:
    """Pictures, DICOM and NIfTI of damaged bytes among good ones: refused one by one."""
    _give(base, folder, "pictures")
    rng, kind = base.rng, base.rng.choice(["png", "jpg", "tif", "bmp", "gif", "dcm", "nii", "webp"])
    if kind == "dcm":
        content = b"\0" * 128 + b"DICM" + rng.randbytes(rng.randrange(2000))
    elif kind == "nii":
        content = rng.randbytes(rng.randrange(2000))
    else:
        stream = io.BytesIO()
        picture = Image.fromarray(base.pixels(9))
        picture.save(stream, {"jpg": "JPEG", "tif": "TIFF"}.get(kind, kind.upper()))
        cut = stream.getvalue()
        content = rng.choice([b"", cut[: len(cut) // 3], b"<html>", rng.randbytes(900)])
    (folder / f"pictures/ill/bad.{kind}").write_bytes(content)
    words = "data import pictures x.npz --split-by image --size 28 --copies report"
    return Case(
        "pictures", words.split(), note=r"refused +[1-9]", new=r"x\.npz|x\.report\.json|x\.csv"
    )


def _import(base: Base, folder: Path) -> Case:
    """Options of an import that make no sense."""
    _give(base, folder, "pictures")
    several = (
        "--size 0", "--size -5", "--size 999999999", "--size x", "--fractions 1,1,1",
        "--fractions 0.5,0.5", "--fractions -1,1,1", "--fractions nan,0,1", "--fractions a,b,c",
        "--fractions 0,0.5,0.5", "--window 5,5", "--window=9,-9", "--window nan,1", "--window x",
        "--window 1", "--colour blue", "--fit crop", "--split-by luck", "--copies keep", "--seed x",
        "--seed -1", "--positive nobody", "--split-by date", "--split-by column", "--split-by group",
        "--masks nowhere", "--masks pictures", "--table nowhere.csv", "--table pictures",
        "--table t.csv", "--columns label", "--columns label=nothing --table u.csv", "--table b.csv",
        "--columns =x", "--volumes", "--table w.csv", "--no-such-option",
    )  # fmt: skip
    (folder / "t.csv").write_bytes(b"")
    (folder / "b.csv").write_bytes(base.rng.randbytes(300))
    (folder / "u.csv").write_text("file,label\nwell/0.png,a\nill/1.png,b\n")
    (folder / "w.csv").write_text("name;class\nwell/0.png;a\n")
    words = base.deal([*several, "x.txt", "pictures", "/dev/full", "u.csv/x.npz"]).split()
    words = ["data", "import", "pictures", *(words if words[0][:1] != "-" else ["x.npz", *words])]
    return Case("import, options", words)


def _tables(base: Base, folder: Path) -> Case:
    """A table that names what is not there, twice, or in another alphabet."""
    _give(base, folder, "pictures")
    rows = [
        f"{'ill' if i % 2 else 'well'}/{i}.png,{'ill' if i % 2 else 'well'},p{i}" for i in range(24)
    ]
    several: tuple[tuple[str, list[str]], ...] = (
        ("file,label,group", [row.replace("png", "jpeg") for row in rows]), ("file,label,group", []),
        ("file,label,label", rows), ("picture,diagnosis,who", rows), ("", rows),
        ("file,label,group", [*rows, "ill/1.png,well,p1"]), ("file,label,group", ["x" * 200_000]),
        ("file,label,group", [row.replace(",ill,", ",,") for row in rows]),
        ("file,label,group", ["../../etc/passwd,ill,p0", *["/etc/passwd,well,p1"] * 3]),
        ("file,label,group", [row.replace("ill,", "well,") for row in rows]),
        ("file,label,split", [row.rpartition(",")[0] + ",practice" for row in rows]),
        ("file,label,date", [row.rpartition(",")[0] + ",soon" for row in rows]),
        ("file,label,group", [f'"{row}' for row in rows]),
    )  # fmt: skip
    head, lines = base.deal(several)
    text = "\n".join([head, *lines]).encode(base.rng.choice(["utf-8", "utf-16"]))
    (folder / "t.csv").write_bytes(text)
    way = {"split": "column", "date": "date"}.get(head.rpartition(",")[2], "group")
    words = f"data import pictures x.npz --table t.csv --split-by {way} --size 28"
    return Case(
        "tables", words.split(), note=r"refused +[1-9]", new=r"x\.npz|x\.report\.json|x\.csv"
    )


def _deployed(base: Base, folder: Path) -> Case:
    """A deployed folder one of whose files is damaged, gone or a folder."""
    _give(base, folder, "deployed", "pictures")
    files = [file for file in sorted((folder / "deployed").rglob("*")) if file.is_file()]
    file, rng = base.deal(files), base.rng
    content = file.read_bytes()
    while (worse := base.damaged(content)) == content:
        pass
    file.unlink()
    if (way := rng.randrange(4)) == 0:
        file.mkdir()
    elif way > 1:
        file.write_bytes(worse)
    return Case("deployed folder", ["deploy", "--check", "deployed"])


def _predict(base: Base, folder: Path) -> Case:
    """Runs that are not there, weights that changed, folders without a picture, odd pictures."""
    _give(base, folder, "store", "pictures")
    (folder / "empty").mkdir()
    (folder / "odd").mkdir()
    content = [b"", b"\x89PNG\r\n\x1a\n", b"text", base.rng.randbytes(500), *base.odd_pictures()]
    (folder / "odd" / "x.tif").write_bytes(base.rng.choice(content))
    run, rng = base.run, base.rng
    words = base.deal([
        f"predict {run} nowhere", f"predict {run} empty", *[f"predict {run} odd"] * 6,
        "predict r0000000000 pictures", "predict x pictures", f"predict {run} pictures/ill/1.png",
        f"predict {run} pictures --out p.txt", f"predict {run} pictures --out pictures/p.csv",
        f"predict {run} pictures --store nowhere", f"deploy {run} --out store", "deploy",
        f"deploy {run} --out d --margin luck=1", f"deploy {run} --out d --margin auroc=-1",
        f"deploy {run} --out d --margin auroc=x", f"deploy {run} --out d --margin auroc",
        f"deploy {run}", "deploy no-such --out d", "deploy --check nowhere", "deploy --check pictures",
        f"deploy {run} --out pictures/ill/1.png", f"WEIGHTS {run} pictures", f"CARD {run} pictures",
        f"ARRAYS {run} pictures", f"CARD {run} pictures", f"predict {run} ''",
        f"ARRAYS {run} pictures", f"predict {run[0]}! pictures", f"EMPTY {run} pictures",
    ])  # fmt: skip
    endings = {"WEIGHTS": ".safetensors", "CARD": ".json", "ARRAYS": ".npz"}
    for name, ending in endings.items():
        if words.startswith(name):
            file = rng.choice([f for f in (folder / "store").rglob(f"*{ending}")])
            file.write_bytes(base.damaged(file.read_bytes()))
            words = words.replace(name, "predict")
    if words.startswith("EMPTY"):
        [file] = (folder / "store").glob("*.json")
        file.write_text(rng.choice(["{}", "[]", "3", '{"run_id": 1}']))
        words = words.replace("EMPTY", "predict")
    words = shlex.split(words)
    if "--store" not in words and "--check" not in words:
        words += ["--store", "store"]
    if words[0] == "predict" and "--out" not in words:
        words += ["--out", "p.csv"]
    odd = {"note": "1 of 1 pictures have an answer", "new": r"p\.csv"} if "odd" in words else {}
    return Case("predict and deploy", words, **odd)


KINDS: tuple[Callable[[Base, Path], Case], ...] = (
    _recipes, _contradictions, _options, _advise, _arrays, _bytes, _records, _pictures, _import,
    _tables, _deployed, _predict,
)  # fmt: skip


def _give(base: Base, folder: Path, *names: str) -> None:
    for name in names:
        shutil.copytree(base.folder / name, folder / name)


def _look(folder: Path) -> dict[str, str]:
    """What each file holds."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@contextmanager
def heard() -> Iterator[Callable[[], str]]:
    """All that this process and those it starts print, and what was printed since the last call."""
    kept, position = [os.dup(1), os.dup(2)], 0
    with tempfile.NamedTemporaryFile() as file:
        where = os.open(file.name, os.O_WRONLY | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(where, stream)

        def since() -> str:
            nonlocal position
            sys.stdout.flush(), sys.stderr.flush()
            with open(file.name, "rb") as told:
                told.seek(position)
                text = told.read()
            position += len(text)
            return text.decode(errors="replace")

        try:
            yield since
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            for stream, one in zip((1, 2), kept):
                os.dup2(one, stream)
                os.close(one)


def _call(words: list[str]) -> Any:
    try:
        return main(words)
    except SystemExit as ended:  # argparse
        return ended.code
    except BaseException:
        traceback.print_exc()
        return 1


def faults(case: Case, status: Any, before: dict[str, str], folder: Path) -> list[str]:
    """What is wrong with how it ended."""
    after, found = _look(folder), []
    told = bool(case.note and re.search(case.note, case.told))
    if "Traceback (most recent call last)" in case.told:
        found.append("a traceback")
    found += [f"changed or gone: {name}" for name in before if after.get(name) != before[name]]
    for name in {*after} - {*before}:
        if re.fullmatch(r"s/runs-.*\.jsonl", name):
            rows, torn = read_records(folder / name)
            sound = all(row["status"] != "ok" and row.get("reason") for row in rows) and not torn
            sound |= told  # done with a note
            found += [] if sound else [f"a record: {rows}"]
        elif not re.fullmatch(case.new, name) and not name.startswith("s/"):
            found.append(f"written: {name}")
    if (out := folder / "p.csv").is_file():
        rows = csv.DictReader(io.StringIO(out.read_text(encoding="utf-8")))
        found += ["an odd picture without a note"] * any(not x["note"] + x["reason"] for x in rows)
    if status == 0 and not told:
        found.append("accepted in silence")
    if status != 0 and not INSTRUCTS.search(case.told):
        found.append("no instruction")
    return found


def soak(count: int = 200, seed: int = 0, *, show: bool = False) -> int:
    """So many inputs, the kinds by turns. Returns how many were not dealt with as they must."""
    rng, wrong, by_kind, begun, slowest = random.Random(seed), [], {}, time.monotonic(), (0.0, "")
    os.environ["EFFML_MEMORY_GB"] = "2"
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as name, heard() as since:
        base = Base(Path(name, "base"), rng)
        base.folder.mkdir()
        base.make()
        since()
        for i in range(count):
            folder = Path(name, str(i))
            folder.mkdir()
            case = KINDS[i % len(KINDS)](base, folder)
            before, start = _look(folder), time.monotonic()
            with chdir(folder):
                status = _call(case.words)
            case.told = since()
            slowest = max(slowest, (time.monotonic() - start, " ".join(case.words)[:200]))
            found = faults(case, status, before, folder)
            if i % 20 == 0 and "run" != case.words[:1] and not found:
                found = _as_a_user(case, folder, status)
            by_kind[case.kind] = by_kind.get(case.kind, 0) + 1
            said = f"{i:4} [{status}] {' '.join(case.words)[:160]!r}\n{case.told.strip()[:1500]}\n"
            lines.append(said)
            if found:
                wrong.append(f"{', '.join(found)}: {said}")
            shutil.rmtree(folder)
    if show:
        print("\n".join(lines))
    print(*(f"FAULT {one}" for one in wrong), sep="\n")
    print(", ".join(f"{kind} {n}" for kind, n in by_kind.items()))
    seconds = time.monotonic() - begun
    print(
        f"{count} bad inputs, {len(wrong)} faults, {seconds:.0f} s; slowest {slowest[0]:.1f} s: {slowest[1]}"
    )
    return len(wrong)


def _as_a_user(case: Case, folder: Path, status: Any) -> list[str]:
    """The same in a Python of its own; the same end is expected."""
    for name in {*_look(folder)}:
        if re.match(r"s/|" + case.new, name):
            (folder / name).unlink()
    command = [sys.executable, "-m", "effml", *case.words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    case.told = f"in a Python of its own:\n{done.stdout}{done.stderr}"
    found = ["a traceback"] if "Traceback" in case.told else []
    return found + (
        [f"ended with {done.returncode}, not {status}"] if done.returncode != status else []
    )
