"""Who may import whom, read from the source, so that an import inside a function or under TYPE_CHECKING counts too."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LAYERS = [
    "stats",
    "places",
    "loops",
    "errors",
    "refusals",
    "events",
    "config",
    "pool",
    "driver",
    "engine",
    "registry",
    "loading",
    "statements",
    ("access", "foreign"),
    ("connection", "loan", "querying", "stream", "transaction"),
    "texts",
    "trips",
    "database",
    "",  # the public face
    "otel",
    "testing",
    "cli",
    "__main__",
]
"""The core from left to right; parts in brackets share a place. None imports what stands to its right."""

RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in (layer if isinstance(layer, tuple) else (layer,))}

EVERYWHERE = {*sys.stdlib_module_names, "pydantic", "pydantic_core"}
"""What anybody may import; `pydantic_core` is part of pydantic, which sends one there for some types."""

LIBRARIES = {
    "cli": {"typer", "rich"},
    "otel": {"opentelemetry"},
    "testing": {"pytest", "hypothesis"},
    "dbcore_postgres": {"psycopg"},
    "dbcore_asyncpg": {"asyncpg"},
    "dbcore_mysql": {"asyncmy"},
    "dbcore_sqlite": {"aiosqlite"},
}
"""What a part may import beside that."""

EXCEPTIONS = {
    # `Config.from_url` is on the class that every driver is made for, and has to find the driver of the URL.
    ("dbcore/config/values.py", "dbcore.driver.Driver"),
    ("dbcore/config/values.py", "dbcore.loading.load_url"),
}
"""Imports from the right that cannot be otherwise."""

DRIVER_WORDS = re.compile(
    r"psycopg|aiosqlite|asyncpg|asyncmy|sqlite3?|postgres(ql)?|mysql|dbcore_(postgres|sqlite|asyncpg|mysql)",
    re.IGNORECASE,
)

CORE = sorted((ROOT / "dbcore").rglob("*.py"))
DRIVERS = sorted(
    path for package in (ROOT / "drivers").glob("*/dbcore_*") if package.is_dir() for path in package.rglob("*.py")
)


def part_of(path: Path) -> str:
    """The part of the core, or the driver package, that a file belongs to: `engine` for dbcore/engine/keeper.py."""
    in_core = path.relative_to(ROOT).parts
    if in_core[0] != "dbcore":
        return in_core[2]
    return "" if in_core[1] == "__init__.py" else in_core[1].removesuffix(".py")


def package_of(path: Path) -> list[str]:
    """The dotted package that a file's relative imports start from."""
    parts = path.relative_to(ROOT).parts
    return list(parts[2:-1] if parts[0] == "drivers" else parts[:-1])


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            package = package_of(path)
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                yield node.lineno, ".".join([*base, alias.name])


def core_part(name: str) -> str:
    """The part of the core that an imported name comes from; the face where it is no module of the core."""
    part = [*name.split("."), ""][1]
    return part if part in RANK else ""


def docstrings(tree: ast.Module) -> set[ast.AST]:
    """The string nodes that stand as statements of their own: docstrings of modules, classes, functions, fields."""
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def wrong_layers(path: Path) -> Iterator[str]:
    part = part_of(path)
    for line, name in imports(path):
        if name.split(".")[0] != "dbcore" or (path.relative_to(ROOT).as_posix(), name) in EXCEPTIONS:
            continue
        if RANK[core_part(name)] > RANK[part]:
            yield f"{path}:{line}: {part or 'the face'} imports {name}"


def wrong_libraries(path: Path, own: set[str]) -> Iterator[str]:
    allowed = {*EVERYWHERE, *own, *LIBRARIES.get(part_of(path), ())}
    for line, name in imports(path):
        if name.split(".")[0] not in allowed:
            yield f"{path}:{line}: imports {name}"


def driver_names(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    prose = docstrings(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text) | bytes(text)) if node not in prose:
                words = str(text)
            case ast.Name(id=words) | ast.Attribute(attr=words) | ast.arg(arg=words) | ast.alias(name=words):
                pass
            case ast.ImportFrom(module=str(words)) | ast.keyword(arg=str(words)):
                pass
            case ast.FunctionDef(name=words) | ast.AsyncFunctionDef(name=words) | ast.ClassDef(name=words):
                pass
            case _:
                continue
        if found := DRIVER_WORDS.search(words):
            yield f"{path}:{getattr(node, 'lineno', '?')}: names {found.group()!r}"


def outside_of_face(tree: ast.Module) -> Iterator[str]:
    """What a face has beside its docstring, imports and `__all__`."""
    for node in tree.body:
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant(value=str())):
                continue
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                continue
            case _:
                yield f"line {node.lineno}: {ast.unparse(node)}"


def test_the_core_imports_only_from_its_left() -> None:
    assert {part_of(path) for path in CORE} <= {*RANK}, "a new part of the core needs its place in LAYERS"
    assert [wrong for path in CORE for wrong in wrong_layers(path)] == []


def test_no_exception_is_left_over() -> None:
    assert {(path.relative_to(ROOT).as_posix(), name) for path in CORE for _, name in imports(path)} >= EXCEPTIONS


def test_the_core_imports_the_standard_library_and_pydantic_alone() -> None:
    assert [wrong for path in CORE for wrong in wrong_libraries(path, {"dbcore"})] == []


def test_the_core_names_no_driver_and_no_library_of_one() -> None:
    assert [wrong for path in CORE for wrong in driver_names(path)] == []


def test_a_driver_imports_dbcore_and_its_own_library_alone() -> None:
    assert {part_of(path) for path in DRIVERS} <= set(LIBRARIES), "a new driver needs its library in LIBRARIES"
    assert [wrong for path in DRIVERS for wrong in wrong_libraries(path, {"dbcore", part_of(path)})] == []


def test_a_driver_keeps_away_from_the_command_line_and_from_testing() -> None:
    used = [path for path in DRIVERS if path.name != "conformance.py"]  # which the conformance suite alone imports
    names = {name for path in used for _, name in imports(path)}
    parts = {core_part(name) for name in names if name.startswith("dbcore.")}
    assert parts.isdisjoint({"cli", "testing", "__main__"})
    assert [name for name in names if "conformance" in name.split(".")] == []


def test_the_public_face_defines_nothing() -> None:
    assert list(outside_of_face(ast.parse((ROOT / "dbcore" / "__init__.py").read_text()))) == []


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        (
            "dbcore",
            {
                "psycopg",
                "aiosqlite",
                "sqlite3",
                "dbcore_postgres",
                "dbcore_sqlite",
                "typer",
                "rich",
                "pytest",
                "opentelemetry",
            },
        ),
        ("dbcore_postgres", {"aiosqlite", "sqlite3", "dbcore_sqlite"}),
        ("dbcore_sqlite", {"psycopg", "dbcore_postgres"}),
        ("dbcore_asyncpg", {"psycopg", "dbcore_postgres", "aiosqlite", "dbcore_sqlite"}),
        ("dbcore_mysql", {"psycopg", "dbcore_postgres", "aiosqlite", "dbcore_sqlite", "asyncpg", "sqlite3"}),
        ("pytest_dbcore", {"dbcore", "pydantic"}),
    ],
)
def test_an_import_loads_no_driver_and_no_library_that_it_has_no_use_for(module: str, unwanted: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert module in loaded
    assert unwanted.isdisjoint(loaded)


# The rules above also pass when they look at nothing; these show that each finds what it is there for.


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "dbcore" / "engine").mkdir(parents=True)
    return tmp_path / "dbcore" / "engine" / "keeper.py"


@pytest.mark.parametrize(
    "text",
    [
        "from dbcore import Database",
        "import dbcore.registry",
        "from dbcore import registry",
        "from ..registry import installed",
        "from .. import loading",
        "from dbcore.testing.clock import Clock",
        "def f() -> None:\n    from dbcore.database import Database",
        "if TYPE_CHECKING:\n    from dbcore.connection import Connection",
    ],
)
def test_an_import_from_the_right_is_found(source: Path, text: str) -> None:
    source.write_text(text)
    assert len(list(wrong_layers(source))) == 1


def test_imports_from_the_left_and_from_within_pass(source: Path) -> None:
    source.write_text("from dbcore.pool import Pool\nfrom dbcore.engine import slots\nfrom . import slots\nimport ast")
    assert list(wrong_layers(source)) == []
    assert list(wrong_libraries(source, {"dbcore"})) == []


def test_a_foreign_library_is_found_inside_a_function(source: Path) -> None:
    source.write_text("def f() -> None:\n    import rich.table\n    import asyncio")
    assert [found.split(": ")[1] for found in wrong_libraries(source, {"dbcore"})] == ["imports rich.table"]


@pytest.mark.parametrize(
    "text",
    [
        "x = 'sqlite'",
        "x = f'{scheme} is PostgreSQL'",
        "x = b'psycopg'",
        "import psycopg",
        "from psycopg import sql",
        "def for_sqlite() -> None: ...",
        "if postgres: pass",
        "x.sqlite_path",
        "f(postgres=1)",
        "x = {'a': 'asyncpg'}",
    ],
)
def test_the_name_of_a_driver_is_found(source: Path, text: str) -> None:
    source.write_text(text)
    assert list(driver_names(source)) != []


def test_docstrings_and_comments_may_name_drivers(source: Path) -> None:
    source.write_text(
        '"""As on SQLite."""\nclass A:\n    """Postgres."""\n    b: int\n    """psycopg"""\n# sqlite\n'
        'def f() -> None:\n    """aiosqlite"""\n'
    )
    assert list(driver_names(source)) == []


def test_a_definition_in_a_face_is_found() -> None:
    assert list(outside_of_face(ast.parse('"""Doc."""\nfrom a import b\n__all__ = ["b"]'))) == []
    assert len(list(outside_of_face(ast.parse("def f() -> None: ...\nx = 1\nif x: pass")))) == 3
