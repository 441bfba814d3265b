from __future__ import annotations

import json
from typing import Any

import pytest
from config_drivers import ALPHA, BETA, drivers

from dbcore.loading import schema


def properties(driver: str) -> dict[str, Any]:
    found: dict[str, Any] = schema()["$defs"][driver]["properties"]
    return found


def test_the_schema_knows_the_keys_of_the_core_and_of_each_driver() -> None:
    assert {"url", "driver", "pool", "startup", "credentials", "host", "password_file"} <= properties("alpha").keys()
    assert "path" in properties("beta")
    assert "path" not in properties("alpha")
    assert properties("alpha")["driver"]["const"] == "alpha"


def test_the_schema_is_json_and_each_reference_leads_somewhere() -> None:
    whole = schema()
    text = json.dumps(whole)
    for reference in {part.split('"')[0] for part in text.split('"$ref": "')[1:]}:
        assert reference.removeprefix("#/$defs/") in whole["$defs"]


def test_a_number_may_also_be_a_variable_and_none_has_a_word() -> None:
    idle = schema()["$defs"]["connection.PoolSettings"]["properties"]["max_idle"]["anyOf"]
    assert {"const": "none"} in idle
    assert {"type": "string", "pattern": r"\$\{"} in idle
    assert {"type": "number", "exclusiveMinimum": 0} in idle
    assert "null" not in json.dumps(schema())


def test_no_key_of_a_driver_is_required() -> None:
    assert "required" not in schema()["$defs"]["beta"]


@pytest.mark.parametrize("chosen", [(), (ALPHA,), (ALPHA, BETA)])
def test_the_schema_has_what_is_installed(chosen: tuple[Any, ...]) -> None:
    with drivers(*chosen):
        names = set(schema()["$defs"])
    assert {driver.name for driver in chosen} <= names
    assert ("beta" in names) == (BETA in chosen)
