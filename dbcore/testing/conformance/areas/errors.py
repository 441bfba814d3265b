"""Errors: classified by code, with the native one as cause, and safe to log."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from dbcore.database import Database
from dbcore.errors import ConstraintError, DbError, QueryError
from dbcore.testing.conformance.checks import check, raises, same, shown
from dbcore.testing.conformance.promise import promise
from dbcore.testing.conformance.subject import Subject

PRIVATE = "a-value-that-is-private"


@dataclass(frozen=True)
class Schema:
    """A table with a constraint of every kind, and the one that it refers to. There is a row with the id 1 in each."""

    database: Database
    owners: str
    things: str


@contextlib.asynccontextmanager
async def schema(subject: Subject) -> AsyncGenerator[Schema, None]:
    """Make both tables."""
    async with subject.open() as database, subject.table(database, "id INTEGER PRIMARY KEY") as owners:
        columns = (
            "id INTEGER PRIMARY KEY, code VARCHAR(100) NOT NULL, owner INTEGER, size INTEGER, "
            f"CONSTRAINT {owners}_size CHECK (size < 10), UNIQUE (code), FOREIGN KEY (owner) REFERENCES {owners} (id)"
        )
        async with subject.table(database, columns) as things:
            await database.execute(f"INSERT INTO {owners} (id) VALUES (1)")
            insert = f"INSERT INTO {things} (id, code, owner, size) VALUES (1, $1, 1, 1)"
            await database.execute(insert, [PRIVATE])
            yield Schema(database, owners, things)


async def violates(
    subject: Subject, kind: str, column: str | None, *statements: tuple[str, list[Any]], on_owners: bool = False
) -> None:
    """Run statements that break a constraint, each of which has to say so."""
    async with schema(subject) as made:
        for sql, params in statements:
            text = sql.format(things=made.things, owners=made.owners)
            with raises(ConstraintError, f"{kind}: {sql}") as caught:
                await made.database.execute(text, params)
            error = caught.error
            same((error.kind, error.driver, error.sql), (kind, subject.vtable.name, text), "kind, driver and text")
            check(not error.retryable, "a violated constraint is not `retryable`, and this one was")
            tables = (made.things, made.owners, None) if on_owners else (made.things, None)
            check(error.table in tables, f"`table` is {made.things!r} or None, and was {error.table!r}")
            if column is not None:
                check(error.columns in ((column,), ()), f"`columns` is ({column!r},) or (), and was {error.columns}")
            check(error.__cause__ is not None, "the native error is the cause, and there was none")
            check(not isinstance(error.__cause__, DbError), f"the cause is the native error, not {error.__cause__!r}")
            check(PRIVATE not in shown(error), f"a ConstraintError shows no value, and this one says: {error}")


INSERT = "INSERT INTO {things} (id, code, owner, size) VALUES"


@promise()
async def a_key_that_is_taken_is_a_constraint_error(subject: Subject) -> None:
    """A violated PRIMARY KEY or UNIQUE is a `ConstraintError` of kind `unique`, without the value."""
    await violates(
        subject,
        "unique",
        None,
        (f"{INSERT} (2, $1, 1, 1)", [PRIVATE]),
        (f"{INSERT} (1, $1, 1, 1)", [PRIVATE + "-too"]),
    )


@promise()
async def a_foreign_key_is_enforced_and_a_constraint_error(subject: Subject) -> None:
    """A violated FOREIGN KEY is a `ConstraintError` of kind `foreign_key`, from either side."""
    await violates(
        subject,
        "foreign_key",
        None,
        (f"{INSERT} (2, $1, $2, 1)", [PRIVATE + "-too", 77]),
        ("UPDATE {things} SET owner = $1", [78]),
        ("DELETE FROM {owners} WHERE id = $1", [1]),
        on_owners=True,
    )


@promise()
async def a_missing_value_is_a_constraint_error(subject: Subject) -> None:
    """NULL in a NOT NULL column is a `ConstraintError` of kind `not_null`."""
    await violates(
        subject, "not_null", "code", (f"{INSERT} (2, $1, 1, 1)", [None]), ("UPDATE {things} SET code = $1", [None])
    )


@promise()
async def a_failed_check_is_a_constraint_error(subject: Subject) -> None:
    """A violated CHECK is a `ConstraintError` of kind `check`."""
    await violates(
        subject,
        "check",
        None,
        (f"{INSERT} (2, $1, 1, $2)", [PRIVATE + "-too", 11]),
        ("UPDATE {things} SET size = $1", [99]),
    )


@promise()
async def a_constraint_is_the_same_error_whatever_met_it(subject: Subject) -> None:
    """`execute_many`, `insert_many`, `batch` and scripts raise the same `ConstraintError`, without a value."""
    async with subject.items() as items:
        database, insert = items.database, items.insert
        ways: dict[str, Any] = {
            "execute_many": lambda: database.execute_many(insert, [(1, PRIVATE), (1, PRIVATE)]),
            "insert_many": lambda: database.insert_many(items.table, ["id", "name"], [(1, PRIVATE), (1, PRIVATE)]),
            "batch": lambda: database.batch([(insert, [1, PRIVATE]), (insert, [1, PRIVATE])]),
        }
        if subject.vtable.script is not None:
            one = f"INSERT INTO {items.table} (id, name) VALUES (1, '{PRIVATE}');"
            ways["execute_script"] = lambda: database.execute_script(one + one)
        for way, work in ways.items():
            with raises(ConstraintError, f"{way} with a key that is taken") as caught:
                await work()
            same((caught.error.kind, caught.error.driver), ("unique", subject.vtable.name), f"kind and driver by {way}")
            check(PRIVATE not in shown(caught.error), f"{way}: the error shows no value, and says: {caught.error}")


@promise()
async def a_wrong_statement_is_a_query_error_with_its_text(subject: Subject) -> None:
    """A statement that the database refuses is a plain `QueryError`, with text, driver and the native error."""
    async with subject.items() as items:
        for sql in (
            f"SELECT * FROM {subject.unique()}",
            "SELEKT",
            "SELECT no_such_function_anywhere(1)",
            f"SELECT no_such_column FROM {items.table}",
        ):
            with raises(QueryError, sql) as caught:
                await items.database.fetch_all(sql)
            error = caught.error
            check(type(error) is QueryError, f"{sql}: a plain QueryError was promised, not {type(error).__name__}")
            same((error.sql, error.driver), (sql, subject.vtable.name), "text and driver of the error")
            check(not error.retryable, "a wrong statement is not `retryable`, and this one was")
            check(str(error), f"the error of {sql} says what is wrong, and its text is empty")
            check(error.__cause__ is not None, "the native error is the cause, and there was none")
            check(not isinstance(error.__cause__, DbError), f"the cause is the native error, not {error.__cause__!r}")


@promise()
async def the_parameters_of_a_failed_statement_are_not_shown(subject: Subject) -> None:
    """No value that went along with a statement is in the text of its error."""
    async with subject.items() as items:
        nowhere = subject.unique()
        for sql, params in (
            (f"INSERT INTO {nowhere} (a) VALUES ($1)", [PRIVATE]),
            (f"INSERT INTO {nowhere} (a) VALUES (:value)", {"value": PRIVATE}),
            (f"INSERT INTO {items.table} (id, name) VALUES ($1, $2, $3)", [1, PRIVATE, PRIVATE]),
            (f"INSERT INTO {items.table} (id, name) VALUES ($2, $1)", [1, PRIVATE]),
        ):
            with raises(DbError, sql) as caught:
                await items.database.execute(sql, params)
            check(PRIVATE not in shown(caught.error), f"the error shows no parameter, and says: {caught.error}")


@promise()
async def errors_of_a_database_survive_a_pickle(subject: Subject) -> None:
    """An error can be sent to another process, with all that it says."""
    async with subject.items() as items:
        await items.database.execute(items.insert, [1, "a"])
        for sql, params in ((items.insert, [1, "b"]), ("SELEKT 1", [])):
            with raises(QueryError, sql) as caught:
                await items.database.execute(sql, params)
            twin: QueryError = pickle.loads(pickle.dumps(caught.error))  # noqa: S301  # we made it on the line before
            same((type(twin), str(twin)), (type(caught.error), str(caught.error)), "type and text of an error")
            same(vars(twin), vars(caught.error), "fields of an error")
