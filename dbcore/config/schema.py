"""The JSON Schema of a config file, for editors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from dbcore.config.keys import ConnectionKeys
from dbcore.config.validation import secret_keys
from dbcore.config.values import Settings

__all__ = ["config_schema"]

Schema = dict[str, Any]


def config_schema(models: Mapping[str, type[Settings]]) -> Schema:
    """The schema of a file whose connections have one of these drivers, by name.

    No key of a driver is required, for a URL may say it; and every number may also be a text with a variable in it.
    """
    definitions: Schema = {}
    own = _properties("connection", ConnectionKeys, definitions)
    kinds: list[Schema] = []
    for name, model in models.items():
        properties = {**own, **_properties(name, model, definitions), "driver": {**own["driver"], "const": name}}
        for key in secret_keys(model):
            properties[f"{key}_file"] = {"type": "string", "description": f"Path of a file that holds the {key}."}
        definitions[name] = {
            "title": name,
            "type": "object",
            "properties": properties,
            "additionalProperties": model.model_config.get("extra") == "allow",
        }
        kinds.append({"$ref": f"#/$defs/{name}"})
    connection: Schema = {"anyOf": kinds} if kinds else {"type": "object", "properties": own}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "dbcore config",
        "type": "object",
        "properties": {
            "default": {"type": "string", "description": "Name of the connection that is meant where none is named."},
            "connections": {"type": "object", "minProperties": 1, "additionalProperties": connection},
        },
        "required": ["connections"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _properties(prefix: str, model: type[Settings], definitions: Schema) -> Schema:
    """The properties of a model; what they refer to goes to `definitions`, under names of this model's own."""
    whole = model.model_json_schema(ref_template=f"#/$defs/{prefix}.{{model}}")
    for name, definition in whole.get("$defs", {}).items():
        if "properties" in definition:
            definition["properties"] = _writable(definition["properties"])
        definitions[f"{prefix}.{name}"] = definition
    return _writable(whole.get("properties", {}))


def _writable(properties: Mapping[str, Schema]) -> Schema:
    return {key: _as_written(value) for key, value in properties.items()}


def _as_written(schema: Schema) -> Schema:
    """A key as it is written in TOML, which knows no null, and where a variable is a text."""
    options = cast("list[Schema]", schema.get("anyOf", [schema]))
    kinds = {str(option.get("type", option.get("$ref", ""))) for option in options}
    if not kinds & {"integer", "number", "boolean"}:
        kept = [option for option in options if option.get("type") != "null"]
        if len(kept) == len(options):
            return schema
        rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
        return {**rest, **kept[0]} if len(kept) == 1 else {**rest, "anyOf": kept}
    about = {key: value for key, value in schema.items() if key in ("title", "description", "default")}
    values = [{key: value for key, value in option.items() if key not in about} for option in options]
    written: list[Schema] = [{"const": "none"} if option.get("type") == "null" else option for option in values]
    if about.get("default", 0) is None:
        about["default"] = "none"
    if "string" not in kinds:
        written.append({"type": "string", "pattern": r"\$\{"})
    return {**about, "anyOf": written}
