"""asyncpg among the databases of the face: the same Postgres, and what asyncpg and its pool do not do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from databases import Place

__all__ = ["BEYOND_ASYNCPG", "through_asyncpg"]

BEYOND_ASYNCPG: Mapping[str, str] = {
    "test_errors_from_a_database_survive_a_pickle": "its pool does not see that holders wait for each other: there is "
    "no PoolDeadlock",
    "test_a_dropped_database_warns_with_the_place_it_was_opened_at": "the timers of its pool keep connections that "
    "nobody stopped until max_idle",
    "test_a_program_that_never_stops_ends_by_itself_and_is_told_where_it_opened[in a statement]": "the task in which "
    "it cancels a statement complains when the event loop is closed under it",
}
"""Tests of the face that asyncpg cannot pass, with the reason."""


def through_asyncpg(place: Place) -> Place:
    """The same place, reached by the other driver."""

    def changed(url: str) -> str:
        return url.replace("postgresql://", "postgresql+asyncpg://", 1)

    return replace(
        place,
        driver="asyncpg",
        package="dbcore_asyncpg",
        library="asyncpg",
        url=changed(place.url),
        impatient={key: changed(value) if key == "url" else value for key, value in place.impatient.items()},
        unreachable={what: (changed(url), word) for what, (url, word) in place.unreachable.items()},
    )
