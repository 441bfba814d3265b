"""Texts of SQL that every database reads, as far as there are such."""

from __future__ import annotations

from typing import Final

__all__ = ["COUNTLESS", "ENDLESS", "ITEMS", "PREFIX", "numbers"]

PREFIX: Final = "dbcore_conformance_"
"""How the names of all tables begin that the suite makes."""

ITEMS: Final = "id INTEGER PRIMARY KEY, name VARCHAR(100) NOT NULL"
"""Columns of the table that most promises work on."""

_HUNDRED: Final = "SELECT 0 AS n" + "".join(f" UNION ALL SELECT {n}" for n in range(1, 100))

_SUM: Final = "a.n + b.n + c.n + d.n + e.n + f.n + g.n + i.n"
_EIGHT: Final = "h a, h b, h c, h d, h e, h f, h g, h i"

ENDLESS: Final = f"WITH h AS ({_HUNDRED}) SELECT a.n FROM {_EIGHT} WHERE {_SUM} < 0"  # noqa: S608  # all of it is here
"""Looks at 10,000,000,000,000,000 combinations, and finds nothing."""

COUNTLESS: Final = f"WITH h AS ({_HUNDRED}) SELECT a.n FROM {_EIGHT} WHERE ({_SUM}) % 97 = 0"  # noqa: S608  # as above
"""Looks at as many, and finds one in a hundred or so: who waits for all of them has no time to fill the memory."""


def numbers(count: int) -> str:
    """Return a query that gives the numbers from 0 on, in order, in a column `i`; at most 10,000 of them."""
    return (
        f"WITH h AS ({_HUNDRED}) SELECT a.n + 100 * b.n AS i FROM h a, h b "  # noqa: S608  # as above
        f"WHERE a.n + 100 * b.n < {count} ORDER BY i"
    )
