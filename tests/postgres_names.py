"""What changes the meaning of the name `zip`: beside a table of texts there is `other.zip`, whose `code` is an int."""

from __future__ import annotations

__all__ = ["OTHERS", "ZIP"]

ZIP = "INSERT INTO zip VALUES ($1)"

OTHERS = {
    "search_path": ("SET search_path = other", "RESET search_path"),
    "set_config": ("SELECT set_config('search_path', 'other', false)", "SET search_path = public"),
    "temporary table": ("CREATE TEMP TABLE zip (code int)", "DROP TABLE pg_temp.zip"),
    "transaction": ("BEGIN; SET LOCAL search_path = other", "COMMIT"),
    "rollback": ("BEGIN; ALTER TABLE zip ALTER COLUMN code TYPE int USING 1", "ROLLBACK"),
    "savepoint": ("BEGIN; SAVEPOINT s; ALTER TABLE zip ALTER COLUMN code TYPE int USING 1", "ROLLBACK TO s"),
}
"""What makes an int of it, in statements of one connection, and what makes a text of it again."""
