"""Results: from what the server sends to rows, and the format in which to ask for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import Format

from dbcore.statements import row_shape
from dbcore_postgres.connection import Connection
from dbcore_postgres.errors import decode_failure, style_failure
from dbcore_postgres.values import ADAPTERS

if TYPE_CHECKING:
    from psycopg.adapt import AdaptersMap
    from psycopg.pq.abc import PGresult

__all__ = ["columns_of", "format_of", "rows_of"]

TEXT, BINARY = 0, 1
_TEXT_ONLY = frozenset({18, 1002, 700, 1021, 2249, 2287})
"""Types that psycopg makes something else of in binary than in text: "char", float4 and record, and arrays of them."""
_LARGE = 200
"""A result of more rows is let go at once; a smaller one stays in memory until the next."""


def columns_of(result: PGresult) -> tuple[str, ...]:
    """Return the names of the columns."""
    return tuple((result.fname(number) or b"").decode() for number in range(result.nfields))


def format_of(connection: Connection, result: PGresult) -> int:
    """Return the format to ask for columns like these: binary, if psycopg can read it of every one of them."""
    adapters = connection.adapters
    types = {result.ftype(number) for number in range(result.nfields)}
    # psycopg reads arrays of all types in binary, and leaves bytes where it does not know how to read an element.
    for type_ in tuple(types):
        info = adapters.types.get(type_)
        if info is not None and info.array_oid == type_:
            types.add(info.oid)
    return TEXT if any(type_ in _TEXT_ONLY or not _loads_binary(adapters, type_) for type_ in types) else BINARY


def _loads_binary(adapters: AdaptersMap, type_: int) -> bool:
    """Say whether binary is read as text would be: also where the user has registered a loader, for one of them."""
    binary = adapters.get_loader(type_, Format.BINARY)
    if binary is None:
        return False
    ours = binary is ADAPTERS.get_loader(type_, Format.BINARY)
    return not ours or adapters.get_loader(type_, Format.TEXT) is ADAPTERS.get_loader(type_, Format.TEXT)


def rows_of(connection: Connection, result: PGresult, columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """Turn a result into rows, at once those that users get, in the styles that the connection was found to have last.

    Raises `DecodeError` for a value that has no form in Python.
    """
    transformer = connection.transformer
    count = result.ntuples
    try:
        transformer.set_pgresult(result)
        return transformer.load_rows(0, count, row_shape(columns))
    except (psycopg.NotSupportedError, NotImplementedError) as error:
        raise style_failure(columns) from error
    except (psycopg.DataError, OverflowError, ValueError, RecursionError) as error:
        raise decode_failure(columns) from error
    finally:
        if count > _LARGE:
            transformer.set_pgresult(None)
