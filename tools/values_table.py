"""Write docs/values.md: which column keeps which portable value, as it came out just now on each database.

    python tools/values_table.py

`tests/database/test_values_page.py` compares the page with what it finds itself.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import dbcore as db
from dbcore.testing.values import KINDS, WAYS, Changed, Fate, Kept, Kind, is_same, tried

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

from sources import SOURCES  # noqa: E402  # found by the line above
from value_columns import COLUMNS  # noqa: E402  # as above

PAGE = ROOT / "docs" / "values.md"
PLAIN = (bool, int, float, str, bytes)

INTRO = """\
# Values, column by column

Written by `python tools/values_table.py` from what came back, and held to that by a test. Each value of each portable
type (`dbcore.testing.values.KINDS`: the ends of its range, empty ones, NULL, and what else has gone wrong somewhere)
was written as a parameter, by `execute_many`, `batch` and `insert_many`, and read with `into` naming its type, by
`fetch_value`, `fetch_all` and `stream`.

The first column of each type is the one to choose. "As it was" means that the value is the same without `into`;
otherwise that cell shows one as it comes then. "Changed" is the one to beware of: no error told of it. [Statements](
statements.md#values) has the rules in short.
"""


def main() -> None:
    sections: list[str] = []
    for driver, source in SOURCES.items():
        with source() as url:
            sections.append(asyncio.run(section(driver, url)))
    PAGE.write_text("\n".join([INTRO, *sections]), encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}")


async def section(driver: str, url: str) -> str:
    """Return the part of the page for one database."""
    lines = [f"## {driver}", "", "| Python | column | comes back equal | without `into` |", "|---|---|---|---|"]
    async with db.open(url) as database, database.connection() as connection:
        for name, kind in KINDS.items():
            for column in COLUMNS[driver][name]:
                fates = await tried(connection, column, kind, WAYS)
                lines.append(f"| {name} | `{column}` | {_equal(fates)} | {_raw(kind, fates)} |")
    return "\n".join([*lines, ""])


def _equal(fates: Mapping[str, Mapping[str, Fate]]) -> str:
    lost: dict[str, list[str]] = {}
    for name, ways in fates.items():
        if any(not isinstance(fate, Kept) for fate in ways.values()):
            lost.setdefault(_fate(ways), []).append(name)
    if not lost:
        return "yes"
    if sum(map(len, lost.values())) == len(fates):
        return "no: " + "; ".join(lost if len(lost) == 1 else [f"{', '.join(lost[text])}: {text}" for text in lost])
    return "all but " + "; ".join(f"{', '.join(names)}: {text}" for text, names in lost.items())


def _fate(ways: Mapping[str, Fate]) -> str:
    """What became of a value, and by which ways something else."""
    words = {way: type(fate).__name__.lower() for way, fate in ways.items()}
    usual = words["parameter"]
    others: dict[str, list[str]] = {}
    for way, word in words.items():
        if word != usual:
            others.setdefault(word, []).append(f"`{way.split(',')[0]}`")
    rest = [f"{word} by {', '.join(dict.fromkeys(names))}" for word, names in others.items()]
    return "; ".join([usual, *rest]) if not rest else f"{usual} ({'; '.join(rest)})"


def _raw(kind: Kind, fates: Mapping[str, Mapping[str, Fate]]) -> str:
    """What comes without `into`: an example where it is not the value itself, of one that is kept if there is one."""
    found = [(name, ways["parameter"]) for name, ways in fates.items()]
    kept = [each for each in found if isinstance(each[1], Kept)]
    for name, fate in kept or found:
        if isinstance(fate, Kept | Changed) and not is_same(kind.values[name], fate.raw):
            return f"`{fate.raw!r}`" if isinstance(fate.raw, PLAIN) else f"a `{type(fate.raw).__name__}`"
    return "as it was" if kept else ""


if __name__ == "__main__":
    main()
