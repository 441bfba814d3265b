"""Why a checkout failed, in words and numbers: who holds what, what connects do, and what to try."""

from __future__ import annotations

import asyncio
import weakref
from inspect import CO_ASYNC_GENERATOR
from typing import TYPE_CHECKING, Any

from dbcore.engine.slots import Slot, State
from dbcore.errors import PoolDeadlock, PoolTimeout, TimeoutReason
from dbcore.places import describe
from dbcore.stats import Holder

if TYPE_CHECKING:
    from dbcore.engine.engine import Engine

__all__ = ["Explanation", "deadlock", "holder", "holders", "task_of", "timed_out"]

SHOWN = 3
"""Holders named in a message; the error carries all of them."""


def site(slot: Slot[Any]) -> str:
    """Where the connection was checked out."""
    return "(unknown place)" if slot.code is None else describe(slot.code, slot.instruction, task_of(slot))


def task_of(slot: Slot[Any]) -> asyncio.Task[Any] | None:
    """The task that took the connection, while somebody can know."""
    hold = slot.holder() if slot.holder is not None else None
    task: asyncio.Task[Any] | weakref.ref[asyncio.Task[Any]] | None = hold.task if hold is not None else None
    return task() if isinstance(task, weakref.ref) else task


def holder(engine: Engine[Any], slot: Slot[Any]) -> Holder:
    """Who holds this connection, as plain values."""
    task = task_of(slot)
    name = task.get_name() if task is not None else "(a task that has ended)"
    return Holder(name, site(slot), engine.now() - slot.since, _in_transaction(engine, slot))


def _in_transaction(engine: Engine[Any], slot: Slot[Any]) -> bool:
    probe = engine.hooks.in_transaction
    try:
        return probe is not None and probe(slot.connection)
    except Exception:  # it must not raise; but whoever waits for this report must not wait for ever
        engine.log.exception("pool %s: in_transaction raised", engine.name)
        return False


def holders(engine: Engine[Any]) -> tuple[Holder, ...]:
    """Everybody who holds a connection, longest first."""
    found = [holder(engine, slot) for slot in engine.books.slots_in(State.IN_USE)]
    return tuple(sorted(found, key=lambda one: -one.held_for))


class Explanation:
    """Why nothing is to be had at this moment: the same for all whose time is up now."""

    __slots__ = ("cause", "holders", "reason", "stats", "text")

    def __init__(self, engine: Engine[Any]) -> None:
        self.stats = stats = engine.stats()
        self.holders = holders(engine)
        outage = engine.connecting.outage
        self.reason: TimeoutReason = "exhausted"
        self.cause: BaseException | None = None
        if outage is not None and stats.in_use < stats.max_size:
            self.reason, self.cause = "connect_failing", outage.error
            why = f"connects fail, the last one with {type(outage.error).__name__}: {outage.error}"
            cure = "Look at that error first: no setting of the pool can help while no connection can be made"
            if stats.size:
                cure = (
                    "Look at that error first. If the database has no room for more connections, lower pool.max_size "
                    "here or in the other programs that use it"
                )
        elif stats.connecting and stats.in_use < stats.max_size:
            self.reason = "connecting"
            why = "connects were still under way"
            cure = "Look at the network and the database's load, or raise checkout_timeout"
        else:
            why = "all connections were busy"
            cure = (
                "Hold connections for shorter (nothing slow inside `async with`), look for a holder that never lets go "
                "(pool.leak_warning names it), or raise pool.max_size if the database can bear it"
            )
        named = "; ".join(str(one) for one in self.holders[:SHOWN])
        more = " ..." if len(self.holders) > SHOWN else ""
        held = f" Held longest: {named}{more}." if named else ""
        self.text = f"{why}. {stats}.{held} {cure}."


def timed_out(engine: Engine[Any], limit: float) -> PoolTimeout:
    """The error for a checkout that has waited `limit` seconds in vain."""
    why = engine.explanation()
    error = PoolTimeout(
        f"pool {engine.name!r} had no connection within {limit:g} s: {why.text}",
        reason=why.reason,
        stats=why.stats,
        holders=why.holders,
    )
    error.__cause__ = why.cause
    return error


def deadlock(engine: Engine[Any], task: asyncio.Task[Any] | None) -> PoolDeadlock | None:
    """The error for `task` if its waiting would close a circle, else `None`.

    It would if every holder is bound to release in a task that waits for a connection itself. A holder that may be
    released from elsewhere proves nothing.
    """
    books = engine.books
    if task is None or books.in_use < books.max_size:
        return None
    circle: list[Slot[Any]] = []
    for slot in books.slots:
        held_by = task_of(slot)
        if not slot.scoped or held_by is None or (held_by is not task and held_by not in engine.lending.waiting_tasks):
            return None
        if slot.code.co_flags & CO_ASYNC_GENERATOR:  # one that was abandoned is closed by the event loop, elsewhere
            return None
        circle.append(slot)
    cycle = "; ".join(str(holder(engine, slot)) for slot in circle)
    return PoolDeadlock(
        f"pool {engine.name!r}: task {task.get_name()} would wait for ever, for each of the {books.max_size} "
        f"connections is held by a task that waits for one itself: {cycle}. Take one connection per task and pass it "
        "on, instead of checking out a second one inside; or raise pool.max_size above the number of tasks that nest."
    )
