"""The config keys, by URL and by mapping."""

from __future__ import annotations

from typing import Any

import pytest
from dbcore_mysql.settings import STRICT, MysqlSettings, endpoint, has_ansi_quotes
from mysql_connections import configured

import dbcore as db


def test_a_url_says_all_of_it() -> None:
    url = (
        "mysql://app:p%40ss@db.internal:3307/shop?ssl_mode=verify_identity&ssl_ca=/ca.pem&sql_mode=ansi,strict_all_tables"
        "&variables.lock_wait_timeout=5&variables.default_storage_engine=InnoDB&variables.long_query_time=0.5"
    )
    settings = configured(url).settings
    assert (settings.host, settings.port, settings.user, settings.database) == ("db.internal", 3307, "app", "shop")
    assert settings.password is not None
    assert settings.password.get_secret_value() == "p@ss"
    assert (settings.ssl_mode, settings.ssl_ca, settings.sql_mode) == (
        "verify_identity",
        "/ca.pem",
        "ANSI,STRICT_ALL_TABLES",
    )
    assert settings.variables == {"lock_wait_timeout": 5, "default_storage_engine": "InnoDB", "long_query_time": 0.5}
    assert has_ansi_quotes(settings)
    assert "p@ss" not in repr(settings)


def test_what_is_left_out_has_a_default() -> None:
    settings = configured("mariadb://app@db/shop").settings
    assert (settings.port, settings.ssl_mode, settings.sql_mode, settings.variables) == (3306, "preferred", STRICT, {})
    assert not has_ansi_quotes(settings)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"sql_mode": "NO_BACKSLASH_ESCAPES"}, "strings end elsewhere"),
        ({"sql_mode": "ansi_quotes, no_backslash_escapes"}, "strings end elsewhere"),
        ({"sql_mode": "'; DROP"}, "a list of words"),
        ({"variables": {"sql_mode": "ANSI"}}, "use the key sql_mode"),
        ({"variables": {"character_set_client": "gbk"}}, "utf8mb4"),
        ({"variables": {"TIME_ZONE": "SYSTEM"}}, "moments go as UTC"),
        ({"variables": {"a = 1, b": 2}}, "no name of a variable"),
        ({"unix_socket": "/run/mysqld.sock"}, "leave one of them out"),
        ({"ssl_key": "/key.pem"}, "set ssl_cert too"),
        ({"ssl_mode": "disabled", "ssl_ca": "/ca.pem"}, "encrypts nothing"),
        ({"ssl_mode": "required", "ssl_ca": "/ca.pem"}, "checks no certificate"),
        ({"port": 0}, "greater than or equal to 1"),
    ],
)
def test_what_contradicts_itself_is_refused_before_anything_is_connected(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(db.ConfigError, match=words):
        configured("mysql://app@db/shop", **keys)


@pytest.mark.parametrize(
    ("settings", "host", "port"),
    [
        ({"host": "db"}, "db", None),
        ({"host": "db", "port": 3307}, "db", 3307),
        ({"unix_socket": "/run/s"}, "/run/s", None),
    ],
)
def test_observers_are_told_where_it_is(settings: dict[str, Any], host: str, port: int | None) -> None:
    told = endpoint(MysqlSettings.model_validate({"database": "shop", **settings}))
    assert (told.system, told.namespace, told.host, told.port) == ("mysql", "shop", host, port)
