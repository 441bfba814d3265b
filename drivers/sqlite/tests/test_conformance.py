"""What dbcore promises of every driver, tried on SQLite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from dbcore_sqlite import conformance

from dbcore.testing.conformance import Subject, conformance_tests


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return replace(conformance.subject, source=f"sqlite:///{tmp_path}/scratch.db")


test_conformance = conformance_tests()
