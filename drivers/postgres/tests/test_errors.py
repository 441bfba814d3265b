"""Errors are told apart by code, and say nothing that they must not say."""

from __future__ import annotations

import pickle

import pytest
from dbcore_postgres.errors import to_error
from dbcore_postgres.statements import query, script
from postgres_connections import connected, failure

from dbcore.errors import ConflictError, ConstraintError, QueryError, QueryTimeout

TABLE = """
    CREATE TEMP TABLE parents (
        id int PRIMARY KEY, email text CONSTRAINT one_email UNIQUE, age int CONSTRAINT adult CHECK (age > 17),
        name text NOT NULL, span int4range, CONSTRAINT no_overlap EXCLUDE USING gist (span WITH &&));
    CREATE TEMP TABLE children (id int CONSTRAINT has_parent REFERENCES parents);
    INSERT INTO parents VALUES (1, 'secret@example.org', 40, 'a', '[1,5)');
"""


@pytest.mark.parametrize(
    ("sql", "kind", "constraint", "columns"),
    [
        ("INSERT INTO parents VALUES (2, 'secret@example.org', 40, 'a')", "unique", "one_email", ()),
        ("INSERT INTO children VALUES (4711)", "foreign_key", "has_parent", ()),
        ("INSERT INTO parents VALUES (2, 'b', 4711)", "not_null", None, ("name",)),
        ("INSERT INTO parents VALUES (2, 'b', 11, 'a')", "check", "adult", ()),
        ("INSERT INTO parents VALUES (2, 'b', 41, 'a', '[2,3)')", "exclusion", "no_overlap", ()),
    ],
)
async def test_a_constraint_is_told_by_its_kind_and_name(
    postgres_url: str, sql: str, kind: str, constraint: str | None, columns: tuple[str, ...]
) -> None:
    async with connected(postgres_url) as (_, connection):
        await script(connection, TABLE)
        error = await failure(query(connection, sql, ()))
        assert isinstance(error, ConstraintError)
        assert (error.kind, error.constraint, error.columns) == (kind, constraint, columns)
        assert error.table in ("parents", "children")
        for secret in ("secret", "4711", "11", "[2,3)"):
            assert secret not in f"{error!r}{error}{error.args}"
        assert pickle.loads(pickle.dumps(error)).constraint == constraint


@pytest.mark.parametrize(
    ("sql", "kind", "sqlstate"),
    [
        ("SELECT 1/0", QueryError, "22012"),
        ("SELECT 'secret'::int", QueryError, "22P02"),
        ("SELECT nothing", QueryError, "42703"),
        ("SELECT", QueryError, None),
        ("SELEC", QueryError, "42601"),
        ("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$", ConflictError, "40001"),
        ("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$", ConflictError, "40P01"),
        ("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '55P03'; END $$", ConflictError, "55P03"),
        ("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'ZZ999', MESSAGE = 'mine'; END $$", QueryError, "ZZ999"),
    ],
)
async def test_the_class_follows_from_the_code(
    postgres_url: str, sql: str, kind: type[QueryError], sqlstate: str | None
) -> None:
    async with connected(postgres_url) as (_, connection):
        if sqlstate is None:  # a row without columns
            assert (await query(connection, sql, ())).rows == [()]
            return
        error = await failure(query(connection, sql, ()))
        assert (type(error), error.sqlstate, error.retryable) == (kind, sqlstate, kind is ConflictError)
        assert "secret" not in f"{error!r}"


async def test_a_statement_timeout_of_the_server_is_a_timeout(postgres_url: str) -> None:
    async with connected(postgres_url, options="-c statement_timeout=20") as (_, connection):
        error = await failure(query(connection, "SELECT pg_sleep(600)", ()))
        assert isinstance(error, QueryTimeout)
        assert error.sqlstate == "57014"


def test_what_is_not_the_drivers_is_left_alone() -> None:
    assert to_error(KeyError("x")) is None
    assert to_error(ValueError("x")) is None
