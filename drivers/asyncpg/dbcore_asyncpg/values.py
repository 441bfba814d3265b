"""Values on their way to the server and back: where asyncpg's own codecs do not do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

from dbcore.statements.values import Json, JsonString, encode_json
from dbcore_asyncpg.connection import Connection

__all__ = ["register_codecs"]


async def register_codecs(connection: Connection) -> None:
    """Teach a new connection `db.Json`, and `UUID`s that are Python's own. No trip: these types are known."""

    async def register(name: str, encoder: Callable[[Any], bytes], decoder: Callable[[bytes], Any]) -> None:
        await connection.set_type_codec(name, schema="pg_catalog", encoder=encoder, decoder=decoder, format="binary")

    await register("json", _encode_json, _decode_json)
    await register("jsonb", lambda value: b"\x01" + _encode_json(value), lambda data: _decode_json(data[1:]))
    await register("uuid", _encode_uuid, lambda data: UUID(bytes=bytes(data)))


def _encode_json(value: Any) -> bytes:
    """A text that goes into a JSON column is JSON already."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (dict, list, Json)):
        return encode_json(value).encode()
    raise TypeError("db.Json(...) sends it as JSON")


def _decode_json(data: bytes) -> Any:
    value = json.loads(data)
    return JsonString(value) if type(value) is str else value


def _encode_uuid(value: Any) -> bytes:
    return (value if isinstance(value, UUID) else UUID(value)).bytes
