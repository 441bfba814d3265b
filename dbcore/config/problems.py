"""Collecting what is wrong, so that one `ConfigError` tells all of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from dbcore.errors import ConfigError, Problem

__all__ = ["Place", "Problems", "alike", "listed", "nearest"]

SHOWN_AT_MOST = 12
"""So many names are read; of more, the few that are nearest."""
NEAREST = 5

_BARE = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: a file (or `config`, or `url`), the keys that lead to it, and the part of a URL."""

    root: str
    keys: tuple[str, ...] = ()
    part: str = ""

    def __truediv__(self, key: str) -> Place:
        return replace(self, keys=(*self.keys, key))

    def within(self, part: str) -> Place:
        """The place of one part of the URL that stands here."""
        return replace(self, part=part)

    def __str__(self) -> str:
        import json  # here, and not at the top: a program without a problem needs none of it

        path = ".".join(key if _BARE.fullmatch(key) else json.dumps(key) for key in self.keys)
        where = f"{self.root}: {path}" if path else self.root
        return f"{where} ({self.part})" if self.part else where


class Problems:
    """Everything found wrong so far."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, place: Place, what: str, cure: str) -> None:
        self._found.append(Problem(str(place), what, cure))

    def add_from(self, error: ConfigError, place: Place) -> None:
        """Take over what an error says, at the place where the user can mend it."""
        if not error.problems:
            self.add(place, error.message, "See the documentation of the driver.")
        for problem in error.problems:
            self.add(place, problem.what, problem.cure)

    @property
    def found(self) -> tuple[Problem, ...]:
        return tuple(self._found)

    def check(self) -> None:
        """Raise `ConfigError` if there are any."""
        if self._found:
            raise ConfigError(problems=self._found)


def nearest(key: str, known: Iterable[str]) -> str:
    """A sentence that points to the known key most like this one, or to all of them, or of many to the nearest."""
    names = sorted(known)
    if meant := alike(key, names):
        return f"Did you mean {meant!r}?"
    if len(names) > SHOWN_AT_MOST:
        close = _close(key, names, most=NEAREST, cutoff=0)
        return f"Nearest of the {len(names)} known keys: {listed(close)}."
    return f"Known here: {listed(names)}."


def alike(name: str, known: Iterable[str]) -> str | None:
    """The known name that was most likely meant, if there is one."""
    return next(iter(_close(name, sorted(known), most=1)), None)


def _close(name: str, known: list[str], *, most: int, cutoff: float = 0.6) -> list[str]:
    import difflib  # as json above

    return difflib.get_close_matches(name[:80], known, n=most, cutoff=cutoff)


def listed(names: Iterable[str]) -> str:
    """The names in order, for a sentence."""
    return ", ".join(sorted(names)) or "none"
