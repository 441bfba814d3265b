"""What dbcore promises of every driver, tried on Postgres, and on Postgres behind a PgBouncer in transaction mode."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dbcore_postgres import conformance
from pgbouncer import Bouncer, bouncer
from pydantic import SecretStr

from dbcore.testing.conformance import Subject, conformance_tests

__all__ = ["bouncer"]

RESETS = (
    "a_tracked_reset_undoes_what_a_text_has_made",
    "a_tracked_reset_undoes_what_native_has_made",
    "a_full_reset_leaves_nothing_of_a_session",
    "a_full_reset_undoes_what_nobody_has_seen",
)
BEHIND_PGBOUNCER = dict.fromkeys(RESETS, "in transaction mode there is no session that could be reset")


@pytest.fixture(params=["direct", "pgbouncer"])
def subject(request: pytest.FixtureRequest) -> Subject:
    if request.param == "pgbouncer":
        behind: Bouncer = request.getfixturevalue("bouncer")
        nobody_listens = {"a port where nobody listens": {"port": 1}}  # as for the rest, PgBouncer takes its time
        return replace(
            conformance.subject,
            source=f"{behind.url}?pooler=transaction",
            unreachable=nobody_listens,
            permanent=(),
            endless="SELECT pg_sleep(12)",  # so long stays what nobody ends; each promise waits for ten seconds at most
            cannot={**conformance.subject.cannot, **BEHIND_PGBOUNCER},
        )
    wrong = {"a wrong password": {"password": SecretStr("wr0ng-secret")}}
    unreachable = {**conformance.subject.unreachable, **wrong}
    permanent = (*conformance.subject.permanent, *wrong)
    url = request.getfixturevalue("postgres_url")
    return replace(conformance.subject, source=url, unreachable=unreachable, permanent=permanent)


test_conformance = conformance_tests()
