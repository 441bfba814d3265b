"""The keys that a connection has whatever its driver is."""

from __future__ import annotations

from pydantic import Field

from dbcore.config.values import PoolSettings, Seconds, Settings, Startup

__all__ = ["RESERVED", "URL_KEYS", "ConnectionKeys"]


class ConnectionKeys(Settings):
    """One connection, less what its driver adds."""

    driver: str | None = Field(default=None, description="Name of the driver; not needed where there is a URL.")
    url: str | None = Field(default=None, description="Where the database is; the scheme names the driver.")
    pool: PoolSettings | None = Field(default=None, description="How the pool behaves.")
    statement_timeout: Seconds | None = Field(
        default=None, gt=0, description="Seconds that a statement may take. None: no limit."
    )
    startup: Startup = Field(
        default="require",
        description="What start() does when the database is away: raise, keep trying, or connect nothing.",
    )
    share_trips: bool = Field(
        default=True,
        description="Statements of many tasks that are known to be quick and only read may leave together.",
    )
    credentials: str | None = Field(
        default=None,
        description="'package.module:function', called for every new connection for settings that change.",
    )


RESERVED = frozenset(ConnectionKeys.model_fields) | {"connections"}
"""Keys that the settings of a driver cannot have; `connections` tells a whole config from one connection."""

URL_KEYS = frozenset(
    {"statement_timeout", "startup", "share_trips", *(f"pool.{key}" for key in PoolSettings.model_fields)}
)
"""Keys of the core that the query of a URL may hold."""
