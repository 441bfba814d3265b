from __future__ import annotations

import logging
import pickle
import re
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
from config_drivers import ALPHA, drivers, make_driver, only_problem, problems_of
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ConfigDict, ValidationError, model_validator

from dbcore.config import Config, PoolSettings, Settings
from dbcore.errors import ConfigError, Problem
from dbcore.loading import examine, load, resolve

SEVEN = """
default = "mian"

[connections.main]
url = "alpha://app:hunter2@db.internal/app"
password_file = "hunter2"
statement_timeout = -1

[connections.reports]
driver = "alpha"
hots = "db.internal"
password = "${REPORTS_PASSWORD}"
port = "5432"
pool.min_size = 20

[connections.other]
driver = "gamma"
"""


def test_a_config_with_seven_mistakes_reports_all_seven(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "db.toml"
    file.write_text(SEVEN)
    with caplog.at_level(logging.DEBUG), pytest.raises(ConfigError) as caught:
        load(file)
    found = {problem.where.removeprefix(f"{file}: "): problem for problem in caught.value.problems}
    assert {where: problem.what for where, problem in found.items()} == {
        "default": "there is no connection 'mian'",
        "connections.main.statement_timeout": "the value should be greater than 0",
        "connections.main.password_file": "password is given as well as password_file",
        "connections.reports.hots": "unknown key 'hots'",
        "connections.reports.password": "the environment variable REPORTS_PASSWORD is not set",
        "connections.reports.port": "a text is given where a whole number is wanted",
        "connections.reports.pool.min_size": "min_size (20) is larger than max_size (10, the default)",
        "connections.other.driver": "no driver 'gamma' is installed",
    }
    assert all(problem.cure for problem in caught.value.problems)
    assert found["default"].cure == "Did you mean 'main'?"
    assert found["connections.reports.hots"].cure == "Did you mean 'host'?"
    assert "pip" not in found["connections.other.driver"].cure
    assert all(name in found["connections.other.driver"].cure for name in ("Installed:", "alpha", "beta"))
    shown = (
        "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(caught.value.args) + caplog.text
    )
    assert "hunter2" not in shown
    assert str(caught.value).startswith("8 problems in the database config\n")
    assert all(str(problem) in str(caught.value) for problem in found.values())


def test_a_config_error_has_no_native_error_behind_it() -> None:
    with pytest.raises(ConfigError) as caught:
        load({"driver": "alpha", "port": "hunter2", "pool": {"max_size": "hunter2"}})
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_config_error_survives_pickling() -> None:
    with pytest.raises(ConfigError) as caught:
        load({"driver": "alpha", "port": 0})
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.problems, str(again)) == (caught.value.problems, str(caught.value))


@pytest.mark.parametrize(
    ("table", "where", "what", "cure"),
    [
        ({"port": "5"}, "port", "a text is given where a whole number is wanted", "without quotes"),
        ({"port": True}, "port", "true or false is given where a whole number is wanted", "Write a whole number."),
        ({"tls": "true"}, "tls", "a text is given where true or false is wanted", "without quotes"),
        ({"tls": 1}, "tls", "a number is given where true or false is wanted", "Write true or false."),
        ({"ratio": "0.5"}, "ratio", "a text is given where a number is wanted", "without quotes"),
        ({"host": 5}, "host", "the value should be a valid string", "Write a text, in quotes."),
        ({"port": 1.5}, "port", "the value should be a valid integer, got a number with a fractional part", "1234"),
        ({"port": 0}, "port", "the value should be greater than or equal to 1", "Write a larger one, or leave the key"),
        ({"port": 65536}, "port", "the value should be less than or equal to 65535", "the default, 1234"),
        ({"tags": "a"}, "tags", "the value should be a valid list", "Write a list: [...]."),
        ({"tags": ["a", 1]}, "tags", "1: the value should be a valid string", "Write a text, in quotes."),
        ({"low": 11}, "", "low is above high", "Change low or high."),
        ({"startup": "lasy"}, "startup", "the value should be 'require', 'try' or 'lazy'", "Write one of them"),
        ({"statement_timeout": float("inf")}, "statement_timeout", "the value should be a finite number", "Write"),
        ({"pool": {"reset": "all"}}, "pool.reset", "the value should be 'transaction', 'tracked' or 'full'", "them"),
        ({"pool": {"max_size": 0}}, "pool.max_size", "the value should be greater than or equal to 1", "10"),
        ({"pool": {"size": 5}}, "pool.size", "unknown key 'size'", "Did you mean 'min_size'?"),
        ({"pool": 5}, "pool", "this is no table", "pool.max_size"),
        ({"max_size": 5}, "max_size", "unknown key 'max_size'", "Did you mean 'pool.max_size'?"),
        ({"xyz": 5}, "xyz", "unknown key 'xyz'", "known keys: "),
        ({"pasword_file": "x"}, "pasword_file", "unknown key 'pasword_file'", "Did you mean 'password_file'?"),
        ({"pool.max_size": 5, "pool": {"max_size": 6}}, "pool.max_size", "pool.max_size is given twice", "Leave"),
        ({1: 5}, "", "a key is no text but int", "Keys are names"),
        ({"url": 5}, "url", "the value should be a valid string", "Write a text, in quotes."),
        ({"driver": 5}, "driver", "the value should be a valid string", "Write a text, in quotes."),
        ({"odd": 3}, "odd", "3 is odd", "Change odd."),
        ({"odd": 5}, "odd", "refused by the driver", "Change odd."),
        ({"with space": 5}, '"with space"', "unknown key 'with space'", "known keys: "),
    ],
)  # fmt: skip
def test_a_mistake_has_its_place_its_reason_and_its_cure(
    table: dict[Any, Any], where: str, what: str, cure: str
) -> None:
    """Laws: A1."""
    problem = only_problem({"driver": "alpha", **table})
    assert (problem.where, problem.what) == (f"config: {where}" if where else "config", what)
    assert cure in problem.cure


def test_a_key_that_is_like_no_other_gets_the_few_nearest_of_many() -> None:
    cure = only_problem({"driver": "alpha", "xyz": 5}).cure
    assert re.fullmatch(r"Nearest of the \d\d known keys: (\S+, ){4}\S+\.", cure), cure


def test_a_key_that_is_like_no_other_gets_all_of_a_few() -> None:
    one = {"connections": {"main": {"driver": "alpha"}}, "xyz": 5}
    assert only_problem(one).cure.startswith("Known here: connections, default. ")


def test_a_relation_that_a_driver_words_without_its_keys_still_has_a_cure() -> None:
    class Vague(Settings):
        host: str = "h"

        @model_validator(mode="after")
        def _refuse(self) -> Self:
            raise ValueError("these do not go together")

    with drivers(make_driver("vague", settings=Vague)):
        assert only_problem({"driver": "vague"}).cure == "See what the driver's documentation says of its keys."


def test_a_required_key_that_is_missing_is_named() -> None:
    assert only_problem({"driver": "beta"}) == Problem("config: path", "required, and not set", "Set path.")


@pytest.mark.parametrize("key", ["driver", "url", "credentials", "statement_timeout", "startup"])
def test_none_in_code_is_a_key_of_the_core_that_is_not_given(key: str) -> None:
    table = {"driver": "alpha"} if key != "driver" else {"url": "alpha://"}
    assert load({**table, key: None}) == load(table)


def test_neither_driver_nor_url_is_a_problem() -> None:
    assert only_problem({"pool": {"max_size": 5}}).what == "neither a driver nor a url is given"


def test_a_driver_that_is_no_text_is_one_problem() -> None:
    assert only_problem({"driver": 5, "host": "h"}).where == "config: driver"


def test_an_unknown_driver_does_not_hide_the_other_problems() -> None:
    table = {"driver": "gamma", "pool": {"max_sise": 1}, "startup": "never", "x": "${UNSET_HERE}"}
    assert [problem.where for problem in problems_of(table)] == [
        "config: x",
        "config: driver",
        "config: startup",
        "config: pool.max_sise",
    ]


@pytest.mark.parametrize(
    ("pool", "where", "what"),
    [
        ({"min_size": 5, "max_size": 4}, "min_size", "min_size (5) is larger than max_size (4)"),
        ({"min_size": 11}, "min_size", "min_size (11) is larger than max_size (10, the default)"),
        ({"backoff_min": 20}, "backoff_min", "backoff_min (20) is larger than backoff_max (10, the default)"),
        ({"backoff_max": 0.01}, "backoff_max", "backoff_min (0.1, the default) is larger than backoff_max (0.01)"),
        ({"max_idle": 60, "max_lifetime": 30}, "max_idle", "max_idle (60) is larger than max_lifetime (30)"),
    ],
)
def test_values_that_exclude_each_other_are_a_problem(pool: dict[str, Any], where: str, what: str) -> None:
    """Laws: A1, A2."""
    problem = only_problem({"driver": "alpha", "pool": pool})
    assert (problem.where, problem.what) == (f"config: pool.{where}", what)
    with pytest.raises(ValidationError, match="larger than"):
        PoolSettings(**pool)


def test_a_contradiction_with_a_default_of_the_driver_says_so() -> None:
    problem = only_problem({"driver": "beta", "path": "x", "pool": {"min_size": 5}})
    assert problem.what == "min_size (5) is larger than max_size (4, the default of the driver beta)"


def test_a_lifetime_below_the_idle_time_that_nobody_set_is_no_contradiction() -> None:
    assert load({"driver": "alpha", "pool": {"max_lifetime": 60}})["main"].pool.max_lifetime == 60
    assert load({"driver": "beta", "path": "x", "pool": {"max_lifetime": 60}})["main"].pool.max_idle == 900


def test_contradictions_are_found_beside_other_mistakes() -> None:
    pool = {"max_size": "many", "min_size": 20, "max_idle": 60, "max_lifetime": 30, "order": "any"}
    assert sorted(problem.where for problem in problems_of({"driver": "alpha", "pool": pool})) == [
        "config: pool.max_idle",
        "config: pool.max_size",
        "config: pool.order",
    ]


@pytest.mark.parametrize("password", ["hunter2", "exclude", "x"])
def test_a_validator_of_a_driver_that_quotes_a_secret_is_not_quoted(password: str) -> None:
    problem = only_problem({"driver": "alpha", "password": password, "token": "t0ken"})
    assert problem.what == "refused, in words that hold a secret"


def test_a_validator_of_a_driver_that_breaks_is_a_problem_without_its_text() -> None:
    class Broken(Settings):
        def model_post_init(self, context: object, /) -> None:
            raise RuntimeError("hunter2")

    with drivers(make_driver("broken", settings=Broken)):
        problem = only_problem({"driver": "broken"})
    assert "RuntimeError" in problem.what
    assert "hunter2" not in str(problem)


def test_a_driver_may_take_keys_that_its_model_does_not_name() -> None:
    class Open(Settings):
        model_config = ConfigDict(extra="allow")
        host: str = "h"

    with drivers(make_driver("open", settings=Open)):
        config = load({"driver": "open", "target_session_attrs": "any"})["main"]
    assert config.settings.model_extra == {"target_session_attrs": "any"}


def test_examining_shows_what_is_in_order_beside_what_is_not() -> None:
    found = examine({"connections": {"good": {"driver": "alpha"}, "bad": {"driver": "alpha", "port": 0}}})
    assert list(found.configs) == ["good"]
    assert [problem.where for problem in found.problems] == ["config: connections.bad.port"]


SECRET = st.text(min_size=8).filter(lambda text: len(set(text)) > 3)


@given(
    secret=SECRET,
    table=st.dictionaries(st.sampled_from(["port", "ratio", "tls", "low", "hots", "tags"]), st.integers() | st.text()),
)
def test_secrets_never_show_in_errors_or_configs(secret: str, table: dict[str, Any]) -> None:
    """Laws: P4."""
    marked = f"Qx{secret}xQ"
    written = marked.replace("${", "$${")
    source = {"driver": "alpha", "password": written, "token": written, "port": written, **table}
    for attempt in (source, {**source, "token_file": written}, {"driver": "alpha", "password": written}):
        try:
            shown = repr(load(attempt))
        except ConfigError as error:
            shown = "".join(traceback.format_exception(error)) + repr(error.problems)
        assert "Qx" not in shown


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
KEYS = st.sampled_from(["driver", "url", "host", "port", "password", "password_file", "credentials", "pool", "startup"])


@pytest.mark.parametrize("key", ["driver", "url"])
@pytest.mark.parametrize("value", [b"", b"alpha", bytearray(b"alpha://h")])
def test_bytes_are_no_text(key: str, value: bytes) -> None:
    with pytest.raises(ConfigError, match="bytes"):
        resolve({key: value})


@given(st.dictionaries(KEYS | st.text(), VALUES))
def test_any_value_at_any_key_is_a_config_or_a_config_error(table: dict[str, Any]) -> None:
    for source in (table, {"driver": "alpha", **table}, {"connections": {"a": table}, "default": table.get("host")}):
        try:
            resolve(source)
        except ConfigError as error:
            assert error.problems  # noqa: PT017 (either outcome is right)


def test_the_driver_given_as_a_value_serves_connections_that_name_it_or_none() -> None:
    mine = make_driver("alpha", pool_defaults={"max_size": 3})
    for source in ({"host": "h"}, {"driver": "alpha"}, "alpha://h", {"url": "alpha://h"}):
        assert resolve(source, driver=mine).pool.max_size == 3
    assert resolve("alphasql://h", driver=ALPHA).driver == "alpha"


def test_a_driver_given_as_a_value_that_the_connection_does_not_use_is_a_problem() -> None:
    with pytest.raises(ConfigError, match="is one of the driver 'beta', not of 'alpha'"):
        resolve("beta://x", driver=ALPHA)


def test_what_a_driver_finds_contradictory_is_a_problem_at_its_place() -> None:
    def check(config: Config[Any]) -> list[Problem]:
        return [Problem("pool.reset", f"{config.pool.reset} does not go with this driver", "Leave it out.")]

    problems = problems_of(
        {"connections": {"a": {"driver": "alpha", "pool": {"reset": "full"}}}}, driver=replace(ALPHA, check=check)
    )
    assert [problem.where for problem in problems] == ["config: connections.a.pool.reset"]
