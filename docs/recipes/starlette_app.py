"""Users, over Starlette: `uvicorn starlette_app:app`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import dbcore as db


@dataclass(frozen=True)
class User:
    email: str
    name: str


USER = TypeAdapter(User)


class State(TypedDict):
    """What every request finds in `request.state`."""

    database: db.Database


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[State, None]:
    """One database for the application: started before the first request, stopped after the last."""
    async with db.open(Path(__file__).with_name("db.toml")) as database:
        await database.execute("CREATE TABLE IF NOT EXISTS users (email TEXT PRIMARY KEY, name TEXT NOT NULL)")
        yield {"database": database}


async def create(request: Request) -> Response:
    database: db.Database = request.state.database
    try:
        user = USER.validate_python(await request.json())
    except (json.JSONDecodeError, ValidationError):
        return JSONResponse({"error": "wanted: an email and a name"}, 422)
    await database.execute("INSERT INTO users (email, name) VALUES (:email, :name)", asdict(user))
    return JSONResponse(asdict(user), 201)


async def show(request: Request) -> Response:
    database: db.Database = request.state.database
    email = request.path_params["email"]
    return JSONResponse(asdict(await database.fetch_one("SELECT * FROM users WHERE email = $1", [email], into=User)))


async def not_found(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "no such user"}, 404)


async def conflict(request: Request, error: Exception) -> Response:
    if isinstance(error, db.ConstraintError) and error.kind == "unique":
        return JSONResponse({"error": "there is one already"}, 409)
    raise error


async def busy(request: Request, error: Exception) -> Response:
    """No connection became free in time: the client may come again."""
    return JSONResponse({"error": "busy"}, 503, {"Retry-After": "1"})


app = Starlette(
    routes=[
        Route("/users", create, methods=["POST"]),
        Route("/users/{email}", show),
    ],
    exception_handlers={db.NotFound: not_found, db.ConstraintError: conflict, db.PoolError: busy},
    lifespan=lifespan,
)
