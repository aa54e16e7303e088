"""The notebooks in other languages: markdown alone; code and outputs are those of the English ones.

A catalogue, such as `languages/fr.yml`, holds for each English paragraph, by its hash, where it
stands and its translation. A paragraph that was changed since has another hash: it is told as older
than its English, and English stands in its place until somebody has translated it again."""

import hashlib
import json
import re
import shutil
from pathlib import Path

OURS = Path(__file__).parent
CATALOGUES = OURS / "languages"
BOOKS = ("00_start_here.ipynb", "30_mixed_precision.ipynb", "50_operating_points.ipynb")
FENCE = re.compile(r"(```.*?```)", re.S)
SHARED = re.compile(r"```.*?```|\$\$.*?\$\$|!\[[^\]]*\]\([^)]*\)|\]\([^)]*\)|<!--.*?-->", re.S)


def paragraphs(text: str) -> list[str]:
    """What blank lines part; a block of code stays whole."""
    parts = FENCE.split(text)
    return [
        one.strip("\n")
        for i, part in enumerate(parts)
        for one in ([part] if i % 2 else re.split(r"\n\s*\n", part))
        if one.strip()
    ]


def key(paragraph: str) -> str:
    """The hash of its words: lines may be broken elsewhere."""
    return "h" + hashlib.sha256(" ".join(paragraph.split()).encode()).hexdigest()[:10]


def quick_start() -> str:
    """The README's section of that name; its links then lead from the folder of the catalogues."""
    page = (OURS.parent / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## Quick start\n.*?(?=^## )", page, re.M | re.S)[0]
    return re.sub(r"\]\((?![a-z]+:|#)", "](../../", section)


def english() -> dict[str, tuple[str, str]]:
    """By hash: where a paragraph stands and what it says, of all that must be translated. What has
    no words outside of code, formulas and pictures is the same in every language."""
    found, texts = {}, {"README": quick_start()}
    for name in BOOKS:
        for cell in json.loads((OURS / name).read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "markdown":
                texts[f"{name[:2]} {cell['id']}"] = "".join(cell["source"])
    for place, text in texts.items():
        for count, one in enumerate(paragraphs(text), 1):
            if re.search(r"[^\W\d_]", SHARED.sub("", one)):
                found.setdefault(key(one), (f"{place}, {count}", one))
    return found


def catalogue(language: str) -> dict[str, dict[str, str]]:
    """By hash: `at`, where the English stands, and `text`, the translation."""
    import yaml

    there = sorted(path.stem for path in CATALOGUES.glob("*.yml"))
    if language not in there:
        raise ValueError(f"Unknown language {language!r}. Choose from: {', '.join(there)}")
    return yaml.safe_load((CATALOGUES / f"{language}.yml").read_text(encoding="utf-8"))


def report(language: str) -> list[str]:
    """A line for each paragraph that is missing, older than its English, or no longer used."""
    told, wanted, have = [], english(), catalogue(language)
    unused = {entry["at"]: name for name, entry in have.items() if name not in wanted}
    for name, (place, one) in ((name, wanted[name]) for name in wanted if name not in have):
        what = "older than its English" if unused.pop(place, None) else "missing"
        told.append(f"{name} {place}: {what}: {' '.join(one.split())[:50]}")
    return told + [f"{name} {place}: no longer used" for place, name in unused.items()]


def translated(text: str, have: dict[str, dict[str, str]]) -> str:
    """A text with the paragraphs that the catalogue has; the others stay English."""
    said = (have.get(key(one), {}).get("text", one).strip("\n") for one in paragraphs(text))
    return "\n\n".join(said)


def render() -> None:
    """Write the quick start of each language beside its catalogue."""
    for path in CATALOGUES.glob("*.yml"):
        page = f"# effml\n\n{translated(quick_start(), catalogue(path.stem))}\n"
        path.with_suffix(".md").write_text(page, encoding="utf-8")


def write(language: str, folder: Path) -> None:
    """A copy of the folder of notebooks, with those of BOOKS translated, to be read and run."""
    have, folder = catalogue(language), Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} is there already. Give a new folder beside notebooks/.")
    left_out = shutil.ignore_patterns("languages", "solutions", "__pycache__", ".*")
    shutil.copytree(OURS, folder, ignore=left_out)
    for name in BOOKS:
        book = json.loads((OURS / name).read_text(encoding="utf-8"))
        for cell in book["cells"]:
            if cell["cell_type"] == "markdown":
                said = translated("".join(cell["source"]), have)
                cell["source"] = said.splitlines(keepends=True)
        text = json.dumps(book, indent=1, ensure_ascii=False) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
