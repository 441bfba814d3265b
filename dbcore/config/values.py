"""The validated config of one connection: frozen values and nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

if TYPE_CHECKING:
    from dbcore.driver import Driver

__all__ = ["Config", "Contradiction", "Credentials", "PoolSettings", "Reset", "Seconds", "Settings", "Startup"]

Startup = Literal["require", "try", "lazy"]
Reset = Literal["transaction", "tracked", "full"]

Credentials = Callable[[], "Mapping[str, Any] | Awaitable[Mapping[str, Any]]"]
"""Called for a new connection; what it returns is laid over the driver's settings. A plain function runs in the event
loop: one that waits for something must be `async`."""

Seconds = float


class Contradiction(ValueError):
    """Settings that exclude each other: `pairs` of keys, of which the first is larger than the second."""

    def __init__(self, text: str, pairs: tuple[tuple[str, str], ...]) -> None:
        super().__init__(text)
        self.pairs = pairs


class Settings(BaseModel):
    """Base of a driver's own settings: frozen, and a key that it does not know is an error.

    Fields of type `SecretStr` can also be given as `<key>_file`, the path of a file that holds the value. A key that
    `credentials` may deliver needs a default. A validator that refuses a relation between keys raises `ValueError`;
    its text is shown to the user. A key whose type is numbers and `None` takes the text `"none"` too, as TOML has no
    word for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class PoolSettings(Settings):
    """How the pool of one connection behaves. Durations are seconds."""

    min_size: int = Field(default=1, ge=0, description="Connections kept open, also when nobody needs them.")
    max_size: int = Field(
        default=10, ge=1, description="Connections that may exist at once, those being opened and closed included."
    )
    checkout_timeout: Seconds = Field(
        default=30, gt=0, description="How long a checkout may take: waiting, connecting and checking."
    )
    connect_timeout: Seconds = Field(default=10, gt=0, description="How long one connect may take.")
    max_waiting: int | None = Field(
        default=None, ge=0, description="Checkouts that may wait; one more fails at once. None: no limit."
    )
    max_lifetime: Seconds | None = Field(
        default=3600,
        gt=0,
        description="Age at which a connection is replaced, less up to 10 % drawn for each. None: never.",
    )
    max_idle: Seconds | None = Field(
        default=600, gt=0, description="Idle time after which a connection above min_size is closed. None: never."
    )
    keepalive: Seconds | None = Field(
        default=None, gt=0, description="Idle connections are pinged this often. None: never."
    )
    ping_after: Seconds | None = Field(
        default=1, ge=0, description="A connection idle for longer is pinged before it is handed out. None: never."
    )
    reset: Reset = Field(
        default="tracked",
        description="What a release undoes: open transactions; or also changes seen in the session; or everything.",
    )
    reset_timeout: Seconds = Field(
        default=5, gt=0, description="How long a reset, a ping, or closing one connection may take."
    )
    stop_timeout: Seconds = Field(
        default=10, ge=0, description="How long stop() waits for connections in use before it cuts them off."
    )
    leak_warning: Seconds | None = Field(
        default=None, gt=0, description="A connection in use for longer is reported once. None: never."
    )
    order: Literal["lifo", "fifo"] = Field(
        default="lifo", description="Idle connections are taken newest first, or oldest first."
    )
    backoff_min: Seconds = Field(
        default=0.1, gt=0, description="First pause after a failed connect; it doubles from failure to failure."
    )
    backoff_max: Seconds = Field(default=10, gt=0, description="Longest pause between two connects that fail.")

    @model_validator(mode="after")
    def _refuse_contradictions(self, info: ValidationInfo) -> Self:
        """The context of the validation, if any, is the set of keys that came from a driver's defaults."""
        chosen = self.model_fields_set - (info.context or frozenset())
        pairs = [("min_size", "max_size"), ("backoff_min", "backoff_max")]
        if {"max_idle", "max_lifetime"} <= chosen:
            pairs.append(("max_idle", "max_lifetime"))
        found = tuple((low, high) for low, high in pairs if self._exceeds(low, high))
        if found:
            text = "; ".join(f"{a} ({getattr(self, a)}) is larger than {b} ({getattr(self, b)})" for a, b in found)
            raise Contradiction(text, found)
        return self

    def _exceeds(self, low: str, high: str) -> bool:
        one, other = getattr(self, low), getattr(self, high)
        return one is not None and other is not None and one > other


S_co = TypeVar("S_co", bound=Settings, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Generic[S_co]):
    """One connection, fully described and validated. Its `repr` shows no secret.

    Made by `db.load`, `Config.from_url` or `db.open`; `settings` is the driver's own model.
    """

    name: str
    driver: str
    """Name of the driver."""
    settings: S_co
    pool: PoolSettings = field(default_factory=PoolSettings)
    statement_timeout: float | None = None
    """Seconds that a statement may take, unless it is told otherwise."""
    startup: Startup = "require"
    share_trips: bool = True
    """One-shot statements of many tasks may leave together, where the driver can do that."""
    folder: Path = field(default_factory=Path.cwd)
    """Where relative paths start: the folder of the file, else the working directory."""
    credentials: Credentials | None = field(default=None, repr=False)
    observe: Callable[[Any], None] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_url(cls, url: str, *, name: str = "main", driver: Driver[Any, Any] | None = None) -> Config[Any]:
        """Read a config from a URL such as `scheme://user:password@host:port/database?pool.max_size=20`.

        The scheme names the driver; `driver` gives it as a value instead. Every part is percent-decoded; `${NAME}` is
        not looked at, for a URL may come from elsewhere. Raises `ConfigError` with every problem, never with the URL.
        """
        # Config is what drivers are made for, so this module cannot know the drivers when it is imported. By the time
        # that anybody has a URL, everything is.
        from dbcore.loading import load_url

        return load_url(url, name=name, driver=driver)
