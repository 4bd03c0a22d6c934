"""A KafkaBroker that nobody answers: bounded waits, 503, and nothing acknowledged."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from playhead import Client, Settings
from playhead.http import create_app

SEND_TIMEOUT_SECONDS = 0.5
MARGIN_SECONDS = 2.0
EVENT = {"event": "thing.happened", "payload": {"n": 1}}


@pytest.fixture
def nobody() -> Iterator[Settings]:
    """Settings of a broker whose port is taken, so that nobody else gets it, and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        yield Settings(bootstrap_servers=f"127.0.0.1:{port}", send_timeout_seconds=SEND_TIMEOUT_SECONDS)


@pytest.fixture
async def away(nobody: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async def reached() -> bool:
        return False

    app = create_app(Client("shop", settings=nobody), broker_reached=reached)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", timeout=30) as http:
        yield http


async def test_event_is_503_with_retry_after(away: httpx.AsyncClient, nobody: Settings) -> None:
    answer = await away.post("/trigger", json=EVENT)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    body = answer.json()
    assert body["code"] == "PH201"
    assert nobody.bootstrap_servers in body["error"]
    assert "Idempotency-Key" in body["remedy"]


async def test_many_at_once_wait_together(away: httpx.AsyncClient) -> None:
    began = time.monotonic()
    answers = await asyncio.gather(*(away.post("/trigger", json=EVENT) for _ in range(30)))
    assert {answer.status_code for answer in answers} == {503}
    assert time.monotonic() - began < SEND_TIMEOUT_SECONDS + MARGIN_SECONDS


async def test_batch_waits_once_and_not_for_each_event(away: httpx.AsyncClient) -> None:
    began = time.monotonic()
    answer = await away.post("/api/events", json={"events": [EVENT] * 100})
    assert answer.status_code == 503
    assert {result["status"] for result in answer.json()["results"]} == {503}
    assert time.monotonic() - began < SEND_TIMEOUT_SECONDS + MARGIN_SECONDS


async def test_what_is_wrong_is_told_without_the_broker(away: httpx.AsyncClient) -> None:
    assert (await away.post("/trigger", json={"event": "Bad"})).status_code == 422
    assert (await away.post("/trigger", json={})).status_code == 400
    assert (await away.get("/healthz")).status_code == 200
    assert (await away.get("/readyz")).status_code == 503
