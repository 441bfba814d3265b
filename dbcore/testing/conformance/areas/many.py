"""Several at once, all or nothing: `execute_many`, `batch`, `insert_many`, scripts; and streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from dbcore.connection import Connection
from dbcore.errors import ConstraintError, DbError, QueryError, TransactionError
from dbcore.testing.conformance.checks import Mine, check, raises, same
from dbcore.testing.conformance.promise import promise
from dbcore.testing.conformance.subject import Items, Subject

THOUSAND = [(number, f"name {number}") for number in range(1000)]
BROKEN = [*THOUSAND[:500], (0, "a second zero"), *THOUSAND[501:]]
"""Row 500 of 1,000 fails: its key is taken."""

COLUMNS = ["id", "name"]


def lazily(rows: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The rows as a generator."""
    yield from rows


async def slowly(rows: list[tuple[int, str]]) -> AsyncIterator[tuple[int, str]]:
    """The rows as an asynchronous generator."""
    for row in rows:
        yield row


async def _nothing_stored(items: Items, connection: Connection[Any], after: str) -> None:
    check(not connection.in_transaction, f"no transaction is open after {after}, and one was")
    same(await connection.fetch_value(items.count), 0, f"rows in the table after {after}")


# -- execute_many ------------------------------------------------------------------------------------------------------


@promise()
async def execute_many_runs_for_each_row_and_counts_all(subject: Subject) -> None:
    """`execute_many` runs its statement for each row and returns the rows affected in total."""
    async with subject.items() as items:
        database, update = items.database, f"UPDATE {items.table} SET name = $2 WHERE id < $1"
        same(await database.execute_many(items.insert, THOUSAND), 1000, "rows of 1,000 INSERTs")
        same(await database.execute_many(update, [(3, "x"), (5, "y")]), 8, "rows of an UPDATE of 3 and one of 5")
        same(await database.execute_many(items.insert, []), 0, "rows of no INSERT")
        same(
            await database.execute_many(items.insert, ((n, "x") for n in range(2000, 2010))), 10, "rows of a generator"
        )
        named = [{"id": 5000, "name": "a"}, {"name": "b", "id": 5001}]
        insert = f"INSERT INTO {items.table} (name, id) VALUES (:name, :id)"
        same(await database.execute_many(insert, named), 2, "rows of INSERTs by name")
        same(await database.fetch_value(f"SELECT name FROM {items.table} WHERE id = 5001"), "b", "the name of the last")


@promise()
async def execute_many_is_all_or_nothing(subject: Subject) -> None:
    """Where one of 1,000 rows fails, none is stored, and the connection is usable."""
    async with subject.items() as items, items.database.connection() as connection:
        with raises(ConstraintError, "execute_many with a key that is taken") as caught:
            await connection.execute_many(items.insert, BROKEN)
        same(caught.error.sql, items.insert, "the text that the error names")
        await _nothing_stored(items, connection, "execute_many that failed")
        same(await connection.execute_many(items.insert, THOUSAND), 1000, "rows of 1,000 INSERTs after that")


@promise()
async def a_failed_execute_many_dooms_its_transaction(subject: Subject) -> None:
    """Inside of a transaction `execute_many` that failed cannot be committed, also where its error is caught."""
    async with subject.items() as items:
        with raises(TransactionError, "a block in which execute_many failed") as caught:
            async with items.database.transaction() as tx:
                await tx.execute(items.insert, [5000, "before"])
                with raises(ConstraintError, "execute_many with a key that is taken"):
                    await tx.execute_many(items.insert, BROKEN)
        check(
            isinstance(caught.error.__cause__, ConstraintError), "its cause is the error of execute_many, and was not"
        )
        same(await items.ids(), [], "ids in the table")


@promise(needs=("savepoints",))
async def a_savepoint_confines_a_failed_execute_many(subject: Subject) -> None:
    """In a nested transaction `execute_many` that failed costs that one alone."""
    async with subject.items() as items:
        async with items.database.transaction() as tx:
            await tx.execute(items.insert, [5000, "before"])
            with raises(ConstraintError, "execute_many with a key that is taken"):
                async with tx.transaction():
                    await tx.execute_many(items.insert, BROKEN)
            await tx.execute(items.insert, [5001, "after"])
        same(await items.ids(), [5000, 5001], "ids in the table")


# -- batch -------------------------------------------------------------------------------------------------------------


@promise()
async def batch_gives_a_result_for_each_statement(subject: Subject) -> None:
    """`batch` returns count, columns and rows of each of its statements, in their order."""
    async with subject.items() as items:
        table = items.table
        inserted, selected, updated = await items.database.batch(
            [
                (f"INSERT INTO {table} (id, name) VALUES ($1, $2), (2, 'b')", [1, "a"]),
                (f"SELECT id, name FROM {table} WHERE id >= :low ORDER BY id", {"low": 1}),
                (f"UPDATE {table} SET name = $1 WHERE id = $2", ["c", 2]),
            ]
        )
        same((inserted.count, selected.count, updated.count), (2, 2, 1), "counts of INSERT, SELECT and UPDATE")
        same(selected.columns, ("id", "name"), "columns of the SELECT")
        same([tuple(row) for row in selected.rows], [(1, "a"), (2, "b")], "rows of the SELECT")
        same(await items.database.batch([]), [], "results of an empty batch")


@promise()
async def batch_is_all_or_nothing(subject: Subject) -> None:
    """Where one statement of a batch fails, nothing of it is stored; inside of a transaction it dooms that one."""
    async with subject.items() as items, items.database.connection() as connection:
        statements: list[tuple[str, list[Any]]] = [(items.insert, [number, "a"]) for number in (1, 2, 1, 3)]
        with raises(ConstraintError, "a batch with a key that is taken"):
            await connection.batch(statements)
        await _nothing_stored(items, connection, "a batch that failed")
        with raises(TransactionError, "a block in which a batch failed"):
            async with connection.transaction() as tx:
                with raises(ConstraintError, "a batch with a key that is taken"):
                    await tx.batch(statements)
        await _nothing_stored(items, connection, "a transaction in which a batch failed")


@promise()
async def a_batch_that_fails_late_stores_nothing(subject: Subject) -> None:
    """A statement of a batch that cannot even be read fails all of it, and the error has its text."""
    async with subject.items() as items, items.database.connection() as connection:
        with raises(QueryError, "a batch with a wrong statement") as caught:
            await connection.batch([(items.insert, [1, "a"]), ("SELEKT 1", ()), (items.insert, [2, "b"])])
        same(caught.error.sql, "SELEKT 1", "the text that the error names")
        await _nothing_stored(items, connection, "a batch that failed")


# -- scripts -----------------------------------------------------------------------------------------------------------


@promise(needs=("script",))
async def a_script_runs_every_statement(subject: Subject) -> None:
    """`execute_script` runs the statements of a text, whatever semicolons its literals and comments hold."""
    async with subject.items() as items:
        await items.database.execute_script(f"""
            INSERT INTO {items.table} (id, name) VALUES (1, 'a; b'); -- one; two
            INSERT INTO {items.table} (id, name) VALUES (2, '$1 :x ? %s');
        """)
        names = await items.database.fetch_all(f"SELECT name FROM {items.table} ORDER BY id", into=str)
        same(names, ["a; b", "$1 :x ? %s"], "names that a script wrote")


@promise(needs=("script",))
async def a_script_is_all_or_nothing(subject: Subject) -> None:
    """Where one statement of a script fails, nothing of it is stored."""
    async with subject.items() as items, items.database.connection() as connection:
        insert = f"INSERT INTO {items.table} (id, name) VALUES"
        with raises(ConstraintError, "a script with a key that is taken"):
            await connection.execute_script(f"{insert} (1, 'a'); {insert} (1, 'b'); {insert} (2, 'c')")
        await _nothing_stored(items, connection, "a script that failed")


@promise(needs=("script",))
async def a_script_with_transactions_of_its_own_keeps_what_they_committed(subject: Subject) -> None:
    """A script may say BEGIN and COMMIT itself; what it committed before it failed is kept."""
    async with subject.items() as items:
        insert = f"INSERT INTO {items.table} (id, name) VALUES"
        script = f"BEGIN; {insert} (1, 'a'); COMMIT; BEGIN; {insert} (2, 'b'); {insert} (1, 'c'); COMMIT;"
        with raises(ConstraintError, "a script with a key that is taken"):
            await items.database.execute_script(script)
        same(await items.ids(), [1], "ids in the table")


@promise(needs=("script",))
async def a_script_inside_of_a_transaction_is_part_of_it(subject: Subject) -> None:
    """What a script did inside of a transaction is undone with it."""
    async with subject.items() as items:
        insert = f"INSERT INTO {items.table} (id, name) VALUES"
        with raises(Mine, "a block that raises"):
            async with items.database.transaction() as tx:
                await tx.execute_script(f"{insert} (1, 'a'); {insert} (2, 'b')")
                raise Mine
        same(await items.ids(), [], "ids in the table")


# -- insert_many -------------------------------------------------------------------------------------------------------


@promise()
async def insert_many_loads_rows_and_returns_their_number(subject: Subject) -> None:
    """`insert_many` stores rows of a list, a generator or an asynchronous one, in the columns it was given."""
    async with subject.items() as items:
        database, table = items.database, items.table
        same(await database.insert_many(table, COLUMNS, THOUSAND), 1000, "rows of a list")
        found = await database.fetch_all(f"SELECT id, name FROM {table} ORDER BY id")
        check([tuple(row) for row in found] == THOUSAND, "1,000 rows are read as they were written, and were not")
        same(await database.insert_many(table, COLUMNS, ((n, "x") for n in range(1000, 1010))), 10, "of a generator")
        same(await database.insert_many(table, COLUMNS, slowly([(1010, "y")])), 1, "of an asynchronous one")
        same(await database.insert_many((table,), ("name", "id"), [("z", 1011)]), 1, "of columns in another order")
        same(await database.insert_many(table, COLUMNS, []), 0, "of an empty list")
        same(await database.fetch_value(items.count), 1012, "rows in the table")


@promise()
async def insert_many_is_all_or_nothing(subject: Subject) -> None:
    """Where one row fails, none is stored; inside of a transaction it dooms that one."""
    async with subject.items() as items, items.database.connection() as connection:
        for rows in (BROKEN, lazily(BROKEN), slowly(BROKEN)):
            with raises(ConstraintError, "insert_many with a key that is taken"):
                await connection.insert_many(items.table, COLUMNS, rows)
            await _nothing_stored(items, connection, "insert_many that failed")
        with raises(TransactionError, "a block in which insert_many failed"):
            async with connection.transaction() as tx:
                with raises(ConstraintError, "insert_many with a key that is taken"):
                    await tx.insert_many(items.table, COLUMNS, BROKEN)
        await _nothing_stored(items, connection, "a transaction in which insert_many failed")


@promise()
async def insert_many_stores_nothing_when_its_source_fails(subject: Subject) -> None:
    """An exception of the iterable comes out as it is, and no row is stored."""

    def failing() -> Iterator[tuple[int, str]]:
        yield from THOUSAND
        raise Mine

    async def failing_slowly() -> AsyncIterator[tuple[int, str]]:
        for row in THOUSAND:
            yield row
        raise Mine

    async with subject.items() as items, items.database.connection() as connection:
        for rows in (failing(), failing_slowly()):
            with raises(Mine, "insert_many with a source that raises"):
                await connection.insert_many(items.table, COLUMNS, rows)
            await _nothing_stored(items, connection, "insert_many whose source failed")


@promise()
async def insert_many_inside_of_a_transaction_is_part_of_it(subject: Subject) -> None:
    """What `insert_many` did inside of a transaction is undone with it."""
    async with subject.items() as items:
        with raises(Mine, "a block that raises"):
            async with items.database.transaction() as tx:
                same(await tx.insert_many(items.table, COLUMNS, THOUSAND), 1000, "rows of insert_many")
                raise Mine
        same(await items.ids(), [], "ids in the table")


@promise()
async def insert_many_refuses_a_row_of_another_length(subject: Subject) -> None:
    """A row with too few or too many values is a `QueryError`, and no row is stored."""
    async with subject.items() as items, items.database.connection() as connection:
        for row in ((2,), (2, "b", "c"), ()):
            with raises(QueryError, f"insert_many with the row {row} for two columns"):
                await connection.insert_many(items.table, COLUMNS, [(1, "a"), row])
            await _nothing_stored(items, connection, "insert_many that was refused")


@promise()
async def insert_many_takes_names_literally(subject: Subject) -> None:
    """Names of table and columns are identifiers, with whatever is in them, and never SQL."""
    mark = subject.quote
    quoted = f"{mark}{subject.unique()} {mark * 2}odd{mark * 2}; --{mark}"
    name = quoted[1:-1].replace(mark * 2, mark)
    async with subject.open() as database:
        await database.execute(f"CREATE TABLE {quoted} ({mark}a b{mark} INTEGER, {mark}Select{mark} VARCHAR(10))")
        try:
            same(await database.insert_many(name, ["a b", "Select"], [(1, "x")]), 1, "rows of insert_many")
            same(tuple(await database.fetch_one(f"SELECT * FROM {quoted}")), (1, "x"), "the row")
        finally:
            await database.execute(f"DROP TABLE {quoted}")


@promise()
async def several_at_once_report_an_error_of_the_database(subject: Subject) -> None:
    """A table that is not there is a `QueryError` of `execute_many`, `batch` and `insert_many` too."""
    nowhere = subject.unique()
    insert = f"INSERT INTO {nowhere} (id) VALUES ($1)"
    async with subject.open(pool={"max_size": 1}) as database, database.connection() as connection:
        ways: dict[str, Callable[[], Awaitable[object]]] = {
            "execute_many": lambda: connection.execute_many(insert, [(1,)]),
            "batch": lambda: connection.batch([(insert, (1,))]),
            "insert_many": lambda: connection.insert_many(nowhere, ["id"], [(1,)]),
        }
        for what, work in ways.items():
            with raises(DbError, f"{what} into a table that is not there") as caught:
                await work()
            check(isinstance(caught.error, QueryError), f"{what}: QueryError was promised, not {caught.error!r}")
            same(await connection.fetch_value("SELECT 1"), 1, f"SELECT 1 after {what} that failed")
