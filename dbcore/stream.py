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
from dbcore.places import frame_at
from dbcore.session import Session
from dbcore.statements import decoder

__all__ = ["Stream"]

T = TypeVar("T")

OPEN = "a stream is open on it; leave the stream's block first, or take a second connection"


class Stream(Generic[T]):
    """`async with` gives an async iterator; leaving the block, in whatever way, ends the statement."""

    __slots__ = ("_into", "_open", "_owned", "_read", "_rows", "_session", "_source", "_sql")

    def __init__(
        self,
        session: Session[Any],
        open_source: Callable[[Any], AsyncGenerator[Result, None]],
        sql: str,
        into: Any,
        *,
        owned: bool,
    ) -> None:
        self._session = session
        self._owned = owned
        self._open = open_source
        self._sql = sql
        self._into = into
        self._source: AsyncGenerator[Result, None] | None = None
        self._rows: Iterator[T] = iter(())
        self._read = 0

    async def __aenter__(self) -> Stream[T]:
        session = self._session
        if self._owned:
            await session._take(None)
        native = session._held()
        if session._busy is not None or session._refusing is not None:
            raise session._misuse()
        session._refusing = OPEN
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
            raise self._session._access.own(UsageError(message))
        session = self._session
        session._refusing = None
        try:
            while (result := await session._run_alone(lambda _: anext(source, None), self._sql)) is not None:
                self._rows = iter(self._decoded(result))
                self._read += len(result.rows)
                for row in self._rows:
                    return row
        finally:
            session._refusing = OPEN
        raise StopAsyncIteration

    def _decoded(self, result: Result) -> list[T]:
        try:
            decoded: list[Any] = decoder(self._into, result.columns)(result.rows, self._read + 1)
        except DbError as error:
            self._session._access.own(error, self._sql)
            raise
        return decoded

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        source, self._source = self._source, None
        self._rows = iter(())
        self._session._refusing = None
        try:
            if source is not None:
                await source.aclose()
        except Exception as failure:
            # The rows that were read are good; what is left open is the reset's business.
            log.warning("database %s: closing a stream failed: %s", self._session._access.name, type(failure).__name__)
        finally:
            if self._owned:
                self._session._let_go(frame_at(1))
