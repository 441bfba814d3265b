"""What is sent again after a connection was lost, and what never is."""

from __future__ import annotations

from typing import Any

import pytest

import dbcore as db
from dbcore.testing import Script, fails, passes, scripted_driver, virtual


def lost(*, outcome_unknown: bool = False) -> db.DbConnectionError:
    return db.DbConnectionError("the connection was lost", retryable=True, outcome_unknown=outcome_unknown)


def texts(script: Script) -> list[str]:
    return [sql for _, sql, _ in script.statements]


async def write(tx: db.Connection[Any]) -> None:
    await tx.execute("write")


@virtual
async def test_a_statement_is_sent_once_whatever_became_of_its_connection() -> None:
    """Laws: F7."""
    script = Script()
    script.query.then(fails(lost()))
    async with db.open("scripted://", driver=scripted_driver(script)) as database:
        with pytest.raises(db.DbConnectionError, match="was lost"):
            await database.execute("write")
        assert texts(script) == ["write"]


@virtual
async def test_a_transaction_whose_begin_met_a_dead_connection_is_tried_again_on_another() -> None:
    """Laws: F8."""
    script = Script()
    async with db.open("scripted://", driver=scripted_driver(script)) as database:
        script.connections[0].broken = True
        script.query.then(fails(lost()))
        await database.run_transaction(write)
        assert database.stats().lost == 1
    assert script.statements[-3:] == [(2, "BEGIN", ()), (2, "write", ()), (2, "COMMIT", ())]
    assert texts(script).count("write") == 1


@virtual
async def test_a_commit_that_was_lost_is_not_tried_again() -> None:
    """Laws: F8."""
    script = Script()
    script.query.then(passes(), passes(), fails(lost(outcome_unknown=True)))  # BEGIN, the statement, COMMIT
    async with db.open("scripted://", driver=scripted_driver(script)) as database:
        with pytest.raises(db.DbConnectionError) as caught:
            await database.run_transaction(write)
        assert caught.value.outcome_unknown
    assert (texts(script).count("write"), texts(script).count("COMMIT")) == (1, 1)
