"""Write docs/conformance/*.md: what the conformance suite says of each driver of this repository, tried just now.

    python tools/conformance_pages.py [DRIVER ...]

The servers are those of the tests. Figures are left out: they are another machine's. `tests/test_conformance_pages.py`
holds the pages against the promises and the declarations.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from dbcore.loading import resolve
from dbcore.testing.conformance import Report, markdown
from dbcore.testing.conformance.finding import subject_for
from dbcore.testing.conformance.report import report_on

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

from sources import SOURCES  # noqa: E402  # found by the line above

PAGES = ROOT / "docs" / "conformance"

INTRO = """\
Written by `python tools/conformance_pages.py`, with what the package of the driver declares. It is the report of
`dbcore conformance URL --no-figures --markdown FILE`. [How it is read](../conformance.md#the-report).
"""


def main(*drivers: str) -> bool:
    """Write the pages of these drivers, or of all. Returns whether each keeps what it promises."""
    # What goes wrong on purpose is logged as it should be.
    logging.getLogger("dbcore").addHandler(logging.NullHandler())
    good = True
    for driver in drivers or SOURCES:
        with SOURCES[driver]() as url:
            report = asyncio.run(report_on(subject_for(resolve(url))))
        print(report)
        for verdict in report.verdicts:
            if not verdict.good:
                good = False
                print(f"  {verdict.outcome}: {verdict.promise.name}: {verdict.why}")
        path = PAGES / f"{driver}.md"
        path.write_text(page(report), encoding="utf-8")
        print(f"written: {path.relative_to(ROOT)}")
    return good


def page(report: Report) -> str:
    """Return the report as a page of the documentation."""
    title, rest = markdown(report).split("\n", 1)
    return f"{title}\n\n{INTRO}{rest}"


if __name__ == "__main__":
    sys.exit(not main(*sys.argv[1:]))
