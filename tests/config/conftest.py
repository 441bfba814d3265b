"""Every test of the config sees the drivers `alpha` and `beta`, and none of the environment's own settings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from config_drivers import ALPHA, BETA, drivers


@pytest.fixture(scope="module", autouse=True)
def _two_drivers() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]  (pytest uses it)
    with drivers(ALPHA, BETA), pytest.MonkeyPatch.context() as patch:
        patch.delenv("DBCORE_CONFIG", raising=False)
        yield
