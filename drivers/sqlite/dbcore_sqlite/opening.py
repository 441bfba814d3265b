"""Opening one database: runs whole in the worker thread of a new connection, one hop for all of it."""

from __future__ import annotations

import errno
import os
import random
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from dbcore.errors import DbConnectionError
from dbcore_sqlite.errors import is_busy, name_of, to_error
from dbcore_sqlite.settings import SqliteSettings
from dbcore_sqlite.words import RESTORED_PRAGMAS
from dbcore_sqlite.worker import Native

__all__ = ["NEED_LOCK", "File", "Place", "open_native", "place_of"]

NEED_LOCK = ("cache_size", "synchronous")
"""Reading or setting them reads the database, which in memory means a lock that a long transaction may hold."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a database is."""

    uri: str
    path: Path | None
    """The file; `None` in memory."""
    known: Mapping[str, int] = field(default_factory=dict[str, int])
    """Pragmas of a new connection that it cannot be asked for."""


File = tuple[int, int]
"""Which file it is, whatever it is called by now: its device, and its number there."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A new connection, and what is known of it."""

    native: Native
    snapshot: Mapping[str, int]
    """What a reset has to put back."""
    file: File | None
    """`None` in memory."""


def place_of(settings: SqliteSettings, folder: Path) -> Place:
    """Find the file that the settings mean; relative paths start at `folder`."""
    path = (folder / settings.path).absolute()
    mode = "ro" if settings.read_only else "rwc" if settings.create else "rw"
    return Place(f"{path.as_uri()}?mode={mode}", path)


def open_native(place: Place, settings: SqliteSettings, given_up: Event) -> Opened:
    """Open, set the pragmas, and note what a reset has to put back. Leaves nothing open when it raises.

    Raises `DbConnectionError`, `retryable` where another process only held a lock.
    """
    try:
        native = sqlite3.connect(
            place.uri,
            uri=True,
            timeout=0,  # the driver itself waits for locks: SQLite's wait cannot be cancelled
            isolation_level=None,
            # An abort closes from another thread, and the end of a stream from the event loop's. Never two at once.
            check_same_thread=False,
            factory=Native,
        )
    except sqlite3.Error as error:
        raise _explain(error, place, settings) from error
    try:
        _set_up(native, place, settings, given_up)
        if place.path is not None and not settings.read_only:
            _refuse_unwritable(place.path)
        return Opened(native, _snapshot(native, place.known), _file(place))
    except sqlite3.Error as error:
        native.close()
        raise _explain(error, place, settings) from error
    except BaseException:
        native.close()
        raise


def _set_up(native: Native, place: Place, settings: SqliteSettings, given_up: Event) -> None:
    """Set the pragmas, waiting for locks: two that turn a new file to WAL at once are told that it is locked."""
    deadline = time.monotonic() + settings.busy_timeout
    pause = 0.001
    while True:
        try:
            for text in _pragmas(settings, memory=place.path is None):
                native.execute(text).close()
            if place.path is not None:
                _set_journal_mode(native, settings)
        except sqlite3.OperationalError as error:
            if not is_busy(error) or given_up.is_set() or time.monotonic() > deadline:
                raise
        else:
            return
        given_up.wait(pause * random.uniform(0.5, 1.5))  # noqa: S311 (spreads retries, guards nothing)
        pause = min(pause * 2, 0.05)


def _pragmas(settings: SqliteSettings, *, memory: bool) -> list[str]:
    # Those of the user first: page_size and auto_vacuum count only before WAL makes the file.
    wanted: dict[str, object] = {**settings.pragmas, "foreign_keys": settings.foreign_keys}
    if settings.mmap_size is not None:
        wanted["mmap_size"] = settings.mmap_size
    if settings.temp_store is not None:
        wanted["temp_store"] = settings.temp_store
    if not memory:
        wanted["synchronous"] = settings.synchronous
        if settings.cache_size is not None:
            wanted["cache_size"] = settings.cache_size
    return [f"PRAGMA {name} = {_literal(value)}" for name, value in wanted.items()]


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (int, float)):
        return repr(value)
    return "'" + str(value).replace("'", "''") + "'"


def _set_journal_mode(native: Native, settings: SqliteSettings) -> None:
    """Turn the file to the wanted mode if it is not in it. The first read of the file, so that a bad one shows here."""
    mode = native.execute("PRAGMA journal_mode").fetchone()[0]
    native.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    if settings.read_only or mode == settings.journal_mode:
        return
    got = native.execute(f"PRAGMA journal_mode = {settings.journal_mode}").fetchone()[0]
    if got != settings.journal_mode:
        raise DbConnectionError(
            f"SQLite keeps journal_mode {got!r} for this file instead of {settings.journal_mode!r}, as it does where "
            f"the file system has no shared memory (network drives); set journal_mode = {got!r}, or move the file"
        )


def _refuse_unwritable(path: Path) -> None:
    """SQLite opens such a file for reading, and would not say so before the first write."""
    if not _may(path, os.W_OK):
        raise DbConnectionError(_not_allowed(path))


def _snapshot(native: Native, known: Mapping[str, int]) -> Mapping[str, int]:
    values = dict(known)
    for name in RESTORED_PRAGMAS:
        if name not in known:
            row = native.execute(f"PRAGMA {name}").fetchone()
            if row is not None:  # this build of SQLite may lack one
                values[name] = row[0]
    return values


def _file(place: Place) -> File | None:
    if place.path is None:
        return None
    try:
        found = place.path.stat()
    except OSError:  # deleted in this very moment
        return (0, 0)
    return found.st_dev, found.st_ino


def _explain(error: sqlite3.Error, place: Place, settings: SqliteSettings) -> DbConnectionError:
    """Say what is wrong with the file, and the cure."""
    code = name_of(error)
    if is_busy(error):
        return DbConnectionError(
            f"{place.path} was locked by somebody else for busy_timeout = {settings.busy_timeout:g} s ({code})",
            retryable=True,
        )
    path = place.path
    if path is None:
        return DbConnectionError(f"the in-memory database cannot be opened: {error} ({code})")
    trouble = _trouble(path, settings)
    if trouble is not None:
        return DbConnectionError(f"{trouble} ({code})")
    if code == "SQLITE_NOTADB":
        return DbConnectionError(f"{path} is not a SQLite database, or it is encrypted; correct path ({code})")
    if code.startswith("SQLITE_IOERR"):
        return DbConnectionError(f"{path}: {error} ({code})", retryable=True)
    known = to_error(error)
    said = f"{error} ({code})" if known is None else str(known)
    return DbConnectionError(f"{path}: {said}", retryable=known is not None and known.retryable)


def _trouble(path: Path, settings: SqliteSettings) -> str | None:
    try:
        if path.is_dir():
            return f"{path} is a folder; path must name a file"
        if not path.parent.is_dir():
            return f"the folder {path.parent} does not exist; create it, or correct path"
        if not path.exists():
            if settings.read_only or not settings.create:
                why = "read_only is set" if settings.read_only else "create is false"
                return f"{path} does not exist, and {why}; correct path, or let it be created"
            if not _may(path.parent, os.W_OK):
                return f"no permission to create {path}; allow this user to write in {path.parent}"
            return None
        needed = os.R_OK if settings.read_only else os.R_OK | os.W_OK
        if not _may(path, needed):
            return _not_allowed(path)
        if not settings.read_only and not _may(path.parent, os.W_OK):
            return f"no permission to write in {path.parent}, where the journal goes; allow it, or set read_only"
    except OSError as problem:
        return f"{path} cannot be reached: {os.strerror(problem.errno or errno.EIO)}"
    return None


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _not_allowed(path: Path) -> str:
    return f"no permission to open {path}; allow this user to read and write it, or set read_only = true"
