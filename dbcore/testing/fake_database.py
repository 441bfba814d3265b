"""A database without a server, for unit tests of an application: it answers as scripted, and remembers what came."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from unittest.mock import ANY

from dbcore.database import Database
from dbcore.errors import DbConnectionError, PoolTimeout
from dbcore.events import Observer
from dbcore.loading import resolve
from dbcore.pool import PoolOps
from dbcore.statements import Params
from dbcore.testing.fake_driver import FakeDriver, RecordedCall, RecordedTransaction
from dbcore.testing.fake_lines import Line, Lines, Text
from dbcore.testing.script import FakeConnection, Script

__all__ = ["Condition", "FakeDatabase"]


class FakeDatabase(Database):
    """A `Database` that answers from a script: `database.on("SELECT ...", [1]).returns([{"id": 1}])`.

    Only the database is made up. Pool, transactions, timeouts, rows, `into` and errors are the real ones, so all of
    it is used as ever: `async with FakeDatabase() as database:`. It works on any event loop; in virtual time (see
    `dbcore.testing.virtual`) waiting costs nothing.

    `driver` is what `database.driver` says. With `in_order` the statements must come in the order of the lines. With
    `errors_doom` (as on a server) an error inside of a transaction leaves nothing but a rollback. `pool`,
    `statement_timeout` and `observe` are those of a config.
    """

    def __init__(
        self,
        *,
        name: str = "fake",
        driver: str = "fake",
        in_order: bool = False,
        errors_doom: bool = True,
        pool: Mapping[str, Any] | None = None,
        statement_timeout: float | None = None,
        observe: Observer | None = None,
    ) -> None:
        self._script = Script()
        self._lines = Lines(in_order=in_order)
        self._fake = FakeDriver(self._script, self._lines, errors_doom=errors_doom)
        value = self._fake.driver(driver)
        keys = {"driver": driver, "pool": pool or {}, "statement_timeout": statement_timeout}
        super().__init__(resolve(keys, name, driver=value, observe=observe), value)

    # -- the script ----------------------------------------------------------------------------------------------------

    def on(self, sql: Text, params: Any = ANY) -> Line:
        """Add a line to the script: what comes of a statement. Say what by the methods of what is returned.

        `sql` is the statement (spaces, comments and the case of words make no difference, and `:name` is `$1`), a
        compiled regular expression that is searched in it, or a function of text and parameters. `params` are the
        parameters as the application gives them, with `ANY` where any will do. The first line that fits is taken.
        BEGIN, COMMIT, ROLLBACK and savepoints need no line, but may have one: `on("COMMIT").raises(...)`.
        """
        return self._lines.add(Line(sql, params))

    def pool_exhausted(self) -> Condition:
        """Let every checkout fail with `PoolTimeout` at once, from now on, or as long as `with` it lasts."""
        self._fake.guard = self._refuse
        return Condition(self._fake.let_in)

    def unreachable(self, error: Exception | None = None) -> Condition:
        """Break every connection and let connects fail with `error`, from now on, or as long as `with` it lasts."""
        self._script.outage = error or DbConnectionError("the fake database is away", retryable=True)
        self._script.restart()
        return Condition(self._reach)

    # -- what came -----------------------------------------------------------------------------------------------------

    @property
    def calls(self) -> list[RecordedCall]:
        """Every statement that came, in order."""
        return self._fake.calls

    @property
    def transactions(self) -> list[RecordedTransaction]:
        """Every transaction that was begun, in order."""
        return self._fake.transactions

    def calls_of(self, sql: Text, params: Params | Sequence[Params] = ANY) -> list[RecordedCall]:
        """The calls of one statement, which is told as for `on`."""
        line = Line(sql, params)
        return [
            call
            for call in self._fake.calls
            if line.is_about(call.sql, call.params)
            and (line.takes_params(call.params, many=False) or line.takes_params(call.params, many=True))
        ]

    def assert_done(self) -> None:
        """Raise `AssertionError` if a line was not used as often as it should be, or a statement had no line."""
        found = [str(error) for error in self._fake.unexpected]
        found += [f"never came, or too seldom: {line}" for line in self._lines.unused()]
        if found:
            raise AssertionError("\n".join(found))

    # -- inside --------------------------------------------------------------------------------------------------------

    def _reach(self) -> None:
        self._script.outage = None

    def _refuse(self, pool: PoolOps[FakeConnection], timeout: float | None) -> None:
        limit = self.config.pool.checkout_timeout if timeout is None else timeout
        raise PoolTimeout(
            f"pool {self.name!r} had no connection within {limit:g} s: all connections were busy "
            "(so the test said, by pool_exhausted)",
            reason="exhausted",
            stats=None if pool.stats is None else pool.stats(),
            holders=() if pool.holders is None else pool.holders(),
        )


class Condition:
    """Something that is wrong with a fake database, from the call that made this until `end()`, or for a `with`."""

    def __init__(self, end: Callable[[], None]) -> None:
        self.end = end
        """Let it be over."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
