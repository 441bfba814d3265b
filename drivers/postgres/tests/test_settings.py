"""The config keys, and URLs."""

from __future__ import annotations

from typing import Any

import pytest
from dbcore_postgres import PostgresSettings, driver
from dbcore_postgres.settings import conninfo, from_url, startup_options
from postgres_connections import configured
from psycopg.pq import Conninfo
from pydantic import ValidationError

from dbcore.errors import ConfigError

BASE = "postgresql://app:s3cr%40t@db.internal:5433/shop"


def test_every_option_of_libpq_is_a_key() -> None:
    # `replication` makes connections that run no SQL.
    options = {option.keyword.decode() for option in Conninfo.get_defaults()} - {"replication"}
    assert options <= set(PostgresSettings.model_fields)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        (BASE, {"user": "app", "password": "s3cr@t", "host": "db.internal", "port": "5433", "database": "shop"}),
        ("postgres://a,b:5433/shop?target_session_attrs=read-write", {"host": "a,b", "port": ",5433"}),
        ("postgresql:///shop?host=/run/postgresql", {"host": "/run/postgresql", "database": "shop"}),
        ("postgresql://%2Frun%2Fpostgresql/shop", {"host": "/run/postgresql"}),
        ("postgresql://[::1]:5433/shop", {"host": "::1", "port": "5433"}),
        ("postgresql://app:s3@cr@et@db,c/shop", {"user": "app", "password": "s3@cr@et", "host": "db,c"}),
        (
            BASE + "?pooler=session&options=-c%20search_path%3Dapp",
            {"pooler": "session", "options": "-c search_path=app"},
        ),
        (BASE + "?ssl=true", {"sslmode": "require"}),
        (BASE + "?application_name=a+b", {"application_name": "a+b"}),
    ],
)
def test_a_url_is_read_as_libpq_reads_it(url: str, found: dict[str, str]) -> None:
    assert from_url(url).items() >= found.items()


def test_a_url_that_cannot_be_read_shows_nothing_of_itself() -> None:
    with pytest.raises(ValueError, match="libpq cannot read it") as caught:
        from_url("postgresql://app:s3cr3t@[::1/shop")
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__context__ is None


def test_the_settings_become_what_libpq_wants() -> None:
    settings = PostgresSettings.model_validate(
        {"host": "a", "port": 5433, "password": "x", "dbname": "shop", "keepalives": "1"}
    )
    assert conninfo(settings) == {
        "client_encoding": "UTF8",
        "host": "a",
        "port": "5433",
        "password": "x",
        "dbname": "shop",
        "application_name": "dbcore",
        "keepalives": "1",
    }


STYLES = "-c DateStyle=ISO -c IntervalStyle=postgres"


@pytest.mark.parametrize(
    ("keys", "options"),
    [
        ({}, f"{STYLES} -c client_connection_check_interval=1000"),
        ({"client_connection_check_interval": 0.25}, f"{STYLES} -c client_connection_check_interval=250"),
        ({"client_connection_check_interval": None}, STYLES),
        ({"options": "-c a=b"}, f"{STYLES} -c client_connection_check_interval=1000 -c a=b"),
        ({"pooler": "session"}, None),
        ({"pooler": "transaction"}, None),
    ],
)
def test_start_up_options_are_sent_where_no_pooler_stands_between(keys: dict[str, Any], options: str | None) -> None:
    assert startup_options(PostgresSettings(**keys), check_interval=True) == options


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        ({"database": "a", "dbname": "b"}, "dbname"),
        ({"port": 0}, "65535"),
        ({"port": "x"}, "65535"),
        ({"host": "a,b,c", "port": "1,2"}, "2 ports for 3 hosts"),
        ({"pooler": "transaction", "prepared_statements": 10}, "prepared_statements"),
        ({"pooler": "transaction", "options": "-c a=b"}, "options"),
        ({"pooler": "session", "client_connection_check_interval": 2}, "client_connection_check_interval"),
        ({"sslmode": "sometimes"}, "verify-full"),
    ],
)
def test_values_that_contradict_are_refused(keys: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        PostgresSettings(**keys)


def test_an_unknown_key_is_named_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="sslmode"):
        configured(BASE + "?sslmod=require")


def test_the_password_never_shows() -> None:
    config = configured(BASE)
    assert "s3cr" not in repr(config) + str(config) + repr(config.settings)


async def test_a_reset_of_the_session_contradicts_a_transaction_pooler() -> None:
    with pytest.raises(ConfigError, match="pooler"):
        await driver.start_pool(configured(BASE + "?pooler=transaction", pool={"reset": "full"}))
