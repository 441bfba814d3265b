"""MySQL among the databases of the face: where its database is, what it says differently, and what it cannot do."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from asyncmy.errors import MySQLError
from mysql_server import Outside

if TYPE_CHECKING:
    from databases import Ask, Place

__all__ = ["BEYOND_MYSQL", "fresh_database", "on_mysql"]

BEYOND_MYSQL: Mapping[str, str] = {
    "test_a_batch_whose_commit_fails_blames_no_statement": ("MySQL has no constraints that are checked at the COMMIT"),
    "test_execute_counts_what_a_statement_that_begins_with_with_changed": (
        "MySQL has no WITH before INSERT; there it is written INSERT ... WITH ... SELECT"
    ),
}
"""Tests of the face that MySQL cannot pass, with the reason."""


@contextlib.contextmanager
def fresh_database(server: str) -> Generator[tuple[str, Outside], None, None]:
    """Make a database and drop it again; give its URL and somebody who sees all connections."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with Outside(server) as admin:
        admin(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        try:
            yield urlsplit(server)._replace(path=f"/{name}").geturl(), admin
        finally:
            for (number,) in admin(f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"):
                with contextlib.suppress(MySQLError):  # it may be gone by itself
                    admin(f"KILL {number}")
            admin(f"DROP DATABASE {name}")


def on_mysql(request: pytest.FixtureRequest, make: type[Place]) -> Generator[Place, None, None]:
    server: str = request.getfixturevalue("mysql_url")
    with fresh_database(server) as (bare, admin):
        parts = urlsplit(bare)
        name = parts.path.lstrip("/")
        ((version,),) = admin("SELECT VERSION()")
        # Both stop a WITH RECURSIVE after 1,000 rounds, if they are not told otherwise.
        rounds = "max_recursive_iterations" if "MariaDB" in version else "cte_max_recursion_depth"
        url = f"{bare}?variables.{rounds}=4294967295"

        @contextlib.contextmanager
        def outside() -> Generator[Ask, None, None]:
            with Outside(bare) as ask:
                yield ask

        def seen() -> int:
            ((count,),) = admin(f"SELECT count(*) FROM information_schema.processlist WHERE db = '{name}'")
            return int(count)

        def changed(*, password: str | None = None, path: str | None = None, port: int | None = None) -> str:
            access = f"{parts.username}:{password or parts.password}"
            return parts._replace(
                netloc=f"{access}@{parts.hostname}:{port or parts.port}", path=path or parts.path
            ).geturl()

        yield make(
            driver="mysql",
            package="dbcore_mysql",
            library="asyncmy",
            url=url,
            endless="SELECT SLEEP(600)",
            # The gap behind the last row too: nobody can insert there.
            lock=("BEGIN", "SELECT id FROM items FOR UPDATE"),
            impatient={"url": f"{url}&variables.innodb_lock_wait_timeout=1"},
            isolations=frozenset({"read committed", "repeatable read", "serializable"}),
            errors_doom=False,
            names_constraints=True,
            names_tables=False,
            text="CHAR",
            quote="`",
            outside=outside,
            seen=seen,
            unreachable={
                "wrong password": (changed(password="wr0ng-secret"), "Access denied"),
                "no such database": (changed(path="/nowhere"), "nowhere"),
                "nobody listens": (changed(port=1), "refused"),
            },
            secret=parts.password,
        )
