"""A state machine drives the pure decisions of the pool in any order, against a model of a few lines.

The books decide; this machine plays the part of the engine, in the simplest way that keeps to the books' rules, and of
everybody around it. After each step the books balance.
"""

from __future__ import annotations

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dbcore.engine.slots import Books, Slot, State


class Waiter:
    """Stands in line: waiting, served with a slot, or gone."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.slot: Slot[int] | None = None
        self.left = False

    def done(self) -> bool:
        return self.left or self.slot is not None


class BooksMachine(RuleBasedStateMachine):
    """Checkout, cancel, time out, release, connect, break, reset, suspect, retire, drain, in any order."""

    books: Books[int, Waiter]

    @initialize(
        min_size=st.integers(0, 3),
        more=st.integers(0, 3),
        newest_first=st.booleans(),
    )
    def start(self, min_size: int, more: int, newest_first: bool) -> None:
        self.books = Books(min_size, max(min_size + more, 1), newest_first=newest_first)
        self.now = 0.0
        self.came = 0
        self.line: list[Waiter] = []
        self.served: list[Waiter] = []
        self.held: list[Slot[int]] = []
        self.model: dict[Slot[int], State] = {}

    # What the machine does in the engine's place

    def move(self, slot: Slot[int], state: State) -> None:
        self.books.move(slot, state, self.now)
        self.model[slot] = state
        if state is State.GONE:
            del self.model[slot]

    def give(self, slot: Slot[int]) -> None:
        """To the oldest who waits, or to the idle line."""
        waiter = self.books.next_waiter()
        if waiter is None:
            self.move(slot, State.IDLE)
            return
        oldest = next(one for one in self.line if not one.done())
        assert waiter is oldest, "not first come, first served"
        if slot.state is not State.IN_USE:
            self.move(slot, State.IN_USE)
        waiter.slot = slot
        self.line.remove(waiter)
        self.served.append(waiter)
        self.held.append(slot)

    def connect(self) -> None:
        """Begin what the books want, as long as they want it: this must come to an end."""
        begun = 0
        while self.books.connects_wanted() > 0:
            slot = self.books.open(self.now)
            self.model[slot] = State.CONNECTING
            begun += 1
            assert begun <= self.books.max_size

    def of(self, *states: State) -> list[Slot[int]]:
        return [slot for slot, state in self.model.items() if state in states]

    # What happens

    @rule()
    def checkout(self) -> None:
        self.now += 1
        self.came += 1
        slot = self.books.top()
        if slot is not None and not self.waiting and not slot.suspect:
            self.move(slot, State.IN_USE)
            self.held.append(slot)
            return
        waiter = Waiter(self.came)
        self.books.waiters[waiter] = None
        self.line.append(waiter)
        self.connect()

    @property
    def waiting(self) -> list[Waiter]:
        return [waiter for waiter in self.line if not waiter.done()]

    @precondition(lambda self: bool(self.waiting))
    @rule(data=st.data(), notes_it=st.booleans())
    def leave(self, data: st.DataObject, notes_it: bool) -> None:
        """Cancelled or timed out; a cancelled one stays in the line until its task has run."""
        waiter = data.draw(st.sampled_from(self.waiting))
        waiter.left = True
        if notes_it:
            self.books.waiters.pop(waiter, None)
            self.line.remove(waiter)

    @precondition(lambda self: bool(self.of(State.CONNECTING)))
    @rule(data=st.data(), succeeds=st.booleans())
    def connect_ends(self, data: st.DataObject, succeeds: bool) -> None:
        slot = data.draw(st.sampled_from(self.of(State.CONNECTING)))
        if succeeds:
            slot.connection = self.came
            self.books.growth *= 2
            self.give(slot)
        else:
            self.move(slot, State.GONE)
        self.connect()

    @precondition(lambda self: bool(self.held))
    @rule(data=st.data(), how=st.sampled_from(["clean", "dirty", "broken", "expired"]))
    def release(self, data: st.DataObject, how: str) -> None:
        slot = data.draw(st.sampled_from(self.held))
        self.held.remove(slot)
        if slot.leave is not None or how == "expired":
            self.move(slot, State.CLOSING)
        elif how == "dirty":
            self.move(slot, State.RESETTING)
        elif how == "broken":
            self.books.suspect_all()
            self.move(slot, State.GONE)
        elif slot.suspect:
            self.move(slot, State.IDLE)
        else:
            self.give(slot)
        self.connect()

    @precondition(lambda self: bool(self.of(State.RESETTING)))
    @rule(data=st.data(), succeeds=st.booleans())
    def reset_ends(self, data: st.DataObject, succeeds: bool) -> None:
        slot = data.draw(st.sampled_from(self.of(State.RESETTING)))
        if not succeeds:
            self.move(slot, State.GONE)
        elif slot.leave is not None:
            self.move(slot, State.CLOSING)
        else:
            slot.suspect = False
            self.give(slot)
        self.connect()

    @precondition(lambda self: self.books.proofs_wanted() > 0)
    @rule()
    def prove(self) -> None:
        slot = self.books.top() if self.books.waiters else self.books.first_suspect()
        assert slot is not None
        assert slot.state is State.IDLE
        self.move(slot, State.RESETTING)

    @precondition(lambda self: bool(self.of(State.IDLE)))
    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        self.move(data.draw(st.sampled_from(self.of(State.IDLE))), State.CLOSING)
        self.connect()

    @precondition(lambda self: bool(self.of(State.CLOSING)))
    @rule(data=st.data())
    def close_ends(self, data: st.DataObject) -> None:
        self.move(data.draw(st.sampled_from(self.of(State.CLOSING))), State.GONE)
        self.connect()

    @rule()
    def drain(self) -> None:
        for slot in list(self.model):
            if slot.state is State.IDLE:
                self.move(slot, State.CLOSING)
            elif slot.state is not State.CLOSING:
                slot.leave = "drained"
        self.connect()

    # What holds after each step

    @invariant()
    def books_balance(self) -> None:
        books = self.books
        counted = (len(books.idle), books.in_use, books.connecting, books.resetting, books.closing)
        assert min(counted) >= 0
        assert sum(counted) == books.size == len(self.model) <= books.max_size
        for state, count in zip(
            (State.IDLE, State.IN_USE, State.CONNECTING, State.RESETTING, State.CLOSING), counted, strict=True
        ):
            assert len(self.of(state)) == count == len(list(books.slots_in(state)))
        assert sorted(map(id, self.held)) == sorted(map(id, self.of(State.IN_USE)))
        assert [waiter for waiter in books.waiters if not waiter.done()] == self.waiting

    @invariant()
    def nobody_waits_beside_room(self) -> None:
        """Whoever waits has something on its way, or nothing more can be begun."""
        if not self.waiting:
            return
        books = self.books
        on_the_way = books.connecting + books.resetting + books.closing
        assert on_the_way or books.in_use or books.proofs_wanted() > 0 or books.size == books.max_size
        assert books.connects_wanted() == 0


TestBooks = BooksMachine.TestCase
TestBooks.__doc__ = "Laws: B1, B11, B12, C1, C4, C5, L1, L12."
TestBooks.settings = hypothesis_settings(max_examples=150, stateful_step_count=50, deadline=None)
