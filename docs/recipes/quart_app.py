"""Users, over Quart: `hypercorn quart_app:app`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from quart import Quart, current_app, request

import dbcore as db

Answer = tuple[dict[str, Any], int] | tuple[dict[str, Any], int, dict[str, str]]


@dataclass(frozen=True)
class User:
    email: str
    name: str


USER = TypeAdapter(User)

app = Quart(__name__)


@app.while_serving
async def lifespan() -> AsyncGenerator[None, None]:
    """One database for the application: started before the first request, stopped after the last."""
    async with db.open(Path(__file__).with_name("db.toml")) as database:
        await database.execute("CREATE TABLE IF NOT EXISTS users (email TEXT PRIMARY KEY, name TEXT NOT NULL)")
        app.extensions["database"] = database
        yield


def of_app() -> db.Database:
    database: db.Database = current_app.extensions["database"]
    return database


@app.post("/users")
async def create() -> Answer:
    try:
        user = USER.validate_python(await request.get_json())
    except ValidationError:
        return {"error": "wanted: an email and a name"}, 422
    await of_app().execute("INSERT INTO users (email, name) VALUES (:email, :name)", asdict(user))
    return asdict(user), 201


@app.get("/users/<email>")
async def show(email: str) -> Answer:
    return asdict(await of_app().fetch_one("SELECT * FROM users WHERE email = $1", [email], into=User)), 200


@app.errorhandler(db.NotFound)
async def not_found(error: db.NotFound) -> Answer:
    return {"error": "no such user"}, 404


@app.errorhandler(db.ConstraintError)
async def conflict(error: db.ConstraintError) -> Answer:
    if error.kind != "unique":
        raise error
    return {"error": "there is one already"}, 409


@app.errorhandler(db.PoolError)
async def busy(error: db.PoolError) -> Answer:
    """No connection became free in time: the client may come again."""
    return {"error": "busy"}, 503, {"Retry-After": "1"}
