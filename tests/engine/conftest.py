"""Every way that a slot goes in these tests has to stand on the page about the pool."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from pages import DOCS

from dbcore.engine.slots import Books, Slot, State

STATES = "|".join(state.value for state in State)
ROW = re.compile(rf"^\|(?: \d+ \|)? ({STATES}) \| ({STATES}) \|", re.MULTILINE)

WAYS = set(ROW.findall((DOCS / "pool.md").read_text(encoding="utf-8")))


@pytest.fixture(autouse=True)
def only_ways_on_the_page(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test whose slots go another way."""
    others: set[tuple[str, str]] = set()
    move = Books[Any, Any].move

    def noted(self: Books[Any, Any], slot: Slot[Any], state: State, now: float) -> None:
        way = slot.state.value, state.value
        if way not in WAYS:
            others.add(way)
        move(self, slot, state, now)

    monkeypatch.setattr(Books, "move", noted)
    yield
    assert not others, "docs/pool.md knows no such way of a slot"
