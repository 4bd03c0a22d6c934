"""The catalog for other languages: a JSON Schema per event, and one AsyncAPI 3.0 document. Pure.

https://www.asyncapi.com/docs/reference/specification/v3.0.0 with the Kafka bindings 0.5.0.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from playhead.events import TypedEvent, entity_of

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_KAFKA_BINDING = "0.5.0"


def exported_files(package: str, models: Sequence[type[TypedEvent]]) -> dict[str, str]:
    """File name -> text of everything that is exported of one catalog package."""
    files = {f"{model.__event__.name}.json": _text(json_schema(model)) for model in models}
    files["asyncapi.json"] = _text(asyncapi(package, models))
    return files


def json_schema(model: type[TypedEvent]) -> dict[str, Any]:
    """The schema of an event's payload as it is on the wire."""
    schema = _without_titles(model.model_json_schema(by_alias=True, mode="validation"))
    spec = model.__event__
    return {"$schema": _DIALECT, "$id": spec.schema_uri, "title": spec.name, **schema}


def asyncapi(package: str, models: Sequence[type[TypedEvent]]) -> dict[str, Any]:
    """The AsyncAPI document: a channel per entity, a message per event."""
    entities: dict[str, list[type[TypedEvent]]] = {}
    for model in models:
        entities.setdefault(entity_of(model.__event__.name), []).append(model)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": package,
            "version": "1.0.0",
            "description": "Events on Apache Kafka as CloudEvents 1.0 in binary mode: attributes in the record's "
            "headers, the payload alone as its value. Topics may carry the installation's prefix.",
        },
        "defaultContentType": "application/json",
        "channels": {entity: _channel(entity, events) for entity, events in entities.items()},
        "operations": {
            model.__event__.name: {
                "action": "send",
                "channel": {"$ref": f"#/channels/{entity}"},
                "messages": [{"$ref": f"#/channels/{entity}/messages/{_pointer(model.__event__.name)}"}],
            }
            for entity, events in entities.items()
            for model in events
        },
        "components": {
            "messages": {model.__event__.name: _message(model) for model in models},
            "schemas": {"cloudEventHeaders": _headers()},
        },
    }


def _channel(entity: str, models: Sequence[type[TypedEvent]]) -> dict[str, Any]:
    return {
        "address": entity,
        "messages": {m.__event__.name: {"$ref": f"#/components/messages/{_pointer(m.__event__.name)}"} for m in models},
        "bindings": {
            "kafka": {
                "topic": entity,
                "topicConfiguration": {"cleanup.policy": ["delete"], "retention.ms": -1},
                "bindingVersion": _KAFKA_BINDING,
            }
        },
    }


def _message(model: type[TypedEvent]) -> dict[str, Any]:
    spec = model.__event__
    message: dict[str, Any] = {
        "name": spec.name,
        "contentType": "application/json",
        "headers": {"$ref": "#/components/schemas/cloudEventHeaders"},
        "payload": json_schema(model),
    }
    if model.__doc__:
        message["summary"] = model.__doc__.strip().splitlines()[0]
    if spec.key is not None:
        field = model.model_fields[spec.key].alias or spec.key
        message["bindings"] = {
            "kafka": {
                "key": {"type": "string", "description": f"The value of `{field}`: what has the same stays in order."},
                "bindingVersion": _KAFKA_BINDING,
            }
        }
    return message


def _headers() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "type": "object",
        "required": ["ce_id", "ce_source", "ce_specversion", "ce_type"],
        "properties": {
            "ce_id": {**text, "description": "Id of the event; with ce_source it is unique."},
            "ce_source": {"type": "string", "format": "uri-reference"},
            "ce_specversion": {"const": "1.0"},
            "ce_type": {**text, "description": "The event's name."},
            "ce_time": {"type": "string", "format": "date-time"},
            "ce_dataschema": {"type": "string", "format": "uri", "description": "The payload schema's $id."},
            "ce_causationid": {**text, "description": "Id of the event whose run sent this one."},
            "ce_correlationid": {**text, "description": "Id of the first event of the chain."},
            "content-type": {"const": "application/json"},
        },
    }


def _without_titles(schema: Any) -> Any:
    """A field's title says what its name says already."""
    if isinstance(schema, dict):
        # `title` is a keyword where its value is text; as the name of a field its value is that field's schema.
        return {k: _without_titles(v) for k, v in schema.items() if not (k == "title" and isinstance(v, str))}
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    return schema


def _pointer(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
