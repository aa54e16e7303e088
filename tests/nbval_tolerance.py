"""nbval with tolerance: text must agree exactly, numbers relatively: to 1e-3, or to `rtol` in a cell's metadata (`effml`),
where `ignore` is a regular expression for what is not compared: intervals over two seeds, which multiply round-off.

Spaces do not count (a column may be one digit wider), nor do error streams (progress). Pictures nbval leaves out itself.
"""

import math
import re
import sys

import pytest

sys.modules.setdefault("rfc3987_syntax", None)  # saves 1.5 s: see effml/reproduce/rewrite.py

NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?(?!\w)")


class Text(str):
    """Equal to a string with the same words and nearly the same numbers."""

    rtol, ignore = 1e-3, "(?!)"

    def __eq__(self, other: object) -> bool:
        texts = [re.sub(self.ignore, "", str(text)) for text in (self, other)]
        mine, theirs = (re.sub(r"[\s─-]+", " ", NUMBER.sub("#", text)).strip() for text in texts)
        numbers = [
            [float(number.replace(",", "")) for number in NUMBER.findall(text)] for text in texts
        ]
        return mine == theirs and all(
            math.isclose(a, b, rel_tol=self.rtol, abs_tol=1e-9) for a, b in zip(*numbers)
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


@pytest.hookimpl
def pytest_configure(config: pytest.Config) -> None:
    from nbval.plugin import IPyNbCell, IPyNbFile

    plain = IPyNbCell.sanitize

    def sanitize(cell: IPyNbCell, value: object) -> object:
        value = plain(cell, value)
        if not isinstance(value, str):
            return value
        text = Text(value)
        vars(text).update(cell.cell.metadata.get("effml", {}))
        return text

    def init(self: IPyNbFile, *args: object, original=IPyNbFile.__init__, **kwargs: object) -> None:
        original(self, *args, **kwargs)
        self.skip_compare += (
            "stderr",
            "application/vnd.effml.claims+json",
        )  # the claims stand in the text beside it too

    IPyNbCell.sanitize, IPyNbFile.__init__ = sanitize, init
