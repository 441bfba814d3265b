"""Connecting: every host and address in turn, without blocking, and with the code of what went wrong.

libpq puts the SQLSTATE of a refused login into its text only, and only when told to; psycopg does not tell it. Here it
is told, through the pointer that psycopg hands out for such cases, so that failures are told apart by code: texts are
translated by the server.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_attempts_async, make_conninfo
from psycopg.waiting import Wait, wait_conn_async

from dbcore.errors import DbConnectionError
from dbcore_postgres.awake import Awake
from dbcore_postgres.connection import USED, Connection, abort
from dbcore_postgres.errors import is_transient
from dbcore_postgres.libpq import set_verbosity
from dbcore_postgres.prepared import Prepared
from dbcore_postgres.settings import PostgresSettings, conninfo, startup_options

if TYPE_CHECKING:
    from psycopg.abc import PQGenConn
    from psycopg.pq.abc import PGconn

__all__ = ["Connector"]

_DEFAULT, _VERBOSE = 1, 2
_CODE = re.compile(r":  ([0-9A-Z]{5}): ")
"""`FATAL:  28P01: ...`: the severity is translated, two spaces and the code follow it."""
_TLS_REQUIRED = frozenset({"require", "verify-ca", "verify-full"})
_PROBE_SECONDS = 2.0
_SSL_REQUEST = bytes([0, 0, 0, 8, 4, 210, 22, 47])
_UNKNOWN_SETTING = frozenset({"42704", "22023"})
"""The server does not know, or cannot do, what the start-up options ask for."""
_PROBES = {"primary": b"SELECT pg_catalog.pg_is_in_recovery()", "read-write": b"SHOW transaction_read_only"}
"""What a ping asks where the server may turn into one that is not wanted, and go on to answer."""
_BY_ROLE = frozenset({"standby", "read-only", "prefer-standby"})


@dataclass(frozen=True, slots=True)
class _Failure:
    text: str
    sqlstate: str | None = None
    in_tls: bool = False
    """It failed while TLS was being agreed upon."""
    permanent: bool = False
    cure: str = "is a server running at that address, and does it listen there?"
    """What to try where there is no code."""


class _ConnectFailed(Exception):
    def __init__(self, failure: _Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class Connector:
    """Opens connections of one pool."""

    def __init__(self, *, timeout: float, full_reset: bool, awake: Awake) -> None:
        self._awake = awake
        self._timeout = timeout
        self._full_reset = full_reset
        self._check_interval = True
        """`client_connection_check_interval` is sent until a server refuses it: it came with PostgreSQL 14."""

    async def __call__(self, settings: PostgresSettings) -> Connection:
        """Open a connection, or raise `DbConnectionError`: `retryable` where it may get better by itself."""
        asked = self._check_interval
        failures = await self._try(settings)
        if isinstance(failures, Connection):
            return failures
        if asked and any(failure.sqlstate in _UNKNOWN_SETTING for failure in failures):
            self._check_interval = False
            failures = await self._try(settings)
            if isinstance(failures, Connection):
                return failures
            self._check_interval = True
        raise _error(failures)

    async def _try(self, settings: PostgresSettings) -> Connection | list[_Failure]:
        params: dict[str, Any] = dict(conninfo(settings))
        options = startup_options(settings, check_interval=self._check_interval)
        if options is not None:
            params["options"] = options
        try:
            attempts = await conninfo_attempts_async(params)
        except (psycopg.OperationalError, OSError) as error:
            return [_Failure(str(error), cure="correct host, or see to it that the name is known here")]
        timeout = settings.connect_timeout or self._timeout / len(attempts)
        failures: list[_Failure] = []
        for attempt in attempts:
            try:
                return await self._ready(await _connect(make_conninfo("", **attempt), timeout), settings)
            except _ConnectFailed as error:
                failures.append(await _look_closer(error.failure, settings, attempt))
        return failures

    async def _ready(self, pgconn: PGconn, settings: PostgresSettings) -> Connection:
        try:
            connection = Connection(pgconn)
        except OSError as error:  # no file is left for the ear
            pgconn.finish()
            raise _ConnectFailed(_Failure(str(error))) from error
        try:
            await connection.set_autocommit(True)
        except BaseException:  # it sends nothing, and gives way to others now and then: it can be cancelled there
            abort(connection)
            raise
        connection.marks = 0
        connection.awake = self._awake
        connection.prepared = Prepared(0 if settings.pooler == "transaction" else settings.prepared_statements)
        connection.mark_use = USED if self._full_reset else 0
        connection.retire_read_only = settings.target_session_attrs not in _BY_ROLE
        connection.probe = _PROBES.get(settings.target_session_attrs or "any", connection.probe)
        return connection


async def _connect(info: str, timeout: float) -> PGconn:
    pgconn = pq.PGconn.connect_start(info.encode())
    try:
        async with asyncio.timeout(timeout):
            await wait_conn_async(_dial(pgconn), interval=0.1)
    except TimeoutError as error:
        pgconn.finish()
        raise _ConnectFailed(_Failure(f"no answer within {timeout:g} s")) from error
    except BaseException:
        pgconn.finish()
        raise
    pgconn.nonblocking = 1
    return pgconn


def _dial(pgconn: PGconn) -> PQGenConn[None]:
    set_verbosity(pgconn, _VERBOSE)
    stage = pgconn.status
    while stage != pq.ConnStatus.BAD:
        match pgconn.connect_poll():
            case pq.PollingStatus.READING:
                wait = Wait.R
            case pq.PollingStatus.WRITING:
                wait = Wait.W
            case pq.PollingStatus.OK:
                set_verbosity(pgconn, _DEFAULT)
                return
            case _:
                break
        while not (yield pgconn.socket, wait):
            pass
        stage = pgconn.status
    raise _ConnectFailed(_failure(pgconn, stage))


def _failure(pgconn: PGconn, stage: int) -> _Failure:
    text = pgconn.get_error_message()
    found = _CODE.search(text)
    sqlstate = found[1] if found else None
    if sqlstate is None and pgconn.needs_password:
        sqlstate = "28P01"
    line = (text.splitlines() or ["the connection failed"])[0]
    return _Failure(_CODE.sub(": ", line), sqlstate, in_tls=stage == pq.ConnStatus.SSL_STARTUP)


async def _look_closer(failure: _Failure, settings: PostgresSettings, attempt: dict[str, Any]) -> _Failure:
    """Tell a server that wants no TLS, or a certificate that is not trusted, from a server that is away.

    libpq has no code for either. So the first question of the handshake is asked once more: a server that answers it,
    with yes or no, is up, and what comes after that will not get better by itself.
    """
    if not failure.in_tls or settings.sslmode not in _TLS_REQUIRED:
        return failure
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            reader, writer = await asyncio.open_connection(attempt["hostaddr"], int(attempt.get("port") or 5432))
            writer.write(_SSL_REQUEST)
            answer = await reader.read(1)
    except (OSError, TimeoutError):
        return failure
    finally:
        if writer is not None:
            writer.transport.abort()
    if answer not in (b"S", b"N"):
        return failure
    return replace(failure, permanent=True, cure="the server is there: look at sslmode and sslrootcert")


_CURES = {
    "28000": "look at user, and at the server's pg_hba.conf",
    "28P01": "correct user or password; password_file and credentials count, too",
    "3D000": "create it, or correct the name of the database",
    "53300": "lower pool.max_size, here or in other programs, or raise the server's max_connections",
    "57P03": "it is starting or stopping; a pool that is running tries again by itself",
}


def _error(failures: list[_Failure]) -> DbConnectionError:
    """The error of a connect that tried every host: permanent only if it is for each of them."""
    retryable = any(not failure.permanent and is_transient(failure.sqlstate) for failure in failures)
    first = next((failure for failure in failures if failure.sqlstate is not None), failures[0])
    text = "; ".join(dict.fromkeys(failure.text for failure in failures))
    if any(failure.sqlstate == "08P01" for failure in failures):
        text += '; if this is a pooler such as PgBouncer, set pooler = "session" or "transaction"'
    cure = first.cure if first.sqlstate is None else _CURES.get(first.sqlstate)
    text = f"cannot connect: {text}" + (f" ({cure})" if cure else "")
    return DbConnectionError(text, retryable=retryable, sqlstate=first.sqlstate)
