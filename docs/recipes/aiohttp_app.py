"""Users, over aiohttp: `python aiohttp_app.py 8000`."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

import dbcore as db


@dataclass(frozen=True)
class User:
    email: str
    name: str


USER = TypeAdapter(User)
DATABASE = web.AppKey("DATABASE", db.Database)


async def lifespan(app: web.Application) -> AsyncIterator[None]:
    """One database for the application: started before the first request, stopped after the last."""
    async with db.open(Path(__file__).with_name("db.toml")) as database:
        await database.execute("CREATE TABLE IF NOT EXISTS users (email TEXT PRIMARY KEY, name TEXT NOT NULL)")
        app[DATABASE] = database
        yield


async def create(request: web.Request) -> web.Response:
    try:
        user = USER.validate_python(await request.json())
    except (json.JSONDecodeError, ValidationError):
        return web.json_response({"error": "wanted: an email and a name"}, status=422)
    await request.app[DATABASE].execute("INSERT INTO users (email, name) VALUES (:email, :name)", asdict(user))
    return web.json_response(asdict(user), status=201)


async def show(request: web.Request) -> web.Response:
    email = request.match_info["email"]
    query = "SELECT * FROM users WHERE email = $1"
    return web.json_response(asdict(await request.app[DATABASE].fetch_one(query, [email], into=User)))


@web.middleware
async def errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except db.NotFound:
        return web.json_response({"error": "no such user"}, status=404)
    except db.ConstraintError as error:
        if error.kind != "unique":
            raise
        return web.json_response({"error": "there is one already"}, status=409)
    except db.PoolError:  # no connection became free in time: the client may come again
        return web.json_response({"error": "busy"}, status=503, headers={"Retry-After": "1"})


def make() -> web.Application:
    app = web.Application(middlewares=[errors])
    app.add_routes([web.post("/users", create), web.get("/users/{email}", show)])
    app.cleanup_ctx.append(lifespan)
    return app


if __name__ == "__main__":
    web.run_app(make(), host="127.0.0.1", port=int(sys.argv[1]), print=None)
