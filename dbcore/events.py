"""What happened, as frozen values for `observe`: one callable that gets each of them as it happens.

The callable runs inside the pool's own code, so it should be quick and must not block; what it raises is logged and
goes no further. Without one, none of these is ever made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from dbcore.stats import Holder

__all__ = [
    "BackgroundError",
    "CheckoutFailed",
    "CheckoutServed",
    "CloseReason",
    "ConnectFailed",
    "ConnectionClosed",
    "ConnectionOpened",
    "ConnectionPinged",
    "ConnectionReleased",
    "ConnectionReset",
    "Endpoint",
    "Event",
    "LeakSuspected",
    "Observer",
    "PoolStopped",
    "StatementFinished",
    "announce",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What a config connects to, in the words that monitoring has for it. Never holds a secret."""

    system: str
    """The database product, by its name in OpenTelemetry's conventions, such as `postgresql`."""
    namespace: str | None = None
    """The database at the server, or the file; `None` where the config does not say."""
    host: str | None = None
    port: int | None = None
    """Where it is not the product's own."""


CloseReason = Literal["lifetime", "idle", "drained", "lost", "unclean", "stopped", "cut off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events."""

    pool: str
    """Name of the connection in the config."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOpened(Event):
    """A connect succeeded."""

    seconds: float
    """How long the connect took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectFailed(Event):
    """A connect failed."""

    error: BaseException
    permanent: bool
    retry_in: float
    """Seconds until the next connect may be tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionClosed(Event):
    """A connection is gone, in whatever way."""

    reason: CloseReason
    age: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutServed(Event):
    """A checkout got its connection."""

    waited: float
    """Seconds; 0 for a checkout that was served at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutFailed(Event):
    """A checkout ended without a connection."""

    waited: float
    error: BaseException | None
    """`None` where the task was cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionReleased(Event):
    """A holder let go of its connection."""

    held: float
    """Seconds since the checkout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionReset(Event):
    """A connection was reset after a release."""

    seconds: float
    error: BaseException | None
    """`None` where the reset succeeded; else the connection was dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionPinged(Event):
    """An idle connection was asked whether it still works."""

    seconds: float
    error: BaseException | None
    """`None` where it answered; else the connection was dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakSuspected(Event):
    """A connection is in use for longer than `leak_warning`."""

    holder: Holder


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementFinished(Event):
    """A statement, or several that went together, ended."""

    sql: str
    """The text, without parameters."""
    seconds: float
    count: int
    """Rows returned or changed; 0 where it failed."""
    returned: int
    """Rows returned."""
    error: BaseException | None
    """What the caller gets."""
    endpoint: Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class BackgroundError(Event):
    """Something failed that nobody was waiting for."""

    during: str
    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStopped(Event):
    """The pool has ended."""

    cut_off: tuple[Holder, ...]
    """Who still held a connection when `stop_timeout` had passed."""


Observer = Callable[[Event], None]


def announce(
    observe: Observer | None, log: logging.Logger, pool: str, kind: Callable[..., Event], facts: Mapping[str, object]
) -> None:
    """Tell the observer, if there is one. What it raises goes to the log and no further."""
    if observe is not None:
        try:
            observe(kind(pool=pool, **facts))
        except (Exception, asyncio.CancelledError):  # nobody is cancelled here: it comes out of something it has asked
            log.exception("pool %s: observe raised; all else goes on", pool)
