"""`make bench`: effml beside its peers, in one process, interleaved, as ratios of medians. Numbers, not tests.
A machine that others use meanwhile is marked: ratios taken there are none.

python -m tests.bench            all of them
python -m tests.bench data       only those about data
"""

import importlib
import sys
from pathlib import Path

from tests.bench.common import machine_in_words, watched

BENCHES = (
    "training",
    "data",
    "copies",
    "precision",
    "optimizers",
    "memory",
    "metering",
    "selection",
    "compression",
    "neighbours",
    "inference",
    "sweep",
    "plan",
    "advice",
)

if __name__ == "__main__":
    sys.path.append(
        str(Path(__file__).parents[2] / "notebooks")
    )  # the peers' meters lie beside theirs
    for name in sys.argv[1:] or BENCHES:
        if name not in BENCHES:
            sys.exit(f"Unknown bench {name!r}. Choose from: {', '.join(BENCHES)}")
        work = importlib.import_module(f"tests.bench.{name}").main
        print(f"— {name} —\n{machine_in_words()}", flush=True)
        watched(work)
