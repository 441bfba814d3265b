"""One connection: from the table that describes it to a `Config`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

from dbcore.config.credentials import resolve_credentials
from dbcore.config.interpolation import interpolate
from dbcore.config.keys import RESERVED, URL_KEYS, ConnectionKeys
from dbcore.config.problems import Place, Problems
from dbcore.config.sources import read_secret
from dbcore.config.urls import BadUrl, Url, split_url
from dbcore.config.validation import Given, keys_of, secret_keys, validate, validate_pool
from dbcore.config.values import Config, PoolSettings, Settings
from dbcore.errors import ConfigError, Problem

__all__ = ["ConnectionReader", "KnownDriver"]

POOL = "pool."
OWN = frozenset(ConnectionKeys.model_fields) - {"pool"}


class KnownDriver(Protocol):
    """What of a driver matters for its config."""

    @property
    def name(self) -> str: ...
    @property
    def schemes(self) -> frozenset[str]: ...
    @property
    def settings(self) -> type[Any]: ...
    @property
    def from_url(self) -> Callable[[str], Mapping[str, Any]] | None: ...
    @property
    def pool_defaults(self) -> Mapping[str, Any]: ...
    @property
    def check(self) -> Callable[[Config[Any]], Iterable[Problem]] | None: ...


class ConnectionReader:
    """Reads the connections of one source. Drivers are found by the functions that it is given."""

    def __init__(
        self,
        problems: Problems,
        folder: Path,
        variables: Mapping[str, str],
        by_name: Callable[[str], KnownDriver],
        by_scheme: Callable[[str], KnownDriver],
        fallback: KnownDriver | None,
    ) -> None:
        self._problems = problems
        self._folder = folder
        self._variables = variables
        self._by_name = by_name
        self._by_scheme = by_scheme
        self._fallback = fallback

    def read(self, name: str, table: Mapping[Any, Any], place: Place) -> Config[Any] | None:
        """The connection that a table describes, or `None` and every problem it has."""
        given, bad = self._fill(_flat(table, place, self._problems))
        return self._build(name, given, bad, place)

    def read_url(self, name: str, url: str, place: Place) -> Config[Any] | None:
        """The connection that a URL describes. Variables are not looked at: it may come from somebody else."""
        return self._build(name, {"url": Given(url, place)}, set(), place)

    def _build(self, name: str, given: dict[str, Given], bad: set[str], place: Place) -> Config[Any] | None:
        problems = self._problems
        before = len(problems)
        for key in ("driver", "url"):
            # A validated text may have been bytes; what the driver is looked up by may not.
            if key in given and isinstance(given[key].value, (bytes, bytearray)):
                problems.add(given[key].place, "the value is bytes, not a text", "Give a text: decode it.")
                bad.add(key)
        url = self._split(given, bad)
        driver = self._driver(given, bad, url, place)
        self._add_url_keys(given, bad, url, driver)

        own = _part(given, OWN - {"credentials"})
        common = validate(ConnectionKeys, own, place, problems, unusable=bad & OWN)
        credentials = given.get("credentials")
        function = None
        if credentials is not None:
            function = resolve_credentials(credentials.value, credentials.place, problems)
        pool = validate_pool(
            {key.removeprefix(POOL): item for key, item in given.items() if key.startswith(POOL)},
            {} if driver is None else driver.pool_defaults,
            "" if driver is None else driver.name,
            place / "pool",
            problems,
            unusable={key.removeprefix(POOL) for key in bad if key.startswith(POOL)},
        )
        settings = None
        if driver is not None:
            rest = {key: item for key, item in given.items() if key not in OWN and not key.startswith(POOL)}
            settings = self._settings(driver.settings, rest, bad, place)
        if common is None or pool is None or settings is None or driver is None or len(problems) > before:
            return None
        config = Config(
            name=name,
            driver=driver.name,
            settings=settings,
            pool=pool,
            statement_timeout=common.statement_timeout,
            startup=common.startup,
            share_trips=common.share_trips,
            folder=self._folder,
            credentials=function,
        )
        for found in driver.check(config) if driver.check is not None else ():
            where = given[found.where].place if found.where in given else place / found.where
            problems.add(where, found.what, found.cure)
        return config if len(problems) == before else None

    def _fill(self, written: Mapping[str, Given]) -> tuple[dict[str, Given], set[str]]:
        """The values with their variables filled in, and the keys where that was not possible."""
        given: dict[str, Given] = {}
        bad: set[str] = set()
        for key, item in written.items():
            filled = interpolate(item.value, self._variables, url=key == "url")
            for what, cure in filled.faults:
                self._problems.add(item.place, what, cure)
            if filled.faults:
                bad.add(key)
            else:
                given[key] = Given(filled.value, item.place, filled.filled)
        return given, bad

    def _split(self, given: Mapping[str, Given], bad: set[str]) -> Url | None:
        item = given.get("url")
        if item is None or not isinstance(item.value, str):
            return None
        try:
            return split_url(item.value)
        except BadUrl as error:
            self._problems.add(item.place, error.what, error.cure)
            bad.add("url")
            return None

    def _driver(
        self, given: Mapping[str, Given], bad: AbstractSet[str], url: Url | None, place: Place
    ) -> KnownDriver | None:
        named = given.get("driver")
        found = None
        try:
            if named is not None and isinstance(named.value, str):
                found = self._by_name(named.value)
            elif named is None and url is not None:
                found = self._by_scheme(url.scheme)
            elif named is None and "url" not in given and not bad & {"driver", "url"}:
                found = self._fallback
                if found is None:
                    cure = 'Write driver = "..." or url = "...".'
                    self._problems.add(place, "neither a driver nor a url is given", cure)
        except ConfigError as error:
            self._problems.add_from(error, (named or given["url"]).place)
        if found is not None and url is not None and url.scheme not in found.schemes:
            self._problems.add(
                given["url"].place,
                f"the driver {found.name!r} does not answer to the scheme of this URL",
                f"It answers to {', '.join(sorted(found.schemes)) or 'none'}; correct the URL, or the driver.",
            )
        return found

    def _add_url_keys(
        self, given: dict[str, Given], bad: set[str], url: Url | None, driver: KnownDriver | None
    ) -> None:
        """Add what the URL says. A key that is beside the URL too is a contradiction."""
        if url is None:
            return
        place = given["url"].place
        found: dict[str, Any] = {}
        try:
            own = {key for key, _ in url.query if key in URL_KEYS or key.startswith(POOL)}
            found.update((key, url.query_value(key)) for key in own)
            if driver is not None:
                found.update(_driver_keys(driver, url.without(frozenset(own))))
        except BadUrl as error:
            self._problems.add(place, error.what, error.cure)
            bad.add("url")
        except ConfigError as error:
            self._problems.add_from(error, place)
            bad.add("url")
        for key, value in found.items():
            if key in RESERVED and key not in URL_KEYS:
                self._problems.add(place.within(key), f"{key} cannot be part of a URL", "Write it beside the url.")
            elif key in given or key in bad:
                where = given[key].place if key in given else place
                self._problems.add(where, f"{key} is in the URL as well", "Leave one of the two out.")
            else:
                given[key] = Given(value, place.within(key), isinstance(value, str))

    def _settings(self, model: type[Settings], given: dict[str, Given], bad: set[str], place: Place) -> Settings | None:
        secrets = secret_keys(model)
        for key in secrets:
            named = given.pop(f"{key}_file", None)
            if named is None and f"{key}_file" not in bad:
                continue
            if key in given:
                where = named.place if named is not None else given[key].place
                self._problems.add(where, f"{key} is given as well as {key}_file", "Leave one of the two out.")
            elif named is not None:
                text = read_secret(named.value, self._folder, named.place, self._problems)
                if text is not None:
                    given[key] = Given(text, named.place)
                    continue
            bad.add(key)
        known = keys_of(model)
        # What a broken URL might have said is not missed.
        unusable = bad | (set(known) - set(given) if "url" in bad else set[str]())
        return validate(
            model, given, place, self._problems, unusable=unusable, other_keys=partial(_suggestions, secrets)
        )


def _flat(table: Mapping[Any, Any], place: Place, problems: Problems) -> dict[str, Given]:
    """The keys of a connection, those of its pool as `pool.max_size`, however they were nested."""
    flat: dict[str, Given] = {}

    def put(key: str, value: object, where: Place) -> None:
        if key in flat:
            problems.add(where, f"{key} is given twice", "Leave one of the two out.")
        flat[key] = Given(value, where)

    for key, value in table.items():
        if value is None and key in OWN:
            continue  # in code, the usual word for "not given"
        if not isinstance(key, str):
            problems.add(place, f"a key is no text but {type(key).__name__}", "Keys are names.")
        elif key == "pool" and isinstance(value, Mapping):
            for inner, item in cast("Mapping[object, object]", value).items():
                put(f"{POOL}{inner}", item, place / "pool" / str(inner))
        elif key == "pool" and isinstance(value, PoolSettings):
            for inner in value.model_fields_set:
                put(f"{POOL}{inner}", getattr(value, inner), place / "pool" / inner)
        elif key == "pool":
            problems.add(place / key, "this is no table", "Write pool.max_size = 10, and so on.")
        else:
            put(key, value, place / key)
    return flat


def _driver_keys(driver: KnownDriver, text: str) -> Mapping[str, Any]:
    """What a URL says in the words of the driver. Raises `BadUrl` or `ConfigError`."""
    if driver.from_url is None:
        return split_url(text).keys()
    try:
        return driver.from_url(text)
    except (BadUrl, ConfigError):
        raise
    except Exception:  # whatever it is, its text may quote the URL
        raise BadUrl(f"the driver {driver.name!r} cannot read this URL") from None


def _part(given: Mapping[str, Given], keys: AbstractSet[str]) -> dict[str, Given]:
    return {key: item for key, item in given.items() if key in keys}


def _suggestions(secrets: Iterable[str], item: Given) -> frozenset[str]:
    """What somebody may have meant, beside the driver's own keys; in a URL, no key that has to stand beside it."""
    own = URL_KEYS if item.place.part else OWN | {f"{POOL}{key}" for key in PoolSettings.model_fields}
    return own | {f"{key}_file" for key in secrets}
