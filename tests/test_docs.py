"""The documentation is true: its examples run, its links lead somewhere, its tables are those of the code."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import runpy
import sys
import types
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import dbcore as db

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]

TABLES: dict[str, Any] = runpy.run_path(str(ROOT / "tools" / "config_tables.py"))
"""What the generator of the tables consists of; the tools are no package."""

BLOCK = re.compile(r"^```(?P<language>[a-z]+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# (?P<name>[a-z_]+\.toml)\n")
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)
WEB = re.compile(r"[a-z]+:")

EVERYWHERE = {"REPORTS_PASSWORD": "hunter2"}
"""Variables that the examples expect."""


def blocks(page: Path) -> Iterator[tuple[str, str, int]]:
    """Each block of code: its language, its text, and the line before its first."""
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        yield found["language"], found["text"], text.count("\n", 0, found.start()) + 1


def run(page: Path) -> int:
    """Run a page from top to bottom, as a reader would who tries all of it; return the number of blocks that ran.

    Its blocks share one namespace and one event loop. `await` may stand outside of a function, as in `python -m
    asyncio`. A block of TOML that begins with the name of a file is written into that file.
    """
    module = types.ModuleType(f"page_{page.stem.lower()}")
    sys.modules[module.__name__] = module  # types are looked up there by their annotations, and by pickle
    ran = 0
    try:
        with asyncio.Runner() as runner:
            for language, text, line in blocks(page):
                if language == "toml" and (named := FILE.match(text)):
                    Path(named["name"]).write_text(text, encoding="utf-8")
                if language != "python":
                    continue
                tree = ast.parse(text, str(page))
                code = compile(
                    ast.increment_lineno(tree, line), str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
                )
                outcome = eval(code, vars(module))  # the documentation is ours
                if inspect.iscoroutine(outcome):
                    runner.run(outcome)
                ran += 1
    finally:
        del sys.modules[module.__name__]
    return ran


def pages_with(language: str) -> list[Path]:
    return [page for page in PAGES if any(found == language for found, _, _ in blocks(page))]


def by_name(page: Path) -> str:
    return page.stem


@pytest.mark.parametrize("page", pages_with("python"), ids=by_name)
def test_every_example_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in EVERYWHERE.items():
        monkeypatch.setenv(name, value)
    for name in ("DBCORE_CONFIG", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    assert run(page) > 0


def test_the_readme_runs_on_postgres_and_without_a_variable_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    """Swapping the database is what it promises."""
    monkeypatch.chdir(tmp_path)
    for name in (*EVERYWHERE, "DBCORE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    schema = f"readme_{uuid.uuid4().hex}"
    joint = "&" if "?" in postgres_url else "?"
    with psycopg.connect(postgres_url, autocommit=True) as outside:
        outside.execute(f"CREATE SCHEMA {schema}".encode())
        try:
            monkeypatch.setenv("DATABASE_URL", f"{postgres_url}{joint}options=-csearch_path%3D{schema}")
            assert run(ROOT / "README.md") > 0
            (left,) = outside.execute(f"SELECT count(*) FROM {schema}.users".encode()).fetchall()
            assert left == (3,)
        finally:
            outside.execute(f"DROP SCHEMA {schema} CASCADE".encode())


@pytest.mark.parametrize("page", pages_with("toml"), ids=by_name)
def test_every_config_of_a_page_is_one(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in EVERYWHERE.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "password").write_text("hunter2\n", encoding="utf-8")
    file = tmp_path / "db.toml"
    for language, text, line in blocks(page):
        if language == "toml":
            file.write_text(text, encoding="utf-8")
            try:
                assert db.load(file), f"{page.name}:{line} has no connection"
            except db.ConfigError as error:
                pytest.fail(f"{page.name}:{line}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for found in LINK.finditer(text):
        if WEB.match(found["target"]):
            continue
        name, _, anchor = found["target"].partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{found[0]}: there is no {target}"
        if anchor:
            assert anchor in anchors(target), f"{found[0]}: {target.name} has no such heading"


def anchors(page: Path) -> set[str]:
    """The headings of a page, as a link names them."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    bare = (re.sub(r"[^\w\- ]", "", found["text"].lower()) for found in HEADING.finditer(text))
    return {each.replace(" ", "-") for each in bare}


def test_every_page_is_on_the_map() -> None:
    targets = {found["target"].partition("#")[0] for found in LINK.finditer((DOCS / "index.md").read_text())}
    assert {page.name for page in DOCS.glob("*.md")} - {"index.md"} <= targets


@pytest.mark.parametrize("page", [page for page in PAGES if "<!-- keys:" in page.read_text()], ids=by_name)
def test_the_tables_of_keys_are_those_of_the_models(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert TABLES["filled"](text) == text, "stale: run python tools/config_tables.py"


def test_every_key_is_in_a_table() -> None:
    marked = {found["name"] for page in PAGES for found in TABLES["MARKED"].finditer(page.read_text())}
    assert {"connection", "pool", "sqlite", "postgres"} <= marked


def test_every_error_has_its_section() -> None:
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    headings = {found["text"] for found in HEADING.finditer(page)}
    kinds = [getattr(db, name) for name in db.__all__]
    errors = {kind.__name__ for kind in kinds if isinstance(kind, type) and issubclass(kind, db.DbError)}
    assert errors - headings == {"DbError"}


def test_the_tree_of_errors_is_that_of_the_classes() -> None:
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    above: list[type[Exception]] = []
    for found in re.finditer(
        r"^(?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+) *(also (?P<also>\w+))?", page.split("```")[1], re.MULTILINE
    ):
        kind: type[Exception] = getattr(db, found["name"])
        depth = len(found["branch"]) // 4
        del above[depth:]
        bases = [base.__name__ for base in kind.__bases__]
        assert bases == [*(each.__name__ for each in above[-1:] or [Exception]), *filter(None, [found["also"]])]
        above.append(kind)
    assert above


def test_every_counterpart_of_a_seed_is_tested() -> None:
    tested = (ROOT / "tests" / "test_seeds.py").read_text(encoding="utf-8")
    rows = [line.split("|") for line in (DOCS / "seeds.md").read_text().splitlines() if line.startswith("| `")]
    assert rows
    for _, old, new, *_ in rows:
        for name in re.findall(r"`([^`]+)`", new):
            last = re.split(r"[.(]", name.partition("(")[0])[-1]
            assert re.search(rf"\b{re.escape(last)}\b", tested), f"{old.strip()}: {name} is in no test"
