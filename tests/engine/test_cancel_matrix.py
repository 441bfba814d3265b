"""Every hook, doing well, failing, slow or never ending, with the caller cancelled at each moment, once and again.

Whatever the combination: never more than `max_size`, no cancellation eaten, nobody left waiting, the books balance, and
afterwards the pool serves whoever comes next.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from dbcore.errors import DbConnectionError, DbError
from dbcore.testing import Plan, Script, Step, fails, hangs, passes, run, scripted_pool, slow

KINDS: dict[str, Callable[[], Step]] = {
    "ok": passes,
    "error": lambda: fails(DbConnectionError("failed", retryable=True)),
    "slow": lambda: slow(1),
    "never": hangs,
}
HOOKS = ("connect", "ping", "reset", "close")
MOMENTS = (0.0, 0.25, 1.0, 1.25, 2.0, 2.5, 3.25, 4.0, 6.5)
"""When the caller is cancelled: between and at the very times at which steps and limits end."""
LIMIT = 2.0
"""Of connects, resets, pings and closes."""


def planned(script: Script, hook: str) -> Plan:
    return {"connect": script.connect, "ping": script.ping, "reset": script.reset, "close": script.close}[hook]


async def one_case(kinds: tuple[str, ...], moment: float, turns: int, again: int) -> None:
    """Two callers, a stale connection, and a third caller who is cancelled `turns` turns of the loop after `moment`."""
    script = Script()
    settings: dict[str, Any] = {
        "max_size": 2,
        "connect_timeout": LIMIT,
        "reset_timeout": LIMIT,
        "stop_timeout": LIMIT,
        "max_lifetime": 20,
    }
    async with scripted_pool(script, **settings) as pool:
        await asyncio.sleep(5)  # idle for long enough to be pinged
        for hook, kind in zip(HOOKS, kinds, strict=True):
            planned(script, hook).always(KINDS[kind])
        cancellations = 0

        async def use(hold: float) -> None:
            connection, release = await pool.checkout(8)
            try:
                connection.dirty = True
                await asyncio.sleep(hold)
            finally:
                release()

        async def victim() -> None:
            nonlocal cancellations
            try:
                await use(3)
            except asyncio.CancelledError:
                cancellations += 1
                raise

        others = [asyncio.create_task(use(hold)) for hold in (0.5, 1.5)]
        task = asyncio.create_task(victim())
        await asyncio.sleep(moment)
        for _ in range(turns):
            await asyncio.sleep(0)
        cancelled_in_time = not task.done()
        task.cancel()
        for _ in range(again):
            await asyncio.sleep(0)
            task.cancel()
        outcome = (await asyncio.gather(task, *others, return_exceptions=True))[0]
        if cancelled_in_time:
            assert isinstance(outcome, asyncio.CancelledError), f"the cancellation was eaten: {outcome!r}"
        else:
            assert outcome is None or isinstance(outcome, DbError), repr(outcome)
        await asyncio.sleep(10)
        now = pool.balance()
        assert (now.in_use, now.waiting) == (0, 0)

        # Once all is well again, the pool is too.
        for hook in HOOKS:
            planned(script, hook).always(passes())
        await asyncio.sleep(30)
        taken = [await pool.checkout(8) for _ in range(2)]
        for _, release in taken:
            release()
        await asyncio.sleep(1)
        now = pool.balance()
        assert (now.connecting, now.resetting, now.closing, now.waiting) == (0, 0, 0, 0)


@pytest.mark.parametrize("again", [0, 1, 8])
@pytest.mark.parametrize("connect", KINDS)
def test_no_combination_of_hooks_and_cancellations_loses_anything(connect: str, again: int) -> None:
    """Laws: B1, C4, D5, E2, E3, E4, E5, E6, E7, E8, E9, E10, E11, E12."""
    turns = itertools.cycle(range(5))
    for *rest, moment in itertools.product(KINDS, KINDS, KINDS, MOMENTS):
        kinds, turn = (connect, *map(str, rest)), next(turns)
        try:
            run(one_case(kinds, moment, turn, again), limit=1000)
        except BaseException as error:
            error.add_note(
                f"case: {dict(zip(HOOKS, kinds, strict=True))}, {moment} s, {turn} turns, {again} times again"
            )
            raise
