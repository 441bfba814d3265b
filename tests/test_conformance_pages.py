"""The reports in docs/conformance are those of the promises that there are, and of what the drivers declare."""

from __future__ import annotations

import importlib
import re
import runpy
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import pytest
from pages import DOCS, ROOT

from dbcore.registry import find_driver
from dbcore.testing.conformance import PROMISES, Subject
from dbcore.testing.conformance.capabilities import DRIVER, POOL
from dbcore.testing.values import KINDS

TOOL: dict[str, Any] = runpy.run_path(str(ROOT / "tools" / "conformance_pages.py"))
"""What the generator of the pages consists of; the tools are no package."""

DRIVERS: tuple[str, ...] = tuple(TOOL["SOURCES"])
STALE = "stale: run python tools/conformance_pages.py"

LOST = re.compile(r"(?:all but |; )(?P<value>[^:;]+): (?:refused|changed)")

each_driver = pytest.mark.parametrize("driver", DRIVERS)


def text_of(driver: str) -> str:
    return (DOCS / "conformance" / f"{driver}.md").read_text(encoding="utf-8")


def subject_of(driver: str) -> Subject:
    subject: Subject = importlib.import_module(f"dbcore_{driver}.conformance").subject
    return subject


def tables(driver: str) -> Mapping[str, list[list[str]]]:
    """By its heading, the rows of each section of the page, without the head of the table."""
    sections = re.split(r"^## ", text_of(driver), flags=re.MULTILINE)[1:]
    return {section.partition("\n")[0]: list(rows(section))[2:] for section in sections}


def rows(section: str) -> Iterator[list[str]]:
    for line in section.splitlines():
        if line.startswith("|"):
            yield [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def areas(driver: str) -> list[tuple[str, str, str]]:
    """Area, promise and outcome, as the page has them."""
    found = tables(driver)
    others = ("Declared", "Capabilities", "Values")
    return [(area, sentence, outcome) for area in found if area not in others for sentence, outcome in found[area]]


def can(driver: str) -> Mapping[str, bool]:
    """What the page says the driver and its pool can do."""
    return {name.strip("`"): given == "yes" for name, given in tables(driver)["Capabilities"] if name.startswith("`")}


def expected(driver: str) -> Iterator[tuple[str, str, str]]:
    subject = subject_of(driver)
    given = can(driver)
    for promise in PROMISES:
        area = promise.area.replace("_", " ").capitalize()
        told = [need for need in promise.needs if need not in given and not getattr(subject, need)]
        absent = [need for need in promise.needs if not given.get(need, True)]
        if told:
            outcome = f"absent: `Subject.{told[0]}` does not say what to try it with"
        elif absent:
            outcome = f"absent: the driver has no {', '.join(absent)}"
        elif reason := subject.cannot.get(promise.name):
            outcome = f"declared: {reason}"
        else:
            outcome = "kept"
        yield area, promise.sentence, outcome


@each_driver
def test_the_report_has_every_promise_with_the_outcome_that_was_declared(driver: str) -> None:
    assert areas(driver) == list(expected(driver)), STALE


@each_driver
def test_the_report_counts_what_is_in_it_and_names_this_version(driver: str) -> None:
    counts = Counter(outcome.partition(":")[0] for _, _, outcome in areas(driver))
    counted = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    text = text_of(driver)
    assert text.startswith(f"# Conformance: {driver}\n\n{TOOL['INTRO']}\n"), STALE
    assert f"\n{len(PROMISES)} promises: {counted}.\n" in text, STALE
    assert f"\ndbcore {version('dbcore')}, on " in text, STALE


@each_driver
def test_the_report_has_every_declaration_with_its_reason(driver: str) -> None:
    assert dict(tables(driver).get("Declared", [])) == subject_of(driver).cannot, STALE


@each_driver
def test_the_capabilities_of_the_report_are_those_of_the_driver(driver: str) -> None:
    there = find_driver(driver)
    given = can(driver)
    assert list(given) == [*DRIVER, *POOL], STALE
    assert {name: given[name] for name in DRIVER} == {name: getattr(there, name) is not None for name in DRIVER}, STALE


@each_driver
def test_the_values_that_the_report_has_as_lost_are_those_that_were_declared(driver: str) -> None:
    values = tables(driver)["Values"]
    subject = subject_of(driver)
    lost = {f"{kind}: {found['value']}" for kind, _, fate in values for found in LOST.finditer(fate)}
    assert [kind for kind, *_ in values] == list(KINDS), STALE
    assert lost == set(subject.cannot) - {promise.name for promise in PROMISES}, STALE
    assert {kind: column.strip("`") for kind, column, _ in values}.items() >= subject.columns.items(), STALE


def test_there_is_a_report_for_each_driver_and_a_link_to_it() -> None:
    assert {path.stem for path in (DOCS / "conformance").glob("*.md")} == set(DRIVERS)
    page = (DOCS / "conformance.md").read_text(encoding="utf-8")
    assert [driver for driver in DRIVERS if f"](conformance/{driver}.md)" not in page] == []


def test_each_package_of_a_driver_brings_what_the_suite_has_to_know() -> None:
    """Without the entry point `dbcore conformance` calls broken what the driver declares."""
    named: dict[str, str] = {}
    for path in (ROOT / "drivers").glob("*/pyproject.toml"):
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        named |= project["entry-points"].get("dbcore.conformance", {})
    assert named == {driver: f"dbcore_{driver}.conformance:subject" for driver in DRIVERS}
