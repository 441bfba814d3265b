"""Connecting: what `start` does, and what it says when there is nothing to connect to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from dbcore.errors import DbConnectionError, PoolTimeout
from dbcore.events import Event
from dbcore.testing.conformance.checks import check, raises, same, shown
from dbcore.testing.conformance.promise import promise
from dbcore.testing.conformance.subject import Subject

SOON = 5.0
"""Seconds within which a permanent failure has to be told: well below every timeout of the pool."""


@promise()
async def opening_a_database_does_nothing_yet(subject: Subject) -> None:
    """`open` needs no connection, no task and no thread; they come with `start`.

    Laws: M2.
    """
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    database = subject.open()
    same([*set(threading.enumerate()) - threads], [], "threads that `open` started")
    same([*asyncio.all_tasks() - tasks], [], "tasks that `open` started")
    check("not started" in repr(database), f"a database that was not started says so, and is {database!r}")


@promise()
async def a_started_database_answers(subject: Subject) -> None:
    """After `start` statements are answered; a second `start` is harmless.

    Laws: A25, J10.
    """
    async with subject.open() as database:
        await database.start()
        same(await database.fetch_value("SELECT 1"), 1, "SELECT 1")
        same(database.driver, subject.vtable.name, "the name of the driver")


@promise(needs=("stats",))
async def start_opens_as_many_connections_as_the_pool_is_to_keep(subject: Subject) -> None:
    """`start` opens `pool.min_size` connections, however many tasks start it.

    Laws: J10.
    """
    async with subject.open(pool={"min_size": 3, "max_size": 4}) as database:
        await asyncio.gather(*(database.start() for _ in range(10)))
        stats = database.stats()
        same((stats.size, stats.idle, stats.in_use), (3, 3, 0), "connections, idle ones and used ones after the start")


@promise()
async def startup_lazy_connects_with_the_first_checkout(subject: Subject) -> None:
    """With `startup = "lazy"` the start connects nothing, and the first statement finds a connection."""
    async with subject.open(startup="lazy", pool={"min_size": 2}) as database:
        if database.pool.stats is not None:
            same(database.stats().size, 0, "connections after a lazy start")
        same(await database.fetch_value("SELECT 1"), 1, "SELECT 1")


@promise()
async def credentials_are_asked_for_new_connections(subject: Subject) -> None:
    """`credentials` of the config is called for a new connection, and what it returns is laid over the settings."""
    calls: list[int] = []

    async def credentials() -> Mapping[str, Any]:
        calls.append(1)
        return {}

    async with subject.open(credentials=credentials, pool={"max_size": 1}) as database:
        await database.fetch_value("SELECT 1")
    check(calls, "promised was a call of `credentials` before the first connection, and none came")


@promise(needs=("unreachable",))
async def a_failed_start_says_why_and_soon(subject: Subject) -> None:
    """Where no connection can be made, `start` raises a `DbConnectionError` at once, and leaves nothing behind.

    Laws: A24, J16.
    """
    tasks = asyncio.all_tasks()
    for what, settings in subject.unreachable.items():
        database = subject.open(settings=settings)
        for _ in range(2):  # it may be tried again
            started = asyncio.get_running_loop().time()
            with raises(DbConnectionError, f"a start with {what}") as caught:
                await database.start()
            spent = asyncio.get_running_loop().time() - started
            check(spent < SOON, f"a start with {what} fails within {SOON:g} s, and took {spent:.1f} s")
            check(str(caught.error), f"the error of a start with {what} says why, and its text is empty")
            same(caught.error.driver, subject.vtable.name, "the driver that the error names")
        await database.stop()
    same([*asyncio.all_tasks() - tasks], [], "tasks left by starts that failed")


@promise(needs=("unreachable",))
async def a_permanent_failure_reaches_a_checkout_at_once(subject: Subject) -> None:
    """What cannot get better by itself (`retryable` is false) is told to a checkout without waiting for its timeout."""
    for what, settings in subject.unreachable.items():
        try:
            await subject.open(settings=settings).start()
        except DbConnectionError as error:
            if error.retryable:
                continue
        async with subject.open(settings=settings, startup="lazy") as database:
            started = asyncio.get_running_loop().time()
            with raises(DbConnectionError, f"a checkout with {what}"):
                await database.fetch_value("SELECT 1")
            spent = asyncio.get_running_loop().time() - started
            check(spent < SOON, f"a checkout with {what} fails within {SOON:g} s, and took {spent:.1f} s")


@promise(needs=("permanent",))
async def what_cannot_get_better_is_told_as_such(subject: Subject) -> None:
    """Where waiting is no use, `retryable` is false, and a checkout fails at once, however the pool was started."""
    for what in subject.permanent:
        for startup in ("lazy", "try"):
            async with subject.open(settings=subject.unreachable[what], startup=startup) as database:
                started = asyncio.get_running_loop().time()
                with raises(DbConnectionError, f"a checkout with {what}, which is permanent") as caught:
                    await database.fetch_value("SELECT 1")
                spent = asyncio.get_running_loop().time() - started
                check(not caught.error.retryable, f"{what} is permanent, and the error says that it is retryable")
                check(spent < SOON, f"a checkout with {what} fails within {SOON:g} s, and took {spent:.1f} s")


@promise(needs=("unreachable",))
async def startup_try_starts_without_a_database(subject: Subject) -> None:
    """With `startup = "try"` the start succeeds all the same, and a checkout says why it gets no connection."""
    for what, settings in subject.unreachable.items():
        pool = {"checkout_timeout": 0.3}
        async with subject.open(settings=settings, startup="try", pool=pool) as database:
            try:
                await database.fetch_value("SELECT 1")
            except (DbConnectionError, PoolTimeout):
                continue
            raise AssertionError(f"a statement with {what} was answered")


@promise(needs=("unreachable",))
async def an_error_of_connecting_shows_no_secret(subject: Subject) -> None:
    """No secret of the config is in the error of a failed connect.

    Laws: P1.
    """
    secrets = [value for value in subject.config.settings.model_dump().values() if isinstance(value, SecretStr)]
    for settings in subject.unreachable.values():
        with raises(DbConnectionError, "a start that cannot succeed") as caught:
            await subject.open(settings=settings).start()
        for secret in secrets:
            hidden = secret.get_secret_value() not in shown(caught.error)
            check(hidden, "an error shows no secret of the config, and this one does")


@promise(needs=("server_info",))
async def a_server_tells_its_version(subject: Subject) -> None:
    """`server_info` has name and version of what is at the other end."""
    async with subject.open() as database:
        info = await database.server_info()
        check(any(digit in info.version for digit in "0123456789"), f"a version has digits, and it was {info.version}")


@promise()
async def observers_hear_of_statements_and_of_no_parameter(subject: Subject) -> None:
    """`observe` gets an event for each statement, without the values that went along."""
    heard: list[Event] = []
    async with subject.items(observe=heard.append) as items:
        await items.database.execute(items.insert, [1, "a value that is private"])
    told = [event for event in heard if getattr(event, "sql", None) == items.insert]
    same(len(told), 1, "events that tell of the one INSERT")
    check("a value that is private" not in repr(heard), "an event holds no parameter, and one does")
