"""Scripted hooks: connections that exist in memory only, for the tests of an engine, or of a driver built on it.

    script = Script()
    script.connect.then(fails(DbConnectionError("down", retryable=True)), slow(2))
    pool = script.watch(await start_pool(script.hooks(), PoolSettings(), name="test"))
    ...
    script.check(open=0, max_size=10)

A `Script` plays the database: it makes the connections, does what its plans say, writes down every call with its time,
counts what is open, and looks for misuse. It never takes the engine's word for anything.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from dbcore.driver import Hooks
from dbcore.errors import DbConnectionError
from dbcore.pool import Hold, Lender, NotLent, PoolOps, Release
from dbcore.testing.plans import Plan, Step, fresh, perform

__all__ = ["Call", "FakeConnection", "HookName", "Outcome", "Script"]

HookName = Literal["connect", "close", "reset", "ping", "is_usable", "is_clean", "abort", "in_transaction", "query"]
Outcome = Literal["running", "ok", "error", "cancelled"]


@dataclass(slots=True, eq=False)
class FakeConnection:
    """A connection to nothing. A test sets its state as a holder or a server would."""

    id: int
    """1 for the first connection that the script makes, then 2, 3 and so on."""
    broken: bool = False
    """The other end is gone: whatever has to go there fails. Local state does not show it yet."""
    noticed: bool = False
    """Local state shows that it is broken."""
    dirty: bool = False
    """The holder left something behind that a reset has to undo."""
    in_transaction: bool = False
    failed: bool = False
    """The transaction that is open can only be rolled back."""
    state: Literal["open", "closing", "closed", "aborted"] = "open"
    held: bool = False
    """In somebody's hands, as far as the script watches the pool."""
    running: list[HookName] = field(default_factory=list[HookName])
    """What runs on it now."""
    waiting: set[asyncio.Future[None]] = field(default_factory=set[asyncio.Future[None]], repr=False)
    """What an abort or a reset cuts short."""

    @property
    def gone(self) -> bool:
        """It is closed or aborted."""
        return self.state in ("closed", "aborted")


@dataclass(slots=True)
class Call:
    """One call of a hook, for tests to look at."""

    hook: HookName
    connection: int | None
    """The connection's `id`. Of a connect: the one of the connection that came of it."""
    began: float
    """The loop's time."""
    ended: float | None = None
    outcome: Outcome = "running"


class Script:
    """Hooks that do as they are told, on connections that they keep books of.

    `connect`, `close`, `reset`, `ping`, `abort`, `is_usable`, `is_clean`, `in_transaction` and `query` are the plans.
    Without one a hook behaves as with a healthy database. What a plan says comes on top of what the connection's state
    asks for: on a `broken` one `reset`, `ping` and `query` fail in any case.
    """

    def __init__(self) -> None:
        self.connect = Plan()
        self.close = Plan()
        self.reset = Plan()
        self.ping = Plan()
        self.abort = Plan()
        self.is_usable = Plan()
        self.is_clean = Plan()
        self.in_transaction = Plan()
        self.query = Plan()

        self.outage: BaseException | None = None
        """While it is set, every connect fails with it."""
        self.calls: list[Call] = []
        self.connections: list[FakeConnection] = []
        """All that were ever made."""
        self.statements: list[tuple[int, str, tuple[object, ...]]] = []
        """Connection, text and parameters of each statement that a scripted driver was given."""
        self.misuse: list[str] = []
        """What the engine did that no engine may do."""
        self.open = 0
        """Connections open now, as a server sees it: from the start of a connect to the end of a close or abort."""
        self.most_open = 0
        """The most that were ever open at once."""
        self._abortable = True
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def alive(self) -> list[FakeConnection]:
        """The connections that are made and not yet closed or aborted."""
        return [connection for connection in self.connections if not connection.gone]

    def of(self, *hooks: HookName) -> list[Call]:
        """The calls of these hooks, in order."""
        return [call for call in self.calls if call.hook in hooks]

    def restart(self) -> None:
        """Do to every connection what a restart of the server does."""
        for connection in self.alive:
            connection.broken = True

    def check(self, *, open: int | None = None, max_size: int | None = None) -> None:  # noqa: A002 (its name everywhere here)
        """Raise `AssertionError` for any misuse, another number of open connections, or if there ever were too many."""
        found = list(self.misuse)
        if open is not None and self.open != open:
            found.append(f"{self.open} connections are open, not {open}: {self.alive}")
        if max_size is not None and self.most_open > max_size:
            found.append(f"{self.most_open} connections were open at once, more than {max_size}")
        if found:
            raise AssertionError("\n".join(found))

    def hooks(self, *, ping: bool = True, abort: bool = True, in_transaction: bool = True) -> Hooks[FakeConnection]:
        """What an engine gets; the optional ones can be left out."""
        self._abortable = abort
        return Hooks(
            connect=self._connect,
            close=self._close,
            reset=self._reset,
            is_usable=self._is_usable,
            is_clean=self._is_clean,
            ping=self._ping if ping else None,
            abort=self._abort if abort else None,
            in_transaction=self._in_transaction if in_transaction else None,
        )

    def watch(self, pool: PoolOps[FakeConnection]) -> PoolOps[FakeConnection]:
        """The same pool, but the script sees what is handed out and given back, and may find fault with it."""

        async def checkout(timeout: float | None = None) -> tuple[FakeConnection, Release]:
            connection, release = await pool.checkout(timeout)
            self._handed_out(connection)
            kept = True

            def give_back() -> None:
                nonlocal kept
                if kept:
                    kept = connection.held = False
                release()

            return connection, give_back

        lender = None if pool.lender is None else self._watched(pool.lender)
        return dataclasses.replace(pool, checkout=checkout, lender=lender)

    def _watched(self, lender: Lender[FakeConnection]) -> Lender[FakeConnection]:
        def try_lend(hold: Hold[FakeConnection], depth: int) -> bool:
            if not lender.try_lend(hold, depth + 1):
                return False
            self._handed_out(hold.lent.connection)
            return True

        async def lend(hold: Hold[FakeConnection], timeout: float | None, depth: int) -> None:
            await lender.lend(hold, timeout, depth + 1)
            self._handed_out(hold.lent.connection)

        def take_back(hold: Hold[FakeConnection], place: NotLent) -> None:
            if hold.lent.state is not None:
                hold.lent.connection.held = False
            lender.take_back(hold, place)

        # This one is told of every look at the connection, so none of its holds is unused.
        return Lender(try_lend=try_lend, lend=lend, take_back=take_back, take_back_unused=take_back)

    async def run_query(self, connection: FakeConnection) -> None:
        """Take the time of a statement, and fail if the plan `query` or the state of the connection says so."""
        if connection.gone:
            msg = f"connection {connection.id} is closed"
            raise DbConnectionError(msg)
        await self._run("query", connection, self.query.take())

    # The hooks

    async def _connect(self) -> FakeConnection:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        made = False
        try:
            with self._call("connect", None) as call:
                await perform(self.connect.take(), set())
                if self.outage is not None:
                    raise fresh(self.outage)
                call.connection = len(self.connections) + 1
            connection = FakeConnection(len(self.connections) + 1)
            self.connections.append(connection)
            made = True
            return connection
        finally:
            if not made:
                self.open -= 1

    async def _close(self, connection: FakeConnection) -> None:
        if connection.state == "closing":
            self._blame("close", connection, "for the second time")
        if not connection.gone:
            connection.state = "closing"
        parted = False
        try:
            await self._run("close", connection, self.close.take())
            parted = True
        finally:
            # Nobody could do more for one that has no `abort`.
            if (parted or not self._abortable) and not connection.gone:
                self._end(connection, "closed")

    async def _reset(self, connection: FakeConnection) -> None:
        # What the holder left running ends here, as `Hooks` wants it.
        self._interrupt(connection, "the statement was interrupted by a reset")
        await self._run("reset", connection, self.reset.take())
        connection.dirty = connection.in_transaction = connection.failed = False

    async def _ping(self, connection: FakeConnection) -> None:
        await self._run("ping", connection, self.ping.take())

    def _is_usable(self, connection: FakeConnection) -> bool:
        return self._look("is_usable", connection, self.is_usable, truth=not connection.noticed)

    def _is_clean(self, connection: FakeConnection) -> bool:
        left = connection.noticed or connection.dirty or connection.in_transaction or bool(connection.running)
        return self._look("is_clean", connection, self.is_clean, truth=not left)

    def _in_transaction(self, connection: FakeConnection) -> bool:
        return self._look("in_transaction", connection, self.in_transaction, truth=connection.in_transaction)

    def _abort(self, connection: FakeConnection) -> None:
        if connection.gone:
            self._blame("abort", connection, f"that is {connection.state} already")
        else:
            self._end(connection, "aborted")
        connection.noticed = True
        self._interrupt(connection, "the connection was aborted")
        with self._call("abort", connection):
            error = self.abort.take().error
            if error is not None:
                raise fresh(error)

    def _interrupt(self, connection: FakeConnection, why: str) -> None:
        for waiting in connection.waiting:
            if not waiting.done():
                waiting.set_exception(DbConnectionError(why))
        # For the server it is over now, though the task that waits for it has not run yet.
        connection.running = [hook for hook in connection.running if hook != "query"]

    # The books

    async def _run(self, hook: HookName, connection: FakeConnection, step: Step) -> None:
        """Let a hook happen that needs the connection for itself."""
        if connection.gone:
            self._blame(hook, connection, f"that is {connection.state} already")
        # Without an `abort`, a close is all there is to cut a holder off.
        if hook != "close" or self._abortable:
            if connection.held and hook != "query":
                self._blame(hook, connection, "in the hands of its holder")
            if connection.running:
                self._blame(hook, connection, f"while {connection.running[0]} ran")
        connection.running.append(hook)
        try:
            with self._call(hook, connection):
                await perform(step, connection.waiting)
                if connection.broken and hook != "close":
                    connection.noticed = True
                    msg = f"connection {connection.id} is gone"
                    raise DbConnectionError(msg)
        finally:
            if hook in connection.running:
                connection.running.remove(hook)

    def _look(self, hook: HookName, connection: FakeConnection, plan: Plan, *, truth: bool) -> bool:
        if connection.gone:
            self._blame(hook, connection, f"that is {connection.state} already")
        if hook != "in_transaction" and any(running != "query" for running in connection.running):
            self._blame(hook, connection, f"while {connection.running[0]} ran")
        step = plan.take()
        with self._call(hook, connection):
            if step.error is not None:
                raise fresh(step.error)
        return truth if step.answer is None else step.answer

    def _handed_out(self, connection: FakeConnection) -> None:
        state = connection.state
        for wrong, why in (
            (connection.held, "while somebody else held it"),
            (state != "open", f"when it was {state}"),
            (connection.dirty or connection.in_transaction, "without a reset"),
            (bool(connection.running), "while something ran on it"),
        ):
            if wrong:
                self._blame("checkout", connection, why)
        connection.held = True

    @contextmanager
    def _call(self, hook: HookName, connection: FakeConnection | None) -> Generator[Call]:
        call = Call(hook, None if connection is None else connection.id, self._now())
        self.calls.append(call)
        try:
            yield call
        except BaseException as error:
            call.outcome = "cancelled" if isinstance(error, asyncio.CancelledError) else "error"
            raise
        else:
            call.outcome = "ok"
        finally:
            call.ended = self._now()

    def _end(self, connection: FakeConnection, state: Literal["closed", "aborted"]) -> None:
        connection.state = state
        self.open -= 1

    def _blame(self, what: HookName | Literal["checkout"], connection: FakeConnection, why: str) -> None:
        self.misuse.append(f"{what} of connection {connection.id} {why}, at {self._now()} s")

    def _now(self) -> float:
        """The loop's time, also where no loop runs any more: in a finaliser, say."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.time()
