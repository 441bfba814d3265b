from __future__ import annotations

from urllib.parse import unquote

import pytest
from config_drivers import only_problem
from hypothesis import given
from hypothesis import strategies as st

from dbcore.config.interpolation import interpolate
from dbcore.config.urls import split_url
from dbcore.errors import ConfigError
from dbcore.loading import load, load_url

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("${A}", "one"),
        ("<${A}-${B}>", "<one-two>"),
        ("${UNSET:-fall back}", "fall back"),
        ("${EMPTY:-fallback}", "fallback"),
        ("${EMPTY}", ""),
        ("${A:-fallback}", "one"),
        ("${UNSET:-}", ""),
        ("$${A}", "${A}"),
        ("$A $ $$ }{", "$A $ $$ }{"),
        ("${A:-x}}", "one}"),
    ],
)
def test_variables_are_filled_in(text: str, result: str) -> None:
    filled = interpolate(text, {"A": "one", "B": "two", "EMPTY": ""})
    assert (filled.value, filled.faults) == (result, ())


@pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${A", "${A:fallback}", "${A B}", "${A:-${B}}"])
def test_what_is_no_variable_is_a_fault_that_shows_nothing_of_it(text: str) -> None:
    faults = interpolate(text, {"A": "one", "B": "two"}).faults
    assert len(faults) == 1
    assert "one" not in str(faults)


def test_every_unset_variable_of_a_text_is_named() -> None:
    faults = interpolate("${X}${Y}", {}).faults
    assert [what for what, _ in faults] == [
        "the environment variable X is not set",
        "the environment variable Y is not set",
    ]


def test_lists_and_tables_are_filled_in() -> None:
    value = {"a": ["${A}", 1, {"b": "${A}"}], "c": True}
    assert interpolate(value, {"A": "x"}).value == {"a": ["x", 1, {"b": "x"}], "c": True}


@given(TEXT)
def test_a_variable_stays_one_part_of_a_url_whatever_is_in_it(value: str) -> None:
    filled = interpolate("s://u:${V}@h/db", {"V": value}, url=True)
    assert split_url(filled.value).keys().get("password", "") == value


@given(TEXT)
def test_a_variable_that_is_the_whole_url_is_used_as_it_is(value: str) -> None:
    assert interpolate("${V}", {"V": value}, url=True).value == value


@given(TEXT)
def test_a_fallback_inside_a_url_is_encoded_like_the_variable(value: str) -> None:
    fallback = value.replace("{", "").replace("}", "")
    filled = interpolate(f"s://${{V:-{fallback}}}@h", {}, url=True)
    assert unquote(filled.value.removeprefix("s://").removesuffix("@h")) == fallback


def test_a_fallback_that_is_the_whole_url_is_used_as_written() -> None:
    assert interpolate("${V:-sqlite:///app.db}", {}, url=True).value == "sqlite:///app.db"


@given(TEXT)
def test_a_doubled_dollar_brings_any_text_through(value: str) -> None:
    assert interpolate(value.replace("${", "$${"), {}).value == value


def test_a_filled_in_text_is_coerced_to_the_type_of_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("N", "20")
    monkeypatch.setenv("YES", "true")
    monkeypatch.setenv("NEVER", "none")
    table = {"driver": "alpha", "port": "${N}", "tls": "${YES}", "ratio": "${N}", "statement_timeout": "${N}"}
    config = load({**table, "pool": {"max_size": "${N}", "max_idle": "${NEVER}"}})["main"]
    assert (config.settings.port, config.settings.tls, config.settings.ratio) == (20, True, 20.0)
    assert (config.pool.max_size, config.pool.max_idle, config.statement_timeout) == (20, None, 20.0)


def test_a_filled_in_text_that_cannot_be_coerced_is_a_problem_without_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("N", "hunter2")
    problem = only_problem({"driver": "alpha", "port": "${N}"})
    assert problem.where == "config: port"
    assert "hunter2" not in str(problem)


def test_an_unset_variable_is_one_problem_and_its_key_is_not_missed_as_well() -> None:
    problem = only_problem({"driver": "beta", "path": "${NOT_THERE}"})
    assert (problem.where, problem.what) == ("config: path", "the environment variable NOT_THERE is not set")
    assert "${NOT_THERE:-...}" in problem.cure


def test_a_url_given_in_code_is_not_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    assert load_url("alpha://h/${SECRET}").settings.database == "${SECRET}"
    with pytest.raises(ConfigError, match="in a file or mapping"):
        load_url("${DATABASE_URL}")
