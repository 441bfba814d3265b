"""`${NAME}`, `${NAME:-fallback}` and `$${` in the texts of a config."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote

__all__ = ["Interpolated", "interpolate"]

_TOKEN = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<fallback>[^{}]*))?\}|\$\{")


@dataclass(frozen=True, slots=True)
class Interpolated:
    """A value with its variables filled in."""

    value: Any
    filled: bool
    """It is a text that a variable took part in: to be coerced to the type of its key."""
    faults: tuple[tuple[str, str], ...]
    """What is wrong and how to cure it; the value is of no use then."""


def interpolate(value: object, variables: Mapping[str, str], *, url: bool = False) -> Interpolated:
    """Fill in the variables of a text, or of every text in a list or table.

    In a `url` each variable is percent-encoded, so that it stays one part whatever is in it, unless it is the whole
    URL. An empty variable counts as unset where there is a fallback. Faults never show what was in the text.
    """
    faults: list[tuple[str, str]] = []
    if isinstance(value, str):
        text, filled = _fill(value, variables, faults, url=url)
        return Interpolated(text, filled, tuple(faults))
    return Interpolated(_walk(value, variables, faults), filled=False, faults=tuple(faults))


def _walk(value: object, variables: Mapping[str, str], faults: list[tuple[str, str]]) -> object:
    if isinstance(value, str):
        return _fill(value, variables, faults)[0]
    if type(value) is list:
        items: list[object] = []
        for item in cast("list[object]", value):
            items.append(_walk(item, variables, faults))  # noqa: PERF401 (a comprehension is one more frame per level)
        return items
    if type(value) is dict:
        table: dict[object, object] = {}
        for key, item in cast("dict[object, object]", value).items():
            table[key] = _walk(item, variables, faults)
        return table
    return value


def _fill(
    text: str, variables: Mapping[str, str], faults: list[tuple[str, str]], *, url: bool = False
) -> tuple[str, bool]:
    whole = _TOKEN.fullmatch(text)
    encode = url and (whole is None or whole["name"] is None)
    filled = False

    def one(match: re.Match[str]) -> str:
        nonlocal filled
        if match[0] == "$${":
            return "${"
        name = match["name"]
        if name is None:
            faults.append(
                (
                    "a '${' is not followed by the name of a variable and '}'",
                    "Write '${NAME}' or '${NAME:-fallback}' (no braces in it), or '$${' for the two characters.",
                )
            )
            return ""
        filled = True
        found = variables.get(name)
        fallback = match["fallback"]
        if fallback is not None:
            found = found or fallback
        if found is None:
            faults.append(
                (
                    f"the environment variable {name} is not set",
                    f"Set it, or write a fallback: '${{{name}:-...}}'.",
                )
            )
            return ""
        return quote(found, safe="", errors="surrogateescape") if encode else found

    return _TOKEN.sub(one, text), filled
