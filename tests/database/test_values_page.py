"""The page of values says what happens on the databases at hand."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from databases import Place

ROOT = Path(__file__).parents[2]
TABLE: dict[str, Any] = runpy.run_path(str(ROOT / "tools" / "values_table.py"))
"""What the generator of the page consists of; the tools are no package."""


async def test_the_page_of_values_is_what_came_back_just_now(place: Place) -> None:
    page = (ROOT / "docs" / "values.md").read_text(encoding="utf-8")
    section = await TABLE["section"](place.driver, place.url)
    assert section in page, "stale: run python tools/values_table.py"


def test_the_page_of_values_has_a_section_for_each_driver() -> None:
    page = (ROOT / "docs" / "values.md").read_text(encoding="utf-8")
    assert page.startswith(TABLE["INTRO"])
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == list(TABLE["COLUMNS"])
