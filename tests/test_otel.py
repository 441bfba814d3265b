"""Telemetry, against the SDK of OpenTelemetry: what spans and metrics come of what a database does."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

import dbcore as db
from dbcore.driver import Result
from dbcore.events import BackgroundError, Endpoint
from dbcore.otel import Telemetry, leading_word
from dbcore.pool import PoolOps
from dbcore.registry import find_driver
from dbcore.testing import (
    Answers,
    FakeConnection,
    Script,
    ScriptedSettings,
    hangs,
    scripted_driver,
    settled,
    slow,
    virtual,
)

Point = HistogramDataPoint | NumberDataPoint

CONNECTION = "db.client.connection"


class Sdk:
    """Providers that export into memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader])

    def telemetry(self, **options: Any) -> Telemetry:
        return Telemetry(tracer_provider=self.tracers, meter_provider=self.meters, **options)

    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def points(self, name: str) -> list[Point]:
        data = self._reader.get_metrics_data()
        found = [
            metric
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
        ]
        assert len(found) <= 1
        return [
            point
            for metric in found
            for point in metric.data.data_points
            if isinstance(point, (HistogramDataPoint, NumberDataPoint))
        ]

    def histogram(self, name: str) -> HistogramDataPoint:
        (point,) = self.points(name)
        assert isinstance(point, HistogramDataPoint)
        return point

    def values(self, name: str) -> dict[tuple[Any, ...], int | float]:
        """The numbers of a metric, by the values of their attributes."""
        found: dict[tuple[Any, ...], int | float] = {}
        for point in self.points(name):
            assert isinstance(point, NumberDataPoint)
            found[tuple((point.attributes or {}).values())] = point.value
        return found


def times(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def unsummarized(sql: str) -> None:
    """For a telemetry that shall know no summary."""


def scripted(
    telemetry: Telemetry, answers: Answers | None = None, script: Script | None = None, **pool: Any
) -> db.Database:
    driver = scripted_driver(script or Script(), answers)
    return telemetry.attach(db.open({"driver": "scripted", "pool": pool}, driver=driver, observe=telemetry))


# -- spans -------------------------------------------------------------------------------------------------------------


async def test_a_statement_becomes_a_span_by_the_conventions() -> None:
    sdk = Sdk()
    async with scripted(sdk.telemetry(), {"SELECT name FROM users WHERE id = $1": [("Ada",), ("Bob",)]}) as database:
        await database.fetch_all("SELECT name FROM users WHERE id = :id", {"id": "a secret"})
    (span,) = sdk.spans()
    assert (span.name, span.kind, span.status.status_code) == ("SELECT", SpanKind.CLIENT, StatusCode.UNSET)
    assert span.attributes == {
        "db.system.name": "scripted",
        "db.query.summary": "SELECT",
        "db.query.text": "SELECT name FROM users WHERE id = :id",
        "db.client.connection.pool.name": "main",
        "db.response.returned_rows": 2,
    }


async def test_a_span_is_a_child_of_what_its_caller_was_doing_and_lies_within() -> None:
    sdk = Sdk()
    tracer = sdk.tracers.get_tracer("test")
    async with scripted(sdk.telemetry()) as database:
        with tracer.start_as_current_span("request") as request:
            await database.execute("UPDATE users SET seen = now()")
            assert get_current_span() is request
    child, parent = sdk.spans()
    assert child.parent is not None
    assert child.parent.span_id == request.get_span_context().span_id
    (began, ended), (parent_began, parent_ended) = times(child), times(parent)
    assert parent_began <= began <= ended <= parent_ended


@virtual
async def test_a_span_begins_when_its_statement_began() -> None:
    sdk, script = Sdk(), Script()
    script.query.then(slow(7))
    async with scripted(sdk.telemetry(), script=script) as database:
        await database.execute("SELECT 1")
    (span,) = sdk.spans()
    began, ended = times(span)
    assert ended - began == 7_000_000_000
    assert abs(time.time_ns() - ended) < 60_000_000_000
    assert sdk.histogram("db.client.operation.duration").sum == 7


async def test_an_error_shows_its_code_and_a_text_without_values() -> None:
    sdk = Sdk()
    error = db.QueryError("relation does not exist", sqlstate="42P01")
    async with scripted(sdk.telemetry(), {"SELECT * FROM nowhere": error}) as database:
        with pytest.raises(db.QueryError):
            await database.fetch_all("SELECT * FROM nowhere")
    (span,) = sdk.spans()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "relation does not exist")
    attributes = span.attributes or {}
    assert attributes["error.type"] == attributes["db.response.status_code"] == "42P01"
    assert "db.response.returned_rows" not in attributes
    assert span.events == ()
    measured = sdk.histogram("db.client.operation.duration").attributes or {}
    assert measured["error.type"] == "42P01"


@virtual
async def test_an_error_without_a_code_shows_its_class() -> None:
    sdk, script = Sdk(), Script()
    script.query.then(hangs())
    async with scripted(sdk.telemetry(), script=script) as database:
        with pytest.raises(db.QueryTimeout):
            await database.execute("SELECT 1", timeout=3)
    (span,) = sdk.spans()
    attributes = span.attributes or {}
    assert attributes["error.type"] == "QueryTimeout"
    assert "db.response.status_code" not in attributes


@virtual
async def test_a_cancelled_statement_ends_as_an_error() -> None:
    sdk, script = Sdk(), Script()
    script.query.then(hangs())
    async with scripted(sdk.telemetry(), script=script) as database:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await database.execute("SELECT 1")
    (span,) = sdk.spans()
    assert (span.attributes or {})["error.type"] == "CancelledError"
    assert span.status.status_code is StatusCode.ERROR


async def test_the_text_of_a_foreign_error_is_left_out() -> None:
    def answer(sql: str, params: object) -> Result:
        raise ZeroDivisionError("a secret")

    sdk = Sdk()
    async with scripted(sdk.telemetry(), answer) as database:
        with pytest.raises(ZeroDivisionError):
            await database.execute("SELECT 1")
    (span,) = sdk.spans()
    assert (span.attributes or {})["error.type"] == "ZeroDivisionError"
    assert "a secret" not in span.to_json()


async def test_the_text_of_statements_can_be_kept_out() -> None:
    sdk = Sdk()
    async with scripted(sdk.telemetry(query_text=False)) as database:
        await database.execute("SELECT 'a secret'")
    (span,) = sdk.spans()
    assert span.name == "SELECT"
    assert "a secret" not in span.to_json()


async def test_what_a_server_says_is_kept_out_with_the_text_that_it_may_quote() -> None:
    def answer(sql: str, params: object) -> Result:
        raise db.QueryError('relation "a secret" does not exist', sqlstate="42P01")

    for query_text in (True, False):
        sdk = Sdk()
        async with scripted(sdk.telemetry(query_text=query_text), answer) as database:
            with pytest.raises(db.QueryError):
                await database.execute("SELECT $1::text::regclass", ["a secret"])
        (span,) = sdk.spans()
        assert ("a secret" in span.to_json()) is query_text
        assert (span.attributes or {})["error.type"] == "42P01"


async def test_the_caller_can_summarize() -> None:
    sdk = Sdk()
    async with scripted(sdk.telemetry(summarize=str.lower)) as database:
        await database.execute("SELECT 1")
    (span,) = sdk.spans()
    assert span.name == (span.attributes or {})["db.query.summary"] == "select 1"


@pytest.mark.parametrize(
    ("sql", "word"),
    [("SELECT 1", "SELECT"), ("\n  insert into a values (1)", "insert"), ("(SELECT 1)", None), ("-- why", None)],
)
def test_the_leading_word_is_found(sql: str, word: str | None) -> None:
    assert leading_word(sql) == word


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        (Endpoint(system="a"), "a"),
        (Endpoint(system="a", host="b"), "b"),
        (Endpoint(system="a", host="b", port=3), "b:3"),
        (Endpoint(system="a", host="b", port=3, namespace="c"), "c"),
    ],
)
async def test_a_span_without_a_summary_is_named_for_its_target(endpoint: Endpoint, name: str) -> None:
    sdk = Sdk()

    def say(settings: ScriptedSettings) -> Endpoint:
        return endpoint

    driver = replace(scripted_driver(Script()), endpoint=say)
    async with db.open("scripted://", driver=driver, observe=sdk.telemetry(summarize=unsummarized)) as database:
        await database.execute("SELECT 1")
    (span,) = sdk.spans()
    assert span.name == name
    assert "db.query.summary" not in (span.attributes or {})


async def test_several_statements_that_go_together_are_one_span_without_a_text() -> None:
    sdk = Sdk()
    async with scripted(sdk.telemetry()) as database, database.transaction() as tx:
        await tx.batch([("SELECT 1", ()), ("SELECT 2", ())])
    assert [(span.name, (span.attributes or {}).get("db.query.text")) for span in sdk.spans()] == [
        ("BEGIN", "BEGIN"),
        ("scripted", None),
        ("COMMIT", "COMMIT"),
    ]


async def test_a_driver_says_which_database_it_is(tmp_path: Path) -> None:
    sdk = Sdk()
    path = str(tmp_path / "app.db")
    async with db.open(f"sqlite:///{path}", observe=sdk.telemetry()) as database:
        await database.fetch_value("SELECT 1")
    (span,) = sdk.spans()
    for attributes in (span.attributes or {}, sdk.histogram("db.client.operation.duration").attributes or {}):
        assert (attributes["db.system.name"], attributes["db.namespace"]) == ("sqlite", path)


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("postgresql://u:secret@h:6543/app", Endpoint(system="postgresql", namespace="app", host="h", port=6543)),
        ("postgresql://h:5432/app", Endpoint(system="postgresql", namespace="app", host="h")),
        ("postgresql://h1,h2:6543/app", Endpoint(system="postgresql", namespace="app")),
        ("postgresql://", Endpoint(system="postgresql")),
        ("sqlite://", Endpoint(system="sqlite", namespace=":memory:")),
    ],
)
def test_an_endpoint_comes_from_the_settings(url: str, endpoint: Endpoint) -> None:
    config = db.Config.from_url(url)
    say = find_driver(config.driver).endpoint
    assert say is not None
    assert say(config.settings) == endpoint


# -- metrics -----------------------------------------------------------------------------------------------------------


async def test_the_gauges_show_the_pool_as_it_is() -> None:
    sdk = Sdk()
    async with scripted(sdk.telemetry(), min_size=2, max_size=3) as database, database.connection():
        assert sdk.values(f"{CONNECTION}.count") == {("main", "idle"): 1, ("main", "used"): 1}
        assert sdk.values(f"{CONNECTION}.max") == {("main",): 3}
        assert sdk.values(f"{CONNECTION}.idle.min") == {("main",): 2}
        assert sdk.values(f"{CONNECTION}.pending_requests") == {("main",): 0}


@virtual
async def test_those_who_wait_are_pending_and_their_wait_is_measured() -> None:
    sdk = Sdk()
    async with scripted(sdk.telemetry(), max_size=1) as database:
        async with database.connection():
            waiter = asyncio.create_task(database.execute("SELECT 1"))
            await asyncio.sleep(4)
            assert sdk.values(f"{CONNECTION}.pending_requests") == {("main",): 1}
        await waiter
    wait, use = sdk.histogram(f"{CONNECTION}.wait_time"), sdk.histogram(f"{CONNECTION}.use_time")
    assert (wait.count, wait.sum, wait.max) == (2, 4, 4)
    assert (use.count, use.sum) == (2, 4)
    assert wait.attributes == use.attributes == {"db.client.connection.pool.name": "main"}


@virtual
async def test_connects_are_measured_in_bounds_made_for_seconds() -> None:
    sdk, script = Sdk(), Script()
    script.connect.then(slow(2))
    async with scripted(sdk.telemetry(), script=script):
        point = sdk.histogram(f"{CONNECTION}.create_time")
    assert (point.count, point.sum) == (1, 2)
    assert tuple(point.explicit_bounds) == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)


@virtual
async def test_only_checkouts_that_timed_out_are_timeouts() -> None:
    sdk = Sdk()
    async with scripted(sdk.telemetry(), max_size=1, max_waiting=1) as database, database.connection():
        waiter = asyncio.create_task(database.run(AsyncMock(), timeout=5))
        await settled()
        with pytest.raises(db.PoolExhausted):
            await asyncio.create_task(database.run(AsyncMock()))
        with pytest.raises(db.PoolTimeout):
            await waiter
        assert sdk.values(f"{CONNECTION}.timeouts") == {("main",): 1}


async def test_one_telemetry_tells_several_databases_apart() -> None:
    sdk = Sdk()
    telemetry = sdk.telemetry()
    names = ("users", "orders")
    connections = {name: {"driver": "scripted"} for name in names}
    driver = scripted_driver(Script())
    users, orders = (
        telemetry.attach(db.open({"connections": connections}, name, driver=driver, observe=telemetry))
        for name in names
    )
    async with users, orders, users.connection():
        assert sdk.values(f"{CONNECTION}.count") == {
            ("users", "idle"): 0,
            ("users", "used"): 1,
            ("orders", "idle"): 1,
            ("orders", "used"): 0,
        }


async def test_a_database_that_is_not_started_has_no_gauges() -> None:
    sdk = Sdk()
    database = scripted(sdk.telemetry())
    assert sdk.points(f"{CONNECTION}.count") == []
    async with database:
        assert len(sdk.points(f"{CONNECTION}.count")) == 2


async def test_a_foreign_pool_without_statistics_has_no_gauges_and_harms_no_other() -> None:
    async def start_pool(config: db.Config[ScriptedSettings]) -> PoolOps[FakeConnection]:
        pool = await base.start_pool(config)
        return PoolOps(checkout=pool.checkout, stop=pool.stop)

    sdk = Sdk()
    telemetry = sdk.telemetry()
    base = scripted_driver(Script())
    foreign = telemetry.attach(db.open("scripted://", driver=replace(base, start_pool=start_pool)))
    async with foreign, scripted(telemetry):
        assert len(sdk.points(f"{CONNECTION}.count")) == 2


async def test_attaching_twice_counts_once() -> None:
    sdk = Sdk()
    telemetry = sdk.telemetry()
    async with telemetry.attach(scripted(telemetry)):
        assert sdk.values(f"{CONNECTION}.count") == {("main", "idle"): 1, ("main", "used"): 0}


async def test_an_attached_database_is_not_kept_alive() -> None:
    sdk = Sdk()
    telemetry = sdk.telemetry()
    async with scripted(telemetry) as database:
        pass
    gone = weakref.ref(database)
    del database
    gc.collect()
    assert gone() is None
    assert sdk.points(f"{CONNECTION}.count") == []


def test_other_events_pass() -> None:
    sdk = Sdk()
    sdk.telemetry()(BackgroundError(pool="main", during="close", error=OSError()))
    assert sdk.spans() == ()


# -- harm --------------------------------------------------------------------------------------------------------------


async def test_what_goes_wrong_inside_harms_no_statement(caplog: pytest.LogCaptureFixture) -> None:
    def failing(sql: str) -> str:
        raise ZeroDivisionError

    sdk = Sdk()
    async with scripted(sdk.telemetry(summarize=failing), {"SELECT 1": [(1,)]}) as database:
        assert await database.fetch_value("SELECT 1") == 1
    assert "observe raised" in caplog.text


async def test_without_an_sdk_nothing_happens() -> None:
    async with scripted(Telemetry(), {"SELECT 1": [(1,)]}) as database:
        assert await database.fetch_value("SELECT 1") == 1


def test_without_the_package_the_import_says_what_to_install() -> None:
    code = "import sys; sys.modules['opentelemetry.metrics'] = None; import dbcore.otel"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert 'pip install "dbcore[otel]"' in ended.stderr.splitlines()[-1]
