from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from config_drivers import ALPHA, BETA, drivers, make_driver
from pydantic import SecretStr

import dbcore
from dbcore.config import Settings
from dbcore.errors import ConfigError, UsageError
from dbcore.registry import Installed, find_driver, find_driver_by_scheme, installed, register

PACKAGE = """
    from typing import Any

    from dbcore.config import Config, Settings
    from dbcore.driver import Driver, Result


    class {title}Settings(Settings):
        host: str = "h"


    async def start_pool(config: Config[{title}Settings]) -> Any: ...
    async def query(connection: object, sql: str, parameters: Any) -> Result: ...


    driver = Driver(name="{name}", schemes=frozenset({{"{name}", "{name}ql"}}), settings={title}Settings,
                    start_pool=start_pool, query=query, to_error=lambda error: None)
"""


class Site:
    """A folder on `sys.path` with distributions in it, as pip leaves them, and a fresh interpreter to try them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self, name: str, *, source: str | None = None, value: str | None = None, distribution: str | None = None
    ) -> None:
        dist, value = distribution or f"dbcore-{name}", value or f"dbcore_{name}:driver"
        body = PACKAGE.format(name=name, title=name.title()) if source is None else source
        package = self.folder / f"dbcore_{name}"
        package.mkdir(exist_ok=True)
        (package / "__init__.py").write_text(textwrap.dedent(body))
        info = self.folder / f"{dist.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.2\n")
        entries = f"[dbcore.drivers]\n{name} = {value}\n\n[dbcore.schemes]\n{name}ql = {value}\n"
        (info / "entry_points.txt").write_text(entries)

    def run(self, program: str) -> str:
        """What a program prints; it has `problem(fn)`, the text of the one problem of a call."""
        start = """
            import sys
            from dbcore.errors import ConfigError
            from dbcore.loading import load, schema
            from dbcore.registry import *
            def loaded(): return sorted(name for name in sys.modules if name.startswith("dbcore_"))
            def problem(fn):
                try: fn()
                except ConfigError as error:
                    (one,) = error.problems
                    return f"{one.what}. {one.cure}"
        """
        path = os.pathsep.join([str(self.folder), str(Path(dbcore.__file__).parents[1])])
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(start) + textwrap.dedent(program)],
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_driver_in_a_distribution_of_its_own_is_picked_up_and_only_the_named_one_is_imported(site: Site) -> None:
    for name in ("one", "two", "three"):
        site.install(name)
    printed = site.run("""
        print(loaded())
        print([(each.name, each.distribution, each.version) for each in installed() if each.version == "1.2"], loaded())
        config = load({"driver": "one", "host": "db"})["main"]
        print(config.driver, config.settings.host, loaded())
        print(load("twoql://db")["main"].driver, loaded())
        print(find_driver("one") is find_driver_by_scheme("oneql"))
    """)
    assert printed.splitlines() == [
        "[]",
        "[('one', 'dbcore-one', '1.2'), ('three', 'dbcore-three', '1.2'), ('two', 'dbcore-two', '1.2')] []",
        "one db ['dbcore_one']",
        "two ['dbcore_one', 'dbcore_two']",
        "True",
    ]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import not_there_at_all", "cannot be imported: ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("raise RuntimeError('hunter2')", "cannot be imported: RuntimeError. Install it again; `python -c"),
        ("", "cannot be imported: AttributeError"),
        ("driver = 5", "is no Driver but int. Its author"),
        ("from dbcore_good import driver", "calls itself 'good'"),
    ],
)
def test_a_driver_that_cannot_be_loaded_is_named_and_harms_no_other(site: Site, source: str, told: str) -> None:
    site.install("good")
    site.install("bad", source=source)
    printed = site.run("""
        print(problem(lambda: load({"driver": "bad"})))
        print(problem(lambda: load("bad://h")))
        print(load("good://h")["main"].driver)
        print("good" in schema()["$defs"], "bad" in schema()["$defs"])
    """).splitlines()
    for line in printed[:2]:
        assert "the driver 'bad' of dbcore-bad 1.2 (dbcore_bad:driver)" in line
        assert told in line
        assert "hunter2" not in line
    assert printed[2:] == ["good", "True False"]


def test_a_driver_made_for_another_contract_is_refused_with_the_cure(site: Site) -> None:
    site.install("good")
    site.install(
        "bad",
        source="""
            from dataclasses import replace
            import dbcore_good
            driver = replace(dbcore_good.driver, name="bad", contract=99)
        """,
    )
    told = site.run('print(problem(lambda: load({"driver": "bad"})))')
    assert "made for version 99 of the driver contract, and this dbcore has 1" in told
    assert "Upgrade dbcore and the driver together." in told


def test_two_distributions_with_one_name_are_a_problem_that_names_both(site: Site) -> None:
    site.install("one")
    site.install("one", distribution="other-one", value="dbcore_one:other")
    told = site.run('print(problem(lambda: load({"driver": "one"})))')
    assert told == "two packages have a driver named 'one': dbcore-one 1.2 and other-one 1.2. Uninstall one of them."


def test_a_scheme_of_several_drivers_is_a_problem_that_names_them(site: Site) -> None:
    site.install("one")
    site.install("two")
    info = next(site.folder.glob("dbcore_two*.dist-info"))
    (info / "entry_points.txt").write_text(
        "[dbcore.drivers]\ntwo = dbcore_two:driver\n[dbcore.schemes]\noneql = dbcore_two:driver\n"
    )
    printed = site.run("""
        print(problem(lambda: load("oneql://h")), loaded())
        print(load("one://h")["main"].driver)
    """)
    assert printed.splitlines() == [
        "the URL scheme 'oneql' belongs to several drivers: one, two. Say which: driver = ... []",
        "one",
    ]


def test_what_is_installed_is_looked_through_once_for_a_scheme(site: Site) -> None:
    site.install("one")
    printed = site.run("""
        first = find_driver_by_scheme("oneql")
        sys.path.clear()
        print(find_driver_by_scheme("oneql") is first)
    """)
    assert printed == "True"


def test_a_driver_registered_late_takes_part_in_whose_a_scheme_is(site: Site) -> None:
    site.install("one")
    printed = site.run("""
        from dataclasses import replace
        first = find_driver_by_scheme("oneql")
        register(replace(first, name="other"))
        print(problem(lambda: find_driver_by_scheme("oneql")))
        register(replace(first, name="oneql"))
        print(find_driver_by_scheme("oneql").name)
    """)
    assert printed.splitlines() == [
        "the URL scheme 'oneql' belongs to several drivers: one, other. Say which: driver = ...",
        "oneql",
    ]


def test_an_installed_name_cannot_be_registered(site: Site) -> None:
    site.install("one")
    printed = site.run("""
        from dataclasses import replace
        try: register(find_driver("one"))
        except Exception as error: print(type(error).__name__, error)
        register(replace(find_driver("one"), name="mine", schemes=frozenset({"mine"})))
        print(load("mine://h")["main"].driver)
    """)
    assert "UsageError a driver named 'one' is installed already, by dbcore-one 1.2." in printed
    assert printed.endswith("\nmine")


def test_a_registered_driver_is_found_by_name_and_schemes() -> None:
    with drivers():
        register(ALPHA)
        assert find_driver("alpha") is ALPHA
        assert find_driver_by_scheme("alphasql") is ALPHA
        assert Installed(name="alpha") in installed()


def test_the_same_name_twice_is_an_error() -> None:
    with drivers(ALPHA, BETA), pytest.raises(UsageError, match="a driver named 'alpha' is registered already"):
        register(ALPHA)


def test_a_driver_with_a_key_of_the_core_is_refused() -> None:
    class Clash(Settings):
        pool: str = ""
        url: str = ""
        password: SecretStr | None = None
        password_file: str = ""

    with drivers(), pytest.raises(UsageError, match="keys that dbcore has itself: password_file, pool, url"):
        register(make_driver("clash", settings=Clash))


def test_a_driver_with_wrong_pool_defaults_is_refused() -> None:
    with drivers(), pytest.raises(UsageError, match="pool_defaults"):
        register(make_driver("clash", pool_defaults={"min_size": 20}))


def test_a_driver_of_another_contract_cannot_be_registered() -> None:
    with drivers(), pytest.raises(UsageError, match="version 2 of the driver contract"):
        register(make_driver("future", contract=2))


def test_an_unknown_name_is_a_config_error_that_lists_the_known_ones() -> None:
    with drivers(ALPHA), pytest.raises(ConfigError) as caught:
        find_driver("alfa")
    told = str(caught.value)
    assert "no driver 'alfa' is installed. Did you mean 'alpha'? Installed: " in told
    assert "pip" not in told


class Extras:
    """A `dbcore` that declares extras of which one driver is installed, one is not, and one is no driver."""

    METADATA = """
        Metadata-Version: 2.1
        Name: dbcore
        Version: 9
        Requires-Dist: pydantic>=2
        Provides-Extra: here
        Requires-Dist: dbcore_here<2,>=1; extra == "here"
        Provides-Extra: absent
        Requires-Dist: dbcore-absent<2,>=1; extra == 'absent'
        Provides-Extra: cli
        Requires-Dist: typer>=0.12; extra == "cli"
    """

    @classmethod
    def declare(cls, site: Site) -> None:
        site.install("here")
        info = site.folder / "dbcore-9.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(textwrap.dedent(cls.METADATA).lstrip())


def test_an_extra_that_dbcore_declares_and_that_is_not_installed_is_offered(site: Site) -> None:
    Extras.declare(site)
    by_name, by_scheme, other = site.run("""
        print(problem(lambda: load({"driver": "absent"})))
        print(problem(lambda: load("absent://h")))
        print(problem(lambda: load("zzz://h")))
    """).splitlines()
    assert by_name == "no driver 'absent' is installed. Install it: pip install \"dbcore[absent]\"."
    assert by_scheme.endswith("is installed for the URL scheme 'absent'. Install it: pip install \"dbcore[absent]\".")
    assert other.endswith('Drivers that dbcore offers beside them: pip install "dbcore[absent]".')


def test_the_extra_is_found_by_what_is_nearly_its_name(site: Site) -> None:
    Extras.declare(site)
    by_other_name, by_library = site.run("""
        print(problem(lambda: load("absentsql://h")))
        print(problem(lambda: load("other+absent://h")))
    """).splitlines()
    install = 'Install it: pip install "dbcore[absent]". Installed: '
    assert f"Did you mean 'absent'? {install}" in by_other_name
    assert install in by_library


@pytest.mark.parametrize("name", ["cli", "heere", "mysql", "here+asyncpg", "dbcore-absent2"])
def test_no_package_is_made_up(site: Site, name: str) -> None:
    Extras.declare(site)
    told = site.run(f"""
        print(problem(lambda: load({{"driver": {name!r}}})), problem(lambda: load({name!r} + "://h")))
    """)
    assert set(re.findall(r"dbcore\[.*?\]", told)) <= {"dbcore[absent]"}
    assert "dbcore-" not in told.replace(repr(name), "")
    if "Did you mean 'here'" in told:
        assert "pip" not in told


def test_what_cannot_be_a_name_is_not_shown() -> None:
    for find in (find_driver, find_driver_by_scheme):
        with drivers(ALPHA), pytest.raises(ConfigError) as caught:
            find("user=me password=hunter2")
        assert "hunter2" not in str(caught.value)


def test_a_scheme_as_other_libraries_write_it_is_told_ours() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean 'postgresql'\?"):
        dbcore.open("postgresql+psycopg://localhost/app")
