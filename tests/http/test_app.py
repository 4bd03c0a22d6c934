"""What holds for all endpoints: errors are JSON, and tell no internals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import structlog
from fastapi import FastAPI
from starlette.responses import StreamingResponse

from playhead import Client
from playhead.broker.memory import MemoryBroker

EVENT = {"event": "thing.happened"}


async def test_root_names_every_endpoint(http: httpx.AsyncClient, app: FastAPI) -> None:
    answer = await http.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert all(path.partition("{")[0] in answer.text for path in app.openapi()["paths"])


@pytest.mark.parametrize("path", ["/nowhere", "/trigger/", "/docs", "/redoc", "/docs/oauth2-redirect", "/%00", "/%ff"])
async def test_unknown_path_is_404_in_json(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert answer.status_code == 404
    assert answer.json() == {
        "error": "no such endpoint.",
        "code": "PH610",
        "remedy": "GET /openapi.json lists the endpoints.",
    }


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", "/trigger", "POST"), ("DELETE", "/api/events", "POST"), ("POST", "/healthz", "GET")],
)
async def test_wrong_method_is_405_in_json(http: httpx.AsyncClient, method: str, path: str, allow: str) -> None:
    answer = await http.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    assert answer.json() == {"error": "method not allowed.", "code": "PH611", "remedy": f"Use {allow}."}


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/openapi.json"])
async def test_head_is_answered_where_get_is(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.head(path)).status_code == 200


async def test_unexpected_error_is_500_without_internals_and_logged(
    http: httpx.AsyncClient, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def send_all(events: object) -> None:
        raise KeyError("a secret")

    monkeypatch.setattr(client, "send_all", send_all)
    with structlog.testing.capture_logs() as lines:
        answer = await http.post("/trigger", json=EVENT)
    assert answer.status_code == 500
    assert answer.json()["code"] == "PH600"
    assert "secret" not in answer.text
    (line,) = lines
    assert (line["log_level"], line["path"], line["exc_info"]) == ("error", "/trigger", True)


async def test_broker_away_is_logged_and_a_callers_mistake_is_not(
    http: httpx.AsyncClient, memory: MemoryBroker
) -> None:
    with structlog.testing.capture_logs() as lines:
        await http.post("/trigger", json={"event": "Bad"})
        memory.faults.unavailable = True
        await http.post("/trigger", json=EVENT)
        await http.post("/api/events", json={"events": [EVENT, EVENT, {"event": "Bad"}]})
    assert [line["code"] for line in lines] == ["PH201", "PH201"]


async def test_answer_that_breaks_off_is_not_completed(app: FastAPI) -> None:
    async def half() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"half"
            raise ValueError("broke off")

        return StreamingResponse(parts())

    app.add_api_route("/half", half, response_model=None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        with pytest.raises(ValueError, match="broke off"):
            await http.get("/half")


async def test_request_cancelled_by_the_servers_stop_is_503(
    http: httpx.AsyncClient, client: Client, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending = asyncio.Event()

    async def send_all(events: object) -> None:
        sending.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(client, "send_all", send_all)
    sent: list[object] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b'{"event":"thing.happened"}', "more_body": False}

    async def send(message: dict[str, object]) -> None:
        sent.append(message.get("status"))

    scope = {"type": "http", "method": "POST", "path": "/trigger", "query_string": b"", "root_path": ""}
    scope["headers"] = [(b"content-type", b"application/json")]
    request = asyncio.create_task(app(scope, receive, send))  # type: ignore[arg-type]
    await sending.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert sent[0] == 503
