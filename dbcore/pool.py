"""The pool protocol: what a running pool is to everybody outside of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from dbcore.stats import Holder, Stats

__all__ = ["Checkout", "Pool", "PoolOps", "Release"]

C_co = TypeVar("C_co", covariant=True)


class Release(Protocol):
    """Gives one connection back. Never awaits, never raises, and does nothing the second time."""

    def __call__(self) -> None: ...


class Checkout(Protocol[C_co]):
    """Takes one connection, with the closure that gives it back.

    `timeout` is in seconds and covers everything: waiting, connecting, checking. `None` means the pool's own
    `checkout_timeout`; nothing left at once and a timeout of 0 or less fails without waiting. Raises `PoolTimeout`,
    `PoolExhausted`, `PoolDeadlock`, `PoolClosed`, or what the connect failed with. A caller that is cancelled keeps
    nothing and loses nothing.
    """

    def __call__(self, timeout: float | None = None) -> Awaitable[tuple[C_co, Release]]: ...


class Pool(Protocol[C_co]):
    """A running pool, whoever made it. A class with these two methods fits, and so does a `PoolOps`."""

    def checkout(self, timeout: float | None = None) -> Awaitable[tuple[C_co, Release]]:
        """Take a connection: see `Checkout`."""
        ...

    def stop(self) -> Awaitable[None]:
        """End the pool for good. Idempotent; waiters fail with `PoolClosed`; bounded in time."""
        ...


@dataclass(frozen=True, slots=True)
class PoolOps(Generic[C_co]):
    """A running pool as plain closures over whatever the driver hides.

    `checkout` and `stop` are all it takes. The others are capabilities: a function, or `None` where the pool has no
    such thing.
    """

    checkout: Checkout[C_co]
    stop: Callable[[], Awaitable[None]]
    try_checkout: Callable[[], tuple[C_co, Release] | None] | None = None
    """Take a connection if that needs no waiting of any kind, else `None`. The caller promises to release it in the
    task that took it. Raises as `checkout` does."""
    scoped_checkout: Checkout[C_co] | None = None
    """The same as `checkout`, with the same promise: it lets a pool prove that its holders wait for each other."""
    admit: Callable[[float | None], Awaitable[Release]] | None = None
    """Called by a write transaction before its checkout; what it returns is called after the release. A database
    with one writer at a time lines its writers up here, so that they do not hold connections while they wait."""
    stats: Callable[[], Stats] | None = None
    holders: Callable[[], tuple[Holder, ...]] | None = None
    drain: Callable[[], Awaitable[None]] | None = None
