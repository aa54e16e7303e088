"""The adviser under budgets, on data that it has not seen; beside Optuna's TPE and random search.

python -m tests.bench advice                 a taste: two trials, the cost model, one comparison
python -m tests.bench.advice trials 0 19     trials 0 to 19 of 1 to 5 minutes, 36 in all
python -m tests.bench.advice costs           30 recipes that the cost model was not fitted on
python -m tests.bench.advice peers 1 0 2     a minute each, seeds 0 to 2
python -m tests.bench.advice real            one to three minutes for each real set here, or for
                                             those named

Each line of results also goes to results/local/bench-advice/<name>.jsonl. The seconds are those of
a machine that nothing else uses; two with one thread each may run side by side.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import psutil

import effml
from effml import Recipe, machine
from effml.advice.costs import Budget
from effml.advice.ranking import ranked
from effml.advice.search import MENUS, SUBSET, Search
from effml.phantoms import make_phantom

HERE = Path("results/local/bench-advice")
MEMORY = "2GB"
NAMES = ("phantom-chest", "phantom-nodule", "phantom-skin")
REAL = {"breastmnist": 1, "pneumoniamnist_reordered": 1, "ham10000_28": 1, "lidc_nodules_64": 1}
REAL |= {"malaria_28": 2, "foot_ulcer_128:patches=32": 2, "nuclei_128:patches=32": 2}
REAL |= {"adrenalmnist3d": 3}
"""Minutes into which the default recipe fits."""

TRIALS = (1, 2, 1, 3, 1, 1, 2, 1, 5, 1) * 2
"""Minutes; a short budget is the harder test."""

HANGS, DIVERGES = 5, 10
"""Trials with such a recipe on the menu."""


def say(name: str, **told: Any) -> None:
    HERE.mkdir(parents=True, exist_ok=True)
    with open(HERE / f"{name}.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(told) + "\n")
    print(*(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in told.items()))
    sys.stdout.flush()


def pictures(folder: Path, name: str, seed: int) -> str:
    """An import of a folder of drawn pictures, one folder for each class."""
    from PIL import Image

    drawn = make_phantom(name, size=40, seed=seed, counts=(500, 120, 160))
    for split in ("train", "val", "test"):
        for i, (image, label) in enumerate(zip(drawn[f"{split}_images"], drawn[f"{split}_labels"])):
            place = folder / "pictures" / f"class{int(label[0])}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{split}{i}.png")
    out = folder / f"drawn-{seed}.npz"
    effml.import_folder(folder / "pictures", out, size=32, split_by="image")
    return str(out)


def trial(number: int) -> None:
    """One budget on data drawn anew; a process of its own, whose memory is watched from here."""
    rng = random.Random(1000 + number)
    minutes, name, seed = TRIALS[number], NAMES[number % len(NAMES)], 500 + number
    with tempfile.TemporaryDirectory() as place:
        data = f"{name}:seed={seed}:difficulty={rng.uniform(0.4, 1.0):.2f}"
        if number % 4 == 3:
            data = pictures(Path(place), NAMES[number // 4 % 3], seed)
        menu = []
        if number == HANGS:
            os.mkfifo(f"{place}/weights.safetensors")  # nobody writes: who reads waits for ever
            menu = [{"weights": f"{place}/weights.safetensors", "epochs": 4}]
        if number == DIVERGES:
            menu = [{"learning_rate": 1e9, "epochs": 4}]
        asked = {"data": data, "minutes": minutes, "menu": menu, "store": f"{place}/store"}
        began = time.time()
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.advice", "one"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        watch = Watch(child.pid)
        out, _ = child.communicate(json.dumps(asked))
        seconds = time.time() - began
    say(
        "trials",
        number=number,
        data=data.rpartition("/")[2],
        minutes=minutes,
        seconds=seconds,
        over=seconds / (60 * minutes) - 1,
        peak_mb=watch.stop() / 1e6,
        rc=child.returncode,
        **json.loads(out.splitlines()[-1]),
    )


class Watch:
    """The most that a process and those below it hold together (PSS), looked at all the time."""

    def __init__(self, pid: int) -> None:
        self.pid, self.peak, self.over = pid, 0, False
        self.thread = threading.Thread(target=self._look)
        self.thread.start()

    def _look(self) -> None:
        while not self.over:
            held = 0
            try:
                here = psutil.Process(self.pid)
                for one in (here, *here.children(recursive=True)):
                    held += one.memory_full_info().pss
            except psutil.Error:
                pass
            self.peak = max(self.peak, held)
            time.sleep(0.5)

    def stop(self) -> int:
        self.over = True
        self.thread.join()
        return self.peak


def one() -> None:
    """The trial's process: what it was asked on the standard input, what it found on the output."""
    asked = json.loads(sys.stdin.readline())
    own = [Recipe(**fields) for fields in asked["menu"]]
    menu = own + [Recipe(**fields) for fields in MENUS["images"]] if own else None
    began = psutil.Process().create_time()
    table = effml.advise(
        asked["data"],
        asked["minutes"],
        memory=MEMORY,
        menu=menu,
        threads=1,
        store=asked["store"],
        spent_s=time.time() - began,
    )
    reasons = table[table.status != "ok"]
    print(json.dumps(outcome(table) | {"failed": dict(zip(reasons.status, reasons.reason))}))


def outcome(table: Any) -> dict[str, Any]:
    """What a search found, for one line."""
    test, runs = table.attrs["test"], table[table.role != "pilot"]
    pick = runs[runs.run_id == table.attrs["pick"]]
    found = {"runs": len(runs), "spent_s": table.attrs["spent_s"]}
    if len(pick):
        row = pick.iloc[0]
        found |= {"model": row.model, "epochs": int(row.epochs), "pick_s": float(row.seconds)}
        found |= {"val_quality": float(row.quality), "val_auroc": float(row.val_auroc)}
    for name, scores in test.items():
        if isinstance(scores, dict):
            found |= {f"{name.split()[0]}_{key}": x for key, x in scores.items()}
    return (
        found
        | {k: test.get(k) for k in ("difference", "low", "high", "verdict")}
        | {"cheaper": next((x for x in table.attrs["told"] if "default recipe" in x), "")}
    )


def costs(
    data: tuple[str, ...] = ("phantom-chest:seed=91", "phantom-skin:seed=92", "breastmnist"),
    each: int = 10,
) -> None:
    """Recipes of the menu's kinds with other epochs, shares, rates and seeds, foretold by pilots
    alone."""
    rng, off, off_memory = random.Random(0), [], []
    for name in data:
        with tempfile.TemporaryDirectory() as store, _search(name, 600, Path(store)) as search:
            search.pilots()
            recipes = [_drawn(search, rng) for _ in range(each)]
            told = [search.costs.of(recipe) for recipe in recipes]
            for recipe, before in zip(recipes, told):
                row = search.run(recipe, "held out")
                took, peak = row["ended_s"] - row["began_s"], row["together_peak_bytes"]
                off.append(abs(took / before.seconds - 1))
                off_memory.append(abs(peak / before.memory[1] - 1))
                say(
                    "costs",
                    data=name,
                    model=recipe.model,
                    epochs=recipe.epochs,
                    share=recipe.train_fraction,
                    told_s=before.seconds,
                    took_s=took,
                    told_mb=before.memory[1] / 1e6,
                    took_mb=peak / 1e6,
                )
    say(
        "costs",
        median_error_seconds=median(off),
        median_error_memory=median(off_memory),
        recipes=len(off),
    )


def _search(data: str, seconds: float, store: Path) -> Search:
    return Search(Recipe(data=data, threads=1), Budget(seconds), store, "balanced", None)


def _drawn(search: Search, rng: random.Random) -> Recipe:
    known = [one for one in search.menu if search.costs.of(one)]
    share = rng.choice([0.3, 0.6, 1.0])
    some = {**SUBSET, "train_fraction": share} if share < 1 else {}
    plain = {"selection": "none", "train_fraction": 1.0}
    return rng.choice(known).but(
        **(plain | some), epochs=rng.randint(2, 6), seed=rng.randint(1, 9), learning_rate=2e-3
    )


def optuna_search(data: str, minutes: float, seed: int, store: Path) -> Any:
    """Optuna's TPE without a pruner on the menu's kinds, until its time-out."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _search(data, 3600 * 24, store) as search:
        native = "bf16" in machine.cpu()[1]
        menu = [search.base.but(**fields) for fields in MENUS["images"]]
        search.menu = [one for one in menu if native or one.precision == "fp32"]
        kinds = list(range(len(search.menu)))

        def objective(trial: Any) -> float:
            share = trial.suggest_categorical("share", [0.25, 0.5, 1.0])
            some = {**SUBSET, "train_fraction": share} if share < 1 else {}
            recipe = search.menu[trial.suggest_categorical("kind", kinds)].but(
                **({"selection": "none", "train_fraction": 1.0} | some),
                seed=seed,
                epochs=trial.suggest_int("epochs", 2, 32, log=True),
                learning_rate=trial.suggest_float("rate", 10**-3.5, 1e-2, log=True),
            )
            row = search.run(recipe, "candidate")
            return max(row["judged"].quality, 0.0) if "judged" in row else 0.0

        study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed)
        )
        study.optimize(objective, timeout=60 * minutes)
        search.budget.seconds = 60 * minutes
        return ranked(search)


def peers(
    minutes: int,
    first: int,
    last: int,
    data: tuple[str, ...] = ("phantom-chest:seed=71", "phantom-nodule:seed=72", "breastmnist"),
) -> None:
    for seed in range(first, last + 1):
        for name in data:
            for peer in ("climb", "random", "optuna"):
                compared(peer, name, minutes, seed)


def compared(peer: str, data: str, minutes: float, seed: int) -> None:
    """One search by one of the peers."""
    with tempfile.TemporaryDirectory() as place:
        began = time.time()
        if peer == "optuna":
            table = optuna_search(data, minutes, seed, Path(place))
        else:
            how = {"aim": "balanced", "strategy": peer, "threads": 1, "seed": seed}
            table = effml.advise(data, minutes, **how, store=place)
        seconds = time.time() - began
    over = seconds / (60 * minutes) - 1
    say("peers", peer=peer, data=data, seed=seed, seconds=seconds, over=over, **outcome(table))


def real(*names: str) -> None:
    for name in names or REAL:
        minutes = REAL[name]
        with tempfile.TemporaryDirectory() as place:
            began = time.time()
            try:
                table = effml.advise(name, minutes, memory="3GB", threads=1, store=place)
            except (ValueError, FileNotFoundError) as error:
                say("real", data=name, refused=str(error))
                continue
            seconds = time.time() - began
        say("real", data=name, over=seconds / (60 * minutes) - 1, **outcome(table))


def trials(first: int, last: int) -> None:
    for number in range(first, last + 1):
        trial(number)


def main() -> None:
    trials(0, 0), trials(3, 3)
    costs(("phantom-chest:seed=91",), 6)
    peers(1, 0, 0, ("phantom-nodule:seed=72",))


COMMANDS: dict[str, Callable[..., None]] = {
    "trials": trials,
    "one": one,
    "costs": costs,
    "peers": peers,
    "real": real,
}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](*(int(word) if word.isdecimal() else word for word in sys.argv[2:]))
