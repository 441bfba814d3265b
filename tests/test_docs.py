"""The documentation is true: its examples run, its links lead somewhere, its tables are those of the code."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import re
import runpy
import sys
import tomllib
import types
from pathlib import Path
from typing import Any

import pytest
from databases import PLACES, Place, place
from packaging.requirements import Requirement
from pages import BLOCK, DOCS, FILE, PAGES, ROOT, SNIPPET, blocks, write_files

import dbcore as db

__all__ = ["place"]

TABLES: dict[str, Any] = runpy.run_path(str(ROOT / "tools" / "config_tables.py"))
"""What the generator of the tables consists of; the tools are no package."""

FENCE = re.compile(r"^\s*(```|~~~)", re.MULTILINE)
PLAIN = re.compile(r"^```\n.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)
WEB = re.compile(r"[a-z]+:")

EVERYWHERE = {"REPORTS_PASSWORD": "hunter2"}
"""Variables that the examples expect."""


def run(page: Path) -> int:
    """Run a page from top to bottom, as a reader would who tries all of it; return the number of blocks that ran.

    Its blocks share one namespace and one event loop. `await` may stand outside of a function, as in `python -m
    asyncio`. A block of TOML that begins with the name of a file is written into that file; one of Python belongs to a
    module then, which later blocks import. A block that shows a file of the repository is left to the tests of that.
    """
    module = types.ModuleType(f"page_{page.stem.lower()}")
    sys.modules[module.__name__] = module  # types are looked up there by their annotations, and by pickle
    ran = 0
    try:
        with asyncio.Runner() as runner:
            for language, text, line in blocks(page):
                if named := FILE.match(text):
                    with Path(named["name"]).open("w" if language == "toml" else "a", encoding="utf-8") as file:
                        file.write(text)
                    importlib.invalidate_caches()
                if language != "python" or named or SNIPPET.fullmatch(text):
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
        forget_modules(page)
    return ran


def forget_modules(page: Path) -> None:
    """Take out what a page consists of and has imported: another test may write it anew, elsewhere."""
    for _, text, _ in blocks(page):
        if named := FILE.match(text):
            sys.modules.pop(Path(named["name"]).stem, None)


def pages_with(language: str) -> list[Path]:
    """The pages with a block of it that is more than a file of the repository."""
    return [
        page
        for page in PAGES
        if any(found == language and not SNIPPET.fullmatch(text) for found, text, _ in blocks(page))
    ]


def by_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", pages_with("python"), ids=by_name)
def test_every_example_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name, value in EVERYWHERE.items():
        monkeypatch.setenv(name, value)
    for name in ("DBCORE_CONFIG", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    assert run(page) > 0


@pytest.mark.parametrize("place", PLACES, indirect=True)
def test_the_readme_runs_on_every_database_and_without_a_variable_of_its_own(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Swapping the database is what it promises."""
    monkeypatch.chdir(tmp_path)
    for name in (*EVERYWHERE, "DBCORE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", place.url)
    assert run(ROOT / "README.md") > 0
    with place.outside() as ask:
        assert ask("SELECT count(*) FROM users") == [(3,)]


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_no_block_hides_from_the_tests(page: Path) -> None:
    """A fence with more behind it than one word, or with spaces before it, would be shown and never run."""
    rest = PLAIN.sub("", BLOCK.sub("", page.read_text(encoding="utf-8")))
    assert FENCE.search(rest) is None


def test_a_file_that_a_page_shows_exists_and_is_shown_whole() -> None:
    shown = {found["name"] for page in PAGES for found in SNIPPET.finditer(page.read_text(encoding="utf-8"))}
    assert shown == {f"recipes/{path.name}" for path in (DOCS / "recipes").glob("*.py")}


@pytest.mark.parametrize("page", pages_with("toml"), ids=by_name)
def test_every_config_of_a_page_is_one(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in EVERYWHERE.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "password").write_text("hunter2\n", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    write_files(page, tmp_path)
    file = tmp_path / "db.toml"
    for language, text, line in blocks(page):
        if language == "toml" and not text.startswith("# pyproject.toml\n"):
            file.write_text(text, encoding="utf-8")
            try:
                assert db.load(file), f"{page.name}:{line} has no connection"
            except db.ConfigError as error:
                pytest.fail(f"{page.name}:{line}: {error}")
            finally:
                forget_modules(page)


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
    assert {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {"index.md"} <= targets


def test_every_public_name_is_in_the_reference() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))
    assert {f"dbcore.{name}" for name in db.__all__} <= set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_a_requirement_on_a_page_admits_the_version_that_this_is(page: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    for text in re.findall(r'"(dbcore(?:\[[a-z,]+\])?[<>=~!][^"]*)"', page.read_text(encoding="utf-8")):
        assert Requirement(text).specifier.contains(version), text


@pytest.mark.parametrize("page", [page for page in PAGES if "<!-- keys:" in page.read_text()], ids=by_name)
def test_the_tables_of_keys_are_those_of_the_models(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert TABLES["filled"](text) == text, "stale: run python tools/config_tables.py"


def test_every_key_is_in_a_table() -> None:
    marked = {found["name"] for page in PAGES for found in TABLES["MARKED"].finditer(page.read_text())}
    assert {"connection", "pool", "sqlite", "postgres", "asyncpg", "mysql"} <= marked


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
