"""Each setting does what it says, and a wrong one is told before anything is opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from dbcore_sqlite import SqliteSettings
from dbcore_sqlite.pool import server_info
from dbcore_sqlite.settings import from_url
from dbcore_sqlite.transactions import rollback
from pydantic import ValidationError
from sqlite_pools import begin_write, one_connection, run, value

from dbcore.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "keys"),
    [
        ("sqlite:///app.db", {"path": "app.db"}),
        ("sqlite:////var/app.db", {"path": "/var/app.db"}),
        ("sqlite:///data/my%20app.db", {"path": "data/my app.db"}),
        ("sqlite://", {"path": ":memory:"}),
        ("sqlite:///:memory:", {"path": ":memory:"}),
        ("sqlite:///app.db?synchronous=off&writers=3", {"path": "app.db", "synchronous": "off", "writers": "3"}),
        ("sqlite:///app.db?pragmas.recursive_triggers=1", {"path": "app.db", "pragmas": {"recursive_triggers": "1"}}),
    ],
)
def test_a_url_becomes_settings(url: str, keys: Mapping[str, Any]) -> None:
    assert from_url(url) == keys
    SqliteSettings.model_validate(keys)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://app.db", "three slashes"),
        ("sqlite://host/app.db", "three slashes"),
        ("sqlite:///", "names no file"),
        ("sqlite:///app.db?path=other.db", "twice"),
    ],
)
def test_a_url_that_means_something_else_is_refused(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        from_url(url)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "required"),
        ({"path": ""}, "at least 1 character"),
        ({"path": "a\0b"}, "NUL character"),
        ({"path": "a", "journal_mode": "wall"}, "journal_mode"),
        ({"path": "a", "busy_timeout": -1}, "busy_timeout"),
        ({"path": "a", "writers": 0}, "writers"),
        ({"path": "a", "unknown": 0}, "unknown"),
        ({"path": "a", "pragmas": {"journal_mode": "wal"}}, "set journal_mode instead"),
        ({"path": "a", "pragmas": {"query_only": 1}}, "set read_only instead"),
        ({"path": "a", "pragmas": {"recursive_trigers": 1}}, "did you mean recursive_triggers"),
        ({"path": "a", "pragmas": {"x; DROP TABLE y": 1}}, "no name of a pragma"),
        ({"path": ":memory:", "read_only": True}, "begins empty"),
        ({"path": ":memory:", "create": False}, "always created"),
        ({"path": "a", "read_only": True, "create": True}, "creates no file"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(settings: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=f"(?i){said}"):
        SqliteSettings.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "pragma", "expected"),
    [
        ({}, "journal_mode", "wal"),
        ({}, "synchronous", 1),
        ({}, "foreign_keys", 1),
        ({}, "busy_timeout", 0),
        ({"journal_mode": "delete"}, "journal_mode", "delete"),
        ({"synchronous": "full"}, "synchronous", 2),
        ({"foreign_keys": False}, "foreign_keys", 0),
        ({"cache_size": -4000}, "cache_size", -4000),
        ({"mmap_size": 1 << 20}, "mmap_size", 1 << 20),
        ({"temp_store": "memory"}, "temp_store", 2),
        ({"pragmas": {"recursive_triggers": True}}, "recursive_triggers", 1),
        ({"pragmas": {"auto_vacuum": "incremental"}}, "auto_vacuum", 2),
        ({"pragmas": {"page_size": 8192}}, "page_size", 8192),
    ],
)
async def test_a_setting_reaches_the_connection(
    tmp_path: Path, settings: Mapping[str, Any], pragma: str, expected: object
) -> None:
    """Laws: A11, I12."""
    async with one_connection(tmp_path, **settings) as connection:
        assert await value(connection, f"PRAGMA {pragma}") == expected


async def test_a_relative_path_begins_at_the_folder_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    async with one_connection(tmp_path, path="data/my %?#app.db") as connection:
        await run(connection, "CREATE TABLE t (a)")
    assert (tmp_path / "data" / "my %?#app.db").exists()


async def test_an_absolute_path_is_taken_as_it_is(tmp_path: Path) -> None:
    async with one_connection(Path("/nowhere"), path=str(tmp_path / "other.db")):
        pass
    assert (tmp_path / "other.db").exists()


async def test_a_read_only_pool_reads_and_does_not_write(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await run(connection, "CREATE TABLE t AS SELECT 1 AS a")
        async with one_connection(tmp_path, read_only=True) as reader:
            assert await value(reader, "SELECT a FROM t") == 1
            await begin_write(reader)
            with pytest.raises(Exception, match="readonly"):
                await run(reader, "INSERT INTO t VALUES (2)")
            await rollback(reader)


async def test_the_server_is_the_version_of_the_library(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        info = await server_info(connection)
        assert info.version == f"SQLite {await value(connection, 'SELECT sqlite_version()')}"
        assert info.tls is None
