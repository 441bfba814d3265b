"""The config keys of the driver: asyncpg's, under libpq's names, and what the driver adds to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Self
from urllib.parse import urlencode

from pydantic import Field, SecretStr, field_validator, model_validator

from dbcore.config import Settings
from dbcore.config.urls import BadUrl, split_url
from dbcore.events import Endpoint

__all__ = ["FILES", "AsyncpgSettings", "Pooler", "connect_arguments", "endpoint", "from_url"]

Pooler = Literal["none", "session", "transaction"]
TlsVersion = Literal["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]
SessionAttributes = Literal["any", "read-write", "read-only", "primary", "standby", "prefer-standby"]

_DEFAULT_PORT, _LARGEST_PORT = 5432, 65535
FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
"""Keys that name files, which have to be there."""


class AsyncpgSettings(Settings):
    """Where a PostgreSQL server is, how to log in, and how to talk to it.

    Keys that the driver over psycopg has as well mean the same. What is left out comes from the environment variables
    and files that asyncpg knows (`PGHOST`, `~/.pgpass` ...).
    """

    pooler: Pooler = Field(
        "none",
        description="What stands before the server: nothing, or a pooler (PgBouncer) in session or transaction mode.",
    )
    prepared_statements: int = Field(
        100, ge=0, description="Statements kept prepared on each connection, those used last. 0: none are."
    )
    max_cached_statement_lifetime: float = Field(
        300, ge=0, description="Seconds after which a prepared statement is made anew. 0: never."
    )
    max_cacheable_statement_size: int = Field(
        15 * 1024, ge=0, description="A longer text is not kept prepared. 0: no limit."
    )
    max_queries: int = Field(
        50_000, ge=1, description="Statements after which a connection is replaced when it is given back."
    )
    client_connection_check_interval: float | None = Field(
        1, gt=0, description="Seconds after which the server looks, in a statement, whether we are there. None: never."
    )

    host: str | None = Field(None, description="The server, or the folder of its socket; several with commas.")
    port: int | str | None = Field(None, description="Port of the server; several with commas, as many as hosts.")
    user: str | None = None
    password: SecretStr | None = None
    database: str | None = Field(None, description="Name of the database; the user's name if left out.")
    dbname: str | None = Field(None, description="libpq's own name of the key database.")
    application_name: str = Field("dbcore", description="What the server shows for our connections.")
    options: str | None = Field(None, description="Command-line options for the server, such as -c search_path=app.")
    server_settings: dict[str, str] = Field(
        default_factory=dict[str, str], description="Parameters of the server, set when a connection is made."
    )

    passfile: str | None = None
    service: str | None = None
    target_session_attrs: SessionAttributes | None = None
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = None
    sslnegotiation: Literal["postgres", "direct"] | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    sslpassword: SecretStr | None = None
    sslrootcert: str | None = None
    sslcrl: str | None = None
    ssl_min_protocol_version: TlsVersion | None = None
    ssl_max_protocol_version: TlsVersion | None = None
    krbsrvname: str | None = None
    gsslib: Literal["gssapi", "sspi"] | None = None

    @field_validator("port")
    @classmethod
    def _ports(cls, value: int | str | None) -> int | str | None:
        for each in str(value).split(",") if value is not None else ():
            if each and not (each.isascii() and each.isdigit() and 1 <= int(each) <= _LARGEST_PORT):
                raise ValueError(f"a port is a number from 1 to {_LARGEST_PORT}; several are joined by commas")
        return value

    @model_validator(mode="after")
    def _contradictions(self) -> Self:
        given = {key for key in self.model_fields_set if getattr(self, key) is not None}
        if self.database is not None and self.dbname is not None and self.database != self.dbname:
            raise ValueError("database and dbname are two names of one key, and both are set; leave dbname out")
        hosts, ports = _parts(self.host), _parts(self.port)
        if len(ports) > 1 and len(ports) != len(hosts):
            raise ValueError(f"there are {len(ports)} ports for {len(hosts)} hosts; give one port, or one for each")
        if self.pooler != "none" and "client_connection_check_interval" in given:
            raise ValueError(
                f'client_connection_check_interval cannot be set with pooler = "{self.pooler}"; set it at the server'
            )
        if self.pooler == "transaction":
            if "prepared_statements" in given and self.prepared_statements:
                raise ValueError('prepared_statements has to be 0 with pooler = "transaction"; leave it out')
            for key in ("options", "server_settings"):
                if key in given:
                    raise ValueError(
                        f'{key} cannot be set with pooler = "transaction"; set them at the server, for the role'
                    )
        return self


def _parts(value: int | str | None) -> list[str]:
    return [] if value is None or value == "" else str(value).split(",")


_IN_DSN = (
    *FILES, "sslmode", "sslnegotiation", "sslpassword", "ssl_min_protocol_version", "ssl_max_protocol_version",
)  # fmt: skip
"""What asyncpg takes by a connection string alone."""


def connect_arguments(settings: AsyncpgSettings, *, check_interval: bool) -> dict[str, Any]:
    """Return the settings as arguments of `asyncpg.connect`, secrets laid open."""
    in_dsn = {key: _plain(getattr(settings, key)) for key in _IN_DSN if getattr(settings, key) is not None}
    hosts, ports = _parts(settings.host), [int(each or _DEFAULT_PORT) for each in _parts(settings.port)]
    return {
        "dsn": f"postgresql://?{urlencode(in_dsn)}" if in_dsn else None,
        "host": hosts or None,
        "port": (ports[0] if len(ports) == 1 else ports) or None,
        "user": settings.user,
        "password": _plain(settings.password),
        "passfile": settings.passfile,
        "service": settings.service,
        "database": settings.database if settings.database is not None else settings.dbname,
        "target_session_attrs": settings.target_session_attrs,
        "krbsrvname": settings.krbsrvname,
        "gsslib": settings.gsslib,
        "statement_cache_size": 0 if settings.pooler == "transaction" else settings.prepared_statements,
        "max_cached_statement_lifetime": settings.max_cached_statement_lifetime,
        "max_cacheable_statement_size": settings.max_cacheable_statement_size,
        "server_settings": _server_settings(settings, check_interval=check_interval),
    }


def _plain(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _server_settings(settings: AsyncpgSettings, *, check_interval: bool) -> dict[str, str]:
    """The user's own come last, so that they win."""
    found = {"application_name": settings.application_name}
    interval = settings.client_connection_check_interval
    if check_interval and interval is not None and settings.pooler == "none":
        found["client_connection_check_interval"] = str(max(1, round(interval * 1000)))
    if settings.options:
        found["options"] = settings.options
    return found | settings.server_settings


def endpoint(settings: AsyncpgSettings) -> Endpoint:
    """Name database and server as far as the config does; asyncpg may know more. Of several hosts none is named."""
    hosts = _parts(settings.host)
    host = hosts[0] if len(hosts) == 1 else None
    given = str(settings.port or "")
    port = int(given) if host is not None and given.isdigit() else _DEFAULT_PORT
    return Endpoint(
        system="postgresql",
        namespace=settings.database if settings.database is not None else settings.dbname,
        host=host,
        port=port if port != _DEFAULT_PORT else None,
    )


def from_url(url: str) -> Mapping[str, Any]:
    """Turn a URL into settings, as libpq reads it: several hosts, sockets (`?host=/run/postgresql`), IPv6.

    Raises `BadUrl`, whose text holds nothing of the URL.
    """
    parts = split_url(url)
    access, at, addresses = parts.authority.rpartition("@")
    each = [replace(parts, authority=f"{access}{at}{address}").keys() for address in addresses.split(",")]
    found: dict[str, Any] = dict(each[0])
    if len(each) > 1:
        hosts, ports = ([keys.get(key, "") for keys in each] for key in ("host", "port"))
        if not all(hosts):
            raise BadUrl("one of the hosts of the URL is empty", "Write host:port,host:port.")
        found["host"] = ",".join(hosts)
        if any(ports):
            found["port"] = ",".join(ports)
    if found.get("ssl") == "true":
        del found["ssl"]
        found["sslmode"] = "require"
    return found
