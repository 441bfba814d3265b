"""The statement methods, written once: `Connection` runs them on itself, `Database` where it finds a connection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar, overload

from dbcore.access import Access
from dbcore.driver import Result
from dbcore.errors import DbError, NotFound, QueryError, TooManyRows
from dbcore.loan import Loan
from dbcore.statements import Params, Row, Statement, decoder, transaction_word
from dbcore.stream import Stream

__all__ = ["Querying"]

C = TypeVar("C")
T = TypeVar("T")

BATCH_SIZE = 1000
LARGEST_BATCH = 2**31 - 1
"""Libraries in C take no larger number, and find that out in the middle of a statement."""


class Querying(ABC, Generic[C]):
    """What can be asked of a connection, and of a database as a whole."""

    __slots__ = ()

    _access: Access[C]

    @abstractmethod
    def _query(self, sql: str, text: str, values: Sequence[Any], timeout: float | None) -> Awaitable[Result]:
        """Run one statement."""

    @abstractmethod
    async def _together(
        self, operation: Callable[[C], Awaitable[T]], sql: str | None, timeout: float | None, *, apart: bool = False
    ) -> T:
        """Run an operation that is all or nothing. Without `apart` it gets a transaction where none is open."""

    @abstractmethod
    def _streaming(self) -> tuple[Loan[C], bool]:
        """The loan that a stream reads on, and whether it is the stream's own to take and release."""

    # -- one statement -------------------------------------------------------------------------------------------------

    async def execute(self, sql: str, params: Params = (), *, timeout: float | None = None) -> int:
        """Run one statement and return the number of rows it affected.

        `params` is a sequence for `$1, $2, ...` or a mapping for `:name`. After `timeout` seconds (`None`: the
        config's `statement_timeout`) the work is ended at the database and `QueryTimeout` raised, with
        `outcome_unknown` where it may have been done by then; cancelling ends it too. Raises `QueryError` and its
        kinds, `DbConnectionError`, and on a database the `PoolError`s.
        """
        text, values = self._bind(sql, params)
        return (await self._query(sql, text, values, timeout)).count

    @overload
    async def fetch_all(
        self, sql: str, params: Params = (), *, into: None = None, timeout: float | None = None
    ) -> list[Row]: ...
    @overload
    async def fetch_all(
        self, sql: str, params: Params = (), *, into: type[T], timeout: float | None = None
    ) -> list[T]: ...
    @overload
    async def fetch_all(
        self, sql: str, params: Params = (), *, into: Any, timeout: float | None = None
    ) -> list[Any]: ...
    async def fetch_all(
        self, sql: str, params: Params = (), *, into: Any = None, timeout: float | None = None
    ) -> list[Any]:
        """Run one statement and return all of its rows, as `Row`s or as values of the type `into`.

        Raises `DecodeError` for a row that does not fit `into`; otherwise as `execute`.
        """
        text, values = self._bind(sql, params)
        result = await self._query(sql, text, values, timeout)
        return self._decoded(sql, into, result.columns, result.rows)

    @overload
    async def fetch_one(
        self, sql: str, params: Params = (), *, into: None = None, timeout: float | None = None
    ) -> Row: ...
    @overload
    async def fetch_one(self, sql: str, params: Params = (), *, into: type[T], timeout: float | None = None) -> T: ...
    @overload
    async def fetch_one(self, sql: str, params: Params = (), *, into: Any, timeout: float | None = None) -> Any: ...
    async def fetch_one(self, sql: str, params: Params = (), *, into: Any = None, timeout: float | None = None) -> Any:
        """Run one statement that must give exactly one row; `NotFound` for none, `TooManyRows` for more."""
        text, values = self._bind(sql, params)
        result = await self._query(sql, text, values, timeout)
        if len(result.rows) != 1:
            raise self._not_one(sql, result)
        return self._decoded(sql, into, result.columns, result.rows)[0]

    @overload
    async def fetch_optional(
        self, sql: str, params: Params = (), *, into: None = None, timeout: float | None = None
    ) -> Row | None: ...
    @overload
    async def fetch_optional(
        self, sql: str, params: Params = (), *, into: type[T], timeout: float | None = None
    ) -> T | None: ...
    @overload
    async def fetch_optional(
        self, sql: str, params: Params = (), *, into: Any, timeout: float | None = None
    ) -> Any: ...
    async def fetch_optional(
        self, sql: str, params: Params = (), *, into: Any = None, timeout: float | None = None
    ) -> Any:
        """Run one statement that gives one row or none, and return that row or `None`; `TooManyRows` for more."""
        text, values = self._bind(sql, params)
        result = await self._query(sql, text, values, timeout)
        if not result.rows:
            return None
        if len(result.rows) != 1:
            raise self._not_one(sql, result)
        return self._decoded(sql, into, result.columns, result.rows)[0]

    @overload
    async def fetch_value(
        self, sql: str, params: Params = (), *, into: None = None, timeout: float | None = None
    ) -> Any: ...
    @overload
    async def fetch_value(self, sql: str, params: Params = (), *, into: type[T], timeout: float | None = None) -> T: ...
    @overload
    async def fetch_value(self, sql: str, params: Params = (), *, into: Any, timeout: float | None = None) -> Any: ...
    async def fetch_value(
        self, sql: str, params: Params = (), *, into: Any = None, timeout: float | None = None
    ) -> Any:
        """Run one statement that must give exactly one row, and return the first column of that row."""
        text, values = self._bind(sql, params)
        result = await self._query(sql, text, values, timeout)
        if len(result.rows) != 1:
            raise self._not_one(sql, result)
        if not result.columns:
            raise self._access.own(
                QueryError("the statement gave a row without columns, where a value was asked for"), sql
            )
        value = result.rows[0][0]
        if into is None:
            return value
        return self._decoded(sql, into, result.columns[:1], [(value,)])[0]

    # -- several at once -----------------------------------------------------------------------------------------------

    async def execute_many(self, sql: str, rows: Iterable[Params], *, timeout: float | None = None) -> int:
        """Run one statement for each of `rows`, all or nothing, and return the rows affected in total.

        They go to the database together, not one by one. Inside a transaction a failure dooms that transaction.
        """
        statement = self._compile(sql)
        self._refuse_apart(sql)
        bound: list[tuple[str, Sequence[Any]]] = []
        for row in rows:
            try:
                bound.append(_kept(*statement.bind(row)))
            except QueryError as error:
                raise self._access.own(QueryError(f"row {len(bound) + 1}: {error}"), sql) from None
        if not bound:
            return 0
        driver = self._access.driver
        text, values = bound[0][0], [value for _, value in bound]
        if (many := driver.execute_many) is not None:
            return await self._together(lambda native: many(native, text, values), sql, timeout, apart=True)

        async def one_by_one(native: C) -> int:
            return sum([(await driver.query(native, text, row)).count for row in values])

        return await self._together(one_by_one, sql, timeout)

    async def batch(self, statements: Iterable[tuple[str, Params]], *, timeout: float | None = None) -> list[Result]:
        """Run several `(sql, params)` together, all or nothing, and return a `Result` for each, its rows as `Row`s.

        Inside a transaction a failure dooms that transaction. The `sql` of an error is that of the statement that
        failed; it is `None` where they failed as a whole.
        """
        bound: list[tuple[str, Sequence[Any]]] = []
        written: dict[str | None, str] = {}
        for pair in statements:
            if type(pair) not in (tuple, list) or len(pair) != 2:
                message = f"item {len(bound) + 1} of the batch is no pair of a text and its parameters: (sql, params)"
                raise self._access.own(QueryError(message))
            bound.append(_kept(*self._bind(pair[0], pair[1])))
            self._refuse_apart(pair[0])
            written.setdefault(bound[-1][0], pair[0])
        if not bound:
            return []
        access, driver = self._access, self._access.driver

        async def together(native: C) -> list[Result]:
            text: str | None = None
            try:
                if driver.batch is not None:
                    return await driver.batch(native, bound)
                results: list[Result] = []
                for text, values in bound:  # the handler below wants to know which one failed
                    results.append(await driver.query(native, text, values))
            except Exception as error:
                failure = access.translate(error)
                if isinstance(failure, QueryError):
                    failure.sql = written.get(failure.sql or text, failure.sql)
                raise failure  # noqa: B904  # `translate` has set the cause
            return results

        results = await self._together(together, None, timeout, apart=driver.batch is not None)
        return [replace(one, rows=self._decoded("", None, one.columns, one.rows)) for one in results]

    async def execute_script(self, sql: str, *, timeout: float | None = None) -> None:
        """Run a text of several statements, without parameters.

        All or nothing, unless the script has transaction statements of its own. `UnsupportedError` where the driver
        cannot run scripts.
        """
        script = self._access.driver.script
        if script is None:
            raise self._access.unsupported("run scripts")
        self._need_text(sql)
        await self._together(lambda native: script(native, sql), sql, timeout, apart=True)

    async def insert_many(
        self,
        table: str | tuple[str, ...],
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]] | AsyncIterable[Sequence[Any]],
        *,
        timeout: float | None = None,
    ) -> int:
        """Load `rows` into `columns` of `table` by the driver's fastest path, all or nothing; return their number.

        `table` is one identifier, taken literally, or a tuple such as `("audit", "log")`; `rows` any iterable or
        async iterable of sequences. Inside a transaction a failure dooms that transaction.
        """
        path = (table,) if isinstance(table, str) else tuple(table)
        if not path or not columns:
            raise self._access.own(QueryError("insert_many needs a table and at least one column"))
        if isinstance(columns, str):
            raise self._access.own(QueryError(f"the columns are one text; put it into a list: [{columns!r}]"))
        driver = self._access.driver
        if (insert := driver.insert_many) is not None:
            what = f"insert_many {'.'.join(path)}"
            return await self._together(lambda native: insert(native, path, columns, rows), what, timeout, apart=True)
        marks = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
        sql = f"INSERT INTO {'.'.join(map(_quoted, path))} ({', '.join(map(_quoted, columns))}) VALUES ({marks})"  # noqa: S608  # identifiers are quoted
        if isinstance(rows, AsyncIterable):
            rows = [row async for row in rows]
        return await self.execute_many(sql, rows, timeout=timeout)

    # -- streams -------------------------------------------------------------------------------------------------------

    @overload
    def stream(
        self, sql: str, params: Params = (), *, into: None = None, batch_size: int = BATCH_SIZE
    ) -> Stream[Row]: ...
    @overload
    def stream(self, sql: str, params: Params = (), *, into: type[T], batch_size: int = BATCH_SIZE) -> Stream[T]: ...
    @overload
    def stream(self, sql: str, params: Params = (), *, into: Any, batch_size: int = BATCH_SIZE) -> Stream[Any]: ...
    def stream(self, sql: str, params: Params = (), *, into: Any = None, batch_size: int = BATCH_SIZE) -> Stream[Any]:
        """Read rows one by one in constant memory: `async with database.stream(sql) as rows: async for row in rows:`.

        `batch_size` rows are fetched at a time. The connection does nothing else until the block is left, and leaving
        it, in whatever way, ends the statement at the database. `UnsupportedError` where the driver cannot stream.
        """
        if not 1 <= batch_size <= LARGEST_BATCH:
            raise ValueError(f"batch_size must be at least 1 and at most {LARGEST_BATCH}, not {batch_size}")
        source = self._access.driver.stream
        if source is None:
            raise self._access.unsupported("stream rows")
        text, values = self._bind(sql, params)
        loan, owned = self._streaming()
        return Stream(loan, lambda native: source(native, text, values, batch_size), sql, into, owned=owned)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _need_text(self, sql: str) -> None:
        if not isinstance(sql, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # not everybody checks types
            raise self._access.own(QueryError(f"the statement is a {type(sql).__name__}; give its text, a str"))

    def _compile(self, sql: str) -> Statement:
        self._need_text(sql)
        try:
            return self._access.compile(sql)
        except QueryError as error:
            raise self._access.own(error, sql) from None

    def _bind(self, sql: str, params: Params) -> tuple[str, Sequence[Any]]:
        statement = self._compile(sql)
        try:
            return statement.bind(params)
        except QueryError as error:
            raise self._access.own(error, sql) from None

    def _refuse_apart(self, sql: str) -> None:
        """Refuse what would cut in two what is all or nothing."""
        word = transaction_word(sql, self._access.driver.syntax)
        if word:
            message = f"{word} has no place where all is done or nothing; use transaction(), or run a script"
            raise self._access.own(QueryError(message), sql)

    def _decoded(self, sql: str, into: Any, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> list[Any]:
        try:
            return decoder(into, columns)(rows)
        except DbError as error:
            self._access.own(error, sql)
            raise

    def _not_one(self, sql: str, result: Result) -> QueryError:
        if not result.rows:
            return self._access.own(NotFound("the statement gave no row where exactly one was asked for"), sql)
        message = f"the statement gave {len(result.rows)} rows where one was asked for; add a LIMIT or use fetch_all"
        return self._access.own(TooManyRows(message), sql)


def _kept(text: str, values: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """Who yields rows may fill the same list for each of them."""
    return text, tuple(values) if values.__class__ is list else values


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
