"""What the driver uses of asyncmy, with types: asyncmy's own are not complete. Nothing else here imports its classes.

Names with an underscore are asyncmy's inner parts. The public ones send no command but a query, and tell neither the
state of the socket nor what a result consists of.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from asyncmy.errors import Error, MySQLError

__all__ = ["Error", "LibraryConnection", "LibraryResult", "LibraryStream", "MySQLError", "conversions"]


class LibraryResult(Protocol):
    """What came back for one statement."""

    rows: tuple[tuple[Any, ...], ...] | None
    """`None` for a statement that returns no rows."""
    description: tuple[tuple[Any, ...], ...] | None
    affected_rows: int
    server_status: int
    unbuffered_active: int
    """Rows of it are still to be read."""
    has_next: int
    """Another result of the same text follows."""


class _Protocol(Protocol):
    """The receiving end of the socket."""

    length: int
    pos: int
    eof: bool


if TYPE_CHECKING:

    class LibraryConnection:
        """asyncmy's connection."""

        server_status: int
        server_capabilities: int
        _client_flag: int
        _connect_timeout: float | None
        _deprecate_eof: bool
        _proto: _Protocol | None
        _result: LibraryResult | None
        _ssl_context: object | None
        _transport: asyncio.Transport | None

        def __init__(self, **options: Any) -> None: ...
        async def connect(self) -> object: ...
        def close(self) -> None: ...
        async def ensure_closed(self) -> None: ...
        async def ping(self, reconnect: bool = True) -> None: ...
        async def query(self, sql: str | bytes, unbuffered: bool = False) -> int: ...
        async def next_result(self) -> int: ...
        def thread_id(self) -> int: ...
        async def _execute_command(self, command: int, sql: str | bytes) -> None: ...
        async def _get_server_information(self) -> None: ...
        async def read_packet(self) -> object: ...

    class LibraryStream:
        """asyncmy's cursor that keeps no rows. It ends by reading all of them, so it is never closed here."""

        description: tuple[tuple[Any, ...], ...] | None

        def __init__(self, connection: LibraryConnection) -> None: ...
        async def execute(self, query: bytes) -> object: ...
        async def fetchmany(self, size: int) -> list[tuple[Any, ...]]: ...

    conversions: dict[Any, Any]
    """By the number of a column's type: what asyncmy makes of its text; by a type of Python: what it sends for it."""
else:
    from asyncmy.connection import Connection as LibraryConnection
    from asyncmy.converters import conversions
    from asyncmy.cursors import SSCursor as LibraryStream
