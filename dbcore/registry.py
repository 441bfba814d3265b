"""Which drivers there are. A driver's package is imported when it is asked for by name or scheme, not before.

Packages declare drivers in the entry-point group `dbcore.drivers` (name -> a `Driver`), and further URL schemes, beside
the name itself, in `dbcore.schemes` (scheme -> the same value).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, requires
from typing import Any, NoReturn, TypeGuard

from pydantic import ValidationError

from dbcore.config import PoolSettings, Settings
from dbcore.config.keys import RESERVED
from dbcore.config.problems import alike, listed
from dbcore.config.validation import keys_of, secret_keys
from dbcore.driver import CONTRACT, Driver
from dbcore.errors import ConfigError, Problem, UsageError

__all__ = ["Installed", "Registry", "find_driver", "find_driver_by_scheme", "installed", "offer", "register"]

DRIVERS = "dbcore.drivers"
SCHEMES = "dbcore.schemes"

CORE = "dbcore"
"""The name of our own distribution."""

_EXTRA = re.compile(
    rf"(?P<distribution>{CORE}[-_.][A-Za-z0-9._-]+)[^;]*;.*\bextra\s*==\s*(?P<quote>['\"])(?P<extra>[^'\"]+)(?P=quote)"
)
"""A requirement that an extra has, of a distribution that is named like ours."""

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
        # Looking through what is installed reads a file of every distribution.
        self._by_scheme: dict[str, Driver[Any, Any]] = {}

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
        self._by_scheme.clear()

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
        if scheme in self._by_scheme:
            return self._by_scheme[scheme]
        names = {name for known, name in self._schemes() if known == scheme}
        name = scheme if scheme in names else names.pop() if len(names) == 1 else None
        if name is None and names:
            _refuse(f"the URL scheme {scheme!r} belongs to several drivers: {listed(names)}", "Say which: driver = ...")
        if name is None:
            shown = f" {scheme!r}" if _NAME.fullmatch(scheme) else ""
            known = {known for known, _ in self._schemes()}
            _refuse(
                f"no driver is installed for the URL scheme{shown}",
                self._cure(scheme, known),
            )
        driver = self.find(name)
        if scheme not in driver.schemes:
            _refuse(
                f"the driver {name!r} does not answer to the URL scheme {scheme!r}",
                f"It answers to {listed(driver.schemes)}.",
            )
        self._by_scheme[scheme] = driver
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
        found = entry_points()
        for entry in found.select(group=DRIVERS):
            names[entry.value] = entry.name
            yield entry.name, entry.name
        for entry in found.select(group=SCHEMES):
            if entry.value in names:
                yield entry.name, names[entry.value]

    def _refuse_unknown(self, name: str) -> NoReturn:
        known = [driver.name for driver in self.installed()]
        shown = f" {name!r}" if _NAME.fullmatch(name) else ""
        _refuse(f"no driver{shown} is installed", self._cure(name, known))

    def _cure(self, name: str, known: Collection[str]) -> str:
        """What to do about a name that nobody has. No package is named that dbcore does not declare itself."""
        offered = _offered(self.installed())
        if name in offered:
            return f"Install it: {_pip(name)}."
        here = f"Installed: {listed(known)}."
        before_plus, _, after_plus = name.partition("+")  # as other libraries name a driver in a URL
        if after_plus in offered:
            return f"Install it: {_pip(after_plus)}. {here}"
        if meant := before_plus if before_plus in known else alike(name, known):
            return f"Did you mean {meant!r}? {here}"
        if meant := alike(before_plus, offered):
            return f"Did you mean {meant!r}? Install it: {_pip(meant)}. {here}"
        return f"{here} Drivers that dbcore offers beside them: {listed(map(_pip, offered))}." if offered else here


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


def offer(found: Iterable[Installed]) -> str:
    """How to install the drivers that dbcore has as extras, less those that are among the found; empty for none."""
    return listed(map(_pip, names)) if (names := _offered(found)) else ""


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


def _offered(found: Iterable[Installed]) -> list[str]:
    """The extras that the installed dbcore declares for drivers, less those whose distribution is there."""
    try:
        declared = requires(CORE) or ()
    except PackageNotFoundError:  # run from its source
        declared = ()
    extras = [match for match in map(_EXTRA.match, declared) if match is not None]
    here = {_normal(each.distribution) for each in found if each.distribution is not None}
    return sorted(match["extra"] for match in extras if _normal(match["distribution"]) not in here)


def _pip(extra: str) -> str:
    return f'pip install "{CORE}[{extra}]"'


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _refuse(what: str, cure: str, cause: Exception | None = None) -> NoReturn:
    raise ConfigError(problems=[Problem("driver", what, cure)]) from cause
