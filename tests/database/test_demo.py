"""The demo (`make demo`) as it stands, in a process of its own, on every database by `DATABASE_URL` alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from databases import Place

DEMO = Path(__file__).parents[2] / "docs" / "examples" / "ledger.py"
SECONDS = 100
"""A demo that takes longer hangs."""

ROW = re.compile(r"^│ (?P<name>[^│]*?) *│ (?P<value>[^│]*?) *│$", re.MULTILINE)


def shown(output: str) -> Mapping[str, str]:
    """The rows of the two tables that the demo prints at its end."""
    return {found["name"]: found["value"] for found in ROW.finditer(output)}


def test_the_demo_runs_unchanged_and_loses_no_cent(place: Place, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", DEMO],
        env={**os.environ, "DATABASE_URL": place.url, "COLUMNS": "100"},
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    first, bar, *_ = done.stdout.splitlines()
    assert first == f"50 tasks, 12 accounts, 5,000 transfers on {place.driver}"
    assert "5000/5000" in bar
    rows = shown(done.stdout)
    assert (rows["money before"], rows["money after"]) == ("12,000.00", "12,000.00")
    assert rows["accounts that do not add up"] == "0"
    counts = re.fullmatch(r"(?P<done>[\d,]+) done, (?P<declined>[\d,]+) declined for lack of money", rows["transfers"])
    assert counts is not None
    assert sum(int(count.replace(",", "")) for count in counts.groups()) == 5_000
    assert rows["timed out or refused"] == "0"
    assert rows["opened"].endswith("0 failures")
    with place.outside() as ask:
        assert ask("SELECT SUM(cents) FROM demo_accounts") == [(1_200_000,)]
