"""What the private servers of the tests share: a process, with its data in a temporary folder, on a free port.

`postgres_server` and `mysql_server` say what is particular to theirs, and offer the fixtures.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, Any, ClassVar, Self

import pytest

__all__ = [
    "ENCODED",
    "PASSWORD",
    "START_SECONDS",
    "USER",
    "PrivateServer",
    "ServerMissing",
    "free_port",
    "unprivileged",
    "url_of",
]

USER = "dbcore"
PASSWORD = "p@ss:w/rd"
ENCODED = "p%40ss%3Aw%2Frd"
"""The password as a URL has it."""
START_SECONDS = 30


class ServerMissing(RuntimeError):
    """This machine has no such server, or nobody who could run it."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def unprivileged(program: str, usual: str) -> pwd.struct_passwd | None:
    """Return who runs a program that refuses to run as root: its usual user, if there is one. `None`: the present."""
    if os.geteuid() != 0:
        return None
    for name in (usual, "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServerMissing(f"root cannot run {program}, and there is no user `{usual}` or `nobody`")


class PrivateServer(ABC):
    """One server in a folder of its own; a context manager that starts it and takes all of it away."""

    name: ClassVar[str]
    """What errors call it."""
    user: ClassVar[str]
    """Who usually runs it."""
    prefix: ClassVar[str]
    """How the name of its folder begins. Short: the path of a unix socket has room for about 100 characters."""
    farewell: ClassVar[signal.Signals]
    """The signal after which it tells its clients, closes their connections, and ends."""

    def __init__(self) -> None:
        self.folder = Path()
        self.port = 0
        self._user = unprivileged(self.name, self.user)
        self._as: dict[str, Any] = {}
        if self._user is not None:
            self._as = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it listens on 127.0.0.1, with a password."""

    @abstractmethod
    def _prepare(self) -> None:
        """Make its data."""

    @abstractmethod
    def _command(self) -> list[str | Path]:
        """Return the program and its arguments: it stays in the foreground, and listens on `port`."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether it takes connections."""

    def __enter__(self) -> Self:
        # In /tmp, which another user can reach, and whose name is short.
        self.folder = Path(tempfile.mkdtemp(prefix=self.prefix, dir="/tmp"))
        try:
            self._give(self.folder)
            self._prepare()
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
        self._log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen[bytes](
            self._command(),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd=self.folder,
            **self._as,
        )
        self._wait_until_ready(self._process)

    def stop(self) -> None:
        """Stop the server as an administrator would: open connections are told and closed."""
        self._end(self.farewell)

    def kill(self) -> None:
        """Kill the server and all its processes at once (-9); nobody is told."""
        if self._process is not None and self._process.poll() is None:
            _send(signal.SIGKILL, *_children(self._process.pid))
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the server and all its processes: connections stay open and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: int) -> None:
        assert self._process is not None, "the server is not running"
        _send(number, self._process.pid, *_children(self._process.pid))

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
            process.wait(START_SECONDS)
        if self._log is not None:
            self._log.close()
            self._log = None

    def _give(self, path: Path) -> None:
        """Make a path belong to who runs the server."""
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _run(self, program: Path, *arguments: str | Path) -> None:
        """Run one of the server's programs as the user whom the server belongs to."""
        run = self._ran(program, *arguments)
        if run.returncode != 0:
            raise RuntimeError(f"{program.name} failed:\n{run.stdout}\n{run.stderr}")

    def _ran(self, program: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [program, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder, **self._as)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        for _ in range(START_SECONDS * 20):
            if process.poll() is not None:
                log = (self.folder / "log").read_text(errors="replace")
                raise RuntimeError(f"{self.name} did not start:\n{log}")
            if self._is_ready():
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        raise RuntimeError(f"{self.name} did not start in time")


def _send(number: int, *pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        text = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(child) for child in text.split()]


def url_of(request: pytest.FixtureRequest, fixture: str, variable: str) -> str:
    """Return the URL in an environment variable; without one, that of the server of a fixture, which starts it."""
    if url := os.environ.get(variable):
        return url
    server: PrivateServer = request.getfixturevalue(fixture)
    return server.url
