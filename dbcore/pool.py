"""The pool protocol: what a running pool is to everybody outside of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from dbcore.stats import Holder, Stats

__all__ = ["Checkout", "Hold", "Lender", "NotLent", "Pool", "PoolOps", "Release"]

C = TypeVar("C")
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


class NotLent:
    """What a `Hold` has in place of a connection: before its checkout, and after its release."""

    __slots__ = ()
    state = None


FORKED = NotLent()
"""What a `Hold` of the parent process has in a forked child: the connection is the parent's."""


class Hold(Generic[C]):
    """One checkout from its holder's side, for those who are lent to by a `Lender`.

    The pool refers to it weakly. So a connection whose hold was dropped, without being given back, is noticed.
    """

    __slots__ = ("__weakref__", "lent", "task")

    lent: Any
    """What was lent, with the native connection as its `connection`; a `NotLent` while there is none."""
    task: Any
    """The task that took it, or a weak reference to it. Set by the pool."""

    def _cut_off(self, place: NotLent) -> None:
        """Take away what was lent, without giving it back to the pool."""
        self.lent = place


@dataclass(frozen=True, slots=True)
class Lender(Generic[C]):
    """The short way into a pool, for dbcore itself: it fills a `Hold` in place of making a closure for each checkout.

    Whoever takes it promises to give the connection back in the task that took it: that lets a pool prove that its
    holders wait for each other. Errors are those of `Checkout`.
    """

    try_lend: Callable[[Hold[C], int], bool]
    """Lend a connection if that needs no waiting of any kind. The number says how many frames up the place is that
    reports shall name: 1 is the caller."""
    lend: Callable[[Hold[C], float | None, int], Awaitable[None]]
    """Wait for one, at most as long as the timeout says."""
    take_back: Callable[[Hold[C], NotLent], None]
    """Release; the hold has the second argument in its place then. Nothing happens the second time."""
    take_back_unused: Callable[[Hold[C], NotLent], None]
    """The same for a connection that nobody has looked at: it is as it was, and neither checked nor trusted anew."""


@dataclass(frozen=True, slots=True)
class PoolOps(Generic[C]):
    """A running pool as plain closures over whatever the driver hides.

    `checkout` and `stop` are all it takes. The others are capabilities: a function, or `None` where the pool has no
    such thing.
    """

    checkout: Checkout[C]
    stop: Callable[[], Awaitable[None]]
    lender: Lender[C] | None = None
    admit: Callable[[float | None], Awaitable[Release]] | None = None
    """Called, with the seconds that are left, before the checkout of what is going to write; what it returns is called
    after the release. A database with one writer at a time lines its writers up here, so that they do not hold
    connections while they wait."""
    stats: Callable[[], Stats] | None = None
    holders: Callable[[], tuple[Holder, ...]] | None = None
    drain: Callable[[], Awaitable[None]] | None = None
