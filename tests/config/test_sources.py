from __future__ import annotations

import os
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from config_drivers import only_problem, problems_of
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dbcore.config import Config
from dbcore.errors import ConfigError
from dbcore.loading import load, resolve

FILE = """
default = "main"

[connections.main]
url = "${DATABASE_URL:-beta:///app.db}"

[connections.reports]
driver = "alpha"
host = "db.internal"
password_file = "secrets/reports"
statement_timeout = 30
pool.max_size = 20
pool.checkout_timeout = 5
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "reports").write_text("s3cret\n")
    (tmp_path / "db.toml").write_text(FILE)
    return tmp_path


@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_is_read(folder: Path, kind: type[Any]) -> None:
    configs = load(kind("db.toml"))
    assert list(configs) == ["main", "reports"]
    reports = configs["reports"]
    assert (reports.name, reports.driver, reports.folder) == ("reports", "alpha", folder)
    assert (reports.pool.max_size, reports.pool.checkout_timeout, reports.statement_timeout) == (20, 5.0, 30.0)
    assert reports.settings.password.get_secret_value() == "s3cret"
    assert configs["main"].settings.path == "/app.db"
    assert configs["main"].pool.max_size == 4


def test_the_result_of_load_cannot_be_changed(folder: Path) -> None:
    with pytest.raises(TypeError):
        load("db.toml")["x"] = None  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    assert folder.exists()


def test_a_config_cannot_be_changed(folder: Path) -> None:
    """Laws: P3."""
    config = load(folder / "db.toml")["reports"]
    for target, key in ((config, "name"), (config, "pool"), (config.pool, "max_size"), (config.settings, "host")):
        with pytest.raises((FrozenInstanceError, ValidationError)):
            setattr(target, key, "other")
    assert (config.name, config.pool.max_size, config.settings.host) == ("reports", 20, "db.internal")


def test_relative_secret_files_start_in_the_folder_of_the_config(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert load(folder / "db.toml")["reports"].settings.password.get_secret_value() == "s3cret"


def test_without_a_source_the_variable_comes_first_then_the_file_here(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(load()) == ["main", "reports"]
    monkeypatch.setenv("DBCORE_CONFIG", "alpha://h")
    assert list(load()) == ["main"]
    monkeypatch.setenv("DBCORE_CONFIG", str(folder / "other.toml"))
    problem = only_problem(None)
    assert (problem.where, problem.what) == (str(folder / "other.toml"), "there is no such file")
    assert "$DBCORE_CONFIG" in problem.cure


def test_the_connection_asked_for_is_opened_else_the_default(folder: Path) -> None:
    assert resolve("db.toml").name == "main"
    assert resolve("db.toml", "reports").name == "reports"
    with pytest.raises(ConfigError, match=r"there is no connection 'report'\. Did you mean 'reports'"):
        resolve("db.toml", "report")
    assert folder.exists()


def test_the_only_connection_is_the_default() -> None:
    assert resolve({"connections": {"one": {"driver": "alpha"}}}).name == "one"


def test_several_connections_without_a_default_are_a_problem_when_one_is_opened() -> None:
    two = {"connections": {"one": {"driver": "alpha"}, "two": {"driver": "alpha", "port": 0}}}
    with pytest.raises(ConfigError) as caught:
        resolve(two)
    assert [problem.where for problem in caught.value.problems] == ["config: connections.two.port", "config: default"]
    assert "(one, two)" in caught.value.problems[1].what


def test_a_default_may_come_from_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    two = {"connections": {"one": {"driver": "alpha"}, "two": {"driver": "alpha"}}, "default": "${WHICH:-two}"}
    assert resolve(two).name == "two"
    monkeypatch.setenv("WHICH", "three")
    with pytest.raises(ConfigError, match="config: default: there is no connection"):
        resolve(two)


@pytest.mark.parametrize("default", [5, "${UNSET_HERE}", "three"])
def test_a_wrong_default_is_one_problem(default: object) -> None:
    two = {"connections": {"one": {"driver": "alpha"}, "two": {"driver": "alpha"}}, "default": default}
    with pytest.raises(ConfigError) as caught:
        resolve(two)
    assert [problem.where for problem in caught.value.problems] == ["config: default"]


def test_a_mapping_may_be_one_connection() -> None:
    config = load({"driver": "alpha", "host": "h", "pool": {"max_size": 5}, "pool.min_size": 2})["main"]
    assert (config.settings.host, config.pool.max_size, config.pool.min_size) == ("h", 5, 2)
    assert config.folder == Path.cwd()
    assert list(load({"driver": "alpha"}, name="other")) == ["other"]
    assert resolve({"driver": "alpha"}, "other").name == "other"
    assert resolve("alpha://h", "other").name == "other"


def test_the_bench_may_open_a_server_by_its_socket() -> None:
    url = "alphasql://bench@/bench?host=/tmp/x/sock&port=54329"
    config = resolve({"url": url, "pool": {"min_size": 10, "max_size": 10, "checkout_timeout": 600}})
    assert (config.settings.host, config.settings.port, config.settings.user) == ("/tmp/x/sock", 54329, "bench")
    assert config.pool.checkout_timeout == 600


def test_a_config_is_a_source() -> None:
    config = load({"driver": "alpha"})["main"]
    assert resolve(config) is config
    assert load(config) == {"main": config}
    assert resolve(config, "other").name == "other"


def test_an_observer_is_kept_and_does_not_show() -> None:
    seen: list[object] = []
    config: Config[Any] = resolve("alpha://h", observe=seen.append)
    assert config.observe == seen.append
    assert "append" not in repr(config)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("a b", "no valid TOML at line 1, column 3: expected '=' after a key in a key/value pair"),
        ("x = 'hunter2", "no valid TOML"),
        ("[connections.main]\npassword = hunter2", "no valid TOML at line 2, column 12: invalid value"),
        ("[hunter2]\n[hunter2]", "no valid TOML at line 2, column 9"),
        ("x = {hunter2=1, hunter2=2}", "no valid TOML at line 1"),
        ("x = " + "1" * 5000, "no valid TOML"),
        ("x = " + "[" * 5000, "the file is nested too deeply"),
        ("", "there is no connection"),
        ("[connections]", "there is no connection"),
        ("connections = 5", "there is no connection"),
        ("[connections]\nmain = 5", "this is no table of a connection"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_problem_that_shows_nothing_of_it(
    tmp_path: Path, content: str, what: str
) -> None:
    """Laws: P4."""
    file = tmp_path / "db.toml"
    file.write_text(content)
    problem = only_problem(file)
    assert problem.where.startswith(str(file))
    assert problem.what.startswith(what)
    assert "hunter2" not in str(problem)


def test_a_file_that_is_no_text_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "db.toml").write_bytes(b"x = '\xff'")
    assert "not UTF-8" in only_problem(tmp_path / "db.toml").what


@pytest.mark.parametrize("source", ["", " ", 5, b"db.toml", ["db.toml"], object()])
def test_what_can_be_no_source_is_a_problem_that_says_what_can(source: object) -> None:
    problem = only_problem(source)
    assert problem.where == "source"
    assert problem.what in {"it is empty", f"{type(source).__name__} is no kind of source"}
    for kind in ("TOML file", "URL", "mapping", "Config"):
        assert kind in problem.cure


def test_opening_what_can_be_no_source_is_the_same_problem() -> None:
    with pytest.raises(ConfigError, match="source: int is no kind of source"):
        resolve(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_folder_is_a_problem(tmp_path: Path) -> None:
    assert "directory" in only_problem(tmp_path).what


def test_an_unknown_key_beside_the_connections_is_a_problem() -> None:
    one = {"connections": {"main": {"driver": "alpha"}}, "defualt": "main"}
    problem = only_problem(one)
    assert (problem.where, problem.what) == ("config: defualt", "unknown key 'defualt'")
    assert "Did you mean 'default'?" in problem.cure


@pytest.mark.parametrize(
    "source", ["host=h password=hunter2", "alpha:u:hunter2@h", "x/hunter2\0", "hunter2" * 1000, "u:hunter2@h/db.toml"]
)
def test_a_source_that_is_neither_url_nor_file_is_not_shown(source: str) -> None:
    problem = only_problem(source)
    assert (problem.where, problem.what) == ("source", "there is no such file")
    assert "hunter2" not in str(problem)


@given(st.text(), st.text())
def test_any_text_in_a_file_is_a_config_error(tmp_path_factory: pytest.TempPathFactory, content: str, key: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    for text in (content, f"[connections.main]\n{key} = {content}", f"[connections.{key}]\nurl = '{content}'"):
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        assert problems_of(file)


@pytest.mark.parametrize(
    ("content", "secret"),
    [(b"pw", "pw"), (b"pw\n", "pw"), (b"pw\r\n", "pw"), (b"pw\n\n", "pw\n"), (b" pw ", " pw "), (b"pw\r", "pw\r")],
)
def test_one_newline_at_the_end_of_a_secret_file_is_dropped(tmp_path: Path, content: bytes, secret: str) -> None:
    (tmp_path / "pw").write_bytes(content)
    for key in ("password", "token"):
        config = load({"driver": "alpha", f"{key}_file": str(tmp_path / "pw")})["main"]
        assert getattr(config.settings, key).get_secret_value() == secret


def test_a_variable_may_name_a_secret_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pw").write_text("x")
    monkeypatch.setenv("FOLDER", str(tmp_path))
    config = load({"url": "alpha://u@h", "password_file": "${FOLDER}/pw"})["main"]
    assert config.settings.password.get_secret_value() == "x"


def test_a_secret_file_may_be_named_in_a_url(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("x")
    assert load(f"alpha://u@h?password_file={tmp_path}/pw")["main"].settings.password.get_secret_value() == "x"


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("hunter2", "the secret file cannot be read: No such file or directory"),
        (".", "the secret file cannot be read: Is a directory"),
        ("a\0hunter2", "the path or the content of the secret file is not a text"),
        (5, "this is no path"),
        ("", "this is no path"),
        ("empty", "the secret file is empty"),
        ("binary", "the path or the content of the secret file is not a text"),
    ],
)
def test_a_secret_file_that_cannot_be_used_is_a_problem_that_does_not_show_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: object, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    problem = only_problem({"driver": "alpha", "password_file": value})
    assert (problem.where, problem.what) == ("config: password_file", what)
    assert "hunter2" not in str(problem)


def test_a_required_secret_may_come_from_a_file_only_once(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("x")
    table = {"driver": "alpha", "password": "hunter2", "password_file": os.fspath(tmp_path / "pw")}
    problem = only_problem(table)
    assert problem.what == "password is given as well as password_file"
