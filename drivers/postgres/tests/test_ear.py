"""What the event loop watches: one duplicate of each socket, and nothing of a connection that is gone."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from dbcore_postgres.connection import OK, Connection, abort
from dbcore_postgres.ear import Ear
from dbcore_postgres.sharing import run
from dbcore_postgres.statements import batch, query
from postgres_connections import backend, connected, failure, rows, until

from dbcore.driver import Result
from dbcore.errors import DbConnectionError


@contextmanager
def watched_for_writing() -> Generator[set[int]]:
    """The files that the event loop watches for room to write."""
    loop: Any = asyncio.get_running_loop()
    found: set[int] = set()
    add, remove = loop.add_writer, loop.remove_writer

    def add_writer(file: int, *args: Any) -> None:
        found.add(file)
        add(file, *args)

    def remove_writer(file: int) -> bool:
        found.discard(file)
        return bool(remove(file))

    loop.add_writer, loop.remove_writer = add_writer, remove_writer
    try:
        yield found
    finally:
        del loop.add_writer, loop.remove_writer


@contextmanager
def watched() -> Generator[set[int]]:
    """The files that the event loop watches, beside those that it watched before."""
    loop: Any = asyncio.get_running_loop()
    found: set[int] = set()
    add, remove = loop.add_reader, loop.remove_reader

    def add_reader(file: int, *args: Any) -> None:
        assert file not in found, "it is told once"
        found.add(file)
        add(file, *args)

    def remove_reader(file: int) -> bool:
        found.discard(file)
        return bool(remove(file))

    loop.add_reader, loop.remove_reader = add_reader, remove_reader
    try:
        yield found
    finally:
        del loop.add_reader, loop.remove_reader


async def test_the_loop_is_told_once_for_many_statements(postgres_url: str) -> None:
    with watched() as files:
        async with connected(postgres_url) as (_, connection):
            for number in range(5):
                assert await rows(connection, "SELECT $1::int", number) == [(number,)]
            assert len(files) == 1
            assert connection.pgconn.socket not in files
        assert not files


async def test_what_comes_while_nobody_listens_keeps_the_loop_from_nothing(postgres_url: str) -> None:
    with watched() as files:
        async with connected(postgres_url) as (_, admin), connected(postgres_url) as (hooks, connection):
            await rows(connection, "LISTEN news")
            assert len(files) == 1
            await rows(admin, "NOTIFY news")

            async def unheard() -> bool:
                return len(files) == 1 and not hooks.is_usable(connection)

            await until(unheard)  # the other one's alone: a file with something unread would wake the loop for ever
            assert await rows(connection, "SELECT 1") == [(1,)]


async def test_psycopgs_own_interface_and_the_drivers_take_turns(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        for number in range(3):
            assert await rows(connection, "SELECT $1::int", number) == [(number,)]
            cursor = await connection.execute("SELECT $1::int", (number,))
            assert await cursor.fetchone() == (number,)


async def test_a_server_that_ends_the_session_leaves_nothing_that_is_watched(postgres_url: str) -> None:
    with watched() as files:
        async with connected(postgres_url) as (_, admin), connected(postgres_url) as (hooks, connection):
            pid = await backend(connection)
            await rows(admin, "SELECT pg_terminate_backend($1, 5000)", pid)

            async def gone() -> bool:
                return len(files) == 1 and not hooks.is_usable(connection)

            await until(gone)
            assert isinstance(await failure(query(connection, "SELECT 1", ())), DbConnectionError)
            abort(connection)
            assert len(files) == 1


@pytest.mark.parametrize("way", ["close", "abort"])
async def test_a_connection_that_ends_takes_its_duplicate_along(postgres_url: str, way: str) -> None:
    with watched() as files:
        async with connected(postgres_url) as (_, connection):
            await rows(connection, "SELECT 1")
            (file,) = files
            if way == "close":
                await connection.close()
            else:
                abort(connection)
            assert not files
            with pytest.raises(OSError, match="Bad file"):
                socket.socket(fileno=file)


def unread(_number: int, _outcome: Result | BaseException | None) -> None:
    """Take an outcome that nobody wants."""


BIG = "x" * 5_000_000
SLOW_THEN_BIG = [("SELECT pg_sleep(600)", ()), *[("SELECT length($1::text)", (BIG,))] * 4]


@pytest.mark.parametrize("way", ["ended by the server", "aborted", "cancelled"])
@pytest.mark.parametrize("send", ["shared", "batch"])
async def test_a_connection_that_is_lost_while_it_writes_leaves_nothing_that_is_watched(
    postgres_url: str, send: str, way: str
) -> None:
    """Nor does it watch the number that libpq gives back by itself: it may be somebody else's at once."""
    async with connected(postgres_url) as (_, admin), connected(postgres_url) as (_, connection):
        pid, own = await backend(connection), connection.pgconn.socket
        with watched_for_writing() as files:
            if send == "shared":
                task: asyncio.Future[Any] = asyncio.ensure_future(run(connection, SLOW_THEN_BIG, unread))
            else:
                task = asyncio.ensure_future(batch(connection, SLOW_THEN_BIG))

            async def writes() -> bool:
                return bool(files)

            await until(writes)
            assert own not in files
            if way == "ended by the server":
                await rows(admin, "SELECT pg_terminate_backend($1, 5000)", pid)
            elif way == "aborted":
                abort(connection)
            else:
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert not files
            abort(connection)  # does not raise, whatever came before


def ears() -> tuple[Ear, socket.socket]:
    ours, theirs = socket.socketpair()
    with ours:
        return Ear(ours.fileno()), theirs


async def test_an_ear_that_nobody_refers_to_is_not_kept_by_the_loop() -> None:
    ear, theirs = ears()
    with theirs, watched() as files:
        ear.listen(lambda: None)
        del ear
        gc.collect()
        assert not files
        assert theirs.recv(1) == b"", "the duplicate is closed"


async def test_an_ear_can_be_closed_in_another_thread() -> None:
    ear, theirs = ears()
    with theirs, watched() as files:
        ear.listen(lambda: None)
        thread = threading.Thread(target=ear.close)
        thread.start()
        await asyncio.to_thread(thread.join)
        await asyncio.sleep(0)
        assert not files
        assert theirs.recv(1) == b""
        ear.close()


def test_an_ear_can_be_closed_when_its_loop_is() -> None:
    async def listen() -> tuple[Ear, socket.socket]:
        ear, theirs = ears()
        ear.listen(lambda: None)
        return ear, theirs

    ear, theirs = asyncio.run(listen())
    with theirs:
        ear.close()
        assert theirs.recv(1) == b""


async def test_a_loop_that_may_tell_only_once_is_told_anew_while_there_is_something_left() -> None:
    """Uvloop does so when a connection is broken: the end can be read again and again, and is told of once."""

    class Once:
        def __init__(self) -> None:
            self.callback: Any = None
            self.told = 0

        def add_reader(self, _: int, callback: Any, *args: Any) -> None:
            self.callback = lambda: callback(*args)
            self.told += 1

        def remove_reader(self, _: int) -> None:
            self.callback = None

        def is_closed(self) -> bool:
            return True

    loop = Once()
    ear, theirs = ears()
    heard: list[int] = []
    with theirs, pytest.MonkeyPatch.context() as patched:
        patched.setattr("dbcore_postgres.ear.asyncio.get_running_loop", lambda: loop)
        ear.listen(lambda: heard.append(loop.told))
        for _ in range(3):
            loop.callback()
        assert heard == [1, 1, 1]
        theirs.shutdown(socket.SHUT_RDWR)
        for _ in range(3):
            loop.callback()
        assert heard == [1, 1, 1, 1, 2, 3]
        ear.hush()
        loop.callback()
        assert loop.callback is None
        ear.close()


def test_an_ear_can_be_closed_when_its_loop_stands_still() -> None:
    async def listen() -> tuple[Ear, socket.socket]:
        ear, theirs = ears()
        ear.listen(lambda: None)
        return ear, theirs

    loop = asyncio.new_event_loop()
    try:
        ear, theirs = loop.run_until_complete(listen())
        with theirs:
            ear.close()
            assert theirs.recv(1) == b""
    finally:
        loop.close()


async def test_an_ear_keeps_nothing_of_the_context_in_which_it_began_to_listen() -> None:
    class Request:
        pass

    current: ContextVar[Request] = ContextVar("current")

    async def ask() -> weakref.ref[Request]:
        request = Request()
        current.set(request)
        ear.listen(lambda: None)
        return weakref.ref(request)

    ear, theirs = ears()
    with theirs:
        request = await asyncio.create_task(ask())
        await asyncio.sleep(0)
        gc.collect()
        assert request() is None
        ear.close()


async def test_a_connection_that_nobody_refers_to_lets_go_of_the_server(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, admin):
        async with connected(postgres_url) as (_, kept):
            pgconn = kept.pgconn
            await rows(kept, "SELECT 1")
            twin = Connection(pgconn)
            pid = await backend(kept)
            del twin
            gc.collect()
            assert pgconn.status != OK

        async def gone() -> bool:
            return not await rows(admin, "SELECT 1 FROM pg_stat_activity WHERE pid = $1", pid)

        await until(gone)
