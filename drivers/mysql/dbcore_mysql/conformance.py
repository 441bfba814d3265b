"""What the conformance suite has to know of MySQL. Nothing but that suite imports this."""

from __future__ import annotations

from dbcore.testing.conformance import Subject

__all__ = ["subject"]

_FINITE = "MySQL has no infinity and no NaN"
_TIME = "a TIME of MySQL holds no more than 838:59:59"
_MOMENT = "a TIMESTAMP of MySQL holds the years 1970 to 2038"
_DIGITS = "a DECIMAL of MySQL holds 65 digits, 30 of them behind the point"

subject = Subject(
    columns={
        "bool": "BOOLEAN",
        "int": "BIGINT",
        "float": "DOUBLE",
        "str": "LONGTEXT",
        "bytes": "LONGBLOB",
        "datetime, aware": "TIMESTAMP(6)",
        "datetime, naive": "DATETIME(6)",
        "date": "DATE",
        "time": "TIME(6)",
        "timedelta": "TIME(6)",
        "Decimal": "DECIMAL(65,30)",
        "UUID": "CHAR(36)",
        **dict.fromkeys(("dict", "db.Json", "list of int", "list of str", "list with None", "list of lists"), "JSON"),
        **dict.fromkeys(("Enum of str", "StrEnum"), "VARCHAR(100)"),
        **dict.fromkeys(("Enum of int", "IntEnum"), "BIGINT"),
    },
    cannot={
        "a_commit_that_fails_says_why_and_keeps_nothing": "MySQL has no constraints that are checked at the COMMIT",
        "a_serializable_transaction_sees_one_state": (
            "InnoDB locks what a serializable transaction reads: others wait until it ends; repeatable read does not"
        ),
        "a_statement_cancelled_at_every_await_costs_no_connection": (
            "the task itself reads the answer: when it is cancelled twice it leaves, and the connection is dropped"
        ),
        **{f"{kind}: {name}": _FINITE for kind in ("float", "Decimal") for name in ("infinity", "-infinity", "NaN")},
        **{f"timedelta: {name}": _TIME for name in ("years", "longest", "longest negative")},
        **{f"datetime, aware: {name}": _MOMENT for name in ("year 1", "year 9999")},
        **{f"Decimal: {name}": _DIGITS for name in ("100 digits", "large exponent", "small exponent")},
    },
    unreachable={
        "a port where nobody listens": {"port": 1},
        "a database that is not there": {"database": "dbcore_conformance_nowhere"},
    },
    permanent=("a database that is not there",),
    fatal="KILL CONNECTION_ID()",
    endless="SELECT SLEEP(600)",
    quote="`",
    natively=lambda native, sql: native.query(sql),
)
"""MySQL and MariaDB, for whoever has a server."""
