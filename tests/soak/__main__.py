"""`python -m tests.soak`: every part, or one: kills [N [SEED]], inputs [N [SEED]], hardship [NAMES],
memory [NUMBERS]. It ends with 1 where a part found a fault."""

import sys
import time

from tests.soak import hardship, inputs, kills, memory

PARTS = {
    "kills": lambda *words: kills.soak(*map(int, words or ["200"])),
    "inputs": lambda *words: inputs.soak(*map(int, words or ["200"])),
    "hardship": lambda *words: hardship.soak(words),
    "memory": lambda *words: memory.soak(words),
}


def main(names: list[str]) -> int:
    begun, asked = time.monotonic(), {names[0]: names[1:]} if names else dict.fromkeys(PARTS, ())
    found = {}
    for name, words in asked.items():
        print(f"== {name}", flush=True)
        found[name] = PARTS[name](*words)
    told = ", ".join(f"{name} {faults}" for name, faults in found.items())
    print(f"faults: {told}; {time.monotonic() - begun:.0f} s")
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
