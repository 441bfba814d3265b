"""What dbcore promises of every driver, tried on Postgres by way of asyncpg."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dbcore_asyncpg import conformance
from pydantic import SecretStr

from dbcore.testing.conformance import Subject, conformance_tests


@pytest.fixture
def subject(postgres_url: str) -> Subject:
    wrong = {"a wrong password": {"password": SecretStr("wr0ng-secret")}}
    unreachable = {**conformance.subject.unreachable, **wrong}
    source = postgres_url.replace("postgresql:", "postgresql+asyncpg:", 1)
    permanent = (*conformance.subject.permanent, *wrong)
    return replace(conformance.subject, source=source, unreachable=unreachable, permanent=permanent)


test_conformance = conformance_tests()
