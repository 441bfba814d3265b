"""Connecting: by asyncpg, with what went wrong told apart by code."""

from __future__ import annotations

import os
import socket
import ssl

import asyncpg
from asyncpg import exceptions as native

from dbcore.config import Reset
from dbcore.errors import DbConnectionError
from dbcore_asyncpg.connection import Connection
from dbcore_asyncpg.errors import is_transient
from dbcore_asyncpg.settings import AsyncpgSettings, connect_arguments
from dbcore_asyncpg.values import register_codecs

__all__ = ["Connector"]

_UNKNOWN_SETTING = frozenset({"42704", "22023"})
"""The server does not know, or cannot do, what the start-up settings ask for."""
_BY_ROLE = frozenset({"standby", "read-only", "prefer-standby"})

_IS_IT_THERE = "is a server running at that address, and does it listen there?"
_CURES = {
    "28000": "look at user, and at the server's pg_hba.conf",
    "28P01": "correct user or password; password_file and credentials count, too",
    "3D000": "create it, or correct the name of the database",
    "53300": "lower pool.max_size, here or in other programs, or raise the server's max_connections",
    "57P03": "it is starting or stopping",
}


class Connector:
    """Opens connections of one pool."""

    def __init__(self, *, timeout: float, reset: Reset) -> None:
        self._timeout = timeout
        self._reset: Reset = reset
        self._check_interval = True
        """`client_connection_check_interval` is sent until a server refuses it: it came with PostgreSQL 14."""

    async def __call__(self, settings: AsyncpgSettings) -> Connection:
        """Open a connection, or raise `DbConnectionError`: `retryable` where it may get better by itself."""
        try:
            connection = await self._connect(settings)
        except TimeoutError as error:
            raise DbConnectionError(
                f"cannot connect: no answer within {self._timeout:g} s ({_IS_IT_THERE})", retryable=True
            ) from error
        except (native.PostgresError, native.InterfaceError, native.InternalClientError, OSError, ValueError) as error:
            raise _error(error) from error
        connection.reset_mode = "transaction" if settings.pooler == "transaction" else self._reset
        connection.retire_read_only = settings.target_session_attrs not in _BY_ROLE
        return connection

    async def _connect(self, settings: AsyncpgSettings) -> Connection:
        try:
            return await self._try(settings)
        except native.PostgresError as error:
            if not self._check_interval or error.sqlstate not in _UNKNOWN_SETTING:
                raise
        self._check_interval = False
        try:
            return await self._try(settings)
        except BaseException:
            self._check_interval = True
            raise

    async def _try(self, settings: AsyncpgSettings) -> Connection:
        arguments = connect_arguments(settings, check_interval=self._check_interval)
        connection: Connection = await asyncpg.connect(**arguments, timeout=self._timeout, connection_class=Connection)
        try:
            await register_codecs(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection


def _error(error: Exception) -> DbConnectionError:
    """The error of a connect; of several hosts asyncpg tells about one."""
    if isinstance(error, native.PostgresError):
        sqlstate = error.sqlstate
        text = str(error.args[0])
        if sqlstate == "08P01":
            text += '; if this is a pooler such as PgBouncer, set pooler = "session" or "transaction"'
        return _told(text, _CURES.get(sqlstate), retryable=is_transient(sqlstate), sqlstate=sqlstate)
    if isinstance(error, native.TargetServerAttributeNotMatched):
        return _told("no server is what target_session_attrs asks for", None, retryable=True)
    if isinstance(error, socket.gaierror):
        return _told(
            error.strerror or "the host is not known",
            "correct host, or see to it that the name is known here",
            retryable=True,
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"the server's certificate is not trusted: {error.verify_message}; look at sslmode and sslrootcert"
        return DbConnectionError(f"cannot connect: {text}")
    if isinstance(error, OSError):
        text = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
        # asyncpg has a text for a server that wants no TLS, and no class.
        cure = "the server is there: look at sslmode" if "SSL" in text else _IS_IT_THERE
        return _told(text, cure, retryable=True)
    if isinstance(error, native.InterfaceError):
        return DbConnectionError(f"cannot connect: asyncpg refuses the settings: {error.args[0]}")
    return DbConnectionError(f"cannot connect: {type(error).__name__}; see the cause")


def _told(text: str, cure: str | None, *, retryable: bool, sqlstate: str | None = None) -> DbConnectionError:
    return DbConnectionError(
        f"cannot connect: {text}" + (f" ({cure})" if cure else ""), retryable=retryable, sqlstate=sqlstate
    )
