"""The text of a page as HTML: of a notebook, a Markdown file, a source, a folder."""

import re
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter

from effml.machine import ROOT
from effml.site.links import Links
from effml.site.markdown import renderer

FIGURES = ROOT / "results" / "reference" / "figures"
"""The numbers behind the notebooks' figures, as CSV."""


class Bodies:
    """Writes the texts of pages, with links from page to page."""

    def __init__(self, links: Links):
        self.links, self.markdown = links, renderer(links)
        folder = {"extra_template_basedirs": [str(Path(__file__).parent)]}
        filters = {"markdown2html": self.markdown.render}
        self.exporter = HTMLExporter(template_name="template", **folder, filters=filters)

    def of(self, path: Path, text: str = "") -> str:
        """The text of the page of a file, or of a Markdown `text` that stands for it."""
        self.markdown.renderer.begin(path)
        name = path.relative_to(ROOT)
        if path.suffix == ".ipynb":
            return tidy(self._notebook(path))
        if path.is_dir():
            names = sorted(one.name for one in path.iterdir() if one.name[0] not in "._")
            text = f"# {name}\n\n" + "".join(f"- [{n}]({path.name}/{n})\n" for n in names)
        elif path.suffix == ".md":
            text = path.read_text(encoding="utf-8")
        elif not text:
            source, fence = path.read_text(encoding="utf-8"), "~" * 9
            text = f"# {name}\n\n{fence}{path.suffix[1:] or 'text'}\n{source}\n{fence}\n"
        return tidy(self.markdown.render(text))

    def _notebook(self, path: Path) -> str:
        book, drawn = nbformat.read(path, 4), ""
        for cell in book.cells:
            # a figure has the name that its cell tells, or else the function defined above
            named = re.findall(r'"(\d\d-[\w-]+)"', cell.source)
            drawn = next((n for n in named if (FIGURES / f"{n}.csv").is_file()), drawn)
            for output in cell.get("outputs", []):
                if drawn and "image/png" in output.get("data", {}):
                    csv = self.links.to(FIGURES / f"{drawn}.csv", path)
                    output.metadata["csv"], drawn = csv, ""
        return self.exporter.from_notebook_node(book)[0]


def tidy(body: str) -> str:
    """Tables in a box that scrolls, without pandas' own looks and headings without a word."""
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r' border="1"| style="text-align:.*?"', "", body)
    body = body.replace("<th></th>", "<td></td>")
    return re.sub(r"(<table.*?</table>)", r'<div class="box">\1</div>', body, flags=re.DOTALL)
