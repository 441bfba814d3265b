"""The face on real databases: every test that takes `place` runs on each of them."""

from __future__ import annotations

import pytest
from databases import PLACES, POOLED, UNPOOLED, place
from pgbouncer import bouncer

__all__ = ["bouncer", "place"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `place` on every one, and those of `POOLED` through PgBouncer too."""
    if "place" in metafunc.fixturenames:
        places = list(PLACES)
        if metafunc.definition.path.stem in POOLED and metafunc.definition.originalname not in UNPOOLED:
            places.append("pgbouncer")
        metafunc.parametrize("place", places, indirect=True)
