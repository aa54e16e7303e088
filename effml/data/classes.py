"""What the names of classes say: their order, the positive one of two, and what is no class."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from effml.data.spelling import listed, spellings

_NO = """no non not without negative neg normal healthy control controls absent absence none false 0
well clear unremarkable uninfected""".split()
_YES = """yes true positive pos abnormal malignant malignancy ill sick disease diseased cancer
carcinoma tumour tumor lesion present case cases pneumonia melanoma fracture metastasis infected
pathology""".split()
_LONG = 100  # characters that the name of a class may have
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")


def in_order(names: Iterable[str]) -> list[str]:
    """The classes, each once: numbers by value, other names as text. Raises ValueError for what
    cannot be classes."""
    names = sorted(set(names))
    if odd := [name for name in names if len(name) > _LONG or not name.isprintable()]:
        called = f"{odd[0][:40]!r}{'…' * (len(odd[0]) > 40)}, {len(odd[0])} characters"
        raise ValueError(
            f"A class is called {called}: give names of one line and at most {_LONG} characters in "
            "the column label."
        )
    if all(_NUMBER.fullmatch(name) for name in names):
        names.sort(key=float)
    if len(names) > 256:
        some = f"{len(names)} values, such as {', '.join(names[:3])}"
        raise ValueError(f"The label column holds {some}: no classes. Give another.")
    if twice := [[*map(repr, same)] for same in spellings(names).values() if len(same) > 1]:
        raise ValueError(  # in quotes, since folders "a" and "a " look alike
            f"A class is spelt in several ways: {listed(twice)}. Give every class one spelling in "
            "the labels."
        )
    if several := joined(names):
        raise ValueError(
            f"The label {several!r} joins several names. If these are findings of one picture, the "
            "task is multi-label, and an import gives each picture one class: give one finding as "
            "label (a column of yes and no for it), or write the .npz yourself, with "
            "{split}_labels (N, L) of 0 and 1. If it is one class, rename it."
        )
    return names


def joined(names: Sequence[str]) -> str | None:
    """A name that is a list of others: one with |, or with ; a part that is a class itself or in
    another place elsewhere. With a comma all parts must be so, since "naevus, atypical" is one
    thing and its name."""
    for mark in "|;,":
        marked = [name for name in names if mark in name]
        lists = {name: [part.strip(" []()'\"") for part in name.split(mark)] for name in marked}
        places = defaultdict(set)
        for parts in lists.values():
            for place, part in enumerate(parts):
                places[part].add(place)
        for name, parts in lists.items():
            known = [part in names or len(places[part]) > 1 for part in parts if part]
            if len(known) > 1 and (mark == "|" or all(known) or mark == ";" and any(known)):
                return name
    return None


def positive_of(names: Sequence[str]) -> tuple[int, str]:
    """Which of two classes sensitivity is about, by their names, and why: the other one of a normal
    or benign class."""
    rank = [_rank(name) for name in names]
    if rank[0] == rank[1]:
        return 1, "assumed: the last class"
    index = int(rank[1] > rank[0])
    return index, f"assumed: by its name, beside {names[1 - index]}"


def _rank(name: str) -> int:
    """0 nothing found, 1 benign, 2 unknown, 3 a disease."""
    words = re.findall(r"[^\W_]+", name.casefold())
    if words and (words[0] in ("no", "non", "not", "without") or words[-1] == "free"):
        return 0
    kinds = {0: _NO, 1: ["benign"], 3: _YES}
    found = {kind for kind, some in kinds.items() if {*some} & {*words}}
    return found.pop() if len(found) == 1 else 2
