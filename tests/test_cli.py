"""The command `dbcore`: what it prints, with which code it exits, and what it never shows."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dbcore_sqlite
import pytest
from typer.testing import CliRunner, Result

from dbcore.cli.app import app
from dbcore.cli.checking import unreachable
from dbcore.driver import ServerInfo
from dbcore.errors import DbConnectionError, DbError, PoolTimeout, QueryError
from dbcore.testing.conformance import PROMISES
from dbcore.testing.conformance.report import report_on

SECRET = "hunter2-do-not-show"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DBCORE_CONFIG", raising=False)
    return tmp_path


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path of imports, for packages that say they have a driver."""
    path = tmp_path / "plugins"
    path.mkdir()
    monkeypatch.setattr(sys, "path", [str(path), *sys.path])
    yield path
    sys.modules.pop("broken_driver", None)


def install_broken(plugins: Path) -> None:
    (plugins / "broken_driver.py").write_text(f"raise RuntimeError({SECRET!r})")
    info = plugins / "dbcore_broken-1.2.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dbcore-broken\nVersion: 1.2.3\n")
    (info / "entry_points.txt").write_text("[dbcore.drivers]\nbroken = broken_driver:driver\n")


def dbcore(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def test_check_shows_every_connection_with_its_driver_and_its_pool(folder: Path) -> None:
    (folder / "db.toml").write_text(
        'default = "main"\n'
        '[connections.main]\nurl = "sqlite:///app.db"\npool.max_size = 7\n'
        f'[connections.reports]\ndriver = "postgres"\nhost = "db.internal"\npassword = "{SECRET}"\nstartup = "lazy"\n'
    )
    done = dbcore("check")
    assert done.exit_code == 0
    main, reports = (line.split() for line in done.output.splitlines()[-2:])
    assert main[:2] == ["main", "sqlite"]
    assert " ".join(main).endswith("to 7, reset tracked, startup require")
    assert reports[:2] == ["reports", "postgres"]
    assert reports[-1] == "lazy"
    assert not (folder / "app.db").exists(), "nothing was asked to connect"
    assert SECRET not in done.output


def test_check_reads_the_file_that_it_is_given(folder: Path) -> None:
    (folder / "other.toml").write_text('[connections.elsewhere]\nurl = "sqlite://"\n')
    assert "elsewhere" in dbcore("check", "other.toml").output


def test_check_reads_the_file_of_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "other.toml").write_text('[connections.elsewhere]\nurl = "sqlite://"\n')
    monkeypatch.setenv("DBCORE_CONFIG", "other.toml")
    assert "elsewhere" in dbcore("check").output


def test_check_takes_a_url(folder: Path) -> None:
    done = dbcore("check", "sqlite:///x.db?pool.max_size=7", "--connect")
    assert done.exit_code == 0, done.output
    assert "to 7, reset" in done.output
    assert "SQLite 3" in done.output
    assert (folder / "x.db").exists()


@pytest.mark.usefixtures("folder")
def test_check_shows_no_password_of_a_url() -> None:
    done = dbcore("check", f"postgres://app:{SECRET}@db/app?hots=1")
    assert done.exit_code == 1
    assert "url (hots): unknown key 'hots'" in done.output
    assert SECRET not in done.output


@pytest.mark.usefixtures("folder")
def test_check_says_that_there_is_no_file() -> None:
    done = dbcore("check")
    assert done.exit_code == 1
    assert "db.toml" in done.output


def test_check_shows_every_problem_with_its_place_and_cure_beside_what_is_in_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    (folder / "db.toml").write_text(
        '[connections.good]\nurl = "sqlite://"\n'
        f'[connections.bad]\nurl = "postgres://app:{SECRET}@db/app"\n'
        'pool.maxsize = 3\nstatement_timeout = "${NOT_SET}"\n'
        '[connections.worse]\ndriver = "[red]oracle"\n'
    )
    done = dbcore("check")
    assert done.exit_code == 1
    assert "good" in done.output
    assert "db.toml: connections.bad.pool.maxsize" in done.output
    assert "Did you mean 'max_size'?" in done.output
    assert "NOT_SET" in done.output
    assert "connections.worse.driver" in done.output
    assert SECRET not in done.output


def test_check_with_connect_tells_who_answers(folder: Path) -> None:
    (folder / "db.toml").write_text('[connections.main]\nurl = "sqlite:///app.db"\nstartup = "lazy"\n')
    done = dbcore("check", "--connect")
    assert done.exit_code == 0, done.output
    row = done.output.splitlines()[-1]
    assert "SQLite 3" in row
    assert " ms" in row
    assert row.rstrip().endswith("no network")


def test_check_with_connect_names_who_does_not_answer(folder: Path) -> None:
    (folder / "db.toml").write_text(
        '[connections.here]\nurl = "sqlite:///app.db"\n'
        f'[connections.there]\nurl = "postgres://app:{SECRET}@127.0.0.1:1/app"\nstartup = "lazy"\n'
        "pool.connect_timeout = 2\npool.checkout_timeout = 2\n"
    )
    done = dbcore("check", "--connect")
    assert done.exit_code == 1
    assert "SQLite 3" in done.output
    assert "no answer" in done.output
    assert "connection there: cannot connect" in done.output
    assert "Is the server running at that address" in done.output
    assert SECRET not in done.output


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (DbConnectionError("no", sqlstate="28P01"), "user and password"),
        (DbConnectionError("no", sqlstate="28000"), "user and password"),
        (DbConnectionError("no", sqlstate="3D000"), "name of the database"),
        (DbConnectionError("no", sqlstate="53300", retryable=True), "too many connections"),
        (DbConnectionError("no", sqlstate="57P03", retryable=True), "try again"),
        (DbConnectionError("no", sqlstate="08P01"), "code 08P01"),
        (DbConnectionError("no", retryable=True), "running at that address"),
        (DbConnectionError("there is no folder /x"), "settings that it names"),
        (PoolTimeout("no"), "pool.checkout_timeout"),
        (QueryError("no"), "settings that it names"),
    ],
)
def test_what_did_not_answer_has_a_cure(error: DbError, cure: str) -> None:
    error.args = (f"connection 'main': {error.message}",)
    (problem,) = unreachable("main", error)
    assert problem.where == "connection main"
    assert not problem.what.startswith("connection")
    assert cure in problem.cure


def test_check_with_connect_names_the_key_to_look_at(folder: Path, postgres_url: str) -> None:
    url = urlsplit(postgres_url)._replace(path="/not_there_at_all")
    (folder / "db.toml").write_text(f'[connections.main]\nurl = "{url.geturl()}"\n')
    done = dbcore("check", "--connect")
    assert done.exit_code == 1
    assert "Look at the name of the database" in done.output


def test_check_with_connect_shows_the_server_behind_a_postgres_url(folder: Path, postgres_url: str) -> None:
    (folder / "db.toml").write_text(f'[connections.main]\nurl = "{postgres_url}"\n')
    done = dbcore("check", "--connect")
    assert done.exit_code == 0, done.output
    assert "PostgreSQL" in done.output


def test_drivers_lists_what_is_installed() -> None:
    done = dbcore("drivers")
    assert done.exit_code == 0
    for name in ("postgres", "sqlite"):
        (row,) = [line for line in done.output.splitlines() if line.startswith(f"{name} ")]
        assert f"dbcore-{name} 0.1.0" in row
        assert f"{name}" in row.split()[1]


def test_drivers_marks_the_one_that_is_broken_and_lists_the_others(plugins: Path) -> None:
    install_broken(plugins)
    done = dbcore("drivers")
    assert done.exit_code == 1
    (row,) = [line for line in done.output.splitlines() if line.startswith("broken ")]
    assert "dbcore-broken 1.2.3" in row
    assert row.rstrip().endswith("broken")
    assert "cannot be imported: RuntimeError" in done.output
    assert SECRET not in done.output
    assert any(line.startswith("sqlite ") for line in done.output.splitlines())


def test_drivers_says_how_to_get_one_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbcore.cli.checking.installed", tuple[()])
    told = dbcore("drivers").output
    for name in ("postgres", "sqlite"):
        assert f'pip install "dbcore[{name}]"' in told
    assert "cli" not in told


def test_the_version_is_that_of_the_distribution() -> None:
    done = dbcore("--version")
    assert (done.exit_code, done.output) == (0, f"dbcore {version('dbcore')}\n")


def test_schema_is_json_and_knows_the_keys_of_the_core() -> None:
    done = dbcore("schema")
    assert done.exit_code == 0
    schema: dict[str, Any] = json.loads(done.output)
    assert {"default", "connections"} <= set(schema["properties"])
    assert "checkout_timeout" in done.output
    assert "password_file" in done.output


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_extra_the_command_says_what_to_install(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from dbcore.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'pip install "dbcore[cli]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dbcore", "schema"], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert json.loads(done.stdout)


def test_a_crash_prints_no_local_variable() -> None:
    assert app.pretty_exceptions_enable is False


# -- conformance -------------------------------------------------------------------------------------------------------


@pytest.fixture
def few_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them take ten seconds, and are tried elsewhere."""
    names = ("a_started_database_answers", "first_come_first_served", "a_server_tells_its_version")
    few = [promise for promise in PROMISES if promise.name in names]
    monkeypatch.setattr("dbcore.cli.conformance.report_on", partial(report_on, promises=few))


@pytest.mark.usefixtures("few_promises")
def test_conformance_tries_a_connection_of_the_config_and_writes_a_page(folder: Path) -> None:
    (folder / "other.toml").write_text(
        'default = "main"\n[connections.main]\nurl = "sqlite://"\n[connections.second]\nurl = "sqlite:///second.db"\n'
    )
    done = dbcore("conformance", "second", "--config", "other.toml", "--markdown", "page.md")
    assert done.exit_code == 0, done.output
    assert "Trying driver 'sqlite' on connection 'second'" in done.output
    assert "Tables named dbcore_conformance_* are made there" in done.output
    assert re.search(r"^  kept +first_come_first_served$", done.output, re.MULTILINE)
    assert re.search(r"^  stream +yes", done.output, re.MULTILINE)
    assert re.search(r"^  float +REAL +all but NaN: changed to None", done.output, re.MULTILINE)
    assert re.search(r"^  checkout and release +[\d.]+ µs", done.output, re.MULTILINE)
    assert "sqlite: 3 promises: 3 kept, on SQLite 3" in done.output
    assert (folder / "second.db").exists()
    assert (folder / "page.md").read_text(encoding="utf-8").startswith("# Conformance: sqlite\n")


@pytest.mark.usefixtures("few_promises", "folder")
def test_conformance_refuses_a_page_in_a_folder_that_is_not_there_before_it_begins() -> None:
    done = dbcore("conformance", "sqlite:///x.db", "--markdown", "nowhere/page.md")
    assert done.exit_code == 1
    assert "nowhere/page.md: there is no such folder" in done.output
    assert "Trying" not in done.output


def test_conformance_takes_a_url_and_measures_nothing_unless_it_is_to() -> None:
    done = dbcore("conformance", "sqlite:///x.db", "--no-figures")
    assert done.exit_code == 0, done.output
    assert "µs" not in done.output


@pytest.mark.usefixtures("few_promises", "folder")
def test_conformance_says_what_is_broken_and_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    good = dbcore_sqlite.driver

    async def no_version(native: Any) -> ServerInfo:
        return ServerInfo(version="[red]secret")

    def find_driver(name: str) -> Any:
        return dataclasses.replace(good, server_info=no_version)

    monkeypatch.setattr("dbcore.testing.conformance.subject.find_driver", find_driver)
    monkeypatch.setattr("dbcore.database.find_driver", find_driver)
    done = dbcore("conformance", "sqlite:///x.db", "--no-figures")
    assert done.exit_code == 1
    assert re.search(r"^  broken +a_server_tells_its_version\n +a version has digits, and it was \[red\]secret",
                     done.output, re.MULTILINE)  # fmt: skip
    assert "2 kept, 1 broken, on [red]secret" in done.output


@pytest.mark.usefixtures("folder")
def test_conformance_names_what_is_wrong_with_the_config() -> None:
    done = dbcore("conformance", f"postgres://app:{SECRET}@db/app?hots=1")
    assert done.exit_code == 1
    assert "unknown key 'hots'" in done.output
    assert SECRET not in done.output


@pytest.mark.usefixtures("folder")
def test_conformance_says_why_it_cannot_connect() -> None:
    done = dbcore("conformance", f"postgres://app:{SECRET}@127.0.0.1:1/app")
    assert done.exit_code == 1
    assert "cannot connect" in done.output
    assert SECRET not in done.output
