"""The recipes of the documentation: each is started as a user would, asked over HTTP, and stopped."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

RECIPES = Path(__file__).parents[2] / "docs" / "recipes"
SECONDS = 30
"""A program that takes longer to start, to answer or to stop hangs."""

UVICORN = ("-m", "uvicorn", "{module}:app", "--port", "{port}", "--log-level", "warning")
HYPERCORN = ("-m", "hypercorn", "{module}:app", "--bind", "127.0.0.1:{port}", "--log-level", "warning")


@dataclass(frozen=True)
class Recipe:
    module: str
    needs: tuple[str, ...]
    command: tuple[str, ...]
    stopped: int
    """Exit code after SIGTERM; uvicorn shuts down in order and then dies of the signal, as a shell expects."""


APPS: Mapping[str, Recipe] = {
    recipe.module.removesuffix("_app"): recipe
    for recipe in (
        Recipe("fastapi_app", ("fastapi", "uvicorn"), UVICORN, -signal.SIGTERM),
        Recipe("starlette_app", ("starlette", "uvicorn"), UVICORN, -signal.SIGTERM),
        Recipe("litestar_app", ("litestar", "uvicorn"), UVICORN, -signal.SIGTERM),
        Recipe("quart_app", ("quart", "hypercorn"), HYPERCORN, 0),
        Recipe("aiohttp_app", ("aiohttp",), ("{module}.py", "{port}"), 0),
    )
}


class Running:
    """A recipe that runs in a process of its own."""

    def __init__(self, recipe: Recipe, database_url: str) -> None:
        self.recipe = recipe
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        command = [part.format(module=recipe.module, port=self.port) for part in recipe.command]
        self.process = subprocess.Popen(
            [sys.executable, "-W", "default", *command],
            cwd=RECIPES,
            env={**os.environ, "DATABASE_URL": database_url, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that `kill` reaches the workers too
        )
        self._wait_until_it_listens()

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{self.recipe.module} does not listen:\n{self.kill()}")
                time.sleep(0.02)
            else:
                return

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any, http.client.HTTPMessage]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)) as client:
            headers = {} if body is None else {"Content-Type": "application/json"}
            client.request(method, path, None if body is None else json.dumps(body), headers)
            answer = client.getresponse()
            if answer.status == 500:  # not one of these was asked to fail: say why
                pytest.fail(f"{method} {path}: {answer.read().decode()}\n{self.kill()}")
            return answer.status, json.loads(answer.read()), answer.headers

    def status(self, method: str, path: str, body: object = None) -> int:
        return self.ask(method, path, body)[0]

    def stop(self) -> tuple[int, str, str]:
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, out, err

    def kill(self) -> str:
        """End it, whatever it is doing; return what it has complained of."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.communicate()[1]


@contextlib.contextmanager
def running(name: str, database_url: str) -> Generator[Running, None, None]:
    recipe = APPS[name]
    for needed in recipe.needs:
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    app = Running(recipe, database_url)
    try:
        yield app
    finally:
        app.kill()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipes") / "app.db"


@pytest.fixture(scope="module", params=APPS)
def app(request: pytest.FixtureRequest, file: Path) -> Iterator[Running]:
    """Each application in turn, with a single connection, for which nobody waits long."""
    with running(request.param, f"sqlite:///{file}?pool.max_size=1&pool.checkout_timeout=0.2") as found:
        yield found


@pytest.fixture
def user() -> dict[str, str]:
    return {"email": f"{uuid.uuid4().hex}@example.org", "name": "Ada Lovelace"}


def test_what_was_posted_can_be_read(app: Running, user: dict[str, str]) -> None:
    status, answer, _ = app.ask("POST", "/users", user)
    assert (status, answer) == (201, user)
    status, answer, _ = app.ask("GET", f"/users/{user['email']}")
    assert (status, answer) == (200, user)


def test_a_second_one_of_the_same_name_is_a_conflict(app: Running, user: dict[str, str]) -> None:
    assert app.status("POST", "/users", user) == 201
    assert app.status("POST", "/users", user) == 409


def test_one_that_is_not_there_is_not_found(app: Running) -> None:
    assert app.status("GET", "/users/nobody@example.org") == 404


def test_a_body_of_the_wrong_shape_is_the_clients_fault(app: Running) -> None:
    assert app.status("POST", "/users", {"email": "ada@example.org"}) in {400, 422}


def test_a_busy_pool_is_a_503_that_says_when_to_come_again(app: Running, file: Path, user: dict[str, str]) -> None:
    statuses: list[int] = []
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as outside:
        outside.execute("BEGIN IMMEDIATE")
        posting = threading.Thread(target=lambda: statuses.append(app.status("POST", "/users", user)))
        posting.start()
        try:
            deadline = time.monotonic() + SECONDS
            while (answer := app.ask("GET", "/users/nobody@example.org"))[0] != 503:
                assert time.monotonic() < deadline
            assert answer[2]["Retry-After"] == "1"
        finally:
            outside.execute("ROLLBACK")
            posting.join()
    assert statuses == [201]


@pytest.mark.parametrize("name", APPS)
def test_it_stops_in_order_and_without_a_word(name: str, tmp_path: Path, user: dict[str, str]) -> None:
    with running(name, f"sqlite:///{tmp_path}/app.db") as app:
        assert app.status("POST", "/users", user) == 201
        assert app.stop() == (APPS[name].stopped, "", "")
    assert not (tmp_path / "app.db-wal").exists(), "the last connection that closes takes the WAL along"


def test_the_same_application_runs_on_postgres(postgres_url: str, user: dict[str, str]) -> None:
    schema = f"recipe_{uuid.uuid4().hex}"
    joint = "&" if "?" in postgres_url else "?"
    with psycopg.connect(postgres_url, autocommit=True) as outside:
        outside.execute(f"CREATE SCHEMA {schema}".encode())
        try:
            with running("fastapi", f"{postgres_url}{joint}options=-csearch_path%3D{schema}") as app:
                assert [app.status("POST", "/users", user) for _ in range(2)] == [201, 409]
                assert app.ask("GET", f"/users/{user['email']}")[1] == user
                assert app.stop() == (APPS["fastapi"].stopped, "", "")
            assert outside.execute(f"SELECT email FROM {schema}.users".encode()).fetchall() == [(user["email"],)]
        finally:
            outside.execute(f"DROP SCHEMA {schema} CASCADE".encode())


# -- the plain script --------------------------------------------------------------------------------------------------


def script(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command: Sequence[str] = (sys.executable, "-W", "default", "script.py", *arguments)
    environment = {**os.environ, "DATABASE_URL": f"sqlite:///{folder}/app.db"}
    return subprocess.run(
        command, cwd=RECIPES, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def test_the_script_writes_and_reads(tmp_path: Path) -> None:
    added = script(tmp_path, "add", "ada@example.org", "Ada Lovelace")
    assert (added.returncode, added.stdout, added.stderr) == (0, "added ada@example.org\n", "")
    shown = script(tmp_path, "show", "ada@example.org")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "Ada Lovelace <ada@example.org>\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "nobody@example.org"), "there is no such user\n"),
        (("add", "ada@example.org", "Ada Byron"), "there is one already\n"),
    ],
)
def test_the_script_says_in_one_line_what_is_wrong(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    script(tmp_path, "add", "ada@example.org", "Ada Lovelace")
    ended = script(tmp_path, *arguments)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", said)


def test_every_recipe_is_tested() -> None:
    files = {path.stem for path in RECIPES.glob("*.py")}
    assert files == {recipe.module for recipe in APPS.values()} | {"script"}
