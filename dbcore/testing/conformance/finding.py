"""The subject that the package of a driver brings along, for whoever has a database and no test file."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import entry_points
from typing import Any

from dbcore.config import Config
from dbcore.errors import UsageError
from dbcore.testing.conformance.subject import Subject

__all__ = ["GROUP", "subject_for"]

GROUP = "dbcore.conformance"
"""The group of entry points: the name of the driver, and a `Subject` without a source."""


def subject_for(config: Config[Any]) -> Subject:
    """Return the subject of the driver's package, with this database; a plain one where the package has none.

    Raises `UsageError` where the package names one that cannot be had.
    """
    subject = Subject()
    for entry in entry_points(group=GROUP, name=config.driver):
        try:
            found: object = entry.load()
        except Exception as error:
            cause = type(error).__name__
            raise UsageError(f"the subject of driver {config.driver!r}, {entry.value}, fails: {cause}") from error
        if not isinstance(found, Subject):
            raise UsageError(f"{entry.value} of driver {config.driver!r} is a {type(found).__name__}, and no Subject")
        subject = found
    return replace(subject, source=config)
