"""Rows one by one in constant memory."""

# Members with an underscore are for inside the library; this file is inside.
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

from dbcore.access import log
from dbcore.driver import Result
from dbcore.errors import DbError, UsageError
from dbcore.loan import Loan
from dbcore.places import frame_at
from dbcore.statements import decoder, reader

__all__ = ["Stream"]

T = TypeVar("T")

OPEN = "a stream is open on it; leave the stream's block first, or take a second connection"


class Stream(Generic[T]):
    """`async with` gives an async iterator; leaving the block, in whatever way, ends the statement.

    Where that fails for a statement that writes (`RETURNING`), leaving raises the error, unless the block itself has
    raised one.
    """

    __slots__ = ("_into", "_loan", "_open", "_owned", "_read", "_rows", "_source", "_sql")

    def __init__(
        self,
        loan: Loan[Any],
        open_source: Callable[[Any], AsyncGenerator[Result, None]],
        sql: str,
        into: Any,
        *,
        owned: bool,
    ) -> None:
        self._loan = loan
        self._owned = owned
        self._open = open_source
        self._sql = sql
        self._into = into
        self._source: AsyncGenerator[Result, None] | None = None
        self._rows: Iterator[T] = iter(())
        self._read = 0

    async def __aenter__(self) -> Stream[T]:
        loan = self._loan
        if self._owned:
            await loan._take(None)
        native = loan._held()
        if loan._busy is not None or loan._refusing is not None:
            raise loan._misuse()
        loan._refusing = OPEN
        self._source = self._open(native)
        return self

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        for row in self._rows:
            return row
        source = self._source
        if source is None:
            message = "a stream is read inside its block: `async with ...stream(...) as rows:`"
            raise self._loan._access.own(UsageError(message))
        loan = self._loan
        if loan._refusing is not OPEN:
            raise loan._misuse()
        loan._refusing = None
        try:
            while (result := await loan._run_alone(lambda _: anext(source, None), self._sql)) is not None:
                self._rows = iter(self._decoded(result))
                self._read += len(result.rows)
                for row in self._rows:
                    return row
        finally:
            if loan._refusing is None:
                loan._refusing = OPEN
        raise StopAsyncIteration

    def _decoded(self, result: Result) -> list[T]:
        try:
            decoded: list[Any] = decoder(self._into, result.columns)(result.rows, self._read + 1)
        except DbError as error:
            self._loan._access.own(error, self._sql)
            raise
        return decoded

    @property
    def _gives_what_it_writes(self) -> bool:
        return "RETURNING" in reader(self._loan._access.driver.syntax).words(self._sql)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        source, self._source = self._source, None
        self._rows = iter(())
        if self._loan._refusing is OPEN:
            self._loan._refusing = None
        try:
            if source is not None:
                await source.aclose()
        except Exception as failure:
            if error is None and self._gives_what_it_writes:
                self._loan._access.fail(failure, self._sql)  # nobody else would hear that it was not written after all
            # The rows that were read are good; what is left open is the reset's business.
            log.warning("database %s: closing a stream failed: %s", self._loan._access.name, type(failure).__name__)
        finally:
            if self._owned:
                self._loan._let_go(frame_at(1))
