"""From a source (file, URL, mapping) to configs: what `db.load`, `db.open` and `Config.from_url` stand on."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard, cast

from dbcore.config import Config, Settings
from dbcore.config.connection import ConnectionReader
from dbcore.config.interpolation import interpolate
from dbcore.config.problems import Place, Problems, listed, nearest
from dbcore.config.schema import config_schema
from dbcore.config.sources import read_toml
from dbcore.driver import Driver
from dbcore.errors import ConfigError, Problem
from dbcore.registry import find_driver, find_driver_by_scheme, installed

__all__ = ["Examined", "Source", "examine", "load", "load_url", "resolve", "schema"]

Source = str | os.PathLike[str] | Mapping[str, Any] | Config[Any]
"""The path of a TOML file, a URL (has `://` in it), a mapping of the same shape or of one connection, a config."""

AnyDriver = Driver[Any, Any]

DEFAULT_FILE = "db.toml"
DEFAULT_NAME = "main"
VARIABLE = "DBCORE_CONFIG"
KINDS = "Pass the path of a TOML file, a URL (scheme://...), a mapping or a Config"

logger = logging.getLogger("dbcore")


def load(
    source: Source | None = None, *, driver: AnyDriver | None = None, name: str | None = None
) -> Mapping[str, Config[Any]]:
    """Read every connection of a config, by name. Connects to nothing.

    Without a source: `$DBCORE_CONFIG`, else `db.toml` in the working directory. `driver` is used where a connection
    names it or no other; `name` is for a source that is a single connection (else it is called `main`).
    Raises `ConfigError` with every problem that there is.
    """
    read = _read(source, driver, name)
    read.problems.check()
    return MappingProxyType(read.configs)


def resolve(
    source: Source | None = None,
    name: str | None = None,
    *,
    driver: AnyDriver | None = None,
    observe: Callable[[Any], None] | None = None,
) -> Config[Any]:
    """Read one connection of a config: the one called `name`, else the default, else the only one.

    Raises `ConfigError` with every problem of the source, those of its other connections included.
    """
    read = _read(source, driver, name)
    config = _choose(read, name)
    if config is not None and driver is not None and config.driver != driver.name:
        read.problems.add(
            read.place,
            f"the connection {config.name!r} is one of the driver {config.driver!r}, not of {driver.name!r}",
            "Leave driver= out, or name that driver in the config.",
        )
    read.problems.check()
    if config is None:
        raise AssertionError("bug: no connection and no problem")
    return config if observe is None else replace(config, observe=observe)


def load_url(url: str, *, name: str = DEFAULT_NAME, driver: AnyDriver | None = None) -> Config[Any]:
    """Read a URL. See `Config.from_url`."""
    read = _Read(Place("url"))
    _read_url(read, url, name, driver)
    read.problems.check()
    return read.configs[name]


@dataclass(frozen=True, slots=True)
class Examined:
    """The connections of a config that are in order, and everything that is wrong."""

    configs: Mapping[str, Config[Any]]
    problems: tuple[Problem, ...]


def examine(source: Source | None = None) -> Examined:
    """Read a config and raise nothing: what `dbcore check` shows."""
    read = _read(source, None, None)
    return Examined(MappingProxyType(read.configs), read.problems.found)


def schema() -> dict[str, Any]:
    """The JSON Schema of a config file, with the keys of every installed driver, for editors.

    Imports them all; one that cannot be imported is left out and logged.
    """
    models: dict[str, type[Settings]] = {}
    for each in installed():
        try:
            models[each.name] = find_driver(each.name).settings
        except ConfigError as error:
            logger.warning("left out of the schema: %s", error)
    return config_schema(models)


class _Read:
    """What was read of a source so far."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.problems = Problems()
        self.configs: dict[str, Config[Any]] = {}
        self.names: frozenset[str] = frozenset()
        """Every connection there is, those with problems included."""
        self.default: str | None = None
        self.default_is_wrong = False


def _read(source: Source | None, driver: AnyDriver | None, name: str | None) -> _Read:
    given = os.environ.get(VARIABLE) or DEFAULT_FILE if source is None else source
    if isinstance(given, Config):
        read = _Read(Place("config"))
        config = given if name is None else replace(given, name=name)
        read.configs[config.name] = config
        read.names = frozenset(read.configs)
    elif isinstance(given, Mapping):
        read = _Read(Place("config"))
        _read_mapping(read, given, name, driver)
    elif isinstance(given, str) and "://" in given:
        read = _Read(Place("url"))
        _read_url(read, given, name or DEFAULT_NAME, driver)
    elif _may_be_a_path(given):
        read = _read_file(given, driver, by_default=source is None)
    else:
        read = _Read(Place("source"))
        what = "it is empty" if isinstance(given, str) else f"{type(given).__name__} is no kind of source"
        read.problems.add(read.place, what, f"{KINDS}.")
    return read


def _may_be_a_path(value: object) -> TypeGuard[str | os.PathLike[str]]:
    return bool(value.strip()) if isinstance(value, str) else isinstance(value, os.PathLike)


def _read_url(read: _Read, url: str, name: str, driver: AnyDriver | None) -> None:
    _keep(read, name, _reader(read, driver, Path.cwd()).read_url(name, url, read.place))


def _read_file(source: str | os.PathLike[str], driver: AnyDriver | None, *, by_default: bool) -> _Read:
    path = Path(source)
    there = _exists(path)
    # Anything may have been passed here by mistake, a connection string with a password too: only a path is shown.
    shown = there or (path.suffix == ".toml" and not set(str(path)) & set("@=;"))
    read = _Read(Place(str(path) if shown else "source"))
    if not there:
        cure = f"{KINDS}."
        if by_default:
            cure = f"Create it, point ${VARIABLE} to a file, or pass a path, a URL or a mapping."
        read.problems.add(read.place, "there is no such file", cure)
        return read
    content = read_toml(path, read.place, read.problems)
    if content is not None:
        _read_connections(read, content, driver, path.absolute().parent)
    return read


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a null byte: no path
        return False


def _read_mapping(read: _Read, source: Mapping[str, Any], name: str | None, driver: AnyDriver | None) -> None:
    if "connections" in source:
        _read_connections(read, source, driver, Path.cwd())
        return
    called = name or DEFAULT_NAME
    _keep(read, called, _reader(read, driver, Path.cwd()).read(called, source, read.place))


def _read_connections(read: _Read, content: Mapping[str, Any], driver: AnyDriver | None, folder: Path) -> None:
    for key in content:
        if key not in ("default", "connections"):
            cure = f"{nearest(str(key), ['default', 'connections'])} A connection is a table [connections.NAME]."
            read.problems.add(read.place / str(key), f"unknown key {key!r}", cure)
    place = read.place / "connections"
    tables: object = content.get("connections", {})
    if not isinstance(tables, Mapping) or not tables:
        read.problems.add(place, "there is no connection", "Write a table [connections.NAME] with a url or a driver.")
        return
    reader = _reader(read, driver, folder)
    named = cast("Mapping[object, object]", tables)
    read.names = frozenset(str(name) for name in named)
    for name, table in named.items():
        called = str(name)
        if isinstance(name, str) and isinstance(table, Mapping):
            _keep(read, called, reader.read(called, cast("Mapping[object, object]", table), place / called))
        else:
            cure = "Write [connections.NAME] and its keys."
            read.problems.add(place / called, "this is no table of a connection", cure)
    if "default" in content:
        _read_default(read, content["default"])


def _read_default(read: _Read, value: object) -> None:
    place = read.place / "default"
    filled = interpolate(value, os.environ)
    read.default_is_wrong = True
    for what, cure in filled.faults:
        read.problems.add(place, what, cure)
    if filled.faults:
        return
    if not isinstance(filled.value, str):
        read.problems.add(place, "this is no name", "Write the name of a connection, as a text.")
    elif filled.value not in read.names:
        shown = "" if filled.filled else f" {filled.value!r}"
        read.problems.add(place, f"there is no connection{shown}", nearest(filled.value, read.names))
    else:
        read.default = filled.value
        read.default_is_wrong = False


def _keep(read: _Read, name: str, config: Config[Any] | None) -> None:
    read.names |= {name}
    if config is not None:
        read.configs[name] = config


def _choose(read: _Read, name: str | None) -> Config[Any] | None:
    """The connection that is asked for, or `None` and a problem."""
    chosen = name or read.default
    if chosen is None and len(read.names) == 1:
        (chosen,) = read.names
    if chosen is None and read.names and not read.default_is_wrong:
        read.problems.add(
            read.place / "default",
            f"there are several connections ({listed(read.names)}) and none is the default",
            'Name one when you open, or write default = "...".',
        )
    elif chosen is not None and read.names and chosen not in read.names:
        read.problems.add(read.place / "connections", f"there is no connection {chosen!r}", nearest(chosen, read.names))
    return None if chosen is None else read.configs.get(chosen)


def _reader(read: _Read, driver: AnyDriver | None, folder: Path) -> ConnectionReader:
    def by_name(name: str) -> AnyDriver:
        return driver if driver is not None and driver.name == name else find_driver(name)

    def by_scheme(scheme: str) -> AnyDriver:
        return driver if driver is not None and scheme in driver.schemes else find_driver_by_scheme(scheme)

    return ConnectionReader(read.problems, folder, os.environ, by_name, by_scheme, driver)
