"""When two spellings mean one thing: how names of patients, and of classes, are compared."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

_PARTS = re.compile(r"(?<=[^\W_])[\s_\-\u2010-\u2015\u2212]+(?=[^\W_])")
_BESIDE_NUMBER = re.compile(r"(?<=[^\W\d_])-(?=\d)|(?<=\d)-(?=[^\W\d_])")
_ZEROS = re.compile(r"(?<![\d.])0+(?=\d)")
_WHOLE = re.compile(r"(-?\d+)\.0+")


def key(value: Any) -> str:
    """What is left of a name when everything is gone that people and programs spell differently.

    Letters' case and composition, full-width and other digits, invisible signs, dots at the end,
    zeros before a number (7, 007 and 7.0 are one) and the sign that parts words (P-7, P_7, P 7 and
    P7 are one; 1-23 and 12-3 are two). It is for comparing only, never for showing.
    """
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    text = text.casefold()
    if not text.isascii():
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
        shown = (sign for sign in text if unicodedata.category(sign) != "Cf")
        text = "".join(str(unicodedata.decimal(sign, sign)) for sign in shown)
    text = _BESIDE_NUMBER.sub("", _PARTS.sub("-", text).strip().rstrip(". "))
    text = _ZEROS.sub("", text)
    return whole[1] if (whole := _WHOLE.fullmatch(text)) else text


def spellings(names: Iterable[Any]) -> dict[str, list[str]]:
    """{the spelling that stands for all: every spelling, sorted} of each thing named, in order."""
    found = defaultdict(set)
    for name in set(names):
        shown = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
        found[key(name)].add(shown)
    return {same[0]: same for same in sorted(map(sorted, found.values()))}


def listed(several: Iterable[list[str]], most: int = 5) -> str:
    """The first few things by all their spellings: "P7 = p7, 7 = 7.0"."""
    return ", ".join(" = ".join(same) for same in list(several)[:most])
