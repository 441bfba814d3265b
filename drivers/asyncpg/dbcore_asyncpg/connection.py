"""The native connection: asyncpg's own, with what the driver knows about it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

import asyncpg

from dbcore.config import Reset
from dbcore.driver import ServerInfo, TransactionStatus

if TYPE_CHECKING:
    from asyncpg.prepared_stmt import PreparedStatement

    Native = asyncpg.Connection[asyncpg.Record]
else:
    Native = asyncpg.Connection

__all__ = ["Connection", "Watcher", "server_info", "touch", "transaction_status"]

log = logging.getLogger("dbcore.asyncpg")

_CANCEL_SECONDS = 5.0
"""How long a cancelled statement may take to end before its connection is dropped."""
_PATIENCE = 0.1
"""Seconds after which the server is told for the second time; they double from time to time."""

# What asyncpg's own reset leaves as it is. Never DISCARD ALL: it ends the statements that asyncpg keeps prepared.
_BEYOND_ASYNCPGS = """
SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; DISCARD TEMP; DISCARD SEQUENCES;
DO $$DECLARE n text; BEGIN FOR n IN SELECT name FROM pg_catalog.pg_prepared_statements WHERE from_sql
LOOP EXECUTE pg_catalog.format('DEALLOCATE %I', n); END LOOP; END$$;"""


class Watcher(Protocol):
    """Is told of the end of a connection, whoever brings it about, and of what concerns all of them."""

    def ending(self, connection: Connection) -> None: ...

    def ended(self, connection: Connection) -> None: ...

    def altered(self) -> None: ...


class Connection(Native):
    """An asyncpg connection in a pool, on which all of asyncpg's interface can be used.

    It is the connection itself, not the proxy that asyncpg's pool hands out: do not keep it beyond its release.
    """

    __slots__ = (
        "altered", "block", "changed", "committing", "copied", "expired", "failed", "insisting", "open_stream",
        "outdated", "own_transaction", "read_only_block", "renamed", "renaming", "reset_mode", "retire_read_only",
        "retired", "running", "settled", "watcher",
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reset_mode: Reset = "tracked"
        self.changed = False
        """The session may not be as it was: see `get_reset_query`."""
        self.retired = False
        """The server said something after which this connection is of no more use."""
        self.retire_read_only = True
        """A server that says "read-only" is not the one that the pool wants."""
        self.block = False
        """A transaction was begun by `begin` and is not over."""
        self.read_only_block = False
        self.failed = False
        """An error has doomed the transaction, or a statement of it was cancelled. asyncpg does not tell."""
        self.altered = False
        """Something was altered in the transaction that is open, and may be as it was at its end."""
        self.renaming = False
        """Names mean something else in the transaction that is open, and perhaps not at its end."""
        self.renamed = False
        """The session may mean other things by names than it did: a reset changes that again."""
        self.outdated = False
        """What is remembered of the schema, prepared statements too, is forgotten before the next use."""
        self.committing = False
        """Its COMMIT was sent: if the connection is lost now, nobody knows what became of it."""
        self.open_stream: object | None = None
        """The stream that is open. One that a release has ended must not touch the connection any more."""
        self.own_transaction = False
        """The transaction is that of the open stream, and nobody's business."""
        self.copied: dict[str, tuple[int, ...]] = {}
        """The types of the columns that were last filled by COPY, for which asyncpg remembers how."""
        self.running = 0
        """Operations of this driver that are under way: one, or none."""
        self.settled: asyncio.Future[None] | None = None
        """Done when there is none any more, if somebody waits for that."""
        self.insisting: asyncio.Task[None] | None = None
        """Sees to the end of a statement that was cancelled."""
        self.expired = False
        """It is to be replaced."""
        self.watcher: Watcher | None = None

    async def prepared(self, sql: str) -> PreparedStatement[asyncpg.Record]:
        """Return the statement, out of asyncpg's cache if it is there, which `prepare` does not look at."""
        if self.outdated:
            self.forget_schema()
        # As asyncpg's own methods do. It is not for everybody, and so not in the stubs.
        return await self._prepare(sql, use_cache=True)  # type: ignore[attr-defined,no-any-return]  # pyright: ignore[reportAttributeAccessIssue,reportUnknownMemberType,reportUnknownVariableType]

    def schema_changed(self) -> None:
        """Have all of the pool prepare anew: this connection at once, each other one before its next use.

        asyncpg's `reload_schema_state` does so with all at once, and closes what other tasks are about to run.
        """
        if self.watcher is not None:
            self.watcher.altered()
        self.forget_schema()

    def forget_schema(self) -> None:
        """Forget what this connection remembers of it. No trip; nothing may be under way."""
        self.outdated = False
        if self.is_closed():
            return
        self._drop_local_type_cache()  # type: ignore[attr-defined]  # as in `prepared`
        self._drop_local_statement_cache()  # type: ignore[attr-defined]

    @property
    def itself(self) -> Connection:
        """This connection, also when it is asked through the proxy that asyncpg's pool hands out."""
        return self

    @property
    def encrypted(self) -> bool:
        """Whether the way to the server is."""
        return bool(self._protocol.is_ssl)  # type: ignore[attr-defined]  # nobody else knows; not in the stubs

    def is_in_transaction(self) -> bool:
        """Say whether the server was in a transaction, failed ones included, when it last spoke."""
        return not self.is_closed() and super().is_in_transaction()

    def get_reset_query(self) -> str:
        """Return what asyncpg's pool sends when a connection is given back: nothing, unless `pool.reset` says so."""
        if self.reset_mode == "full" or (self.reset_mode == "tracked" and self.changed):
            if self.renamed:
                self.renamed = False
                self.forget_schema()
            return super().get_reset_query() + _BEYOND_ASYNCPGS
        return ""

    def insist(self) -> None:
        """Begin to see to the end of a statement that was cancelled.

        asyncpg tells the server once. Told before it has begun with the statement, the server takes no notice.
        """
        if not self.is_closed() and self._protocol._is_cancelling() and self.insisting is None:  # type: ignore[attr-defined]  # noqa: SLF001  # nobody else knows
            self.insisting = asyncio.get_running_loop().create_task(self._insist(), name="dbcore cancellation")

    async def _insist(self) -> None:
        now = asyncio.get_running_loop().time
        deadline, patience = now() + _CANCEL_SECONDS, _PATIENCE
        try:
            while not await self._acknowledged(patience):
                if now() > deadline:
                    log.warning("a cancelled statement did not end in %g s, its connection is dropped", _CANCEL_SECONDS)
                    self.terminate()
                    return
                async with asyncio.timeout(patience):  # it takes a cancellation for its end, and raises nothing
                    await self._cancel(asyncio.get_running_loop().create_future())  # type: ignore[attr-defined]
                patience *= 2
        finally:
            self.insisting = None

    async def _acknowledged(self, patience: float) -> bool:
        if self.is_closed():
            return True
        try:
            async with asyncio.timeout(patience):
                await self._protocol._wait_for_cancellation()  # type: ignore[attr-defined]  # noqa: SLF001  # as above
        except TimeoutError:
            return False
        return True

    async def cancelled(self) -> None:
        """Wait until what was cancelled has ended: a late word to the server must not hit another statement."""
        if self.insisting is not None:
            await asyncio.wait([self.insisting])

    async def settle(self) -> None:
        """Wait until no operation of this driver is under way."""
        while self.running:
            if self.settled is None:
                self.settled = asyncio.get_running_loop().create_future()
            await asyncio.shield(self.settled)
        await self.cancelled()

    def begin_operation(self) -> None:
        """Count one in."""
        self.running += 1

    def end_operation(self) -> None:
        """Count one out, and wake those who wait for it."""
        self.running -= 1
        if not self.running and self.settled is not None:
            if not self.settled.done():
                self.settled.set_result(None)
            self.settled = None

    def forget_holder(self) -> None:
        """Make ready for the next holder what is not the server's."""
        self.changed = self.block = self.read_only_block = self.failed = self.own_transaction = False
        self.open_stream = None
        if self.altered or self.renaming:  # in a transaction that was left open, and rolled back
            self.altered = self.renaming = False
            self.outdated = True

    async def close(self, *, timeout: float | None = None) -> None:
        """Close politely."""
        watcher, self.watcher = self.watcher, None
        if watcher is not None:
            watcher.ending(self)
        try:
            await super().close(timeout=timeout)
        finally:
            if watcher is not None:
                watcher.ended(self)

    def terminate(self) -> None:
        """Drop at once."""
        watcher, self.watcher = self.watcher, None
        if watcher is not None:
            watcher.ending(self)
            watcher.ended(self)
        super().terminate()


def transaction_status(connection: Connection) -> TransactionStatus:
    """Say where the transaction stands, as far as asyncpg's local state and the errors that were seen tell."""
    if connection.own_transaction:
        return "idle"
    if connection.is_closed():  # COMMIT will tell
        return "open" if connection.block else "idle"
    if not connection.is_in_transaction():
        return "idle"
    return "failed" if connection.failed else "open"


def touch(connection: Connection) -> None:
    """Note that anything may have been done to the session."""
    connection.changed = connection.renamed = True
    if connection.outdated and not connection.running:
        connection.forget_schema()


async def server_info(connection: Connection) -> ServerInfo:
    """Return what the server said of itself when the connection was made. No trip."""
    version = str(connection.get_settings().server_version)
    return ServerInfo(version=f"PostgreSQL {version.split()[0]}", tls=connection.encrypted)
