"""A private PgBouncer before a private PostgreSQL: in a temporary folder, on a free port, gone when the tests end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal, Self

import psycopg
import pytest
from postgres_server import Server
from servers import ENCODED, PASSWORD, START_SECONDS, USER, free_port, unprivileged

__all__ = ["ABSENT", "Bouncer", "bouncer", "program"]

ABSENT = "there is no pgbouncer on this machine; Debian has it as a package of that name"

_SETTINGS = """\
[databases]
* = host={socket} port={server} auth_user={user}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = {mode}
auth_type = scram-sha-256
auth_file = {folder}/users
auth_query = SELECT usename, passwd FROM pg_catalog.pg_shadow WHERE usename = $1
admin_users = {user}
default_pool_size = {size}
max_client_conn = 200
logfile = {folder}/log
"""


def program() -> str | None:
    """Return the path of pgbouncer; `None` where there is none."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


class Bouncer:
    """One PgBouncer; a context manager that starts it and takes it away. Roles log in with their own passwords.

    To the server it goes by the unix socket, where no password is asked for. `size` is how many connections to the
    server it keeps for each role and database.
    """

    def __init__(self, server: Server, mode: Literal["session", "transaction"], *, size: int = 3) -> None:
        self.server = server
        self.mode = mode
        self.size = size
        self.port = 0
        self.folder = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{ENCODED}@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Self:
        found = program()
        if found is None:
            raise RuntimeError(ABSENT)
        user = unprivileged("PgBouncer", self.server.user)
        self.folder = Path(tempfile.mkdtemp(prefix="dbcore-pgb-", dir="/tmp"))
        try:
            self.port = free_port()
            settings = _SETTINGS.format(
                socket=self.server.folder,
                server=self.server.port,
                port=self.port,
                user=USER,
                mode=self.mode,
                size=self.size,
                folder=self.folder,
            )
            (self.folder / "settings").write_text(settings)
            (self.folder / "users").write_text(f'"{USER}" "{PASSWORD}"\n')
            if user is not None:
                for path in (self.folder, *self.folder.iterdir()):
                    os.chown(path, user.pw_uid, user.pw_gid)
            self._output = (self.folder / "output").open("ab")
            self._process = subprocess.Popen(
                [found, self.folder / "settings"],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                cwd=self.folder,
                user=None if user is None else user.pw_uid,
                group=None if user is None else user.pw_gid,
                extra_groups=None if user is None else [],
            )
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(START_SECONDS)
        if self._output is not None:
            self._output.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def show(self, what: str) -> list[dict[str, Any]]:
        """Return the rows of `SHOW CLIENTS` and the like, from PgBouncer's own console."""
        with psycopg.connect(self.url.replace("/postgres", "/pgbouncer"), autocommit=True) as console:
            cursor = console.execute(f"SHOW {what}".encode())
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _wait_until_ready(self) -> None:
        assert self._process is not None, "pgbouncer was not started"
        for _ in range(START_SECONDS * 20):
            if self._process.poll() is not None:
                raise RuntimeError(f"PgBouncer did not start:\n{(self.folder / 'output').read_text(errors='replace')}")
            try:
                psycopg.connect(self.url).close()
            except psycopg.OperationalError:
                self._sleep()
            else:
                return
        raise RuntimeError(f"PgBouncer did not start in time:\n{(self.folder / 'output').read_text(errors='replace')}")

    def _sleep(self) -> None:
        assert self._process is not None, "pgbouncer was not started"
        try:
            self._process.wait(0.05)
        except subprocess.TimeoutExpired:
            return


@pytest.fixture(scope="session")
def bouncer(request: pytest.FixtureRequest) -> Iterator[Bouncer]:
    """A PgBouncer in transaction mode in front of the shared server; skips where there is no pgbouncer."""
    if program() is None:
        pytest.skip(ABSENT)
    with Bouncer(request.getfixturevalue("postgres"), "transaction") as running:
        yield running
