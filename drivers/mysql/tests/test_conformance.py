"""What dbcore promises of every driver, tried on MariaDB."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dbcore_mysql import conformance
from pydantic import SecretStr

from dbcore.testing.conformance import Subject, conformance_tests


@pytest.fixture
def subject(mysql_url: str) -> Subject:
    wrong = {"a wrong password": {"password": SecretStr("wr0ng-secret")}}
    unreachable = {**conformance.subject.unreachable, **wrong}
    permanent = (*conformance.subject.permanent, *wrong)
    return replace(conformance.subject, source=mysql_url, unreachable=unreachable, permanent=permanent)


test_conformance = conformance_tests()
