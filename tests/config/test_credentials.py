from __future__ import annotations

import asyncio
import itertools
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from config_drivers import AlphaSettings, only_problem

from dbcore.config import Config, PoolSettings, connect_with
from dbcore.config.values import Credentials
from dbcore.engine import start_pool
from dbcore.errors import ConfigError, DbConnectionError
from dbcore.loading import load, resolve
from dbcore.testing import Script, virtual


def config_with(credentials: Credentials) -> Config[AlphaSettings]:
    return resolve({"driver": "alpha", "user": "u", "password": "old", "credentials": credentials})


async def passwords(settings: AlphaSettings) -> str:
    assert settings.password is not None
    return f"{settings.user}:{settings.password.get_secret_value()}"


class Provider:
    """Delivers p1, p2, ... after so many turns of the event loop, and counts."""

    def __init__(self, turns: int = 3) -> None:
        self.turns = turns
        self.calls = 0
        self.ended = 0

    async def __call__(self) -> Mapping[str, Any]:
        self.calls += 1
        mine = self.calls
        try:
            for _ in range(self.turns):
                await asyncio.sleep(0)
        finally:
            self.ended += 1
        return {"password": f"p{mine}"}


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_without_credentials_the_settings_are_used() -> None:
    config = resolve({"driver": "alpha", "user": "u", "password": "old"})
    assert await connect_with(config, passwords)() == "u:old"


async def test_a_plain_function_is_asked_for_every_connection() -> None:
    """Laws: A17, P3."""
    given = iter(["a", "b"])
    connect = connect_with(config_with(lambda: {"password": next(given)}), passwords)
    assert [await connect(), await connect()] == ["u:a", "u:b"]


async def test_an_async_function_is_awaited() -> None:
    connect = connect_with(config_with(Provider()), passwords)
    assert [await connect(), await connect()] == ["u:p1", "u:p2"]


async def test_connects_that_begin_together_share_one_call() -> None:
    """Laws: A19."""
    provider = Provider()
    connect = connect_with(config_with(provider), passwords)
    assert await asyncio.gather(*(connect() for _ in range(10))) == ["u:p1"] * 10
    assert provider.calls == 1
    assert await connect() == "u:p2"


async def test_the_call_survives_the_cancellation_of_one_who_waits() -> None:
    provider = Provider(turns=10)
    connect = connect_with(config_with(provider), passwords)
    first, second = asyncio.ensure_future(connect()), asyncio.ensure_future(connect())
    await turns(3)
    first.cancel()
    assert await second == "u:p1"
    assert first.cancelled()
    assert provider.calls == 1


async def test_the_call_ends_with_the_last_one_who_waits_and_nobody_joins_it_then() -> None:
    provider = Provider(turns=100)
    connect = connect_with(config_with(provider), passwords)
    waiting = [asyncio.ensure_future(connect()) for _ in range(3)]
    await turns(3)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert (provider.calls, provider.ended) == (1, 1)
    assert len(asyncio.all_tasks()) == 1
    provider.turns = 1
    assert await connect() == "u:p2"


async def test_an_authentication_failure_asks_once_more() -> None:
    """Laws: A20."""
    provider = Provider()

    async def connect(settings: AlphaSettings) -> str:
        said = await passwords(settings)
        if said == "u:p1":
            raise DbConnectionError("refused", sqlstate="28P01")
        return said

    opened = connect_with(config_with(provider), connect)
    assert await asyncio.gather(*(opened() for _ in range(5))) == ["u:p2"] * 5
    assert provider.calls == 2


@pytest.mark.parametrize(("sqlstate", "calls"), [("28000", 2), ("08006", 1), (None, 1)])
async def test_a_connect_that_goes_on_failing_is_not_asked_for_again(sqlstate: str | None, calls: int) -> None:
    provider = Provider()

    async def connect(settings: AlphaSettings) -> str:
        raise DbConnectionError(f"refused {settings.user}", sqlstate=sqlstate)

    with pytest.raises(DbConnectionError, match="refused"):
        await connect_with(config_with(provider), connect)()
    assert provider.calls == calls


async def test_a_function_that_fails_is_a_connect_that_failed_and_may_be_tried_again() -> None:
    """Laws: A18."""

    def broken() -> Mapping[str, Any]:
        raise LookupError("hunter2")

    connect = connect_with(config_with(broken), passwords)
    outcomes = await asyncio.gather(connect(), connect(), return_exceptions=True)
    for error in outcomes:
        assert isinstance(error, DbConnectionError)
        assert error.retryable
        assert error.driver == "alpha"
        assert "broken failed: LookupError" in str(error)
        assert "hunter2" not in str(error)
        assert isinstance(error.__cause__, LookupError)


@virtual
async def test_a_function_that_fails_makes_the_pool_back_off() -> None:
    """Laws: A18."""
    asked: list[float] = []

    def vault() -> Mapping[str, Any]:
        asked.append(asyncio.get_running_loop().time())
        if len(asked) < 5:
            raise LookupError("the vault is sealed")
        return {"password": "fresh"}

    script = Script()
    hooks = script.hooks()
    connect = connect_with(config_with(vault), lambda settings: hooks.connect())
    settings = PoolSettings(min_size=0, backoff_min=1, backoff_max=100)
    pool = await start_pool(replace(hooks, connect=connect), settings, name="test")
    _, release = await pool.checkout(1000)
    release()
    await pool.stop()
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert len(pauses) == 4
    assert all(top / 2 <= pause <= top for pause, top in zip(pauses, (1, 2, 4, 8), strict=True))


async def test_a_function_that_cancels_itself_fails_and_cancels_nobody() -> None:
    async def odd() -> Mapping[str, Any]:
        raise asyncio.CancelledError

    with pytest.raises(DbConnectionError):
        await connect_with(config_with(odd), passwords)()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"pasword": "hunter2"}, "unknown key 'pasword'. Did you mean 'password'?"),
        ({"password": 5}, "(password): the value should be a valid string"),
        ({"port": "hunter2"}, "(port): a text is given where a whole number is wanted"),
        (["hunter2"], "it returned list, not a mapping"),
        (None, "it returned NoneType, not a mapping"),
        ({5: "hunter2"}, "unknown key '5'"),
    ],
)
async def test_an_answer_that_does_not_fit_is_a_config_error_without_its_values(answer: Any, told: str) -> None:
    """Laws: A13."""

    def giving() -> Any:
        return answer

    with pytest.raises(ConfigError) as caught:
        await connect_with(config_with(giving), passwords)()
    assert told in str(caught.value)
    assert "giving" in str(caught.value)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    def write(source: str) -> str:
        (tmp_path / "made_for_credentials.py").write_text(source)
        monkeypatch.delitem(sys.modules, "made_for_credentials", raising=False)
        return "made_for_credentials"

    return write


async def test_a_name_is_resolved_when_the_config_is_read(module: Callable[[str], str]) -> None:
    name = module("class Vault:\n    @staticmethod\n    def fetch():\n        return {'password': 'fresh'}\n")
    config = load({"url": "alpha://u@h", "credentials": f"{name}:Vault.fetch"})["main"]
    assert config.credentials is not None
    assert "credentials" not in repr(config)
    assert await connect_with(config, passwords)() == "u:fresh"


@pytest.mark.parametrize(
    ("source", "path", "what"),
    [
        ("", ":missing", "the module made_for_credentials has no such function"),
        ("value = 5", ":value", "is no function"),
        ("raise RuntimeError('hunter2')", ":f", "cannot be loaded: RuntimeError"),
        ("import not_there_at_all", ":f", "cannot be loaded: it needs the module 'not_there_at_all'"),
        ("", "", "this names no function"),
        ("", ":", "this names no function"),
    ],
)
def test_a_name_that_does_not_resolve_is_a_problem(
    module: Callable[[str], str], source: str, path: str, what: str
) -> None:
    problem = only_problem({"driver": "alpha", "credentials": module(source) + path})
    assert problem.where == "config: credentials"
    assert what in problem.what
    assert "hunter2" not in str(problem)


@pytest.mark.parametrize("name", ["user:hunter2", "hunter2:user", "hunter2.x:y", "a b:hunter2", "..:hunter2"])
def test_a_password_given_for_a_name_does_not_show(name: str) -> None:
    problem = only_problem({"driver": "alpha", "credentials": name})
    assert problem.where == "config: credentials"
    assert "hunter2" not in str(problem)


@pytest.mark.parametrize("module", ["nomod", "no_mod.inner"])
def test_a_module_that_is_not_there_is_named(module: str) -> None:
    problem = only_problem({"driver": "alpha", "credentials": f"{module}:fetch"})
    assert problem.what == f"the function cannot be loaded: there is no module {module}"


def test_credentials_that_are_neither_name_nor_function_are_a_problem() -> None:
    assert only_problem({"driver": "alpha", "credentials": 5}).what == "this names no function"
