"""Statements of many tasks that share a trip, on a road that the test lays out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

import dbcore as db
from dbcore.driver import Report, Result, Sharing
from dbcore.events import Event, StatementFinished
from dbcore.testing import FakeConnection, Script, fails, scripted_driver, settled, slow, virtual
from dbcore.trips import SEATS

ONE = "SELECT $1 one"
SLOW = "SELECT $1 slow"
LOST = "SELECT $1 lost"
WRONG = "SELECT $1 wrong"
WRITE = "write $1"


class Road:
    """What shared trips meet with; a statement takes a tenth of a millisecond, unless `takes` says otherwise."""

    def __init__(self) -> None:
        self.script = Script()
        self.script.query.always(slow(0.0001))
        self.takes: dict[str, float] = {}
        """Seconds, by text."""
        self.buses = 2
        self.in_a_bunch = False
        """All outcomes are reported when the last one is there."""
        self.under_way = 0
        self.trips: list[list[str]] = []
        self._running: dict[int, asyncio.Future[None]] = {}
        """By the number of the connection: what stops the statement on it."""

    def open(self, *, max_size: int = 10, observe: Any = None, **keys: Any) -> db.Database:
        driver = replace(
            scripted_driver(self.script, self._answer),
            share=self._share,
        )
        config = {"url": "scripted://", "pool": {"min_size": max_size, "max_size": max_size}, **keys}
        return db.open(config, driver=driver, observe=observe)

    def _share(self, _config: db.Config[Any]) -> Sharing[FakeConnection]:
        return Sharing(may=self._may, run=self._run, interrupt=self._interrupt, buses=self.buses)

    @property
    def shared(self) -> int:
        return sum(map(len, self.trips))

    def _answer(self, text: str, values: Sequence[Any]) -> Result:
        return Result(("text", "value"), [(text, *values)], 1)

    def _may(self, text: str) -> bool:
        return text != WRITE

    async def _run(
        self, native: FakeConnection, statements: Sequence[tuple[str, Sequence[Any]]], report: Report
    ) -> None:
        self.trips.append([text for text, _ in statements])
        self.under_way += 1
        try:
            await self._answer_all(native, statements, report)
        finally:
            self.under_way -= 1

    async def _answer_all(
        self, native: FakeConnection, statements: Sequence[tuple[str, Sequence[Any]]], report: Report
    ) -> None:
        if self.in_a_bunch:
            await asyncio.sleep(0.0001 * len(statements))
            for index, (text, values) in enumerate(statements):
                report(index, self._answer(text, values))
            return
        for index, (text, values) in enumerate(statements):
            stopped = self._running[native.id] = asyncio.get_running_loop().create_future()
            await asyncio.wait([stopped], timeout=self.takes.get(text, 0.0001))
            if text == LOST or native.gone:
                native.broken = native.noticed = native.dirty = True
                raise db.DbConnectionError("lost", retryable=True)
            if stopped.done():
                report(index, None)
            elif text == WRONG:
                report(index, db.QueryError("wrong"))
            else:
                report(index, self._answer(text, values))
            stopped.cancel()

    async def _interrupt(self, native: FakeConnection) -> None:
        if not self._running[native.id].done():
            self._running[native.id].set_result(None)


async def prove(database: db.Database, *texts: str) -> None:
    """Let texts be seen to be quick."""
    for text in texts or (ONE,):
        for _ in range(3):
            await database.fetch_one(text, [0])


async def crowd(database: db.Database, *texts: str, number: int = 20) -> list[Any]:
    """Run the texts, or `ONE` many times, all at once; each with its number as its value."""
    asked = texts or (ONE,) * number
    running = (database.fetch_one(text, [n]) for n, text in enumerate(asked))
    return await asyncio.gather(*running, return_exceptions=True)


@virtual
async def test_statements_of_many_tasks_share_trips_and_each_gets_its_own_result() -> None:
    road = Road()
    async with road.open() as database:
        await prove(database)
        for _ in range(5):
            assert await crowd(database) == [(ONE, n) for n in range(20)]
        assert road.shared >= 80
        assert len(road.trips) <= 15
        assert database.stats().in_use == 0


@virtual
async def test_few_statements_side_by_side_take_a_connection_each() -> None:
    road = Road()
    async with road.open() as database:
        await prove(database)
        assert await crowd(database, number=3) == [(ONE, n) for n in range(3)]
        assert road.trips == []


@virtual
async def test_a_text_that_was_not_seen_to_be_quick_does_not_ride() -> None:
    road = Road()
    async with road.open() as database:
        await crowd(database, number=9)
        assert road.trips == []


@virtual
async def test_a_text_that_was_seen_to_be_slow_does_not_ride() -> None:
    road = Road()
    async with road.open() as database:
        road.script.query.always(slow(0.1))
        await prove(database)
        await crowd(database)
        assert road.trips == []


@virtual
async def test_a_text_that_the_driver_does_not_let_ride_never_does() -> None:
    road = Road()
    async with road.open() as database:
        await prove(database, WRITE)
        await crowd(database, *[WRITE] * 20)
        assert road.trips == []


@virtual
async def test_a_setting_turns_it_off() -> None:
    road = Road()
    async with road.open(share_trips=False) as database:
        await prove(database)
        await crowd(database)
        assert road.trips == []


@virtual
async def test_quick_runs_of_long_ago_do_not_count() -> None:
    road = Road()
    async with road.open() as database:
        await prove(database)
        await asyncio.sleep(100)
        await crowd(database, number=9)
        assert road.trips == []


@virtual
async def test_an_error_reaches_the_one_statement_that_made_it() -> None:
    road = Road()
    async with road.open() as database:
        await prove(database, ONE, WRONG)
        *others, error = await crowd(database, *[ONE] * 19, WRONG)
        assert others == [(ONE, n) for n in range(19)]
        assert isinstance(error, db.QueryError)
        assert (error.sql, error.driver) == (WRONG, "scripted")


@virtual
async def test_one_that_turns_out_slow_is_stopped_and_run_on_a_connection_of_its_own() -> None:
    road = Road()
    async with road.open() as database:
        await prove(database, ONE, SLOW)
        road.takes[SLOW] = 600
        started = asyncio.get_running_loop().time()
        texts = [*[ONE] * 5, SLOW, *[ONE] * 5]
        assert await crowd(database, *texts) == [(text, n) for n, text in enumerate(texts)]
        assert asyncio.get_running_loop().time() - started < 0.2
        assert sum(trip.count(SLOW) for trip in road.trips) == 1
        assert database.stats().in_use == 0


@virtual
async def test_one_that_turned_out_slow_has_to_be_seen_to_be_quick_anew() -> None:
    road = Road()
    async with road.open() as database:
        await prove(database, ONE, SLOW)
        road.takes[SLOW] = 600
        await crowd(database, *[ONE] * 5, SLOW)
        road.takes.clear()
        road.trips.clear()
        await database.fetch_one(SLOW, [0])
        await crowd(database, *[SLOW] * 10)
        assert road.trips == []
        await crowd(database, *[SLOW] * 20)
        assert road.shared > 10


@virtual
async def test_one_that_turned_out_slow_twice_does_not_ride_for_a_while_however_quick_it_seems() -> None:
    road = Road()
    async with road.open() as database:
        for _ in range(2):
            await prove(database, ONE, SLOW)
            road.takes[SLOW] = 600
            await crowd(database, *[ONE] * 5, SLOW)
            road.takes.clear()
        road.trips.clear()
        await prove(database, SLOW)
        await crowd(database, *[SLOW] * 20)
        assert road.trips == []
        await asyncio.sleep(20)
        await prove(database, SLOW)
        for _ in range(2):  # the first wakes the connections up
            await crowd(database, *[SLOW] * 20)
        assert road.shared > 10


@virtual
async def test_a_text_for_which_many_connections_are_faster_does_not_go_on_riding() -> None:
    road = Road()
    async with road.open() as database:
        await prove(database)
        road.takes[ONE] = 0.001
        for _ in range(5):
            assert await crowd(database) == [(ONE, n) for n in range(20)]
        assert road.shared < 60


@virtual
async def test_a_statement_cancelled_before_it_left_is_not_sent() -> None:
    road = Road()
    async with road.open() as database:
        await prove(database, ONE, SLOW)
        road.takes[ONE] = 0.02
        running = [asyncio.create_task(database.fetch_one(ONE, [n])) for n in range(5)]
        await asyncio.sleep(0.005)
        running.append(asyncio.create_task(database.fetch_one(ONE, [5])))
        await asyncio.sleep(0.005)
        late = asyncio.create_task(database.fetch_one(SLOW, [0]))
        await settled()
        late.cancel()
        assert await asyncio.gather(*running) == [(ONE, n) for n in range(6)]
        assert all(SLOW not in trip for trip in road.trips)


@virtual
async def test_a_statement_cancelled_on_its_way_harms_no_other() -> None:
    road = Road()
    async with road.open() as database:
        await prove(database)
        road.takes[ONE] = 0.01
        running = [asyncio.create_task(database.fetch_one(ONE, [n])) for n in range(20)]
        await asyncio.sleep(0.025)
        running[10].cancel()
        outcomes = await asyncio.gather(*running, return_exceptions=True)
        assert isinstance(outcomes.pop(10), asyncio.CancelledError)
        assert outcomes == [(ONE, n) for n in range(20) if n != 10]


@virtual
async def test_a_bus_that_is_cancelled_before_it_has_left_leaves_nobody_in_line() -> None:
    road = Road()
    road.buses = 1
    async with road.open(max_size=4) as database:
        await prove(database)
        road.takes[ONE] = 0.01
        before = asyncio.all_tasks()
        running = [asyncio.create_task(database.fetch_one(ONE, [n])) for n in range(8)]
        while not (bus := asyncio.all_tasks() - before - set(running)):
            await asyncio.sleep(0)
        bus.pop().cancel()  # as a program does that cancels all tasks there are
        assert await asyncio.gather(*running) == [(ONE, n) for n in range(8)]
        await settled()
        assert database.stats().in_use == 0


@virtual
async def test_a_timeout_is_the_statements_own() -> None:
    road = Road()
    async with road.open() as database:
        await prove(database)
        road.takes[ONE] = 0.01
        running = [asyncio.create_task(database.fetch_one(ONE, [n])) for n in range(10)]
        await settled()
        with pytest.raises(db.QueryTimeout, match=r"timeout = 0\.005 s") as caught:
            await database.fetch_one(ONE, [10], timeout=0.005)
        assert "only reads" in str(caught.value)
        assert not caught.value.outcome_unknown
        assert await asyncio.gather(*running) == [(ONE, n) for n in range(10)]


@virtual
async def test_a_lost_connection_fails_those_who_were_on_it_each_with_an_error_of_its_own() -> None:
    road = Road()
    async with road.open() as database:
        await prove(database, ONE, LOST)
        outcomes = await crowd(database, *[ONE] * 4, LOST, *[ONE] * 4)
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert len(errors) >= 2
        assert all(type(error) is db.DbConnectionError for error in errors)
        assert len({id(error) for error in errors}) == len(errors)
        assert await database.fetch_one(ONE, [1]) == (ONE, 1)
        assert database.stats().lost == 1


@virtual
async def test_whoever_waits_for_a_connection_has_it_after_the_trip_that_is_under_way() -> None:
    road = Road()
    async with road.open(max_size=1) as database:
        await prove(database)
        took: list[float] = []
        loop = asyncio.get_running_loop()

        async def ask() -> None:
            while loop.time() < until:
                await database.fetch_one(ONE, [0])

        async def hold() -> None:
            await asyncio.sleep(0.5)
            asked = loop.time()
            async with database.connection():
                took.append(loop.time() - asked)

        until = loop.time() + 1
        await asyncio.gather(*(ask() for _ in range(20)), hold())
        assert road.shared > 100
        assert took[0] < 0.05


@virtual
async def test_where_connections_are_scarce_the_one_that_gets_one_takes_others_along() -> None:
    road = Road()
    async with road.open(max_size=1) as database:
        await prove(database)
        for _ in range(3):
            assert await crowd(database) == [(ONE, n) for n in range(20)]
        assert road.shared > 20


@virtual
@pytest.mark.parametrize("buses", [1, 2])
async def test_a_line_at_the_pool_that_never_ends_does_not_leave_each_bus_with_a_single_rider(buses: int) -> None:
    road = Road()
    road.buses = buses
    async with road.open(max_size=2) as database:

        async def ask() -> None:
            for n in range(50):
                await database.fetch_one(ONE, [n])

        await asyncio.gather(*(ask() for _ in range(20)))  # all of them come at once, with a text that nobody knows
        assert road.shared > 700
        assert road.shared / len(road.trips) > 6


@virtual
async def test_a_bus_takes_no_more_than_it_has_seats_for_and_the_others_the_next_one() -> None:
    road = Road()
    async with road.open() as database:
        await prove(database)
        assert await crowd(database, number=5 * SEATS) == [(ONE, n) for n in range(5 * SEATS)]
        assert max(map(len, road.trips)) == SEATS


@virtual
async def test_where_no_other_bus_comes_those_who_have_just_arrived_come_along_with_the_rest() -> None:
    road = Road()
    road.buses, road.in_a_bunch = 1, True
    async with road.open() as database:
        await prove(database)

        async def ask(late: bool) -> None:
            await asyncio.sleep(0.0005 if late else 0)
            for n in range(50):
                await database.fetch_one(ONE, [n])

        await asyncio.gather(*(ask(late=n % 2 == 0) for n in range(20)))
        assert road.shared / len(road.trips) > 15


@virtual
@pytest.mark.parametrize(("buses", "most"), [(1, 1), (3, 3)])
async def test_no_more_trips_are_under_way_than_the_driver_says(buses: int, most: int) -> None:
    road = Road()
    road.buses = buses
    async with road.open() as database:
        await prove(database)
        under_way: list[int] = []

        async def ask() -> None:
            for n in range(50):
                await database.fetch_one(ONE, [n])
                under_way.append(road.under_way)

        await asyncio.gather(*(ask() for _ in range(20)))
        assert max(under_way) <= most
        assert road.shared > 700


@virtual
async def test_a_task_that_would_wait_for_its_own_connection_is_told_so() -> None:
    road = Road()
    async with road.open(max_size=1) as database:
        await prove(database)
        async with database.connection():
            with pytest.raises(db.PoolDeadlock):
                await database.fetch_one(ONE, [1])


@virtual
async def test_stop_lets_a_trip_arrive_and_those_who_come_later_are_refused() -> None:
    road = Road()
    database = road.open()
    await database.start()
    await prove(database)
    running = [asyncio.create_task(database.fetch_one(ONE, [n])) for n in range(20)]
    await asyncio.sleep(0.005)
    stopping = asyncio.create_task(database.stop())
    await settled()
    with pytest.raises(db.PoolClosed):
        await database.fetch_one(ONE, [0])
    assert await asyncio.gather(*running) == [(ONE, n) for n in range(20)]
    await stopping
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual
async def test_stop_cuts_off_a_trip_that_does_not_arrive() -> None:
    road = Road()
    database = road.open(pool={"min_size": 10, "stop_timeout": 0})
    await database.start()
    await prove(database)
    road.takes[ONE] = 0.002
    running = [asyncio.create_task(database.fetch_one(ONE, [n])) for n in range(20)]
    await asyncio.sleep(0.003)
    await database.stop()
    outcomes = await asyncio.gather(*running, return_exceptions=True)
    assert all(isinstance(one, tuple | db.DbConnectionError | db.PoolClosed) for one in outcomes)
    assert any(isinstance(one, db.DbConnectionError) for one in outcomes)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual
async def test_each_statement_is_told_of_once() -> None:
    road, events = Road(), list[Event]()
    async with road.open(observe=events.append) as database:
        await prove(database, ONE, SLOW)
        road.takes[SLOW] = 600
        events.clear()
        await crowd(database, *[ONE] * 5, SLOW, *[ONE] * 5)
        finished = [event for event in events if isinstance(event, StatementFinished)]
        assert sorted(event.sql for event in finished) == [*[ONE] * 10, SLOW]
        assert all(event.error is None and event.returned == 1 for event in finished)


@virtual
async def test_a_driver_that_leaves_a_statement_unanswered_is_found_out() -> None:
    road = Road()

    async def run(_native: Any, _statements: Any, _report: Report) -> None:
        await asyncio.sleep(0.001)

    road._run = run  # type: ignore[method-assign, assignment]
    async with road.open() as database:
        await prove(database)
        outcomes = await crowd(database)
        assert any(isinstance(one, AssertionError) for one in outcomes)


@virtual
async def test_a_statement_that_fails_on_its_own_says_nothing_of_its_speed() -> None:
    road = Road()
    async with road.open() as database:
        road.script.query.then(*[fails(db.QueryError("no"))] * 3)
        for _ in range(3):
            with pytest.raises(db.QueryError):
                await database.fetch_one(ONE, [0])
        await crowd(database, number=9)
        assert road.trips == []


@virtual
@pytest.mark.parametrize("share_trips", [True, False])
async def test_the_place_of_a_statement_is_that_of_the_call(share_trips: bool) -> None:
    road = Road()
    async with road.open(share_trips=share_trips) as database:
        asking = asyncio.create_task(_ask(database))
        await settled()
        (holder,) = database.holders()
        assert holder.site.endswith(" in _ask")
        await asking


@virtual
async def test_the_place_of_a_trip_is_that_of_its_first_rider() -> None:
    road = Road()
    async with road.open() as database:
        await prove(database)
        road.takes[ONE] = 0.01
        asking = [asyncio.create_task(_ask(database)) for _ in range(9)]
        await settled()
        held = {holder.task: holder.site for holder in database.holders()}
        assert held["dbcore main"].endswith(" in _ask")
        await asyncio.gather(*asking)


async def _ask(database: db.Database) -> None:
    await database.fetch_one(ONE, [0])
