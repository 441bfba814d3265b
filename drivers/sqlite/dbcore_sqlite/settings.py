"""The settings of a SQLite connection, and how a URL says them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from dbcore.config import Settings
from dbcore.config.urls import decode, split_url
from dbcore.errors import ConfigError
from dbcore.events import Endpoint

__all__ = ["MEMORY", "SqliteSettings", "endpoint", "from_url"]

MEMORY = ":memory:"

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OWN_KEYS = frozenset(
    {
        "busy_timeout",
        "cache_size",
        "foreign_keys",
        "journal_mode",
        "mmap_size",
        "query_only",
        "synchronous",
        "temp_store",
    }
)


class SqliteSettings(Settings):
    """Where the database is, and how SQLite treats it."""

    path: str = Field(
        min_length=1,
        description="The database file, relative to the config that names it; ':memory:' lives as long as the pool.",
    )
    journal_mode: Literal["wal", "delete", "truncate", "persist", "memory", "off"] = Field(
        "wal", description="With 'wal' readers and the writer do not disturb each other; else they take turns."
    )
    synchronous: Literal["off", "normal", "full", "extra"] = Field(
        "normal",
        description="When SQLite waits for the disk. 'normal': a power cut may lose the last commits, never the file.",
    )
    foreign_keys: bool = Field(default=True, description="Foreign keys are enforced.")
    busy_timeout: float = Field(5, ge=0, description="Seconds to wait for a lock that another process holds.")
    cache_size: int | None = Field(
        None, description="Pages that each connection keeps in memory; negative: KiB. None: SQLite's default."
    )
    mmap_size: int | None = Field(
        None, ge=0, description="Bytes of the file that are mapped into memory. None: SQLite's default."
    )
    temp_store: Literal["default", "file", "memory"] | None = Field(
        None, description="Where temporary tables and sorts live. None: SQLite's default."
    )
    pragmas: Mapping[str, bool | int | float | str] = Field(
        default_factory=dict[str, bool | int | float | str],
        description="Further pragmas, set on each new connection before the others.",
    )
    create: bool = Field(default=True, description="A missing file is created; otherwise it is an error.")
    read_only: bool = Field(default=False, description="The file is opened for reading only.")
    # Two: while the COMMIT of one is under way, the other sends its BEGIN. More would only hold connections.
    writers: int = Field(
        2, ge=1, description="Write transactions that may hold a connection at once; the others wait without one."
    )

    @property
    def in_memory(self) -> bool:
        return self.path == MEMORY

    @property
    def exclusive(self) -> bool:
        """Without WAL readers and writers shut each other out, unless nobody writes at all."""
        return self.in_memory or (self.journal_mode != "wal" and not self.read_only)

    @field_validator("path")
    @classmethod
    def _nameable(cls, path: str) -> str:
        if "\0" in path:
            raise ValueError("it holds a NUL character, which no file name can")
        return path

    @field_validator("pragmas")
    @classmethod
    def _known(cls, pragmas: Mapping[str, bool | int | float | str]) -> Mapping[str, bool | int | float | str]:
        known = _known_pragmas()
        for name in pragmas:
            if not _IDENTIFIER.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a pragma: letters, digits and underscores")
            if name.lower() in _OWN_KEYS:
                own = "read_only" if name.lower() == "query_only" else name.lower()
                raise ValueError(f"{name} has a key of its own; set {own} instead")
            if known and name.lower() not in known:
                close = get_close_matches(name.lower(), known, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise ValueError(f"SQLite {sqlite3.sqlite_version} has no pragma {name}{hint}")
        return pragmas

    @model_validator(mode="after")
    def _possible(self) -> SqliteSettings:
        if self.in_memory and self.read_only:
            raise ValueError("an in-memory database begins empty and read_only leaves it so; leave one of them out")
        if self.in_memory and not self.create:
            raise ValueError("an in-memory database is always created; leave create out, or name a file")
        if self.read_only and "create" in self.model_fields_set and self.create:
            raise ValueError("read_only creates no file; leave create or read_only out")
        return self


@lru_cache(maxsize=1)
def _known_pragmas() -> frozenset[str]:
    """Ask SQLite, which ignores a pragma that it does not know in silence. Empty where this build does not tell."""
    connection = sqlite3.connect(MEMORY)
    try:
        return frozenset(name for (name,) in connection.execute("PRAGMA pragma_list"))
    finally:
        connection.close()


def endpoint(settings: SqliteSettings) -> Endpoint:
    """Name the file, as the config does."""
    return Endpoint(system="sqlite", namespace=settings.path)


def from_url(url: str) -> Mapping[str, Any]:
    """Read `sqlite:///app.db` (relative), `sqlite:////var/app.db` (absolute), `sqlite://` or `sqlite:///:memory:`.

    Keys of the query are settings; `pragmas.<name>` is one of `pragmas`.
    """
    parts = split_url(url)
    if parts.authority:
        raise ConfigError(
            "a SQLite URL has no host: write sqlite:///app.db, with three slashes, for a path relative to the config, "
            "sqlite:////var/app.db for an absolute one"
        )
    if parts.path == "":
        raise ConfigError("the SQLite URL names no file: write sqlite:///app.db, or sqlite:// for a database in memory")
    found: dict[str, Any] = {"path": MEMORY if parts.path is None else decode(parts.path)}
    pragmas: dict[str, str] = {}
    for key, value in parts.query:
        if key == "path":
            raise ConfigError("path is in the URL twice: leave out the one in its query")
        if key.startswith("pragmas."):
            pragmas[key.removeprefix("pragmas.")] = decode(value)
        else:
            found[key] = decode(value)
    if pragmas:
        found["pragmas"] = pragmas
    return found
