"""/openapi.json: a valid OpenAPI 3.1 document that says what the endpoints do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, TypeAdapter

from playhead.errors import InvalidEventName
from playhead.events import check_name
from playhead.http import history_schemas, schemas
from playhead.http.envelope import BATCH_FIELDS, EVENT_FIELDS

_METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
_TYPES = {"object", "array", "string", "integer", "number", "boolean", "null"}
_OPERATION_KEYS = {"tags", "summary", "description", "operationId", "parameters", "requestBody", "responses"}
_RESPONSE_KEYS = {"description", "headers", "content", "links"}
_MODELS: dict[str, type[BaseModel]] = {
    name: model
    for module in (schemas, history_schemas)
    for name, model in vars(module).items()
    if isinstance(model, type) and issubclass(model, BaseModel)
}


@pytest.fixture
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from nodes(item)


def media(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, method, operation in operations(document):
        for status, response in operation["responses"].items():
            for content in response.get("content", {}).values():
                yield f"{method} {path} {status}", content
        for content in operation.get("requestBody", {}).get("content", {}).values():
            yield f"{method} {path} request", content


async def test_is_served(http: httpx.AsyncClient, document: dict[str, Any]) -> None:
    answer = await http.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.json() == document
    assert (await http.get("/openapi.json")).json() == document


def test_has_the_fields_that_openapi_requires(document: dict[str, Any]) -> None:
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document["info"]["title"] == "Playhead"
    assert document["info"]["version"]
    assert set(document["paths"]) == {
        "/",
        "/trigger",
        "/api/events",
        "/api/events/{event_id}",
        "/api/events/{event_id}/chain",
        "/api/runs",
        "/api/runs/{run_id}",
        "/api/stats",
        "/api/lag",
        "/api/dead-letters",
        "/api/dead-letters/retry",
        "/api/dead-letters/discard",
        "/api/dead-letters/{letter_id}",
        "/api/dead-letters/{letter_id}/retry",
        "/api/dead-letters/{letter_id}/discard",
        "/api/timers",
        "/api/timers/{timer_id}",
        "/api/schedules",
        "/api/schedules/{job_id}",
        "/api/schedules/{job_id}/run",
        "/healthz",
        "/readyz",
        "/metrics",
    }


def test_operations_are_well_formed(document: dict[str, Any]) -> None:
    ids = []
    for path, method, operation in operations(document):
        assert path.startswith("/")
        assert method in _METHODS
        assert operation.keys() <= _OPERATION_KEYS
        assert operation["summary"]
        ids.append(operation["operationId"])
        assert operation["responses"]
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d", status)
            assert response["description"]
            assert response.keys() <= _RESPONSE_KEYS
        for parameter in operation.get("parameters", []):
            assert {"name", "in", "schema"} <= parameter.keys()
    assert len(ids) == len(set(ids))


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = [node["$ref"] for node in nodes(document) if "$ref" in node]
    assert references
    for reference in references:
        target: Any = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
    used = {reference.rpartition("/")[2] for reference in references}
    assert used == document["components"]["schemas"].keys()


def test_schemas_use_types_that_json_schema_has(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        for node in nodes(schema):
            if isinstance(node.get("type"), str):
                assert node["type"] in _TYPES
            for bound in ("minimum", "maximum", "minLength", "maxLength", "maxItems"):
                assert not isinstance(node.get(bound, 0), str)
            if isinstance(node.get("pattern"), str):
                re.compile(node["pattern"])
            assert "nullable" not in node  # OpenAPI 3.0


def test_examples_fit_their_schemas(document: dict[str, Any]) -> None:
    checked = 0
    for where, content in media(document):
        for example in content.get("examples", {}).values():
            names = re.findall(r"#/components/schemas/(\w+)", str(content["schema"]))
            assert names, where
            shapes: Any = _MODELS[names[0]]
            for name in names[1:]:
                shapes = shapes | _MODELS[name]
            TypeAdapter(shapes).validate_python(example["value"], strict=True)
            checked += 1
    assert checked >= 12


@pytest.mark.parametrize(
    ("path", "method", "statuses"),
    [
        ("/trigger", "post", {"200", "400", "403", "408", "413", "415", "422", "500", "502", "503"}),
        ("/api/events", "post", {"200", "207", "400", "403", "408", "413", "415", "422", "500", "503"}),
        ("/api/events", "get", {"200", "422", "500", "502", "503"}),
        ("/api/runs/{run_id}", "get", {"200", "404", "422", "500", "502", "503"}),
        (
            "/api/dead-letters/{letter_id}/retry",
            "post",
            {"200", "403", "404", "409", "410", "422", "500", "502", "503"},
        ),
        (
            "/api/dead-letters/retry",
            "post",
            {"200", "207", "400", "403", "408", "413", "415", "422", "500", "502", "503"},
        ),
        ("/healthz", "get", {"200"}),
        ("/readyz", "get", {"200", "503"}),
        ("/", "get", {"200"}),
    ],
)
def test_every_status_is_described(document: dict[str, Any], path: str, method: str, statuses: set[str]) -> None:
    assert document["paths"][path][method]["responses"].keys() == statuses


def test_request_schema_has_the_fields_that_are_taken(document: dict[str, Any]) -> None:
    trigger = document["components"]["schemas"]["TriggerRequest"]
    assert trigger["properties"].keys() == EVENT_FIELDS == {"event", "payload", "id", "key", "delay", "at"}
    assert trigger["required"] == ["event"]
    assert trigger["additionalProperties"] is False
    assert document["components"]["schemas"]["BatchRequest"]["properties"].keys() == BATCH_FIELDS == {"events"}


async def test_request_examples_are_taken(http: httpx.AsyncClient, document: dict[str, Any]) -> None:
    for path in ("/trigger", "/api/events"):
        examples = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
        for example in examples.values():
            text = httpx.Request("POST", "http://test", json=example["value"]).read()
            answer = await http.post(
                path,
                content=text.replace(b"user.created", b"thing.created"),
                headers={"content-type": "application/json"},
            )
            assert answer.status_code == 200


def test_name_pattern_is_the_conventions(document: dict[str, Any]) -> None:
    pattern = re.compile(document["components"]["schemas"]["TriggerRequest"]["properties"]["event"]["pattern"])
    for name in (
        "user.created",
        "a.b.c",
        "dead-file.scan-2.done",
        "user",
        "User.created",
        "user..x",
        "1.a",
        "a-.b",
        "a.b-",
    ):
        assert bool(pattern.search(name)) == _passes(name), name


def _passes(name: str) -> bool:
    try:
        check_name(name, reserved_ok=True)
    except InvalidEventName:
        return False
    return True
