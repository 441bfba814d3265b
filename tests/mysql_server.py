"""A private MariaDB for the tests: made in a temporary folder, on a free port, gone when the tests end.

`pytest_plugins = ["mysql_server"]` (with this folder on `sys.path`) offers the fixture `mysql_url`, shared by all
tests, which are skipped where there is no such program. `DBCORE_TEST_MYSQL` is the URL of a server to use in its
place, MySQL or MariaDB, of a user who may create databases; a test that has to stop or kill a server starts one of its
own: `with Server() as server`. `Outside` asks a server without any pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Self, TypeVar
from urllib.parse import unquote, urlsplit

import pytest
from asyncmy.connection import Connection as Native
from asyncmy.errors import MySQLError
from postgres_server import free_port

__all__ = ["ENCODED", "PASSWORD", "USER", "Outside", "Server", "ServerMissing", "mysql", "mysql_url", "programs"]

T = TypeVar("T")

USER = "dbcore"
PASSWORD = "p@ss:w/rd"
ENCODED = "p%40ss%3Aw%2Frd"
START_SECONDS = 30

# Nothing here has to survive a crash of the machine, and everything should start and stop fast.
FAST = {
    "innodb-flush-log-at-trx-commit": "0",
    "innodb-buffer-pool-size": "32M",
    "innodb-fast-shutdown": "2",
    "skip-log-bin": None,
    "skip-name-resolve": None,
    "max-connections": "100",
}


class ServerMissing(RuntimeError):
    """There is no MariaDB on this machine."""


def programs() -> tuple[Path, Path]:
    """Return the server, and the program that makes its data folder."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/usr/libexec"
    found = [shutil.which(name, path=path) for name in ("mariadbd", "mariadb-install-db")]
    if found[0] is None or found[1] is None:
        raise ServerMissing("no MariaDB found: install mariadb-server, or set DBCORE_TEST_MYSQL to a server's URL")
    return Path(found[0]), Path(found[1])


def _unprivileged() -> pwd.struct_passwd | None:
    """Return who runs the server: MariaDB refuses to run as root. `None`: the present user."""
    if os.geteuid() != 0:
        return None
    for name in ("mysql", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServerMissing("root cannot run MariaDB, and there is no user `mysql` or `nobody`")


class Server:
    """One MariaDB in a folder of its own; a context manager that starts it and takes all of it away.

    It listens on 127.0.0.1 and on a unix socket in `folder`, both with a password.
    """

    def __init__(self, settings: dict[str, str | None] | None = None) -> None:
        self.settings = settings or {}
        self.folder = Path()
        self.port = 0
        self._server, self._install = programs()
        self._user = _unprivileged()
        self._as: dict[str, Any] = {}
        if self._user is not None:
            self._as = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mysql://{USER}:{ENCODED}@127.0.0.1:{self.port}/test"

    @property
    def socket(self) -> Path:
        return self.folder / "socket"

    def __enter__(self) -> Self:
        # /tmp and a short name: the path of a unix socket has room for about 100 characters, and the folder has to be
        # reachable by another user.
        self.folder = Path(tempfile.mkdtemp(prefix="dbcore-my-", dir="/tmp"))
        try:
            if self._user is not None:
                os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
            self._make_data()
            self.port = free_port()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start the server and return when it takes connections; on the same port and data as before."""
        options = {
            "datadir": str(self.folder / "data"),
            "socket": str(self.socket),
            "pid-file": str(self.folder / "pid"),
            "port": str(self.port),
            "bind-address": "127.0.0.1",
            "init-file": str(self.folder / "users.sql"),
            **FAST,
            **self.settings,
        }
        texts = [f"--{key}" if value is None else f"--{key}={value}" for key, value in options.items()]
        self._log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen[bytes](
            [self._server, "--no-defaults", *texts],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd=self.folder,
            **self._as,
        )
        self._wait_until_ready()

    def stop(self) -> None:
        """Stop the server as an administrator would: open connections are told and closed."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the server at once (-9); nobody is told."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the server: connections stay open and nothing answers."""
        assert self._process is not None, "the server is not running"
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None, "the server is not running"
        self._process.send_signal(signal.SIGCONT)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
            process.wait(START_SECONDS)
        if self._log is not None:
            self._log.close()
            self._log = None

    def _make_data(self) -> None:
        users = self.folder / "users.sql"
        users.write_text(
            "CREATE DATABASE IF NOT EXISTS test CHARACTER SET utf8mb4;\n"
            f"CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\n"
            f"CREATE USER IF NOT EXISTS '{USER}'@'localhost' IDENTIFIED BY '{PASSWORD}';\n"
            f"GRANT ALL ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n"
            f"GRANT ALL ON *.* TO '{USER}'@'localhost' WITH GRANT OPTION;\n"
        )
        if self._user is not None:
            os.chown(users, self._user.pw_uid, self._user.pw_gid)
        command: list[str | Path] = [self._install, "--no-defaults", f"--datadir={self.folder / 'data'}"]
        command += ["--auth-root-authentication-method=normal", "--skip-test-db"]
        run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder, **self._as)
        if run.returncode != 0:
            raise RuntimeError(f"mariadb-install-db failed:\n{run.stdout}\n{run.stderr}")

    def _wait_until_ready(self) -> None:
        assert self._process is not None, "the server was not started"
        for _ in range(START_SECONDS * 20):
            if self._process.poll() is not None:
                log = (self.folder / "log").read_text(errors="replace")
                raise RuntimeError(f"MariaDB did not start:\n{log}")
            with contextlib.suppress(MySQLError), Outside(self.url):
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        raise RuntimeError("MariaDB did not start in time")


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
    if url := os.environ.get("DBCORE_TEST_MYSQL"):
        return url
    server: Server = request.getfixturevalue("mysql")
    return server.url
