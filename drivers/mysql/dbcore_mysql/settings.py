"""The config keys of the driver, and how a URL says them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from dbcore.config import Settings
from dbcore.config.urls import split_url
from dbcore.events import Endpoint

__all__ = ["STRICT", "MysqlSettings", "SslMode", "endpoint", "from_url", "has_ansi_quotes"]

SslMode = Literal["disabled", "preferred", "required", "verify_ca", "verify_identity"]
Value = bool | int | float | str

STRICT = (
    "ONLY_FULL_GROUP_BY,STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,"
    "NO_ENGINE_SUBSTITUTION"
)
_DEFAULT_PORT, _LARGEST_PORT = 3306, 65535
_MODE = re.compile(r"[A-Z_]+(,[A-Z_]+)*|")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PREFIX = "variables."
_WITH_ANSI_QUOTES = frozenset({"ANSI_QUOTES", "ANSI", "DB2", "MAXDB", "MSSQL", "ORACLE", "POSTGRESQL"})
_OWN = {
    "autocommit": "transaction() for what belongs together",
    "character_set_client": "nothing: texts go as utf8mb4",
    "character_set_connection": "collation_connection",
    "character_set_results": "nothing: texts come as utf8mb4",
    "lc_messages": "nothing: names are read from the messages in English",
    "sql_mode": "the key sql_mode",
    "time_zone": "nothing: moments go as UTC",
}
"""Variables that the driver sets itself, with what to use in their place."""


class MysqlSettings(Settings):
    """Where a MySQL or MariaDB server is, how to log in, and how its sessions are set."""

    host: str = Field("localhost", min_length=1, description="The server; always by TCP.")
    port: int = Field(_DEFAULT_PORT, ge=1, le=_LARGEST_PORT, description="Port of the server.")
    unix_socket: str | None = Field(None, description="Path of the server's socket, in place of host and port.")
    user: str | None = Field(None, description="Who logs in; the user of this process if left out.")
    password: SecretStr | None = Field(None, description="Password of the user.")
    database: str | None = Field(None, description="The database in which unqualified names are looked for.")
    ssl_mode: SslMode = Field(
        "preferred",
        description="Encryption: 'preferred' where the server offers it; 'verify_ca' and 'verify_identity' check it.",
    )
    ssl_ca: str | None = Field(None, description="File of the certificates that are trusted; the system's if left out.")
    ssl_cert: str | None = Field(None, description="File of our own certificate.")
    ssl_key: str | None = Field(None, description="File of the key of our own certificate.")
    sql_mode: str = Field(STRICT, description="The SQL mode of every session. NO_BACKSLASH_ESCAPES is refused.")
    variables: Mapping[str, Value] = Field(
        default_factory=dict[str, Value], description="Further variables, set in every session."
    )
    application_name: str = Field("dbcore", description="Sent to the server as program_name of the connection.")

    @field_validator("sql_mode")
    @classmethod
    def _mode(cls, value: str) -> str:
        mode = value.upper().replace(" ", "")
        if not _MODE.fullmatch(mode):
            raise ValueError("an SQL mode is a list of words, joined by commas, such as ANSI_QUOTES,STRICT_ALL_TABLES")
        if "NO_BACKSLASH_ESCAPES" in mode.split(","):
            raise ValueError(
                "with NO_BACKSLASH_ESCAPES strings end elsewhere than dbcore reads them to end; leave it out"
            )
        return mode

    @field_validator("variables")
    @classmethod
    def _names(cls, variables: Mapping[str, Value]) -> Mapping[str, Value]:
        for name in variables:
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a variable: letters, digits and underscores")
            if (instead := _OWN.get(name.lower())) is not None:
                raise ValueError(f"{name} is set by the driver; use {instead}")
        return variables

    @model_validator(mode="after")
    def _contradictions(self) -> Self:
        given = {key for key in self.model_fields_set if getattr(self, key) is not None}
        if self.unix_socket is not None and {"host", "port"} & given:
            raise ValueError("unix_socket and host or port are two places of one server; leave one of them out")
        if self.ssl_key is not None and self.ssl_cert is None:
            raise ValueError("ssl_key belongs to a certificate: set ssl_cert too")
        if self.ssl_mode == "disabled" and (files := sorted({"ssl_ca", "ssl_cert"} & given)):
            raise ValueError(f'ssl_mode = "disabled" encrypts nothing; leave {" and ".join(files)} out, or change it')
        if self.ssl_ca is not None and not self.ssl_mode.startswith("verify"):
            raise ValueError(f'ssl_mode = "{self.ssl_mode}" checks no certificate; set it to "verify_identity"')
        return self


def has_ansi_quotes(settings: MysqlSettings) -> bool:
    """Say whether a text in double quotes is an identifier."""
    return not _WITH_ANSI_QUOTES.isdisjoint(settings.sql_mode.split(","))


def endpoint(settings: MysqlSettings) -> Endpoint:
    """Name what a config connects to."""
    port = None if settings.port == _DEFAULT_PORT or settings.unix_socket is not None else settings.port
    return Endpoint(system="mysql", namespace=settings.database, host=settings.unix_socket or settings.host, port=port)


def from_url(url: str) -> Mapping[str, Any]:
    """Turn a URL into settings; `?variables.lock_wait_timeout=5` sets a variable of the session."""
    found: dict[str, Any] = dict(split_url(url).keys())
    names = [key for key in found if key.startswith(_PREFIX)]
    if names:
        found["variables"] = {key.removeprefix(_PREFIX): _plain(found.pop(key)) for key in names}
    return found


def _plain(text: str) -> int | float | str:
    """A number where it reads like one: the server takes no text for a variable that is a number."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
