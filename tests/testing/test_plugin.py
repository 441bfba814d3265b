"""The pytest plugin, in projects of its own: with no plugin for async tests, and beside those that there are."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
FILE = re.compile(r"^```py\n# (?P<name>\w+\.py)(?P<note>[^\n]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)

ASYNC_PLUGINS = {
    # It warns where that option is not set.
    "pytest_asyncio": ("-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function"),
    "anyio": ("-p", "anyio.pytest_plugin"),
}

SCHEMA = """
import dbcore as db
import pytest

@pytest.fixture
def dbcore_source(tmp_path):
    return f"sqlite:///{tmp_path}/test.db"
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty project whose pytest has no plugin but those that it is told."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run its tests in a process of their own, where nothing is imported yet."""
    return project.runpytest_subprocess("-p", "pytest_dbcore", "-W", "error", *arguments)


def test_a_sandbox_is_made_from_what_the_project_overrides(project: pytest.Pytester) -> None:
    project.makeconftest(SCHEMA)
    project.makepyfile("""
        import asyncio
        import dbcore as db

        def test_it(dbcore_sandbox, dbcore_source):
            async def main():
                async with dbcore_sandbox() as database:
                    assert isinstance(database, db.Database)
                    await database.execute("CREATE TABLE t (n INTEGER)")
                async with db.open(dbcore_source) as database:
                    assert await database.fetch_value("SELECT count(*) FROM sqlite_master") == 0

            asyncio.run(main())
    """)
    run(project).assert_outcomes(passed=1)


@pytest.mark.parametrize("source", ["sqlite://", "config/test.toml"])
def test_a_sandbox_is_made_from_an_option(project: pytest.Pytester, source: str) -> None:
    project.makeini(f"[pytest]\ndbcore_source = {source}")
    project.mkdir("config").joinpath("test.toml").write_text("[connections.main]\nurl = 'sqlite://'")
    project.mkdir("elsewhere").joinpath("test_it.py").write_text(
        "import asyncio\n"
        "def test_it(dbcore_sandbox):\n"
        "    async def main():\n"
        "        async with dbcore_sandbox(share=True) as database:\n"
        "            assert await database.fetch_value('SELECT 1') == 1\n"
        "    asyncio.run(main())\n"
    )
    run(project, "elsewhere").assert_outcomes(passed=1)


def test_without_an_option_the_config_is_found_as_ever(project: pytest.Pytester) -> None:
    project.path.joinpath("db.toml").write_text("[connections.main]\nurl = 'sqlite://'")
    project.makepyfile("""
        import asyncio

        def test_it(dbcore_sandbox):
            async def main():
                async with dbcore_sandbox(name="main") as database:
                    assert database.name == "main"

            asyncio.run(main())
    """)
    run(project).assert_outcomes(passed=1)


def test_the_fake_and_the_virtual_clock_are_new_for_each_test(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import asyncio
        import pytest
        import dbcore as db

        @pytest.mark.parametrize("number", range(2))
        def test_it(fake_database, virtual_runner, number):
            fake_database.on("SELECT 1").hangs()

            async def main():
                async with fake_database as database:
                    with pytest.raises(db.QueryTimeout):
                        await database.fetch_value("SELECT 1", timeout=3600)
                return asyncio.get_running_loop().time()

            assert len(fake_database.calls) == 0
            assert virtual_runner.run(main()) == 3600
    """)
    run(project).assert_outcomes(passed=2)


def test_the_plugin_imports_nothing_of_dbcore_by_itself(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import sys

        def test_it(pytestconfig):
            assert "pytest_dbcore" in sys.modules
            assert "dbcore" not in sys.modules
    """)
    run(project).assert_outcomes(passed=1)


def files_of_the_page(plugin: str) -> dict[str, str]:
    """The files that the page shows for a project with this plugin, and those that it shows for all."""
    return {
        found["name"]: found["text"]
        for found in FILE.finditer(PAGE.read_text(encoding="utf-8"))
        if not found["note"] or plugin in found["note"]
    }


@pytest.mark.parametrize("plugin", ASYNC_PLUGINS)
def test_the_page_tells_how_to_go_with_a_plugin_for_async_tests(project: pytest.Pytester, plugin: str) -> None:
    if importlib.util.find_spec(plugin) is None:
        pytest.skip(f"{plugin} is not installed")
    files = files_of_the_page(plugin)
    assert {"app.py", "conftest.py", "test_app.py"} <= set(files)
    for name, text in files.items():
        project.path.joinpath(name).write_text(text, encoding="utf-8")
    run(project, *ASYNC_PLUGINS[plugin]).assert_outcomes(passed=2)
