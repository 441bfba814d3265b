"""The driver on the page about writing one: taken from the page, installed, and held to what dbcore promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest
from pages import DOCS, write_files

PAGE = DOCS / "write-a-driver.md"
LINES = 200


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the page, and what is installed from it in `site`."""
    folder = tmp_path_factory.mktemp("worked")
    write_files(PAGE, folder)
    command = [
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"),
        *("--no-index", "--no-deps", "--no-build-isolation", "--target", str(folder / "site"), str(folder)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder


def run(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run something where the driver is installed, and nothing else of its page can be imported."""
    elsewhere = project / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    path = os.pathsep.join(filter(None, [str(project / "site"), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, *command],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def test_the_driver_of_the_page_keeps_every_promise(project: Path) -> None:
    tests = str(project / "test_stdlite.py")
    done = run(project, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(project), tests)
    assert done.returncode == 0, done.stdout[-5000:]
    counted = re.search(r"(\d+) passed", done.stdout)
    assert counted is not None
    assert int(counted[1]) > 100


def test_the_driver_of_the_page_is_found_by_its_name(project: Path) -> None:
    program = (
        "import asyncio, dbcore as db\n"
        "async def main():\n"
        "    async with db.open('stdlite:///found.db') as database:\n"
        "        print(database.driver, await database.fetch_value('SELECT 42'))\n"
        "asyncio.run(main())"
    )
    done = run(project, "-W", "error", "-c", program)
    assert (done.stdout, done.stderr) == ("stdlite 42\n", "")


def test_the_driver_of_the_page_is_as_short_as_the_page_says(project: Path) -> None:
    """Lines that hold code: neither blank ones nor those that are all comment count."""
    nothing = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    with (project / "dbcore_stdlite.py").open(encoding="utf-8") as file:
        tokens = [token for token in tokenize.generate_tokens(file.readline) if token.type not in nothing]
    lines = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    assert f"less than {LINES}" in PAGE.read_text(encoding="utf-8")
    assert len(lines) < LINES
