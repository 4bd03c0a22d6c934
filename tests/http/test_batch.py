"""POST /api/events: a result per event, in their order."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from playhead import Client
from playhead.broker.contract import Appended, Record
from playhead.broker.memory import MemoryBroker
from playhead.errors import BrokerUnavailable
from playhead.http import Limits, create_app, reaches


def thing(number: int, **fields: Any) -> dict[str, Any]:
    return {"event": "thing.happened", "payload": {"n": number}, **fields}


async def test_all_sent_is_200_with_a_place_for_each(http: httpx.AsyncClient, memory: MemoryBroker) -> None:
    events = [thing(n, id=f"id-{n}", key="k") for n in range(10)]
    answer = await http.post("/api/events", json={"events": events})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["success"] for result in results] == [True] * 10
    assert [result["result"]["id"] for result in results] == [f"id-{n}" for n in range(10)]
    assert [result["result"]["offset"] for result in results] == list(range(10))
    assert [record.value for record in memory.stored("thing")] == [b'{"n":%d}' % n for n in range(10)]


async def test_some_refused_is_207_and_each_says_why_in_its_place(
    http: httpx.AsyncClient, memory: MemoryBroker
) -> None:
    events = [
        thing(0, key="k"),
        {"event": "Bad Name"},
        {"payload": {}},
        "no object",
        thing(4, delay=1),
        {"event": "usr.created"},
        {"event": "parcel.shipped", "payload": {}},
        {"event": "thing.happened", "payload": {"t": "x" * 800_000}},
        thing(8, key="k"),
    ]
    answer = await http.post("/api/events", json={"events": events})
    assert answer.status_code == 207
    results = answer.json()["results"]
    assert [result.get("status") for result in results] == [None, 422, 400, 400, 422, 422, 422, 413, None]
    assert [result.get("code") for result in results[1:8]] == [
        "PH101",
        "PH601",
        "PH601",
        "PH109",
        "PH104",
        "PH102",
        "PH103",
    ]
    assert all(result["error"] and result["remedy"] for result in results[1:8])
    assert results[2]["error"] == "Missing required fields"
    assert [record.value for record in memory.stored("thing")] == [b'{"n":0}', b'{"n":8}']


async def test_all_refused_is_207_too(http: httpx.AsyncClient) -> None:
    answer = await http.post("/api/events", json={"events": [{"event": "Bad"}]})
    assert answer.status_code == 207


async def test_empty_batch_is_sent(http: httpx.AsyncClient) -> None:
    answer = await http.post("/api/events", json={"events": []})
    assert (answer.status_code, answer.json()) == (200, {"results": []})


@pytest.mark.parametrize("body", ["null", "[]", "{}", '{"events":null}', '"text"'])
async def test_no_events_is_answered_as_a_missing_event(http: httpx.AsyncClient, body: str) -> None:
    answer = await http.post("/api/events", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()) == (400, {"error": "Missing required fields"})


@pytest.mark.parametrize("body", [{"events": {}}, {"events": "x"}, {"events": 1}, {"events": [], "atomic": True}])
async def test_batch_that_is_none_is_422(http: httpx.AsyncClient, body: object) -> None:
    answer = await http.post("/api/events", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "PH607")


async def test_a_thousand_are_taken_and_one_more_is_not(http: httpx.AsyncClient, memory: MemoryBroker) -> None:
    events = [thing(n) for n in range(1_000)]
    assert (await http.post("/api/events", json={"events": events})).status_code == 200
    answer = await http.post("/api/events", json={"events": [*events, thing(1_000)]})
    assert (answer.status_code, answer.json()["code"], answer.json()["limitEvents"]) == (413, "PH605", 1_000)
    assert len(memory.stored("thing")) == 1_000


async def test_body_beyond_the_limit_is_413(client: Client, memory: MemoryBroker) -> None:
    app = create_app(client, broker_reached=reaches(memory), limits=Limits(batch_body_bytes=100))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        assert (await http.post("/api/events", json={"events": [thing(n) for n in range(9)]})).status_code == 413


async def test_idempotency_key_is_no_batchs(http: httpx.AsyncClient) -> None:
    answer = await http.post("/api/events", json={"events": [thing(1)]}, headers={"Idempotency-Key": "a"})
    assert (answer.status_code, answer.json()["fields"][0]["field"]) == (422, "Idempotency-Key")


async def test_broker_away_for_all_is_503_with_the_results(http: httpx.AsyncClient, memory: MemoryBroker) -> None:
    memory.faults.unavailable = True
    answer = await http.post("/api/events", json={"events": [thing(1), thing(2), {"event": "Bad"}]})
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["code"] == "PH201"
    assert [result["status"] for result in answer.json()["results"]] == [503, 503, 422]
    memory.faults.unavailable = False
    assert memory.stored("thing") == []


async def test_broker_away_for_some_is_207(
    http: httpx.AsyncClient, memory: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = memory.append

    async def half(records: list[Record]) -> list[Appended | Exception]:
        return [*await append(records[:1]), *[BrokerUnavailable("no answer.") for _ in records[1:]]]

    monkeypatch.setattr(memory, "append", half)
    answer = await http.post("/api/events", json={"events": [thing(1), thing(2)]})
    assert answer.status_code == 207
    assert [result["success"] for result in answer.json()["results"]] == [True, False]
    assert len(memory.stored("thing")) == 1
