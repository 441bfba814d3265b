"""The `Release` that the engine hands out: one object per checkout, which is what makes a second release harmless."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbcore.engine.engine import Engine
    from dbcore.engine.slots import Slot

__all__ = ["Lease"]


class Lease:
    """Gives one connection back. Never awaits, never raises, does nothing the second time."""

    __slots__ = ("_engine", "_slot")

    def __init__(self, engine: Engine[Any], slot: Slot[Any]) -> None:
        self._engine = engine
        self._slot: Slot[Any] | None = slot

    def __call__(self) -> None:
        slot = self._slot
        if slot is not None:
            self._slot = None
            self._engine.release(slot)

    def __del__(self) -> None:
        # Nobody took the result of the checkout, or forgot it: a task that was cancelled just after it had been
        # served leaves one behind. Finalisers run in any thread and at any time, so the loop does the work.
        slot = self._slot
        if slot is not None:
            self._slot = None
            self._engine.release_dropped(slot)

    def __repr__(self) -> str:
        return f"<Release of pool {self._engine.name!r}{' (done)' if self._slot is None else ''}>"
