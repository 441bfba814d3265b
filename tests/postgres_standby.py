"""A streaming standby of a private PostgreSQL, made by `pg_basebackup`; it can be promoted."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
from postgres_server import Server, programs
from servers import START_SECONDS, USER

__all__ = ["Standby", "without_standby"]


def without_standby() -> str | None:
    """Say why there can be no standby on this machine; `None` if there can."""
    if (programs() / "pg_basebackup").is_file():
        return None
    return "this PostgreSQL came without pg_basebackup"


class Standby(Server):
    """A copy of a running server that follows it. `promote` makes it a server of its own."""

    def __init__(self, primary: Server) -> None:
        super().__init__(primary.settings)
        self._primary = primary

    def promote(self) -> None:
        """Make it take writes, and return when it does."""
        with psycopg.connect(self.socket_url, autocommit=True) as admin:
            admin.execute("SELECT pg_promote(true)")

    def wait_until_synchronous(self) -> None:
        """Have the primary acknowledge no commit that is not here as well, and return when that holds."""
        self._primary.set(synchronous_standby_names="*")
        with psycopg.connect(self._primary.socket_url, autocommit=True) as admin:
            for _ in range(START_SECONDS * 50):
                if admin.execute("SELECT sync_state FROM pg_stat_replication").fetchall() == [("sync",)]:
                    return
                time.sleep(0.02)
        raise RuntimeError(f"the standby does not follow:\n{(self.folder / 'log').read_text(errors='replace')}")

    def _make_data(self) -> None:
        where: list[str | Path] = ["-h", self._primary.folder, "-p", str(self._primary.port), "-U", USER]
        how = ["--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream", "--no-sync"]
        self._run(self._bin / "pg_basebackup", *where, *how, "-D", self.folder / "data")
