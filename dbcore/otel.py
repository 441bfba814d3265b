"""OpenTelemetry: a span for each statement, and the metrics of pools, by the semantic conventions for databases.

```python
telemetry = Telemetry()
async with telemetry.attach(db.open("db.toml", observe=telemetry)) as database:
    ...
```

Needs `pip install "dbcore[otel]"`. What becomes of the spans and metrics is up to the SDK that the program sets up.
"""

from __future__ import annotations

import re
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

from dbcore.database import Database
from dbcore.errors import DbError, PoolTimeout
from dbcore.events import (
    CheckoutFailed,
    CheckoutServed,
    ConnectionOpened,
    ConnectionReleased,
    Endpoint,
    Event,
    StatementFinished,
)
from dbcore.stats import Stats

try:
    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation, get_meter
    from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider, get_tracer
except ModuleNotFoundError as error:
    message = 'dbcore.otel needs opentelemetry-api, which is not installed: pip install "dbcore[otel]"'
    raise ModuleNotFoundError(message, name=error.name) from error

__all__ = ["Telemetry", "leading_word"]

SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
"""The edition of the conventions that the names below are from."""

SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10]
"""Bounds of the histograms, as the conventions want them; those of the SDK are made for milliseconds."""

CONNECTION = "db.client.connection"
POOL = f"{CONNECTION}.pool.name"
STATE = f"{CONNECTION}.state"

Attributes = Mapping[str, str | int]

WORD = re.compile(r"\s*([A-Za-z_]+)")


def leading_word(sql: str) -> str | None:
    """The word that a statement begins with, such as `SELECT`; `None` where it begins with something else."""
    found = WORD.match(sql)
    return found[1] if found is not None else None


class Telemetry:
    """Turns events into spans and metrics: give it to `db.open` as `observe`, and what that returns to `attach`.

    One serves any number of databases; their names must differ, for they tell the pools apart. Without providers it
    uses the global ones, also those that are set later. `query_text=False` keeps the texts of statements and of
    errors out of the spans: parameters are in neither, but what was written into the text itself is in the one, and
    what a server quotes of it may be in the other. `summarize` makes of a text the `db.query.summary`, which names the
    span and splits the metric: few different ones, please, and no values.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        query_text: bool = True,
        summarize: Callable[[str], str | None] = leading_word,
    ) -> None:
        self._query_text = query_text
        self._summarize = summarize
        self._databases: tuple[weakref.ref[Database], ...] = ()
        self._tracer = get_tracer("dbcore", tracer_provider=tracer_provider, schema_url=SCHEMA)
        meter = get_meter("dbcore", meter_provider=meter_provider, schema_url=SCHEMA)

        def seconds(name: str, description: str) -> Callable[[float, Attributes], None]:
            return meter.create_histogram(
                name, unit="s", description=description, explicit_bucket_boundaries_advisory=SECONDS
            ).record

        self._operation = seconds("db.client.operation.duration", "Duration of database client operations.")
        self._create = seconds(f"{CONNECTION}.create_time", "The time it took to create a new connection.")
        self._wait = seconds(f"{CONNECTION}.wait_time", "The time it took to obtain an open connection from the pool.")
        self._use = seconds(
            f"{CONNECTION}.use_time", "The time between borrowing a connection and returning it to the pool."
        )
        self._timeouts = meter.create_counter(
            f"{CONNECTION}.timeouts",
            unit="{timeout}",
            description="The number of connection timeouts that have occurred trying to obtain a connection.",
        )
        self._create_gauges(meter)

    def attach(self, database: Database) -> Database:
        """Report the gauges of this database from its start on, and return it.

        It is not kept alive by that. A foreign pool that keeps no statistics has no gauges.
        """
        living = [ref for ref in self._databases if ref() not in (None, database)]
        # A new tuple, for a reader of metrics may be going through the old one in its own thread.
        self._databases = (*living, weakref.ref(database))
        return database

    def __call__(self, event: Event) -> None:
        """Take an event; what `db.open(..., observe=telemetry)` calls."""
        match event:
            case StatementFinished():
                self._statement(event)
            case CheckoutServed():
                self._wait(event.waited, {POOL: event.pool})
            case ConnectionReleased():
                self._use(event.held, {POOL: event.pool})
            case ConnectionOpened():
                self._create(event.seconds, {POOL: event.pool})
            case CheckoutFailed(error=PoolTimeout()):
                self._timeouts.add(1, {POOL: event.pool})
            case _:
                pass

    # -- statements ----------------------------------------------------------------------------------------------------

    def _statement(self, event: StatementFinished) -> None:
        """The statement is over and this is still its caller's context: the span is made whole, with both its times."""
        ended = time.time_ns()
        known = _attributes(event.endpoint)
        summary = self._summarize(event.sql) if event.sql else None
        if summary:
            known = {**known, "db.query.summary": summary}
        failure = _failure(event.error)
        self._operation(event.seconds, {**known, **failure})
        text = {"db.query.text": event.sql} if self._query_text and event.sql else {}
        span = self._tracer.start_span(
            summary or _target(event.endpoint),
            kind=SpanKind.CLIENT,
            attributes={**known, **text, POOL: event.pool},
            start_time=ended - round(event.seconds * 1e9),
        )
        if event.error is None:
            span.set_attribute("db.response.returned_rows", event.returned)
        else:
            span.set_attributes(failure)
            # Only texts of our own errors, and no traceback: other texts, and the causes, hold values. A server's words
            # that are shown in ours may quote the statement, so they go where its text goes.
            shown = self._query_text and isinstance(event.error, DbError)
            span.set_status(Status(StatusCode.ERROR, str(event.error) if shown else None))
        span.end(ended)

    # -- gauges --------------------------------------------------------------------------------------------------------

    def _create_gauges(self, meter: Meter) -> None:
        def gauge(name: str, unit: str, description: str, *readings: tuple[Callable[[Stats], int], Attributes]) -> None:
            def observe(_: CallbackOptions) -> Iterator[Observation]:
                for pool, stats in self._pools():
                    for read, attributes in readings:
                        # Read from another thread, which may see a change half made.
                        yield Observation(max(read(stats), 0), {POOL: pool, **attributes})

            meter.create_observable_up_down_counter(name, [observe], unit=unit, description=description)

        gauge(
            f"{CONNECTION}.count",
            "{connection}",
            "The number of connections that are currently in state described by the state attribute.",
            (lambda stats: stats.idle, {STATE: "idle"}),
            (lambda stats: stats.in_use, {STATE: "used"}),
        )
        gauge(
            f"{CONNECTION}.max",
            "{connection}",
            "The maximum number of open connections allowed.",
            (lambda stats: stats.max_size, {}),
        )
        gauge(
            f"{CONNECTION}.idle.min",
            "{connection}",
            "The minimum number of idle open connections allowed.",
            (lambda stats: stats.min_size, {}),
        )
        gauge(
            f"{CONNECTION}.pending_requests",
            "{request}",
            "The number of current pending requests for an open connection.",
            (lambda stats: stats.waiting, {}),
        )

    def _pools(self) -> Iterator[tuple[str, Stats]]:
        for ref in self._databases:
            database = ref()
            if database is not None:
                try:
                    stats = database.stats()
                except DbError:  # not started yet, or a foreign pool without statistics
                    continue
                yield database.name, stats


@lru_cache(maxsize=64)
def _attributes(endpoint: Endpoint) -> Attributes:
    found: dict[str, str | int | None] = {
        "db.system.name": endpoint.system,
        "db.namespace": endpoint.namespace,
        "server.address": endpoint.host,
        "server.port": endpoint.port,
    }
    return {key: value for key, value in found.items() if value is not None}


def _target(endpoint: Endpoint) -> str:
    """The name of a span whose statement has no summary, in the order that the conventions have."""
    if endpoint.namespace is not None or endpoint.host is None:
        return endpoint.namespace or endpoint.system
    return endpoint.host if endpoint.port is None else f"{endpoint.host}:{endpoint.port}"


def _failure(error: BaseException | None) -> Attributes:
    if error is None:
        return {}
    code = error.sqlstate if isinstance(error, DbError) else None
    if code is None:
        return {"error.type": type(error).__qualname__}
    return {"error.type": code, "db.response.status_code": code}
