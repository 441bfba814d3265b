"""Two drivers that only have a config: what the tests of config and registry share."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import pytest
from pydantic import Field, SecretStr, field_validator, model_validator

from dbcore import registry
from dbcore.config import BadUrl, Config, Settings
from dbcore.driver import Driver, Result
from dbcore.errors import ConfigError, DbError, Problem
from dbcore.loading import load
from dbcore.pool import Pool
from dbcore.registry import Registry


class AlphaSettings(Settings):
    """Of a server: with user and password, and all kinds of keys."""

    host: str | None = None
    port: int = Field(default=1234, ge=1, le=65535)
    user: str | None = None
    password: SecretStr | None = None
    token: SecretStr | None = None
    database: str | None = None
    ratio: float | None = None
    tls: bool = False
    tags: list[str] = Field(default_factory=list)
    low: int = 0
    high: int = 10
    odd: int | None = None

    @field_validator("odd")
    @classmethod
    def _even(cls, value: int | None) -> int | None:
        if value is not None and value % 2:
            raise ValueError("3 is odd" if value == 3 else "")
        return value

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError("low is above high")
        if self.token is not None and self.password is not None:
            secret = self.password.get_secret_value()
            raise ValueError(f"token and password {secret} exclude each other")
        return self


class BetaSettings(Settings):
    """Of a file: one required key, and a URL of its own."""

    path: str
    mode: str = "rw"


def beta_url(url: str) -> Mapping[str, Any]:
    rest = url.split("://", 1)[1]
    path, _, query = rest.partition("?")
    if path == "host":
        raise BadUrl("there is no host in this URL", "Leave it out.")
    if path.startswith("//"):
        problem = Problem("url", "the path has two slashes", "Write one.")
        raise ConfigError(problems=[problem])
    keys = dict(item.split("=", 1) for item in query.split("&") if item)
    return {"path": path or ":memory:", **keys, "int": int(keys["int"])} if "int" in keys else {"path": path, **keys}


async def _no_pool(config: Config[Any]) -> Pool[object]:
    raise AssertionError(f"{config.name}: nothing is started in these tests")


async def _no_query(connection: object, sql: str, parameters: Sequence[Any]) -> Result:
    raise AssertionError(f"{sql}: nothing is asked in these tests")


def _no_error(error: BaseException) -> DbError | None:
    return None


def make_driver(
    name: str,
    *,
    settings: type[Settings] = AlphaSettings,
    schemes: frozenset[str] | None = None,
    from_url: Callable[[str], Mapping[str, Any]] | None = None,
    pool_defaults: Mapping[str, Any] | None = None,
    contract: int = 1,
) -> Driver[Any, object]:
    return Driver(
        name=name,
        schemes=frozenset({name}) if schemes is None else schemes,
        settings=settings,
        start_pool=_no_pool,
        query=_no_query,
        to_error=_no_error,
        from_url=from_url,
        pool_defaults=pool_defaults or {},
        contract=contract,
    )


ALPHA = make_driver("alpha", schemes=frozenset({"alpha", "alphasql"}))
BETA = make_driver("beta", settings=BetaSettings, from_url=beta_url, pool_defaults={"max_size": 4, "max_idle": 900})


@contextmanager
def drivers(*values: Driver[Any, Any]) -> Generator[Registry]:
    """A registry with these drivers registered, in place of that of the process."""
    with pytest.MonkeyPatch.context() as patch:
        fresh = Registry()
        patch.setattr(registry, "_drivers", fresh)
        for value in values:
            fresh.register(value)
        yield fresh


def problems_of(source: Any, **options: Any) -> tuple[Problem, ...]:
    """What is wrong with a source, as `load` tells."""
    with pytest.raises(ConfigError) as caught:
        load(source, **options)
    return caught.value.problems


def only_problem(source: Any, **options: Any) -> Problem:
    (problem,) = problems_of(source, **options)
    return problem
