"""Connects: what fails for good, what may pass, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from cutting import connects_that_are_cut_off_leave_no_file_open, on_linux
from dbcore_postgres.driver import make_hooks
from postgres_connections import Proxy, changed, configured, connected, failure, rows
from postgres_server import Server

from dbcore.errors import DbConnectionError


async def refusal(url: str, **keys: Any) -> DbConnectionError:
    error = await failure(make_hooks(configured(url, **keys)).connect())
    assert isinstance(error, DbConnectionError)
    return error


@pytest.mark.parametrize(
    ("parts", "sqlstate"),
    [
        ({"password": "wrong"}, "28P01"),
        ({"password": None}, "28P01"),
        ({"user": "nobody_of_that_name"}, "28P01"),
        ({"path": "/nowhere"}, "3D000"),
        ({"path": "/postgres?options=-c%20nonsense=1"}, "42704"),
    ],
)
async def test_what_cannot_get_better_is_permanent(
    postgres_url: str, parts: dict[str, str | None], sqlstate: str
) -> None:
    error = await refusal(changed(postgres_url, **parts))
    assert (error.retryable, error.sqlstate) == (False, sqlstate)


@pytest.mark.parametrize("mode", ["require", "verify-full"])
async def test_a_server_without_tls_is_permanent_where_tls_is_wanted(postgres_url: str, mode: str) -> None:
    error = await refusal(postgres_url, sslmode=mode)
    assert not error.retryable
    assert "SSL" in str(error)
    assert "look at sslmode" in str(error)


async def test_a_server_that_hangs_up_in_the_handshake_may_come_back(postgres_url: str) -> None:
    async with hanging_up() as port:
        assert (await refusal(changed(postgres_url, port=port), sslmode="require")).retryable


@pytest.mark.parametrize(
    ("host", "cure"), [("127.0.0.1", "is a server running at that address"), ("no-such-host.invalid", "correct host")]
)
async def test_a_server_that_is_away_may_come_back(postgres_url: str, host: str, cure: str) -> None:
    error = await refusal(changed(postgres_url, host=host, port=1))
    assert error.retryable
    assert cure in str(error)


async def test_too_many_clients_may_pass() -> None:
    with Server({"max_connections": "4", "superuser_reserved_connections": "0", "max_wal_senders": "0"}) as server:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(4):
                await stack.enter_async_context(connected(server.url))
            error = await refusal(server.url)
    assert (error.retryable, error.sqlstate) == (True, "53300")


async def test_an_error_shows_no_password(postgres_url: str) -> None:
    """Laws: P2."""
    error = await refusal(changed(postgres_url, password="hunter2"))
    assert "hunter2" not in f"{error!r} {error} {error.args} {error.__cause__!r}"


async def test_the_next_host_is_tried(postgres_url: str) -> None:
    access, server = postgres_url.rsplit("@", 1)
    async with connected(f"{access}@127.0.0.1:1,{server}") as (_, connection):
        assert await rows(connection, "SELECT 1") == [(1,)]


async def test_a_host_that_is_silent_leaves_time_for_the_next(postgres_url: str) -> None:
    access, server = postgres_url.rsplit("@", 1)
    async with silent() as (port, _):
        url = f"{access}@127.0.0.1:{port},{server}"
        async with connected(url, pool={"connect_timeout": 0.4}) as (_, connection):
            assert await rows(connection, "SELECT 1") == [(1,)]


async def test_of_several_hosts_the_fitting_one_is_taken(postgres_url: str) -> None:
    error = await refusal(postgres_url, target_session_attrs="standby")
    assert error.retryable
    async with connected(postgres_url, target_session_attrs="read-write") as (_, connection):
        assert await rows(connection, "SHOW transaction_read_only") == [("off",)]


async def test_a_cancelled_connect_leaves_nothing_behind(postgres_url: str) -> None:
    """Laws: E6."""
    async with silent() as (port, gone):
        hooks = make_hooks(configured(changed(postgres_url, port=port)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await hooks.connect()
        async with asyncio.timeout(10):
            await gone.wait()


@on_linux
async def test_a_connect_leaves_no_file_open_wherever_it_is_cut_off(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where psycopg need not wait it gives way to others now and then: here always.

    Laws: E6.
    """
    monkeypatch.setattr("psycopg.waiting.MAX_BUSY_TIME", 0, raising=False)
    await connects_that_are_cut_off_leave_no_file_open(make_hooks(configured(postgres_url)))


async def test_a_connect_without_a_file_for_it_may_pass(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(file: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("os.dup", no_more)
    error = await refusal(postgres_url)
    assert error.retryable
    assert "Too many open files" in str(error)


async def test_a_server_that_does_not_know_the_check_interval_is_connected_to_without(postgres_url: str) -> None:
    fields = b"SFATAL\0VFATAL\0C42704\0Munrecognized configuration parameter\0\0"
    refused = 0

    def answer(packet: bytes) -> bytes | None:
        nonlocal refused
        if b"client_connection_check_interval" not in packet:
            return None
        refused += 1
        return b"E" + (len(fields) + 4).to_bytes(4, "big") + fields

    async with Proxy(postgres_url) as proxy:
        proxy.answer = answer
        hooks = make_hooks(configured(proxy.url))
        for _ in range(2):
            connection = await hooks.connect()
            assert await rows(connection, "SHOW client_connection_check_interval") == [("0",)]
            await hooks.close(connection)
    assert refused == 1


async def test_the_server_is_told_who_we_are_and_looks_for_us(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        assert await rows(connection, "SHOW application_name") == [("dbcore",)]
        assert await rows(connection, "SHOW client_connection_check_interval") == [("1s",)]


async def test_the_socket_of_the_server_can_be_named(postgres: Server) -> None:
    async with connected(postgres.socket_url) as (_, connection):
        assert await rows(connection, "SELECT inet_server_addr()") == [(None,)]


async def test_a_refused_password_is_asked_for_once_more(postgres_url: str) -> None:
    """Laws: A20."""
    answers = iter(["stale", configured(postgres_url).settings.password])
    async with connected(postgres_url, credentials=lambda: {"password": next(answers)}) as (_, connection):
        assert await rows(connection, "SELECT 1") == [(1,)]


@contextlib.asynccontextmanager
async def silent() -> AsyncGenerator[tuple[int, asyncio.Event], None]:
    """A server that takes connections and says nothing; the event tells that a client has gone."""
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass
        gone.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], gone
    finally:
        server.close()


@contextlib.asynccontextmanager
async def hanging_up() -> AsyncGenerator[int, None]:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
