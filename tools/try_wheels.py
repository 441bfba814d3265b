"""Build the wheels of the project and use them as a stranger would: installed, and far from the checkout.

Builds all of them, installs the core with one driver in an environment of its own, and runs a program there that
imports `dbcore` alone; then adds the other drivers and the command. Ends with the count of what passed and failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECTS = [ROOT, *sorted(path.parent for path in (ROOT / "drivers").glob("*/pyproject.toml"))]

PROGRAM = """
import asyncio, dataclasses, decimal, sys
import dbcore as db

@dataclasses.dataclass
class User:
    id: int
    email: str

async def main():
    async with db.open("db.toml") as database:
        await database.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT NOT NULL)")
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO users (email) VALUES ($1)", ["ada@example.org"])
        users = await database.fetch_all("SELECT id, email FROM users WHERE id > :low", {"low": 0}, into=User)
        assert users == [User(1, "ada@example.org")], users
        assert database.stats().in_use == 0

asyncio.run(main())
"""

CONFIG = """
[connections.main]
url = "sqlite:///app.db"
"""

IMPORTS_NO_OTHER = """
import importlib.util
for name in ("psycopg", "dbcore_postgres", "asyncpg", "dbcore_asyncpg", "asyncmy", "dbcore_mysql", "typer", "rich"):
    assert importlib.util.find_spec(name) is None, f"{name} came along uninvited"
"""

TYPED = """
import importlib.resources
for name in ("dbcore", "dbcore_sqlite", "dbcore_postgres", "dbcore_asyncpg", "dbcore_mysql"):
    assert importlib.resources.files(name).joinpath("py.typed").is_file(), name
"""


class Trial:
    """Runs commands in a folder and keeps count."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.passed = 0
        self.failed = 0
        # The checkout must not be seen, neither by a variable nor by where we stand.
        self.environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "DBCORE_"))
        }

    def expect(self, what: str, command: Sequence[str | Path], *, code: int = 0, says: str = "") -> bool:
        """Run a command, and ask for an exit code and a text in what it prints."""
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        good = done.returncode == code and says in done.stdout
        self.passed += good
        self.failed += not good
        print(f"{'ok    ' if good else 'FAILED'} {what}", flush=True)
        if not good:
            print(f"exit code {done.returncode}, expected {code} and {says!r} in:\n{done.stdout}", flush=True)
        return good


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="dbcore-wheels-") as name:
        folder = Path(name)
        wheels = folder / "wheels"
        trial = Trial(folder)
        (folder / "db.toml").write_text(CONFIG)
        pip: list[str | Path] = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        build = [*pip, "wheel", "--no-deps", "--wheel-dir", wheels, *PROJECTS]
        if not trial.expect("the wheels are built", build):
            return 1
        core = next(wheels.glob("dbcore-*.whl"))
        sqlite = next(wheels.glob("dbcore_sqlite-*.whl"))
        postgres = next(wheels.glob("dbcore_postgres-*.whl"))
        asyncpg = next(wheels.glob("dbcore_asyncpg-*.whl"))
        mysql = next(wheels.glob("dbcore_mysql-*.whl"))

        home = folder / "environment"
        venv.create(home, with_pip=True, symlinks=True)
        python = home / "bin" / "python"
        pip[0] = str(python)
        # Paths, not names: what is tried is what was built, and nothing of ours is looked up anywhere.
        trial.expect("core and one driver are installed", [*pip, "install", f"{core}[sqlite]", sqlite])
        trial.expect("nothing else came along", [python, "-c", IMPORTS_NO_OTHER])
        trial.expect("a program runs that imports dbcore alone", [python, "-c", PROGRAM])
        command = home / "bin" / "dbcore"
        hint = 'pip install "dbcore[cli]"'
        trial.expect("without its extra the command says what to install", [command, "check"], code=1, says=hint)
        trial.expect("so does the module", [python, "-m", "dbcore", "check"], code=1, says=hint)
        everything: list[str | Path] = [f"{core}[asyncpg,cli,mysql,postgres,sqlite]", sqlite, postgres, asyncpg, mysql]
        trial.expect("all of it is installed", [*pip, "install", *everything])
        trial.expect("what is installed fits together", [*pip, "check"])
        trial.expect("each package says that it is typed", [python, "-c", TYPED])
        trial.expect("the command finds one driver", [command, "drivers"], says="sqlite")
        trial.expect("the command finds another driver", [command, "drivers"], says="postgres")
        trial.expect("the command finds a third driver", [command, "drivers"], says="asyncpg")
        trial.expect("the command finds a fourth driver", [command, "drivers"], says="mysql")
        trial.expect("the command connects", [command, "check", "--connect"], says="SQLite 3")
        trial.expect("the command prints the schema", [command, "schema"], says='"connections"')
        print(f"{trial.passed} passed, {trial.failed} failed")
        return 1 if trial.failed else 0


if __name__ == "__main__":
    sys.exit(main())
