"""All of the promises, in the order of a report."""

from __future__ import annotations

from types import ModuleType
from typing import Final

from dbcore.testing.conformance.areas import (
    cancellation,
    connecting,
    errors,
    isolation,
    lifecycle,
    many,
    misuse,
    pool,
    resets,
    rows_and_values,
    savepoints,
    statements,
    streams,
    transactions,
)
from dbcore.testing.conformance.promise import Promise

__all__ = ["PROMISES"]


def _promises(area: ModuleType) -> list[Promise]:
    return [value for value in vars(area).values() if isinstance(value, Promise)]


PROMISES: Final[tuple[Promise, ...]] = tuple(
    promise
    for area in (
        connecting,
        statements,
        rows_and_values,
        transactions,
        isolation,
        savepoints,
        many,
        streams,
        errors,
        cancellation,
        pool,
        resets,
        misuse,
        lifecycle,
    )
    for promise in _promises(area)
)
"""What dbcore promises of every driver."""
