"""The benchmark still runs, and its page is that of its last run. What it measures is looked at nowhere here."""

from __future__ import annotations

import dataclasses
import uuid
from pathlib import Path

import psycopg
import pytest

from benchmarks.__main__ import FOLDER, PAGE, RESULTS, measured_run
from benchmarks.bars import BARS, Bar, judge
from benchmarks.contenders import CONTENDERS, Contender, Opened
from benchmarks.effort import QUICK
from benchmarks.figures import FIGURES
from benchmarks.measure import Measured, measure
from benchmarks.metrics import METRICS
from benchmarks.metrics.loops import together
from benchmarks.plot import plots
from benchmarks.proof import Unproven, prove
from benchmarks.report import MARKED, SECTIONS, compared, filled
from benchmarks.run import Run
from benchmarks.server import Databases, databases

TINY = dataclasses.replace(
    QUICK,
    seconds=0.001,
    checkouts=400,
    waiters=(10, 20),
    peer_waiters=10,
    patience=0.05,
    slow=0.01,
    rows=20,
    measured_waiters=10,
    size=2,
)

OURS = ("dbcore (postgres)", "dbcore (sqlite)")


def test_every_figure_of_ours_can_be_measured(postgres_url: str, tmp_path: Path) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as outside:
        schema = f"bench_{uuid.uuid4().hex}"
        outside.execute(f"CREATE SCHEMA {schema}".encode())
        joint = "&" if "?" in postgres_url else "?"
        try:
            with databases(TINY.slow, f"{postgres_url}{joint}options=-csearch_path%3D{schema}") as where:
                run = measured_run(where, TINY, ["dbcore*", "floor"])
        finally:
            outside.execute(f"DROP SCHEMA {schema} CASCADE".encode())

    assert not run.measured.left_out
    for ours in OURS:
        found = {key.partition(" ")[0] for key in run.measured.rounds[ours]}
        assert found == set(FIGURES) - {"import"}
    assert run.measured.median("import dbcore", "import") is not None
    for section in SECTIONS.values():
        assert section(run)
    run.save(tmp_path / "run.json")
    assert Run.load_from(tmp_path / "run.json") == run


async def test_a_machine_that_sleeps_through_the_time_still_has_a_figure() -> None:
    async def call(_: int) -> None:
        pass

    rate = await together([call], 3, lambda _: False)
    assert rate.per_second > 0
    assert rate.p99 >= 0


def test_a_missing_peer_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = dataclasses.replace(CONTENDERS[0], name="absent", needs=("no_such_module",))
    monkeypatch.setattr("benchmarks.__main__.CONTENDERS", (CONTENDERS[0], absent))
    with databases(TINY.slow, None) as where:
        run = measured_run(where, TINY, ["a"])
    assert run.measured.left_out == {"absent": "no_such_module is not installed"}
    assert set(run.measured.rounds) == {"floor"}


def sqlite_contender(**wrong: object) -> Contender:
    """Ours on SQLite with some operation that does not do what it says."""
    (ours,) = [each for each in CONTENDERS if each.name == "dbcore (sqlite)"]

    async def open_it(where: Databases, size: int, patience: float) -> Opened:
        opened = await ours.open(where, size, patience)
        changes: dict[str, object] = wrong
        return dataclasses.replace(opened, **changes)  # type: ignore[arg-type]  # any of its fields

    return dataclasses.replace(ours, open=open_it)


async def other_row(key: int) -> tuple[object, ...]:
    return (key, "another", 1.0, "never", 0)


async def nothing(*_: object) -> list[object]:
    return []


WRONG: dict[str, object] = {
    "fetch_one": [other_row],
    "fetch_all": nothing,
    "fetch_dicts": nothing,
    "insert_many": nothing,
    "insert_one": [nothing],
}


@pytest.mark.parametrize("operation", WRONG)
async def test_a_contender_that_does_not_do_its_work_is_found(operation: str) -> None:
    with databases(TINY.slow, None) as where:
        contender = sqlite_contender(**{operation: WRONG[operation]})
        opened = await contender.open(where, 2, 5)
        try:
            with pytest.raises(Unproven):
                await prove(contender, opened, where, 2)
        finally:
            await opened.close()


async def test_what_fails_is_left_out_and_the_others_go_on() -> None:
    measured = Measured()
    with databases(TINY.slow, None) as where:
        await measure([sqlite_contender(fetch_one=[other_row]), CONTENDERS[0]], METRICS[:1], where, TINY, measured)
    assert measured.left_out["dbcore (sqlite)"].startswith("Unproven: one row")
    assert measured.median("floor", "checkout")


def test_a_ratio_is_of_the_two_in_the_same_round() -> None:
    measured = Measured({"ours": {"checkout": [1.0, 10.0, 2.0]}, "peer": {"checkout": [3.0, 20.0, 8.0]}})
    ratio = measured.ratio("ours", "peer", "checkout")
    assert ratio is not None
    assert (ratio.value, ratio.lowest, ratio.highest) == (3.0, 2.0, 4.0)


@pytest.mark.parametrize(
    ("bar", "met"),
    [
        (Bar("ours", "one_many", ("slow peer", "fast peer"), at_least=2), True),
        (Bar("ours", "one_many", ("slow peer", "fast peer"), at_least=2.1), False),
        (Bar("ours", "serve", ("fast peer",), at_most=3), True),
        (Bar("ours", "serve", ("fast peer",), at_most=2.9), False),
        (Bar("ours", "tx_p99", at_most=5), True),
        (Bar("ours", "tx_p99", at_most=4.9), False),
    ],
)
def test_a_bar_is_met_or_not(bar: Bar, met: bool) -> None:
    ours = {"one_many": [100.0], "serve 10": [2.0], "serve 20": [3.0], "tx_p99": [5.0]}
    peer = {"one_many": [50.0], "serve 10": [1.0], "serve 20": [1.0]}
    verdict = judge(bar, Measured({"ours": ours, "fast peer": peer, "slow peer": {"one_many": [10.0]}}))
    assert verdict is not None
    assert verdict.met is met


@pytest.mark.parametrize(("figure", "peer"), [("one_many", "raw asyncpg"), ("serve 10", "floor")])
def test_a_ratio_that_is_lost_on_another_loop_is_shown(figure: str, peer: str) -> None:
    def run(ours: float) -> Run:
        rounds = {"dbcore (postgres)": {figure: [ours]}, peer: {figure: [10.0]}}
        return Run(
            date="", loop="", rounds=1, load="", machine="", versions={}, contenders={}, measured=Measured(rounds)
        )

    good, bad = (20.0, 16.0) if FIGURES[figure.partition(" ")[0]].more_is_better else (16.0, 20.0)
    assert "**0.80**" in compared(run(bad), run(good))
    assert "**" not in compared(run(good), run(bad))


def test_a_bar_names_what_there_is() -> None:
    names = {each.name for each in CONTENDERS}
    for bar in BARS:
        assert bar.figure in FIGURES
        if bar.figure != "import":
            assert {bar.ours, *bar.against} <= names


def test_the_page_and_the_plots_are_those_of_the_last_run() -> None:
    run = Run.load_from(RESULTS)
    text = PAGE.read_text(encoding="utf-8")
    assert {found["name"] for found in MARKED.finditer(text)} == set(SECTIONS)
    assert filled(text, run) == text, "stale: run python -m benchmarks --page"
    for name, svg in plots(run).items():
        assert (FOLDER / name).read_text(encoding="utf-8") == svg, "stale: run python -m benchmarks --page"
