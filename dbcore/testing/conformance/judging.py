"""Trying a promise on a subject, and saying what came of it."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

from pydantic import SecretStr

from dbcore.config.problems import nearest
from dbcore.errors import UnsupportedError, UsageError
from dbcore.testing.conformance.capabilities import TOLD, lacks, refuses
from dbcore.testing.conformance.endless import how_it_ended
from dbcore.testing.conformance.promise import Promise
from dbcore.testing.conformance.subject import Subject
from dbcore.testing.values import KINDS

__all__ = ["GUARD", "Outcome", "Verdict", "examine", "judge", "known"]

GUARD: Final = 60.0
"""Seconds after which a promise counts as hanging. All of them take a second or two."""

STUBBORN: Final = 30.0
"""Seconds that it may take to end after that, when it is cancelled and drops its tables."""

HERE: Final = Path(__file__).parent

Outcome = Literal["kept", "broken", "absent", "declared", "stale"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of one promise.

    `kept` and `broken` speak for themselves. `absent`: the driver has no such capability, and says so when it is asked
    for it. `declared`: not kept, and the subject gives the reason. `stale`: kept, though the subject says it cannot be.
    """

    promise: Promise
    outcome: Outcome
    why: str = ""
    """One line: what came instead, or the reason that was given."""
    error: BaseException | None = None

    @property
    def good(self) -> bool:
        return self.outcome not in ("broken", "stale")


async def judge(promise: Promise, subject: Subject) -> Verdict:
    """Try one promise. Whatever it raises is in the verdict, and what hangs is ended after `GUARD` seconds."""
    reason = subject.cannot.get(promise.name)
    place: Subject | None = None
    try:
        async with subject.placed() as place:
            if missing := await lacks(place, promise.needs):
                return await _absent(promise, place, missing)
            await _bounded(promise, place)
    except Exception as error:
        if isinstance(error, UnsupportedError) and set(promise.needs) - set(TOLD):
            return Verdict(promise=promise, outcome="absent", why=str(error))
        if reason is not None:
            return Verdict(promise=promise, outcome="declared", why=reason, error=error)
        if place is not None and "endless" in promise.needs and (ended := await _ended(place)):
            return Verdict(promise=promise, outcome="broken", why=ended, error=AssertionError(ended))
        return Verdict(promise=promise, outcome="broken", why=_told(error, place), error=error)
    if reason is not None:
        why = f"it is kept, though it was declared that it cannot be ({reason}): take that out of `cannot`"
        return Verdict(promise=promise, outcome="stale", why=why, error=AssertionError(why))
    return Verdict(promise=promise, outcome="kept")


async def examine(
    subject: Subject, promises: Iterable[Promise], told: Callable[[Verdict], None] | None = None
) -> Sequence[Verdict]:
    """Try these promises one after the other; `told` hears of each verdict as it is reached."""
    verdicts: list[Verdict] = []
    for promise in promises:
        verdict = await judge(promise, subject)
        verdicts.append(verdict)
        if told is not None:
            told(verdict)
    return verdicts


def known(subject: Subject, promises: Iterable[Promise]) -> Subject:
    """Return the subject, whose declarations all name something there is; else `UsageError`."""
    names = {promise.name for promise in promises}
    names |= {f"{name}: {value}" for name, kind in KINDS.items() for value in kind.values}
    for name in subject.cannot:
        if name not in names:
            raise UsageError(f"cannot: there is no promise {name!r}. {nearest(name, names)}")
    for name in subject.permanent:
        if name not in subject.unreachable:
            raise UsageError(f"permanent: {name!r} is not in unreachable. {nearest(name, subject.unreachable)}")
    return subject


async def _absent(promise: Promise, subject: Subject, missing: Sequence[str]) -> Verdict:
    for capability in missing:
        await refuses(subject, capability)
    untold = [need for need in missing if need in TOLD]
    why = (
        f"`Subject.{untold[0]}` does not say what to try it with"
        if untold
        else f"the driver has no {', '.join(missing)}"
    )
    return Verdict(promise=promise, outcome="absent", why=why)


async def _ended(subject: Subject) -> str | None:
    """Whether a promise about a query without end is broken because that query has one."""
    try:
        async with asyncio.timeout(GUARD):
            return await how_it_ended(subject)
    except Exception:  # the driver cannot even be asked; what it broke before is what matters
        return None


async def _bounded(promise: Promise, subject: Subject) -> None:
    """Run it in a task of its own: one that does not listen to a cancellation must not take the suite with it."""

    async def run() -> None:
        await promise.run(subject)

    task = asyncio.create_task(run(), name=promise.name)
    try:
        await asyncio.wait([task], timeout=GUARD)
        if task.done():
            return task.result()
        where = _place_of(_waiting(task)) or "an unknown place"
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=STUBBORN)
    ending = "" if task.done() else ", and went on when it was cancelled"
    raise AssertionError(f"it hung for {GUARD:g} s{ending}: it stood at {where}")


def _waiting(task: asyncio.Task[None]) -> Sequence[traceback.FrameSummary]:
    """Where a task stands, from the outside in: `Task.get_stack` knows the outermost frame alone."""
    stack: list[traceback.FrameSummary] = []
    waiting: object = task.get_coro()
    while inspect.iscoroutine(waiting):
        if waiting.cr_frame is not None:
            stack += traceback.extract_stack(waiting.cr_frame, limit=1)
        waiting = waiting.cr_await
    return stack


def _told(error: BaseException, subject: Subject | None) -> str:
    """One line on what came, without a secret of the config."""
    text = " ".join(str(error).split())
    if not isinstance(error, AssertionError):
        text = f"{type(error).__name__}: {text}"
    if subject is not None:
        for value in _secrets(subject.config.settings.model_dump()):
            text = text.replace(value, "***")
    place = _place_of(traceback.extract_tb(error.__traceback__))
    return f"{text} ({place})" if place else text


def _secrets(value: Any) -> list[str]:
    if isinstance(value, SecretStr):
        return [secret] if (secret := value.get_secret_value()) else []
    if isinstance(value, dict):
        return [secret for each in cast("dict[str, Any]", value).values() for secret in _secrets(each)]
    return []


def _place_of(stack: Sequence[traceback.FrameSummary]) -> str | None:
    """The innermost line of the promise itself."""
    own = [frame for frame in stack if Path(frame.filename).parent == HERE / "areas"]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else None
