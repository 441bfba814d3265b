"""The scripted driver: statements are answered from the script, and transactions behave as on a strict server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from dbcore.config import Config, PoolSettings
from dbcore.driver import Result
from dbcore.errors import ConflictError, DbConnectionError, QueryError
from dbcore.testing import (
    FakeConnection,
    NativeError,
    Script,
    ScriptedSettings,
    fails,
    hangs,
    scripted_driver,
    settled,
    slow,
    virtual,
)


async def connected(script: Script) -> FakeConnection:
    return await script.hooks().connect()


@virtual
async def test_statements_are_answered_by_their_text_and_written_down() -> None:
    script = Script()
    whole = Result(("id",), [(7,)], 1)
    driver = scripted_driver(script, {"rows": [(1, "a"), (2, "b")], "count": 3, "whole": whole})
    connection = await connected(script)
    assert await driver.query(connection, "rows", [5]) == Result(("a", "b"), [(1, "a"), (2, "b")], 2)
    assert (await driver.query(connection, "count", ())).count == 3
    assert await driver.query(connection, "whole", ()) is whole
    assert (await driver.query(connection, "unknown", ())).rows == ()
    assert script.statements[0] == (1, "rows", (5,))
    assert len(script.statements) == 4


@virtual
async def test_a_function_may_answer() -> None:
    def answer(sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        return [(sql, *params)]

    script = Script()
    driver = scripted_driver(script, answer)
    assert (await driver.query(await connected(script), "echo", [1])).rows == [("echo", 1)]


@virtual
async def test_errors_are_native_and_turned_by_to_error() -> None:
    error = ConflictError("deadlock", retryable=True)
    script = Script()
    driver = scripted_driver(script, {"clash": error})
    with pytest.raises(NativeError) as caught:
        await driver.query(await connected(script), "clash", ())
    assert driver.to_error(caught.value) is error
    assert driver.to_error(ValueError()) is None


@virtual
async def test_an_error_dooms_the_transaction_until_a_rollback() -> None:
    script = Script()
    driver = scripted_driver(script, {"wrong": QueryError("syntax")})
    connection = await connected(script)
    assert driver.begin is not None
    assert driver.rollback is not None
    assert driver.transaction_status is not None
    await driver.begin(connection, "serializable", True)  # noqa: FBT003 (as `Driver.begin` has it)
    assert driver.transaction_status(connection) == "open"
    with pytest.raises(NativeError, match="syntax"):
        await driver.query(connection, "wrong", ())
    assert driver.transaction_status(connection) == "failed"
    with pytest.raises(NativeError, match="aborted"):
        await driver.query(connection, "right", ())
    await driver.query(connection, "ROLLBACK TO SAVEPOINT s", ())
    assert driver.transaction_status(connection) == "open"
    await driver.rollback(connection)
    assert driver.transaction_status(connection) == "idle"
    assert script.statements[0][1] == "BEGIN SERIALIZABLE READ ONLY"


@virtual
async def test_a_commit_of_a_doomed_transaction_fails() -> None:
    script = Script()
    driver = scripted_driver(script)
    connection = await connected(script)
    assert driver.begin is not None
    assert driver.commit is not None
    await driver.begin(connection, None, False)  # noqa: FBT003 (likewise)
    connection.failed = True
    with pytest.raises(NativeError, match="aborted"):
        await driver.commit(connection)
    connection.failed = False
    await driver.commit(connection)
    assert not connection.in_transaction


@virtual
async def test_statements_take_time_and_fail_as_planned() -> None:
    script = Script()
    script.query.then(slow(2), fails(DbConnectionError("lost")))
    driver = scripted_driver(script)
    connection = await connected(script)
    await driver.query(connection, "one", ())
    assert asyncio.get_running_loop().time() == 2
    with pytest.raises(NativeError, match="lost"):
        await driver.query(connection, "two", ())


@virtual
async def test_a_cancelled_statement_leaves_the_connection_unclean() -> None:
    script = Script()
    script.query.then(hangs())
    driver = scripted_driver(script)
    connection = await connected(script)
    task = asyncio.ensure_future(driver.query(connection, "long", ()))
    await settled()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not script.hooks().is_clean(connection)


@virtual
async def test_a_stream_gives_the_rows_in_portions() -> None:
    script = Script()
    driver = scripted_driver(script, {"five": [(number,) for number in range(5)]})
    assert driver.stream is not None
    stream = driver.stream(await connected(script), "five", (), 2)
    assert [[row[0] for row in portion.rows] async for portion in stream] == [[0, 1], [2, 3], [4]]


@virtual
async def test_the_pool_of_the_driver_is_watched_by_the_script() -> None:
    script = Script()
    driver = scripted_driver(script)
    config = Config(name="main", driver="scripted", settings=ScriptedSettings(), pool=PoolSettings(max_size=2))
    pool = await driver.start_pool(config)
    connection, release = await pool.checkout()
    assert connection.held
    assert driver.touch is not None
    driver.touch(connection)
    release()
    await settled()
    assert [call.outcome for call in script.of("reset")] == ["ok"]
    await pool.stop()
    script.check(open=0, max_size=2)


@virtual
async def test_the_rest_of_the_driver_is_there() -> None:
    script = Script()
    driver = scripted_driver(script, name="other")
    connection = await connected(script)
    assert (driver.name, driver.schemes) == ("other", frozenset({"other"}))
    assert driver.from_url is not None
    assert driver.from_url("other://anything") == {}
    assert driver.script is not None
    await driver.script(connection, "a; b")
    assert script.statements == [(1, "a; b", ())]
    assert driver.server_info is not None
    assert (await driver.server_info(connection)).version == "scripted"
