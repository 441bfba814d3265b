"""The start of a pool: whether its first connections were made, or why not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbcore.engine.slots import Books

__all__ = ["Opening"]


class Opening:
    """Waited for once, by whoever starts the pool."""

    def __init__(self) -> None:
        self._outcome: asyncio.Future[BaseException | None] | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[BaseException | None]:
        """To be called before the first connect. Gives its error, or `None` once `min_size` connections are there."""
        self._outcome = loop.create_future()
        return self._outcome

    def check(self, books: Books[Any, Any]) -> None:
        """See whether there are enough, now that one more is ready."""
        if self._outcome is None or self._outcome.done():
            return
        if sum(not slot.untried for slot in books.slots) >= books.min_size:
            self._outcome.set_result(None)

    def failed(self, error: BaseException) -> bool:
        """Tell whoever waits for the start; say whether there was one to be told."""
        if self._outcome is None or self._outcome.done():
            return False
        self._outcome.set_result(error)
        return True
