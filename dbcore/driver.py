"""The vtable: a database library as a value. Everything that dbcore knows about one is in a `Driver`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from dbcore.config import Config, Settings
from dbcore.errors import DbError, Problem
from dbcore.events import Endpoint
from dbcore.pool import Pool

__all__ = [
    "CONTRACT",
    "CancelledTooLate",
    "Driver",
    "Hooks",
    "Isolation",
    "Report",
    "Result",
    "Savepoints",
    "ServerInfo",
    "Sharing",
    "Syntax",
    "TransactionStatus",
]

CONTRACT = 1
"""Version of the contract between the core and a driver. It changes when a driver would have to."""

C = TypeVar("C")
S = TypeVar("S", bound=Settings)

Isolation = Literal["read committed", "repeatable read", "serializable"]
TransactionStatus = Literal["idle", "open", "failed"]


class CancelledTooLate(Exception):
    """The cause of a `CancelledError` that leaves a driver where the work is done, or may be.

    `raise error from CancelledTooLate()`: to whoever cancelled it is a `CancelledError` as any other, and of a timeout
    the core makes a `QueryTimeout` with `outcome_unknown`. Not for work that a rollback, which has to come, will undo.
    """


@dataclass(slots=True)
class Result:
    """What one statement gave: column names, rows as tuples in that order, and how many it returned or changed.

    The rows may be a list of `row_shape(columns)`, from `dbcore.statements`, where a library can make them at once.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """What is at the other end of a connection."""

    version: str
    """Name and version, such as `PostgreSQL 16.2`."""
    tls: bool | None = None
    """Encrypted or not; `None` where there is no network in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Syntax:
    """How a database reads SQL, as far as finding placeholders needs it."""

    placeholder: Literal["$1", "?", "%s"] = "$1"
    """What the driver's library wants: numbered and reusable, or one in order for each value. With `%s` every other
    percent sign is doubled."""
    nested_comments: bool = False
    """`/* /* */ */` is one comment."""
    dollar_quotes: bool = False
    """`$tag$ ... $tag$` is a string."""
    escape_strings: bool = False
    """A backslash escapes in `E'...'`."""
    backslash_strings: bool = False
    """A backslash escapes in every string."""
    hash_comments: bool = False
    """`#` starts a comment."""
    double_quote_strings: bool = False
    """`"..."` may be a string, so that backslashes count in it where they do in strings."""
    bracket_identifiers: bool = False
    """`[...]` is an identifier. Elsewhere it is an array or a subscript, and what stands inside is read as ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks(Generic[C]):
    """What the shared engine needs to keep connections of one kind.

    | hook | must | when it fails |
    |---|---|---|
    | `connect` | open one connection, ready for use; leave nothing behind when cancelled | `DbConnectionError(retryable=True)`: tried again; anything else is permanent and reaches the waiters at once |
    | `close` | part politely | logged, and `abort` follows |
    | `reset` | wait for what the holder left running, roll back, restore the session as `pool.reset` says | the connection is dropped |
    | `is_usable` | say from local state alone, without I/O, that there is no reason for doubt | `False`: pinged before use, dropped where there is no `ping` |
    | `is_clean` | say from local state alone that the connection is alive and has nothing to reset | `False`: reset before anything else |
    | `ping` | one round trip; leave no transaction open | the connection is dropped, the other idle ones are under suspicion |
    | `abort` | drop the connection at once, without I/O that can wait, also while a statement runs | logged |
    | `in_transaction` | local state, for reports | |

    `is_usable`, `is_clean`, `abort` and `in_transaction` are plain functions and must not raise. `close`, `reset` and
    `ping` get `pool.reset_timeout` seconds and are cancelled then; `connect` gets `pool.connect_timeout`.
    Secrets are bound into `connect`; the engine sees none.
    """

    connect: Callable[[], Awaitable[C]]
    close: Callable[[C], Awaitable[None]]
    reset: Callable[[C], Awaitable[None]]
    is_usable: Callable[[C], bool]
    is_clean: Callable[[C], bool]
    ping: Callable[[C], Awaitable[None]] | None = None
    abort: Callable[[C], None] | None = None
    in_transaction: Callable[[C], bool] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Savepoints:
    """How a database says savepoints; `{name}` stands for the name, an identifier that needs no quotes."""

    begin: str = "SAVEPOINT {name}"
    rollback: str = "ROLLBACK TO SAVEPOINT {name}"
    release: str | None = "RELEASE SAVEPOINT {name}"
    """`None` where they go with their transaction alone."""

    def to_begin(self, name: str) -> str:
        """Return what opens the savepoint."""
        return self.begin.format(name=name)

    def to_undo(self, name: str) -> tuple[str, ...]:
        """Return what takes back all since then, and ends it."""
        return (self.rollback.format(name=name), *self.to_release(name))

    def to_release(self, name: str) -> tuple[str, ...]:
        """Return what ends it and keeps all since then."""
        return () if self.release is None else (self.release.format(name=name),)


Report = Callable[[int, Result | BaseException | None], None]
"""Takes the outcome of the statement with this index: its result, its own error, or `None` for one that `interrupt`
has stopped and that had no effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing(Generic[C]):
    """How one-shot statements of many tasks share a trip to the database.

    `may` says whether a text can go along with others: it only reads, locks nothing that outlives it, and neither
    changes the session nor asks what others did to it. In doubt it says no; the answer is remembered for each text.

    `run` sends independent statements together on one connection, and calls its last argument, in order and on the
    event loop, as each outcome is known. Each sees at least what was committed when `run` was called. An error of one
    statement is its own business; `run` itself raises when the connection is lost, and leaves a clean connection
    otherwise.

    `interrupt` stops the statement that is running now, and returns when it has ended; the others go on. It may come
    too late and hit the next one, for whichever is hit is run again.

    `buses` says how many trips may be under way side by side: two where one is at the database while the other's
    answers are taken in, one where they would be in each other's way.
    """

    may: Callable[[str], bool]
    run: Callable[[C, Sequence[tuple[str, Sequence[Any]]], Report], Awaitable[None]]
    interrupt: Callable[[C], Awaitable[None]]
    buses: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver(Generic[S, C]):
    """The vtable of one database library: a name, a settings model, and functions. `None` means "cannot".

    Required:

    | field | must |
    |---|---|
    | `name` | be what `driver = "..."` says in a config; also the name of the entry point |
    | `schemes` | be the URL schemes it answers to |
    | `settings` | be the pydantic model of its own keys, a subclass of `Settings`, with no key that the config of a connection has itself |
    | `start_pool` | start a pool: by `dbcore.engine.start_pool(hooks, ...)`, or around a native pool |
    | `query` | run one statement, with the placeholders of `syntax`, and return all of its rows |
    | `to_error` | turn a native exception into a `DbError`, by code; `None` for one that is not the library's own |

    Optional, each with what happens without it:

    | field | must | without it |
    |---|---|---|
    | `from_url` | turn a parsed URL into settings keys | host, port, user, password, database and the query's keys |
    | `check` | tell what contradicts what in a config beyond its own model, such as settings and pool; `Problem.where` is the key | nothing |
    | `pool_defaults` | be other defaults for `PoolSettings` | the core's |
    | `syntax` | say how SQL is read | `$1`, standard SQL |
    | `begin` | open a transaction; it may wait for the first statement to go along with that | `BEGIN`; no isolation, no read-only |
    | `wait_to_write` | wait, for at most so many seconds, until the connection may begin a transaction that writes; `begin` comes next | `begin` waits as long as it takes, if it has to |
    | `commit` | commit; raise if it was not committed, with `outcome_unknown` if nobody knows | `COMMIT` |
    | `rollback` | roll back; harmless without a transaction | `ROLLBACK` |
    | `savepoints` | say how savepoints are written; `None` if there are none, then a nested `transaction()` is `UnsupportedError` | standard SQL |
    | `transaction_status` | say from local state: `idle`, `open`, or `failed` (only a rollback is possible) | the database is trusted to refuse a commit that cannot be |
    | `execute_many` | run one statement for each row, together; return the rows affected | one after the other |
    | `batch` | run several statements, together; put the text of the one that failed into `sql` of its error | one after the other |
    | `script` | run a text of several statements | `UnsupportedError` |
    | `stream` | be an async generator of `Result`s of at most `size` rows, in constant memory; end the statement when it is closed | `UnsupportedError` |
    | `insert_many` | load rows by the fastest path | `execute_many` with an INSERT |
    | `writes` | say whether a text writes; a one-shot statement that does passes `PoolOps.admit` before its checkout | only transactions pass it, and what runs as one |
    | `share` | say how one-shot statements share trips under this config, if they do: see `Sharing` | each takes a connection of its own |
    | `touch` | note that the session may have been changed behind the library's back | nothing |
    | `server_info` | ask what is at the other end | nothing is shown |
    | `endpoint` | say for observers, from the settings alone, what they connect to | the system is the driver's name |

    Every async function here runs while the caller holds the connection alone; when it is cancelled it leaves no work
    running behind it, or hands the connection over in a state that `Hooks.is_clean` denies. Where the cancellation came
    too late to undo the work, or nobody knows, the `CancelledError` has a `CancelledTooLate` as its cause.
    """

    name: str
    schemes: frozenset[str]
    settings: type[S]
    start_pool: Callable[[Config[S]], Awaitable[Pool[C]]]
    query: Callable[[C, str, Sequence[Any]], Awaitable[Result]]
    to_error: Callable[[BaseException], DbError | None]
    contract: int = CONTRACT

    from_url: Callable[[str], Mapping[str, Any]] | None = None
    check: Callable[[Config[S]], Iterable[Problem]] | None = None
    pool_defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    syntax: Syntax = Syntax()
    begin: Callable[[C, Isolation | None, bool], Awaitable[None]] | None = None
    wait_to_write: Callable[[C, float], Awaitable[None]] | None = None
    commit: Callable[[C], Awaitable[None]] | None = None
    rollback: Callable[[C], Awaitable[None]] | None = None
    savepoints: Savepoints | None = Savepoints()
    transaction_status: Callable[[C], TransactionStatus] | None = None
    execute_many: Callable[[C, str, Sequence[Sequence[Any]]], Awaitable[int]] | None = None
    batch: Callable[[C, Sequence[tuple[str, Sequence[Any]]]], Awaitable[list[Result]]] | None = None
    script: Callable[[C, str], Awaitable[None]] | None = None
    stream: Callable[[C, str, Sequence[Any], int], AsyncGenerator[Result, None]] | None = None
    insert_many: (
        Callable[
            [C, tuple[str, ...], Sequence[str], Iterable[Sequence[Any]] | AsyncIterable[Sequence[Any]]], Awaitable[int]
        ]
        | None
    ) = None
    writes: Callable[[str], bool] | None = None
    share: Callable[[Config[S]], Sharing[C] | None] | None = None
    touch: Callable[[C], None] | None = None
    server_info: Callable[[C], Awaitable[ServerInfo]] | None = None
    endpoint: Callable[[S], Endpoint] | None = None
