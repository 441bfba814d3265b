"""Users, from the command line.

    python script.py add ada@example.org "Ada Lovelace"
    python script.py show ada@example.org

Where they are kept is said in `db.toml`.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

import dbcore as db


@dataclass(frozen=True)
class User:
    email: str
    name: str


async def main(arguments: list[str]) -> str:
    async with db.open(Path(__file__).with_name("db.toml")) as database:
        await database.execute("CREATE TABLE IF NOT EXISTS users (email TEXT PRIMARY KEY, name TEXT NOT NULL)")
        match arguments:
            case ["add", email, name]:
                await database.execute("INSERT INTO users (email, name) VALUES ($1, $2)", [email, name])
                return f"added {email}"
            case ["show", email]:
                user = await database.fetch_one("SELECT * FROM users WHERE email = $1", [email], into=User)
                return f"{user.name} <{user.email}>"
            case _:
                sys.exit(__doc__)


if __name__ == "__main__":
    try:
        print(asyncio.run(main(sys.argv[1:])))
    except db.NotFound:
        sys.exit("there is no such user")
    except db.ConstraintError as error:
        sys.exit("there is one already" if error.kind == "unique" else str(error))
    except db.DbError as error:  # a config that is wrong, a server that is away: the text says what to do
        sys.exit(str(error))
