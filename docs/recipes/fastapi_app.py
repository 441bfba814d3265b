"""Users, over FastAPI: `uvicorn fastapi_app:app`."""

import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated, TypedDict

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

import dbcore as db


class User(BaseModel):
    email: str
    name: str


class State(TypedDict):
    """What every request finds in `request.state`."""

    database: db.Database


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[State, None]:
    """One database for the application: started before the first request, stopped after the last."""
    async with db.open(Path(__file__).with_name("db.toml")) as database:
        await database.execute("CREATE TABLE IF NOT EXISTS users (email TEXT PRIMARY KEY, name TEXT NOT NULL)")
        yield {"database": database}


app = FastAPI(lifespan=lifespan)


async def of_request(request: Request) -> db.Database:
    database: db.Database = request.state.database
    return database


Database = Annotated[db.Database, Depends(of_request)]
"""What a handler asks for. It is no connection: each statement takes one for as long as it runs."""


@app.post("/users", status_code=201)
async def create(user: User, database: Database) -> User:
    await database.execute("INSERT INTO users (email, name) VALUES (:email, :name)", user.model_dump())
    return user


@app.get("/users/{email}")
async def show(email: str, database: Database) -> User:
    return await database.fetch_one("SELECT * FROM users WHERE email = $1", [email], into=User)


@app.exception_handler(db.NotFound)
async def not_found(request: Request, error: db.NotFound) -> JSONResponse:
    return JSONResponse({"error": "no such user"}, 404)


@app.exception_handler(db.ConstraintError)
async def conflict(request: Request, error: db.ConstraintError) -> JSONResponse:
    if error.kind != "unique":
        raise error
    return JSONResponse({"error": "there is one already"}, 409)


@app.exception_handler(db.PoolError)
async def busy(request: Request, error: db.PoolError) -> JSONResponse:
    """No connection became free in time: the client may come again."""
    return JSONResponse({"error": "busy"}, 503, {"Retry-After": "1"})
