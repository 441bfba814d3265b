"""Errors: classified by code, with the native one as cause, safe to log, and fit for a pickle."""

from __future__ import annotations

import asyncio
import pickle
import traceback
from typing import Any

import pytest
from databases import Place

import dbcore as db
from dbcore import errors

SECRET = "s3cret-value"
INSERT = "INSERT INTO items VALUES ($1, $2)"

SCHEMA = """
    CREATE TABLE owners (id INTEGER PRIMARY KEY);
    CREATE TABLE things (
        id INTEGER PRIMARY KEY,
        code TEXT NOT NULL,
        owner INTEGER REFERENCES owners (id),
        size INTEGER,
        UNIQUE (code),
        CONSTRAINT size_is_small CHECK (size < 10)
    );
    INSERT INTO owners VALUES (1);
    INSERT INTO things VALUES (1, 's3cret-value', 1, 1);
"""

VIOLATIONS: list[tuple[str, list[Any], str, str | None, tuple[str, ...]]] = [
    # sql, parameters, kind, table, columns: the last two as far as every database tells them
    ("INSERT INTO things VALUES (2, $1, 1, 1)", [SECRET], "unique", "things", ("code",)),
    ("INSERT INTO things VALUES (1, $1, 1, 1)", [SECRET + "2"], "unique", "things", ("id",)),
    ("INSERT INTO things VALUES (2, $1, $2, 1)", [SECRET + "3", 77], "foreign_key", "things", ()),
    ("INSERT INTO things VALUES (2, $1, 1, 1)", [None], "not_null", "things", ("code",)),
    ("INSERT INTO things VALUES (2, $1, 1, $2)", [SECRET + "4", 11], "check", "things", ()),
    ("UPDATE things SET owner = $1", [78], "foreign_key", "things", ()),
    ("DELETE FROM owners WHERE id = $1", [1], "foreign_key", "things", ()),
]


def shown(error: BaseException) -> str:
    """All of an error that may land in a log, its causes apart."""
    return f"{error!s} {error!r} {error.args} {getattr(error, '__notes__', '')}"


# -- constraints -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sql", "params", "kind", "table", "columns"), VIOLATIONS)
async def test_a_violated_constraint_says_which(
    place: Place, sql: str, params: list[Any], kind: str, table: str | None, columns: tuple[str, ...]
) -> None:
    async with place.open() as database:
        await database.execute_script(SCHEMA)
        with pytest.raises(db.ConstraintError) as caught:
            await database.execute(sql, params)
    error = caught.value
    assert error.kind == kind
    assert error.driver == place.driver
    assert error.sql == sql
    assert not error.retryable
    assert error.table in (table, None)
    assert error.columns in (columns, ())
    assert error.constraint is not None or error.columns or kind == "foreign_key"
    assert place.names_constraints is (error.constraint is not None) or kind in ("check", "not_null")
    assert error.__cause__ is not None
    assert type(error.__cause__).__module__.split(".")[0] in (place.library, "sqlite3")
    assert SECRET not in shown(error)
    assert "77" not in shown(error)
    assert "78" not in shown(error)


async def test_a_named_check_is_named(place: Place) -> None:
    async with place.open() as database:
        await database.execute_script(SCHEMA)
        with pytest.raises(db.ConstraintError, match="size_is_small") as caught:
            await database.execute("UPDATE things SET size = 99")
    assert caught.value.constraint == "size_is_small"


async def test_a_column_that_may_not_be_null_is_named(place: Place) -> None:
    async with place.open() as database:
        await database.execute_script(SCHEMA)
        with pytest.raises(db.ConstraintError) as caught:
            await database.execute("UPDATE things SET code = $1", [None])
    assert caught.value.columns == ("code",)
    assert caught.value.table == ("things" if place.names_tables else None)


async def test_several_columns_of_a_unique_constraint(place: Place) -> None:
    async with place.open() as database:
        await database.execute("CREATE TABLE pairs (a INTEGER, b INTEGER, UNIQUE (a, b))")
        await database.execute("INSERT INTO pairs VALUES (1, 2)")
        with pytest.raises(db.ConstraintError) as caught:
            await database.execute("INSERT INTO pairs VALUES (1, 2)")
    assert caught.value.kind == "unique"
    assert caught.value.table == ("pairs" if place.names_tables else None)
    assert caught.value.columns in (("a", "b"), ())


@pytest.mark.parametrize("method", ["execute_many", "insert_many", "batch", "execute_script"])
async def test_a_constraint_is_the_same_error_whatever_met_it(place: Place, method: str) -> None:
    async with place.items() as database:
        with pytest.raises(db.ConstraintError) as caught:
            match method:
                case "execute_many":
                    await database.execute_many(INSERT, [(1, SECRET), (1, SECRET)])
                case "insert_many":
                    await database.insert_many("items", ["id", "name"], [(1, SECRET), (1, SECRET)])
                case "batch":
                    await database.batch([(INSERT, [1, SECRET]), (INSERT, [1, SECRET])])
                case _:
                    insert = "INSERT INTO items VALUES (1, 's3cret-value');"
                    await database.execute_script(insert + insert)
    assert caught.value.kind == "unique"
    assert caught.value.table == ("items" if place.names_tables else None)
    assert caught.value.driver == place.driver
    assert SECRET not in shown(caught.value)
    if method == "insert_many" and place.driver in ("postgres", "asyncpg"):
        assert "row 2: unique violation" in str(caught.value)


# -- other kinds -------------------------------------------------------------------------------------------------------


async def test_a_lock_that_another_holds_is_a_conflict(place: Place) -> None:
    async with place.items(**place.impatient) as database:
        with place.outside() as ask:
            for sql in place.lock:
                ask(sql)
            with pytest.raises(db.ConflictError) as caught:
                await database.execute(INSERT, [1, SECRET])
            ask("ROLLBACK")
        assert caught.value.retryable
        assert caught.value.sql == INSERT
        assert caught.value.driver == place.driver
        assert SECRET not in shown(caught.value)
        assert await database.execute(INSERT, [1, "a"]) == 1


@pytest.mark.parametrize(
    "sql", ["SELECT * FROM nowhere", "SELEKT", "SELECT no_such_function(1)", "SELECT nothing FROM items"]
)
async def test_a_wrong_statement_is_a_query_error_with_its_text(place: Place, sql: str) -> None:
    async with place.items() as database:
        with pytest.raises(db.QueryError) as caught:
            await database.fetch_all(sql)
    assert type(caught.value) is db.QueryError
    assert caught.value.sql == sql
    assert caught.value.driver == place.driver
    assert not caught.value.retryable
    assert (caught.value.sqlstate is not None) == (place.driver != "sqlite")
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("sql", "params"),
    [
        ("SELECT CAST($1 AS INTEGER) + 1 FROM nowhere", [SECRET]),
        ("SELECT :value FROM nowhere", {"value": SECRET}),
        ("INSERT INTO items VALUES ($1, $2, $3)", [1, SECRET, SECRET]),
        ("INSERT INTO items (id, name) VALUES ($2, $1)", [1, SECRET]),
        ("SELECT json_object($1)", [SECRET]),
    ],
)
async def test_the_parameters_of_a_failed_statement_are_not_shown(place: Place, sql: str, params: Any) -> None:
    async with place.items() as database:
        with pytest.raises(db.DbError) as caught:
            await database.execute(sql, params)
    assert SECRET not in shown(caught.value)
    own_lines = [line for line in traceback.format_exception_only(caught.value) if SECRET in line]
    assert own_lines == []


async def test_an_error_keeps_nothing_alive_but_its_cause(place: Place) -> None:
    """What is raised to the user is no longer the native error, so that an `except` for one library is never needed."""
    async with place.open() as database:
        with pytest.raises(db.QueryError) as caught:
            await database.execute("SELEKT 1")
    assert isinstance(caught.value.__cause__, Exception)
    assert not isinstance(caught.value.__cause__, db.DbError)


async def test_a_task_group_gets_the_same_errors(place: Place) -> None:
    async with place.items() as database:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(database.execute("SELEKT 1"))
        assert isinstance(caught.value.exceptions[0], db.QueryError)
        assert await database.fetch_value("SELECT 1") == 1


# -- pickles -----------------------------------------------------------------------------------------------------------

KINDS = [kind for name in errors.__all__ if isinstance(kind := getattr(errors, name), type)]


def example(kind: type[db.DbError]) -> db.DbError:
    """An error with every field that its kind has."""
    stats = db.Stats(size=1, idle=0, in_use=1, connecting=0, resetting=0, closing=0, waiting=2, min_size=0, max_size=1)
    holder = db.Holder("task", "file.py:1 in f", 1.5, True)  # noqa: FBT003 (plain values)
    common: dict[str, Any] = {"driver": "some"}
    if kind is db.ConfigError:
        return db.ConfigError(problems=[db.Problem("db.toml: a", "wrong", "Mend it.")], driver="some")
    if kind is db.PoolTimeout:
        return db.PoolTimeout("late", reason="writers", stats=stats, holders=[holder], **common)
    if issubclass(kind, db.ConstraintError):
        fields: dict[str, Any] = {
            "kind": "unique",
            "constraint": "u",
            "table": "t",
            "columns": ["a", "b"],
            "sqlstate": "23505",
        }
        return kind("taken", sql="INSERT", **common, **fields)
    common |= {"retryable": True, "outcome_unknown": True, "sqlstate": "40001"}
    if issubclass(kind, db.QueryError):
        return kind("failed", sql="SELECT $1", **common)
    return kind("failed", **common)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if issubclass(kind, db.DbError)])
def test_every_error_survives_a_pickle_with_its_fields(kind: type[db.DbError]) -> None:
    error = example(kind)
    error.add_note("a note")
    error.__cause__ = ZeroDivisionError()
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is kind
    assert (str(twin), repr(twin), twin.args) == (str(error), repr(error), error.args)
    assert vars(twin) == vars(error)


async def test_errors_from_a_database_survive_a_pickle(place: Place) -> None:
    raised: list[db.DbError] = []
    async with place.items(pool={"max_size": 1, "checkout_timeout": 0.05}) as database:
        await database.execute(INSERT, [1, "a"])
        for sql in ("SELEKT 1", "INSERT INTO items VALUES (1, 'b')"):
            with pytest.raises(db.DbError) as caught:
                await database.execute(sql)
            raised.append(caught.value)
        with pytest.raises(db.DecodeError) as decode:
            await database.fetch_value("SELECT name FROM items", into=int)
        async with database.connection():
            with pytest.raises(db.PoolDeadlock) as deadlock:
                await database.execute("SELECT 1")
            with pytest.raises(db.PoolTimeout) as timeout:
                await asyncio.create_task(database.execute("SELECT 1"))
        raised += [decode.value, deadlock.value, timeout.value]
        assert timeout.value.holders[0].site
        assert timeout.value.stats is not None
    for error in raised:
        twin = pickle.loads(pickle.dumps(error))
        assert (type(twin), str(twin), vars(twin)) == (type(error), str(error), vars(error))
        assert twin.driver == place.driver


# -- the tree ----------------------------------------------------------------------------------------------------------

TREE: dict[type[BaseException], list[type[BaseException]]] = {
    db.DbError: [
        db.ConfigError, db.UsageError, db.UnsupportedError, db.DbConnectionError, db.PoolError, db.QueryError,
    ],
    db.PoolError: [db.PoolTimeout, db.PoolExhausted, db.PoolDeadlock, db.PoolClosed],
    db.QueryError: [
        db.QueryTimeout, db.ConstraintError, db.ConflictError, db.TransactionError, db.NotFound, db.TooManyRows,
        db.DecodeError,
    ],
    ValueError: [db.ConfigError],
    RuntimeError: [db.UsageError],
    ConnectionError: [db.DbConnectionError],
    TimeoutError: [db.PoolTimeout, db.QueryTimeout],
}  # fmt: skip


def test_the_tree_of_errors() -> None:
    """Laws: D11."""
    for base, kinds in TREE.items():
        for kind in kinds:
            assert issubclass(kind, base), (kind, base)
