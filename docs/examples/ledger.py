"""Fifty tasks move money between a few accounts at once, and not a cent is lost.

    make demo                                                SQLite, a file beside this one
    DATABASE_URL=postgresql://user@host/name make demo       the same program on Postgres

Every transfer reads two balances and writes them back, in a transaction that is done again when another one came in
between. Nothing below names a database: `db.toml` does. The tables `demo_accounts` and `demo_transfers` are made anew.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import dbcore as db

ACCOUNTS = 12
OPENING_CENTS = 1_000_00
TASKS = 50
TRANSFERS_PER_TASK = 100
MOST_RETRIES = 200


@dataclass(slots=True)
class Tally:
    """What the tasks count together."""

    attempts: int = 0
    done: int = 0
    declined: int = 0


@dataclass(frozen=True, slots=True)
class Account:
    """One row; `fetch_one(..., into=Account)` checks it and makes it."""

    id: int
    cents: int


def money(cents: int) -> str:
    return f"{cents // 100:,}.{cents % 100:02}"


async def create_accounts(database: db.Database) -> None:
    await database.execute("DROP TABLE IF EXISTS demo_transfers")
    await database.execute("DROP TABLE IF EXISTS demo_accounts")
    await database.execute(
        "CREATE TABLE demo_accounts (id INTEGER PRIMARY KEY, cents BIGINT NOT NULL CHECK (cents >= 0))"
    )
    await database.execute(
        "CREATE TABLE demo_transfers (source INTEGER NOT NULL, target INTEGER NOT NULL, cents BIGINT NOT NULL)"
    )
    await database.execute_many(
        "INSERT INTO demo_accounts (id, cents) VALUES ($1, $2)", [(n, OPENING_CENTS) for n in range(1, ACCOUNTS + 1)]
    )


async def transfer(database: db.Database, source: int, target: int, cents: int, tally: Tally) -> None:
    """Move money if there is enough of it."""

    async def work(tx: db.Connection[Any]) -> bool:
        tally.attempts += 1
        read = "SELECT id, cents FROM demo_accounts WHERE id = $1"
        write = "UPDATE demo_accounts SET cents = $2 WHERE id = $1"
        payer = await tx.fetch_one(read, [source], into=Account)
        payee = await tx.fetch_one(read, [target], into=Account)
        if payer.cents < cents:
            return False
        # Everybody writes the lower number first: two who each wait for the other's row would be a deadlock.
        for number, balance in sorted([(payer.id, payer.cents - cents), (payee.id, payee.cents + cents)]):
            await tx.execute(write, [number, balance])
        await tx.execute(
            "INSERT INTO demo_transfers (source, target, cents) VALUES (:source, :target, :cents)",
            {"source": source, "target": target, "cents": cents},
        )
        return True

    if await database.run_transaction(work, retries=MOST_RETRIES, isolation="serializable"):
        tally.done += 1
    else:
        tally.declined += 1


async def move_money(database: db.Database, console: Console) -> tuple[Tally, float]:
    tally = Tally()
    columns = BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=TASKS * TRANSFERS_PER_TASK)

        async def customer(seed: int) -> None:
            dice = random.Random(seed)
            for _ in range(TRANSFERS_PER_TASK):
                source, target = dice.sample(range(1, ACCOUNTS + 1), 2)
                await transfer(database, source, target, dice.randint(1, 200_00), tally)
                pool = database.stats()
                progress.update(bar, advance=1, description=f"{pool.in_use} in use, {pool.waiting} waiting")

        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for seed in range(TASKS):
                group.create_task(customer(seed))
        return tally, time.perf_counter() - started


async def check_books(database: db.Database) -> tuple[int, int]:
    """The money there is, and the number of accounts whose balance differs from what their transfers say."""
    total = await database.fetch_value("SELECT SUM(cents) FROM demo_accounts", into=int)
    wrong = await database.fetch_value(
        """
        SELECT COUNT(*) FROM demo_accounts AS a WHERE a.cents <> :opening
            + (SELECT COALESCE(SUM(t.cents), 0) FROM demo_transfers AS t WHERE t.target = a.id)
            - (SELECT COALESCE(SUM(t.cents), 0) FROM demo_transfers AS t WHERE t.source = a.id)
        """,
        {"opening": OPENING_CENTS},
        into=int,
    )
    return total, wrong


def summary(tally: Tally, seconds: float, total: int, wrong: int) -> Table:
    conflicts = tally.attempts - tally.done - tally.declined
    table = Table("", "", title="Ledger", show_header=False)
    table.add_row("money before", money(ACCOUNTS * OPENING_CENTS))
    table.add_row("money after", money(total))
    table.add_row("accounts that do not add up", str(wrong))
    table.add_row("transfers", f"{tally.done:,} done, {tally.declined:,} declined for lack of money")
    table.add_row("per second", f"{(tally.done + tally.declined) / seconds:,.0f}")
    table.add_row("conflicts retried", f"{conflicts:,}")
    return table


def pool_table(stats: db.Stats) -> Table:
    table = Table("", "", title="Pool", show_header=False)
    table.add_row("connections", f"{stats.size} of {stats.max_size} ({stats.idle} idle, {stats.in_use} in use)")
    table.add_row("opened", f"{stats.connects:,} in {stats.connect_seconds:.3f} s, {stats.connect_failures:,} failures")
    table.add_row("checkouts", f"{stats.checkouts:,}")
    waited = f", {stats.wait_seconds / stats.waited * 1000:,.1f} ms each" if stats.waited else ""
    table.add_row("that had to wait", f"{stats.waited:,}{waited}")
    table.add_row("timed out or refused", f"{stats.timeouts + stats.refused:,}")
    table.add_row("resets, lost", f"{stats.resets:,}, {stats.lost:,}")
    return table


async def main() -> int:
    console = Console()
    async with db.open(Path(__file__).with_name("db.toml")) as database:
        wanted = TASKS * TRANSFERS_PER_TASK
        console.print(f"{TASKS} tasks, {ACCOUNTS} accounts, {wanted:,} transfers on [bold]{database.driver}[/bold]")
        await create_accounts(database)
        tally, seconds = await move_money(database, console)
        total, wrong = await check_books(database)
        console.print(summary(tally, seconds, total, wrong), pool_table(database.stats()))
    return 0 if total == ACCOUNTS * OPENING_CENTS and not wrong else 1


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except* db.DbError as errors:
        sys.exit("\n".join(str(error) for error in errors.exceptions))
