"""The suite as tests of pytest: one item for each promise, named for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from dbcore.testing.conformance.judging import judge, known
from dbcore.testing.conformance.promise import Promise
from dbcore.testing.conformance.subject import Subject
from dbcore.testing.conformance.suite import PROMISES

__all__ = ["conformance_tests"]


def conformance_tests(subject: Subject | None = None, promises: Sequence[Promise] = PROMISES) -> Callable[..., None]:
    """Make a test for pytest, with one item for each promise.

    `test_conformance = conformance_tests(Subject(...))` in a test file is all there is to it. Without a subject the
    test takes it from a fixture of that name, which may use other fixtures. What is absent is skipped with the reason,
    what is declared fails as expected (`xfail`) with the reason, and a declaration that has become stale fails. Each
    item runs in an event loop of its own, and needs no plugin.
    """
    import pytest  # here: the suite runs without it as well

    def run(promise: Promise, subject: Subject) -> None:
        verdict = asyncio.run(judge(promise, known(subject, PROMISES)))
        if verdict.outcome == "absent":
            pytest.skip(f"absent: {verdict.why}")
        if verdict.outcome == "declared":
            pytest.xfail(f"declared: {verdict.why}")
        if verdict.error is not None:
            raise verdict.error

    each = pytest.mark.parametrize("promise", promises, ids=str)
    if subject is None:
        return each(run)
    given = subject

    def run_given(promise: Promise) -> None:
        run(promise, given)

    return each(run_given)
