"""The end of a pool: refuse, fail those who wait, let holders finish for a while, then cut them off. Always bounded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dbcore.engine.explaining import holders
from dbcore.engine.slots import State
from dbcore.events import PoolStopped
from dbcore.refusals import stopped
from dbcore.stats import Holder

if TYPE_CHECKING:
    from dbcore.engine.engine import Engine

__all__ = ["stop"]


async def stop(engine: Engine[Any]) -> None:
    """Stop the pool whose state says already that it is stopping. Runs in a task of the engine, once."""
    engine.keeper.cancel()
    engine.connecting.cancel_retry()
    engine.opened.failed(stopped(engine.name))
    engine.lending.fail_waiters(stopped(engine.name))
    engine.lending.line.close()
    for slot in list(engine.books.idle):
        engine.retirement.retire(slot, "stopped")
    for task in engine.tasks("connect"):
        task.cancel()

    await _emptied(engine, engine.settings.stop_timeout)
    cut_off: tuple[Holder, ...] = holders(engine)
    if cut_off:
        engine.log.warning(
            "pool %s: stop() cut off %d connection(s) that were still in use after stop_timeout = %g s: %s",
            engine.name,
            len(cut_off),
            engine.settings.stop_timeout,
            "; ".join(str(one) for one in cut_off),
        )
    for slot in list(engine.books.slots):
        if slot.state is not State.CONNECTING and slot.state is not State.CLOSING:
            engine.retirement.drop(slot, "cut off")
    # What is left closes or resets in tasks that have a limit of their own.
    await _emptied(engine, engine.settings.reset_timeout)
    for task in engine.tasks():
        task.cancel()
    if left := engine.tasks():
        await asyncio.wait(left, timeout=engine.settings.reset_timeout)
    engine.emit(PoolStopped, cut_off=cut_off)


async def _emptied(engine: Engine[Any], limit: float) -> None:
    if engine.books.slots:
        engine.emptied = asyncio.get_running_loop().create_future()
        timer = engine.loop.call_later(limit, _give_up, engine.emptied)
        try:
            await engine.emptied
        finally:
            timer.cancel()


def _give_up(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
