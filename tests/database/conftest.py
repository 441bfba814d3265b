"""The face on real databases: every test that takes `place` runs on each of them."""

from __future__ import annotations

from databases import place

__all__ = ["place"]
