"""`make bench`: effml beside its peers, in one process, interleaved, as ratios of medians. Numbers, not tests.

python -m tests.bench            all of them
python -m tests.bench data       only those about data
"""

import importlib
import sys
from pathlib import Path

BENCHES = (
    "training",
    "data",
    "copies",
    "precision",
    "optimizers",
    "metering",
    "selection",
    "compression",
    "neighbours",
)

if __name__ == "__main__":
    sys.path.append(
        str(Path(__file__).parents[2] / "notebooks")
    )  # the peers' meters lie beside theirs
    for name in sys.argv[1:] or BENCHES:
        if name not in BENCHES:
            sys.exit(f"Unknown bench {name!r}. Choose from: {', '.join(BENCHES)}")
        print(f"— {name} —", flush=True)
        importlib.import_module(f"tests.bench.{name}").main()
