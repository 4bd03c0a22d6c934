"""GET /metrics: what is asked, how seldom, and what is answered meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from starlette.applications import Starlette
from starlette.routing import Route

from playhead.broker.memory import MemoryBroker
from playhead.http import Readiness, Scrape
from playhead.http.scrape import Collected
from playhead.metrics import COMMIT_DURATION, EVENTS_SENT, TIMERS_PENDING, Histogram, Samples
from tests.exposition import Exposition, exposed


async def scraped(http: httpx.AsyncClient) -> Exposition:
    answer = await http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return Exposition(answer.text)


def served(scrape: Scrape) -> httpx.AsyncClient:
    app = Starlette(routes=[Route("/metrics", scrape.answer)])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def reached() -> bool:
    return True


class TestApi:
    async def test_counts_what_is_sent_and_what_could_not_be(self, http: httpx.AsyncClient) -> None:
        for event, payload in (("parcel.sent", {"n": 1}), ("thing.made", {}), ("thing.made", {}), ("nowhere.made", {})):
            await http.post("/trigger", json={"event": event, "payload": payload})
        await http.post("/trigger", json={"event": "thing.made", "payload": {}, "delay": {"hours": 1}})
        now = await scraped(http)
        assert now.value("playhead_events_sent_total", topic="thing") == 2
        assert now.value("playhead_events_sent_total", topic="delay") == 1
        assert now.value("playhead_sends_failed_total") == 1

    async def test_says_what_it_is_and_whether_it_is_ready(self, http: httpx.AsyncClient) -> None:
        now = await scraped(http)
        assert now.value("playhead_build_info", part="http") == 1
        assert now.value("playhead_ready", part="http") == now.value("playhead_broker_up", part="http") == 1

    async def test_is_answered_while_the_broker_is_away(self, http: httpx.AsyncClient, memory: MemoryBroker) -> None:
        memory.faults.unavailable = True
        away = await scraped(http)
        assert away.value("playhead_ready") == away.value("playhead_broker_up") == 0
        memory.faults.unavailable = False
        assert (await scraped(http)).value("playhead_broker_up") == 1  # asked again at once

    async def test_openmetrics_is_given_to_who_asks(self, http: httpx.AsyncClient) -> None:
        await http.post("/trigger", json={"event": "thing.made", "payload": {}})
        answer = await http.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert "playhead_events_sent" in {family.name for family in openmetrics(answer.text)}

    async def test_nothing_is_global(self, http: httpx.AsyncClient, app: FastAPI) -> None:
        from prometheus_client import REGISTRY

        await scraped(http)
        assert not [name for name in REGISTRY._names_to_collectors if name.startswith("playhead")]


class TestLooking:
    async def test_broker_is_asked_seldom_however_often_somebody_scrapes(self) -> None:
        asked: list[str] = []

        async def probe() -> bool:
            asked.append("probe")
            return True

        async def look() -> None:
            asked.append("look")

        async with served(Scrape("worker", [], probe=probe, look=look)) as http:
            await asyncio.gather(*(scraped(http) for _ in range(5)))
        assert asked == ["probe", "look"]

    async def test_broker_that_does_not_answer_is_not_waited_for(self) -> None:
        async def hangs() -> None:
            await asyncio.Event().wait()

        scrape = Scrape("worker", [lambda: [TIMERS_PENDING.sample(7)]], probe=reached, look=hangs, limit_seconds=0.01)
        async with served(scrape) as http:
            now = await scraped(http)
        assert (now.value("playhead_broker_up"), now.value("playhead_timers_pending")) == (0, 7)

    async def test_part_that_misses_something_is_not_ready(self) -> None:
        missing: list[str] = ["worker: starting"]
        async with served(Scrape("worker", [], probe=reached, state=lambda: Readiness(tuple(missing)))) as http:
            assert (await scraped(http)).value("playhead_ready", part="worker") == 0
            missing.clear()
            assert (await scraped(http)).value("playhead_ready", part="worker") == 1


class TestCollected:
    def test_histogram_is_cumulative(self) -> None:
        histogram = COMMIT_DURATION.histogram()
        for seconds in (0.0005, 0.001, 0.004, 100.0):
            histogram.add(seconds)
        now = exposed(lambda: [COMMIT_DURATION.sample(histogram, "g")])
        counts = [
            now.value("playhead_commit_duration_seconds_bucket", le=le) for le in ("0.001", "0.005", "15.0", "+Inf")
        ]
        assert counts == [2, 3, 3, 4]
        assert now.value("playhead_commit_duration_seconds_count", group="g") == 4
        assert now.value("playhead_commit_duration_seconds_sum", group="g") == pytest.approx(100.0055)

    def test_two_sources_are_added_up(self) -> None:
        now = exposed(
            lambda: [EVENTS_SENT.sample(2, "a")], lambda: [EVENTS_SENT.sample(3, "a"), EVENTS_SENT.sample(1, "b")]
        )
        assert (now.value("playhead_events_sent_total", topic="a"), now.sum("playhead_events_sent_total")) == (5, 6)

    def test_histogram_of_two_sources_is_a_mistake(self) -> None:
        def source() -> Samples:
            yield COMMIT_DURATION.sample(Histogram(COMMIT_DURATION.bounds), "g")

        with pytest.raises(ValueError, match="two sources"):
            list(Collected([source, source]).collect())

    def test_sources_are_asked_at_each_scrape_and_not_before(self) -> None:
        asked = 0

        def source() -> Iterator[object]:
            nonlocal asked
            asked += 1
            return iter(())

        registry = CollectorRegistry()
        registry.register(Collected([source]))  # type: ignore[list-item]
        assert asked == 0
        list(registry.collect())
        assert asked == 1
