"""Events that are sent later, over HTTP: what is answered, what is refused, and who wins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from playhead import Client, Settings, cron_trigger, interval_trigger
from playhead.broker.memory import MemoryBroker
from playhead.http import Limits, create_app, reaches
from playhead.http.schemas import DoneAnswer, SchedulesAnswer, ShownTimer, TimersAnswer, TriggerAnswer
from playhead.scheduler import Scheduler
from playhead.timer import schedule_record
from playhead.topics import DEFAULT_PARTITIONS, DELAY
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
    if answer.json()["code"] == "PH109":
        assert '"delay": {"hours": 24}' in answer.json()["remedy"], "as it is sent, not as Python has it"
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
        impatient = Client("shop", settings=Settings(send_timeout_seconds=0.05), broker=memory)
        app = create_app(impatient, broker_reached=reaches(memory))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
            answer = await http.delete("/api/timers/x")
        assert (answer.status_code, answer.json()["code"]) == (503, "PH202")
        assert answer.headers["retry-after"]


async def pages(http: httpx.AsyncClient, **parameters: Any) -> list[dict[str, Any]]:
    """The items of all pages."""
    items: list[dict[str, Any]] = []
    cursor = None
    while True:
        answer = await http.get(
            "/api/timers", params=parameters if cursor is None else {**parameters, "cursor": cursor}
        )
        assert answer.status_code == 200, answer.text
        items += answer.json()["items"]
        cursor = answer.json()["next"]
        if cursor is None:
            return items
    raise AssertionError("the pages have no end")


async def set_timers(http: httpx.AsyncClient, *moments: str, event: str = "thing.happened") -> list[str]:
    """Timers that are due at these times of 1 January 2100; their ids."""
    answers = [await http.post("/trigger", json={"event": event, "at": f"2100-01-01T{at}Z"}) for at in moments]
    return [answer.json()["result"]["id"] for answer in answers]


class TestListing:
    async def test_nothing_pending_is_an_empty_page(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/api/timers")
        assert (answer.status_code, answer.json()) == (200, {"items": [], "next": None})

    async def test_what_was_sent_a_moment_ago_is_listed(self, http: httpx.AsyncClient) -> None:
        for n in range(5):
            (timer,) = await set_timers(http, f"00:00:0{n}")
            items = await pages(http)
            assert len(items) == n + 1
            assert items[-1] == {
                "id": timer,
                "event": "thing.happened",
                "key": timer,
                "dueAt": f"2100-01-01T00:00:0{n}.000Z",
                "schedule": None,
            }

    @pytest.mark.parametrize("limit", [1, 2, 7, 1000])
    async def test_pages_have_every_timer_once_by_due_time(self, http: httpx.AsyncClient, limit: int) -> None:
        # Two moments, each in all partitions: what is due at the same time is divided between pages, too.
        timers = await set_timers(http, *["00:00:02", "00:00:01"] * 10)
        items = await pages(http, limit=limit)
        assert sorted(item["id"] for item in items) == sorted(timers)
        assert [item["dueAt"] for item in items] == sorted(item["dueAt"] for item in items)

    async def test_timers_that_come_and_go_meanwhile_move_no_other(
        self, http: httpx.AsyncClient, scheduler: Scheduler
    ) -> None:
        there = await set_timers(http, *[f"00:00:{n:02}" for n in range(10, 30)])
        seen: list[str] = []
        cursor = None
        for n in range(100):
            answer = await http.get("/api/timers", params={"limit": 3, **({"cursor": cursor} if cursor else {})})
            seen += [item["id"] for item in answer.json()["items"]]
            cursor = answer.json()["next"]
            if cursor is None:
                break
            await set_timers(http, "00:00:01", f"00:00:{10 + n:02}")
            assert (await http.delete(f"/api/timers/{seen[-1]}")).status_code == 200
        assert len(seen) == len(set(seen))
        assert set(there) <= set(seen)

    async def test_only_what_is_asked_for(self, http: httpx.AsyncClient) -> None:
        await set_timers(http, "01:00:00", "03:00:00")
        (parcel,) = await set_timers(http, "02:00:00", event="parcel.sent")
        assert [item["id"] for item in await pages(http, event="parcel.sent", limit=1)] == [parcel]
        between = {"since": "2100-01-01T02:00:00Z", "before": "2100-01-01T04:00:00+01:00"}
        assert [item["id"] for item in await pages(http, **between)] == [parcel]
        assert len(await pages(http, since="2100-01-01T02:00:00Z")) == 2

    async def test_page_that_looked_long_enough_goes_on_in_the_next(
        self, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("playhead.timers.listing.SCANNED_TIMERS_MAX", 4)
        await set_timers(http, *["01:00:00"] * 10)
        (parcel,) = await set_timers(http, "02:00:00", event="parcel.sent")
        first = (await http.get("/api/timers", params={"event": "parcel.sent"})).json()
        assert first["items"] == []
        assert first["next"]
        assert [item["id"] for item in await pages(http, event="parcel.sent")] == [parcel]

    @pytest.mark.parametrize(
        ("parameters", "code"),
        [
            ({"limit": "0"}, "PH607"),
            ({"limit": "1001"}, "PH607"),
            ({"limit": "many"}, "PH607"),
            ({"since": "tomorrow"}, "PH607"),
            ({"before": "2100-01-01T00:00:00"}, "PH607"),
            ({"name": "thing.happened"}, "PH607"),
            ({"cursor": "x"}, "PH100"),
            ({"cursor": "MS0yLTM0LTU"}, "PH100"),
            ({"cursor": "é"}, "PH100"),
        ],
    )
    async def test_parameter_that_can_not_be_used_is_422(
        self, http: httpx.AsyncClient, parameters: dict[str, str], code: str
    ) -> None:
        answer = await http.get("/api/timers", params=parameters)
        assert (answer.status_code, answer.json()["code"]) == (422, code)

    async def test_one_timer_is_shown_with_its_payload(self, http: httpx.AsyncClient) -> None:
        sent = await http.post("/trigger", json=thing(delay={"hours": 1}, id="order/7", key="k"))
        shown = (await http.get("/api/timers/order/7")).json()
        assert shown["payload"] == {"n": 1}
        assert (shown["id"], shown["key"]) == ("order/7", "k")
        told = sent.json()["result"]["dueAt"]
        assert shown["dueAt"] == told
        missing = await http.get("/api/timers/order/8")
        assert (missing.status_code, missing.json()["code"]) == (404, "PH110")

    async def test_topic_that_is_still_being_read_is_503_and_goes_on_being_read(
        self, http: httpx.AsyncClient, memory: MemoryBroker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await set_timers(http, "01:00:00")
        app = create_app(
            Client("shop", broker=memory), broker_reached=reaches(memory), limits=Limits(timers_seconds=0.2)
        )
        read, may_read = memory.read, asyncio.Event()

        async def slow(*args: Any, **options: Any) -> None:
            await may_read.wait()
            await read(*args, **options)

        monkeypatch.setattr(memory, "read", slow)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as impatient,
        ):
            answer = await impatient.get("/api/timers")
            assert (answer.status_code, answer.json()["code"]) == (503, "PH203")
            may_read.set()

            async def is_read() -> bool:
                return (await impatient.get("/api/timers")).status_code == 200

            await wait_until(is_read)


class TestSchedules:
    @pytest.fixture
    async def report(self, memory: MemoryBroker, scheduler: Scheduler) -> None:
        trigger = cron_trigger("0 9 1 1 *", timezone="Europe/Berlin", jitter=60)
        now_ms = time.time_ns() // 1_000_000
        await memory.append([schedule_record("report", trigger.to_wire(), DELAY, DEFAULT_PARTITIONS, now_ms)])
        await wait_until(lambda: scheduler.pending() == 1, seconds=10)

    async def test_are_listed_with_their_next_times(self, http: httpx.AsyncClient, report: None) -> None:
        (row,) = (await http.get("/api/schedules", params={"times": 3})).json()["items"]
        assert row["job"] == "report"
        assert (row["zone"], row["catchUp"], row["jitterMs"], row["armed"]) == ("Europe/Berlin", "one", 60_000, True)
        assert [moment[4:] for moment in row["next"]] == ["-01-01T08:00:00.000Z"] * 3
        assert len({moment[:4] for moment in row["next"]}) == 3
        assert (await http.get("/api/schedules", params={"times": 101})).status_code == 422

    async def test_job_is_run_now(self, http: httpx.AsyncClient, memory: MemoryBroker, report: None) -> None:
        answer = await http.post("/api/schedules/report/run")
        assert answer.status_code == 200
        (event,) = memory.stored("schedule")
        assert dict(event.headers)["ce_id"].decode() == answer.json()["result"]["id"]
        unknown = await http.post("/api/schedules/repot/run")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "PH111")
        assert "report" in unknown.json()["remedy"]

    async def test_is_taken_back(self, http: httpx.AsyncClient, scheduler: Scheduler, report: None) -> None:
        assert (await http.delete("/api/schedules/report")).status_code == 200
        await wait_until(lambda: scheduler.pending() == 0, seconds=10)
        assert (await http.get("/api/schedules")).json() == {"items": []}
        assert (await http.delete("/api/schedules/report")).status_code == 404


async def test_answers_fit_their_description(http: httpx.AsyncClient, memory: MemoryBroker) -> None:
    wire = interval_trigger(3600).to_wire()
    await memory.append([schedule_record("report", wire, DELAY, DEFAULT_PARTITIONS, 0)])
    (timer,) = await set_timers(http, "01:00:00")
    TimersAnswer.model_validate((await http.get("/api/timers")).json(), strict=True)
    ShownTimer.model_validate((await http.get(f"/api/timers/{timer}")).json(), strict=True)
    SchedulesAnswer.model_validate((await http.get("/api/schedules")).json(), strict=True)
    TriggerAnswer.model_validate((await http.post("/api/schedules/report/run")).json(), strict=True)
    DoneAnswer.model_validate((await http.delete("/api/schedules/report")).json(), strict=True)
