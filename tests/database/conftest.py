"""The face on real databases: every test that takes `place` runs on each of them."""

from __future__ import annotations

from databases import place
from postgres_server import postgres, postgres_url

__all__ = ["place", "postgres", "postgres_url"]
