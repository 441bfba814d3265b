"""`docs/laws.md` is held to what it says: every law is there once, and each test that it names exists and names it."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "laws.md"

HOW_MANY = {
    "A": 25, "B": 15, "C": 17, "D": 11, "E": 18, "F": 13, "G": 12, "H": 12,
    "I": 18, "J": 19, "K": 8, "L": 13, "M": 8, "N": 9, "O": 10, "P": 4,
}  # fmt: skip
"""Laws in each group."""

ENTRY = re.compile(r"^- \*\*(?P<number>[A-P]\d+)\*\* (?P<body>.*?)(?=^- \*\*|^## |\Z)", re.MULTILINE | re.DOTALL)
VERDICT = re.compile(r"^  (Kept:$|Otherwise: \S|Not applicable: \S)", re.MULTILINE)
NAMED = re.compile(r"^  `(?P<path>[\w/]+\.py)::(?P<test>\w+)`$", re.MULTILINE)
CLAIM = re.compile(r"^\W*(?:Test\w+\.__doc__ = \")?Laws: (?P<laws>[^\n]*)$", re.MULTILINE)
NUMBERS = re.compile(r"[A-P]\d+(?:, [A-P]\d+)*\.")

LAWS = [(found["number"], found["body"]) for found in ENTRY.finditer(PAGE.read_text(encoding="utf-8"))]
AREAS = ROOT / "dbcore" / "testing" / "conformance" / "areas"
TEST_FILES = sorted(
    {*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("drivers/*/tests/test_*.py"), *AREAS.glob("*.py")} - {Path(__file__)}
)


def claims(text: str) -> set[str]:
    """The laws that a docstring, or the source of several, says that it proves."""
    found: set[str] = set()
    for claim in CLAIM.finditer(text):
        numbers = NUMBERS.match(claim["laws"])
        assert numbers or claim["laws"].startswith("none"), f"this names no law: {claim[0].strip()}"
        found.update(re.findall(r"[A-P]\d+", numbers[0]) if numbers else ())
    return found


def docstrings_of_tests(path: Path) -> dict[str, str]:
    """Those of a test file, or of an area of the conformance suite, where a promise proves as a test does."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    proofs = (node for node in functions if is_promise(node) or node.name.startswith("test_"))
    return {node.name: ast.get_docstring(node) or "" for node in proofs}


def is_promise(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    called = [decorator.func for decorator in function.decorator_list if isinstance(decorator, ast.Call)]
    return any(isinstance(each, ast.Name) and each.id == "promise" for each in called)


def test_every_law_is_there_once() -> None:
    all_of_them = [f"{group}{number}" for group, count in HOW_MANY.items() for number in range(1, count + 1)]
    assert len(all_of_them) == 212
    assert [number for number, _ in LAWS] == all_of_them


@pytest.mark.parametrize(("number", "body"), LAWS, ids=[number for number, _ in LAWS])
def test_a_law_has_one_verdict_and_a_kept_one_has_tests_that_name_it(number: str, body: str) -> None:
    (verdict,) = VERDICT.findall(body)
    named = [(found["path"], found["test"]) for found in NAMED.finditer(body)]
    assert bool(named) == (not verdict.startswith("Not applicable"))
    assert body.count("::") == len(named) == len(set(named))
    for path, test in named:
        tests = docstrings_of_tests(ROOT / path)
        assert test in tests, f"there is no {path}::{test}"
        assert number in claims(tests[test]), f"{path}::{test} does not name {number} in its docstring"


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_law_that_a_test_names_is_one_that_applies(path: Path) -> None:
    applies = {number for number, body in LAWS if "\n  Not applicable: " not in body}
    assert claims(path.read_text(encoding="utf-8")) <= applies


def test_the_count_of_verdicts_is_that_of_the_head_of_the_page() -> None:
    counted = Counter(VERDICT.findall(body)[0].partition(":")[0] for _, body in LAWS)
    told = re.findall(r"^- \*\*(Kept|Otherwise|Not applicable)\*\* \((\d+)\)", PAGE.read_text(), re.MULTILINE)
    assert {verdict: int(count) for verdict, count in told} == counted
