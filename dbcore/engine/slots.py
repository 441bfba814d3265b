"""The books of a pool: which slots exist, who waits, and what follows from that.

Nothing here awaits, reads a clock, logs or does I/O, so that every decision is made whole before anything else happens.
"""

from __future__ import annotations

import enum
import math
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

from dbcore.events import CloseReason
from dbcore.pool import Hold

__all__ = ["Books", "Slot", "State"]

C = TypeVar("C")


class State(enum.Enum):
    """What a slot is doing. Each of the first five counts against `max_size`."""

    CONNECTING = "connecting"
    IDLE = "idle"
    IN_USE = "in use"
    RESETTING = "resetting"  # being made ready for its next use: a reset, or a ping
    CLOSING = "closing"
    GONE = "gone"


class Slot(Generic[C]):
    """One unit of capacity, with all that the pool knows about the connection in it."""

    __slots__ = (
        "awaited",
        "born",
        "code",
        "connection",
        "expires",
        "fresh_until",
        "holder",
        "idle_since",
        "instruction",
        "leave",
        "on_probation",
        "pinged",
        "proven",
        "scoped",
        "since",
        "state",
        "suspect",
        "trusted_until",
        "untried",
        "warned",
    )

    connection: C
    """Set when the connect has succeeded."""

    def __init__(self, now: float) -> None:
        self.state = State.CONNECTING
        self.since = now
        """When the present state began; for a slot in use the checkout."""
        self.born = now
        self.expires = math.inf
        self.idle_since = now
        self.proven = now
        """When the connection was last known to work."""
        self.trusted_until = math.inf
        """Until then an idle connection is handed out without being asked first."""
        self.fresh_until = -math.inf
        """Until then, and that is never later, not even a look at it is needed."""
        self.suspect = False
        """Another connection was found dead after this one was last proven."""
        self.untried = True
        """It was never ready for use: the driver has just made it, or has it reset first."""
        self.pinged = False
        """It is being pinged: counted as resetting, but soon back."""
        self.on_probation = False
        """A suspect that is being pinged: nobody should rely on it."""
        self.leave: CloseReason | None = None
        """Why the connection must not be used again, once its holder lets go."""
        self.scoped = True
        """The holder releases it in the task that took it."""
        self.holder: weakref.ref[Hold[C]] | None = None
        self.code: Any = None
        self.instruction = 0
        """Code object and instruction of the checkout: the line is worked out when somebody asks."""
        self.warned = False
        self.awaited = False
        """There is something to do when its holder lets go: it has to leave, or was reported as a leak. It follows from
        those two, and is one look in place of two where every release passes."""


class Waiter(Protocol):
    """What the books need of somebody who waits: a future fits."""

    def done(self) -> bool: ...


W = TypeVar("W", bound=Waiter)


class Books(Generic[C, W]):
    """All slots of a pool and the line of those who wait for one."""

    __slots__ = (
        "closing",
        "connecting",
        "growth",
        "idle",
        "max_size",
        "min_size",
        "newest_first",
        "on_probation",
        "pinged",
        "resetting",
        "slots",
        "waiters",
    )

    def __init__(self, min_size: int, max_size: int, *, newest_first: bool = True) -> None:
        self.min_size = min_size
        self.max_size = max_size
        self.newest_first = newest_first
        self.slots: dict[Slot[C], None] = {}  # a set in the order of birth, so that a run can be repeated
        self.idle: deque[Slot[C]] = deque()
        self.waiters: OrderedDict[W, Any] = OrderedDict()  # leaves in O(1) from any place; the values are `line`'s
        self.connecting = 0
        self.resetting = 0
        self.closing = 0
        self.pinged = self.on_probation = 0
        self.growth = 1
        """Connects that may run side by side while other connections are being turned over."""

    @property
    def size(self) -> int:
        return len(self.slots)

    @property
    def in_use(self) -> int:
        return len(self.slots) - len(self.idle) - self.connecting - self.resetting - self.closing

    @property
    def live(self) -> int:
        """Connections that exist and may serve somebody sooner or later."""
        return len(self.slots) - self.connecting - self.closing

    def slots_in(self, state: State) -> Iterator[Slot[C]]:
        return (slot for slot in self.slots if slot.state is state)

    # -- slots ---------------------------------------------------------------------------------------------------------

    def open(self, now: float) -> Slot[C]:
        """Take capacity for a connection that is about to be made."""
        if len(self.slots) >= self.max_size:
            raise AssertionError("bug: a connect beyond max_size")
        slot: Slot[C] = Slot(now)
        self.slots[slot] = None
        self.connecting += 1
        return slot

    def move(self, slot: Slot[C], state: State, now: float) -> None:
        """Change a slot's state; `IDLE` puts it at the end of the idle line, `GONE` gives its capacity back."""
        old = slot.state
        if old is State.IDLE:
            self.idle.remove(slot)
        elif old is State.CONNECTING:
            self.connecting -= 1
        elif old is State.RESETTING:
            self.resetting -= 1
            self.pinged -= slot.pinged
            self.on_probation -= slot.on_probation
            slot.pinged = slot.on_probation = False
        elif old is State.CLOSING:
            self.closing -= 1
        elif old is State.GONE:
            raise AssertionError("bug: a slot that is gone was moved")
        slot.state = state
        slot.since = now
        if state is State.IDLE:
            self.idle.append(slot)
        elif state is State.RESETTING:
            self.resetting += 1
            slot.pinged = old is State.IDLE
            slot.on_probation = slot.pinged and slot.suspect
            self.pinged += slot.pinged
            self.on_probation += slot.on_probation
        elif state is State.CLOSING:
            self.closing += 1
        elif state is State.GONE:
            del self.slots[slot]

    def top(self) -> Slot[C] | None:
        """The idle connection that goes out next."""
        if not self.idle:
            return None
        return self.idle[-1] if self.newest_first else self.idle[0]

    def first_suspect(self) -> Slot[C] | None:
        return next((slot for slot in self.idle if slot.suspect), None)

    def suspect_all(self) -> None:
        """One connection was found dead: whatever killed it may have killed the others."""
        for slot in self.slots:
            if slot.state is not State.CONNECTING:
                slot.suspect = True
                slot.trusted_until = slot.fresh_until = -math.inf

    # -- waiters -------------------------------------------------------------------------------------------------------

    def next_waiter(self) -> W | None:
        """Take the oldest waiter out of the line, past those that were cancelled but have not run since."""
        while self.waiters:
            waiter, _ = self.waiters.popitem(last=False)
            if not waiter.done():
                return waiter
        return None

    # -- decisions -----------------------------------------------------------------------------------------------------

    def proofs_wanted(self) -> int:
        """How many idle connections should be pinged now, to serve those who wait or to be trusted again."""
        if not self.idle:
            return 0
        if self.waiters:
            # A reset may take its time; whoever waits beside idle connections gets the first that answers.
            return min(len(self.idle), len(self.waiters) - self.pinged)
        return 1 if not self.on_probation and self.first_suspect() is not None else 0

    def connects_wanted(self, *, allowed: int | None = None) -> int:
        """How many connects should be begun now.

        One for each waiter that nothing else is on its way to, or up to `min_size`, within `max_size` and `allowed`.
        While other connections are being turned over, growth starts with one connect and doubles with each success:
        a short spike is served by connections that come back, not by a crowd of new ones.
        """
        room = self.max_size - len(self.slots)
        short = self.min_size - len(self.slots) + self.closing
        wanted = len(self.waiters) - self.connecting - (self.resetting - self.on_probation)
        if wanted > 0 and self.live:
            wanted = min(wanted, self.growth - self.connecting)
        wanted = min(max(wanted, short), room)
        if allowed is not None:
            wanted = min(wanted, allowed - self.connecting)
        return max(wanted, 0)
