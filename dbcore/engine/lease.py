"""The `Release` that the engine hands out: one object per checkout, which is what makes a second release harmless."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbcore.engine.lending import Lending
    from dbcore.engine.slots import Slot

__all__ = ["Lease"]


class Lease:
    """Gives one connection back. Never awaits, never raises, does nothing the second time."""

    __slots__ = ("_lending", "_slot")

    def __init__(self, lending: Lending[Any], slot: Slot[Any]) -> None:
        self._lending = lending
        self._slot: Slot[Any] | None = slot

    def __call__(self) -> None:
        slot = self._slot
        if slot is not None:
            self._slot = None
            self._lending.release(slot)

    def __del__(self) -> None:
        # Nobody took the result of the checkout, or forgot it: a task that was cancelled just after it had been
        # served leaves one behind. Finalisers run in any thread and at any time, so the loop does the work.
        slot = self._slot
        if slot is not None:
            self._slot = None
            self._lending.release_dropped(slot)

    def __repr__(self) -> str:
        return f"<Release of pool {self._lending.name!r}{' (done)' if self._slot is None else ''}>"
