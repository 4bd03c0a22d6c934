"""Events that are sent later, over HTTP: what is answered, what is refused, and who wins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from playhead import Settings
from playhead.broker.memory import MemoryBroker
from playhead.scheduler import Scheduler
from playhead.topics import DELAY
from tests.waiting import wait_until


@pytest.fixture
async def scheduler(memory: MemoryBroker) -> AsyncIterator[Scheduler]:
    made = Scheduler(memory, settings=Settings())
    running = asyncio.create_task(made.run())
    await wait_until(lambda: made.ready, seconds=10)
    yield made
    made.stop()
    await running


def thing(**when: Any) -> dict[str, Any]:
    return {"event": "thing.happened", "payload": {"n": 1}, **when}


async def test_guides_delay_is_taken_and_the_answer_tells_when(http: httpx.AsyncClient, memory: MemoryBroker) -> None:
    before = datetime.now(UTC)
    answer = await http.post("/trigger", json=thing(delay={"hours": 24}))
    assert answer.status_code == 200
    result = answer.json()["result"]
    assert set(result) == {"id", "topic", "partition", "offset", "dueAt"}
    assert result["topic"] == DELAY
    due_at = datetime.fromisoformat(result["dueAt"])
    assert timedelta(hours=23, minutes=59) < due_at - before < timedelta(hours=24, minutes=1)
    assert memory.stored("thing") == []


async def test_event_is_there_when_it_is_due(
    http: httpx.AsyncClient, memory: MemoryBroker, scheduler: Scheduler
) -> None:
    sent = await http.post("/trigger", json=thing(delay={"milliseconds": 30}))
    now = await http.post("/trigger", json=thing(at="2020-01-01T00:00:00+01:00"))
    await wait_until(lambda: len(memory.stored("thing")) == 2, seconds=10)
    ids = {dict(record.headers)["ce_id"].decode() for record in memory.stored("thing")}
    assert ids == {sent.json()["result"]["id"], now.json()["result"]["id"]}


@pytest.mark.parametrize(
    ("when", "field"),
    [
        ({"delay": {"hours": -1}}, "delay.hours"),
        ({"delay": {"fortnights": 1}}, "delay.fortnights"),
        ({"delay": {"hours": "1"}}, "delay.hours"),
        ({"delay": {"days": 40_000}}, "delay"),
        ({"delay": 5}, "delay"),
        ({"delay": []}, "delay"),
        ({"at": "2026-03-01T09:00:00"}, "at"),
        ({"at": "tomorrow"}, "at"),
        ({"at": 5}, "at"),
        ({"at": "2200-01-01T00:00:00Z"}, "at"),
        ({"delay": {"hours": 1}, "at": "2026-03-01T09:00:00Z"}, "delay"),
    ],
)
async def test_what_can_not_be_used_is_422_and_names_the_field(
    http: httpx.AsyncClient, memory: MemoryBroker, when: dict[str, Any], field: str
) -> None:
    answer = await http.post("/trigger", json=thing(**when))
    assert answer.status_code == 422
    assert [wrong["field"] for wrong in answer.json()["fields"]] == [field]
    assert memory.stored(DELAY) == []


async def test_nan_is_no_json(http: httpx.AsyncClient) -> None:
    body = b'{"event": "thing.happened", "delay": {"hours": NaN}}'
    answer = await http.post("/trigger", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400


class TestCanceling:
    async def test_pending_timer_is_canceled_once(
        self, http: httpx.AsyncClient, memory: MemoryBroker, scheduler: Scheduler
    ) -> None:
        timer = (await http.post("/trigger", json=thing(delay={"hours": 1}))).json()["result"]["id"]
        first = await http.delete(f"/api/timers/{timer}")
        assert first.status_code == 200
        assert first.json()["result"] == {"id": timer, "outcome": "canceled"}
        second = await http.delete(f"/api/timers/{timer}")
        assert (second.status_code, second.json()["code"]) == (409, "PH110")

    async def test_chosen_id_with_slashes_is_found(
        self, http: httpx.AsyncClient, memory: MemoryBroker, scheduler: Scheduler
    ) -> None:
        await http.post("/trigger", json=thing(delay={"hours": 1}, id="order/7"))
        assert (await http.delete("/api/timers/order/7")).status_code == 200

    async def test_moved_timer_has_a_new_id_and_time(
        self, http: httpx.AsyncClient, memory: MemoryBroker, scheduler: Scheduler
    ) -> None:
        timer = (await http.post("/trigger", json=thing(delay={"hours": 1}))).json()["result"]["id"]
        answer = await http.patch(f"/api/timers/{timer}", json={"delay": {"milliseconds": 1}})
        assert answer.status_code == 200
        new = answer.json()["result"]["id"]
        assert new != timer
        await wait_until(lambda: len(memory.stored("thing")) == 1, seconds=10)
        assert (await http.patch(f"/api/timers/{timer}", json={"delay": {"hours": 1}})).status_code == 409

    @pytest.mark.parametrize("body", [{}, {"delay": {"hours": 1}, "at": "2027-01-01T00:00:00Z"}, {"dealy": {}}, [], 1])
    async def test_move_that_says_no_moment_is_422(self, http: httpx.AsyncClient, body: Any) -> None:
        assert (await http.patch("/api/timers/x", json=body)).status_code == 422

    async def test_without_a_scheduler_it_is_503(self, memory: MemoryBroker) -> None:
        from playhead import Client
        from playhead.http import create_app, reaches

        impatient = Client("shop", settings=Settings(send_timeout_seconds=0.05), broker=memory)
        app = create_app(impatient, broker_reached=reaches(memory))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
            answer = await http.delete("/api/timers/x")
        assert (answer.status_code, answer.json()["code"]) == (503, "PH202")
        assert answer.headers["retry-after"]
