"""From values as they were written to a validated model; what is wrong becomes problems that show no value."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from dbcore.config.problems import Place, Problems, nearest
from dbcore.config.values import Contradiction, PoolSettings, Settings

__all__ = ["Given", "keys_of", "secret_keys", "validate", "validate_pool"]

M = TypeVar("M", bound=Settings)

_KINDS: Mapping[type, str] = {int: "a whole number", float: "a number", bool: "true or false"}

_WANTED = (
    ("literal_error", "Write one of them"),
    ("enum", "Write one of them"),
    ("string_type", "Write a text, in quotes"),
    ("int", "Write a whole number"),
    ("float", "Write a number"),
    ("finite_number", "Write a number that ends"),
    ("bool", "Write true or false"),
    ("list", "Write a list: [...]"),
    ("dict", "Write a table: {...}"),
    ("greater_than", "Write a larger one"),
    ("less_than", "Write a smaller one"),
)
"""What to do, by how pydantic's name of the mistake begins."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, repr=False)
class Given:
    """A value as it was written, and where; no `repr`, for it may be a secret."""

    value: Any
    place: Place
    text: bool = False
    """It came from a variable or a URL, so it could only be a text and is coerced to the type of its key."""


def keys_of(model: type[Settings]) -> dict[str, tuple[str, FieldInfo]]:
    """The keys that a model takes, each with the name of its attribute."""
    return {
        info.validation_alias if isinstance(info.validation_alias, str) else name: (name, info)
        for name, info in model.model_fields.items()
    }


def secret_keys(model: type[Settings]) -> frozenset[str]:
    """The keys that can also be given as `<key>_file`."""
    return frozenset(key for key, (_, info) in keys_of(model).items() if SecretStr in _atoms(info.annotation))


def validate(
    model: type[M],
    given: Mapping[str, Given],
    place: Place,
    problems: Problems,
    *,
    unusable: AbstractSet[str] = frozenset(),
    other_keys: Callable[[Given], Iterable[str]] = lambda item: (),
) -> M | None:
    """Make the model, or add every problem and return `None`.

    `unusable` are keys that were given and have a problem already: they are not missed. `other_keys` tells what else,
    beside the model's own keys, may stand where an unknown one does.
    """
    before = len(problems)
    data, bad = _sort(model, given, problems, other_keys)
    bad |= unusable
    try:
        made = model.model_validate(data)
    except ValidationError as error:
        _report(error, given, place, problems, model, bad)
        return None
    except Exception as error:  # a validator of the driver: its text may hold a value
        problems.add(place, f"a validator of {model.__name__} failed: {type(error).__name__}", "See the driver's docs.")
        return None
    return None if bad or len(problems) > before else made


def validate_pool(
    given: Mapping[str, Given],
    defaults: Mapping[str, Any],
    owner: str,
    place: Place,
    problems: Problems,
    *,
    unusable: AbstractSet[str] = frozenset(),
) -> PoolSettings | None:
    """Make `PoolSettings` of what was given and of the defaults of the driver `owner`, or add every problem.

    Contradictions are looked for also where other keys are wrong.
    """
    before = len(problems)
    data, bad = _sort(PoolSettings, given, problems, lambda item: ())
    bad |= unusable
    inherited = frozenset(defaults) - frozenset(given)

    def attempt() -> PoolSettings | ValidationError:
        good = {key: value for key, value in {**defaults, **data}.items() if key not in bad}
        try:
            return PoolSettings.model_validate(good, context=inherited)
        except ValidationError as error:
            return error

    made = attempt()
    if isinstance(made, ValidationError) and any(detail["loc"] for detail in made.errors(include_input=False)):
        wrong = {str(detail["loc"][0]) for detail in made.errors(include_input=False)}
        _report(made, given, place, problems, PoolSettings, bad)
        bad |= wrong
        made = attempt()
    if isinstance(made, ValidationError):
        _contradictions(made, given, defaults, owner, place, problems, bad)
        return None
    return None if bad or len(problems) > before else made


def _sort(
    model: type[Settings], given: Mapping[str, Given], problems: Problems, other_keys: Callable[[Given], Iterable[str]]
) -> tuple[dict[str, Any], set[str]]:
    """The values to validate, and the keys whose values are wrong before that; unknown keys are only reported."""
    known = keys_of(model)
    takes_any = model.model_config.get("extra") == "allow"
    data: dict[str, Any] = {}
    bad: set[str] = set()
    for key, item in given.items():
        value = item.value
        if key in known:
            kinds = _atoms(known[key][1].annotation)
            numbers = kinds - {NoneType}
            if NoneType in kinds and value == "none" and numbers <= _KINDS.keys():
                value = None
            elif not item.text and (wanted := _mismatch(value, numbers)):
                problems.add(item.place, f"{_article(value)} is given where {wanted} is wanted", _retype(value, wanted))
                bad.add(key)
                continue
        elif not takes_any:
            problems.add(item.place, f"unknown key {key!r}", nearest(key, {*known, *other_keys(item)}))
            continue
        data[key] = value
    return data, bad


def _atoms(annotation: object) -> frozenset[Any]:
    """The types that a union is made of; of anything else, itself."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _atoms(get_args(annotation)[0])
    if origin is Union or origin is UnionType:
        return frozenset[Any]().union(*(_atoms(part) for part in get_args(annotation)))
    return frozenset([annotation])


def _mismatch(value: object, kinds: frozenset[Any]) -> str | None:
    """What is wanted, where pydantic would turn one scalar into another in silence."""
    if not kinds or not kinds <= _KINDS.keys():
        return None
    if isinstance(value, bool):
        fits = bool in kinds
    elif isinstance(value, (int, float)):
        fits = bool(kinds - {bool})
    else:
        fits = not isinstance(value, (str, bytes))
    return None if fits else " or ".join(sorted(_KINDS[kind] for kind in kinds))


def _article(value: object) -> str:
    return "true or false" if isinstance(value, bool) else "a number" if isinstance(value, (int, float)) else "a text"


def _retype(value: object, wanted: str) -> str:
    if isinstance(value, (str, bytes)):
        return "Write it without quotes; only a variable, '${NAME}', needs them."
    return f"Write {wanted}."


def _report(
    error: ValidationError,
    given: Mapping[str, Given],
    place: Place,
    problems: Problems,
    model: type[Settings],
    silent: AbstractSet[str],
) -> None:
    known = keys_of(model)
    by_key: dict[str, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False, include_input=False):
        by_key.setdefault(str(detail["loc"][0]) if detail["loc"] else "", []).append(detail)
    for key, details in by_key.items():
        if key in silent or (not key and silent):
            continue  # a relation may be broken only because a key is
        if key and key not in given:
            problems.add(place / key, "required, and not set", f"Set {key}.")
            continue
        where = given[key].place if key else place
        text = _without_secrets("; ".join(dict.fromkeys(map(_text, details))), model, given)
        problems.add(where, text, _cure(key, text, details[0], known))


def _text(detail: ErrorDetails) -> str:
    if detail["type"] == "value_error":
        text = str(detail.get("ctx", {}).get("error", "")) or "refused by the driver"
    else:
        text = detail["msg"].replace("Input should", "the value should", 1)
        text = text[:1].lower() + text[1:]
    inner = ".".join(map(str, detail["loc"][1:]))
    return (f"{inner}: " if inner else "") + text.rstrip(".")


def _cure(key: str, text: str, detail: ErrorDetails, known: Mapping[str, tuple[str, FieldInfo]]) -> str:
    kind = detail["type"]
    if not key:
        named = [word for word in dict.fromkeys(_WORD.findall(text)) if word in known]
        return f"Change {' or '.join(named)}." if named else "See what the driver's documentation says of its keys."
    if kind in ("value_error", "assertion_error"):
        return f"Change {key}."
    what = next((wanted for start, wanted in _WANTED if kind.startswith(start)), "Write a value that fits")
    default = known[key][1].get_default() if key in known else None
    shown = isinstance(default, (bool, int, float, str))
    return f"{what}, or leave the key out for the default, {default!r}." if shown else f"{what}."


def _without_secrets(text: str, model: type[Settings], given: Mapping[str, Given]) -> str:
    """A validator's own words, unless they hold a secret that was given to it.

    To blot that out alone would tell it, where it is a word that anybody can guess from the others.
    """
    values = (given[key].value for key in secret_keys(model) if key in given)
    secrets = {value.get_secret_value() if isinstance(value, SecretStr) else str(value) for value in values}
    return "refused, in words that hold a secret" if any(secret in text for secret in secrets - {""}) else text


def _contradictions(
    error: ValidationError,
    given: Mapping[str, Given],
    defaults: Mapping[str, Any],
    owner: str,
    place: Place,
    problems: Problems,
    bad: AbstractSet[str],
) -> None:
    def shown(key: str) -> str:
        if key in given:
            return f"{key} ({given[key].value})"
        if key in defaults:
            return f"{key} ({defaults[key]}, the default of the driver {owner})"
        return f"{key} ({PoolSettings.model_fields[key].default}, the default)"

    for detail in error.errors(include_url=False, include_input=False):
        cause = detail.get("ctx", {}).get("error")
        if not isinstance(cause, Contradiction):
            continue
        for low, high in cause.pairs:
            if low in bad or high in bad:
                continue
            where = given[low].place if low in given else given[high].place if high in given else place
            problems.add(where, f"{shown(low)} is larger than {shown(high)}", f"Lower {low} or raise {high}.")
