"""Which drivers there are. A driver's package is imported when it is asked for by name or scheme, not before.

Packages declare drivers in the entry-point group `dbcore.drivers` (name -> a `Driver`), and further URL schemes, beside
the name itself, in `dbcore.schemes` (scheme -> the same value).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NoReturn, TypeGuard

from pydantic import ValidationError

from dbcore.config import PoolSettings, Settings
from dbcore.config.keys import RESERVED
from dbcore.config.problems import listed, nearest
from dbcore.config.validation import keys_of, secret_keys
from dbcore.driver import CONTRACT, Driver
from dbcore.errors import ConfigError, Problem, UsageError

__all__ = ["Installed", "Registry", "find_driver", "find_driver_by_scheme", "installed", "register"]

DRIVERS = "dbcore.drivers"
SCHEMES = "dbcore.schemes"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,39}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A driver that can be named in a config. One that was registered in-process has no distribution."""

    name: str
    distribution: str | None = None
    version: str | None = None


class Registry:
    """The drivers of this process."""

    def __init__(self) -> None:
        self._registered: dict[str, Driver[Any, Any]] = {}
        self._loaded: dict[str, Driver[Any, Any]] = {}

    def register(self, driver: Driver[Any, Any]) -> None:
        """See the function `register`."""
        for what, cure in _faults(driver):
            raise UsageError(f"the driver cannot be registered: {what}. {cure}")
        if driver.name in self._registered:
            raise UsageError(f"a driver named {driver.name!r} is registered already. Give this one another name.")
        for entry in entry_points(group=DRIVERS, name=driver.name):
            raise UsageError(
                f"a driver named {driver.name!r} is installed already, by {_origin(entry)}. Give this one another "
                "name, or pass it to open() as driver=."
            )
        self._registered[driver.name] = driver

    def find(self, name: str) -> Driver[Any, Any]:
        """See the function `find_driver`."""
        known = self._registered.get(name) or self._loaded.get(name)
        if known is not None:
            return known
        entries = {entry.value: entry for entry in entry_points(group=DRIVERS, name=name)}
        if not entries:
            self._refuse_unknown(name)
        if len(entries) > 1:
            owners = " and ".join(sorted(_origin(entry) for entry in entries.values()))
            _refuse(f"two packages have a driver named {name!r}: {owners}", "Uninstall one of them.")
        driver = _load(*entries.values())
        self._loaded[name] = driver
        return driver

    def find_by_scheme(self, scheme: str) -> Driver[Any, Any]:
        """See the function `find_driver_by_scheme`."""
        names = {name for known, name in self._schemes() if known == scheme}
        name = scheme if scheme in names else names.pop() if len(names) == 1 else None
        if name is None and names:
            _refuse(f"the URL scheme {scheme!r} belongs to several drivers: {listed(names)}", "Say which: driver = ...")
        if name is None:
            shown = f" {scheme!r}" if _NAME.fullmatch(scheme) else ""
            known = {known for known, _ in self._schemes()}
            _refuse(
                f"no driver is installed for the URL scheme{shown}",
                f"{nearest(scheme, known)} Installed: {listed(known)}. {_install(scheme)}",
            )
        driver = self.find(name)
        if scheme not in driver.schemes:
            _refuse(
                f"the driver {name!r} does not answer to the URL scheme {scheme!r}",
                f"It answers to {listed(driver.schemes)}.",
            )
        return driver

    def installed(self) -> tuple[Installed, ...]:
        """See the function `installed`."""
        found = {name: Installed(name=name) for name in self._registered}
        for entry in entry_points(group=DRIVERS):
            owner = entry.dist
            found[entry.name] = Installed(
                name=entry.name,
                distribution=None if owner is None else owner.name,
                version=None if owner is None else owner.version,
            )
        return tuple(found[name] for name in sorted(found))

    def _schemes(self) -> Iterator[tuple[str, str]]:
        """Every scheme with the name of a driver that answers to it, as far as that is known without an import."""
        for driver in self._registered.values():
            for scheme in driver.schemes:
                yield scheme, driver.name
        names: dict[str, str] = {}
        for entry in entry_points(group=DRIVERS):
            names[entry.value] = entry.name
            yield entry.name, entry.name
        for entry in entry_points(group=SCHEMES):
            if entry.value in names:
                yield entry.name, names[entry.value]

    def _refuse_unknown(self, name: str) -> NoReturn:
        known = [driver.name for driver in self.installed()]
        shown = f" {name!r}" if _NAME.fullmatch(name) else ""
        _refuse(
            f"no driver{shown} is installed",
            f"{nearest(name, known)} Installed: {listed(known)}. {_install(name)}",
        )


_drivers = Registry()


def register(driver: Driver[Any, Any]) -> None:
    """Add a driver in this process, beside those that are installed.

    Raises `UsageError` when there is one of that name already, registered or installed, or when the driver has a
    settings key that every connection has (`pool`, `url`, ...).
    """
    _drivers.register(driver)


def find_driver(name: str) -> Driver[Any, Any]:
    """The driver of this name, imported now if it was not before.

    Raises `ConfigError` with one problem: nobody has it, or its package does not import, holds no `Driver`, or was
    made for another version of dbcore.
    """
    return _drivers.find(name)


def find_driver_by_scheme(scheme: str) -> Driver[Any, Any]:
    """The driver that answers to a URL scheme; a driver with that name comes first. Raises as `find_driver` does."""
    return _drivers.find_by_scheme(scheme)


def installed() -> tuple[Installed, ...]:
    """Every driver that a config can name, by name, with its distribution and version. Imports none of them."""
    return _drivers.installed()


def _load(entry: EntryPoint) -> Driver[Any, Any]:
    what = f"the driver {entry.name!r} of {_origin(entry)} ({entry.value})"
    module = entry.value.partition(":")[0]
    driver: object = None
    failure: Exception | None = None
    try:
        driver = entry.load()
    except Exception as error:  # a package that does not import may raise anything, and harms no other
        failure = error
    if failure is not None:
        reason = type(failure).__name__
        if isinstance(failure, (ImportError, AttributeError)):  # the text of others may hold anything
            reason = f"{reason}: {failure}"
        _refuse(
            f"{what} cannot be imported: {reason}",
            f"Install it again; `python -c 'import {module}'` shows the whole error.",
            failure,
        )
    if not _is_driver(driver):
        _refuse(f"{what} is no Driver but {type(driver).__name__}", "Its author can correct the entry point.")
    if driver.name != entry.name:
        _refuse(f"{what} calls itself {driver.name!r}", "Its author can correct the entry point, or Driver.name.")
    for fault, cure in _faults(driver):
        _refuse(f"{what} cannot be used: {fault}", cure)
    return driver


def _is_driver(value: object) -> TypeGuard[Driver[Any, Any]]:
    return isinstance(value, Driver)


def _faults(driver: Driver[Any, Any]) -> Iterator[tuple[str, str]]:
    """What makes a driver unusable, whatever the config says."""
    if driver.contract != CONTRACT:
        yield (
            f"it was made for version {driver.contract} of the driver contract, and this dbcore has {CONTRACT}",
            "Upgrade dbcore and the driver together.",
        )
        return
    model: type[Settings] = driver.settings
    keys = frozenset(keys_of(model))
    taken = (keys & RESERVED) | (keys & {f"{key}_file" for key in secret_keys(model)})
    if taken:
        yield f"its settings have keys that dbcore has itself: {listed(taken)}", "Rename them in the settings model."
    try:
        PoolSettings.model_validate(dict(driver.pool_defaults))
    except ValidationError:
        yield "its pool_defaults are no valid PoolSettings", "Correct them."


def _origin(entry: EntryPoint) -> str:
    return "an unknown distribution" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def _install(name: str) -> str:
    if not _NAME.fullmatch(name):
        return "A driver is a package of its own, named dbcore-NAME."
    return f'Install it: pip install "dbcore[{name}]", or the package that has it (dbcore-{name}).'


def _refuse(what: str, cure: str, cause: Exception | None = None) -> NoReturn:
    raise ConfigError(problems=[Problem("driver", what, cure)]) from cause
