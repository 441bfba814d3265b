"""Users, over Litestar: `uvicorn litestar_app:app`."""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from litestar import Litestar, Request, Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath, JSONBody

import dbcore as db


@dataclass(frozen=True)
class User:
    email: str
    name: str


@contextlib.asynccontextmanager
async def lifespan(app: Litestar) -> AsyncGenerator[None, None]:
    """One database for the application: started before the first request, stopped after the last."""
    async with db.open(Path(__file__).with_name("db.toml")) as database:
        await database.execute("CREATE TABLE IF NOT EXISTS users (email TEXT PRIMARY KEY, name TEXT NOT NULL)")
        app.state.database = database
        yield


def of(state: State) -> db.Database:
    database: db.Database = state.database
    return database


@post("/users")
async def create(data: JSONBody[User], state: State) -> User:
    await of(state).execute("INSERT INTO users (email, name) VALUES (:email, :name)", asdict(data))
    return data


@get("/users/{email:str}")
async def show(email: FromPath[str], state: State) -> User:
    return await of(state).fetch_one("SELECT * FROM users WHERE email = $1", [email], into=User)


def not_found(request: Request[Any, Any, Any], error: db.NotFound) -> Response[dict[str, str]]:
    return Response({"error": "no such user"}, status_code=404)


def conflict(request: Request[Any, Any, Any], error: db.ConstraintError) -> Response[dict[str, str]]:
    if error.kind != "unique":
        raise error
    return Response({"error": "there is one already"}, status_code=409)


def busy(request: Request[Any, Any, Any], error: db.PoolError) -> Response[dict[str, str]]:
    """No connection became free in time: the client may come again."""
    return Response({"error": "busy"}, status_code=503, headers={"Retry-After": "1"})


app = Litestar(
    [create, show],
    lifespan=[lifespan],
    exception_handlers={db.NotFound: not_found, db.ConstraintError: conflict, db.PoolError: busy},
)
