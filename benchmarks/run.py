"""One run and everything that a reader has to know of it, kept as JSON."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender
from benchmarks.measure import Measured
from benchmarks.server import Databases

__all__ = ["Run", "Who", "described"]

DISTRIBUTIONS = ("dbcore", "psycopg", "psycopg-pool", "asyncpg", "aiosqlite", "aiosqlitepool", "uvloop", "pydantic")


@dataclass(frozen=True, slots=True)
class Who:
    """A contender as a reader sees it."""

    on: str
    role: str
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What was measured, on what, and with whom."""

    date: str
    loop: str
    rounds: int
    load: str
    """Of the machine as the run began; the run itself is not in it."""
    machine: str
    versions: dict[str, str]
    contenders: dict[str, Who]
    measured: Measured = field(default_factory=Measured)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load_from(cls, path: Path) -> Run:
        plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        contenders = {name: Who(**who) for name, who in plain.pop("contenders").items()}
        return cls(contenders=contenders, measured=Measured(**plain.pop("measured")), **plain)


def described(contenders: Sequence[Contender], where: Databases, loop: str, rounds: int) -> Run:
    """Describe a run that is about to begin."""
    return Run(
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        loop=loop,
        rounds=rounds,
        load=f"{os.getloadavg()[0]:.1f}",
        machine=f"{os.cpu_count()} CPUs, {_processor()}; {platform.system()} {platform.machine()}",
        versions=dict(_versions(where)),
        contenders={each.name: Who(each.on, each.role, each.how) for each in contenders},
    )


def _versions(where: Databases) -> Mapping[str, str]:
    found = {platform.python_implementation(): platform.python_version(), "SQLite": sqlite3.sqlite_version}
    if "postgres" in where.urls:
        ((found["PostgreSQL"],),) = where.ask("postgres", "SHOW server_version")
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
