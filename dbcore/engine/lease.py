"""The `Release` that the engine hands out: one object per checkout, which is what makes a second release harmless."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbcore.pool import Hold, NotLent

if TYPE_CHECKING:
    from dbcore.engine.lending import Lending

__all__ = ["Lease"]

_BEFORE, _AFTER = NotLent(), NotLent()


class Lease(Hold[Any]):
    """Gives one connection back. Never awaits, never raises, does nothing the second time."""

    __slots__ = ("_lending",)

    def __init__(self, lending: Lending[Any]) -> None:
        self._lending = lending
        self.lent = _BEFORE

    def __call__(self) -> None:
        self._lending.take_back(self, _AFTER)

    def __repr__(self) -> str:
        return f"<Release of pool {self._lending.name!r}{' (done)' if self.lent is _AFTER else ''}>"
