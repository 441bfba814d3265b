"""The driver as a value."""

from __future__ import annotations

from dbcore.driver import Driver
from dbcore_sqlite.bulk import insert_many
from dbcore_sqlite.connection import Connection
from dbcore_sqlite.errors import to_error
from dbcore_sqlite.pool import server_info, start_pool
from dbcore_sqlite.session import touch
from dbcore_sqlite.settings import SqliteSettings, endpoint, from_url
from dbcore_sqlite.sharing import share
from dbcore_sqlite.statements import batch, execute_many, query, script
from dbcore_sqlite.streams import stream
from dbcore_sqlite.transactions import begin, commit, rollback, transaction_status, wait_to_write
from dbcore_sqlite.words import SYNTAX, is_write

__all__ = ["driver"]

driver: Driver[SqliteSettings, Connection] = Driver(
    name="sqlite",
    schemes=frozenset({"sqlite"}),
    settings=SqliteSettings,
    start_pool=start_pool,
    query=query,
    to_error=to_error,
    from_url=from_url,
    # More threads are no more speed under the GIL, and a connection to a file does not die or age.
    pool_defaults={"max_size": 4, "max_lifetime": None, "ping_after": None},
    syntax=SYNTAX,
    begin=begin,
    wait_to_write=wait_to_write,
    commit=commit,
    rollback=rollback,
    transaction_status=transaction_status,
    execute_many=execute_many,
    batch=batch,
    script=script,
    stream=stream,
    insert_many=insert_many,
    writes=is_write,
    touch=touch,
    server_info=server_info,
    endpoint=endpoint,
    share=share,
)
"""SQLite, as dbcore knows it."""
