"""The config keys of the driver: every option of libpq, and what the driver adds to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self
from urllib.parse import unquote

from pydantic import Field, SecretStr, field_validator, model_validator

from dbcore.config import Settings
from dbcore.config.urls import split_url
from dbcore.events import Endpoint

__all__ = ["Pooler", "PostgresSettings", "conninfo", "endpoint", "from_url", "startup_options"]

Pooler = Literal["none", "session", "transaction"]
TlsVersion = Literal["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]
Switch = Literal[0, 1]
SessionAttributes = Literal["any", "read-write", "read-only", "primary", "standby", "prefer-standby"]

_DEFAULT_PORT, _LARGEST_PORT = 5432, 65535


class PostgresSettings(Settings):
    """Where a PostgreSQL server is, how to log in, and how to talk to it.

    Keys with a description of their own are the driver's; all others are options of libpq, and mean what its manual
    says. What is left out comes from libpq's environment variables and defaults (`PGHOST`, `~/.pgpass` ...).
    """

    pooler: Pooler = Field(
        "none",
        description="What stands before the server: nothing, or a pooler (PgBouncer) in session or transaction mode.",
    )
    prepared_statements: int = Field(
        100, ge=0, description="Statements kept prepared on each connection, those used last. 0: none are."
    )
    busy_poll: float = Field(
        0.0001, ge=0, le=0.01, description="Seconds to stay awake for an answer that is due at once. 0: none."
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

    hostaddr: str | None = None
    passfile: str | None = None
    service: str | None = None
    options: str | None = Field(None, description="Command-line options for the server, such as -c search_path=app.")
    connect_timeout: int | None = Field(
        None, ge=1, description="Seconds for each host. Left out: pool.connect_timeout, shared by the hosts."
    )
    target_session_attrs: SessionAttributes | None = None
    load_balance_hosts: Literal["disable", "random"] | None = None
    fallback_application_name: str | None = None
    client_encoding: Literal["UTF8", "utf8", "UTF-8", "utf-8"] | None = None

    keepalives: Switch | None = None
    keepalives_idle: int | None = Field(None, ge=0)
    keepalives_interval: int | None = Field(None, ge=0)
    keepalives_count: int | None = Field(None, ge=0)
    tcp_user_timeout: int | None = Field(None, ge=0)

    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = None
    sslnegotiation: Literal["postgres", "direct"] | None = None
    sslcompression: Switch | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    sslkeylogfile: str | None = None
    sslpassword: SecretStr | None = None
    sslcertmode: Literal["disable", "allow", "require"] | None = None
    sslrootcert: str | None = None
    sslcrl: str | None = None
    sslcrldir: str | None = None
    sslsni: Switch | None = None
    ssl_min_protocol_version: TlsVersion | None = None
    ssl_max_protocol_version: TlsVersion | None = None
    min_protocol_version: str | None = None
    max_protocol_version: str | None = None
    requirepeer: str | None = None
    require_auth: str | None = None
    channel_binding: Literal["disable", "prefer", "require"] | None = None
    scram_client_key: SecretStr | None = None
    scram_server_key: SecretStr | None = None

    gssencmode: Literal["disable", "prefer", "require"] | None = None
    krbsrvname: str | None = None
    gsslib: str | None = None
    gssdelegation: Switch | None = None
    oauth_issuer: str | None = None
    oauth_client_id: str | None = None
    oauth_client_secret: SecretStr | None = None
    oauth_scope: str | None = None

    @field_validator(
        "keepalives", "sslcompression", "sslsni", "gssdelegation", mode="before"
    )  # an option in a URL is a text
    @classmethod
    def _switch(cls, value: object) -> object:
        return {"0": 0, "1": 1, True: 1, False: 0}.get(value, value) if isinstance(value, (str, bool)) else value

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
        hosts, ports = (_count(self.host), _count(None if self.port is None else str(self.port)))
        if ports > 1 and ports != max(hosts, _count(self.hostaddr)):
            raise ValueError(f"there are {ports} ports for {hosts} hosts; give one port, or one for each host")
        if self.pooler != "none" and "client_connection_check_interval" in given:
            raise ValueError(
                f'client_connection_check_interval cannot be set with pooler = "{self.pooler}"; set it at the server'
            )
        if self.pooler == "transaction":
            if "prepared_statements" in given and self.prepared_statements:
                raise ValueError('prepared_statements has to be 0 with pooler = "transaction"; leave it out')
            if "options" in given:
                raise ValueError(
                    'options cannot be set with pooler = "transaction"; set them at the server, for the role'
                )
        return self


def _count(text: str | None) -> int:
    return len(text.split(",")) if text else 0


_OURS = frozenset(
    {"pooler", "prepared_statements", "busy_poll", "client_connection_check_interval", "database", "dbname"}
)


def conninfo(settings: PostgresSettings) -> dict[str, str]:
    """Return the settings as options of libpq, secrets laid open; less `options`, which `startup_options` makes."""
    found = {"client_encoding": "UTF8"}
    database = settings.database if settings.database is not None else settings.dbname
    if database is not None:
        found["dbname"] = database
    for key in PostgresSettings.model_fields:
        value = getattr(settings, key)
        if key not in _OURS and key not in ("client_encoding", "options") and value is not None:
            found[key] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    return found


def endpoint(settings: PostgresSettings) -> Endpoint:
    """Name database and server as far as the config does; libpq may know more. Of several hosts none is named."""
    host = settings.host if _count(settings.host) == 1 else None
    given = str(settings.port or "")
    port = int(given) if host is not None and given.isdigit() else _DEFAULT_PORT
    return Endpoint(
        system="postgresql",
        namespace=settings.database if settings.database is not None else settings.dbname,
        host=host,
        port=port if port != _DEFAULT_PORT else None,
    )


def startup_options(settings: PostgresSettings, *, check_interval: bool) -> str | None:
    """Return what goes into libpq's `options`. The user's own come last, so that they win."""
    # The forms in which psycopg reads dates and intervals; the order of day and month stays as it is.
    parts = ["-c DateStyle=ISO -c IntervalStyle=postgres"] if settings.pooler == "none" else []
    interval = settings.client_connection_check_interval
    if check_interval and interval is not None and settings.pooler == "none":
        parts.append(f"-c client_connection_check_interval={max(1, round(interval * 1000))}")
    if settings.options:
        parts.append(settings.options)
    return " ".join(parts) or None


def from_url(url: str) -> Mapping[str, Any]:
    """Turn a URL into settings, as libpq reads it: several hosts, sockets (`?host=/run/postgresql`), IPv6.

    Raises `ValueError`, whose text holds nothing of the URL.
    """
    # libpq reads what stands before the query; it would refuse keys there that are not its own.
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    address, _, query = url.partition("?")
    # libpq would end the password at the first '@' of several, and show the rest of it as a host.
    address = address.replace("@", "%40", max(split_url(url).authority.count("@") - 1, 0))
    try:
        found: dict[str, Any] = {key: value for key, value in conninfo_to_dict(address).items() if value is not None}
    except ProgrammingError:
        found = {}
        malformed = True
    else:
        malformed = False
    if malformed:
        # Raised out here, so that libpq's message, which quotes the URL, is no context of this error.
        raise ValueError("libpq cannot read it; write postgresql://user:password@host:port/database, percent-encoded")
    if "dbname" in found:
        found["database"] = found.pop("dbname")
    for item in query.split("&") if query else ():
        key, _, value = item.partition("=")
        key, value = unquote(key), unquote(value)
        if key == "ssl" and value == "true":
            key, value = "sslmode", "require"
        found["database" if key == "dbname" else key] = value
    return found
