"""A private MariaDB for the tests: made in a temporary folder, on a free port, gone when the tests end.

`pytest_plugins = ["mysql_server"]` (with this folder on `sys.path`) offers the fixture `mysql_url`, shared by all
tests, which are skipped where there is no such program. `DBCORE_TEST_MYSQL` is the URL of a server to use in its
place, MySQL or MariaDB, of a user who may create databases; a test that has to stop or kill a server starts one of its
own: `with Server() as server`. `Outside` asks a server without any pool.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import threading
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import unquote, urlsplit

import pytest
from asyncmy.connection import Connection as Native
from asyncmy.errors import MySQLError
from servers import ENCODED, PASSWORD, START_SECONDS, USER, PrivateServer, ServerMissing, url_of

__all__ = ["VARIABLE", "Outside", "Server", "mysql", "mysql_url", "programs"]

T = TypeVar("T")

VARIABLE = "DBCORE_TEST_MYSQL"

# Nothing here has to survive a crash of the machine, and everything should start and stop fast.
FAST = {
    "innodb-flush-log-at-trx-commit": "0",
    "innodb-buffer-pool-size": "32M",
    "innodb-fast-shutdown": "2",
    "skip-log-bin": None,
    "skip-name-resolve": None,
    "max-connections": "100",
}


def programs() -> tuple[Path, Path]:
    """Return the server, and the program that makes its data folder."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/usr/libexec"
    found = [shutil.which(name, path=path) for name in ("mariadbd", "mariadb-install-db")]
    if found[0] is None or found[1] is None:
        raise ServerMissing("no MariaDB found: install mariadb-server, or set DBCORE_TEST_MYSQL to a server's URL")
    return Path(found[0]), Path(found[1])


class Server(PrivateServer):
    """One MariaDB in a folder of its own; a context manager that starts it and takes all of it away.

    It listens on 127.0.0.1 and on a unix socket in `folder`, both with a password.
    """

    name = "MariaDB"
    user = "mysql"
    prefix = "dbcore-my-"
    farewell = signal.SIGTERM

    def __init__(self, settings: dict[str, str | None] | None = None) -> None:
        self._server, self._install = programs()
        super().__init__()
        self.settings = settings or {}

    @property
    def url(self) -> str:
        return f"mysql://{USER}:{ENCODED}@127.0.0.1:{self.port}/test"

    @property
    def socket(self) -> Path:
        return self.folder / "socket"

    def _prepare(self) -> None:
        users = self.folder / "users.sql"
        users.write_text(
            "CREATE DATABASE IF NOT EXISTS test CHARACTER SET utf8mb4;\n"
            f"CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\n"
            f"CREATE USER IF NOT EXISTS '{USER}'@'localhost' IDENTIFIED BY '{PASSWORD}';\n"
            f"GRANT ALL ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n"
            f"GRANT ALL ON *.* TO '{USER}'@'localhost' WITH GRANT OPTION;\n"
        )
        self._give(users)
        how = ["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]
        self._run(self._install, *how, f"--datadir={self.folder / 'data'}", f"--tmpdir={self.folder}")

    def _command(self) -> list[str | Path]:
        options = {
            "datadir": str(self.folder / "data"),
            "tmpdir": str(self.folder),  # one that starts clears it, and several are beside each other
            "socket": str(self.socket),
            "pid-file": str(self.folder / "pid"),
            "port": str(self.port),
            "bind-address": "127.0.0.1",
            "init-file": str(self.folder / "users.sql"),
            **FAST,
            **self.settings,
        }
        texts = [f"--{key}" if value is None else f"--{key}={value}" for key, value in options.items()]
        return [self._server, "--no-defaults", *texts]

    def _is_ready(self) -> bool:
        try:
            with Outside(self.url):
                return True
        except MySQLError:
            return False


class Outside:
    """A connection of asyncmy's, beside every pool; asked from code that is not asynchronous, in a loop of its own."""

    def __init__(self, url: str, *, database: str | None = None) -> None:
        parts = urlsplit(url)
        self._options: dict[str, Any] = {
            "host": parts.hostname,
            "port": parts.port or 3306,
            "user": unquote(parts.username or ""),
            "password": unquote(parts.password or ""),
            "database": database or parts.path.lstrip("/") or None,
            "autocommit": True,
        }
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._native: Any = None

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._native = self._run(self._connect())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._native.ensure_closed())
        self._stop()

    def __call__(self, sql: str) -> list[tuple[Any, ...]]:
        return self._run(self._ask(sql))

    async def _connect(self) -> Any:
        make: Any = Native  # asyncmy does not say what it takes
        native = make(**self._options)
        await native.connect()
        return native

    async def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        await self._native.query(sql)
        rows: Sequence[tuple[Any, ...]] | None = self._native._result.rows
        return list(rows or ())

    async def _settle(self) -> None:
        """Let what was closed be closed."""
        for _ in range(3):
            await asyncio.sleep(0)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_SECONDS)

    def _stop(self) -> None:
        self._run(self._settle())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS)
        self._loop.close()


@pytest.fixture(scope="session")
def mysql() -> Iterator[Server]:
    """The shared server of this test run. A test that stops or kills it starts it again before it ends."""
    try:
        server = Server()
    except ServerMissing as error:
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture(scope="session")
def mysql_url(request: pytest.FixtureRequest) -> str:
    """URL of a server for the tests, with a password in it."""
    return url_of(request, "mysql", VARIABLE)
