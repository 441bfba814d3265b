"""Write docs/conformance/*.md: what the conformance suite says of each driver of this repository, tried just now.

    python tools/conformance_pages.py [DRIVER ...]

The servers are those of the tests. Figures are left out: they are another machine's. `tests/test_conformance_pages.py`
holds the pages against the promises and the declarations.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from dbcore.loading import resolve
from dbcore.testing.conformance import Report, markdown
from dbcore.testing.conformance.finding import subject_for
from dbcore.testing.conformance.report import report_on

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))

import mysql_server  # noqa: E402  # found by the line above
import postgres_server  # noqa: E402  # as above

PAGES = ROOT / "docs" / "conformance"

INTRO = """\
Written by `python tools/conformance_pages.py`, with what the package of the driver declares. It is the report of
`dbcore conformance URL --no-figures --markdown FILE`. [How it is read](../conformance.md#the-report).
"""


@contextlib.contextmanager
def _sqlite() -> Generator[str, None, None]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/scratch.db"


@contextlib.contextmanager
def _postgres() -> Generator[str, None, None]:
    if url := os.environ.get("DBCORE_TEST_POSTGRES"):
        yield url
    else:
        with postgres_server.Server() as server:
            yield server.url


@contextlib.contextmanager
def _asyncpg() -> Generator[str, None, None]:
    with _postgres() as url:
        yield url.replace("postgresql:", "asyncpg:", 1)


@contextlib.contextmanager
def _mysql() -> Generator[str, None, None]:
    if url := os.environ.get("DBCORE_TEST_MYSQL"):
        yield url
    else:
        with mysql_server.Server() as server:
            yield server.url


SOURCES: Mapping[str, Callable[[], AbstractContextManager[str]]] = {
    "sqlite": _sqlite,
    "postgres": _postgres,
    "asyncpg": _asyncpg,
    "mysql": _mysql,
}
"""By the name of the driver: an empty database, by its URL."""


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
