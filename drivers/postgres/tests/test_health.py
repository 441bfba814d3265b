"""Alive or not: what a look tells, and what a trip tells."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import warnings

import pytest
from dbcore_postgres.connection import server_info
from dbcore_postgres.statements import query
from postgres_connections import backend, connected, failure, rows, until
from postgres_server import Server
from postgres_standby import Standby, without_standby

from dbcore.errors import DbConnectionError


async def test_a_look_tells_that_the_server_ended_the_session(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection), connected(postgres_url) as (_, admin):
        assert hooks.is_usable(connection)
        await rows(admin, "SELECT pg_terminate_backend($1, 5000)", await backend(connection))

        async def seen() -> bool:
            return not hooks.is_usable(connection)

        await until(seen)
        assert hooks.ping is not None
        error = await failure(hooks.ping(connection))
        assert isinstance(error, DbConnectionError)
        assert error.sqlstate == "57P01"
        assert not hooks.is_clean(connection)


async def test_a_ping_tells_that_there_is_nothing_to_fear(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        await rows(connection, "LISTEN news")
        await hooks.reset(connection)
        assert hooks.ping is not None
        await hooks.ping(connection)
        assert hooks.is_usable(connection)
        assert hooks.is_clean(connection)


async def test_a_ping_tells_that_a_server_takes_no_writes_any_more_where_they_are_wanted(postgres_url: str) -> None:
    for attributes, wanted in (("any", False), ("primary", False), ("read-write", True)):
        async with connected(postgres_url, target_session_attrs=attributes) as (hooks, connection):
            assert hooks.ping is not None
            await hooks.ping(connection)
            await rows(connection, "SET default_transaction_read_only = on")
            if wanted:
                error = await failure(hooks.ping(connection))
                assert isinstance(error, DbConnectionError)
                assert "target_session_attrs" in str(error)
            else:
                await hooks.ping(connection)


@pytest.mark.skipif(without_standby() is not None, reason=str(without_standby()))
async def test_a_ping_tells_a_standby_from_a_primary() -> None:
    with Server() as primary, Standby(primary) as standby:
        async with (
            connected(primary.url, target_session_attrs="primary") as (hooks, connection),
            connected(standby.url) as (_, other),
        ):
            other.probe = connection.probe  # as if it had been a primary when it was connected to
            assert hooks.ping is not None
            await hooks.ping(connection)
            assert isinstance(await failure(hooks.ping(other)), DbConnectionError)
            await asyncio.to_thread(standby.promote)
            await hooks.ping(other)


async def test_a_ping_that_is_cancelled_drops_the_connection_at_once() -> None:
    with Server() as server:
        async with connected(server.url) as (hooks, connection):
            assert hooks.ping is not None
            server.pause()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await hooks.ping(connection)
            server.resume()
            assert connection.closed


async def test_a_cancelled_statement_of_a_server_that_hangs_drops_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Laws: E12."""
    monkeypatch.setattr("dbcore_postgres.cancelling.CANCEL_SECONDS", 0.2)
    with Server() as server:
        async with connected(server.url) as (hooks, connection):
            server.pause()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await query(connection, "SELECT 1", ())
            server.resume()
            assert connection.closed
            assert not hooks.is_clean(connection)


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_the_end_of_the_server_is_a_lost_connection(way: str) -> None:
    with Server() as server:
        async with connected(server.url) as (hooks, connection):
            getattr(server, way)()
            assert isinstance(await failure(query(connection, "SELECT 1", ())), DbConnectionError)
            assert not hooks.is_usable(connection)
            assert not hooks.is_clean(connection)
            assert hooks.abort is not None
            hooks.abort(connection)
            hooks.abort(connection)  # harmless
            server.start()
            await hooks.close(connection)
        async with connected(server.url) as (_, connection):
            assert await rows(connection, "SELECT 1") == [(1,)]


async def test_the_server_is_described(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        info = await server_info(connection)
        ((version,),) = await rows(connection, "SHOW server_version")
        assert info.version == f"PostgreSQL {version.split()[0]}"
        assert info.tls is False


async def test_a_closed_connection_leaves_no_backend_and_no_warning(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, admin):
        async with connected(postgres_url) as (_, connection):
            pid = await backend(connection)

        async def gone() -> bool:
            return not await rows(admin, "SELECT 1 FROM pg_stat_activity WHERE pid = $1", pid)

        await until(gone)
        with warnings.catch_warnings(), contextlib.suppress(NameError):
            warnings.simplefilter("error")
            del connection
            gc.collect()
