"""What is shipped for applications runs on real databases too: a test that takes `place` runs on each of them."""

from __future__ import annotations

import pytest
from databases import PLACES, place

__all__ = ["place"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "place" in metafunc.fixturenames:
        metafunc.parametrize("place", list(PLACES), indirect=True)
