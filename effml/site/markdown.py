"""Markdown as HTML: formulas as MathML, links from page to page, headings to link to."""

import re
from html import escape
from importlib.util import find_spec
from pathlib import Path

from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from effml.site.links import Links, anchor_of


class Renderer(IPythonRenderer):
    """Renders the text of the file `begin` was called with last."""

    def __init__(self, links: Links):
        super().__init__(escape=False)
        self.links, self.drawn = links, find_spec("latex2mathml") is not None

    def begin(self, here: Path) -> None:
        self.here, self.names = here, set()

    def link(self, text: str, url: str, title: str | None = None) -> str:
        way = self.links.of(url, self.here)
        return f'<a href="{escape(way)}">{text}</a>' if way else text

    def image(self, text: str, url: str, title: str | None = None) -> str:
        way = self.links.of(url, self.here)
        return f'<img src="{escape(way)}" alt="{escape(text)}">' if way else escape(text)

    def heading(self, text: str, level: int, **attrs) -> str:
        name = plain = anchor_of(text)
        while name in self.names:
            name = f"{plain}-{sum(each.startswith(plain) for each in self.names)}"
        self.names.add(name)
        return f'<h{level} id="{name}">{text}</h{level}>\n'

    def text(self, text: str) -> str:
        return super().text(re.sub(r"(?<=\d) %", "\u00a0%", text))  # no line begins with %

    def inline_math(self, body: str) -> str:
        return self._formula(body, "inline")

    def block_math(self, body: str) -> str:
        return self._formula(body, "block")

    def _formula(self, tex: str, display: str) -> str:
        if not self.drawn:
            return f"<code>{escape(tex)}</code>"
        from latex2mathml.converter import convert

        drawn = convert(tex.replace(r"\arg", r"\operatorname{arg}"), display=display)
        box = "box" if display == "block" else "long" if len(tex) > 40 else ""
        return f'<span class="{box}">{drawn}</span>' if box else drawn


def renderer(links: Links) -> MarkdownWithMath:
    """Renders Markdown whose links `links` knows; without latex2mathml formulas stay as TeX."""
    return MarkdownWithMath(renderer=Renderer(links))
