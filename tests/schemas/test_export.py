"""The exported schemas: fresh, and worth something to another language."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest

import playhead_schemas
from playhead import TypedEvent
from playhead.cli.export import asyncapi, exported_files, json_schema
from playhead.events import catalog

PACKAGE = playhead_schemas.__name__
EXPORTED = files(PACKAGE) / "exported"
MODELS = [model for _, model in sorted(catalog().items()) if model.__module__.startswith(f"{PACKAGE}.")]


def test_export_is_fresh() -> None:
    """Where this fails: playhead schemas export."""
    found = {file.name: file.read_text(encoding="utf-8") for file in EXPORTED.iterdir()}
    assert found == exported_files(PACKAGE, MODELS)


def test_schema_is_of_the_wire() -> None:
    schema = json.loads((EXPORTED / "user.created.json").read_text())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == "urn:playhead:user.created:1"
    assert schema["title"] == "user.created"
    assert schema["required"] == ["email", "userId"]
    assert list(schema["properties"]) == ["email", "name", "userId"]
    assert schema["description"] == "Somebody signed up."


def test_field_that_is_called_title_stays() -> None:
    class Book(TypedEvent):
        title: str

    Book.__event__ = MODELS[0].__event__
    assert json_schema(Book)["properties"] == {"title": {"type": "string"}}


class TestAsyncApi:
    document = asyncapi(PACKAGE, MODELS)

    def test_has_a_channel_per_entity_with_its_messages(self) -> None:
        assert set(self.document["channels"]) == {m.__event__.name.partition(".")[0] for m in MODELS}
        assert set(self.document["channels"]["payment"]["messages"]) == {
            "payment.failed",
            "payment.processed",
            "payment.succeeded",
        }

    def test_has_an_operation_per_event(self) -> None:
        assert set(self.document["operations"]) == {model.__event__.name for model in MODELS}

    def test_message_names_its_key(self) -> None:
        message = self.document["components"]["messages"]["user.created"]
        assert "`userId`" in message["bindings"]["kafka"]["key"]["description"]
        assert "bindings" not in self.document["components"]["messages"]["test.event"]

    def test_every_reference_leads_somewhere(self) -> None:
        def references(node: Any) -> list[str]:
            if isinstance(node, dict):
                own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
                return own + [ref for value in node.values() for ref in references(value)]
            return [ref for item in node for ref in references(item)] if isinstance(node, list) else []

        found = references(self.document)
        assert found
        for reference in found:
            node: Any = self.document
            for part in reference.removeprefix("#/").split("/"):
                node = node[part]


@pytest.mark.parametrize("model", MODELS)
def test_examples_in_the_schema_fit_it(model: type[TypedEvent]) -> None:
    for name, field in json_schema(model)["properties"].items():
        for example in field.get("examples", []):
            model.__pydantic_validator__.validate_assignment(model.model_construct(), name, example)
