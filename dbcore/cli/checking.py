"""What the commands find out, before anything is shown."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import dbcore as db
from dbcore.config import Config
from dbcore.driver import ServerInfo
from dbcore.errors import ConfigError, DbConnectionError, DbError, PoolTimeout, Problem, UnsupportedError
from dbcore.loading import examine
from dbcore.registry import Installed, find_driver, installed

__all__ = ["Answer", "Found", "Report", "find_drivers", "probe", "read", "unreachable"]

ROUND_TRIPS = 5
"""The fastest of so many is shown: the first ones pay for what is done once per connection."""

CURES = (
    ("28", "Look at user and password (or credentials), and at who may come from where by the rules of the server."),
    ("3D", "Look at the name of the database; create it if it is not there yet."),
    ("53300", "There are too many connections: lower pool.max_size in the programs that use it, or raise its limit."),
    ("57P0", "The server is starting or stopping: try again."),
)
"""What to look at, by how the code of the server begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one connect found."""

    round_trip: float
    """Seconds."""
    server: ServerInfo | None
    """`None` where the driver cannot ask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The connections of a file that are in order, and everything that is wrong."""

    configs: Mapping[str, Config[Any]]
    problems: tuple[Problem, ...]
    answers: Mapping[str, Answer] | None = None
    """By connection, for those that answered; `None` before anybody was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A driver that is installed: the URL schemes that it answers to, or why it cannot be used."""

    installed: Installed
    schemes: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()


def read(source: str | None) -> Report:
    """Read a config, from a file or a URL, and connect to nothing."""
    examined = examine(source)
    return Report(configs=examined.configs, problems=examined.problems)


async def probe(report: Report) -> Report:
    """Connect to everything in a report, side by side, and note who answers; who does not is a problem."""
    outcomes = await asyncio.gather(*map(_ask, report.configs.values()))
    answers: dict[str, Answer] = {}
    problems = list(report.problems)
    for name, outcome in zip(report.configs, outcomes, strict=True):
        if isinstance(outcome, Answer):
            answers[name] = outcome
        else:
            problems += unreachable(name, outcome)
    return replace(report, answers=answers, problems=tuple(problems))


def find_drivers() -> list[Found]:
    """Every driver that is installed. Imports each of them, since nothing else tells whether it can be used."""
    return [_try_driver(each) for each in installed()]


def _try_driver(each: Installed) -> Found:
    try:
        return Found(installed=each, schemes=find_driver(each.name).schemes)
    except ConfigError as error:
        return Found(installed=each, problems=error.problems)


def unreachable(name: str, error: DbError) -> list[Problem]:
    """What is wrong with a connection that did not answer, and what to look at."""
    if isinstance(error, ConfigError) and error.problems:
        return list(error.problems)
    text = str(error).removeprefix(f"connection {name!r}: ")
    return [Problem(f"connection {name}", text or type(error).__name__, _cure(error))]


def _cure(error: DbError) -> str:
    if isinstance(error, PoolTimeout):
        return "Look at the network and the load of the server, or raise pool.checkout_timeout."
    code = error.sqlstate if isinstance(error, DbConnectionError) else None
    if code is not None:
        known = (cure for start, cure in CURES if code.startswith(start))
        return next(known, f"Look up the code {code} in the manual of the server.")
    if isinstance(error, DbConnectionError) and error.retryable:
        return "Is the server running at that address, and does it take connections from here?"
    return "Correct the path or the settings that it names."


async def _ask(config: Config[Any]) -> Answer | DbError:
    # One connection is enough to ask by; and however the application wants to start, here the real reason is wanted.
    pool = config.pool.model_copy(update={"min_size": 1, "max_size": 1})
    try:
        async with db.open(replace(config, pool=pool, startup="require")) as database:
            try:
                server = await database.server_info()
            except UnsupportedError:
                server = None
            clock = asyncio.get_running_loop().time
            times: list[float] = []
            for _ in range(ROUND_TRIPS):
                started = clock()
                await database.fetch_value("SELECT 1")
                times.append(clock() - started)
            return Answer(round_trip=min(times), server=server)
    except DbError as error:
        return error
