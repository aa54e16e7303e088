"""The page CHECKLIST.md: reporting checklists, answered for this collection by `checklists.csv`."""

import re
from pathlib import Path

import pandas

ROOT = Path(__file__).resolve().parents[1]
ANSWERS = ("yes", "partly", "no", "does not apply")
LISTS = {
    "CLAIM": "CLAIM 2024, the Checklist for Artificial Intelligence in Medical Imaging "
    "([Tejani et al. 2024](https://doi.org/10.1148/ryai.240300)). Its text has no open licence: "
    "the items are told by their numbers and in our words.",
    "REFORMS": "REFORMS, for science that is based on machine learning ([Kapoor et al. 2024]"
    "(https://doi.org/10.1126/sciadv.adk3452)), by its numbers and in our words.",
    "ML code completeness": "The five items as published by Papers with Code "
    "([its repository](https://github.com/paperswithcode/releasing-research-code)).",
}
HEAD = """# Checklists

How this collection answers three checklists. It is no study of one model for one illness: the
answers are about the experiments of the notebooks together, and *no* is said where something was
not done. Each answer links to what shows it: a part of a notebook, a test, or a page. Rendered from
[notebooks/checklists.csv](notebooks/checklists.csv) by `python -m effml readme`.
"""


def items() -> pandas.DataFrame:
    """A row for each item: list, item, asks, answer, says, shown (targets, parted by spaces)."""
    return pandas.read_csv(Path(__file__).with_suffix(".csv"), dtype=str, keep_default_na=False)


def _link(target: str) -> str:
    """A target as a link: `file#Heading`, `file::name of a test or a function`, or a file."""
    file, _, name = target.partition("::")
    path, _, heading = file.partition("#")
    said = name.removeprefix("test_").replace("_", " ") or path
    if heading:
        said = f"{re.match('[0-9]*|', Path(path).name)[0] or path} {heading.replace('-', ' ')}"
    if path.endswith(".md"):  # the anchors of a page of text are in small letters
        file = f"{path}#{re.sub('[^a-z0-9-]', '', heading.lower())}".rstrip("#")
    return f"[{said}]({file})"


def page() -> str:
    """The text of CHECKLIST.md."""
    told, rows = HEAD, items()
    for name, source in LISTS.items():
        mine = rows[rows.list == name]
        counts = [f"{answer} {n}" for answer in ANSWERS if (n := (mine.answer == answer).sum())]
        told += f"\n## {name}\n\n{source} {len(mine)} items: {', '.join(counts)}.\n\n"
        told += "| item | asks for | answer | what there is | shown by |\n|---|---|---|---|---|\n"
        for row in mine.itertuples():
            shown = ", ".join(map(_link, row.shown.split()))
            told += f"| {row.item} | {row.asks} | **{row.answer}** | {row.says} | {shown} |\n"
    return told


def render() -> None:
    (ROOT / "CHECKLIST.md").write_text(page(), encoding="utf-8")
