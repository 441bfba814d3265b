"""The config keys, URLs, and what of the pool's settings asyncpg's own pool can honour."""

from __future__ import annotations

from typing import Any

import pytest
from dbcore_asyncpg import AsyncpgSettings, driver
from dbcore_asyncpg.settings import connect_arguments, from_url
from dbcore_postgres import PostgresSettings
from pydantic import ValidationError

import dbcore as db
from dbcore.config.urls import BadUrl
from dbcore.loading import resolve

BASE = "postgresql+asyncpg://app:s3cr%40t@db.internal:5433/shop"


def arguments(**keys: Any) -> dict[str, Any]:
    found = connect_arguments(AsyncpgSettings.model_validate(keys), check_interval=True)
    return {key: value for key, value in found.items() if value is not None}


def problems(**keys: Any) -> list[str]:
    with pytest.raises(db.ConfigError) as caught:
        resolve({"driver": "asyncpg", **keys})
    return [f"{problem.where}: {problem.what}" for problem in caught.value.problems]


@pytest.mark.parametrize("scheme", ["asyncpg", "postgres+asyncpg", "postgresql+asyncpg"])
def test_its_urls_have_schemes_of_their_own(scheme: str) -> None:
    assert resolve(f"{scheme}://db.internal/shop").driver == "asyncpg"


def test_the_scheme_without_its_name_stays_with_the_other_driver() -> None:
    assert resolve("postgresql://db.internal/shop").driver == "postgres"


@pytest.mark.parametrize(
    ("url", "found"),
    [
        (BASE, {"user": "app", "password": "s3cr@t", "host": "db.internal", "port": "5433", "database": "shop"}),
        ("asyncpg://a,b:5433/shop?target_session_attrs=read-write", {"host": "a,b", "port": ",5433"}),
        ("asyncpg://u@a:1,b:2/shop", {"user": "u", "host": "a,b", "port": "1,2"}),
        ("asyncpg:///shop?host=/run/postgresql", {"host": "/run/postgresql", "database": "shop"}),
        ("asyncpg://%2Frun%2Fpostgresql/shop", {"host": "/run/postgresql"}),
        ("asyncpg://[::1]:5433/shop", {"host": "::1", "port": "5433"}),
        (BASE + "?pooler=session&options=-c%20search_path%3Dapp", {"options": "-c search_path=app"}),
        (BASE + "?ssl=true", {"sslmode": "require"}),
        ("asyncpg://db?dbname=shop", {"dbname": "shop"}),
    ],
)
def test_a_url_is_read_as_libpq_reads_it(url: str, found: dict[str, str]) -> None:
    assert from_url(url).items() >= found.items()


@pytest.mark.parametrize("url", ["asyncpg://app:s3cr3t@[::1/shop", "asyncpg://app:s3cr3t@a,,b/shop"])
def test_a_url_that_cannot_be_read_shows_nothing_of_itself(url: str) -> None:
    with pytest.raises(BadUrl) as caught:
        from_url(url)
    assert "s3cr3t" not in f"{caught.value} {caught.value.cure}"


def test_its_keys_are_those_of_the_other_driver_where_they_mean_the_same() -> None:
    own = {"server_settings", "max_cached_statement_lifetime", "max_cacheable_statement_size", "max_queries"}
    assert set(AsyncpgSettings.model_fields) - own <= set(PostgresSettings.model_fields)


def test_the_settings_become_what_asyncpg_wants() -> None:
    assert arguments(host="a,b", port="1,", password="x", dbname="shop", server_settings={"jit": "off"}) == {
        "host": ["a", "b"],
        "port": [1, 5432],
        "password": "x",
        "database": "shop",
        "statement_cache_size": 100,
        "max_cached_statement_lifetime": 300,
        "max_cacheable_statement_size": 15360,
        "server_settings": {"application_name": "dbcore", "client_connection_check_interval": "1000", "jit": "off"},
    }


def test_tls_goes_by_a_connection_string_without_a_password_in_it() -> None:
    found = arguments(sslmode="verify-full", ssl_min_protocol_version="TLSv1.3", password="x")
    assert found["dsn"] == "postgresql://?sslmode=verify-full&ssl_min_protocol_version=TLSv1.3"


def test_behind_a_pooler_nothing_of_ours_is_set_at_the_start() -> None:
    assert arguments(pooler="session")["server_settings"] == {"application_name": "dbcore"}
    assert arguments(pooler="session")["statement_cache_size"] == 100
    assert arguments(pooler="transaction")["statement_cache_size"] == 0


@pytest.mark.parametrize(
    "keys",
    [
        {"pooler": "transaction", "prepared_statements": 5},
        {"pooler": "transaction", "options": "-c a=b"},
        {"pooler": "transaction", "server_settings": {"a": "b"}},
        {"pooler": "session", "client_connection_check_interval": 5},
        {"database": "a", "dbname": "b"},
        {"host": "a,b", "port": "1,2,3"},
        {"port": "70000"},
        {"sslmode": "maybe"},
        {"keepalives": 1},
    ],
)
def test_what_contradicts_itself_or_is_unknown_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AsyncpgSettings.model_validate(keys)


def test_a_secret_does_not_show() -> None:
    config = resolve(BASE)
    assert "s3cr@t" not in f"{config!r} {config.settings!r} {config.settings}"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_lifetime", 60),
        ("max_waiting", 5),
        ("keepalive", 5),
        ("ping_after", 1),
        ("leak_warning", 5),
        ("order", "fifo"),
        ("backoff_min", 1),
        ("backoff_max", 5),
    ],
)
def test_what_its_pool_cannot_honour_is_a_problem_with_its_cure(key: str, value: object) -> None:
    with pytest.raises(db.ConfigError) as caught:
        resolve({"driver": "asyncpg", "pool": {key: value}})
    (problem,) = caught.value.problems
    assert problem.where.endswith(f"pool.{key}")
    assert 'driver = "postgres"' in problem.cure


def test_what_its_pool_does_anyhow_may_be_written_down() -> None:
    pool = {"max_lifetime": None, "ping_after": None, "order": "lifo", "max_idle": 60, "reset": "full"}
    config = resolve({"driver": "asyncpg", "pool": pool})
    assert (config.pool.max_lifetime, config.pool.ping_after) == (None, None)


def test_a_file_that_is_not_there_is_a_problem() -> None:
    assert problems(sslrootcert="/nowhere/root.crt") == ["config: sslrootcert: there is no file '/nowhere/root.crt'"]


def test_a_full_reset_is_refused_where_there_is_no_session() -> None:
    (problem,) = problems(pooler="transaction", pool={"reset": "full"})
    assert problem.startswith("config: pool.reset")


async def test_start_pool_by_itself_refuses_what_the_config_would_have_refused() -> None:
    config = resolve({"driver": "asyncpg"})
    unchecked = db.Config(
        name="main", driver="asyncpg", settings=config.settings, pool=config.pool.model_copy(update={"max_waiting": 1})
    )
    with pytest.raises(db.ConfigError, match="max_waiting"):
        await driver.start_pool(unchecked)


def test_what_it_connects_to_is_told_as_far_as_it_is_known() -> None:
    endpoint = driver.endpoint
    assert endpoint is not None
    named = endpoint(resolve(BASE).settings)
    assert (named.system, named.namespace, named.host, named.port) == ("postgresql", "shop", "db.internal", 5433)
    several = endpoint(resolve("asyncpg://a,b/shop").settings)
    assert (several.host, several.port) == (None, None)
