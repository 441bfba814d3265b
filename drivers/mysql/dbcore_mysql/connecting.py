"""Connecting: what the settings say, in asyncmy's words, and what went wrong, by its number."""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from dbcore.errors import DbConnectionError
from dbcore_mysql.connection import USED, Connection
from dbcore_mysql.decoding import CONVERSIONS
from dbcore_mysql.errors import is_transient, number_of, sqlstate_of
from dbcore_mysql.library import MySQLError
from dbcore_mysql.literals import literal
from dbcore_mysql.settings import MysqlSettings, SslMode, has_ansi_quotes

__all__ = ["Connector", "beside"]

_FOUND_ROWS = 1 << 1
"""An UPDATE counts the rows that it met, as everywhere else, and not only those whose values were others before."""
_ASK = b"SELECT @@hostname, @@port, @@server_id, @@max_allowed_packet, VERSION()"


class Connector:
    """Opens connections of one pool. `open_another` opens one beside them, by `beside`."""

    def __init__(self, *, open_another: Callable[[], Awaitable[Connection]], full_reset: bool) -> None:
        self._open_another = open_another
        self._mark_use = USED if full_reset else 0

    async def __call__(self, settings: MysqlSettings) -> Connection:
        """Open a connection, or raise `DbConnectionError`: `retryable` where it may get better by itself."""
        connection = await _open(settings, settings.database, _setup(settings))
        connection.ansi_quotes = has_ansi_quotes(settings)
        connection.open_another = self._open_another
        connection.mark_use = self._mark_use
        return connection


async def beside(settings: MysqlSettings) -> Connection:
    """Open a connection that ends what runs on another one. It has no database, and its session is as it comes."""
    return await _open(settings, None, None)


async def _open(settings: MysqlSettings, database: str | None, setup: bytes | None) -> Connection:
    connection = Connection(
        encrypt=settings.ssl_mode not in ("disabled", "preferred"),
        host=settings.host,
        port=settings.port,
        unix_socket=settings.unix_socket,
        user=settings.user,
        # As bytes: asyncmy would encode a str as Latin 1.
        password=b"" if settings.password is None else settings.password.get_secret_value().encode(),
        database=database,
        charset="utf8mb4",
        autocommit=None,
        client_flag=_FOUND_ROWS,
        conv=CONVERSIONS,
        program_name=settings.application_name,
        ssl=_tls(settings),
    )
    try:
        with connection.use():
            await connection.connect()
            if setup is not None:
                connection.setup = setup
                await connection.query(setup)
            await connection.query(_ASK)
        rows = connection.last_result().rows
    except (MySQLError, RuntimeError) as error:
        connection.drop()
        raise _error(error, settings) from error
    except BaseException:
        connection.drop()
        raise
    if not rows:
        raise AssertionError("bug: a SELECT of constants gave no row")
    *identity, connection.max_packet, version = rows[0]
    connection.identity = tuple(identity)
    connection.version = _version(version)
    connection.database = database
    return connection


def _setup(settings: MysqlSettings) -> bytes:
    """Return the statement that makes a session ours. All texts and literals that follow rely on it."""
    parts = [
        b"NAMES utf8mb4",
        b"time_zone = '+00:00'",
        b"sql_mode = " + literal(settings.sql_mode),
        b"autocommit = 1",
        b"lc_messages = 'en_US'",
        *(name.encode() + b" = " + literal(value) for name, value in settings.variables.items()),
    ]
    return b"SET " + b", ".join(parts)


def _version(text: str) -> str:
    number = text.partition("-")[0]
    return f"MariaDB {number}" if "MariaDB" in text else f"MySQL {number}"


def _tls(settings: MysqlSettings) -> ssl.SSLContext | None:
    if settings.ssl_mode == "disabled":
        return None
    files = (settings.ssl_ca, settings.ssl_cert, settings.ssl_key)
    try:
        return _context(settings.ssl_mode, files, tuple([path and Path(path).stat().st_mtime_ns for path in files]))
    except OSError as error:  # an SSLError is one too
        raise DbConnectionError(
            f"the files of ssl_ca, ssl_cert and ssl_key cannot be used: {error.strerror or 'see the cause'}"
        ) from error


@lru_cache(maxsize=16)
def _context(mode: SslMode, files: tuple[str | None, ...], changed: tuple[object, ...]) -> ssl.SSLContext:
    """Make a context, which takes a while; remembered until a file has `changed`."""
    authority, certificate, key = files
    if mode.startswith("verify"):
        context = ssl.create_default_context(cafile=authority)
        context.check_hostname = mode == "verify_identity"
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


def _error(error: Exception, settings: MysqlSettings) -> DbConnectionError:
    where = settings.unix_socket or f"{settings.host}:{settings.port}"
    sqlstate = sqlstate_of(error) if isinstance(error, MySQLError) else None
    cause = error.__cause__
    if isinstance(cause, DbConnectionError):  # our own, which is an OSError to asyncmy
        return DbConnectionError(f"{where}: {cause}")
    if isinstance(cause, ssl.SSLError):
        reason = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else cause.reason
        return DbConnectionError(f"no encrypted connection to {where}: {reason}")
    if isinstance(cause, OSError):
        reason = os.strerror(cause.errno) if cause.errno and cause.errno > 0 else str(cause)
        return DbConnectionError(f"{where} cannot be reached: {reason}", retryable=True)
    message: Any = error.args[-1] if error.args else type(error).__name__
    number = number_of(error)
    code = f" ({number}, {sqlstate})" if sqlstate else f" ({number})" if number else ""
    return DbConnectionError(f"{where}: {message}{code}", retryable=is_transient(number), sqlstate=sqlstate)
