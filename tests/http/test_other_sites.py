"""A page of another site can make a browser send a request here; what would change something is refused."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
import pytest

from playhead.broker.memory import MemoryBroker

CHANGING = [
    ("POST", "/trigger"),
    ("POST", "/api/events"),
    ("POST", "/api/schedules/report/run"),
    ("DELETE", "/api/schedules/report"),
    ("DELETE", "/api/timers/x"),
    ("PATCH", "/api/timers/x"),
    ("POST", "/api/dead-letters/x/retry"),
    ("POST", "/api/dead-letters/x/discard"),
    ("POST", "/api/dead-letters/retry"),
    ("POST", "/api/dead-letters/discard"),
]
ELSEWHERE = [
    {"sec-fetch-site": "cross-site", "origin": "http://evil.example"},
    {"sec-fetch-site": "same-site", "origin": "http://test:8000"},
    {"origin": "http://evil.example"},
    {"origin": "http://["},
    {"origin": "null"},
]


@pytest.mark.parametrize("headers", ELSEWHERE)
@pytest.mark.parametrize(("method", "path"), CHANGING)
async def test_is_refused(
    http: httpx.AsyncClient, memory: MemoryBroker, method: str, path: str, headers: Mapping[str, str]
) -> None:
    answer = await http.request(method, path, json={"event": "thing.made"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "PH614")
    assert memory.stored("thing") == []


@pytest.mark.parametrize(
    "headers", [{}, {"sec-fetch-site": "same-origin", "origin": "https://proxy"}, {"origin": "http://test"}]
)
async def test_programs_and_own_pages_are_not(http: httpx.AsyncClient, headers: Mapping[str, str]) -> None:
    answer = await http.post("/trigger", json={"event": "thing.made"}, headers=headers)
    assert answer.status_code == 200


async def test_every_operation_that_changes_something_is_here(http: httpx.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    changing = {(method.upper(), path) for path, one in paths.items() for method in one if method != "get"}
    assert len(changing) == len(CHANGING)
