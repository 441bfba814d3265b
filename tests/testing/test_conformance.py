"""The conformance suite finds what is broken: drivers that were good, and have one thing wrong now."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from broken_drivers import BROKEN, GOOD, KEPT, AnyDriver, batch_in_pieces, no_counts, no_version, plain, with_pool
from dbcore_sqlite import Connection, SqliteSettings
from dbcore_sqlite import conformance as of_sqlite
from dbcore_sqlite.statements import query
from pydantic import SecretStr

import dbcore as db
from dbcore.testing.conformance import PROMISES, Promise, Subject, Verdict, judge, judging, markdown, run
from dbcore.testing.conformance.finding import subject_for
from dbcore.transaction import Transaction

BY_NAME = {promise.name: promise for promise in PROMISES}


def subject_of(driver: AnyDriver, tmp_path: Path, **changes: Any) -> Subject:
    return replace(of_sqlite.subject, driver=driver, source=f"sqlite:///{tmp_path}/x.db", **changes)


async def verdict_on(driver: AnyDriver, tmp_path: Path, name: str, **changes: Any) -> Verdict:
    return await judge(BY_NAME[name], subject_of(driver, tmp_path, **changes))


@pytest.fixture
def threads_end() -> Iterator[None]:
    """What a broken driver leaves behind comes to its end here, when the loop has gone, and not in the next test."""
    before = set(threading.enumerate())
    yield
    gc.collect()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)


@pytest.mark.usefixtures("threads_end")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("what", BROKEN)
async def test_a_driver_with_one_thing_wrong_is_found_out(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "GUARD", 2.0)
    driver, names = BROKEN[what]
    for name in names:
        verdict = await verdict_on(driver, tmp_path, name)
        assert verdict.outcome == "broken", name
        assert len(verdict.why) > 20, verdict.why
        assert not verdict.good
    for kept in KEPT:
        if isinstance(kept, db.PoolOps):
            await kept.stop()
    KEPT.clear()


# -- what a driver has not got -----------------------------------------------------------------------------------------


LEAST = replace(
    GOOD,
    begin=None,
    commit=None,
    rollback=None,
    savepoints=None,
    transaction_status=None,
    execute_many=None,
    batch=None,
    script=None,
    stream=None,
    insert_many=None,
    writes=None,
    touch=None,
    server_info=None,
    endpoint=None,
)


@pytest.mark.parametrize("driver", [LEAST, with_pool(plain)], ids=["the least driver", "a pool of two closures"])
def test_what_a_driver_has_not_got_is_absent_and_all_else_is_kept(driver: AnyDriver, tmp_path: Path) -> None:
    slow = {"five_megabytes_come_back_equal"}
    report = run(subject_of(driver, tmp_path), promises=[each for each in PROMISES if each.name not in slow])
    assert [(each.promise.name, each.why) for each in report.verdicts if not each.good] == []
    absent = {each.promise.name for each in report.verdicts if each.outcome == "absent"}
    wanted = {
        each.name
        for each in PROMISES
        if "fatal" in each.needs or any(not report.capabilities.get(need, True) for need in each.needs)
    }
    assert absent == wanted
    assert report.good
    assert {"kept", "absent"} == set(report.counts)


async def test_a_missing_capability_has_to_be_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = replace(GOOD, server_info=None)
    assert (await verdict_on(driver, tmp_path, "a_server_tells_its_version")).outcome == "absent"

    async def invented(database: db.Database) -> db.ServerInfo:
        return db.ServerInfo(version="1")

    monkeypatch.setattr(db.Database, "server_info", invented)
    verdict = await verdict_on(driver, tmp_path, "a_server_tells_its_version")
    assert verdict.outcome == "broken"
    assert "UnsupportedError was promised, and nothing was raised" in verdict.why


async def test_savepoints_that_are_not_there_are_absent_and_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "rollback_of_a_savepoint_keeps_the_rest"
    driver = replace(GOOD, savepoints=None)
    verdict = await verdict_on(driver, tmp_path, name)
    assert (verdict.outcome, verdict.why) == ("absent", "the driver has no savepoints")

    monkeypatch.setattr(Transaction, "_savepoints", db.Savepoints())
    verdict = await verdict_on(driver, tmp_path, name)
    assert verdict.outcome == "broken"
    assert "UnsupportedError was promised, and nothing was raised" in verdict.why


async def test_what_the_subject_does_not_tell_is_absent(tmp_path: Path) -> None:
    verdict = await verdict_on(GOOD, tmp_path, "a_failed_start_says_why_and_soon", unreachable={})
    assert (verdict.outcome, verdict.good) == ("absent", True)
    assert "unreachable" in verdict.why


# -- what is declared --------------------------------------------------------------------------------------------------


async def test_a_declared_promise_that_is_not_kept_has_its_reason(tmp_path: Path) -> None:
    name = "a_server_tells_its_version"
    driver = replace(GOOD, server_info=no_version)
    verdict = await verdict_on(driver, tmp_path, name, cannot={name: "it is a secret"})
    assert (verdict.outcome, verdict.why, verdict.good) == ("declared", "it is a secret", True)
    assert isinstance(verdict.error, AssertionError)


async def test_a_declared_promise_that_is_kept_is_stale(tmp_path: Path) -> None:
    name = "a_server_tells_its_version"
    verdict = await verdict_on(GOOD, tmp_path, name, cannot={name: "it is a secret"})
    assert (verdict.outcome, verdict.good) == ("stale", False)
    assert "it is a secret" in verdict.why


async def test_a_declared_value_that_is_kept_is_stale(tmp_path: Path) -> None:
    cannot = {**of_sqlite.subject.cannot, "bool: true": "there is no truth"}
    verdict = await verdict_on(GOOD, tmp_path, "every_portable_value_comes_back_equal", cannot=cannot)
    assert verdict.outcome == "broken"
    assert "'bool: true' is kept, though it was declared" in verdict.why


def test_a_declaration_of_something_that_there_is_not_is_refused(tmp_path: Path) -> None:
    subject = subject_of(GOOD, tmp_path, cannot={"first_come_first_serve": "a typing error"})
    with pytest.raises(db.UsageError, match=r"'first_come_first_serve'.*'first_come_first_served'"):
        run(subject, promises=[])


def test_a_failure_that_is_permanent_has_to_be_one_of_the_unreachable(tmp_path: Path) -> None:
    with pytest.raises(db.UsageError, match=r"permanent: 'no such folders'.*'no such folder'"):
        run(subject_of(GOOD, tmp_path, permanent=("no such folders",)), promises=[])


async def test_deferred_constraints_that_are_not_there_can_be_declared(tmp_path: Path) -> None:
    async def refused(native: Connection, sql: str, params: Sequence[Any]) -> db.Result:
        if "DEFERRABLE" in sql:
            raise db.QueryError("a word that nobody knows")
        return await query(native, sql, params)

    verdict = await verdict_on(replace(GOOD, query=refused), tmp_path, "a_commit_that_fails_says_why_and_keeps_nothing")
    assert verdict.outcome == "broken"
    told = "QueryError: a word that nobody knows (no deferred constraints? declare it in `cannot`)"
    assert verdict.why.startswith(told)


# -- a query without end that has one ----------------------------------------------------------------------------------

ENDS = "what_these_promises_cut_off_does_not_end_by_itself"


@pytest.mark.parametrize(
    ("endless", "came"),
    [("SELECT 1 WHERE 1 = 2", r"\[\]"), ("SELECT sleep(600)", "QueryError: no such function: sleep.*")],
)
async def test_a_query_without_end_that_ends_is_told_wherever_it_matters(
    endless: str, came: str, tmp_path: Path
) -> None:
    for name in (ENDS, "a_statement_that_takes_too_long_is_ended"):
        verdict = await verdict_on(GOOD, tmp_path, name, endless=endless)
        assert verdict.outcome == "broken"
        told = rf"Subject\.endless ended after \d+ ms with {came}: give one that does not end"
        assert re.match(told, verdict.why), verdict.why
        assert str(verdict.error) in verdict.why


# -- promises that go wrong in other ways ------------------------------------------------------------------------------


def made_of(work: Callable[[Subject], Any]) -> Promise:
    return Promise(name="made", area="made", sentence="Made for this test.", needs=(), run=work)


async def test_a_promise_that_hangs_is_ended_and_says_that_it_hung(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "GUARD", 0.3)
    ended: list[str] = []

    async def stuck(native: Connection, sql: str, params: Sequence[Any]) -> db.Result:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(sql)
        raise AssertionError("nobody sets that event")

    verdict = await verdict_on(replace(GOOD, query=stuck), tmp_path, "a_started_database_answers")
    assert verdict.outcome == "broken"
    assert "hung for 0.3 s: it stood at connecting.py:" in verdict.why
    assert ended == ["SELECT 1"]


async def test_a_promise_that_does_not_end_when_it_is_cancelled_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "GUARD", 0.1)
    monkeypatch.setattr(judging, "STUBBORN", 0.1)
    enough = asyncio.Event()

    async def stubborn(subject: Subject) -> None:
        while not enough.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await enough.wait()

    verdict = await judge(made_of(stubborn), subject_of(GOOD, tmp_path))
    assert "and went on when it was cancelled" in verdict.why
    enough.set()


async def test_the_reason_of_a_broken_promise_shows_no_secret(tmp_path: Path) -> None:
    class Secretive(SqliteSettings):
        password: SecretStr

    async def tell(subject: Subject) -> None:
        raise ValueError("cannot log in with hunter2-do-not-show")

    source = {"driver": "sqlite", "path": str(tmp_path / "x.db"), "password": "hunter2-do-not-show"}
    subject = Subject(driver=replace(GOOD, settings=Secretive), source=source)
    verdict = await judge(made_of(tell), subject)
    assert verdict.why.startswith("ValueError: cannot log in with ***")


async def test_a_database_may_be_made_for_each_promise(tmp_path: Path) -> None:
    made: list[str] = []

    @contextlib.asynccontextmanager
    async def place() -> AsyncGenerator[str, None]:
        made.append(f"sqlite:///{tmp_path}/{len(made)}.db")
        yield made[-1]
        made.append("dropped")

    subject = Subject(source=place)
    for name in ("a_started_database_answers", "a_transaction_commits_when_its_block_ends"):
        assert (await judge(BY_NAME[name], subject)).outcome == "kept"
    assert made[1::2] == ["dropped", "dropped"]
    assert made[0] != made[2]
    with pytest.raises(db.UsageError, match="placed"):
        _ = subject.config


@pytest.mark.parametrize("name", ["a_transaction_commits_when_its_block_ends", "batch_is_all_or_nothing"])
@pytest.mark.parametrize("driver", [GOOD, replace(GOOD, query=no_counts), replace(GOOD, batch=batch_in_pieces)])
async def test_no_table_is_left_behind(driver: AnyDriver, name: str, tmp_path: Path) -> None:
    await verdict_on(driver, tmp_path, name)
    async with db.open(f"sqlite:///{tmp_path}/x.db") as database:
        assert await database.fetch_all("SELECT name FROM sqlite_schema") == []


# -- the suite and its reports -----------------------------------------------------------------------------------------


def test_every_promise_has_a_name_of_its_own_and_a_sentence() -> None:
    assert len(BY_NAME) == len(PROMISES) > 130
    for promise in PROMISES:
        assert promise.sentence.endswith("."), promise.name
        assert "Laws:" not in promise.sentence


def test_every_area_is_in_the_suite() -> None:
    folder = Path(judging.__file__).parent / "areas"
    assert {promise.area for promise in PROMISES} == {path.stem for path in folder.glob("[a-z]*.py")}


def test_a_report_is_a_page(tmp_path: Path) -> None:
    names = ("a_started_database_answers", "a_server_tells_its_version", "first_come_first_served")
    driver = replace(GOOD, server_info=no_version)
    report = run(subject_of(driver, tmp_path), promises=[BY_NAME[name] for name in names], figures=True)
    page = markdown(report)
    assert str(report) == "sqlite: 3 promises: 2 kept, 1 broken"
    assert not report.good
    assert "| After `start` statements are answered; a second `start` is harmless. | kept |" in page
    assert "| `server_info` has name and version of what is at the other end. | **broken**: a version has" in page
    assert "| `stream` | yes |" in page
    assert "| a transaction: serializable | yes |" in page
    assert "| float | `REAL` | all but NaN: changed to None |" in page
    assert "| float: NaN | SQLite keeps NULL in place of NaN |" in page
    assert "| checkout and release | " in page
    assert [figure.value > 0 for figure in report.figures] == [True] * 4


def test_the_package_of_a_driver_brings_its_subject() -> None:
    config = db.Config.from_url("sqlite:///x.db")
    assert subject_for(config) == replace(of_sqlite.subject, source=config)


def test_a_driver_without_a_subject_gets_a_plain_one(tmp_path: Path) -> None:
    config = replace(db.Config.from_url("sqlite:///x.db"), driver="unheard-of")
    assert subject_for(config) == Subject(source=config)


@pytest.mark.parametrize(
    ("value", "words"), [("nowhere_at_all:subject", "ModuleNotFoundError"), ("dbcore_sqlite:driver", "no Subject")]
)
def test_a_subject_that_cannot_be_had_is_an_error(value: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(**_: str) -> list[EntryPoint]:
        return [EntryPoint("sqlite", value, "dbcore.conformance")]

    monkeypatch.setattr("dbcore.testing.conformance.finding.entry_points", entry_points)
    with pytest.raises(db.UsageError, match=words):
        subject_for(db.Config.from_url("sqlite:///x.db"))


# -- under pytest, and without it --------------------------------------------------------------------------------------

TESTS = """
import pytest
from dataclasses import replace
from dbcore_sqlite import driver
from dbcore.testing.conformance import PROMISES, Subject, conformance_tests

some = [each for each in PROMISES if each.name in (
    "a_started_database_answers", "a_server_tells_its_version", "statistics_add_up", "first_come_first_served")]

by_value = Subject(
    driver=replace(driver, server_info=None),
    source="sqlite:///x.db",
    cannot={"first_come_first_served": "declared, and kept all the same"},
)
test_by_value = conformance_tests(by_value, some)

@pytest.fixture
def subject(tmp_path):
    async def no_answers(*_):
        raise ZeroDivisionError
    cannot = {name: "it divides by zero" for name in ("first_come_first_served", "a_started_database_answers")}
    return Subject(driver=replace(driver, query=no_answers), source=f"sqlite:///{tmp_path}/x.db", cannot=cannot)

test_by_fixture = conformance_tests(promises=some)
"""


def test_under_pytest_each_promise_is_an_item_with_an_outcome(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    outcomes = dict(re.findall(r"^test_it.py::(\S+) (\w+)", done.stdout, re.MULTILINE))
    assert outcomes == {
        "test_by_value[a_started_database_answers]": "PASSED",
        "test_by_value[a_server_tells_its_version]": "SKIPPED",
        "test_by_value[statistics_add_up]": "PASSED",
        "test_by_value[first_come_first_served]": "FAILED",
        "test_by_fixture[a_started_database_answers]": "XFAIL",
        "test_by_fixture[a_server_tells_its_version]": "PASSED",
        "test_by_fixture[statistics_add_up]": "PASSED",
        "test_by_fixture[first_come_first_served]": "FAILED",
    }, done.stdout
    assert "it is kept, though it was declared that it cannot be" in done.stdout


def test_without_pytest_it_is_not_imported(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from dbcore.testing.conformance import PROMISES, Subject, run\n"
        f"report = run(Subject(source='sqlite:///{tmp_path}/x.db'), promises=PROMISES[:3])\n"
        "assert report.good, report\n"
        "assert 'pytest' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
