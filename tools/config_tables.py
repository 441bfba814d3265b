"""Write the tables of config keys, hooks and driver fields into the documentation, from the code that they are about.

    python tools/config_tables.py

A table stands between `<!-- keys: NAME -->` and `<!-- end of keys -->`. `tests/test_docs.py` fails where one is stale.
Those of hooks and fields are the tables in the docstrings of `Hooks` and `Driver`.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from dbcore.config import PoolSettings, Settings
from dbcore.config.keys import ConnectionKeys
from dbcore.config.validation import keys_of
from dbcore.driver import Driver, Hooks
from dbcore.registry import find_driver

ROOT = Path(__file__).parents[1]
MARKED = re.compile(r"(<!-- keys: (?P<name>[a-z ]+) -->\n).*?(<!-- end of keys -->)", re.DOTALL)

SEAM: Mapping[str, tuple[type, int]] = {
    "hooks": (Hooks, 0),
    "required fields": (Driver, 0),
    "optional fields": (Driver, 1),
}
"""Where in which docstring a table stands."""

WORDS: Mapping[Any, str] = {
    int: "whole number",
    float: "number",
    bool: "`true`, `false`",
    str: "text",
    SecretStr: "text, secret",
    NoneType: '`"none"`',
}


def main() -> None:
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        fresh = filled(text)
        if fresh != text:
            page.write_text(fresh, encoding="utf-8")
            print(f"written: {page.relative_to(ROOT)}")


def filled(text: str) -> str:
    """Return the page with every table made anew."""
    return MARKED.sub(lambda found: f"{found[1]}{table(found['name'])}{found[3]}", text)


def table(name: str) -> str:
    """Return one table: `connection`, `pool`, the name of a driver, `NAME pool` for its defaults, one of `SEAM`."""
    if name in SEAM:
        kind, number = SEAM[name]
        return _of_docstring(kind)[number]
    if name == "connection":
        return _table(ConnectionKeys, skip={"pool"})
    if name == "pool":
        return _table(PoolSettings, prefix="pool.")
    driver, _, pool = name.partition(" ")
    if pool:
        defaults = find_driver(driver).pool_defaults
        rows = [f"| `pool.{key}` | {_shown(value)} |" for key, value in defaults.items()]
        return "\n".join(["| key | default |", "|---|---|", *rows, ""])
    return _table(find_driver(driver).settings)


def _table(model: type[Settings], *, prefix: str = "", skip: frozenset[str] | set[str] = frozenset()) -> str:
    rows: list[str] = []
    others: list[str] = []
    for key, (_, info) in keys_of(model).items():
        if key in skip:
            continue
        if info.description is None:
            others.append(f"`{key}`")
            continue
        cells = (f"`{prefix}{key}`", _values(info), _default(info), info.description)
        rows.append(f"| {' | '.join(cells)} |")
    lines = ["| key | values | default | meaning |", "|---|---|---|---|", *rows, ""]
    if others:
        text = f"Options of the database's library, by its own names: {', '.join(others)}."
        lines += [*textwrap.wrap(text, 120, break_on_hyphens=False), ""]
    return "\n".join(lines)


def _of_docstring(kind: type) -> list[str]:
    lines = (inspect.getdoc(kind) or "").splitlines()
    grouped = groupby(lines, key=lambda line: line.startswith("|"))
    return ["\n".join([*found, ""]) for is_table, found in grouped if is_table]


def _values(info: FieldInfo) -> str:
    limits = [text for each in info.metadata if (text := _limit(each))]
    if any(isinstance(each, MinLen) for each in info.metadata):
        limits.append("not empty")
    return ", ".join([*_kinds(info.annotation), *limits])


def _limit(limit: object) -> str:
    match limit:
        case Ge(ge=bound):
            return f"{bound} or more"
        case Gt(gt=bound):
            return f"above {bound}"
        case Le(le=bound):
            return f"{bound} or less"
        case Lt(lt=bound):
            return f"below {bound}"
        case _:
            return ""


def _kinds(annotation: Any) -> list[str]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin is Union or origin is UnionType:
        kinds = get_args(annotation)
        # Only a number or a switch has a word for None; a text without a value is left out.
        numeric = not {int, float, bool}.isdisjoint(kinds)
        return [text for kind in kinds if kind is not NoneType or numeric for text in _kinds(kind)]
    if origin is Literal:
        return [_shown(value) for value in get_args(annotation)]
    if annotation is PoolSettings or origin is not None:
        return ["table"]
    return [WORDS[annotation]]


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    if value is None:
        return "none"
    return "empty" if value == {} else _shown(value)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


if __name__ == "__main__":
    main()
