"""The syntaxes that the tests read SQL with."""

from __future__ import annotations

from dbcore.driver import Syntax

POSTGRES = Syntax(placeholder="$1", nested_comments=True, dollar_quotes=True, escape_strings=True)
SQLITE = Syntax(placeholder="?")
MYSQL = Syntax(placeholder="%s", backslash_strings=True, hash_comments=True, double_quote_strings=True)
EVERY = [POSTGRES, SQLITE, MYSQL]
