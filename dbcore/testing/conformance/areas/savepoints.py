"""Savepoints: a transaction inside of another one stands for itself."""

from __future__ import annotations

from dbcore.errors import ConstraintError
from dbcore.testing.conformance.checks import Mine, raises, same
from dbcore.testing.conformance.promise import promise
from dbcore.testing.conformance.subject import Subject


@promise(needs=("savepoints",))
async def an_exception_in_a_savepoint_keeps_what_was_before_it(subject: Subject) -> None:
    """A nested transaction that raises undoes its own work; the outer one goes on and commits."""
    async with subject.items() as items:
        async with items.database.transaction() as tx:
            await tx.execute(items.insert, [1, "a"])
            with raises(Mine, "a nested block that raises"):
                async with tx.transaction() as inner:
                    await inner.execute(items.insert, [2, "b"])
                    raise Mine
            await tx.execute(items.insert, [3, "c"])
        same(await items.ids(), [1, 3], "ids in the table")


@promise(needs=("savepoints",))
async def savepoints_nest_and_each_level_stands_for_itself(subject: Subject) -> None:
    """Each level keeps or undoes its own work and that of the levels inside of it."""
    async with subject.items() as items:
        async with items.database.transaction() as tx:
            await tx.execute(items.insert, [1, "kept"])
            async with tx.transaction():
                await tx.execute(items.insert, [2, "kept"])
                with raises(Mine, "a nested block that raises"):
                    async with tx.transaction():
                        await tx.execute(items.insert, [3, "undone"])
                        async with tx.transaction():
                            await tx.execute(items.insert, [4, "undone with it"])
                        raise Mine
                async with tx.transaction():
                    await tx.execute(items.insert, [5, "kept"])
        same(await items.ids(), [1, 2, 5], "ids in the table")


@promise(needs=("savepoints",))
async def the_outer_rollback_takes_the_savepoints_along(subject: Subject) -> None:
    """What a nested transaction kept is undone when the outer one rolls back."""
    async with subject.items() as items:
        with raises(Mine, "a block that raises"):
            async with items.database.transaction() as tx:
                async with tx.transaction():
                    await tx.execute(items.insert, [1, "a"])
                raise Mine
        same(await items.ids(), [], "ids in the table")


@promise(needs=("savepoints",))
async def a_savepoint_makes_a_failed_statement_harmless(subject: Subject) -> None:
    """A statement that fails inside of a nested transaction costs that one alone."""
    async with subject.items() as items:
        async with items.database.transaction() as tx:
            await tx.execute(items.insert, [1, "a"])
            with raises(ConstraintError, "a key that is taken, in a nested block"):
                async with tx.transaction():
                    await tx.execute(items.insert, [1, "again"])
            await tx.execute(items.insert, [2, "b"])
        same(await items.ids(), [1, 2], "ids in the table")


@promise(needs=("savepoints",))
async def a_savepoint_can_be_the_first_thing_of_a_transaction(subject: Subject) -> None:
    """A nested transaction before any statement is undone alone."""
    async with subject.items() as items:
        async with items.database.transaction() as tx:
            with raises(Mine, "a nested block that raises"):
                async with tx.transaction():
                    raise Mine
            await tx.execute(items.insert, [1, "a"])
        same(await items.ids(), [1], "ids in the table")


@promise(needs=("savepoints",))
async def rollback_of_a_savepoint_keeps_the_rest(subject: Subject) -> None:
    """`rollback()` in a nested transaction undoes that one alone."""
    async with subject.items() as items:
        async with items.database.transaction() as tx:
            await tx.execute(items.insert, [1, "a"])
            async with tx.transaction() as inner:
                await inner.execute(items.insert, [2, "b"])
                await inner.rollback()
            await tx.execute(items.insert, [3, "c"])
        same(await items.ids(), [1, 3], "ids in the table")
