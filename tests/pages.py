"""The pages of the documentation as the tests read them: their blocks of code, and the files that these make up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["BLOCK", "DOCS", "FILE", "PAGES", "ROOT", "SNIPPET", "blocks", "write_files"]

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

BLOCK = re.compile(r"^```(?P<language>[a-z]+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# (?P<name>[a-z_]+\.(?:py|toml))\n")
"""What a block begins with that is a file, or a part of one."""
SNIPPET = re.compile(r'--8<-- "(?P<name>[^"]+)"\n')
"""The whole of a block that shows a file: the site puts it there. Its path starts at `docs`."""


def blocks(page: Path) -> Iterator[tuple[str, str, int]]:
    """Each block of code: its language, its text, and the line before its first."""
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        yield found["language"], found["text"], text.count("\n", 0, found.start()) + 1


def write_files(page: Path, folder: Path) -> dict[str, Path]:
    """Write the files that a page consists of, each from all of its blocks, one after the other."""
    texts: dict[str, str] = {}
    for _, text, _ in blocks(page):
        if named := FILE.match(text):
            before = texts.get(named["name"])
            texts[named["name"]] = text if before is None else f"{before}\n\n{text}"
    files = {name: folder / name for name in texts}
    for name, file in files.items():
        file.write_text(texts[name], encoding="utf-8")
    return files
