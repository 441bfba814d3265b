"""Credentials that change: a function of the user's, asked for every new connection."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from operator import attrgetter
from typing import Any, TypeVar, cast

from dbcore.config.problems import Place, Problems
from dbcore.config.validation import Given, keys_of, validate
from dbcore.config.values import Config, Credentials, Settings
from dbcore.errors import DbConnectionError
from dbcore.loops import look_at_failure

__all__ = ["connect_with", "resolve_credentials"]

_PLAIN = re.compile(r"[a-z_]+(\.[a-z_]+)*")
"""Names of modules that may be shown. With digits in it, it may be a password that was put here by mistake."""

C = TypeVar("C")
S = TypeVar("S", bound=Settings)


def resolve_credentials(value: object, place: Place, problems: Problems) -> Credentials | None:
    """The function that `credentials` names, or `None` and a problem. A callable is taken as it is."""
    if callable(value):
        return cast("Credentials", value)
    module, colon, path = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not (module and colon and path):
        problems.add(place, "this names no function", "Write 'package.module:function'.")
        return None
    try:
        found: object = attrgetter(path)(importlib.import_module(module))
    except Exception as error:  # the user's module may raise anything, with any text
        why = type(error).__name__
        shown = f"module {module}" if _PLAIN.fullmatch(module) else "such module"
        if isinstance(error, ModuleNotFoundError):
            # What a module of theirs misses may show; what is written here only where it cannot be a secret.
            own = error.name is None or f"{module}.".startswith(f"{error.name}.")
            why = f"there is no {shown}" if own else f"it needs the module {error.name!r}"
        elif isinstance(error, AttributeError) and module in sys.modules:
            why = f"the {shown} has no such function"
        problems.add(place, f"the function cannot be loaded: {why}", "Correct the name; its module must be importable.")
        return None
    if not callable(found):
        problems.add(place, "what it names is no function", "Name something that can be called without arguments.")
        return None
    return cast("Credentials", found)


def connect_with(config: Config[S], connect: Callable[[S], Awaitable[C]]) -> Callable[[], Awaitable[C]]:
    """Make `Hooks.connect` out of a function that connects with given settings.

    Without `config.credentials` it connects with `config.settings`. With them, the function is called for each new
    connection and what it returns is laid over the settings; connects that begin while a call is under way share that
    call. After a `DbConnectionError` whose sqlstate starts with 28 (authentication) it is asked once more.

    A function that fails is a connect that failed: `DbConnectionError`, retryable, its own error as the cause. Keys
    that the driver does not know, or values that do not fit, are a `ConfigError`: permanent. No value is shown.
    """
    credentials = config.credentials
    if credentials is None:
        return lambda: connect(config.settings)
    place = Place(f"credentials {_name(credentials)}")
    ask = _SharedCall(credentials)

    async def settings() -> S:
        try:
            answer = await ask()
        except Exception as error:
            raise DbConnectionError(
                f"{place} failed: {type(error).__name__}", driver=config.driver, retryable=True
            ) from error
        return _lay_over(config.settings, answer, place)

    async def connect_fresh() -> C:
        try:
            return await connect(await settings())
        except DbConnectionError as error:
            if not (error.sqlstate or "").startswith("28"):
                raise
        # A call that is under way now began after the one whose answer was refused had ended: joining it is safe.
        return await connect(await settings())

    return connect_fresh


class _SharedCall:
    """Calls a function; who comes while a call is under way gets the result of that call.

    The call survives the cancellation of one who waits for it, and ends when the last one has gone.
    """

    def __init__(self, function: Credentials) -> None:
        self._function = function
        self._task: asyncio.Task[Any] | None = None
        self._waiting = 0

    async def __call__(self) -> Any:
        task = self._task
        if task is None or task.done():
            task = self._task = asyncio.create_task(self._run(), name="dbcore credentials")
            task.add_done_callback(look_at_failure)  # who waited has it
            self._waiting = 0
        self._waiting += 1
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            if task is self._task:
                self._waiting -= 1
                if not self._waiting:
                    self._task = None  # nobody joins a call that is being ended
                    task.cancel()
                    await asyncio.wait([task])
            raise
        if task.cancelled():
            raise RuntimeError("the function was cancelled from within")
        return task.result()

    async def _run(self) -> Any:
        answer = self._function()
        return await answer if inspect.isawaitable(answer) else answer


def _lay_over(settings: S, answer: object, place: Place) -> S:
    model = type(settings)
    problems = Problems()
    if not isinstance(answer, Mapping):
        what = f"it returned {type(answer).__name__}, not a mapping"
        problems.add(place, what, "Return a mapping of the driver's keys.")
        problems.check()
    names = keys_of(model)
    current = {key: getattr(settings, name) for key, (name, _) in names.items() if name in settings.model_fields_set}
    current.update(settings.model_extra or {})
    fresh = cast("Mapping[object, Any]", answer)
    given = {key: Given(value, place) for key, value in current.items()}
    given.update({str(key): Given(value, place.within(str(key))) for key, value in fresh.items()})
    made = validate(model, given, place, problems)
    problems.check()
    if made is None:
        raise AssertionError("bug: settings were refused without a problem")
    return made


def _name(function: Credentials) -> str:
    return f"{getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', type(function).__qualname__)}"
