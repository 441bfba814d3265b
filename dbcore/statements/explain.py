"""pydantic's errors in words that are safe to log: the place and what was expected, never the value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast, get_args

from pydantic_core.core_schema import ErrorType

from dbcore.statements.targets import Target

__all__ = ["describe"]

_KNOWN: Final = frozenset(get_args(ErrorType))
"""pydantic's own kinds of errors: what others a type's validators raise, and with what text, nobody knows."""

_LISTED: Final = 3
_MISSING: Final = frozenset({"missing", "missing_argument", "missing_keyword_only_argument"})
_SAFE_CONTEXT: Final = frozenset(
    {
        "actual_length",
        "class",
        "class_name",
        "decimal_places",
        "dataclass_name",
        "expected",
        "expected_tags",
        "field_type",
        "ge",
        "gt",
        "le",
        "lt",
        "max_digits",
        "max_length",
        "min_length",
        "multiple_of",
        "pattern",
        "tz_expected",
        "whole_digits",
    }
)
"""What pydantic's texts may be filled in with: facts of the type, not of the value."""


def describe(problems: Sequence[Any], target: Target, columns: tuple[str, ...], first: int) -> str:
    """Say what is wrong with the first row that is wrong; `first` is the number of row 0."""
    row = problems[0]["loc"][0]
    known = frozenset(_field_names(target.schema)).union(columns)
    said: dict[str, None] = {}
    for problem in problems:
        if problem["loc"][0] == row:
            # Other parts are labels of a union, or keys of a dict, and those are data.
            shown = [str(part) for part in problem["loc"][1:] if isinstance(part, int) or part in known]
            if target.is_row and len(shown) == 1 and problem["type"] in _MISSING:
                expected = f"no column of that name; the columns are {', '.join(columns)}"
            else:
                expected = _expected(problem)
            said[f"field {'.'.join(shown)}: {expected}" if shown else expected] = None
    texts = list(said)
    rest = f"; and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    return f"row {first + row}: {'; '.join(texts[:_LISTED])}{rest}"


def _expected(problem: Mapping[str, Any]) -> str:
    context: Mapping[str, Any] = problem.get("ctx", {})
    text: str = problem["msg"]
    if problem["type"] in _KNOWN and _SAFE_CONTEXT.issuperset(context):
        return text
    if problem["type"].endswith("_parsing"):
        # "Input should be a valid UUID, invalid character: found `x` at 3"
        return text.split(",")[0]
    return f"refused ({problem['type']})"


def _field_names(schema: Any) -> Iterator[str]:
    """Every name of a field, at any depth of a core schema."""
    if isinstance(schema, Mapping):
        for key, value in cast("Mapping[str, Any]", schema).items():
            if key == "fields" and isinstance(value, Mapping):
                yield from cast("Mapping[str, Any]", value)
            if key in {"name", "alias", "validation_alias"} and isinstance(value, str):
                yield value
            yield from _field_names(value)
    elif isinstance(schema, (list, tuple)):
        for value in cast("Sequence[Any]", schema):
            yield from _field_names(value)
