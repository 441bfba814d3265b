"""What a driver and its pool can do, as it is seen from outside; and how to ask for what they cannot."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, get_args

from dbcore.database import Database
from dbcore.driver import Driver, Isolation, Savepoints
from dbcore.errors import UnsupportedError
from dbcore.pool import PoolOps
from dbcore.testing.conformance.checks import raises
from dbcore.testing.conformance.subject import Subject

__all__ = ["POOL", "TOLD", "begins", "capabilities", "isolations", "lacks", "refuses"]

DRIVER: Final = tuple(
    field.name
    for field in dataclasses.fields(Driver)
    if field.default is None or isinstance(field.default, Savepoints)  # there unless the driver says `None`
)
POOL: Final = ("admit", "stats", "holders", "drain")
TOLD: Final = ("unreachable", "permanent", "fatal", "endless", "natively")
"""Fields of `Subject` that a promise may need: what no suite can find out."""


async def _look(ask: Callable[[], object]) -> None:
    ask()


async def _nest(database: Database) -> None:
    async with database.transaction() as tx, tx.transaction():
        pass


ASK: Final[Mapping[str, Callable[[Database], Awaitable[object]]]] = {
    "begin": lambda database: database.transaction(read_only=True).__aenter__(),
    "savepoints": _nest,
    "script": lambda database: database.execute_script("SELECT 1; SELECT 2"),
    "stream": lambda database: database.stream("SELECT 1").__aenter__(),
    "server_info": lambda database: database.server_info(),
    "stats": lambda database: _look(database.stats),
    "holders": lambda database: _look(database.holders),
    "drain": lambda database: database.drain(),
}
"""How to ask for what nothing makes up for. Without the other capabilities the core does the same in another way."""


async def capabilities(subject: Subject) -> dict[str, bool]:
    """Say of each optional function of the driver, and of its pool, whether it is there."""
    found = {name: getattr(subject.vtable, name) is not None for name in DRIVER}
    async with subject.open() as database:
        pool: PoolOps[Any] = database.pool
        found |= {name: getattr(pool, name) is not None for name in POOL}
    return found


async def lacks(subject: Subject, needs: tuple[str, ...]) -> list[str]:
    """Return which of these the subject has not."""
    missing = [need for need in needs if need in TOLD and not getattr(subject, need)]
    missing += [need for need in needs if need in DRIVER and getattr(subject.vtable, need) is None]
    if any(need in POOL for need in needs):
        async with subject.open() as database:
            missing += [need for need in needs if need in POOL and getattr(database.pool, need) is None]
    return missing


async def refuses(subject: Subject, capability: str) -> None:
    """Ask for a capability that is not there: that has to be an `UnsupportedError`."""
    if capability in ASK:
        async with subject.open() as database:
            with raises(UnsupportedError, f"asking for {capability}, which is not there"):
                await ASK[capability](database)


async def isolations(subject: Subject) -> dict[str, bool]:
    """Say of each isolation, and of `read_only`, whether a transaction can be had with it."""
    found: dict[str, bool] = {}
    async with subject.open() as database:
        for isolation in get_args(Isolation):
            found[isolation] = await begins(database, isolation)
        found["read only"] = await begins(database, None, read_only=True)
    return found


async def begins(database: Database, isolation: Isolation | None, *, read_only: bool = False) -> bool:
    """Say whether the driver can begin such a transaction."""
    try:
        async with database.transaction(isolation, read_only):
            return True
    except UnsupportedError:
        return False
