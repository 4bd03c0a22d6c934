"""The API on a real broker: the guide's curl, and acknowledged means in the log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import pytest

from playhead import Client, Settings
from playhead.broker.contract import StoredRecord
from playhead.broker.kafka import KafkaBroker
from playhead.dev.local_broker import LocalKafka
from playhead.http import create_app, listen, reaches, serve, url_of
from playhead.records import Partition
from playhead.topics import entity_topic
from tests.waiting import wait_until

pytestmark = pytest.mark.kafka

GUIDE = """{
    "event": "test.event",
    "payload": {
      "message": "This is a test event"
    }
  }"""
JSON = ("-H", "Content-Type: application/json")


class Installation:
    """An API served on a free port, in front of a real broker, with topics of its own."""

    def __init__(self, broker: KafkaBroker, url: str, prefix: str) -> None:
        self.broker, self.url, self.prefix = broker, url, prefix

    async def records(self, entity: str) -> dict[tuple[int, int], StoredRecord]:
        """Everything that a reader of committed records sees of a topic, by place."""
        topic = self.prefix + entity
        info = await self.broker.topic(topic)
        partitions = [Partition(topic, number) for number in range(info.partitions)]
        found: dict[tuple[int, int], StoredRecord] = {}

        async def keep(records: Sequence[StoredRecord]) -> None:
            found.update({(record.partition, record.offset): record for record in records})

        for partition, (start, end) in (await self.broker.bounds(partitions)).items():
            await asyncio.wait_for(self.broker.read(partition, start, end, keep), 10)
        return found

    async def curl(self, *arguments: str, path: str = "/trigger") -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) as curl saw them."""
        command = ["curl", "-sS", "-D", "/dev/stderr", *arguments, self.url + path]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        body, head = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, head
        first, *lines = head.decode().strip().splitlines()
        headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
        return int(first.split()[1]), headers, body


@asynccontextmanager
async def installation(servers: str, **settings: float) -> AsyncIterator[Installation]:
    prefix = f"http-{uuid4().hex[:8]}."
    reached = Settings(bootstrap_servers=servers, topic_prefix=prefix, **settings)
    broker = KafkaBroker(reached)
    await broker.start()
    await broker.create_topics([entity_topic(name, prefix=prefix) for name in ("test", "thing")])
    app = create_app(Client("shop", settings=reached, broker=broker), broker_reached=reaches(broker))
    sockets, stop, started = listen("127.0.0.1", 0), asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(serve(app, sockets=sockets, stop=stop, started=started.set))
    try:
        await asyncio.wait_for(started.wait(), 10)
        yield Installation(broker, url_of(sockets), prefix)
    finally:
        stop.set()
        await serving
        await broker.stop()


@pytest.fixture
async def shop(kafka_bootstrap: str) -> AsyncIterator[Installation]:
    async with installation(kafka_bootstrap) as shop:
        yield shop


def headers_of(record: StoredRecord) -> Mapping[str, bytes]:
    return dict(record.headers)


async def test_guides_curl_sends_its_event(shop: Installation) -> None:
    status, headers, body = await shop.curl("-X", "POST", *JSON, "-d", GUIDE)
    answer = json.loads(body)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert (answer["success"], answer["message"]) == (True, "Event test.event sent")
    result = answer["result"]
    record = (await shop.records("test"))[result["partition"], result["offset"]]
    assert result["topic"] == f"{shop.prefix}test" == record.topic
    assert record.value == b'{"message":"This is a test event"}'
    assert headers_of(record)["ce_id"].decode() == result["id"]
    assert headers_of(record)["ce_type"] == b"test.event"


async def test_guides_400_through_curl(shop: Installation) -> None:
    status, headers, body = await shop.curl("-X", "POST", *JSON, "-d", '{"payload": {}}')
    assert (status, headers["content-type"]) == (400, "application/json")
    assert body == b'{"error":"Missing required fields"}'
    assert await shop.records("test") == {}


async def test_curl_without_a_content_type_learns_which_is_needed(shop: Installation) -> None:
    status, _, body = await shop.curl("-X", "POST", "-d", GUIDE)
    assert status == 415
    assert "Content-Type: application/json" in json.loads(body)["remedy"]


async def test_idempotency_key_through_curl(shop: Installation) -> None:
    for _ in range(2):
        status, _, body = await shop.curl("-X", "POST", *JSON, "-H", "Idempotency-Key: signup-7", "-d", GUIDE)
        assert (status, json.loads(body)["result"]["id"]) == (200, "signup-7")
    ids = [headers_of(record)["ce_id"] for record in (await shop.records("test")).values()]
    assert ids == [b"signup-7", b"signup-7"]  # two records; a job runs on the first of them


async def test_unknown_topic_and_too_large_event(shop: Installation) -> None:
    async with httpx.AsyncClient(base_url=shop.url) as http:
        unknown = await http.post("/trigger", json={"event": "usr.created"})
        large = await http.post("/trigger", json={"event": "thing.happened", "payload": {"t": "x" * 800_000}})
    assert (unknown.status_code, unknown.json()["topic"]) == (422, f"{shop.prefix}usr")
    assert (large.status_code, large.json()["code"]) == (413, "PH103")


async def test_batch_tells_the_place_of_each_event(shop: Installation) -> None:
    events = [{"event": "thing.happened", "payload": {"n": n}, "key": f"k{n % 7}"} for n in range(1_000)]
    async with httpx.AsyncClient(base_url=shop.url, timeout=30) as http:
        answer = await http.post("/api/events", json={"events": [*events[:-1], {"event": "Bad"}]})
    assert answer.status_code == 207
    *sent, refused = answer.json()["results"]
    assert refused["status"] == 422
    records = await shop.records("thing")
    assert len(records) == 999
    for number, result in enumerate(sent):
        place = result["result"]["partition"], result["result"]["offset"]
        assert records[place].value == b'{"n":%d}' % number


async def test_ready_on_a_real_broker(shop: Installation) -> None:
    status, _, body = await shop.curl(path="/readyz")
    assert (status, json.loads(body)) == (200, {"status": "ready"})


@pytest.mark.slow
async def test_what_is_acknowledged_over_a_crash_of_the_broker_is_in_the_log(
    own_broker: Callable[..., LocalKafka],
) -> None:
    kafka = await asyncio.to_thread(own_broker)
    async with (
        installation(kafka.bootstrap_servers, send_timeout_seconds=1.0) as shop,
        httpx.AsyncClient(base_url=shop.url, timeout=30) as http,
    ):
        statuses: list[int] = []
        acknowledged: dict[tuple[int, int], int] = {}
        enough = asyncio.Event()

        async def send_on_and_on(sender: int) -> None:
            number = sender
            while not enough.is_set():
                answer = await http.post("/trigger", json={"event": "thing.happened", "payload": {"n": number}})
                statuses.append(answer.status_code)
                if answer.status_code == 200:
                    result = answer.json()["result"]
                    if result["offset"] is not None:
                        acknowledged[result["partition"], result["offset"]] = number
                else:
                    assert answer.status_code == 503
                    assert int(answer.headers["retry-after"]) > 0
                number += 8

        senders = [asyncio.create_task(send_on_and_on(number)) for number in range(8)]
        await wait_until(lambda: len(acknowledged) > 200)
        await asyncio.to_thread(kafka.kill)
        await wait_until(lambda: 503 in statuses, seconds=30)
        status, headers, _ = await shop.curl("-X", "POST", *JSON, "-d", GUIDE)
        assert (status, "retry-after" in headers) == (503, True)
        assert (await http.get("/readyz")).status_code == 503
        await asyncio.to_thread(kafka.start)
        before = len(acknowledged)
        await wait_until(lambda: len(acknowledged) > before + 200, seconds=60)
        enough.set()
        await asyncio.gather(*senders)
        records = await shop.records("thing")
        assert {place: records[place].value for place in acknowledged} == {
            place: b'{"n":%d}' % number for place, number in acknowledged.items()
        }
