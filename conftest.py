"""For every test, here and of the drivers: `async def` tests run in a fresh event loop each; servers are at hand."""

from __future__ import annotations

import asyncio
import inspect
import signal

import hypothesis
import pytest

# Examples have no time limit: a machine that is busy with something else says nothing of the code.
hypothesis.settings.register_profile("dbcore", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("dbcore")

# A shell that starts the tests in the background has these ignored, and so would be every program that a test starts.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

pytest_plugins = ["postgres_server", "mysql_server"]

HUNG_SECONDS = 120
"""An `async` test that takes longer fails where it stands, and the others go on."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test to its end in a loop of its own."""
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(function).parameters}

    async def bounded() -> None:
        async with asyncio.timeout(HUNG_SECONDS):
            await function(**arguments)

    with asyncio.Runner() as runner:
        runner.run(bounded())
    return True
