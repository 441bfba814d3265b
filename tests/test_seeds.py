"""dbcore grew from two older projects: every name of theirs has its counterpart, a test here, and a row in the docs."""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

import dbcore as db
from dbcore.events import BackgroundError, Event
from dbcore.testing import Script, fails, scripted_driver, settled, virtual

PAGE = Path(__file__).parents[1] / "docs" / "seeds.md"
DRIVERS = {"sqlite": "aiosqlite", "postgres": "psycopg"}

T = TypeVar("T", bound=Callable[..., Any])

SEEDS: set[str] = set()
"""Every old name with a test below."""

IN_THE_ISSUE = {
    "Connection", "DbError", "Pool", "PoolOps", "get_connection", "raw_checkout", "start_pool", "stop_pool",
    "conninfo", "conninfo_provider", "size", "on_error", "acquire", "acquire_txn", "release", "available", "max_size",
    "shutdown", "_create_connection", "_shutdown_connection", "_transform_conninfo",
}  # fmt: skip


def seed(*names: str) -> Callable[[T], T]:
    """Say which old names the counterpart in this test is for."""
    SEEDS.update(names)
    return lambda test: test


def opened(script: Script, **keys: Any) -> db.Database:
    observe = keys.pop("observe", None)
    answers = {"SELECT 1": [(1,)]}
    return db.open({"driver": "scripted", **keys}, driver=scripted_driver(script, answers), observe=observe)


# -- the table ---------------------------------------------------------------------------------------------------------


def names_in_the_docs() -> set[str]:
    rows = re.findall(r"^\| `(.+?)`.*\|$", PAGE.read_text(), re.MULTILINE)
    return {re.match(r"\w+", row)[0] for row in rows}  # type: ignore[index]  # pyright: ignore[reportOptionalSubscript] (each begins with a name)


def test_every_name_has_a_test_and_a_row_in_the_docs() -> None:
    assert names_in_the_docs() == SEEDS
    assert IN_THE_ISSUE <= SEEDS


# -- of the database layer ---------------------------------------------------------------------------------------------


@seed("Connection")
@pytest.mark.parametrize(("driver", "library"), DRIVERS.items())
def test_a_driver_package_exports_the_type_of_its_native_connection(driver: str, library: str) -> None:
    native = importlib.import_module(f"dbcore_{driver}").Connection
    assert any(base.__module__.partition(".")[0] == library for base in native.__mro__)


@seed("DbError")
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_package_re_exports_the_error(driver: str) -> None:
    assert importlib.import_module(f"dbcore_{driver}").DbError is db.DbError


@seed("Pool")
@virtual
async def test_a_pool_is_whatever_has_checkout_and_stop() -> None:
    class Own:
        stopped = False

        async def checkout(self, timeout: float | None = None) -> tuple[Any, db.Release]:
            return await script.hooks().connect(), lambda: None

        async def stop(self) -> None:
            self.stopped = True

    script, own = Script(), Own()
    pool: db.Pool[Any] = own

    async def start_pool(config: db.Config[Any]) -> db.Pool[Any]:
        return pool

    driver = replace(scripted_driver(script, {"SELECT 1": [(1,)]}), start_pool=start_pool)
    async with db.open("scripted://", driver=driver) as database:
        assert await database.fetch_value("SELECT 1") == 1
        for use in (database.stats, database.holders):
            with pytest.raises(db.UnsupportedError):
                use()
        with pytest.raises(db.UnsupportedError):
            await database.drain()
    assert own.stopped


@seed("PoolOps", "checkout")
@virtual
async def test_pool_ops_are_two_closures_and_fit_the_protocol() -> None:
    async def checkout(timeout: float | None = None) -> tuple[str, db.Release]:
        return "a connection", lambda: None

    async def stop() -> None:
        pass

    pool: db.Pool[str] = db.PoolOps(checkout=checkout, stop=stop)
    connection, release = await pool.checkout()
    assert connection == "a connection"
    release()
    await pool.stop()


@seed("get_connection")
@virtual
async def test_get_connection_is_run_or_connection() -> None:
    async def use(connection: db.Connection[Any]) -> int:
        return int(await connection.fetch_value("SELECT 1"))

    async with opened(Script()) as database:
        assert await database.run(use) == 1
        async with database.connection() as connection:
            assert await use(connection) == 1
        assert database.stats().in_use == 0


@seed("raw_checkout")
@virtual
async def test_raw_checkout_is_the_pool_of_the_database() -> None:
    script = Script()
    async with opened(script) as database:
        native, release = await database.pool.checkout(timeout=5)
        assert database.stats().in_use == 1
        assert native.id == 1
        release()
        release()
        await settled()
        assert database.stats().idle == 1
        assert script.of("reset"), "whoever had the native connection may have changed its session"
        await database.pool.stop()
        with pytest.raises(db.PoolClosed):
            await database.fetch_value("SELECT 1")


@seed("start_pool")
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_package_exports_start_pool(driver: str) -> None:
    package = importlib.import_module(f"dbcore_{driver}")
    assert package.start_pool is package.driver.start_pool


async def test_start_pool_is_usable_without_the_face(tmp_path: Path) -> None:
    package = importlib.import_module("dbcore_sqlite")
    pool = await package.start_pool(db.Config.from_url(f"sqlite:///{tmp_path}/test.db"))
    connection, release = await pool.checkout()
    assert isinstance(connection, package.Connection)
    release()
    await pool.stop()


@seed("stop_pool", "shutdown")
@virtual
async def test_stop_pool_and_shutdown_are_stop() -> None:
    script = Script()
    database = opened(script)
    await database.start()
    await database.stop()
    await database.stop()
    assert script.open == 0


# -- of the pool base class --------------------------------------------------------------------------------------------


@seed("conninfo")
def test_conninfo_is_the_validated_config() -> None:
    config = db.Config.from_url("postgres://ada:hunter22@db.internal:5433/app?pool.max_size=7")
    settings: Any = config.settings
    assert (config.driver, settings.host, settings.user) == ("postgres", "db.internal", "ada")
    assert config.pool.max_size == 7
    assert "hunter22" not in repr(config)


@seed("conninfo_provider")
async def test_conninfo_provider_is_the_credentials_function(postgres_url: str) -> None:
    """Laws: A17."""
    asked: list[int] = []

    async def provide() -> dict[str, str]:
        asked.append(1)
        return {"application_name": f"asked {len(asked)} times"}

    pool = {"min_size": 0, "max_size": 1}
    async with db.open({"url": postgres_url, "credentials": provide, "pool": pool}) as database:
        for times in (1, 2):
            assert await database.fetch_value("SHOW application_name") == f"asked {times} times"
            await database.drain()


@seed("size", "max_size")
@virtual
async def test_size_and_max_size_are_the_pools_max_size() -> None:
    script = Script()
    async with opened(script, pool={"max_size": 2}) as database:
        releases = [(await database.pool.checkout())[1] for _ in range(2)]
        with pytest.raises(db.PoolTimeout):
            await database.pool.checkout(timeout=0.1)
        assert (database.stats().size, database.stats().max_size) == (2, 2)
        for release in releases:
            release()
    script.check(max_size=2)


@seed("on_error")
@virtual
async def test_on_error_is_observe() -> None:
    heard: list[Event] = []
    script = Script()
    script.close.then(fails(ZeroDivisionError("of the close")))
    async with opened(script, observe=heard.append):
        pass
    (event,) = [event for event in heard if isinstance(event, BackgroundError)]
    assert event.during == "close"
    assert isinstance(event.error, ZeroDivisionError)


@seed("acquire")
@virtual
async def test_acquire_is_checkout() -> None:
    async with opened(Script()) as database:
        async with database.connection(timeout=1) as connection:
            assert await connection.fetch_value("SELECT 1") == 1
            assert database.stats().in_use == 1
        assert database.stats().checkouts == 1


@seed("acquire_txn")
@virtual
async def test_acquire_txn_is_transaction() -> None:
    script = Script()
    async with opened(script) as database, database.transaction() as tx:
        await tx.execute("write")
    assert [sql for _, sql, _ in script.statements] == ["BEGIN", "write", "COMMIT"]


@seed("release")
@virtual
async def test_release_serves_the_oldest_waiter() -> None:
    """Laws: C1."""
    served: list[str] = []

    async def wait(name: str) -> None:
        async with database.connection():
            served.append(name)

    async with opened(Script(), pool={"max_size": 1}) as database:
        _, release = await database.pool.checkout()
        waiters: list[asyncio.Task[None]] = []
        for name in ("oldest", "younger", "youngest"):
            waiters.append(asyncio.create_task(wait(name)))
            await settled()
        release()
        release()
        await asyncio.gather(*waiters)
    assert served == ["oldest", "younger", "youngest"]


@seed("available")
@virtual
async def test_available_is_the_gauge_idle() -> None:
    async with opened(Script(), pool={"min_size": 2, "max_size": 3}) as database:
        assert database.stats().idle == 2
        async with database.connection():
            assert database.stats().idle == 1


@seed("_create_connection")
@virtual
async def test_create_connection_is_the_hook_connect() -> None:
    script = Script()
    async with opened(script, pool={"min_size": 2}):
        assert len(script.of("connect")) == 2


@seed("_shutdown_connection")
@virtual
async def test_shutdown_connection_is_the_hook_close_whose_errors_are_swallowed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    script = Script()
    script.close.then(fails(ZeroDivisionError("of the close")))
    async with opened(script):
        pass
    assert len(script.of("close")) == 1
    assert "close failed" in caplog.text


@seed("_transform_conninfo")
@pytest.mark.parametrize("driver", DRIVERS)
def test_transform_conninfo_is_the_settings_model_of_the_driver(driver: str) -> None:
    found = importlib.import_module(f"dbcore_{driver}").driver
    config = db.Config.from_url("sqlite:///app.db" if driver == "sqlite" else "postgresql://db.internal/app")
    assert isinstance(config.settings, found.settings)
    assert issubclass(found.settings, db.Settings)
    with pytest.raises(db.ConfigError, match="no_such_key"):
        db.load({"driver": driver, "path": "app.db", "no_such_key": 1})
